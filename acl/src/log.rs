//! The log of what was refused: the newest first, repetitions counted.

use std::collections::VecDeque;

/// Repetitions are looked for among so many entries …
const LOOKED_AT: usize = 10;
/// … of the last minute.
const REPEATED_WITHIN_MS: i64 = 60_000;

/// What was refused lately.
#[derive(Debug, Default)]
pub struct Log {
    entries: VecDeque<Entry>,
}

/// Something that was refused, once or more often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// How often.
    pub count: u64,
    /// Why.
    pub reason: Reason,
    /// In what.
    pub context: Context,
    /// The command, key or channel; of a failed login the command it was tried by.
    pub object: Vec<u8>,
    /// To whom.
    pub user: Vec<u8>,
    /// When, at last: Unix milliseconds.
    pub at_ms: i64,
    /// The client that asked last, as CLIENT INFO shows it.
    pub client: Vec<u8>,
}

/// Why something was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The command.
    Command,
    /// A key.
    Key,
    /// A channel.
    Channel,
    /// A login failed.
    Auth,
}

impl Reason {
    /// As it is shown.
    pub fn name(self) -> &'static str {
        match self {
            Reason::Command => "command",
            Reason::Key => "key",
            Reason::Channel => "channel",
            Reason::Auth => "auth",
        }
    }
}

/// In what something was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Context {
    /// A request of a client.
    Toplevel,
    /// A transaction.
    Multi,
    /// A script.
    Lua,
    /// A module's call.
    Module,
}

impl Context {
    /// As it is shown.
    pub fn name(self) -> &'static str {
        match self {
            Context::Toplevel => "toplevel",
            Context::Multi => "multi",
            Context::Lua => "lua",
            Context::Module => "module",
        }
    }
}

impl Log {
    /// Notes what was refused. Of a repetition only when, by whom and how often is kept; otherwise the oldest entries
    /// make room.
    pub fn add(&mut self, entry: Entry, len_max: usize) {
        let repeated = self.entries.iter().take(LOOKED_AT).position(|known| {
            known.reason == entry.reason
                && known.context == entry.context
                && known.at_ms.abs_diff(entry.at_ms) <= REPEATED_WITHIN_MS as u64
                && known.object == entry.object
                && known.user == entry.user
        });
        match repeated.and_then(|place| self.entries.remove(place)) {
            Some(known) => self.entries.push_front(Entry { count: known.count + entry.count, ..entry }),
            None => {
                self.entries.push_front(entry);
                self.entries.truncate(len_max);
            }
        }
    }

    /// The entries, the newest first.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Entry> {
        self.entries.iter()
    }

    /// Forgets them.
    pub fn reset(&mut self) {
        self.entries.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(object: &str, at_ms: i64) -> Entry {
        Entry {
            count: 1,
            reason: Reason::Key,
            context: Context::Toplevel,
            object: object.into(),
            user: b"ann".to_vec(),
            at_ms,
            client: Vec::new(),
        }
    }

    fn shown(log: &Log) -> Vec<(String, u64)> {
        log.iter().map(|e| (String::from_utf8(e.object.clone()).unwrap(), e.count)).collect()
    }

    #[test]
    fn repetitions_are_counted_and_come_first() {
        let mut log = Log::default();
        for (object, at_ms) in [("a", 0), ("b", 1), ("a", 60_000), ("a", 120_001)] {
            log.add(entry(object, at_ms), 10);
        }
        assert_eq!(shown(&log), [("a".into(), 1), ("a".into(), 2), ("b".into(), 1)]);
        let other = Entry { context: Context::Multi, ..entry("a", 120_001) };
        log.add(other, 10);
        assert_eq!(log.iter().len(), 4);
        log.reset();
        assert_eq!(log.iter().len(), 0);
    }

    #[test]
    fn the_log_is_bounded_and_looked_through_only_so_far() {
        let mut log = Log::default();
        for i in 0..20 {
            log.add(entry(&i.to_string(), i), 12);
        }
        assert_eq!(log.iter().len(), 12);
        log.add(entry("9", 20), 12);
        assert_eq!(shown(&log)[0], ("9".into(), 1), "the eleventh is not looked at");
        log.add(entry("10", 20), 12);
        assert_eq!(shown(&log)[0], ("10".into(), 1));
        log.add(entry("19", 21), 12);
        assert_eq!(shown(&log)[0], ("19".into(), 2));
        log.add(entry("x", 21), 0);
        assert_eq!(log.iter().len(), 0);
    }
}
