//! A file of a journal: any bytes are refused, or played to their end, and what was mended plays to the same data again.
#![no_main]

#[path = "../../core/tests/support/journals.rs"]
mod journals;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|file: &[u8]| {
    journals::play(file);
});
