//! The options of SET and GETEX: how long a key is to live, and on what condition it is set.

use mortise_sdk::args;
use mortise_sdk::error::{self, Error, Result};

use super::value::StrRef;
use crate::engine::call::{Call, Options};

/// A time at which a key is to expire, as a client gave it.
#[derive(Clone, Copy, Debug)]
pub struct Expiry<'a> {
    time: &'a [u8],
    form: Form,
}

/// What an expiry's number means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Form {
    in_seconds: bool,
    from_now: bool,
}

impl Form {
    /// Seconds from now.
    pub const EX: Form = Form { in_seconds: true, from_now: true };
    /// Milliseconds from now.
    pub const PX: Form = Form { in_seconds: false, from_now: true };
    /// Seconds since 1970.
    pub const EXAT: Form = Form { in_seconds: true, from_now: false };
    /// Milliseconds since 1970.
    pub const PXAT: Form = Form { in_seconds: false, from_now: false };
}

impl<'a> Expiry<'a> {
    /// A time in a form.
    pub fn new(time: &'a [u8], form: Form) -> Expiry<'a> {
        Expiry { time, form }
    }

    /// Whether it names a moment and not a span from now.
    pub fn is_absolute(&self) -> bool {
        !self.form.from_now
    }

    /// The deadline in Unix milliseconds, which lies after 1970 but perhaps in the past.
    pub fn deadline(&self, call: &Call<'_>) -> Result<i64> {
        let time = args::parse_integer(self.time).ok_or(error::NOT_INTEGER)?;
        self.deadline_from(time, call.now_ms()).ok_or_else(|| call.invalid_expire_time())
    }

    /// The same where 0 is allowed: at once.
    pub fn deadline_or_now(&self, call: &Call<'_>) -> Result<i64> {
        match args::parse_integer(self.time) {
            Some(0) => Ok(if self.form.from_now { call.now_ms() } else { 0 }),
            _ => self.deadline(call),
        }
    }

    fn deadline_from(&self, time: i64, now_ms: i64) -> Option<i64> {
        let ms = if self.form.in_seconds { time.checked_mul(1000)? } else { time };
        let base = if self.form.from_now { now_ms } else { 0 };
        (time > 0).then(|| ms.checked_add(base)).flatten()
    }
}

/// What becomes of a key's time to live.
#[derive(Clone, Copy, Default, Debug)]
pub enum Lifetime<'a> {
    /// What the command does when no option speaks of it.
    #[default]
    Unsaid,
    /// KEEPTTL
    Keep,
    /// PERSIST
    Persist,
    /// EX, PX, EXAT, PXAT
    Until(Expiry<'a>),
}

impl<'a> Lifetime<'a> {
    /// Passes an option that says when the key expires. False if there is none, or if it contradicts what was said; the
    /// same option may be said twice, and the last one counts.
    pub fn take_expiry(&mut self, options: &mut Options<'a>) -> bool {
        let forms = [("EX", Form::EX), ("PX", Form::PX), ("EXAT", Form::EXAT), ("PXAT", Form::PXAT)];
        for (word, form) in forms {
            if let Some(time) = options.takes_value(word) {
                let agrees = match self {
                    Lifetime::Unsaid => true,
                    Lifetime::Until(said) => said.form == form,
                    Lifetime::Keep | Lifetime::Persist => false,
                };
                *self = Lifetime::Until(Expiry { time, form });
                return agrees;
            }
        }
        false
    }

    /// Says KEEPTTL; false if that contradicts what was said.
    pub fn keep(&mut self) -> bool {
        let agrees = matches!(self, Lifetime::Unsaid | Lifetime::Keep);
        *self = Lifetime::Keep;
        agrees
    }

    /// Says PERSIST; false if that contradicts what was said.
    pub fn persist(&mut self) -> bool {
        let agrees = matches!(self, Lifetime::Unsaid | Lifetime::Persist);
        *self = Lifetime::Persist;
        agrees
    }
}

/// Whether a key is to be there before it is set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Condition {
    /// NX
    Absent,
    /// XX
    Present,
}

/// What a value is to be before it is set or deleted.
#[derive(Clone, Copy, Debug)]
pub struct Comparison<'a> {
    with: Compared<'a>,
    /// It is to be this, and not anything else.
    is_equal: bool,
}

#[derive(Clone, Copy, Debug)]
enum Compared<'a> {
    Value(&'a [u8]),
    Digest(u64),
}

impl<'a> Comparison<'a> {
    /// The value is to be this.
    pub fn equal_to(value: &'a [u8]) -> Comparison<'a> {
        Comparison { with: Compared::Value(value), is_equal: true }
    }

    /// Passes an option that says so: IFEQ, IFNE, IFDEQ, IFDNE.
    pub fn take(options: &mut Options<'a>) -> Result<Option<Comparison<'a>>> {
        for (word, is_equal) in [("IFEQ", true), ("IFNE", false)] {
            if let Some(value) = options.takes_value(word) {
                return Ok(Some(Comparison { with: Compared::Value(value), is_equal }));
            }
        }
        for (word, is_equal) in [("IFDEQ", true), ("IFDNE", false)] {
            if let Some(digits) = options.takes_value(word) {
                return Ok(Some(Comparison { with: Compared::Digest(parse_digest(digits)?), is_equal }));
            }
        }
        Ok(None)
    }

    /// Whether it holds of a value, or of none: that differs from every value.
    pub fn holds(&self, value: Option<StrRef<'_>>) -> bool {
        let Some(value) = value else { return !self.is_equal };
        let is_equal = match self.with {
            Compared::Value(wanted) => value.is_bytes(wanted),
            Compared::Digest(wanted) => value.digest() == wanted,
        };
        is_equal == self.is_equal
    }
}

/// A digest as DIGEST shows it, in either case.
fn parse_digest(digits: &[u8]) -> Result<u64> {
    const DIGITS: usize = 16;
    let digest = std::str::from_utf8(digits)
        .ok()
        .filter(|text| text.len() == DIGITS && text.bytes().all(|digit| digit.is_ascii_hexdigit()))
        .and_then(|text| u64::from_str_radix(text, 16).ok());
    digest.ok_or(Error::new("ERR digest must be 16 hexadecimal digits"))
}

/// The options of SET.
#[derive(Clone, Copy, Default, Debug)]
pub struct SetOptions<'a> {
    /// NX or XX.
    pub condition: Option<Condition>,
    /// IFEQ and its kin.
    pub comparison: Option<Comparison<'a>>,
    /// GET
    pub gets: bool,
    /// What becomes of the time to live; it goes if nothing is said.
    pub lifetime: Lifetime<'a>,
}

impl<'a> SetOptions<'a> {
    /// Reads all options that are left.
    #[inline]
    pub fn parse(mut options: Options<'a>) -> Result<SetOptions<'a>> {
        let mut parsed = SetOptions::default();
        while !options.is_empty() {
            let accepted = if options.takes("NX") {
                parsed.require(Condition::Absent)
            } else if options.takes("XX") {
                parsed.require(Condition::Present)
            } else if options.takes("GET") {
                parsed.gets = true;
                true
            } else if options.takes("KEEPTTL") {
                parsed.lifetime.keep()
            } else if parsed.lifetime.take_expiry(&mut options) {
                true
            } else {
                parsed.takes_comparison(&mut options)?
            };
            if !accepted {
                return Err(error::SYNTAX);
            }
        }
        if parsed.comparison.is_some() && parsed.condition.is_some() {
            return Err(error::SYNTAX);
        }
        Ok(parsed)
    }

    #[cold]
    fn takes_comparison(&mut self, options: &mut Options<'a>) -> Result<bool> {
        if self.comparison.is_some() {
            return Ok(false);
        }
        self.comparison = Comparison::take(options)?;
        Ok(self.comparison.is_some())
    }

    fn require(&mut self, condition: Condition) -> bool {
        let agrees = self.condition.is_none_or(|said| said == condition);
        self.condition = Some(condition);
        agrees
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_do_not_overflow() {
        const NOW: i64 = 1_700_000_000_000;
        let deadline = |form, time| Expiry { time: b"", form }.deadline_from(time, NOW);
        assert_eq!(deadline(Form::EX, 10), Some(NOW + 10_000));
        assert_eq!(deadline(Form::PX, 10), Some(NOW + 10));
        assert_eq!(deadline(Form::EXAT, 10), Some(10_000));
        assert_eq!(deadline(Form::PXAT, 10), Some(10));
        for form in [Form::EX, Form::PX, Form::EXAT, Form::PXAT] {
            assert_eq!(deadline(form, 0), None);
            assert_eq!(deadline(form, -1), None);
        }
        assert_eq!(deadline(Form::PX, i64::MAX), None);
        assert_eq!(deadline(Form::PXAT, i64::MAX), Some(i64::MAX));
        assert_eq!(deadline(Form::EXAT, i64::MAX / 1000), Some(i64::MAX / 1000 * 1000));
        assert_eq!(deadline(Form::EXAT, i64::MAX / 1000 + 1), None);
    }
}
