//! Looking at a snapshot's file without a server: what `redis-check-rdb` does, and `mortise-server` under that name.

use std::fmt::Write as _;
use std::io;
use std::path::Path;

use super::disk::Disk;
use super::snapshot::file::{CHECKED_SINCE, Item, Loading, SIGNATURE};
use super::snapshot::value::{Around, NoTypes};
use super::snapshot::{Broken, Reader};
use crate::engine::edit::Limits;
use crate::types::frozen::FrozenTypes;

/// What there is to say of a file, and whether it is whole.
pub struct Finding {
    /// Lines for an operator.
    pub text: String,
    /// Whether it can be loaded.
    pub is_ok: bool,
}

#[derive(Default)]
struct Counts {
    keys: u64,
    expiring: u64,
    expired: u64,
}

/// Reads a file from its beginning to its end.
pub fn check(path: &Path, disk: &dyn Disk, now_ms: i64) -> io::Result<Finding> {
    let mut opened = disk.open(path)?;
    Ok(check_medium(&path.display().to_string(), &mut *opened.data, now_ms).0)
}

/// Reads what a medium holds that is called so; says as well how far it was read.
pub(super) fn check_medium(name: &str, medium: &mut dyn io::Read, now_ms: i64) -> (Finding, u64) {
    let (mut text, mut counts) = (format!("[offset 0] Checking RDB file {name}\n"), Counts::default());
    let ended = read(Reader::from_medium(medium), now_ms, &mut text, &mut counts);
    let is_ok = ended.is_ok();
    let end = match &ended {
        Ok((end, _)) | Err((end, ..)) => *end,
    };
    // Writing to a text cannot fail.
    let _ = match &ended {
        Ok((offset, has_checksum)) => {
            let checksum = match has_checksum {
                true => "Checksum OK",
                false => "RDB file was saved with checksum disabled: no check performed.",
            };
            writeln!(text, "[offset {offset}] {checksum}\n[offset {offset}] \\o/ RDB looks OK! \\o/")
        }
        Err((offset, doing, reason)) => writeln!(
            text,
            "--- RDB ERROR DETECTED ---\n[offset {offset}] {}\n[additional info] While doing: {doing}",
            words(reason)
        ),
    };
    let Counts { keys, expiring, expired } = counts;
    let _ = writeln!(
        text,
        "[info] {keys} keys read\n[info] {expiring} expires\n[info] {expired} already expired"
    );
    (Finding { text, is_ok }, end)
}

fn words(reason: &Broken) -> String {
    match reason {
        Broken::CutShort => "Unexpected EOF reading RDB file".to_owned(),
        Broken::Checksum { .. } => "RDB CRC error".to_owned(),
        Broken::Malformed(SIGNATURE) => "Wrong signature trying to load DB from file".to_owned(),
        other => other.to_string(),
    }
}

/// Bytes of signature and version.
const HEAD_LEN: u64 = 9;

/// The end and whether there was a checksum; or where it broke off, what was being read, and why.
type Ended = Result<(u64, bool), (u64, &'static str, Broken)>;

fn read(from: Reader<'_>, now_ms: i64, text: &mut String, counts: &mut Counts) -> Ended {
    let frozen = FrozenTypes::default();
    let around = Around { limits: Limits::default(), types: &NoTypes, frozen: Some(&frozen) };
    let mut file = Loading::begin(from, true).map_err(|reason| {
        let offset = if matches!(reason, Broken::CutShort | Broken::Io(_)) { 0 } else { HEAD_LEN };
        (offset, "start", reason)
    })?;
    loop {
        let item = file.next(around).map_err(|reason| {
            let doing =
                if matches!(reason, Broken::Checksum { .. }) { "check-sum" } else { "read-object-value" };
            (file.position(), doing, reason)
        })?;
        let offset = file.position();
        let _ = match item {
            None => return Ok((offset, file.has_checksum() || file.version() < CHECKED_SINCE)),
            Some(Item::About(name, value)) => {
                writeln!(
                    text,
                    "[offset {offset}] AUX FIELD {} = '{}'",
                    name.escape_ascii(),
                    value.escape_ascii()
                )
            }
            Some(Item::Database(index)) => writeln!(text, "[offset {offset}] Selecting DB ID {index}"),
            Some(Item::Key(key)) => {
                counts.keys += 1;
                counts.expiring += u64::from(key.deadline.is_some());
                counts.expired += u64::from(key.deadline.is_some_and(|deadline| deadline < now_ms));
                Ok(())
            }
            Some(Item::Empty(key)) => {
                writeln!(text, "[offset {offset}] Skipping empty key: {}", key.escape_ascii())
            }
            Some(Item::Module(name, _)) => writeln!(text, "[offset {offset}] MODULE AUX for: {name}"),
            Some(Item::Function(_) | Item::Sizes { .. }) => Ok(()),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyspace::{Entry, NewValue};
    use crate::persistence::disk::MemoryDisk;
    use crate::persistence::snapshot::file::{Saving, Usage};

    #[test]
    fn a_file_is_found_whole_or_not() {
        let mut file = Saving::begin(Vec::new(), true, true).unwrap();
        file.about("redis-ver", b"7.0.15").unwrap();
        file.database(0, 1, 1).unwrap();
        let mut entry = Entry::new(b"key", NewValue::Integer(7));
        entry.set_deadline(Some(5));
        file.entry(&entry, Usage::Unknown).unwrap();
        let bytes = file.finish().unwrap();
        let found = |bytes: &[u8]| {
            let disk = MemoryDisk::default();
            disk.put("a.rdb", bytes.to_vec());
            check(Path::new("a.rdb"), &disk, 10).unwrap()
        };
        let whole = found(&bytes);
        assert!(whole.is_ok, "{}", whole.text);
        assert_eq!(
            whole.text,
            "[offset 0] Checking RDB file a.rdb\n[offset 27] AUX FIELD redis-ver = '7.0.15'\n\
             [offset 29] Selecting DB ID 0\n[offset 57] Checksum OK\n[offset 57] \\o/ RDB looks OK! \\o/\n\
             [info] 1 keys read\n[info] 1 expires\n[info] 1 already expired\n"
        );
        let mut damaged = bytes.clone();
        *damaged.last_mut().unwrap() ^= 1;
        for (bytes, says) in [
            (&damaged[..], "[offset 57] RDB CRC error\n[additional info] While doing: check-sum\n"),
            (&bytes[..40], "Unexpected EOF reading RDB file"),
            (b"RADIS0010", "[offset 9] Wrong signature"),
            (b"REDIS0077", "Can't handle RDB format version 77"),
        ] {
            let finding = found(bytes);
            assert!(!finding.is_ok && finding.text.contains(says), "{}", finding.text);
        }
        assert!(check(Path::new("none"), &MemoryDisk::default(), 0).is_err());
    }
}
