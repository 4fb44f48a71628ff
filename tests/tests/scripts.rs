//! Runs `tests/scripts` against Mortise, or against what `REFERENCE` names.

use mortise_tests::suite::{self, Target};

/// The server runs in this process, and asks its allocator how much memory is used.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[test]
fn every_script_holds() {
    suite::run(&suite::scripts_folder(), &Target::from_env());
}
