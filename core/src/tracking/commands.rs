//! CLIENT TRACKING, TRACKINGINFO, CACHING, GETREDIR.

use std::collections::BTreeSet;
use std::ops::Bound;

use mortise_sdk::args::parse_integer;
use mortise_sdk::declare::Spec;
use mortise_sdk::declare::flags::*;
use mortise_sdk::{Error, Result, error};

use super::{Choice, Tracker};
use crate::engine::call::Call;
use crate::engine::session::ClientId;
use crate::features::Command;

const CONNECTION: Spec = Spec::group("connection");

/// This file's commands.
pub(super) const COMMANDS: &[Command] =
    &[CLIENT_TRACKING, CLIENT_TRACKINGINFO, CLIENT_CACHING, CLIENT_GETREDIR];

const CLIENT_TRACKING: Command = Spec {
    usage: "CLIENT TRACKING status=<ON | OFF> [REDIRECT client-id:int] [PREFIX prefix]... [BCAST] [OPTIN] [OPTOUT] \
            [NOLOOP]",
    about: "Turns it on or off that this connection is told when keys change that it may have copies of.",
    since: "6.0.0",
    cost: "O(N), N being the prefixes",
    flags: &[NOSCRIPT, LOADING, STALE],
    ..CONNECTION
}
.runs(client_tracking);

fn client_tracking(call: &mut Call<'_>) -> Result {
    let wanted = Wanted::parse(call)?;
    let on = match call.arg(2).to_ascii_lowercase().as_slice() {
        b"on" => true,
        b"off" => false,
        _ => return Err(error::SYNTAX),
    };
    let id = call.session.id;
    if on {
        let before = call.engine.clients.get(id).and_then(|client| client.tracking.as_deref());
        let tracker = wanted.tracker(before)?;
        call.engine.begin_tracking(call.session, tracker);
    } else {
        call.engine.end_tracking(id);
        call.session.reads = Default::default();
    }
    call.ok()
}

/// The options of CLIENT TRACKING.
#[derive(Default)]
struct Wanted<'a> {
    redirect: Option<ClientId>,
    broadcast: bool,
    opt_in: bool,
    opt_out: bool,
    noloop: bool,
    prefixes: Vec<&'a [u8]>,
}

impl<'a> Wanted<'a> {
    fn parse(call: &Call<'a>) -> Result<Wanted<'a>> {
        const ONLY_ONE: Error = Error::new("ERR A client can only redirect to a single other client");
        const NOBODY: Error = Error::new("ERR The client ID you want redirect to does not exist");
        let mut wanted = Wanted::default();
        let mut options = call.options(3);
        while !options.is_empty() {
            if let Some(id) = options.takes_value("REDIRECT") {
                if wanted.redirect.is_some() {
                    return Err(ONLY_ONE);
                }
                let id = parse_integer(id).ok_or(error::NOT_INTEGER)?;
                let id = ClientId::try_from(id).ok().filter(|id| call.engine.clients.contains(*id));
                wanted.redirect = Some(id.ok_or(NOBODY)?);
            } else if let Some(prefix) = options.takes_value("PREFIX") {
                wanted.prefixes.push(prefix);
            } else if options.takes("BCAST") {
                wanted.broadcast = true;
            } else if options.takes("OPTIN") {
                wanted.opt_in = true;
            } else if options.takes("OPTOUT") {
                wanted.opt_out = true;
            } else if options.takes("NOLOOP") {
                wanted.noloop = true;
            } else {
                return Err(error::SYNTAX);
            }
        }
        Ok(wanted)
    }

    /// How the client will track, if these options go together and with how it has tracked before.
    fn tracker(self, before: Option<&Tracker>) -> Result<Tracker> {
        const PREFIX_WITHOUT_BCAST: Error = Error::new("ERR PREFIX option requires BCAST mode to be enabled");
        const OTHER_BCAST: Error = Error::new(
            "ERR You can't switch BCAST mode on/off before disabling tracking for this client, and then re-enabling it \
             with a different mode.",
        );
        const BCAST_WITH_CHOICE: Error = Error::new("ERR OPTIN and OPTOUT are not compatible with BCAST");
        const BOTH_CHOICES: Error = Error::new("ERR You can't specify both OPTIN mode and OPTOUT mode");
        const OTHER_CHOICE: Error = Error::new(
            "ERR You can't switch OPTIN/OPTOUT mode before disabling tracking for this client, and then re-enabling it \
             with a different mode.",
        );
        if !self.broadcast && !self.prefixes.is_empty() {
            return Err(PREFIX_WITHOUT_BCAST);
        }
        if before.is_some_and(|before| before.broadcast != self.broadcast) {
            return Err(OTHER_BCAST);
        }
        if self.broadcast && (self.opt_in || self.opt_out) {
            return Err(BCAST_WITH_CHOICE);
        }
        let choice = match (self.opt_in, self.opt_out) {
            (true, true) => return Err(BOTH_CHOICES),
            (true, false) => Choice::OptIn,
            (false, true) => Choice::OptOut,
            (false, false) => Choice::All,
        };
        let others = [(Choice::OptIn, Choice::OptOut), (Choice::OptOut, Choice::OptIn)];
        if before.is_some_and(|before| others.contains(&(before.choice, choice))) {
            return Err(OTHER_CHOICE);
        }
        let prefixes = if self.broadcast { self.all_prefixes(before)? } else { BTreeSet::new() };
        Ok(Tracker {
            redirect: self.redirect,
            broadcast: self.broadcast,
            choice,
            noloop: self.noloop,
            is_broken: false,
            prefixes,
        })
    }

    /// The prefixes that it has, and those that come now. None of them may begin as another: a key would be told twice.
    fn all_prefixes(&self, before: Option<&Tracker>) -> Result<BTreeSet<Box<[u8]>>> {
        let mut all = before.map(|before| before.prefixes.clone()).unwrap_or_default();
        let of_known =
            self.prefixes.iter().enumerate().find_map(|(at, prefix)| Some((at, overlapping(&all, prefix)?)));
        let of_given = first_overlap(&self.prefixes);
        match (of_known, of_given) {
            (Some((at, known)), _) if of_given.is_none_or(|(given, _)| at <= given) => {
                return Err(Error::quoting(
                    "ERR Prefix '{}' overlaps with an existing prefix '{}'. Prefixes for a single client must not overlap.",
                    &[self.prefixes[at], known],
                ));
            }
            (_, Some((at, later))) => {
                return Err(Error::quoting(
                    "ERR Prefix '{}' overlaps with another provided prefix '{}'. Prefixes for a single client must not \
                     overlap.",
                    &[self.prefixes[at], self.prefixes[later]],
                ));
            }
            _ => {}
        }
        all.extend(self.prefixes.iter().map(|prefix| Box::from(*prefix)));
        if self.prefixes.is_empty() {
            all.insert(Box::default());
        }
        Ok(all)
    }
}

/// That of the prefixes, none of which begins as another, which begins as this one, or as which this one begins.
fn overlapping<'p>(prefixes: &'p BTreeSet<Box<[u8]>>, prefix: &[u8]) -> Option<&'p [u8]> {
    let to_it = (Bound::Unbounded, Bound::Included(prefix));
    let from_it = (Bound::Included(prefix), Bound::Unbounded);
    let before = prefixes.range::<[u8], _>(to_it).next_back().filter(|before| prefix.starts_with(before));
    let behind = || prefixes.range::<[u8], _>(from_it).next().filter(|behind| behind.starts_with(prefix));
    before.or_else(behind).map(|found| &**found)
}

/// The first prefix that overlaps with a later one, and the first such. A client may name a hundred thousand, so they
/// are not compared each with each: in order, those that begin as another stand right behind it.
fn first_overlap(prefixes: &[&[u8]]) -> Option<(usize, usize)> {
    let mut in_order: Vec<usize> = (0..prefixes.len()).collect();
    in_order.sort_by_key(|at| prefixes[*at]);
    let mut first: Option<usize> = None;
    let mut shortest: Option<usize> = None;
    for at in in_order {
        match shortest {
            Some(short) if prefixes[at].starts_with(prefixes[short]) => {
                first = first.into_iter().chain([at, short]).min();
            }
            _ => shortest = Some(at),
        }
    }
    let first = first?;
    let overlaps = |later: &usize| overlap(prefixes[first], prefixes[*later]);
    Some((first, (first + 1..prefixes.len()).find(overlaps)?))
}

fn overlap(one: &[u8], other: &[u8]) -> bool {
    one.starts_with(other) || other.starts_with(one)
}

const CLIENT_TRACKINGINFO: Command = Spec {
    usage: "CLIENT TRACKINGINFO",
    about: "Says how this connection is told when keys change.",
    since: "6.2.0",
    flags: &[NOSCRIPT, LOADING, STALE],
    ..CONNECTION
}
.runs(client_trackinginfo);

fn client_trackinginfo(call: &mut Call<'_>) -> Result {
    let excepted = call.session.reads.excepted;
    let id = call.session.id;
    let (engine, out) = call.engine_and_out();
    let tracker = engine.clients.get(id).and_then(|client| client.tracking.as_deref());
    let choice = tracker.map(|tracker| tracker.choice);
    let flags = [
        ("off", tracker.is_none()),
        ("on", tracker.is_some()),
        ("bcast", tracker.is_some_and(|tracker| tracker.broadcast)),
        ("optin", choice == Some(Choice::OptIn)),
        ("caching-yes", choice == Some(Choice::OptIn) && excepted),
        ("optout", choice == Some(Choice::OptOut)),
        ("caching-no", choice == Some(Choice::OptOut) && excepted),
        ("noloop", tracker.is_some_and(|tracker| tracker.noloop)),
        ("broken_redirect", tracker.is_some_and(|tracker| tracker.is_broken)),
    ];
    let flags: Vec<&str> = flags.iter().filter(|(_, applies)| *applies).map(|(name, _)| *name).collect();
    out.map(3);
    out.bulk(b"flags");
    out.set(flags.len());
    flags.iter().for_each(|flag| out.bulk(flag.as_bytes()));
    out.bulk(b"redirect");
    out.integer(redirect_of(tracker));
    out.bulk(b"prefixes");
    out.array(tracker.map_or(0, |tracker| tracker.prefixes.len()));
    tracker.iter().flat_map(|tracker| &tracker.prefixes).for_each(|prefix| out.bulk(prefix));
    Ok(())
}

/// As CLIENT GETREDIR and CLIENT LIST show it: -1 for who does not track, 0 for who is told itself.
pub(crate) fn redirect_of(tracker: Option<&Tracker>) -> i64 {
    tracker.map_or(-1, |tracker| tracker.redirect.unwrap_or(0) as i64)
}

const CLIENT_CACHING: Command = Spec {
    usage: "CLIENT CACHING mode=<YES | NO>",
    about: "Decides for the next command, against the rule, whether the keys that it reads are tracked.",
    since: "6.0.0",
    flags: &[NOSCRIPT, LOADING, STALE],
    ..CONNECTION
}
.runs(client_caching);

fn client_caching(call: &mut Call<'_>) -> Result {
    const NOT_TRACKING: Error = Error::new(
        "ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode enabled",
    );
    let id = call.session.id;
    let tracker = call.engine.clients.get(id).and_then(|client| client.tracking.as_deref());
    let choice = tracker.map(|tracker| tracker.choice).ok_or(NOT_TRACKING)?;
    match call.arg(2).to_ascii_lowercase().as_slice() {
        b"yes" if choice != Choice::OptIn => {
            return Err(Error::new(
                "ERR CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode.",
            ));
        }
        b"no" if choice != Choice::OptOut => {
            return Err(Error::new(
                "ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode.",
            ));
        }
        b"yes" | b"no" => {}
        _ => return Err(error::SYNTAX),
    }
    call.session.reads.excepted = true;
    call.ok()
}

const CLIENT_GETREDIR: Command = Spec {
    usage: "CLIENT GETREDIR",
    about: "Returns the number of the connection that is told instead of this one.",
    since: "6.0.0",
    flags: &[NOSCRIPT, LOADING, STALE],
    ..CONNECTION
}
.runs(client_getredir);

fn client_getredir(call: &mut Call<'_>) -> Result {
    let id = call.session.id;
    let tracker = call.engine.clients.get(id).and_then(|client| client.tracking.as_deref());
    let redirect = redirect_of(tracker);
    call.reply(redirect)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::random::Random;

    #[test]
    fn overlaps_are_found_as_by_comparing_each_with_each() {
        let mut random = Random::new(1);
        for _ in 0..20_000 {
            let words: Vec<Vec<u8>> = (0..random.below(8))
                .map(|_| (0..random.below(5)).map(|_| b'a' + random.below(3) as u8).collect())
                .collect();
            let prefixes: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
            let expected = (0..prefixes.len()).find_map(|one| {
                let later =
                    (one + 1..prefixes.len()).find(|later| overlap(prefixes[one], prefixes[*later]))?;
                Some((one, later))
            });
            assert_eq!(first_overlap(&prefixes), expected, "{words:?}");
            let mut known: BTreeSet<Box<[u8]>> = BTreeSet::new();
            for prefix in prefixes {
                let expected = known.iter().find(|known| overlap(known, prefix)).map(|known| &**known);
                assert_eq!(overlapping(&known, prefix), expected, "{words:?}");
                let is_new = expected.is_none();
                if is_new {
                    known.insert(prefix.into());
                }
            }
        }
    }

    #[test]
    fn half_a_million_prefixes_are_compared() {
        let words: Vec<String> = (0..500_000).map(|number| format!("{number:07}")).collect();
        let prefixes: Vec<&[u8]> = words.iter().map(String::as_bytes).collect();
        assert_eq!(first_overlap(&prefixes), None);
    }
}
