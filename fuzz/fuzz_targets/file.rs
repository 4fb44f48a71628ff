//! A file of data: any bytes are refused somewhere, or loaded, and saved again as what they are; and what comes from a medium
//! is what is at hand.
#![no_main]

#[path = "../../core/tests/support/files.rs"]
mod files;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    files::load(&[b"REDIS0011", bytes].concat());
});
