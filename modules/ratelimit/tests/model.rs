//! The arithmetic against a slow model: a bucket that leaks, in whole nanoseconds of 128 bits.
//!
//! `RATELIMIT_MODEL_STEPS` and `RATELIMIT_MODEL_SEED` choose a longer run and another one.

use mortise_ratelimit::gcra::{Limit, Refusal, Verdict, millisecond_after};

/// A debt that is paid off as time goes by: the time until nothing is owed. It knows no TAT.
#[derive(Default)]
struct Bucket {
    debt_ns: i128,
    at_ns: i128,
}

/// A limit in the model's words.
#[derive(Clone, Copy, Debug)]
struct Terms {
    burst: i64,
    count: i64,
    period_s: i64,
}

impl Terms {
    fn interval_ns(self) -> i128 {
        if self.count == 0 {
            return 0;
        }
        let ns = i128::from(self.period_s) * 1_000_000_000;
        let ns = (ns as f64 / self.count as f64).trunc() as i128;
        ns.min(i64::MAX.into()) // what a 64-bit duration holds
    }
}

impl Bucket {
    fn ask(&mut self, terms: Terms, quantity: i64, now_ns: i64) -> Result<Verdict, Refusal> {
        let negative = [
            (terms.burst, "max_burst"),
            (terms.count, "count"),
            (terms.period_s, "period"),
            (quantity, "quantity"),
        ];
        let negative = negative.iter().find(|(number, _)| *number < 0).map(|(_, name)| *name);
        if let Some(name) = negative.filter(|name| *name != "quantity") {
            return Err(Refusal::Negative(name));
        }
        let limit = i128::from(terms.burst) + 1;
        let Ok(limit_64) = i64::try_from(limit) else { return Err(Refusal::BurstTooLarge) };
        let interval = terms.interval_ns();
        if interval == 0 {
            return Err(Refusal::ZeroRate);
        }
        if negative.is_some() {
            return Err(Refusal::Negative("quantity"));
        }
        let now = i128::from(now_ns);
        let debt = (self.debt_ns - (now - self.at_ns)).max(0);
        let price = interval * i128::from(quantity);
        let credit = interval * limit;
        let left = |debt: i128| i64::try_from(((credit - debt) / interval).max(0)).unwrap();
        let narrow = |ns: i128| i64::try_from(ns).unwrap();
        if debt + price > credit {
            let wait = (price <= credit).then(|| narrow(debt + price - credit));
            return Ok(Verdict {
                tat: None,
                limit: limit_64,
                remaining: left(debt),
                retry_ns: wait,
                reset_ns: narrow(debt),
            });
        }
        let Ok(tat) = i64::try_from(now + debt + price) else { return Err(Refusal::TooLong) };
        (self.debt_ns, self.at_ns) = (debt + price, now);
        Ok(Verdict {
            tat: Some(tat),
            limit: limit_64,
            remaining: left(debt + price),
            retry_ns: None,
            reset_ns: narrow(debt + price),
        })
    }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.word() % n
    }

    /// A number of any magnitude, near a power of two as often as not, and now and then negative.
    fn any(&mut self) -> i64 {
        match self.below(12) {
            0 => [0, 1, -1, i64::MAX, i64::MIN, i64::MAX - 1, 1_000_000_000, 9_007_199, 9_007_200]
                [self.below(9) as usize],
            1..4 => {
                let shift = self.below(63);
                (1i64 << shift).wrapping_add(self.below(3) as i64 - 1)
            }
            4..8 => (self.word() >> (1 + self.below(63))) as i64,
            _ => self.below(20) as i64,
        }
    }
}

fn number(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).map_or(otherwise, |text| text.parse().expect("it is a number"))
}

fn compare(bucket: &mut Bucket, tat: &mut Option<i64>, terms: Terms, quantity: i64, now: i64) -> bool {
    let expected = bucket.ask(terms, quantity, now);
    let verdict =
        Limit::new(terms.burst, terms.count, terms.period_s).and_then(|limit| limit.ask(quantity, *tat, now));
    assert_eq!(verdict, expected, "{terms:?}, {quantity} at {now} with {tat:?}");
    let Ok(Verdict { tat: Some(moved), .. }) = verdict else { return false };
    // The key outlives what it says, and not by a millisecond.
    let deadline = i128::from(millisecond_after(moved)) * 1_000_000;
    assert!((0..1_000_000).contains(&(deadline - i128::from(moved))));
    *tat = Some(moved);
    true
}

#[test]
fn random_requests_are_answered_as_by_a_leaking_bucket() {
    let mut random = Random(number("RATELIMIT_MODEL_SEED", 1));
    let steps = number("RATELIMIT_MODEL_STEPS", 400_000);
    let (mut allowed, mut asked) = (0, 0);
    while asked < steps {
        let (mut bucket, mut tat) = (Bucket::default(), None);
        let mut now = 1_700_000_000_000_000_000 + random.below(1 << 60) as i64;
        let mut terms = Terms {
            burst: random.below(20) as i64,
            count: 1 + random.below(1000) as i64,
            period_s: 1 + random.below(100) as i64,
        };
        for _ in 0..50 {
            asked += 1;
            if random.below(10) == 0 {
                terms.burst = random.below(20) as i64;
            }
            let interval = terms.interval_ns() as u64;
            let quantity = random.below(4) as i64;
            allowed += u64::from(compare(&mut bucket, &mut tat, terms, quantity, now));
            now = now.saturating_add(random.below(interval * 3) as i64);
        }
    }
    assert!(allowed > steps / 10 && allowed < steps, "{allowed} of {steps}");
}

#[test]
fn hostile_numbers_are_answered_as_by_a_leaking_bucket() {
    let mut random = Random(number("RATELIMIT_MODEL_SEED", 1) ^ 0xffff);
    let (mut bucket, mut tat) = (Bucket::default(), None);
    let mut now = 0;
    for step in 0..number("RATELIMIT_MODEL_STEPS", 400_000) {
        if step % 5 == 0 {
            (bucket, tat) = (Bucket::default(), None);
            now = random.any().max(0);
        }
        let terms = Terms { burst: random.any(), count: random.any(), period_s: random.any() };
        compare(&mut bucket, &mut tat, terms, random.any(), now);
        now = now.saturating_add(random.any().max(0) >> random.below(63));
    }
}

#[test]
fn every_combination_of_extremes_has_an_answer() {
    const EXTREMES: &[i64] =
        &[i64::MIN, -1, 0, 1, 2, 1_000_000_000, 1 << 53, i64::MAX / 1_000_000_000, i64::MAX - 1, i64::MAX];
    for &burst in EXTREMES {
        for &count in EXTREMES {
            for &period_s in EXTREMES {
                for &quantity in EXTREMES {
                    for &now in &EXTREMES[2..] {
                        let terms = Terms { burst, count, period_s };
                        let mut bucket = Bucket::default();
                        compare(&mut bucket, &mut None, terms, quantity, now);
                        for &tat in &EXTREMES[2..] {
                            bucket = Bucket { debt_ns: tat.into(), at_ns: 0 };
                            compare(&mut bucket, &mut Some(tat), terms, quantity, now);
                        }
                    }
                }
            }
        }
    }
}
