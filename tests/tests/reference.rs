//! Runs the same scripts against Debian's redis-server: what they say is what Redis does.

use mortise_tests::reference::Reference;
use mortise_tests::suite::{self, Target};
use mortise_tests::{Reply, check};

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

#[test]
fn a_server_is_stopped_killed_and_started_again() {
    let Some(reference @ Reference::Binary(_)) = Reference::installed() else { return };
    let mut server =
        reference.start(&["appendonly yes", "appendfsync always"]).unwrap().expect("it was started");
    check(&server, "> SET k v\n+OK\n> CONFIG GET appendonly\n[appendonly yes]\n");

    let pid = server.pid();
    server.kill();
    assert_eq!(server.pid(), None);
    assert!(!server.dir().join("appendonlydir").read_dir().unwrap().collect::<Vec<_>>().is_empty());
    server.restart();
    assert_ne!(server.pid(), pid);
    assert_eq!(server.connect().call(&["GET", "k"]).unwrap(), Reply::Bulk(b"v".to_vec()));

    assert!(server.stop(), "it ends by itself when asked to:\n{}", server.log());
    assert!(server.log().contains("bye bye"));
}

#[test]
fn a_server_that_does_not_start_says_why() {
    let Some(reference @ Reference::Binary(_)) = Reference::installed() else { return };
    let error = reference.start(&["no-such-directive yes"]).unwrap_err();
    assert!(error.contains("FATAL CONFIG FILE ERROR"), "{error}");
}
