//! The generic cell rate algorithm: pure arithmetic on whole nanoseconds. It knows no server, no clock and no keys.
//!
//! Requests arrive in theory one *interval* after another. All that is kept of a limit is the *theoretical arrival time*
//! (TAT): when the bucket will be full again. A request moves it by an interval for each unit it takes, and is allowed if
//! the TAT is then no further ahead than the *tolerance*, which is what a burst may take.
//!
//! Every number that a client can send has its place here: products are worked out in 128 bits, and what does not fit into
//! the 64 bits of the state or the reply is refused.

/// Nanoseconds of a second.
const SECOND: i64 = 1_000_000_000;

/// Why there is no verdict.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// A number is negative: its name.
    Negative(&'static str),
    /// The burst is so large that the limit does not fit its place in the reply.
    BurstTooLarge,
    /// Nothing would ever be allowed, or everything: the interval is zero.
    ZeroRate,
    /// The bucket would be full again at a time that does not fit the state.
    TooLong,
}

/// A limit: so much at once, and then one unit each interval.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limit {
    /// What a full bucket holds; at least 1.
    capacity: i64,
    /// Nanoseconds until a unit comes back; at least 1.
    interval_ns: i64,
}

/// What is said of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Verdict {
    /// The TAT from now on, in Unix nanoseconds; `None` if the request is limited, which changes nothing.
    pub tat: Option<i64>,
    /// What a full bucket holds.
    pub limit: i64,
    /// What the bucket holds now.
    pub remaining: i64,
    /// Nanoseconds until the same request would be allowed; `None` if it is, or never will be.
    pub retry_ns: Option<i64>,
    /// Nanoseconds until the bucket is full.
    pub reset_ns: i64,
}

impl Limit {
    /// A limit of `count` units each `period_s` seconds, and `max_burst` more at once than one.
    #[inline]
    pub fn new(max_burst: i64, count: i64, period_s: i64) -> Result<Limit, Refusal> {
        for (name, number) in [("max_burst", max_burst), ("count", count), ("period", period_s)] {
            if number < 0 {
                return Err(Refusal::Negative(name));
            }
        }
        let capacity = max_burst.checked_add(1).ok_or(Refusal::BurstTooLarge)?;
        match interval_ns(count, period_s) {
            0 => Err(Refusal::ZeroRate),
            interval_ns => Ok(Limit { capacity, interval_ns }),
        }
    }

    /// What is said of a request for some units at a time, given the TAT that is kept; without one, the bucket is full.
    /// Times are Unix nanoseconds, and not before 1970.
    #[inline]
    pub fn ask(self, quantity: i64, tat: Option<i64>, now: i64) -> Result<Verdict, Refusal> {
        if quantity < 0 {
            return Err(Refusal::Negative("quantity"));
        }
        let Limit { capacity, interval_ns } = self;
        // Two factors below 2^63 each: every sum below stays within 2^127.
        let tolerance = i128::from(interval_ns) * i128::from(capacity);
        let increment = i128::from(interval_ns) * i128::from(quantity);
        let tat = tat.map_or(now, |tat| tat.max(now));
        let new_tat = i128::from(tat) + increment;
        let late_ns = new_tat - tolerance - i128::from(now);
        let is_limited = late_ns > 0;
        let (tat, retry_ns) = if is_limited {
            // What fits into a full bucket is late by no more than the TAT is ahead, which is 64 bits.
            (tat, if increment <= tolerance { i64::try_from(late_ns).ok() } else { None })
        } else {
            (i64::try_from(new_tat).map_err(|_| Refusal::TooLong)?, None)
        };
        let reset_ns = tat - now;
        Ok(Verdict {
            tat: (!is_limited).then_some(tat),
            limit: capacity,
            remaining: units(tolerance - i128::from(reset_ns), interval_ns),
            retry_ns,
            reset_ns,
        })
    }
}

/// Nanoseconds between two units. They are divided as floating-point numbers, so that what redis-cell has stored goes on
/// here to the nanosecond.
#[inline]
fn interval_ns(count: i64, period_s: i64) -> i64 {
    // Up to here the period is exact in a double, and its quotient, truncated, is that of whole numbers.
    const EXACT_S: i64 = (1 << f64::MANTISSA_DIGITS) / SECOND;
    match (count, period_s) {
        (0, _) => 0,
        (count, period_s @ 0..=EXACT_S) => period_s * SECOND / count,
        (count, period_s) => ((i128::from(period_s) * i128::from(SECOND)) as f64 / count as f64) as i64,
    }
}

/// How many whole intervals a time is; none if it is negative.
#[inline]
fn units(ns: i128, interval_ns: i64) -> i64 {
    if let Ok(ns) = i64::try_from(ns) {
        return (ns / interval_ns).max(0);
    }
    // No more than the tolerance, of which the capacity is the quotient.
    i64::try_from(ns / i128::from(interval_ns)).unwrap_or(0).max(0)
}

/// Whole seconds; a rest of a millisecond or more is another one.
#[inline]
pub fn seconds(ns: i64) -> i64 {
    ns / SECOND + i64::from(ns % SECOND >= 1_000_000)
}

/// The millisecond at which a time in Unix nanoseconds has come: what is kept until then is kept long enough.
#[inline]
pub fn millisecond_after(ns: i64) -> i64 {
    ns / 1_000_000 + i64::from(ns % 1_000_000 > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_is_what_a_double_says() {
        for (count, period_s, expected) in [
            (1, 1, SECOND),
            (3, 1, 333_333_333),
            (30, 60, 2 * SECOND),
            (6000, 1, 166_666),
            (SECOND, 1, 1),
            (SECOND + 1, 1, 0),
            (0, 1, 0),
            (1, 0, 0),
            (i64::MAX, 1, 0),
            (i64::MAX, i64::MAX, SECOND),
            (1, i64::MAX, i64::MAX),
        ] {
            assert_eq!(interval_ns(count, period_s), expected, "{count} per {period_s}");
        }
    }

    #[test]
    fn times_are_rounded_up() {
        for (ns, expected) in [
            (0, 0),
            (999_999, 0),
            (1_000_000, 1),
            (SECOND, 1),
            (SECOND + 999_999, 1),
            (SECOND + 1_000_000, 2),
            (i64::MAX, i64::MAX / SECOND + 1),
        ] {
            assert_eq!(seconds(ns), expected, "{ns}");
        }
        assert_eq!([0, 1, 1_000_000, 1_000_001].map(millisecond_after), [0, 1, 1, 2]);
        assert_eq!(millisecond_after(i64::MAX), i64::MAX / 1_000_000 + 1);
    }
}
