//! Active expiry: finding what has expired without being asked for.
//!
//! Walks segment by segment; a segment whose header rules out expired entries costs one look.

use super::db::Db;

/// Keys that have expired, found on a walk through a database.
#[derive(Default)]
pub struct Found {
    /// The keys.
    pub keys: Vec<Box<[u8]>>,
    /// Whether the walk came to the end of the table.
    pub wrapped: bool,
}

/// Walks on from where the last walk ended until `limit` expired keys are found, `segments` were looked at, or the table
/// ends.
pub fn walk(db: &mut Db, now_ms: i64, limit: usize, segments: usize) -> Found {
    let mut found = Found::default();
    if db.dict().expiring() == 0 {
        db.expire_from = 0;
        found.wrapped = true;
        return found;
    }
    for _ in 0..segments {
        let from = db.expire_from;
        let next = db.dict_mut().visit_expired(from, now_ms, |entry| found.keys.push(entry.key().into()));
        db.expire_from = next.unwrap_or(0);
        if next.is_none() {
            found.wrapped = true;
            break;
        }
        if found.keys.len() >= limit {
            break;
        }
    }
    found
}
