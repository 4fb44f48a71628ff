//! Patterns, as of KEYS and PSUBSCRIBE: any pattern is answered, and soon.
#![no_main]

use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use mortise_sdk::glob;

fuzz_target!(|input: (&[u8], &[u8])| {
    let (pattern, text) = input;
    let start = Instant::now();
    glob::matches(pattern, text);
    glob::matches_nocase(pattern, text);
    let escaped: Vec<u8> = text.iter().flat_map(|byte| [b'\\', *byte]).collect();
    assert!(glob::matches(&escaped, text), "escaped, a text matches itself");
    assert!(start.elapsed() < Duration::from_secs(2), "{pattern:?} {text:?}");
});
