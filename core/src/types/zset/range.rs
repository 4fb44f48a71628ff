//! Ranges of ranks, scores and names: how they are told, and which members lie in one.

use mortise_sdk::{Error, Result, args, error};

use super::value::ZsetRef;

/// By what a range chooses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum By {
    Rank,
    Score,
    /// By the members' bytes, all scores being the same.
    Name,
}

/// Which members are meant.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Range<'a> {
    /// First and last rank; below zero they count from behind the end.
    Ranks(i64, i64),
    Scores(Bound<f64>, Bound<f64>),
    Names(NameBound<'a>, NameBound<'a>),
}

/// An end of a range, in it or not.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Bound<T> {
    Included(T),
    Excluded(T),
}

/// An end of a range of names.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum NameBound<'a> {
    /// Before every name.
    First,
    At(Bound<&'a [u8]>),
    /// Behind every name.
    Last,
}

impl<T: PartialOrd + Copy> Bound<T> {
    /// As the lower end: whether something lies below it.
    fn is_above(self, value: T) -> bool {
        match self {
            Bound::Included(bound) => value < bound,
            Bound::Excluded(bound) => value <= bound,
        }
    }

    /// As the upper end: whether something lies within it.
    fn reaches(self, value: T) -> bool {
        match self {
            Bound::Included(bound) => value <= bound,
            Bound::Excluded(bound) => value < bound,
        }
    }
}

impl NameBound<'_> {
    fn is_above(self, name: &[u8]) -> bool {
        match self {
            NameBound::First => false,
            NameBound::At(bound) => bound.is_above(name),
            NameBound::Last => true,
        }
    }

    fn reaches(self, name: &[u8]) -> bool {
        match self {
            NameBound::First => false,
            NameBound::At(bound) => bound.reaches(name),
            NameBound::Last => true,
        }
    }
}

impl<'a> Range<'a> {
    /// A range from its two ends, the lower one first.
    pub(super) fn parse(by: By, low: &'a [u8], high: &'a [u8]) -> Result<Range<'a>> {
        match by {
            By::Rank => {
                let rank = |text| args::parse_integer(text).ok_or(error::NOT_INTEGER);
                Ok(Range::Ranks(rank(low)?, rank(high)?))
            }
            By::Score => {
                let error = || Error::new("ERR min or max is not a float");
                let bound = |text| score_bound(text).ok_or_else(error);
                Ok(Range::Scores(bound(low)?, bound(high)?))
            }
            By::Name => {
                let error = || Error::new("ERR min or max not valid string range item");
                let bound = |text| name_bound(text).ok_or_else(error);
                Ok(Range::Names(bound(low)?, bound(high)?))
            }
        }
    }

    /// The ranks of what lies in the range, as they count upwards. `reverse` matters to ranges of ranks only, which then
    /// count downwards.
    pub(super) fn ranks(self, zset: ZsetRef<'_>, reverse: bool) -> std::ops::Range<usize> {
        let (start, end) = match self {
            Range::Ranks(first, last) => {
                let len = zset.len();
                let ranks = resolve(first, last, len);
                if !reverse {
                    return ranks;
                }
                (len - ranks.end, len - ranks.start)
            }
            Range::Scores(low, high) => (
                zset.partition(|score, _| low.is_above(score)),
                zset.partition(|score, _| high.reaches(score)),
            ),
            Range::Names(low, high) => {
                (zset.partition(|_, name| low.is_above(name)), zset.partition(|_, name| high.reaches(name)))
            }
        };
        start..end.max(start)
    }
}

/// The ranks from `first` to `last`, of which there are `len`.
fn resolve(first: i64, last: i64, len: usize) -> std::ops::Range<usize> {
    // No collection has 2^63 members.
    let len = len as i64;
    let from_end = |rank: i64| if rank < 0 { rank.saturating_add(len) } else { rank };
    let (first, last) = (from_end(first).max(0), from_end(last).min(len - 1));
    if first > last { 0..0 } else { first as usize..last as usize + 1 }
}

/// An end of a range of scores: a number as C's `strtod` reads it, behind a parenthesis if it is excluded.
fn score_bound(text: &[u8]) -> Option<Bound<f64>> {
    match text {
        [b'(', text @ ..] => Some(Bound::Excluded(c_double(text)?)),
        text => Some(Bound::Included(c_double(text)?)),
    }
}

/// What `strtod` makes of a C string as a whole. Redis asks it here without further checks: spaces may lead, a NUL byte
/// ends, nothing is zero, and what is too large is infinite.
fn c_double(text: &[u8]) -> Option<f64> {
    let text = text.split(|byte| *byte == 0).next().unwrap_or_default();
    if text.is_empty() {
        return Some(0.0);
    }
    let spaces = text.iter().take_while(|byte| matches!(byte, b' ' | b'\t'..=b'\r')).count();
    let number = args::scan_float(&text[spaces..])?;
    (spaces + number.used == text.len() && !number.value.is_nan()).then_some(number.value)
}

/// `-`, `+`, or a name behind a bracket or parenthesis.
fn name_bound(text: &[u8]) -> Option<NameBound<'_>> {
    match text {
        b"-" => Some(NameBound::First),
        b"+" => Some(NameBound::Last),
        [b'[', name @ ..] => Some(NameBound::At(Bound::Included(name))),
        [b'(', name @ ..] => Some(NameBound::At(Bound::Excluded(name))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_count_from_both_ends() {
        for (first, last, len, expected) in [
            (0, -1, 3, 0..3),
            (1, 1, 3, 1..2),
            (-2, -1, 3, 1..3),
            (-100, 100, 3, 0..3),
            (2, 1, 3, 0..0),
            (3, 5, 3, 0..0),
            (0, -4, 3, 0..0),
            (0, -1, 0, 0..0),
            (i64::MIN, i64::MAX, 3, 0..3),
            (i64::MAX, i64::MIN, 3, 0..0),
        ] {
            assert_eq!(resolve(first, last, len), expected, "{first} {last} of {len}");
        }
    }

    #[test]
    fn bounds_of_scores_are_read_as_c_reads_them() {
        for (text, expected) in [
            ("1.5", Some(Bound::Included(1.5))),
            ("(1.5", Some(Bound::Excluded(1.5))),
            (" 1", Some(Bound::Included(1.0))),
            ("", Some(Bound::Included(0.0))),
            ("(", Some(Bound::Excluded(0.0))),
            ("1\0x", Some(Bound::Included(1.0))),
            ("+inf", Some(Bound::Included(f64::INFINITY))),
            ("1e999", Some(Bound::Included(f64::INFINITY))),
            ("(-INF", Some(Bound::Excluded(f64::NEG_INFINITY))),
            ("nan", None),
            (" ", None),
            ("1 ", None),
            ("((1", None),
        ] {
            assert_eq!(score_bound(text.as_bytes()), expected, "{text:?}");
        }
    }

    #[test]
    fn bounds_of_names_need_a_bracket() {
        assert_eq!(name_bound(b"-"), Some(NameBound::First));
        assert_eq!(name_bound(b"+"), Some(NameBound::Last));
        assert_eq!(name_bound(b"["), Some(NameBound::At(Bound::Included(b""))));
        assert_eq!(name_bound(b"(a"), Some(NameBound::At(Bound::Excluded(b"a"))));
        for text in [&b""[..], b"a", b"+a", b"--"] {
            assert_eq!(name_bound(text), None);
        }
    }
}
