//! A bucket of the table: one cache line, with seven entries and a byte of each one's hash.

use crate::keyspace::entry::Entry;

pub(super) const SLOTS: usize = 7;

#[repr(C, align(64))]
pub(super) struct Bucket {
    /// 0: the slot is free. Otherwise the hash's low byte with the top bit set.
    pub(super) tags: [u8; SLOTS],
    /// How many entries were pushed past this bucket; saturates at 255 and then stays.
    pub(super) overflow: u8,
    pub(super) entries: [Option<Entry>; SLOTS],
}

#[inline(always)]
pub(super) fn tag(hash: u64) -> u8 {
    hash as u8 | 0x80
}

/// Slots of a bucket whose tag may be `tag`: the top bit of each byte. A false match is possible next to a true one,
/// which costs a comparison of keys.
#[inline(always)]
pub(super) fn matches(bucket: &Bucket, tag: u8) -> u64 {
    const LOW: u64 = 0x0001_0101_0101_0101;
    const HIGH: u64 = 0x0080_8080_8080_8080;
    let x = bucket.tag_word() ^ (LOW * u64::from(tag));
    x.wrapping_sub(LOW) & !x & HIGH
}

impl Bucket {
    #[inline(always)]
    fn tag_word(&self) -> u64 {
        let t = &self.tags;
        u64::from_le_bytes([t[0], t[1], t[2], t[3], t[4], t[5], t[6], 0])
    }

    #[inline(always)]
    pub(super) fn free_slot(&self) -> Option<usize> {
        let free = !self.tag_word() & 0x0080_8080_8080_8080;
        (free != 0).then(|| free.trailing_zeros() as usize / 8)
    }

    pub(super) fn occupied(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().flatten()
    }
}
