//! An engine with a client, a disk and a clock of its own, and what is known of it: one life, from a start to the moment at
//! which it ends.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use mortise_core::config::values::{SavePoint, SavePoints};
use mortise_core::config::{Config, Directives};
use mortise_core::engine::random::Random;
use mortise_core::engine::registry::Registry;
use mortise_core::engine::session::Session;
use mortise_core::engine::{Engine, Job};
use mortise_core::features;
use mortise_core::modules::Permission;
use mortise_core::persistence::cut::{Lender, Snapshot};
use mortise_core::persistence::journal::AppendSync;
use mortise_core::persistence::journal::state::State;
use mortise_core::persistence::start::{Ended, load_file};
use mortise_core::server;

use super::clock::SimClock;
use super::disk::{Fault, Image, SimDisk};
use super::model::{Snapshots, Units, VersionId};
use super::picture::Picture;
use super::workload::{Words, Workload};

/// Where the snapshot stands.
pub(super) const FILE: &str = "./dump.rdb";

/// What it is called until it has its place, if it is written before the reply.
const TEMPORARY: &str = "./temp-0.rdb";

/// So fast does the clock go while a cut is walked through, so that a slice is over after a few steps.
const SLICE_PACE_NS: u64 = 30_000;

fn registry() -> Arc<Registry> {
    static REGISTRY: OnceLock<Arc<Registry>> = OnceLock::new();
    REGISTRY.get_or_init(|| Arc::new(features::registry().expect("the declarations are right"))).clone()
}

fn directives() -> Arc<Directives<Config>> {
    static DIRECTIVES: OnceLock<Arc<Directives<Config>>> = OnceLock::new();
    let made = || Arc::new(server::directives().expect("the declarations are right"));
    DIRECTIVES.get_or_init(made).clone()
}

/// What has happened, so that nobody believes to have tried what was not tried.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    /// Snapshots that were written before the reply.
    pub saved: usize,
    /// The same that failed.
    pub save_failed: usize,
    /// Snapshots in the background.
    pub drawn: usize,
    /// The same, with changes meanwhile.
    pub drawn_meanwhile: usize,
    /// The same that failed.
    pub draw_failed: usize,
    /// The same that were called off.
    pub called_off: usize,
    /// Writes that were refused as nothing could be saved.
    pub refused: usize,
    /// Servers that were shut down.
    pub shut_down: usize,
    /// Changes that were put into a journal.
    pub journalled: usize,
    /// Rewrites of a journal.
    pub rewritten: usize,
    /// The same that failed.
    pub rewrite_failed: usize,
    /// Journals that were begun while the server ran.
    pub switched_on: usize,
    /// Servers that ended as a change could not be made durable.
    pub given_up: usize,
}

impl Seen {
    /// Adds up.
    pub fn add(&mut self, other: &Seen) {
        let mine = self.counts_mut();
        mine.into_iter().zip(other.counts()).for_each(|(count, more)| *count += more);
    }

    /// All of it, in the order in which it stands.
    pub fn counts(&self) -> [usize; 13] {
        let mut copy = *self;
        copy.counts_mut().map(|count| *count)
    }

    fn counts_mut(&mut self) -> [&mut usize; 13] {
        let Seen {
            saved,
            save_failed,
            drawn,
            drawn_meanwhile,
            draw_failed,
            called_off,
            refused,
            shut_down,
            journalled,
            rewritten,
            rewrite_failed,
            switched_on,
            given_up,
        } = self;
        [
            saved,
            save_failed,
            drawn,
            drawn_meanwhile,
            draw_failed,
            called_off,
            refused,
            shut_down,
            journalled,
            rewritten,
            rewrite_failed,
            switched_on,
            given_up,
        ]
    }
}

/// What is written in the background.
enum Drawn {
    /// A snapshot, by its number in the model.
    Snapshot(VersionId),
    /// A base of the journal that holds so many units.
    Base(usize),
}

/// An engine that has started.
pub(super) struct World {
    pub(super) engine: Engine,
    pub(super) disk: SimDisk,
    pub(super) clock: SimClock,
    pub(super) model: Snapshots,
    pub(super) seen: Seen,
    session: Option<Box<Session>>,
    random: Random,
    workload: Workload,
    /// Snapshots that are to be written, with their numbers in the model.
    to_write: VecDeque<(Box<Snapshot>, Drawn)>,
    /// What was done while there was a journal.
    pub(super) units: Units,
    /// What was said, and after how many operations of the disk.
    pub(super) said: Vec<(usize, String)>,
    state: State,
    /// A snapshot is being written.
    is_writing: bool,
    has_journal: bool,
    is_over: bool,
}

/// Lends the engine to a loading or to a snapshot, and lets clients go on before.
struct Lending<'a>(RefCell<&'a mut World>);

impl Lender for Lending<'_> {
    fn lend(&self, what: &mut dyn FnMut(&mut Engine)) -> bool {
        let mut world = self.0.borrow_mut();
        for _ in 0..world.random.below(4) {
            world.act();
        }
        if world.is_over {
            return false;
        }
        let clock = world.clock.clone();
        clock.at_pace(SLICE_PACE_NS, || what(&mut world.engine));
        true
    }
}

/// Lends an engine that nobody else wants.
struct Alone<'a>(RefCell<&'a mut Engine>);

impl Lender for Alone<'_> {
    fn lend(&self, what: &mut dyn FnMut(&mut Engine)) -> bool {
        what(&mut self.0.borrow_mut());
        true
    }
}

fn shortened(word: &[u8]) -> String {
    const LEN: usize = 30;
    word[..word.len().min(LEN)].escape_ascii().to_string()
}

/// Starts an engine on a disk.
pub(super) fn start(
    disk: &SimDisk,
    clock: &SimClock,
    has_journal: bool,
    seed: u64,
) -> Result<Engine, String> {
    let mut config = Config::default();
    config.journal.appendonly = has_journal;
    config.debug.enable_debug_command = Permission::Yes;
    let mut engine = Engine::new(config, registry(), Box::new(clock.clone()), seed);
    engine.directives = directives();
    engine.persistence.disk = Arc::new(disk.clone());
    match load_file(&Alone(RefCell::new(&mut engine))) {
        Ok(Ended::Loaded) => Ok(engine),
        Ok(Ended::Stopped) => Err("it was stopped".into()),
        Err(fatal) => Err(fatal.to_string()),
    }
}

impl World {
    /// Starts, on a disk that is known to hold what `model` says.
    pub(super) fn start(
        image: Image,
        clock: &SimClock,
        model: Snapshots,
        has_journal: bool,
        seed: u64,
    ) -> Result<World, String> {
        let mut random = Random::new(seed);
        let clock = clock.clone();
        let disk = SimDisk::new(image, random.word());
        let mut engine = start(&disk, &clock, has_journal, random.word())?;
        let units = Units::new(Arc::new(Picture::of(&engine)), has_journal);
        let state = engine.journal.state;
        let session = engine.local_session();
        let workload = Workload::new(random.word());
        let to_write = VecDeque::new();
        let mut world = World {
            engine,
            disk,
            clock,
            model,
            seen: Seen::default(),
            session,
            random,
            workload,
            to_write,
            units,
            said: Vec::new(),
            state,
            is_writing: false,
            has_journal,
            is_over: false,
        };
        world.configure();
        Ok(world)
    }

    /// Lives until it ends, or so many things have happened.
    pub(super) fn live(&mut self, length: usize) {
        for _ in 0..length {
            if self.is_over {
                return;
            }
            self.act();
            // Their threads come when they come.
            if self.random.below(3) > 0 {
                self.write_snapshots();
            }
        }
        self.write_snapshots();
    }

    /// Something happens.
    fn act(&mut self) {
        if self.is_over {
            return;
        }
        match self.random.below(100) {
            0..4 => drop(self.saves(&["SAVE"])),
            4..10 => drop(self.asks(&["BGSAVE"])),
            10 => drop(self.asks(&["BGSAVE", "SCHEDULE"])),
            11 => drop(self.saves(&["FLUSHALL"])),
            12 if self.is_drawing() => drop(self.saves(&["FLUSHALL"])),
            // While a snapshot is written it would take the place of what RELOAD has saved, as in Redis.
            12 => drop(self.saves(&["DEBUG", "RELOAD"])),
            13..20 => self.time_passes(),
            20 => self.configure(),
            21..24 => self.breaks(),
            24 if self.random.below(4) == 0 => self.shuts_down(),
            25..28 if self.has_journal => drop(self.asks(&["BGREWRITEAOF"])),
            28 if self.has_journal => self.switches(),
            29 if self.has_journal && !self.is_drawing() => self.plays_again(),
            _ => {
                for request in self.workload.next(self.clock.unix_ms()) {
                    self.says(&request);
                }
            }
        }
    }

    /// A request and its reply.
    fn says(&mut self, words: &Words) -> Vec<u8> {
        let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
        let session = self.session.take().expect("nothing waits here");
        let refused = self.engine.refuses_writes().is_some();
        let noted = self.note();
        let (session, reply) = self.engine.request(session, &words);
        self.session = session;
        assert_eq!(
            refused && words[0] == b"SET",
            reply.starts_with(b"-MISCONF") && words[0] == b"SET",
            "writes are refused while nothing can be saved"
        );
        self.seen.refused += usize::from(reply.starts_with(b"-MISCONF"));
        let line: Vec<_> = words.iter().chain([&&reply[..]]).map(|word| shortened(word)).collect();
        self.said.push((noted.1, line.join(" ")));
        self.follow_journal(noted);
        self.take_jobs();
        reply
    }

    /// How far the journal is, by which a change is known, and the disk.
    fn note(&self) -> (u64, usize) {
        let journal = &self.engine.journal;
        (journal.size + journal.buffered() as u64, self.disk.now())
    }

    /// The engine is given back: the journal is written, and perhaps made durable.
    fn follow_journal(&mut self, (noted, began): (u64, usize)) {
        let was = std::mem::replace(&mut self.state, self.engine.journal.state);
        if self.state != State::On {
            // While it was switched off, or is not there yet.
            self.units.switch(began, false);
        }
        if self.state == State::Off {
            return;
        }
        if self.note().0 != noted || was == State::Off {
            self.seen.journalled += 1;
            self.units.done(Arc::new(Picture::of(&self.engine)), began, self.clock.ns());
        }
        self.engine.flush_journal(false);
        if self.engine.config.journal.appendfsync == AppendSync::Always {
            self.units.awaits(self.engine.syncs().promised());
        }
        if self.engine.journal.is_lost {
            self.seen.given_up += 1;
            self.is_over = true;
            return;
        }
        if self.random.below(4) > 0 {
            self.sync();
        }
    }

    /// Does what the thread does that has the disk to itself.
    fn sync(&mut self) {
        let syncs = self.engine.syncs();
        while let Some(task) = syncs.take() {
            let is_promised = task.is_promised;
            if syncs.perform(task).is_err() && is_promised {
                self.seen.given_up += 1;
                self.is_over = true;
                return;
            }
        }
        if self.state == State::On && !self.is_over {
            self.units.promise_upto(syncs.durable(), self.disk.now());
        }
    }

    /// What was done more than a second ago is durable by now, unless the disk has failed.
    fn a_second_is_over(&mut self) {
        const SECOND_NS: u64 = 1_000_000_000;
        self.sync();
        let journal = &self.engine.journal;
        let is_well = journal.last_write_is_ok() && journal.buffered() == 0 && !self.is_over;
        if self.state == State::On && is_well && self.engine.config.journal.appendfsync != AppendSync::No {
            let before_ns = self.clock.ns().saturating_sub(SECOND_NS);
            self.units.promise_before(before_ns, self.disk.now());
        }
    }

    /// Whether a snapshot is being written, or is going to be.
    fn is_drawing(&self) -> bool {
        self.is_writing || !self.to_write.is_empty()
    }

    fn asks(&mut self, words: &[&str]) -> Vec<u8> {
        self.says(&words.iter().map(|word| word.as_bytes().to_vec()).collect())
    }

    /// A request that writes the snapshot's file before it is answered.
    fn saves(&mut self, words: &[&str]) -> Vec<u8> {
        let (before, saves, began) = (self.disk.image(), self.engine.persistence.saves, self.disk.now());
        let dirty = self.engine.unsaved_changes();
        let data = Picture::of(&self.engine);
        let reply = self.asks(words);
        if !self.disk.was_begun(TEMPORARY, began) {
            // It is refused, or does not save as it is.
            return reply;
        }
        let data = if words[0] == "FLUSHALL" { Picture::of(&self.engine) } else { data };
        let version = self.model.begins(Arc::new(data), began);
        let failed = self.disk.has_failed("", began);
        if self.engine.persistence.saves > saves {
            self.seen.saved += 1;
            self.model.promised(version, self.disk.now());
            if words[0] == "SAVE" {
                assert!(!failed || self.has_journal, "no failure is passed over");
                assert_eq!((&*reply, self.engine.unsaved_changes()), (&b"+OK\r\n"[..], 0));
            }
        } else {
            self.seen.save_failed += 1;
            assert!(failed, "{words:?} failed by itself: {}", reply.escape_ascii());
            if words[0] == "SAVE" {
                assert_eq!((&*reply, self.engine.unsaved_changes()), (&b"-ERR\r\n"[..], dirty));
            }
            self.nothing_was_spoilt(&before, version, began);
        }
        reply
    }

    /// After something that failed: there is the old file, or the new one if only its last step has failed.
    fn nothing_was_spoilt(&self, before: &Image, version: VersionId, began: usize) {
        let now = self.disk.image();
        let file = Path::new(FILE);
        if self.state != State::Off {
            // Other files come and go.
            return;
        }
        if !self.disk.has_failed("remove", began) {
            let others: Vec<_> =
                now.keys().filter(|path| *path != file && !before.contains_key(*path)).collect();
            assert!(others.is_empty(), "a temporary file is left: {others:?}");
        }
        if now.get(file) != before.get(file) {
            assert!(self.disk.has_failed("sync_dir", began), "the file was replaced by what failed");
            let found = start(&SimDisk::new(now, 1), &self.clock, false, 1).expect("the new file is whole");
            assert!(Picture::of(&found).is_like(self.model.picture(version), self.clock.latest_ms()));
        }
    }

    /// A snapshot that the engine wants written is as of now.
    fn take_jobs(&mut self) {
        for job in std::mem::take(&mut self.engine.jobs) {
            match job {
                Job::Free(free) => free(),
                Job::Snapshot(snapshot) if self.engine.persistence.is_rewriting() => {
                    // What was done while nothing was kept yet is in it as well.
                    let picture = Arc::new(Picture::of(&self.engine));
                    self.units.done(picture, self.disk.now(), self.clock.ns());
                    self.units.awaits(0);
                    self.to_write.push_back((snapshot, Drawn::Base(self.units.count())));
                }
                Job::Snapshot(snapshot) => {
                    let picture = Arc::new(Picture::of(&self.engine));
                    let version = self.model.begins(picture, self.disk.now());
                    self.to_write.push_back((snapshot, Drawn::Snapshot(version)));
                }
                Job::Call(_) | Job::Follow(_) => {
                    unreachable!("nothing here takes long, and nobody is followed")
                }
            }
        }
        self.engine.wake.clear();
    }

    fn write_snapshots(&mut self) {
        while let Some((snapshot, drawn)) = self.to_write.pop_front() {
            let version = match drawn {
                Drawn::Snapshot(version) => version,
                Drawn::Base(units) => {
                    self.write_base(snapshot, units);
                    continue;
                }
            };
            let (before, began, fate) = (self.disk.image(), self.disk.now(), snapshot.fate());
            let (versions, dirty) = (self.model.count(), self.engine.unsaved_changes());
            self.is_writing = true;
            snapshot.run(&Lending(RefCell::new(self)));
            self.is_writing = false;
            if self.is_over || fate.is_cancelled() {
                self.seen.called_off += 1;
                continue;
            }
            assert!(self.engine.persistence.drawing.is_none());
            // Otherwise another one has failed meanwhile, or not.
            let is_alone = self.model.count() == versions;
            let failed = self.disk.has_failed("", began);
            if self.engine.persistence.last_is_ok {
                self.seen.drawn += 1;
                self.seen.drawn_meanwhile += usize::from(dirty > 0 && self.engine.unsaved_changes() > 0);
                self.model.promised(version, self.disk.now());
                assert!(!failed || !is_alone || self.has_journal, "no failure is passed over");
            } else {
                self.seen.draw_failed += 1;
                assert!(failed, "BGSAVE failed by itself");
                if is_alone {
                    self.nothing_was_spoilt(&before, version, began);
                }
            }
        }
    }

    /// Writes a base of the journal that holds so many units.
    fn write_base(&mut self, snapshot: Box<Snapshot>, units: usize) {
        let (began, fate) = (self.disk.now(), snapshot.fate());
        self.is_writing = true;
        snapshot.run(&Lending(RefCell::new(self)));
        self.is_writing = false;
        if self.is_over || fate.is_cancelled() {
            self.seen.called_off += 1;
            return;
        }
        let noted = self.note();
        if self.engine.journal.last_is_ok {
            self.seen.rewritten += 1;
            if self.state == State::Waiting && self.engine.journal.state == State::On {
                self.seen.switched_on += 1;
                self.units.promise_first(units, self.disk.now());
                self.units.switch(self.disk.now(), true);
            }
        } else {
            self.seen.rewrite_failed += 1;
            assert!(self.disk.has_failed("", began), "BGREWRITEAOF failed by itself");
        }
        self.follow_journal(noted);
    }

    fn time_passes(&mut self) {
        let ms = match self.random.below(8) {
            0 => 5_000,
            1 => 1_000,
            _ => 100,
        };
        self.clock.advance_ms(ms);
        if self.random.below(4) == 0 {
            self.disk.mend();
        }
        if self.random.below(16) == 0 {
            let jump = [-3_600_000, -2_000, 2_000, 3_600_000][self.random.below(4)];
            self.clock.jump_ms(jump);
        }
        let noted = self.note();
        self.said.push((noted.1, format!("{ms} ms pass, and it is {}", self.clock.unix_ms())));
        self.engine.tick(100);
        self.follow_journal(noted);
        self.take_jobs();
        self.a_second_is_over();
    }

    fn configure(&mut self) {
        let config = &mut self.engine.config.persistence;
        let points = [(1, 1), (2, 30), (3600, 1)].map(|(seconds, changes)| SavePoint { seconds, changes });
        config.save = SavePoints(points.into_iter().take(self.random.below(4)).collect());
        config.rdbcompression = self.random.below(2) == 0;
        config.rdbchecksum = self.random.below(4) > 0;
        config.stop_writes_on_bgsave_error = self.random.below(4) > 0;
        let config = &mut self.engine.config.journal;
        config.aof_use_rdb_preamble = self.random.below(3) > 0;
        config.aof_timestamp_enabled = self.random.below(3) == 0;
        self.engine.apply_config();
        if self.has_journal {
            let mode = ["always", "always", "everysec", "everysec", "no"][self.random.below(5)];
            assert_eq!(self.asks(&["CONFIG", "SET", "appendfsync", mode]), b"+OK\r\n");
        }
    }

    /// Something of the disk is going to fail, or is mended.
    fn breaks(&mut self) {
        let fault = if self.random.below(2) == 0 { Fault::Io } else { Fault::Full };
        match self.random.below(8) {
            0 => self.disk.fill(true),
            1..4 => self.disk.mend(),
            _ => self.disk.break_at(self.random.below(12), fault),
        }
    }

    fn switches(&mut self) {
        let to = if self.engine.journal.state == State::Off { "yes" } else { "no" };
        self.asks(&["CONFIG", "SET", "appendonly", to]);
    }

    /// DEBUG LOADAOF: what the journal holds is what there is.
    fn plays_again(&mut self) {
        if self.state != State::On || self.disk.is_broken() || !self.engine.journal.last_write_is_ok() {
            return;
        }
        let before = Picture::of(&self.engine);
        let reply = self.asks(&["DEBUG", "LOADAOF"]);
        assert_eq!(reply.escape_ascii().to_string(), "+OK\\r\\n");
        let (after, latest_ms) = (Picture::of(&self.engine), self.clock.latest_ms());
        assert!(after.is_like(&before, latest_ms), "{}", after.difference(&before, latest_ms));
    }

    fn shuts_down(&mut self) {
        let how = ["", "SAVE", "NOSAVE", "FORCE"][self.random.below(4)];
        let words: Vec<&str> = std::iter::once("SHUTDOWN").chain((!how.is_empty()).then_some(how)).collect();
        let began = self.disk.now();
        let reply = self.saves(&words);
        self.is_over |= self.engine.shutdown;
        if self.engine.shutdown && self.state == State::On && !self.disk.has_failed("", began) {
            // What could not be written before is lost.
            if self.engine.journal.last_write_is_ok() {
                self.units.promise_first(self.units.count(), self.disk.now());
            }
        }
        self.seen.shut_down += usize::from(self.is_over);
        if !self.is_over {
            assert_eq!(reply, b"-ERR Errors trying to SHUTDOWN. Check logs.\r\n");
        }
    }
}
