//! A large hash of which some fields have deadlines: beside the table of fields, one of deadlines by field.
//!
//! Which fields have expired is found without an order of them. The hashes of fields are divided into ranges, as many as
//! there are deadlines by the hundred, and for each range stands a moment before which nothing in it expires: whoever
//! looks for what has expired walks only through ranges that are due. A deadline so costs its field's name and some eight
//! bytes, and a hash without deadlines nothing.

use triomphe::Arc;

use super::packed::{DeadlineBytes, read_deadline};
use crate::types::table::Table;

/// How many deadlines there may be to a range, on average, before ranges are halved.
const RANGE_LEN_MAX: usize = 128;
/// How many there are on average, before two ranges become one.
const RANGE_LEN_MIN: usize = RANGE_LEN_MAX / 8;
/// How many deadlines are looked at in one step, about.
const VISITED_MAX: usize = 1024;
/// A cursor of [`Table::scan`] is a hash without its lowest bits.
const CURSOR_BITS: u32 = 48;

/// A hash of which some fields have deadlines. `Clone` shares.
#[derive(Clone)]
pub struct ExpiringHash {
    table: Table,
    /// Deadlines by field.
    deadlines: Table,
    /// For each range of hashes, before which moment no field expires.
    bounds: Arc<Vec<i64>>,
    /// The least of the bounds.
    due: i64,
}

impl ExpiringHash {
    /// The fields of a table, none of which has a deadline yet.
    pub(super) fn new(table: Table) -> ExpiringHash {
        ExpiringHash { table, deadlines: Table::new(), bounds: Arc::new(vec![i64::MAX]), due: i64::MAX }
    }

    /// All fields with their values.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// The same, to be given what has no deadline.
    pub(super) fn table_mut(&mut self) -> &mut Table {
        &mut self.table
    }

    /// The fields alone, once none has a deadline.
    pub(super) fn into_table(self) -> Table {
        self.table
    }

    /// How many fields have a deadline.
    pub fn expiring(&self) -> usize {
        self.deadlines.len()
    }

    /// Before this moment no field expires.
    pub fn due(&self) -> i64 {
        self.due
    }

    /// Bytes on the heap.
    pub fn memory(&self) -> usize {
        size_of::<ExpiringHash>()
            + self.table.memory()
            + self.deadlines.memory()
            + self.bounds.capacity() * size_of::<i64>()
    }

    /// Every field that has a deadline, with it.
    pub fn deadlines(&self) -> impl Iterator<Item = (&[u8], i64)> {
        self.deadlines.iter().filter_map(|(field, deadline)| Some((field, read_deadline(deadline)?)))
    }

    /// When a field expires.
    pub fn deadline(&self, field: &[u8]) -> Option<i64> {
        self.deadlines.get(field).and_then(read_deadline)
    }

    /// Whether a field has expired.
    pub fn has_expired(&self, field: &[u8], now_ms: i64) -> bool {
        if self.due > now_ms {
            return false;
        }
        let hash = Table::hash(field);
        self.bounds[self.range_of(hash)] <= now_ms
            && self
                .deadlines
                .get_hashed(hash, field)
                .and_then(read_deadline)
                .is_some_and(|deadline| deadline <= now_ms)
    }

    /// Sets or removes the deadline of a field.
    pub(super) fn set_deadline(&mut self, field: &[u8], deadline: Option<i64>) {
        let hash = Table::hash(field);
        let Some(deadline) = deadline else {
            self.remove_deadline(hash, field);
            return;
        };
        self.deadlines.set_hashed(hash, field, DeadlineBytes::new(Some(deadline)).get());
        while self.deadlines.len() > self.bounds.len() * RANGE_LEN_MAX {
            self.bounds = Arc::new(self.bounds.iter().flat_map(|&bound| [bound; 2]).collect());
        }
        let range = self.range_of(hash);
        if deadline < self.bounds[range] {
            Arc::make_mut(&mut self.bounds)[range] = deadline;
        }
        self.due = self.due.min(deadline);
    }

    /// Removes a field with its deadline; false if there was none.
    pub(super) fn remove(&mut self, field: &[u8]) -> bool {
        let hash = Table::hash(field);
        self.remove_deadline(hash, field);
        self.table.remove_hashed(hash, field)
    }

    fn remove_deadline(&mut self, hash: u64, field: &[u8]) {
        self.deadlines.remove_hashed(hash, field);
        if self.bounds.len() > 1 && self.deadlines.len() < self.bounds.len() * RANGE_LEN_MIN {
            let pairs = self.bounds.as_chunks::<2>().0.iter();
            self.bounds = Arc::new(pairs.map(|[one, other]| *one.min(other)).collect());
        }
    }

    /// Fields that have expired, `limit` at most; there may be more if `due` still says so afterwards. Where a bound
    /// turns out to be too early, it is made exact. Whoever asks removes the fields.
    pub(super) fn expired(&mut self, now_ms: i64, limit: usize) -> Vec<Box<[u8]>> {
        let mut found = Vec::new();
        let width = u64::MAX >> (u64::BITS - CURSOR_BITS) >> self.range_bits();
        let (mut range, mut visited) = (0, 0);
        while let Some(ahead) = self.bounds[range..].iter().position(|&bound| bound <= now_ms) {
            range += ahead;
            let (first, last) = ((width + 1) * range as u64, (width + 1) * range as u64 + width);
            let (mut cursor, mut bound) = (first, i64::MAX);
            loop {
                cursor = self.deadlines.scan(cursor, 1, &mut |field, deadline| {
                    visited += 1;
                    let deadline = read_deadline(deadline).unwrap_or(i64::MAX);
                    if deadline > now_ms || found.len() >= limit {
                        bound = bound.min(deadline);
                    } else {
                        found.push(field.into());
                    }
                });
                if cursor == 0 || cursor > last || bound <= now_ms {
                    break;
                }
            }
            if bound <= now_ms {
                break;
            }
            Arc::make_mut(&mut self.bounds)[range] = bound;
            range += 1;
            if found.len() >= limit || visited >= VISITED_MAX || range == self.bounds.len() {
                break;
            }
        }
        self.due = self.bounds.iter().copied().min().unwrap_or(i64::MAX);
        found
    }

    fn range_bits(&self) -> u32 {
        self.bounds.len().trailing_zeros()
    }

    fn range_of(&self, hash: u64) -> usize {
        // In two steps, for a single range.
        (hash >> 1 >> (63 - self.range_bits())) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(n: i64) -> Vec<u8> {
        format!("field:{n}").into_bytes()
    }

    #[test]
    fn what_has_expired_is_found_in_portions_and_nothing_else() {
        let mut table = Table::new();
        (0..20_000).for_each(|n| {
            table.set(&name(n), b"value");
        });
        let mut hash = ExpiringHash::new(table);
        (0..20_000).step_by(2).for_each(|n| hash.set_deadline(&name(n), Some(n)));
        assert_eq!((hash.expiring(), hash.due()), (10_000, 0));
        assert!(hash.bounds.len() >= 64);
        let copy = hash.clone();

        let mut gone = 0;
        loop {
            let found = hash.expired(9_998, 100);
            assert!(found.len() <= 100);
            if hash.due() > 9_998 && found.is_empty() {
                break;
            }
            gone += found.len();
            for field in found {
                assert!(hash.deadline(&field) <= Some(9_998));
                assert!(hash.remove(&field));
            }
        }
        assert_eq!((gone, hash.table().len(), hash.expiring()), (5_000, 15_000, 5_000));
        assert_eq!(hash.due(), 10_000, "what nothing expires before is exact once it was looked for");
        assert!(!hash.has_expired(&name(10_000), 9_999) && hash.has_expired(&name(10_000), 10_000));
        assert_eq!((copy.table().len(), copy.due()), (20_000, 0), "a clone is not touched");
    }

    #[test]
    fn ranges_become_fewer_as_deadlines_do() {
        const FIELDS: i64 = 50_000;
        let mut hash = ExpiringHash::new(Table::new());
        (0..FIELDS).for_each(|n| hash.set_deadline(&name(n), Some(n + 1)));
        let most = hash.bounds.len();
        for (left, ranges_max) in [(20_000, most), (1_000, 64), (100, 8), (3, 1), (0, 1)] {
            (left..FIELDS).for_each(|n| hash.set_deadline(&name(n), None));
            assert!(hash.bounds.len() <= ranges_max, "{left}: {}", hash.bounds.len());
            assert!((0..left).all(|n| hash.has_expired(&name(n), n + 1) && !hash.has_expired(&name(n), n)));
        }
        (0..FIELDS).for_each(|n| hash.set_deadline(&name(n), Some(n + 1)));
        assert_eq!(hash.bounds.len(), most);
        let mut gone = 0;
        while hash.due() <= 10 {
            let found = hash.expired(10, 100);
            gone += found.len();
            found.iter().for_each(|field| _ = hash.remove(field));
        }
        assert_eq!(gone, 10);
    }

    #[test]
    fn a_deadline_may_move_and_go() {
        let mut table = Table::new();
        table.set(b"f", b"v");
        let mut hash = ExpiringHash::new(table);
        hash.set_deadline(b"f", Some(5));
        hash.set_deadline(b"f", Some(50));
        assert_eq!((hash.due(), hash.deadline(b"f")), (5, Some(50)), "a bound may be too early");
        assert!(hash.expired(10, 10).is_empty());
        assert_eq!(hash.due(), 50);
        hash.set_deadline(b"f", None);
        assert_eq!((hash.expiring(), hash.deadline(b"f")), (0, None));
        assert!(hash.expired(100, 10).is_empty());
        assert_eq!(hash.due(), i64::MAX);
    }
}
