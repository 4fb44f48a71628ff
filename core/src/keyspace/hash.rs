//! The hash of a byte string: one function, one seed for the life of the process.

use std::hash::{BuildHasher, Hasher};
use std::sync::LazyLock;

use foldhash::quality::RandomState;

/// Seeded once, so that a peer cannot choose keys that collide and every table agrees on the order of its scan.
static STATE: LazyLock<RandomState> = LazyLock::new(RandomState::default);

/// The hash of `bytes`, the same throughout this process and different in the next.
///
/// All 64 bits are well mixed: tables use the high ones for the place and the low ones for the tag.
#[inline]
pub fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = STATE.build_hasher();
    hasher.write(bytes);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::hash;

    #[test]
    fn equal_bytes_hash_equally() {
        assert_eq!(hash(b"user:1"), hash(String::from("user:1").as_bytes()));
    }

    #[test]
    fn repetitions_of_a_byte_differ_by_length() {
        let hashes: HashSet<u64> = (0..200).map(|length| hash(&vec![b'a'; length])).collect();
        assert_eq!(hashes.len(), 200);
    }

    #[test]
    fn high_and_low_bits_are_spread_evenly() {
        let (mut high, mut low) = ([0u32; 16], [0u32; 16]);
        for i in 0..16_000u32 {
            let hash = hash(&i.to_le_bytes());
            high[(hash >> 60) as usize] += 1;
            low[(hash & 15) as usize] += 1;
        }
        // Expected 1000 each with a deviation of 31.
        assert!(high.iter().chain(&low).all(|&n| (800..1200).contains(&n)), "{high:?} {low:?}");
    }
}
