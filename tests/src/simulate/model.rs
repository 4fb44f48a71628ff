//! What a client may rely on: which data a start finds, whenever the power went.

use std::sync::Arc;

use super::picture::Picture;

/// The snapshots that there have been, in the order in which they began.
#[derive(Clone)]
pub(super) struct Snapshots(Vec<Version>);

#[derive(Clone)]
struct Version {
    picture: Arc<Picture>,
    /// Operations of the disk before it began.
    began: usize,
    /// The same when it was said that it is there.
    promised: Option<usize>,
}

/// The number of a snapshot.
pub(super) type VersionId = usize;

impl Snapshots {
    /// On a disk that holds this one.
    pub(super) fn new(picture: Arc<Picture>) -> Snapshots {
        Snapshots(vec![Version { picture, began: 0, promised: Some(0) }])
    }

    /// One begins that is to hold this.
    pub(super) fn begins(&mut self, picture: Arc<Picture>, now: usize) -> VersionId {
        self.0.push(Version { picture, began: now, promised: None });
        self.0.len() - 1
    }

    /// It is there, and those who asked for it know.
    pub(super) fn promised(&mut self, id: VersionId, now: usize) {
        self.0[id].promised = Some(now);
    }

    /// How many there have been.
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// What it holds.
    pub(super) fn picture(&self, id: VersionId) -> &Arc<Picture> {
        &self.0[id].picture
    }

    /// The last one that was promised before an operation, and those that had begun since: one of them is found.
    pub(super) fn found_at(&self, at: usize) -> impl Iterator<Item = &Arc<Picture>> {
        let promised = |version: &Version| version.promised.is_some_and(|when| when <= at);
        let last = self.0.iter().rposition(promised).unwrap_or(0);
        let rest = self.0[last..].iter().enumerate();
        rest.filter(move |(n, version)| *n == 0 || version.began <= at).map(|(_, version)| &version.picture)
    }
}

/// What was done with a journal beside, unit by unit.
pub(super) struct Units {
    units: Vec<Unit>,
    /// Units that are promised.
    promised: usize,
    /// From which operation on there was a journal, or none.
    phases: Vec<(usize, bool)>,
}

struct Unit {
    /// The data after it.
    picture: Arc<Picture>,
    /// Operations of the disk before it was begun.
    began: usize,
    at_ns: u64,
    /// Up to where the journal has to be durable before it is acknowledged.
    awaits: u64,
    promised: usize,
}

impl Units {
    /// With this data there, which the journal holds if there is one.
    pub(super) fn new(picture: Arc<Picture>, is_on: bool) -> Units {
        let first = Unit { picture, began: 0, at_ns: 0, awaits: 0, promised: 0 };
        Units { units: vec![first], promised: 1, phases: vec![(0, is_on)] }
    }

    /// One more.
    pub(super) fn done(&mut self, picture: Arc<Picture>, began: usize, at_ns: u64) {
        self.units.push(Unit { picture, began, at_ns, awaits: u64::MAX, promised: usize::MAX });
    }

    /// What the last one waits for.
    pub(super) fn awaits(&mut self, position: u64) {
        if let Some(last) = self.units.last_mut() {
            last.awaits = last.awaits.min(position);
        }
    }

    /// How many there have been.
    pub(super) fn count(&self) -> usize {
        self.units.len()
    }

    /// Those of which something is true are promised from now on, if all before are.
    fn promise(&mut self, now: usize, is_promised: impl Fn(&Unit) -> bool) {
        while let Some(unit) = self.units.get_mut(self.promised).filter(|unit| is_promised(unit)) {
            unit.promised = now;
            self.promised += 1;
        }
    }

    /// The journal is durable up to this position.
    pub(super) fn promise_upto(&mut self, durable: u64, now: usize) {
        self.promise(now, |unit| unit.awaits <= durable);
    }

    /// What was done before this moment should be durable.
    pub(super) fn promise_before(&mut self, at_ns: u64, now: usize) {
        self.promise(now, |unit| unit.at_ns < at_ns);
    }

    /// The first so many are promised.
    pub(super) fn promise_first(&mut self, count: usize, now: usize) {
        let missing = count.saturating_sub(self.promised);
        for _ in 0..missing {
            self.units[self.promised].promised = now;
            self.promised += 1;
        }
    }

    /// From this operation on there is a journal, or none.
    pub(super) fn switch(&mut self, at: usize, is_on: bool) {
        if self.is_on(usize::MAX) != is_on {
            self.phases.push((at, is_on));
        }
    }

    /// Whether there was one at an operation.
    pub(super) fn is_on(&self, at: usize) -> bool {
        let phase = self.phases.iter().rev().find(|(from, _)| *from <= at);
        phase.is_some_and(|(_, is_on)| *is_on)
    }

    /// What a start finds that plays the journal as it was at an operation: something between what was promised by then
    /// and what was done.
    pub(super) fn found_at(&self, at: usize) -> impl Iterator<Item = &Arc<Picture>> {
        let first = self.units.iter().rposition(|unit| unit.promised <= at).unwrap_or(0);
        let last = self.units.iter().rposition(|unit| unit.began < at).unwrap_or(0).max(first);
        self.units[first..=last].iter().map(|unit| &unit.picture)
    }
}
