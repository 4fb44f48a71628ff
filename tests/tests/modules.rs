//! Modules over a socket: who may load them, and what clients see of it.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use mortise_tests::server::module_library;
use mortise_tests::{Client, Reply, Server};

fn say(client: &mut Client, command: &[&str]) -> String {
    match client.call(command).expect("the server answers") {
        Reply::Simple(text) | Reply::Bulk(text) => String::from_utf8_lossy(&text).into_owned(),
        Reply::Error(text) => format!("-{}", String::from_utf8_lossy(&text)),
        Reply::Integer(number) => number.to_string(),
        Reply::Array(items) => format!("{} items", items.len()),
        other => panic!("{command:?}: {other:?}"),
    }
}

fn hello() -> String {
    module_library("hello").expect("hello builds").display().to_string()
}

#[test]
fn nobody_loads_modules_unless_the_configuration_says_so() {
    let hello = hello();
    let server = Server::start(&[]);
    let mut client = server.connect();
    assert!(
        say(&mut client, &["MODULE", "LOAD", &hello]).starts_with("-ERR MODULE command not allowed."),
        "it is refused without enable-module-command"
    );
    assert!(say(&mut client, &["HELLO.GREET", "Ann"]).starts_with("-ERR unknown command"));
}

#[test]
fn a_module_comes_and_goes_while_others_are_served() {
    let hello = hello();
    let server = Server::start(&["enable-module-command local"]);
    let (mut one, mut other) = (server.connect(), server.connect());
    assert_eq!(say(&mut other, &["PING"]), "PONG");
    for _ in 0..3 {
        assert_eq!(say(&mut one, &["MODULE", "LOADEX", &hello, "CONFIG", "hello.greeting", "Hi"]), "OK");
        assert_eq!(say(&mut other, &["HELLO.GREET", "Ann"]), "Hi, Ann!");
        assert_eq!(say(&mut other, &["MODULE", "LIST"]), "1 items");
        assert!(say(&mut one, &["MODULE", "LOAD", &hello]).starts_with("-ERR"), "it is there already");
        assert_eq!(say(&mut one, &["MODULE", "UNLOAD", "hello"]), "OK");
        assert!(say(&mut other, &["HELLO.GREET", "Ann"]).starts_with("-ERR unknown command"));
        assert_eq!(say(&mut other, &["CONFIG", "GET", "hello.*"]), "0 items");
    }
    assert!(say(&mut one, &["MODULE", "UNLOAD", "hello"]).starts_with("-ERR"));
}

#[test]
fn what_is_no_module_is_refused_and_the_server_goes_on() {
    let server = Server::start(&["enable-module-command yes"]);
    let mut client = server.connect();
    let text = server.dir().join("text.so");
    fs::write(&text, "no library").expect("the folder can be written");
    fs::set_permissions(&text, fs::Permissions::from_mode(0o755)).expect("the file is there");
    for path in [text.to_string_lossy().as_ref(), "/nowhere/at/all.so", "/etc/passwd", ""] {
        let refusal = say(&mut client, &["MODULE", "LOAD", path]);
        assert!(refusal.starts_with("-ERR Error loading the extension"), "{path:?}: {refusal}");
    }
    assert_eq!(say(&mut client, &["PING"]), "PONG");
    assert!(server.log().contains("text.so"), "the log names the file: {}", server.log());
}

#[test]
fn a_module_that_is_missing_stops_the_start() {
    let binary = mortise_tests::server::mortise_binary().expect("the server builds");
    let error =
        Server::start_binary(&binary, &["loadmodule /nowhere/at/all.so"]).expect_err("it does not start");
    assert!(error.contains("/nowhere/at/all.so"), "{error}");
}

#[test]
fn what_config_rewrite_writes_loads_the_same_modules() {
    let hello = hello();
    let mut server = Server::start(&["enable-module-command local"]);
    let mut client = server.connect();
    let refused = say(&mut client, &["MODULE", "LOADEX", &hello, "ARGS", "a"]);
    assert!(refused.ends_with("Module 'hello' does not start: it takes no arguments."), "{refused}");
    assert_eq!(
        say(&mut client, &["MODULE", "LOADEX", &hello, "CONFIG", "hello.greeting", "Good \"day\""]),
        "OK"
    );
    assert_eq!(say(&mut client, &["CONFIG", "REWRITE"]), "OK");
    server.restart_as_it_is();
    let mut client = server.connect();
    assert_eq!(say(&mut client, &["HELLO.GREET", "Ann"]), "Good \"day\", Ann!");

    // Written again it is the same; unloaded it is gone, and what was set of it is no directive any more.
    let about_modules = |server: &Server| -> Vec<String> {
        let text = fs::read_to_string(server.config_file()).expect("the file is there");
        text.lines().filter(|line| line.contains("hello")).map(str::to_owned).collect()
    };
    let written = about_modules(&server);
    assert_eq!(written.len(), 2, "{written:?}");
    assert_eq!(say(&mut client, &["CONFIG", "REWRITE"]), "OK");
    assert_eq!(about_modules(&server), written);
    assert_eq!(say(&mut client, &["MODULE", "UNLOAD", "hello"]), "OK");
    assert_eq!(say(&mut client, &["CONFIG", "REWRITE"]), "OK");
    server.restart_as_it_is();
    let mut client = server.connect();
    assert_eq!(say(&mut client, &["MODULE", "LIST"]), "0 items");
    assert!(say(&mut client, &["HELLO.GREET", "Ann"]).starts_with("-ERR unknown command"));
}

#[test]
fn a_module_is_found_again_wherever_the_server_goes() {
    let mut server = Server::start(&["enable-module-command local", "enable-protected-configs local"]);
    fs::copy(hello(), server.dir().join("a module.so")).expect("the library can be copied");
    fs::create_dir(server.dir().join("elsewhere")).expect("the folder can be made");
    let mut client = server.connect();
    assert_eq!(say(&mut client, &["MODULE", "LOAD", "./a module.so"]), "OK");
    assert_eq!(say(&mut client, &["CONFIG", "SET", "dir", "elsewhere"]), "OK");
    assert_eq!(say(&mut client, &["CONFIG", "REWRITE"]), "OK");
    server.restart_as_it_is();
    assert_eq!(say(&mut server.connect(), &["HELLO.GREET", "Ann"]), "Hello, Ann!");
}

#[test]
fn many_clients_at_once_get_no_more_than_their_limit() {
    const CLIENTS: usize = 8;
    const CALLS: usize = 50;
    let ratelimit = module_library("ratelimit").expect("ratelimit builds").display().to_string();
    let server = Server::start(&[&format!("loadmodule {ratelimit}"), "io-threads 2"]);
    let allowed = |mut client: Client| {
        let ask = |_| match client.call(&["CL.THROTTLE", "shared", "99", "1", "100000"]) {
            Ok(Reply::Array(reply)) => usize::from(reply[0] == Reply::Integer(0)),
            other => panic!("{other:?}"),
        };
        (0..CALLS).map(ask).sum::<usize>()
    };
    let total: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(|| allowed(server.connect()))).collect();
        threads.into_iter().map(|thread| thread.join().expect("it ends")).sum()
    });
    assert_eq!(total, 100, "of {}", CLIENTS * CALLS);
    let info = say(&mut server.connect(), &["INFO", "ratelimit"]);
    assert!(info.contains("ratelimit_allowed:100\r\nratelimit_limited:300"), "{info}");
}

#[test]
fn values_without_their_module_are_kept_until_it_comes() {
    let hello = hello();
    let directives = ["enable-module-command yes", "enable-debug-command yes"];
    let with = Server::start(&[&directives[..], &[&format!("loadmodule {hello}")]].concat());
    let mut client = with.connect();
    assert_eq!(say(&mut client, &["HELLO.SIGN", "book", "Ann"]), "1");
    let name = say(&mut client, &["TYPE", "book"]);
    assert_eq!(say(&mut client, &["SAVE"]), "OK");

    let without = Server::start(&directives);
    fs::copy(with.dir().join("dump.rdb"), without.dir().join("dump.rdb")).expect("it was saved");
    let mut client = without.connect();
    // What is kept is saved again as it was.
    for options in [&["NOSAVE"][..], &[]] {
        assert_eq!(say(&mut client, &[&["DEBUG", "RELOAD"], options].concat()), "OK");
        assert_eq!(say(&mut client, &["TYPE", "book"]), name);
        assert!(say(&mut client, &["GET", "book"]).starts_with("-WRONGTYPE"));
    }
    assert_eq!(say(&mut client, &["MODULE", "LOAD", &hello]), "OK");
    assert_eq!(say(&mut client, &["HELLO.SIGN", "book", "Bob"]), "2");
    assert!(say(&mut client, &["MODULE", "UNLOAD", "hello"]).starts_with("-ERR"), "its value is in use");
}
