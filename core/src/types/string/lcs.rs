//! LCS: the longest subsequence that two strings share.

use mortise_sdk::declare::flags::*;
use mortise_sdk::declare::{ACCESS, Begin, Find, RO, Spec, key};
use mortise_sdk::error::{self, Error};
use mortise_sdk::{Result, args};

use super::STRING;
use super::value::{Str, StrRef};
use crate::engine::call::Call;
use crate::features::Command;
use crate::types::Type;

/// This file's commands.
pub(super) const COMMANDS: &[Command] = &[LCS];

/// The product of two lengths up to which strings are compared, whatever the settings say: everybody waits meanwhile.
const PAIRS_MAX: u64 = 1 << 32;

const LCS: Command = Spec {
    usage: "LCS key1 key2:key [LEN] [IDX] [MINMATCHLEN len:int] [WITHMATCHLEN]",
    about: "Finds the longest common subsequence of two strings.",
    since: "7.0.0",
    cost: "O(N*M), N and M being the lengths of the strings",
    flags: &[READONLY],
    keys: &[key("key1", &[RO, ACCESS]).at(Begin::Index(1), Find::Range { last: 1, step: 1, limit: 0 })],
    ..STRING
}
.runs(lcs);

fn lcs(call: &mut Call<'_>) -> Result {
    let mut options = call.options(3);
    let len_max = call.engine.config.clients.proto_max_bulk_len.0;
    let keys = [call.key(1), call.key(2)];
    let (entries, out) = call.look_all(&keys);
    let mut views = [StrRef::Bytes(b""); 2];
    for (entry, view) in entries.into_iter().zip(&mut views) {
        let Some(entry) = entry else { continue };
        *view = Str::view(entry).ok_or(Error::new("ERR The specified keys must contain string values"))?;
    }
    let (mut only_len, mut ranges, mut with_len, mut len_min) = (false, false, false, 0);
    while !options.is_empty() {
        if options.takes("IDX") {
            ranges = true;
        } else if options.takes("LEN") {
            only_len = true;
        } else if options.takes("WITHMATCHLEN") {
            with_len = true;
        } else {
            let text = options.takes_value("MINMATCHLEN").ok_or(error::SYNTAX)?;
            len_min = args::parse_integer(text).ok_or(error::NOT_INTEGER)?.max(0) as usize;
        }
    }
    if only_len && ranges {
        return Err(Error::new("ERR If you want both the length and indexes, please just use IDX."));
    }
    let [one_len, other_len] = views.map(|view| view.len() as u64);
    check_cost(one_len, other_len, len_max)?;
    let [one, other] = &views.map(StrRef::bytes);
    let common = Common::new(one, other, !only_len);
    if only_len {
        out.count(common.len);
        return Ok(());
    }
    let matches = common.matches(one, other);
    if !ranges {
        let parts = matches.iter().rev().map(|found| &one[found.one..found.one + found.len]);
        out.bulk_parts(common.len, parts);
        return Ok(());
    }
    let shown: Vec<&Match> = matches.iter().filter(|found| found.len >= len_min).collect();
    out.map(2);
    out.bulk(b"matches");
    out.array(shown.len());
    for found in shown {
        out.array(2 + usize::from(with_len));
        for first in [found.one, found.other] {
            out.array(2);
            out.count(first);
            out.count(first + found.len - 1);
        }
        if with_len {
            out.count(found.len);
        }
    }
    out.bulk(b"len");
    out.count(common.len);
    Ok(())
}

/// Whether two strings may be compared, as Redis reckons it: by the bytes that a table of 32-bit lengths would take.
fn check_cost(one: u64, other: u64, len_max: u64) -> Result {
    let pairs = (one + 1).saturating_mul(other + 1);
    if pairs.saturating_mul(4) > len_max {
        return Err(Error::new(
            "ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len",
        ));
    }
    if pairs > PAIRS_MAX {
        return Err(Error::new("ERR Insufficient memory, failed allocating transient memory for LCS"));
    }
    Ok(())
}

/// A run of bytes that stands in both strings.
#[derive(Debug, PartialEq)]
struct Match {
    one: usize,
    other: usize,
    len: usize,
}

/// How long the subsequence is, and the way back along it.
struct Common {
    len: usize,
    /// A bit for each pair of prefixes: where their last bytes differ, whether the first is the one to be shortened.
    shortens: Vec<u64>,
    width: usize,
}

impl Common {
    fn new(one: &[u8], other: &[u8], keeps_way: bool) -> Common {
        let width = other.len();
        let bits = if keeps_way { one.len() * width } else { 0 };
        let mut shortens = vec![0u64; bits.div_ceil(64)];
        // The lengths for one prefix of the first string and every prefix of the second.
        let mut row = vec![0u32; width + 1];
        for (i, byte) in one.iter().enumerate() {
            let mut diagonal = 0;
            for (j, candidate) in other.iter().enumerate() {
                let above = row[j + 1];
                if byte == candidate {
                    row[j + 1] = diagonal + 1;
                } else {
                    if keeps_way && above > row[j] {
                        let bit = i * width + j;
                        shortens[bit / 64] |= 1 << (bit % 64);
                    }
                    row[j + 1] = above.max(row[j]);
                }
                diagonal = above;
            }
        }
        Common { len: row[width] as usize, shortens, width }
    }

    /// The runs that make up the subsequence, the last first.
    fn matches(&self, one: &[u8], other: &[u8]) -> Vec<Match> {
        let (mut i, mut j) = (one.len(), other.len());
        let mut matches: Vec<Match> = Vec::new();
        while i > 0 && j > 0 {
            if one[i - 1] == other[j - 1] {
                match matches.last_mut() {
                    Some(last) if last.one == i && last.other == j => {
                        (last.one, last.other, last.len) = (i - 1, j - 1, last.len + 1);
                    }
                    _ => matches.push(Match { one: i - 1, other: j - 1, len: 1 }),
                }
                (i, j) = (i - 1, j - 1);
            } else {
                let bit = (i - 1) * self.width + j - 1;
                match self.shortens[bit / 64] >> (bit % 64) & 1 {
                    1 => i -= 1,
                    _ => j -= 1,
                }
            }
        }
        matches
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::random::Random;

    #[test]
    fn no_common_subsequence_is_longer() {
        /// The definition, by trying everything.
        fn longest(one: &[u8], other: &[u8]) -> usize {
            match (one, other) {
                ([a, one_rest @ ..], [b, other_rest @ ..]) if a == b => 1 + longest(one_rest, other_rest),
                ([_, one_rest @ ..], [_, other_rest @ ..]) => {
                    longest(one_rest, other).max(longest(one, other_rest))
                }
                _ => 0,
            }
        }
        let mut random = Random::new(1);
        for _ in 0..300 {
            let mut text = || (0..random.below(9)).map(|_| b"abc"[random.below(3)]).collect::<Vec<u8>>();
            let (one, other) = (text(), text());
            let common = Common::new(&one, &other, true);
            assert_eq!(common.len, longest(&one, &other), "{one:?} {other:?}");
            let matches = common.matches(&one, &other);
            assert_eq!(matches.iter().map(|found| found.len).sum::<usize>(), common.len);
            let mut before = (usize::MAX, usize::MAX);
            for found in matches {
                assert_eq!(one[found.one..][..found.len], other[found.other..][..found.len]);
                assert!(found.one + found.len <= before.0 && found.other + found.len <= before.1);
                before = (found.one, found.other);
            }
        }
    }
}
