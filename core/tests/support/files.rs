//! What becomes of a file of data that holds anything, with what must hold of each: it is refused, or loaded and saved again
//! as what it is. Shared with the fuzz targets.

use std::sync::Arc;

use mortise_core::config::Config;
use mortise_core::engine::Engine;
use mortise_core::engine::edit::Limits;
use mortise_core::features;
use mortise_core::keyspace::SpaceId;
use mortise_core::persistence::snapshot::Reader;
use mortise_core::persistence::snapshot::file::{Item, Loading};
use mortise_core::persistence::snapshot::value::{Around, NoTypes};
use mortise_core::server::clock::SystemClock;
use mortise_core::types::frozen::FrozenTypes;

/// A server without sockets, which saves without a checksum.
pub(crate) fn engine() -> Engine {
    let registry = Arc::new(features::registry().expect("the declarations are right"));
    let mut engine = Engine::new(Config::default(), registry, Box::new(SystemClock::new()), 1);
    engine.config.persistence.rdbchecksum = false;
    engine
}

/// What comes until the end, or until something is wrong.
fn items(from: Reader<'_>) -> (Vec<(char, Vec<u8>)>, bool) {
    let frozen = FrozenTypes::default();
    let around = Around { limits: Limits::default(), types: &NoTypes, frozen: Some(&frozen) };
    let mut items = Vec::new();
    let Ok(mut file) = Loading::begin(from, false) else { return (items, false) };
    loop {
        items.push(match file.next(around) {
            Ok(Some(Item::Key(key))) => ('k', key.key),
            Ok(Some(Item::Empty(key))) => ('e', key),
            Ok(Some(Item::Function(code))) => ('f', code),
            Ok(Some(Item::Module(_, kept))) => ('m', kept),
            Ok(Some(Item::About(name, _))) => ('a', name),
            Ok(Some(Item::Database(_) | Item::Sizes { .. })) => continue,
            Ok(None) => return (items, true),
            Err(_) => return (items, false),
        });
    }
}

/// Loads a file; false if it is refused.
pub(crate) fn load(file: &[u8]) -> bool {
    // What comes from a medium is what is at hand.
    let mut medium = file;
    assert_eq!(items(Reader::new(file)), items(Reader::from_medium(&mut medium)));
    let (mut first, mut second) = (engine(), engine());
    let Ok(report) = first.load(SpaceId::FIRST, Reader::new(file)) else { return false };
    let mut saved = Vec::new();
    first.save(SpaceId::FIRST, &mut saved).expect("memory takes it");
    let again = second.load(SpaceId::FIRST, Reader::new(&saved)).expect("it was saved");
    // A deadline that is close may come meanwhile.
    if again.expired == 0 && report.expired == 0 {
        assert_eq!(first.digest(), second.digest(), "it is the same when it has been saved and loaded");
    }
    let kept = [&first, &second].map(|engine| engine.persistence.kept.clone());
    assert_eq!(kept[0].functions, kept[1].functions);
    assert_eq!(kept[0].of_modules, kept[1].of_modules);
    true
}
