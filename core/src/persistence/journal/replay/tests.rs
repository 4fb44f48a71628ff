//! What becomes of journals that are played, whole and broken.

use super::super::super::disk::MemoryDisk;
use super::super::super::snapshot::file::{Saving, Usage};
use super::*;
use crate::engine::testing::Bench;
use crate::keyspace::{Entry, NewValue};

/// Requests as they stand in a file: one a line.
fn requests(lines: &str) -> Vec<u8> {
    let mut file = Vec::new();
    for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let words: Vec<_> = line.split(' ').collect();
        file.extend(format!("*{}\r\n", words.len()).bytes());
        words.iter().for_each(|word| file.extend(format!("${}\r\n{word}\r\n", word.len()).bytes()));
    }
    file
}

/// A snapshot with one key that has expired.
fn snapshot() -> Vec<u8> {
    let mut file = Saving::begin(Vec::new(), true, true).unwrap();
    file.database(0, 1, 1).unwrap();
    let mut entry = Entry::new(b"old", NewValue::Integer(1));
    entry.set_deadline(Some(1000));
    file.entry(&entry, Usage::Unknown).unwrap();
    file.finish().unwrap()
}

const MANIFEST: &str = "j/a.aof.manifest";
const BASE: &str = "file a.aof.1.base.aof seq 1 type b\n";
const FIRST: &str = "file a.aof.1.incr.aof seq 1 type i\n";
const SECOND: &str = "file a.aof.2.incr.aof seq 2 type i\n";

struct Loading {
    bench: Bench,
    disk: MemoryDisk,
}

impl Loading {
    fn new(manifest: &[&str], files: &[(&str, &[u8])]) -> Loading {
        let (mut bench, disk) = (Bench::new(), MemoryDisk::default());
        bench.engine.config.server.dir = "/d".to_owned();
        bench.engine.config.journal.appenddirname.0 = "j".to_owned();
        bench.engine.config.journal.appendfilename.0 = "a.aof".to_owned();
        if !manifest.is_empty() {
            disk.put(format!("/d/{MANIFEST}"), manifest.concat().into_bytes());
        }
        files.iter().for_each(|(name, bytes)| disk.put(format!("/d/{name}"), bytes.to_vec()));
        bench.engine.persistence.disk = Arc::new(disk.clone());
        Loading { bench, disk }
    }

    fn load(&mut self) -> std::result::Result<Found, String> {
        self.bench.engine.set_loading(true);
        load(&AtHand(RefCell::new(&mut self.bench.engine))).map_err(|end| match end {
            End::Failed(reason) => reason,
            End::Stopped => "stopped".to_owned(),
        })
    }

    fn len(&self, name: &str) -> usize {
        self.disk.read(format!("/d/{name}")).expect("it is there").len()
    }

    /// What a client is told, on the wire.
    fn says(&mut self, line: &str) -> String {
        self.bench.engine.set_loading(false);
        let client = self.bench.connect();
        self.bench.ask(client, &[line])
    }
}

#[test]
fn parts_are_played_in_order() {
    let base = [snapshot(), requests("SET k base")].concat();
    let first =
        [&b"#TS:1700000000\r\n"[..], &requests("SELECT 3\nAPPEND k a\nSELECT 0\nAPPEND k +1")].concat();
    let second = requests(
        "MULTI\nSET m 0\nSELECT 3\nSET m 3\nSELECT 0\nSET n 0\nEXEC\nAPPEND k +2\nPERSIST old\nSET gone 1 PXAT 1000\nPING\nGET k\nDEL none",
    );
    let files =
        [("j/a.aof.1.base.aof", &base[..]), ("j/a.aof.1.incr.aof", &first), ("j/a.aof.2.incr.aof", &second)];
    let mut loading = Loading::new(&[BASE, FIRST, SECOND], &files);
    let found = loading.load().unwrap();
    assert_eq!(
        (found.size, found.base_size),
        ((base.len() + first.len() + second.len()) as u64, base.len() as u64)
    );
    assert_eq!(found.manifest.parts().count(), 3);
    assert_eq!(loading.bench.engine.persistence.loaded.keys, 1);
    assert_eq!(loading.bench.engine.stats.commands_processed, 0, "nobody has said anything");
    assert_eq!(loading.says("GET k"), "$8\r\nbase+1+2\r\n");
    assert_eq!(loading.says("TTL old"), ":-1\r\n", "a key that had expired is there for what comes later");
    assert_eq!(loading.says("EXISTS gone"), ":0\r\n");
    assert_eq!(loading.says("MOVE k 3"), ":0\r\n", "each file chooses its database anew");
    assert_eq!(loading.says("MGET m n"), "*2\r\n$1\r\n0\r\n$1\r\n0\r\n", "and so does a unit");
}

#[test]
fn functions_are_not_passed_over() {
    let files = [("j/a.aof.1.incr.aof", &requests("SET k 1\nfunction LOAD code\nSET k 2")[..])];
    let reason = Loading::new(&[FIRST], &files).load().unwrap_err();
    assert!(
        reason.starts_with(
            "Unknown command 'FUNCTION' reading the append only file a.aof.1.incr.aof: it loads"
        )
    );
    assert!(reason.contains("BGREWRITEAOF"), "what to do about it: {reason}");
}

#[test]
fn what_was_named_before_anything_was_written_is_no_end() {
    let (whole, tail) = (requests("SET k 1"), requests("SET k 2"));
    let torn = [&whole[..], &tail[..5]].concat();
    for (second, is_mended) in [(&b""[..], true), (&whole, false)] {
        let files = [("j/a.aof.1.incr.aof", &torn[..]), ("j/a.aof.2.incr.aof", second)];
        let mut loading = Loading::new(&[FIRST, SECOND], &files);
        match loading.load() {
            Ok(found) if is_mended => assert_eq!(found.size as usize, whole.len()),
            Err(reason) if !is_mended => {
                assert_eq!(reason, "Fatal error: the truncated file is not the last file");
            }
            other => panic!("{is_mended}: {other:?}"),
        }
        let left = if is_mended { whole.len() } else { torn.len() };
        assert_eq!(loading.len("j/a.aof.1.incr.aof"), left);
    }
}

#[test]
fn the_end_is_mended() {
    let whole = requests("SET k 1");
    for (tail, is_in_unit) in [
        (requests("SET k 2"), false),
        (requests("MULTI\nSET k 2\nSET l 3\nEXEC"), true),
        (b"#TS:1700000000\r\n".to_vec(), false),
    ] {
        for len in 1..tail.len() {
            let file = [&whole, &tail[..len]].concat();
            let files = [("j/a.aof.1.base.aof", &whole[..]), ("j/a.aof.1.incr.aof", &file)];
            let mut loading = Loading::new(&[BASE, FIRST], &files);
            let found = loading.load().unwrap();
            assert_eq!(
                (loading.len("j/a.aof.1.incr.aof"), found.size as usize),
                (whole.len(), 2 * whole.len())
            );
            assert_eq!(loading.says("GET k"), "$1\r\n1\r\n", "{len}");
            assert_eq!(loading.says("EXISTS l"), ":0\r\n", "{len}");

            for (manifest, may_mend, says) in [
                (
                    &[BASE, FIRST][..],
                    false,
                    "Unexpected end of file reading the append only file a.aof.1.incr.aof. You",
                ),
                (&[BASE, FIRST, SECOND], true, "Fatal error: the truncated file is not the last file"),
            ] {
                let files = [files[0], files[1], ("j/a.aof.2.incr.aof", &whole)];
                let mut loading = Loading::new(manifest, &files);
                loading.bench.engine.config.journal.aof_load_truncated = may_mend;
                let reason = loading.load().unwrap_err();
                assert!(reason.starts_with(says), "{reason}");
                assert_eq!(loading.len("j/a.aof.1.incr.aof"), file.len(), "nothing is touched");
            }
        }
        if is_in_unit {
            let file = [&whole, &tail[..]].concat();
            let mut loading = Loading::new(&[FIRST], &[("j/a.aof.1.incr.aof", &file)]);
            loading.load().unwrap();
            assert_eq!(loading.says("MGET k l"), "*2\r\n$1\r\n2\r\n$1\r\n3\r\n");
        }
    }
}

#[test]
fn what_ends_the_start() {
    let in_first = " reading the append only file a.aof.1.incr.aof";
    for (file, reason) in [
        (
            &b"!\r\n"[..],
            format!(
                "Bad file format{in_first}: make a backup of your AOF file, then use ./redis-check-aof --fix <filename.manifest>"
            ),
        ),
        (
            b"*0\r\n",
            format!(
                "Bad file format{in_first}: make a backup of your AOF file, then use ./redis-check-aof --fix <filename.manifest>"
            ),
        ),
        (&requests("SOT k 1"), format!("Unknown command 'SOT'{in_first}")),
        (&requests("CONFIG NOTHING"), format!("Unknown command 'CONFIG'{in_first}")),
        (&requests("SET k"), format!("Wrong number of arguments for 'set'{in_first}")),
        (
            &requests("SELECT 16\nSET k 1"),
            "FATAL: Data file was created with a server configured to handle more than 16 databases. Exiting"
                .to_owned(),
        ),
        (&snapshot()[..20], "Terminating server after rdb file reading failure.".to_owned()),
    ] {
        let file = [file, &requests("SET k 2")].concat();
        let mut loading = Loading::new(&[FIRST], &[("j/a.aof.1.incr.aof", &file)]);
        assert_eq!(loading.load().unwrap_err(), reason);
    }
    for (manifest, reason) in [
        (
            &[BASE, FIRST][..],
            "Unable to obtain the AOF file a.aof.1.base.aof length. stat: No such file or directory",
        ),
        (
            &["x\n"],
            "\n*** FATAL AOF MANIFEST FILE ERROR ***\nReading the manifest file, at line 1\n>>> 'x'\nInvalid AOF manifest file format",
        ),
    ] {
        assert_eq!(Loading::new(manifest, &[]).load().unwrap_err(), reason);
    }
}

#[test]
fn there_may_be_nothing() {
    for (manifest, files) in [
        (&[][..], &[][..]),
        (&["# nothing\n"], &[]),
        (&[BASE, FIRST], &[("j/a.aof.1.base.aof", &b""[..]), ("j/a.aof.1.incr.aof", b"")]),
    ] {
        let found = Loading::new(manifest, files).load().unwrap();
        assert_eq!((found.size, found.base_size), (0, 0));
    }
    let files = [("j/a.aof.1.base.aof", &b""[..]), ("j/a.aof.1.incr.aof", &requests("SET k 1"))];
    let mut loading = Loading::new(&[BASE, FIRST], &files);
    loading.load().unwrap();
    assert_eq!(loading.says("GET k"), "$1\r\n1\r\n");
}

#[test]
fn an_old_style_journal_is_moved() {
    let (old, inside) = (requests("SET k old"), requests("SET k inside"));
    let begun = "file a.aof seq 1 type b\n";
    for (manifest, files, says, is_moved) in [
        (&[][..], &[("a.aof", &old[..])][..], "old", true),
        (&[begun], &[("a.aof", &old)], "old", true),
        (&[begun], &[("a.aof", &old), ("j/a.aof", &inside)], "inside", false),
        (&[FIRST], &[("a.aof", &old), ("j/a.aof.1.incr.aof", &inside)], "inside", false),
    ] {
        let mut loading = Loading::new(manifest, files);
        loading.load().unwrap();
        assert_eq!(loading.says("GET k"), format!("${}\r\n{says}\r\n", says.len()));
        assert_eq!(loading.disk.read("/d/a.aof").is_none(), is_moved);
        if is_moved {
            assert_eq!(loading.disk.read(format!("/d/{MANIFEST}")).unwrap(), begun.as_bytes());
            assert_eq!(loading.disk.read("/d/j/a.aof").unwrap(), old);
        }
    }
}

#[test]
fn the_data_is_replaced_by_what_the_journal_holds() {
    let mut loading = Loading::new(&[FIRST], &[("j/a.aof.1.incr.aof", &requests("RPUSH list a b"))]);
    let client = loading.bench.connect();
    loading.bench.ask(client, &["SET k 1"]);
    let waiting = loading.bench.connect();
    loading.bench.ask(waiting, &["BLPOP list 0"]);
    let dirty = loading.bench.engine.unit.dirty;
    loading.bench.engine.reload_journal().unwrap();
    assert_eq!(loading.bench.engine.unit.dirty, dirty);
    assert_eq!(loading.says("EXISTS k"), ":0\r\n");
    assert_eq!(
        loading.says("LRANGE list 0 -1"),
        "*2\r\n$1\r\na\r\n$1\r\nb\r\n",
        "nobody took from it meanwhile"
    );
    assert!(loading.disk.names().len() == 2);
}

#[test]
fn commands_go_by_the_names_that_they_had() {
    let mut loading = Loading::new(&[FIRST], &[("j/a.aof.1.incr.aof", &requests("SET k 1\nDEL k\nset l 1"))]);
    let mut registry = Registry::clone(&loading.bench.engine.registry);
    registry.rename("DEL", "").unwrap();
    loading.bench.engine.registry = Arc::new(registry);
    loading.load().unwrap();
    assert_eq!(loading.says("EXISTS k l"), ":1\r\n");
}
