//! The journal as it is written: what a disk holds after each step, whatever the disk does, and what is made of it again.

#[path = "support/changes.rs"]
mod changes;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use changes::Bench;
use mortise_core::engine::{Engine, Job};
use mortise_core::keyspace::SpaceId;
use mortise_core::persistence::cut::Lender;
use mortise_core::persistence::disk::{AppendFile, Disk, DiskFile, MemoryDisk, Opened};
use mortise_core::persistence::journal::AppendSync;
use mortise_core::persistence::journal::append::Apart;
use mortise_core::persistence::journal::state::State;
use mortise_core::persistence::start::{Ended, load_file};

/// Lends the engine at hand.
struct AtHand<'e>(std::cell::RefCell<&'e mut Engine>);

impl Lender for AtHand<'_> {
    fn lend(&self, what: &mut dyn FnMut(&mut Engine)) -> bool {
        what(&mut self.0.borrow_mut());
        true
    }
}

/// An engine whose journal is on a disk, as the server starts it. It may refuse to.
fn start(disk: &Arc<dyn Disk>, settings: &[(&str, &str)]) -> Result<Bench, String> {
    let mut bench = Bench::new(7);
    bench.turn_to(SpaceId::FIRST, 0);
    bench.engine.directives = Arc::new(mortise_core::server::directives().expect("they are in order"));
    bench.engine.persistence.disk = disk.clone();
    bench.engine.config.journal.appendonly = true;
    for (name, value) in settings {
        bench.engine.set_config(&[(name.as_bytes(), value.as_bytes())], true).expect("it is one");
    }
    let ended = load_file(&AtHand(std::cell::RefCell::new(&mut bench.engine)));
    ended.map_err(|fatal| fatal.to_string()).map(|ended| assert_eq!(ended, Ended::Loaded))?;
    Ok(bench)
}

/// Gives the engine back as the server does, and lets the threads do what they have to.
fn give_back(engine: &mut Engine) {
    engine.flush_journal(false);
    sync(engine);
    for job in std::mem::take(&mut engine.jobs) {
        match job {
            Job::Snapshot(snapshot) => snapshot.run(&AtHand(std::cell::RefCell::new(engine))),
            Job::Free(free) => free(),
            Job::Call(_) | Job::Follow(_) => {}
        }
    }
    sync(engine);
}

fn sync(engine: &Engine) {
    while let Some(task) = engine.syncs().take() {
        // It has noted itself how that ended.
        let _ = engine.syncs().perform(task);
    }
}

fn ask(bench: &mut Bench, line: &str) -> String {
    let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
    let reply = bench.answer(&words);
    give_back(&mut bench.engine);
    reply
}

fn held(disk: &MemoryDisk, name: &str) -> String {
    let mut found = disk.names().into_iter().filter(|path| path.to_string_lossy().ends_with(name));
    let path = found.next().unwrap_or_else(|| panic!("{name} of {:?}", disk.names()));
    String::from_utf8_lossy(&disk.read(path).expect("it is there")).replace("\r\n", " ")
}

#[test]
fn units_are_appended_as_they_were_done() {
    for (line, expected) in [
        ("SET k v", "*3 $3 SET $1 k $1 v "),
        ("SELECT 3; SET k v", "*2 $6 SELECT $1 3 *3 $3 SET $1 k $1 v "),
        ("MULTI; SET k v; EXEC", "*3 $3 SET $1 k $1 v "),
        ("MULTI; SET k v; INCR n; EXEC", "*1 $5 MULTI *3 $3 SET $1 k $1 v *2 $4 INCR $1 n *1 $4 EXEC "),
        (
            "SELECT 3; MULTI; SET k v; SELECT 4; INCR n; EXEC",
            "*2 $6 SELECT $1 3 *1 $5 MULTI *3 $3 SET $1 k $1 v *2 $6 SELECT $1 4 *2 $4 INCR $1 n *1 $4 EXEC ",
        ),
        ("SADD s a; SPOP s", "*3 $4 SADD $1 s $1 a *3 $4 SREM $1 s $1 a "),
        ("PUBLISH c m; GET k; DEL k", ""),
    ] {
        let memory = MemoryDisk::default();
        let disk: Arc<dyn Disk> = Arc::new(memory.clone());
        let mut bench = start(&disk, &[]).unwrap();
        ask(&mut bench, "SET first 1");
        let before = held(&memory, ".1.incr.aof").len();
        line.split("; ").for_each(|line| drop(ask(&mut bench, line)));
        assert_eq!(&held(&memory, ".1.incr.aof")[before..], expected, "{line}");
    }
}

#[test]
fn what_waits_to_be_appended_is_not_limited_with_the_data() {
    let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::default());
    let mut bench = start(&disk, &[]).unwrap();
    let figure = |bench: &mut Bench, name: &str| -> u64 {
        let info = bench.answer(&[b"INFO", b"memory"]);
        let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.expect("it is a field").trim().parse().expect("it is a number")
    };
    bench.answer(&[b"SET", b"k", &[b'x'; 10_000]]);
    assert!(figure(&mut bench, "mem_aof_buffer") > 10_000);
    assert_eq!(figure(&mut bench, "mem_not_counted_for_evict"), figure(&mut bench, "mem_aof_buffer"));
}

#[test]
fn a_moment_is_noted_once_a_second() {
    let memory = MemoryDisk::default();
    let disk: Arc<dyn Disk> = Arc::new(memory.clone());
    let mut bench = start(&disk, &[("aof-timestamp-enabled", "yes")]).unwrap();
    ask(&mut bench, "SET k 1");
    ask(&mut bench, "SET k 2");
    let text = held(&memory, ".1.incr.aof");
    assert!(text.starts_with("#TS:"), "{text}");
    assert_eq!(text.matches("#TS:").count(), 1, "{text}");
}

#[test]
fn a_rewrite_holds_what_there_was_and_goes_on() {
    for form in ["yes", "no"] {
        let memory = MemoryDisk::default();
        let disk: Arc<dyn Disk> = Arc::new(memory.clone());
        let mut bench = start(&disk, &[("aof-use-rdb-preamble", form)]).unwrap();
        for line in [
            "SET string 1",
            "RPUSH list a b",
            "SADD set 1 x",
            "ZADD zset 1.5 a -inf b",
            "HSET hash f v g w",
            "PEXPIREAT string 99999999999999",
            "XADD stream 1-1 f v",
            "XADD stream 2-1 f v",
            "XDEL stream 1-1",
            "XGROUP CREATE stream g 0",
            "XREADGROUP GROUP g c STREAMS stream >",
            "XADD gone 5-5 f v",
            "XDEL gone 5-5",
            "HPEXPIREAT hash 99999999999999 FIELDS 1 f",
            "SELECT 2",
            "SET other 1",
        ] {
            assert!(!ask(&mut bench, line).starts_with('-'), "{line}");
        }
        for n in 0..200 {
            ask(&mut bench, &format!("RPUSH long {n}"));
        }
        assert_eq!(ask(&mut bench, "BGREWRITEAOF"), "+Background append only file rewriting started\r\n");
        assert_eq!((bench.engine.journal.rewrites, bench.engine.journal.last_is_ok), (1, true));
        ask(&mut bench, "SET afterwards 1");
        let manifest = held(&memory, ".manifest");
        let end = if form == "yes" { "rdb" } else { "aof" };
        assert_eq!(
            manifest,
            format!(
                "file appendonly.aof.2.base.{end} seq 2 type b\nfile appendonly.aof.2.incr.aof seq 2 type i\n"
            )
        );
        assert_eq!(memory.names().len(), 3, "{:?}", memory.names());
        assert_eq!(held(&memory, ".2.incr.aof"), "*2 $6 SELECT $1 2 *3 $3 SET $10 afterwards $1 1 ");
        let again = start(&disk, &[]).unwrap();
        assert_eq!(again.engine.digest(), bench.engine.digest(), "{form}");
    }
}

#[test]
fn what_was_replaced_stays_if_that_is_wanted() {
    let memory = MemoryDisk::default();
    let disk: Arc<dyn Disk> = Arc::new(memory.clone());
    let mut bench = start(&disk, &[("aof-disable-auto-gc", "yes")]).unwrap();
    ask(&mut bench, "SET k 1");
    ask(&mut bench, "BGREWRITEAOF");
    let kinds = |memory: &MemoryDisk| -> Vec<String> {
        let manifest = held(memory, ".manifest");
        manifest.lines().map(|line| line[line.len() - 1..].to_owned()).collect()
    };
    assert_eq!((kinds(&memory), memory.names().len()), (["b", "h", "h", "i"].map(String::from).to_vec(), 5));
    // The next start leaves them, too, and one that may remove them does.
    let mut bench = start(&disk, &[("aof-disable-auto-gc", "yes")]).unwrap();
    assert_eq!(memory.names().len(), 5);
    assert_eq!(ask(&mut bench, "CONFIG SET aof-disable-auto-gc no"), "+OK\r\n");
    assert_eq!((kinds(&memory), memory.names().len()), (["b", "i"].map(String::from).to_vec(), 3));
    ask(&mut bench, "CONFIG SET aof-disable-auto-gc yes");
    ask(&mut bench, "BGREWRITEAOF");
    assert_eq!(memory.names().len(), 5);
    start(&disk, &[]).unwrap();
    assert_eq!((kinds(&memory), memory.names().len()), (["b", "i"].map(String::from).to_vec(), 3));
}

#[test]
fn a_journal_is_switched_on_when_its_base_is_there() {
    let memory = MemoryDisk::default();
    let disk: Arc<dyn Disk> = Arc::new(memory.clone());
    let mut bench = start(&disk, &[]).unwrap();
    ask(&mut bench, "SET k 1");
    ask(&mut bench, "CONFIG SET appendonly no");
    assert_eq!(bench.engine.journal.state, State::Off);
    ask(&mut bench, "SET k 2");
    assert_eq!(held(&memory, ".1.incr.aof").matches("SET").count(), 1);
    // As the base is written only after the reply, what comes first is kept beside.
    assert_eq!(bench.answer(&[b"CONFIG", b"SET", b"appendonly", b"yes"]), "+OK\r\n");
    assert_eq!(bench.engine.journal.state, State::Waiting);
    bench.answer(&[b"SET", b"meanwhile", b"1"]);
    give_back(&mut bench.engine);
    assert_eq!(bench.engine.journal.state, State::On);
    assert!(held(&memory, ".2.incr.aof").contains("meanwhile"));
    assert_eq!(start(&disk, &[]).unwrap().engine.digest(), bench.engine.digest());
    ask(&mut bench, "MULTI");
    ask(&mut bench, "CONFIG SET appendonly no");
    ask(&mut bench, "CONFIG SET appendonly yes");
    ask(&mut bench, "EXEC");
    assert!(bench.engine.journal.is_scheduled, "what a transaction has done is part of it");
    bench.engine.tick(100);
    give_back(&mut bench.engine);
    assert_eq!(bench.engine.journal.state, State::On);
}

/// A disk on which the operation with a number fails, and on which all writes are short before.
#[derive(Clone)]
struct Faulty {
    disk: MemoryDisk,
    left: Arc<AtomicUsize>,
    dirs: Arc<parking_lot::Mutex<BTreeSet<PathBuf>>>,
}

impl Faulty {
    fn step(&self) -> io::Result<()> {
        match self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)) {
            Ok(1) => Err(io::Error::from_raw_os_error(28)),
            _ => Ok(()),
        }
    }
}

impl Disk for Faulty {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.step()?;
        Ok(Box::new(FaultyFile(self.disk.create(path)?, self.clone())))
    }

    fn open(&self, path: &Path) -> io::Result<Opened> {
        self.disk.open(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step()?;
        self.disk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.step()?;
        self.disk.sync_dir(dir)
    }

    fn append(&self, path: &Path) -> io::Result<Arc<dyn AppendFile>> {
        self.step()?;
        Ok(Arc::new(FaultyAppend(self.disk.append(path)?, self.clone())))
    }

    fn len(&self, path: &Path) -> io::Result<u64> {
        self.disk.len(path)
    }

    fn truncate(&self, path: &Path, len: u64) -> io::Result<()> {
        self.disk.truncate(path, len)
    }

    fn make_dir(&self, dir: &Path) -> io::Result<()> {
        self.dirs.lock().insert(dir.to_owned());
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        self.disk.list(dir)
    }
}

struct FaultyFile(Box<dyn DiskFile>, Faulty);

impl io::Write for FaultyFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.1.step()?;
        self.0.write(&bytes[..bytes.len().div_ceil(2)])
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl DiskFile for FaultyFile {
    fn sync(&mut self) -> io::Result<()> {
        self.1.step()?;
        self.0.sync()
    }
}

struct FaultyAppend(Arc<dyn AppendFile>, Faulty);

impl AppendFile for FaultyAppend {
    fn append(&self, bytes: &[u8]) -> io::Result<usize> {
        self.1.step()?;
        self.0.append(&bytes[..bytes.len().div_ceil(2)])
    }

    fn sync(&self) -> io::Result<()> {
        self.1.step()?;
        self.0.sync()
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.0.truncate(len)
    }
}

fn faulty() -> (Faulty, Arc<dyn Disk>) {
    let disk =
        Faulty { disk: MemoryDisk::default(), left: Arc::new(AtomicUsize::new(0)), dirs: Arc::default() };
    (disk.clone(), Arc::new(disk))
}

#[test]
fn whatever_fails_the_next_start_has_everything() {
    let mut failed = 0;
    for at in 1.. {
        let (faulty, disk) = faulty();
        let mut bench = start(&disk, &[]).unwrap();
        ask(&mut bench, "SET k 0");
        faulty.left.store(at, Ordering::Relaxed);
        ask(&mut bench, "SET k 1");
        ask(&mut bench, "BGREWRITEAOF");
        ask(&mut bench, "SET k 2");
        ask(&mut bench, "CONFIG SET appendonly no");
        ask(&mut bench, "CONFIG SET appendonly yes");
        let is_over = faulty.left.load(Ordering::Relaxed) > 0;
        faulty.left.store(0, Ordering::Relaxed);
        // It may have given up, and tries again.
        for _ in 0..3 {
            bench.engine.tick(100);
            give_back(&mut bench.engine);
        }
        ask(&mut bench, "SET k 3");
        if bench.engine.journal.state == State::On {
            let again = start(&disk, &[]).unwrap_or_else(|error| panic!("failure {at}: {error}"));
            assert_eq!(again.engine.digest(), bench.engine.digest(), "failure {at}");
        } else {
            start(&disk, &[]).unwrap_or_else(|error| panic!("failure {at}: {error}"));
        }
        if is_over {
            break;
        }
        failed += 1;
    }
    assert!(failed > 20, "there is a lot that can fail: {failed}");
}

#[test]
fn what_cannot_be_written_is_not_half_there_and_refuses_writes() {
    let (faulty, disk) = faulty();
    let mut bench = start(&disk, &[]).unwrap();
    ask(&mut bench, "SET k 0");
    let before = held(&faulty.disk, ".1.incr.aof");
    faulty.left.store(2, Ordering::Relaxed);
    ask(&mut bench, "SET k 1");
    assert_eq!(held(&faulty.disk, ".1.incr.aof"), before, "the short write before is taken back");
    assert!(bench.answer(&[b"INFO", b"persistence"]).contains("aof_last_write_status:err"));
    let refusal = bench.answer(&[b"SET", b"k", b"2"]);
    assert_eq!(refusal, "-MISCONF Errors writing to the AOF file: No space left on device\r\n");
    assert!(bench.answer(&[b"PING"]).starts_with("-MISCONF"));
    give_back(&mut bench.engine);
    assert_eq!(ask(&mut bench, "SET k 3"), "+OK\r\n");
    assert!(bench.answer(&[b"INFO", b"persistence"]).contains("aof_last_write_status:ok"));
    assert_eq!(start(&disk, &[]).unwrap().engine.digest(), bench.engine.digest());
}

#[test]
fn nothing_is_promised_that_is_not_durable() {
    let (faulty, disk) = faulty();
    let mut bench = start(&disk, &[("appendfsync", "always")]).unwrap();
    assert_eq!(bench.engine.config.journal.appendfsync, AppendSync::Always);
    bench.answer(&[b"SET", b"k", b"0"]);
    bench.engine.flush_journal(false);
    let syncs = bench.engine.syncs();
    assert!(syncs.holds());
    sync(&bench.engine);
    assert!(!syncs.holds());
    bench.answer(&[b"SET", b"k", b"1"]);
    faulty.left.store(1, Ordering::Relaxed);
    bench.engine.flush_journal(false);
    assert!(bench.engine.journal.is_lost && syncs.holds(), "the process ends, and nobody is answered");
}

fn mine(apart: Option<Apart>) -> impl Fn() {
    match apart {
        Some(Apart::Mine(writing)) => move || writing.perform(),
        Some(Apart::Anothers(_)) => panic!("nobody else writes"),
        None => panic!("there is something to write"),
    }
}

#[test]
fn what_is_written_with_the_engine_free_keeps_its_order() {
    let memory = MemoryDisk::default();
    let disk: Arc<dyn Disk> = Arc::new(memory.clone());
    let mut bench = start(&disk, &[]).unwrap();
    ask(&mut bench, "SET k 0");
    let before = held(&memory, ".1.incr.aof").len();
    let size = bench.engine.journal.current_size();
    bench.answer(&[b"APPEND", b"k", b"1"]);
    let write = mine(bench.engine.flush_journal_apart());
    bench.answer(&[b"APPEND", b"k", b"2"]);
    let second = bench.engine.flush_journal_apart();
    assert!(matches!(&second, Some(Apart::Anothers(writing)) if !writing.wait_for(Duration::ZERO)));
    assert!(bench.engine.journal.buffered() > 0 && held(&memory, ".1.incr.aof").len() == before);
    write();
    assert!(matches!(&second, Some(Apart::Anothers(writing)) if writing.wait_for(Duration::ZERO)));
    let write = mine(bench.engine.flush_journal_apart());
    bench.answer(&[b"APPEND", b"k", b"3"]);
    // Whoever cannot wait writes it all, and whoever was to do so finds it done.
    bench.engine.flush_journal(true);
    write();
    assert!(bench.engine.flush_journal_apart().is_none() && bench.engine.journal.buffered() == 0);
    let said: String = (1..=3).map(|n| format!("*3 $6 APPEND $1 k $1 {n} ")).collect();
    assert_eq!(held(&memory, ".1.incr.aof")[before..], said);
    // On the disk each line ends with two bytes.
    let lines = said.matches(' ').count();
    assert_eq!(bench.engine.journal.current_size(), size + (said.len() + lines) as u64);
}

#[test]
fn what_cannot_be_written_with_the_engine_free_is_written_later() {
    for at in 1..4 {
        let (faulty, disk) = faulty();
        let mut bench = start(&disk, &[]).unwrap();
        ask(&mut bench, "SET k 0");
        bench.answer(&[b"APPEND", b"k", b"1"]);
        let write = mine(bench.engine.flush_journal_apart());
        bench.answer(&[b"APPEND", b"k", b"2"]);
        faulty.left.store(at, Ordering::Relaxed);
        write();
        assert_eq!(faulty.left.load(Ordering::Relaxed), 0, "it has failed");
        faulty.left.store(0, Ordering::Relaxed);
        bench.engine.flush_journal(false);
        assert_eq!(bench.answer(&[b"APPEND", b"k", b"3"]), ":4\r\n", "{at}");
        give_back(&mut bench.engine);
        assert_eq!(bench.engine.journal.buffered(), 0);
        assert_eq!(start(&disk, &[]).unwrap().engine.digest(), bench.engine.digest(), "{at}");
    }
}

/// A disk that takes its time to make things durable.
struct Slow(MemoryDisk, Arc<AtomicUsize>);

/// So long, each time.
const SYNC: Duration = Duration::from_millis(200);
/// Nobody waits for a sync.
const STALL_MAX: Duration = Duration::from_millis(100);

struct SlowFile<F>(F, Arc<AtomicUsize>);

fn take_time(syncs: &AtomicUsize) {
    syncs.fetch_add(1, Ordering::Relaxed);
    std::thread::sleep(SYNC);
}

impl Disk for Slow {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(SlowFile(self.0.create(path)?, self.1.clone())))
    }

    fn open(&self, path: &Path) -> io::Result<Opened> {
        self.0.open(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        take_time(&self.1);
        self.0.sync_dir(dir)
    }

    fn append(&self, path: &Path) -> io::Result<Arc<dyn AppendFile>> {
        Ok(Arc::new(SlowFile(self.0.append(path)?, self.1.clone())))
    }

    fn len(&self, path: &Path) -> io::Result<u64> {
        self.0.len(path)
    }

    fn truncate(&self, path: &Path, len: u64) -> io::Result<()> {
        self.0.truncate(path, len)
    }

    fn make_dir(&self, dir: &Path) -> io::Result<()> {
        self.0.make_dir(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        self.0.list(dir)
    }
}

impl io::Write for SlowFile<Box<dyn DiskFile>> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl DiskFile for SlowFile<Box<dyn DiskFile>> {
    fn sync(&mut self) -> io::Result<()> {
        take_time(&self.1);
        self.0.sync()
    }
}

impl AppendFile for SlowFile<Arc<dyn AppendFile>> {
    fn append(&self, bytes: &[u8]) -> io::Result<usize> {
        self.0.append(bytes)
    }

    fn sync(&self) -> io::Result<()> {
        take_time(&self.1);
        self.0.sync()
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.0.truncate(len)
    }
}

/// Lends an engine that others want as well.
struct Shared<'b>(&'b parking_lot::Mutex<Bench>);

impl Lender for Shared<'_> {
    fn lend(&self, what: &mut dyn FnMut(&mut Engine)) -> bool {
        let mut bench = self.0.lock();
        what(&mut bench.engine);
        bench.engine.flush_journal(false);
        true
    }
}

#[test]
fn a_rewrite_keeps_nobody_waiting_for_the_disk() {
    for (mode, has_journal) in [("everysec", true), ("always", true), ("no", true), ("everysec", false)] {
        let syncs = Arc::new(AtomicUsize::new(0));
        let disk: Arc<dyn Disk> = Arc::new(Slow(MemoryDisk::default(), syncs.clone()));
        let mut bench = start(&disk, &[("appendfsync", mode)]).unwrap();
        ask(&mut bench, "SET k 0");
        if !has_journal {
            ask(&mut bench, "CONFIG SET appendonly no");
        }
        let syncs_before = syncs.load(Ordering::Relaxed);
        let mut longest = Duration::ZERO;
        let mut lap = |began: Instant| longest = longest.max(began.elapsed());
        let begin = if has_journal { "BGREWRITEAOF" } else { "CONFIG SET appendonly yes" };
        let words: Vec<&[u8]> = begin.split(' ').map(str::as_bytes).collect();
        let began = Instant::now();
        assert!(bench.answer(&words).starts_with('+'));
        bench.engine.flush_journal(false);
        lap(began);
        let jobs = std::mem::take(&mut bench.engine.jobs);
        let bench = parking_lot::Mutex::new(bench);
        let is_over = AtomicBool::new(false);
        let mut served = 0;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for job in jobs {
                    match job {
                        Job::Snapshot(snapshot) => snapshot.run(&Shared(&bench)),
                        Job::Free(free) => free(),
                        Job::Call(_) | Job::Follow(_) => {}
                    }
                }
                is_over.store(true, Ordering::Release);
            });
            while !is_over.load(Ordering::Acquire) {
                let began = Instant::now();
                let mut bench = bench.lock();
                assert_eq!(bench.answer(&[b"INCR", b"k"]), format!(":{}\r\n", served + 1));
                bench.engine.flush_journal(false);
                drop(bench);
                lap(began);
                served += 1;
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        let mut bench = bench.into_inner();
        let waited = syncs.load(Ordering::Relaxed) - syncs_before;
        println!("{mode}, {begin}: {waited} syncs of {SYNC:?}, {served} requests, {longest:?} at most");
        assert!(longest < STALL_MAX, "{mode}, {begin}: {longest:?}");
        assert!(waited >= 4 && served > 20, "{mode}, {begin}: {waited} syncs, {served} requests");
        sync(&bench.engine);
        assert_eq!((bench.engine.journal.last_is_ok, bench.engine.journal.state), (true, State::On));
        bench.engine.flush_journal(true);
        assert_eq!(start(&disk, &[]).unwrap().engine.digest(), bench.engine.digest(), "{mode}, {begin}");
    }
}

#[test]
fn what_is_done_while_an_increment_begins_is_written_wherever_the_journal_goes_on() {
    let (faulty, disk) = faulty();
    // Operations that the first step needs: all that can fail.
    let mut failed = 0;
    for at in 0.. {
        let mut bench = start(&disk, &[]).unwrap();
        ask(&mut bench, "FLUSHALL");
        ask(&mut bench, "INCR k");
        assert!(bench.answer(&[b"BGREWRITEAOF"]).starts_with('+'));
        bench.answer(&[b"INCR", b"k"]);
        bench.engine.flush_journal(false);
        assert!(bench.engine.journal.buffered() > 0, "the manifest does not name its file yet");
        faulty.left.store(at, Ordering::Relaxed);
        // Whoever cannot wait does it.
        bench.engine.flush_journal(true);
        let is_over = at > 0 && faulty.left.load(Ordering::Relaxed) > 0;
        faulty.left.store(0, Ordering::Relaxed);
        // The write itself may have failed.
        bench.engine.flush_journal(true);
        assert_eq!(bench.engine.journal.buffered(), 0);
        let was_ok = bench.engine.journal.last_is_ok;
        assert_eq!(was_ok, bench.engine.persistence.is_rewriting(), "{at}");
        failed += usize::from(!was_ok);
        bench.answer(&[b"INCR", b"k"]);
        give_back(&mut bench.engine);
        assert_eq!(bench.answer(&[b"GET", b"k"]), "$1\r\n3\r\n");
        let again = start(&disk, &[]).unwrap_or_else(|error| panic!("failure {at}: {error}"));
        assert_eq!(again.engine.digest(), bench.engine.digest(), "failure {at}");
        if is_over {
            break;
        }
    }
    assert!(failed >= 5, "{failed}");
}

#[test]
fn a_promise_holds_what_waits_for_the_next_increment_and_is_kept_whatever_is_set() {
    for set in ["appendfsync always", "appendfsync no", "no-appendfsync-on-rewrite yes"] {
        let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::default());
        let mut bench = start(&disk, &[("appendfsync", "always")]).unwrap();
        ask(&mut bench, "SET k 0");
        assert!(bench.answer(&[b"BGREWRITEAOF"]).starts_with('+'));
        bench.answer(&[b"SET", b"k", b"1"]);
        bench.engine.flush_journal(false);
        sync(&bench.engine);
        assert!(bench.engine.syncs().holds(), "it is not even written");
        let (name, value) = set.split_once(' ').unwrap();
        bench.ask(&[b"CONFIG", b"SET", name.as_bytes(), value.as_bytes()]);
        // The increment has begun, and the rewrite goes on.
        bench.engine.flush_journal(true);
        sync(&bench.engine);
        assert!(bench.engine.persistence.is_rewriting() && !bench.engine.syncs().holds(), "{set}");
    }
}

#[test]
fn what_is_written_with_the_engine_free_becomes_durable_without_a_lull() {
    let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::default());
    let mut bench = start(&disk, &[]).unwrap();
    // Each look at the clock takes so long.
    bench.step_ns.store(200_000_000, Ordering::Relaxed);
    let mut seen = BTreeSet::new();
    for _ in 0..10 {
        bench.answer(&[b"APPEND", b"k", b"1"]);
        let write = mine(bench.engine.flush_journal_apart());
        bench.answer(&[b"APPEND", b"k", b"2"]);
        write();
        sync(&bench.engine);
        seen.insert(bench.engine.syncs().durable());
    }
    assert!(seen.len() > 2, "{seen:?}");
}
