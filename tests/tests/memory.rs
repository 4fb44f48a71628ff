//! What one call may take of memory while it runs, which no reply shows.

use std::fs;

use mortise_tests::{Reply, Server};

/// The most memory that a process has had, in megabytes.
fn peak_mb(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("it is there");
    let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kilobytes >> 10
}

#[test]
fn a_long_weight_of_many_elements_is_held_once() {
    const WEIGHT_MB: usize = 8;
    let server = Server::start(&[]);
    let mut client = server.connect();
    client.call(&["SETRANGE", "w_x", &(WEIGHT_MB << 20).to_string(), "x"]).expect("the server answers");
    let push = [&["RPUSH", "list"][..], &["x"; 100]].concat();
    client.call(&push).expect("the server answers");
    let sort = ["SORT", "list", "BY", "w_*", "ALPHA", "LIMIT", "0", "1"];
    let reply = client.call(&sort).expect("the server answers");
    assert_eq!(reply, Reply::Array(vec![Reply::Bulk(b"x".to_vec())]));
    let peak_mb = peak_mb(server.pid().expect("it runs"));
    assert!(peak_mb < 20 * WEIGHT_MB as u64, "{peak_mb} MB");
}
