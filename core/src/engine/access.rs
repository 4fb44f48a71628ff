//! How use of a key is noted in its entry: 24 bits, the time of the last use or, under an LFU policy, how often it is
//! used.

use crate::keys::KeyspaceConfig;
use crate::persistence::snapshot::file::Usage;

/// The clock that entries carry. Without LFU: seconds, wrapping. With LFU: sixteen bits of minutes, wrapping, above an
/// eight-bit counter that grows with the logarithm of the uses and decays with time.
#[derive(Clone, Copy, Default)]
pub struct AccessClock {
    seconds: u32,
    lfu: Option<Lfu>,
}

#[derive(Clone, Copy)]
struct Lfu {
    minutes: u32,
    log_factor: u32,
    decay_minutes: u32,
    random: u32,
}

impl AccessClock {
    const MASK: i64 = 0x00ff_ffff;
    const MINUTES_MASK: u32 = 0xffff;
    /// The counter of a new key: it needs some time to show whether it is used.
    const COUNTER_FRESH: u32 = 5;
    const COUNTER_MAX: u32 = 255;

    /// The clock at a time. Chance decides whether a use is counted.
    #[inline(always)]
    pub fn new(now_ms: i64, config: &KeyspaceConfig, random: impl FnOnce() -> u64) -> AccessClock {
        let seconds = ((now_ms / 1000) & Self::MASK) as u32;
        let lfu = config.maxmemory_policy.is_lfu().then(|| Lfu {
            minutes: (now_ms / 60_000) as u32 & Self::MINUTES_MASK,
            log_factor: config.lfu_log_factor,
            decay_minutes: config.lfu_decay_time,
            random: random() as u32,
        });
        AccessClock { seconds, lfu }
    }

    /// What an entry carries after an access. An entry that never carried anything is a new one.
    #[inline(always)]
    pub fn touched(self, before: u32) -> u32 {
        match self.lfu {
            None => self.seconds,
            Some(lfu) if before == 0 => lfu.minutes << 8 | Self::COUNTER_FRESH,
            Some(lfu) => lfu.minutes << 8 | lfu.counted(before),
        }
    }

    /// The time itself: seconds, wrapping.
    pub fn seconds(self) -> u32 {
        self.seconds
    }

    /// How long ago an entry was used, in seconds.
    pub fn idle_seconds(self, clock: u32) -> u32 {
        self.seconds.wrapping_sub(clock) & Self::MASK as u32
    }

    /// The clock that an entry unused for some seconds would carry.
    pub fn idle_for(self, seconds: u32) -> u32 {
        self.seconds.wrapping_sub(seconds) & Self::MASK as u32
    }

    /// What an entry carries that was saved with what a file says of its use; what that does not say, it begins anew.
    pub fn restored(self, usage: Usage) -> u32 {
        match (usage, self.lfu) {
            (Usage::Frequency(counter), Some(lfu)) => lfu.minutes << 8 | u32::from(counter),
            (Usage::IdleSeconds(seconds), None) => self.idle_for(seconds.min(Self::MASK as u64) as u32),
            _ => self.touched(0),
        }
    }

    /// An entry's counter of use as it stands after its decay.
    pub fn frequency(self, clock: u32) -> u32 {
        self.lfu.map_or(clock & Self::COUNTER_MAX, |lfu| lfu.decayed(clock))
    }
}

impl Lfu {
    fn decayed(self, clock: u32) -> u32 {
        let counter = clock & AccessClock::COUNTER_MAX;
        let unused = self.minutes.wrapping_sub(clock >> 8) & AccessClock::MINUTES_MASK;
        counter.saturating_sub(unused.checked_div(self.decay_minutes).unwrap_or(0))
    }

    #[cold]
    fn counted(self, clock: u32) -> u32 {
        let counter = self.decayed(clock);
        if counter == AccessClock::COUNTER_MAX {
            return counter;
        }
        // The higher it stands, the fewer uses count.
        let above = u64::from(counter.saturating_sub(AccessClock::COUNTER_FRESH));
        let odds = above * u64::from(self.log_factor) + 1;
        // Mixed with the clock, so that keys used in one batch do not share their luck.
        let luck = (self.random ^ clock.wrapping_mul(0x9e37_79b9)).wrapping_mul(0x85eb_ca6b);
        counter + u32::from(u64::from(luck) * odds < 1 << 32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minutes: u32, random: u32) -> AccessClock {
        AccessClock { seconds: 0, lfu: Some(Lfu { minutes, log_factor: 10, decay_minutes: 1, random }) }
    }

    #[test]
    fn a_counter_grows_with_use_and_decays_without() {
        let mut clock = at(100, 0).touched(0);
        assert_eq!(at(100, 0).frequency(clock), 5);
        for use_ in 0..1000u32 {
            clock = at(100, use_.wrapping_mul(0x27d4_eb2f)).touched(clock);
        }
        let frequency = at(100, 0).frequency(clock);
        assert!((8..40).contains(&frequency), "{frequency}");
        assert_eq!(at(103, 0).frequency(clock), frequency - 3);
        assert_eq!(at(99 + 0x10000 - 100, 0).frequency(clock), 0);
    }

    #[test]
    fn idle_time_wraps() {
        let clock = AccessClock { seconds: 3, lfu: None };
        assert_eq!(clock.idle_seconds(clock.idle_for(10)), 10);
    }
}
