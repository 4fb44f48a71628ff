//! Runs `tests/scripts` against Mortise, or against what `REFERENCE` names.

use mortise_tests::suite::{self, Target};

#[test]
fn every_script_holds() {
    suite::run(&suite::scripts_folder(), &Target::from_env());
}
