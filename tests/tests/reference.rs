//! Runs the same scripts against Debian's redis-server: what they say is what Redis does.

use mortise_tests::reference::Reference;
use mortise_tests::suite::{self, Target};

#[test]
fn redis_says_the_same() {
    match Reference::from_env().or_else(Reference::installed) {
        Some(reference) => suite::run(&suite::scripts_folder(), &Target::Reference(reference)),
        None if std::env::var("CI").is_ok_and(|value| value == "true") => {
            panic!("redis-server is not installed")
        }
        None => println!("redis-server is not installed: not compared"),
    }
}
