//! RESTORE: any payload is refused or becomes a value that is whole, and that is saved and loaded as what it is.
#![no_main]

#[path = "../../core/tests/support/payloads.rs"]
mod payloads;

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;
use payloads::{Bench, read_forms};

thread_local! {
    static BENCH: RefCell<Bench> = RefCell::new(Bench::new());
}

fuzz_target!(|value: &[u8]| {
    read_forms(value);
    BENCH.with_borrow_mut(|bench| bench.restore(value));
});
