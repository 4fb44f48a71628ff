//! A manifest: any bytes are refused, or mean the same when they are written anew, also when the journal has grown.
#![no_main]

#[path = "../../core/tests/support/journals.rs"]
mod journals;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &[u8]| {
    journals::understand(text);
});
