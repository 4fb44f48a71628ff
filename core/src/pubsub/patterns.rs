//! Patterns of channels, with their listeners, found by what they begin with.
//!
//! The bytes of a pattern in front of its first special one are what each channel begins with that it matches. Patterns
//! are kept by these, so a message is compared only with those that begin as its channel does. The lengths of such
//! beginnings are rounded down to a few, so that a message costs a few look-ups at most, whatever is subscribed to.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use mortise_sdk::glob;

use super::channels::{Channels, Listeners};
use crate::engine::outbox::Outbox;
use crate::engine::session::ClientId;
use crate::keyspace::shrink::Shrink;

/// Up to here each length is one of its own.
const EXACT_LEN_MAX: usize = 16;
/// Longer beginnings are told apart by this many bytes each …
const STEP_LEN: usize = 8;
/// … and by no more than this many.
const LEN_MAX: usize = 128;

/// The patterns, each with its listeners.
#[derive(Default)]
pub struct Patterns {
    by_beginning: HashMap<Box<[u8]>, Channels, foldhash::quality::RandomState>,
    /// How many beginnings there are of each length.
    lens: BTreeMap<usize, usize>,
    count: usize,
}

/// What a pattern is kept under: bytes that every channel begins with that it matches.
fn beginning(pattern: &[u8]) -> &[u8] {
    let special = pattern.iter().position(|byte| matches!(byte, b'*' | b'?' | b'[' | b'\\'));
    let len = special.unwrap_or(pattern.len()).min(LEN_MAX);
    &pattern[..if len <= EXACT_LEN_MAX { len } else { len - len % STEP_LEN }]
}

impl Patterns {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &Listeners)> {
        self.by_beginning.values().flat_map(Channels::iter)
    }

    /// Those that a channel's name matches.
    pub fn matching<'a>(&'a self, channel: &'a [u8]) -> impl Iterator<Item = (&'a [u8], &'a Listeners)> {
        let lens = self.lens.range(..=channel.len());
        let candidates = lens.filter_map(|(len, _)| self.by_beginning.get(&channel[..*len]));
        candidates.flat_map(Channels::iter).filter(|(pattern, _)| glob::matches(pattern, channel))
    }

    /// A client begins to listen.
    pub fn add(&mut self, pattern: &[u8], id: ClientId, outbox: Arc<Outbox>) {
        let beginning = beginning(pattern);
        if !self.by_beginning.contains_key(beginning) {
            self.by_beginning.insert(beginning.into(), Channels::default());
            *self.lens.entry(beginning.len()).or_default() += 1;
        }
        if let Some(patterns) = self.by_beginning.get_mut(beginning) {
            let before = patterns.len();
            patterns.add(pattern, id, outbox);
            self.count += patterns.len() - before;
        }
    }

    /// A client no longer listens.
    pub fn remove(&mut self, pattern: &[u8], id: ClientId) {
        let beginning = beginning(pattern);
        let Some(patterns) = self.by_beginning.get_mut(beginning) else { return };
        let before = patterns.len();
        patterns.remove(pattern, id);
        self.count -= before - patterns.len();
        if !patterns.is_empty() {
            return;
        }
        self.by_beginning.remove(beginning);
        self.by_beginning.shrink();
        if let Some(count) = self.lens.get_mut(&beginning.len()) {
            *count -= 1;
            if *count == 0 {
                self.lens.remove(&beginning.len());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(patterns: &[&str]) -> Patterns {
        let mut all = Patterns::default();
        for (id, pattern) in patterns.iter().enumerate() {
            all.add(pattern.as_bytes(), id as ClientId, Arc::default());
        }
        all
    }

    fn matching(patterns: &Patterns, channel: &str) -> Vec<String> {
        let found = patterns.matching(channel.as_bytes());
        let mut found: Vec<_> =
            found.map(|(pattern, _)| String::from_utf8_lossy(pattern).into_owned()).collect();
        found.sort();
        found
    }

    #[test]
    fn a_pattern_is_kept_under_what_its_channels_begin_with() {
        let long = "x".repeat(200);
        for (pattern, expected) in [
            ("", ""),
            ("*", ""),
            ("news.*", "news."),
            ("n?ws", "n"),
            ("h[ae]llo", "h"),
            ("a\\*b", "a"),
            ("plain", "plain"),
            ("0123456789abcdef*", "0123456789abcdef"),
            ("0123456789abcdef-longer*", "0123456789abcdef"),
            ("0123456789abcdef-longer!*", "0123456789abcdef-longer!"),
            (&long, &long[..128]),
        ] {
            assert_eq!(beginning(pattern.as_bytes()), expected.as_bytes(), "{pattern}");
        }
    }

    #[test]
    fn as_many_are_found_as_if_all_were_compared() {
        let mut names = vec![String::new()];
        for len in 0..4 {
            let longer: Vec<String> = names.iter().filter(|name| name.len() == len).cloned().collect();
            names.extend(
                longer.iter().flat_map(|name| "a*?\\".chars().map(move |byte| format!("{name}{byte}"))),
            );
        }
        let long = "a".repeat(150);
        names.extend([
            long.clone(),
            format!("{long}*"),
            format!("{}*", &long[..20]),
            format!("{}b*", &long[..20]),
        ]);
        let patterns = of(&names.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(patterns.len(), names.len());
        for channel in ["", "a", "aa", "*", "\\", "aaa*", "b", &long, &long[..20], &long[..149]] {
            let mut expected: Vec<_> = names
                .iter()
                .filter(|name| glob::matches(name.as_bytes(), channel.as_bytes()))
                .cloned()
                .collect();
            expected.sort();
            assert_eq!(matching(&patterns, channel), expected, "{channel}");
        }
    }

    #[test]
    fn only_those_are_compared_that_begin_as_the_channel_does() {
        let names: Vec<String> = (0..10_000).map(|n| format!("news.{n}.*")).collect();
        let patterns = of(&names.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(matching(&patterns, "news.77.x"), ["news.77.*"]);
        assert_eq!(matching(&patterns, "news.x"), [""; 0]);
        let lens: Vec<_> = patterns.lens.iter().map(|(len, count)| (*len, *count)).collect();
        assert_eq!(lens, [(7, 10), (8, 90), (9, 900), (10, 9000)]);
        assert!(patterns.by_beginning.values().all(|kept| kept.len() == 1));
    }

    #[test]
    fn patterns_that_nobody_listens_to_leave_no_room_behind() {
        let own: Vec<String> = (0..5_000).map(|n| format!("{n}*")).collect();
        let shared: Vec<String> = (0..5_000).map(|n| format!("news.*{n}")).collect();
        let names: Vec<&str> = own.iter().chain(&shared).map(String::as_str).collect();
        let mut patterns = of(&names);
        patterns.add(b"news.*", 1, Arc::default());
        for (id, name) in names.iter().enumerate() {
            patterns.remove(name.as_bytes(), id as ClientId);
        }
        assert_eq!(patterns.len(), 1);
        assert!(patterns.by_beginning.capacity() < 100);
        assert!(patterns.by_beginning.values().all(|kept| kept.capacity() < 100));
    }

    #[test]
    fn nothing_is_left_of_who_leaves() {
        let mut patterns = of(&["a*", "a?", "b*", "*"]);
        patterns.add(b"a*", 9, Arc::default());
        for (pattern, id, left) in
            [("a*", 0, 4), ("a*", 0, 4), ("a*", 9, 3), ("c*", 1, 3), ("a?", 1, 2), ("b*", 2, 1), ("*", 3, 0)]
        {
            patterns.remove(pattern.as_bytes(), id);
            assert_eq!(patterns.len(), left, "{pattern}");
        }
        assert!(patterns.is_empty() && patterns.by_beginning.is_empty() && patterns.lens.is_empty());
    }
}
