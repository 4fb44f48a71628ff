//! Snapshots: a file holds the data as it was at one moment, whatever happens while it is written; and whatever the disk
//! does, there is the old file or the new one, whole.

#[path = "support/changes.rs"]
mod changes;

use std::cell::{Cell, RefCell};
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use changes::{Bench, SIZES};
use mortise_core::engine::{Engine, Job};
use mortise_core::keyspace::hash::hash;
use mortise_core::keyspace::{NewValue, SpaceId};
use mortise_core::persistence::cut::{Lender, Snapshot};
use mortise_core::persistence::disk::{AppendFile, Disk, DiskFile, MemoryDisk, Opened};
use mortise_core::persistence::settings::Shutdown;
use mortise_core::persistence::shutdown::Outcome;
use mortise_core::persistence::snapshot::Reader;
use mortise_core::persistence::start::{Ended, load_file};
use mortise_core::types::Object;
use mortise_core::types::foreign::{Foreign, ForeignType};

const FILE: &str = "./dump.rdb";

/// Lends the engine, and lets something happen to it before.
struct Lending<'a, F> {
    bench: RefCell<&'a mut Bench>,
    between: F,
    slices: Cell<usize>,
}

impl<F: Fn(&mut Bench, usize)> Lender for Lending<'_, F> {
    fn lend(&self, what: &mut dyn FnMut(&mut Engine)) -> bool {
        let mut bench = self.bench.borrow_mut();
        (self.between)(&mut bench, self.slices.replace(self.slices.get() + 1));
        // A slice is over after a few steps.
        bench.step_ns.store(30_000, Ordering::Relaxed);
        what(&mut bench.engine);
        bench.step_ns.store(1, Ordering::Relaxed);
        true
    }
}

/// The snapshot that the engine wants written.
fn begun(bench: &mut Bench) -> Box<Snapshot> {
    let mut jobs = std::mem::take(&mut bench.engine.jobs).into_iter();
    let snapshot = jobs.find_map(|job| match job {
        Job::Snapshot(snapshot) => Some(snapshot),
        _ => None,
    });
    snapshot.expect("one is to be written")
}

/// Saves in the background; says in how many slices.
fn save_beside(bench: &mut Bench, between: impl Fn(&mut Bench, usize)) -> usize {
    bench.turn_to(SpaceId::FIRST, 0);
    bench.ask(&[b"BGSAVE"]);
    let snapshot = begun(bench);
    let lending = Lending { bench: RefCell::new(bench), between, slices: Cell::new(0) };
    snapshot.run(&lending);
    lending.slices.get()
}

/// The digest of what a file holds.
fn digest_of(file: &[u8]) -> String {
    let mut other = Bench::new(1);
    other.engine.load(SpaceId::FIRST, Reader::new(file)).expect("the file is whole");
    other.engine.digest()
}

fn memory_disk(bench: &mut Bench) -> MemoryDisk {
    let disk = MemoryDisk::default();
    bench.engine.persistence.disk = Arc::new(disk.clone());
    disk
}

#[test]
fn a_file_holds_the_data_as_it_was_when_it_began() {
    for members in SIZES {
        let mut bench = Bench::new(members + 2);
        let disk = memory_disk(&mut bench);
        bench.changes(3_000, members);
        for n in 0..20_000 {
            bench.turn_anywhere();
            bench.ask(&[b"SET", format!("key:{n}").as_bytes(), b"value"]);
        }
        for round in 0..8 {
            let before = bench.engine.digest();
            let slices = save_beside(&mut bench, |bench, step| {
                bench.changes(20, members);
                if step == 2 && round % 2 == 1 {
                    bench.swap_or_flush();
                    bench.swap_or_flush();
                }
                if step == 3 {
                    // The table grows meanwhile.
                    for n in 0..2_000 {
                        bench.turn_anywhere();
                        bench.ask(&[b"SET", format!("new:{round}:{n}").as_bytes(), b"value"]);
                    }
                }
            });
            assert!(slices > 4, "something has happened meanwhile");
            assert_ne!(bench.engine.digest(), before);
            let file = disk.read(FILE).expect("it was written");
            assert!(digest_of(&file) == before, "round {round} of {members} members");
            assert_eq!(disk.names(), [PathBuf::from(FILE)], "nothing else is left");
        }
        let state = &bench.engine.persistence;
        assert!(state.drawing.is_none() && state.last_is_ok && state.saves == 8 && state.last_preserved > 0);
    }
}

#[test]
fn large_values_are_saved_as_they_were() {
    const MEMBERS: usize = 200_000;
    let mut bench = Bench::new(9);
    let disk = memory_disk(&mut bench);
    bench.turn_to(SpaceId::FIRST, 0);
    for at in (0..MEMBERS).step_by(1000) {
        let words: Vec<String> = (at..at + 1000).map(|n| format!("member:{n}")).collect();
        for (name, key) in [("SADD", "set"), ("RPUSH", "list"), ("HSET", "hash"), ("ZADD", "zset")] {
            let mut request = vec![name.as_bytes(), key.as_bytes()];
            for word in &words {
                match name {
                    "ZADD" => request.extend([&word.as_bytes()[7..], word.as_bytes()]),
                    "HSET" => request.extend([word.as_bytes(), b"value"]),
                    _ => request.push(word.as_bytes()),
                }
            }
            bench.ask(&request);
        }
    }
    let before = bench.engine.digest();
    save_beside(&mut bench, |bench, step| {
        bench.turn_to(SpaceId::FIRST, 0);
        let member = format!("member:{}", step * 77);
        bench.ask(&[b"ZADD", b"zset", b"5", member.as_bytes()]);
        bench.ask(&[b"HDEL", b"hash", member.as_bytes()]);
        bench.ask(&[b"SREM", b"set", member.as_bytes()]);
        bench.ask(&[b"LPOP", b"list"]);
        if step == 2 {
            bench.ask(&[b"RENAME", b"zset", b"other"]);
            bench.ask(&[b"DEL", b"set"]);
        }
    });
    assert_ne!(bench.engine.digest(), before);
    assert!(digest_of(&disk.read(FILE).expect("it was written")) == before);
}

#[test]
fn what_is_saved_is_loaded_at_the_start_while_others_ask() {
    let mut bench = Bench::new(3);
    let disk = memory_disk(&mut bench);
    bench.changes(2_000, 500);
    bench.turn_to(SpaceId::FIRST, 0);
    for n in 0..3_000 {
        bench.ask(&[b"SET", format!("key:{n}").as_bytes(), b"value"]);
    }
    bench.ask(&[b"SAVE"]);
    let mut other = Bench::new(4);
    other.engine.persistence.disk = Arc::new(disk);
    let asked = Cell::new(0);
    let lending = Lending {
        bench: RefCell::new(&mut other),
        between: |bench: &mut Bench, step| {
            if step > 1 && bench.engine.loading {
                let said = bench.answer(&[b"GET", b"key:1"]);
                assert_eq!(said, "-LOADING Redis is loading the dataset in memory\r\n");
                assert!(bench.answer(&[b"INFO", b"persistence"]).contains("loading_total_bytes:"));
                asked.set(asked.get() + 1);
            }
        },
        slices: Cell::new(0),
    };
    assert_eq!(load_file(&lending).expect("it is whole"), Ended::Loaded);
    assert!(asked.get() > 5);
    assert!(!other.engine.loading && other.engine.digest() == bench.engine.digest());
    assert!(!other.answer(&[b"INFO", b"persistence"]).contains("loading_total_bytes:"));
    assert_eq!(other.engine.unsaved_changes(), 0);
}

/// What a disk is asked to do; the operation with a number that it has been given fails.
struct Faulty {
    disk: MemoryDisk,
    left: Arc<AtomicUsize>,
}

fn step(left: &AtomicUsize) -> io::Result<()> {
    match left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)) {
        Ok(1) => Err(io::Error::from_raw_os_error(28)),
        _ => Ok(()),
    }
}

impl Disk for Faulty {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        step(&self.left)?;
        Ok(Box::new(FaultyFile(self.disk.create(path)?, self.left.clone())))
    }

    fn open(&self, path: &Path) -> io::Result<Opened> {
        self.disk.open(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        step(&self.left)?;
        self.disk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        step(&self.left)?;
        self.disk.sync_dir(dir)
    }

    fn append(&self, path: &Path) -> io::Result<Arc<dyn AppendFile>> {
        self.disk.append(path)
    }

    fn len(&self, path: &Path) -> io::Result<u64> {
        self.disk.len(path)
    }

    fn truncate(&self, path: &Path, len: u64) -> io::Result<()> {
        self.disk.truncate(path, len)
    }

    fn make_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.make_dir(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        self.disk.list(dir)
    }
}

struct FaultyFile(Box<dyn DiskFile>, Arc<AtomicUsize>);

impl Write for FaultyFile {
    /// A short write, and then perhaps none.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        step(&self.1)?;
        self.0.write(&bytes[..bytes.len().div_ceil(2)])
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl DiskFile for FaultyFile {
    fn sync(&mut self) -> io::Result<()> {
        step(&self.1)?;
        self.0.sync()
    }
}

#[test]
fn whatever_the_disk_does_there_is_a_whole_file() {
    let mut bench = Bench::new(6);
    let (disk, left) = (MemoryDisk::default(), Arc::new(AtomicUsize::new(0)));
    bench.engine.persistence.disk = Arc::new(Faulty { disk: disk.clone(), left: left.clone() });
    bench.turn_to(SpaceId::FIRST, 0);
    bench.ask(&[b"SET", b"key", b"0"]);
    bench.ask(&[b"SAVE"]);
    let mut in_file = bench.engine.digest();
    for beside in [false, true] {
        let mut failed = 0;
        for at in 1.. {
            bench.turn_to(SpaceId::FIRST, 0);
            bench.engine.persistence.last_is_ok = true;
            bench.engine.apply_config();
            bench.ask(&[b"SET", b"key", format!("{beside}{at}").as_bytes()]);
            left.store(at, Ordering::Relaxed);
            let unsaved = bench.engine.unsaved_changes();
            let is_ok = if beside {
                save_beside(&mut bench, |_, _| {});
                bench.engine.persistence.last_is_ok
            } else {
                bench.answer(&[b"SAVE"]) == "+OK\r\n"
            };
            let over = left.swap(0, Ordering::Relaxed) > 0;
            let found = digest_of(&disk.read(FILE).expect("there is always one"));
            if is_ok {
                assert!(over, "no failure is passed over");
                in_file = bench.engine.digest();
            } else {
                failed += 1;
                assert_eq!(bench.engine.unsaved_changes(), unsaved);
                // The last step fails with the file in its place.
                assert!(found == in_file || found == bench.engine.digest(), "{beside} {at}");
                in_file = found.clone();
                let refused = bench.answer(&[b"SET", b"key", b"1"]).starts_with("-MISCONF");
                assert_eq!(
                    refused, beside,
                    "writes are refused after a snapshot in the background has failed"
                );
                assert!(bench.answer(&[b"GET", b"key"]).starts_with('$'));
                assert_eq!(bench.answer(&[b"PING"]).starts_with("-MISCONF"), beside);
            }
            assert!(found == in_file && disk.names().len() == 1, "{beside} {at}");
            if over {
                break;
            }
        }
        assert!(failed > 5, "{failed}");
    }
    assert_eq!(bench.answer(&[b"SET", b"key", b"1"]), "+OK\r\n");
}

#[test]
fn a_snapshot_may_be_called_off() {
    let mut bench = Bench::new(7);
    let disk = memory_disk(&mut bench);
    let flush = |bench: &mut Bench, step| {
        if step == 1 {
            bench.ask(&[b"FLUSHALL"]);
        }
    };
    for saves in [false, true] {
        bench.turn_to(SpaceId::FIRST, 0);
        for n in 0..5_000 {
            bench.ask(&[b"SET", format!("key:{n}").as_bytes(), b"value"]);
        }
        if !saves {
            bench.engine.config.persistence.save.0.clear();
        }
        save_beside(&mut bench, flush);
        let state = &bench.engine.persistence;
        assert!(state.drawing.is_none() && state.last_is_ok);
        if saves {
            // The file is to hold what there is: nothing.
            assert_eq!(bench.engine.unsaved_changes(), 0);
            assert_eq!(digest_of(&disk.read(FILE).expect("it was written")), bench.engine.digest());
        } else {
            assert_eq!(disk.names().len(), 0);
            assert!(bench.engine.unsaved_changes() > 5_000);
        }
        bench.engine.config.persistence = Default::default();
    }
    // So does the server's end.
    bench.ask(&[b"SET", b"key", b"value"]);
    bench.ask(&[b"BGSAVE"]);
    assert_eq!(bench.answer(&[b"BGSAVE"]), "-ERR Background save already in progress\r\n");
    assert_eq!(bench.answer(&[b"SAVE"]), "-ERR Background save already in progress\r\n");
    let snapshot = begun(&mut bench);
    assert!(matches!(bench.engine.shut_down(Shutdown::default()), Outcome::Ends) && bench.engine.shutdown);
    let saved = disk.read(FILE);
    snapshot.run(&Lending {
        bench: RefCell::new(&mut bench),
        between: |_: &mut Bench, _| {},
        slices: Cell::new(0),
    });
    assert!(disk.read(FILE) == saved && disk.names().len() == 1);
    assert_eq!(digest_of(&saved.expect("it was saved")), bench.engine.digest());
}

/// A type of which no value can be copied.
struct Stubborn;

impl ForeignType for Stubborn {
    fn name(&self) -> &str {
        "stubborn"
    }

    fn version(&self) -> u32 {
        2
    }

    fn copy(&self, _: u64) -> Option<u64> {
        None
    }

    fn free(&self, _: u64) {}

    fn memory(&self, _: u64) -> usize {
        8
    }

    fn len(&self, _: u64) -> usize {
        1
    }

    fn free_effort(&self, _: u64) -> usize {
        1
    }

    fn is_gone(&self, _: u64) -> bool {
        false
    }

    fn save(&self, value: u64) -> Result<Vec<u8>, String> {
        if value == 13 { Err("it is unlucky".to_owned()) } else { Ok(value.to_le_bytes().to_vec()) }
    }

    fn load(&self, _: &[u8], _: u32) -> Result<u64, String> {
        Ok(0)
    }
}

#[test]
fn what_cannot_be_copied_is_saved_at_once_and_what_nobody_knows_is_kept() {
    let mut bench = Bench::new(8);
    let disk = memory_disk(&mut bench);
    let put = |bench: &mut Bench, value| {
        let object = Object::Foreign(Foreign::new(Arc::new(Stubborn), value));
        let (db, door) = bench.engine.keyspace.db(SpaceId::FIRST, 0);
        db.put(door, hash(b"it"), b"it", NewValue::Object(Box::new(object)));
    };
    put(&mut bench, 7);
    let before = bench.engine.digest();
    save_beside(&mut bench, |bench, step| {
        if step == 0 {
            bench.turn_to(SpaceId::FIRST, 0);
            bench.ask(&[b"DEL", b"it"]);
        }
    });
    let file = disk.read(FILE).expect("it was written");
    // No module with the type is loaded: the value is kept, and saved again as it was.
    let mut other = Bench::new(1);
    let disk = memory_disk(&mut other);
    for _ in 0..2 {
        let file = disk.read(FILE).unwrap_or_else(|| file.clone());
        other.engine.load(SpaceId::FIRST, Reader::new(&file)).expect("it is whole");
        assert_eq!(other.engine.digest(), before);
        assert_eq!(other.answer(&[b"TYPE", b"it"]), "+stubborn\r\n");
        assert!(other.answer(&[b"GET", b"it"]).starts_with("-WRONGTYPE"));
        other.ask(&[b"SAVE"]);
    }

    put(&mut bench, 13);
    save_beside(&mut bench, |_, _| {});
    assert!(!bench.engine.persistence.last_is_ok, "what is not saved is not passed over");
}

#[test]
fn a_snapshot_is_taken_when_it_is_due() {
    let mut bench = Bench::new(10);
    memory_disk(&mut bench);
    bench.turn_to(SpaceId::FIRST, 0);
    bench.engine.config.persistence.save.0.truncate(1);
    bench.ask(&[b"SET", b"key", b"value"]);
    let due = |bench: &mut Bench| {
        bench.engine.tick(100);
        bench.engine.persistence.drawing.is_some()
    };
    bench.engine.persistence.last_save_s = bench.engine.now_ms / 1000 - 3600;
    assert!(!due(&mut bench), "it is more than so many seconds ago");
    bench.engine.persistence.last_save_s -= 1;
    assert!(due(&mut bench));
    let nothing =
        Lending { bench: RefCell::new(&mut bench), between: |_: &mut Bench, _| {}, slices: Cell::new(0) };
    let snapshot = begun(&mut nothing.bench.borrow_mut());
    snapshot.run(&nothing);
    bench.engine.persistence.last_save_s = 0;
    assert!(!due(&mut bench), "nothing has changed since");
    bench.ask(&[b"MULTI"]);
    bench.ask(&[b"BGSAVE"]);
    assert!(bench.answer(&[b"EXEC"]).contains("Background saving scheduled"));
    assert!(bench.engine.persistence.drawing.is_none() && due(&mut bench));
}
