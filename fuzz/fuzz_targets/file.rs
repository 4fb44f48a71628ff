//! A file of data: any bytes are refused somewhere, or read to their end; and what comes from a medium is what is at hand.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mortise_core::engine::edit::Limits;
use mortise_core::persistence::snapshot::Reader;
use mortise_core::persistence::snapshot::file::{Item, Loading};
use mortise_core::persistence::snapshot::value::{Around, NoTypes};

/// The keys that come until the end, or until something is wrong.
fn keys(from: Reader<'_>) -> (Vec<Vec<u8>>, bool) {
    let around = Around { limits: Limits::default(), types: &NoTypes };
    let mut keys = Vec::new();
    let Ok(mut file) = Loading::begin(from, false) else { return (keys, false) };
    loop {
        match file.next(around) {
            Ok(Some(Item::Key(key))) => keys.push(key.key),
            Ok(Some(_)) => {}
            Ok(None) => return (keys, true),
            Err(_) => return (keys, false),
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    let file = [b"REDIS0011", bytes].concat();
    let mut medium = &file[..];
    assert_eq!(keys(Reader::new(&file)), keys(Reader::from_medium(&mut medium)));
});
