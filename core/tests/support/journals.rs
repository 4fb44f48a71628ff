//! What becomes of a journal whose files hold anything, with what must hold of each: it is refused, or played to its end
//! and played once more with the same result. Shared with the fuzz targets.

use std::path::PathBuf;
use std::sync::Arc;

use mortise_core::config::Config;
use mortise_core::engine::Engine;
use mortise_core::features;
use mortise_core::persistence::disk::MemoryDisk;
use mortise_core::persistence::journal::check;
use mortise_core::persistence::journal::manifest::{Form, Manifest, Names};
use mortise_core::server::clock::SystemClock;

/// A manifest of one increment.
const ONE: &str = "file appendonly.aof.1.incr.aof seq 1 type i\n";
const MANIFEST: &str = "/d/appendonlydir/appendonly.aof.manifest";
const INCREMENT: &str = "/d/appendonlydir/appendonly.aof.1.incr.aof";

fn engine(disk: &MemoryDisk) -> Engine {
    let registry = Arc::new(features::registry().expect("the declarations are right"));
    let mut engine = Engine::new(Config::default(), registry, Box::new(SystemClock::new()), 1);
    engine.config.server.dir = "/d".to_owned();
    engine.persistence.disk = Arc::new(disk.clone());
    engine
}

/// Plays a file; false if it is refused. What is mended is whole, and plays to the same data.
pub(crate) fn play(file: &[u8]) -> bool {
    let disk = MemoryDisk::default();
    disk.put(MANIFEST, ONE.as_bytes().to_vec());
    disk.put(INCREMENT, file.to_vec());
    look_at(&disk, INCREMENT);
    let (mut first, mut second) = (engine(&disk), engine(&disk));
    let Ok(found) = first.reload_journal() else { return false };
    let mended = disk.read(INCREMENT).expect("it is there");
    assert!(file.starts_with(&mended) && found.size == mended.len() as u64);
    let again = second.reload_journal().expect("it was played before");
    assert_eq!((again.size, disk.read(INCREMENT)), (found.size, Some(mended)));
    // What is left to chance may fall otherwise, and the clock goes on.
    const UNSURE: [&[u8]; 3] = [b"pop", b"x", b"eval"];
    let file = file.to_ascii_lowercase();
    if !UNSURE.iter().any(|word| file.windows(word.len()).any(|window| window == *word)) {
        assert_eq!(first.digest(), second.digest());
    }
    true
}

/// Looks at a file as redis-check-aof does, and lets it be mended: then there is nothing left to be mended.
fn look_at(disk: &MemoryDisk, path: &str) {
    let disk = {
        let copy = MemoryDisk::default();
        disk.names().into_iter().for_each(|name| copy.put(&name, disk.read(&name).expect("it is there")));
        copy
    };
    let look = |option: Option<&str>| {
        let arguments: Vec<_> = option.into_iter().chain([path]).map(PathBuf::from).collect();
        check::check(&arguments, &disk, 0, &mut Vec::new(), &mut &b"y\n"[..]).expect("what it says is heard")
    };
    if !look(None) && look(Some("--fix")) {
        assert!(look(None), "it was mended");
    }
}

/// Understands a manifest; false if it is refused. What is understood is written so that it means the same, also when it
/// has grown.
pub(crate) fn understand(text: &[u8]) -> bool {
    let Ok(mut manifest) = Manifest::parse(text) else { return false };
    let same = |manifest: &Manifest| {
        if !manifest.to_text().is_empty() {
            assert_eq!(Manifest::parse(&manifest.to_text()).as_ref(), Ok(manifest));
        }
    };
    same(&manifest);
    let names = Names::new("/d", "appendonlydir", "appendonly.aof");
    manifest.begin_increment(&names);
    manifest.replace_base(&names, Form::Snapshot, 1);
    assert_eq!(manifest.increments.len(), 1);
    let removed = manifest.take_history();
    assert!(manifest.parts().all(|part| removed.iter().all(|removed| removed.name != part.name)));
    let disk = MemoryDisk::default();
    disk.put(MANIFEST, text.to_vec());
    // Files that it names and that are not there end the start.
    let _ = engine(&disk).reload_journal();
    look_at(&disk, MANIFEST);
    true
}
