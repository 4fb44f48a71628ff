//! Active expiry: finding what has expired without being asked for.
//!
//! Walks only through segments that may have something: the table knows which.

use super::db::Db;

/// Keys that have expired, or whose values have parts that have, found on a walk through a database.
#[derive(Default)]
pub struct Found {
    /// The keys. Whoever walks removes them, or the parts.
    pub keys: Vec<Box<[u8]>>,
    /// Whether the walk came to the end of the table.
    pub wrapped: bool,
}

/// Walks on from where the last walk ended until `limit` expired keys are found, `segments` were looked at, or the table
/// ends.
pub fn walk(db: &mut Db, now_ms: i64, limit: usize, segments: usize) -> Found {
    let mut found = Found::default();
    for _ in 0..segments {
        let (from, left) = (db.expire_from, limit - found.keys.len());
        let keys = &mut found.keys;
        let next = db.dict_mut().visit_expired(from, now_ms, left, |entry| keys.push(entry.key().into()));
        db.expire_from = next.unwrap_or(0);
        found.wrapped = next.is_none();
        if found.wrapped || found.keys.len() == limit {
            break;
        }
    }
    found
}

/// The same for keys whose values have parts that have expired. Whoever walks removes such parts, and goes back to where
/// the walk began if that left some.
pub fn walk_parts(db: &mut Db, now_ms: i64, limit: usize, segments: usize) -> Found {
    let mut found = Found::default();
    for _ in 0..segments {
        let (from, left) = (db.expire_parts_from, limit - found.keys.len());
        let keys = &mut found.keys;
        let next =
            db.dict_mut().visit_partly_expired(from, now_ms, left, |entry| keys.push(entry.key().into()));
        db.expire_parts_from = next.unwrap_or(0);
        found.wrapped = next.is_none();
        if found.wrapped || found.keys.len() == limit {
            break;
        }
    }
    found
}
