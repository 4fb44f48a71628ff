//! The request parser: a stream means the same however it arrives, and nothing makes it panic.
#![no_main]

#[path = "../../core/tests/support/understood.rs"]
mod understood;

use libfuzzer_sys::fuzz_target;
use mortise_core::resp::request::RequestLimits;
use understood::understand;

fuzz_target!(|input: (bool, Vec<u8>, Vec<u8>)| {
    let (authenticated, lens, stream) = input;
    let limits = RequestLimits { bulk_len_max: 4096, authenticated };
    let mut lens = lens.iter().cycle();
    let pieces = understand(&stream, limits, || lens.next().map_or(1, |len| usize::from(*len)));
    assert_eq!(understand(&stream, limits, || usize::MAX), pieces);
});
