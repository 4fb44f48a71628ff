//! The connection group, driven in process: what others see of a session and do to it, pauses, waits, limits.

use std::sync::atomic::Ordering::Relaxed;

use crate::engine::call::Key;
use crate::engine::testing::Bench;
use crate::keyspace::SpaceId;

/// The value of a field in the line of CLIENT INFO or LIST that contains `marker`.
fn field(lines: &str, marker: &str, name: &str) -> String {
    let line = lines.lines().find(|line| line.contains(marker)).expect("the client is listed");
    let prefix = format!("{name}=");
    let value = line.split(' ').find_map(|word| word.strip_prefix(&prefix));
    value.expect("the line has the field").to_owned()
}

#[test]
fn hello_answers_in_the_protocol_that_it_chooses() {
    let mut bench = Bench::new();
    let client = bench.connect();
    let replies = bench.ask(client, &["HELLO 3", "CLIENT GETNAME", "HELLO 2", "CLIENT GETNAME"]);
    assert!(replies.starts_with("%7\r\n"), "{replies}");
    assert!(replies.contains("*0\r\n_\r\n*14\r\n"), "{replies}");
    assert!(replies.ends_with("*0\r\n$-1\r\n"), "{replies}");
    bench.ask(client, &["HELLO 3", "SUBSCRIBE news"]);
    let other = bench.connect();
    bench.ask(other, &["PUBLISH news x"]);
    assert_eq!(bench.received(client), ">3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$1\r\nx\r\n");
}

#[test]
fn a_password_is_asked_from_new_connections_until_it_is_taken_away() {
    let mut bench = Bench::new();
    let old = bench.connect();
    bench.engine.config.clients.requirepass = Some("secret".to_owned());
    bench.engine.apply_password();
    let new = bench.connect();
    assert_eq!(bench.ask(old, &["PING"]), "+PONG\r\n");
    assert!(bench.ask(new, &["PING"]).starts_with("-NOAUTH "));
    assert!(bench.ask(new, &["HELLO 3"]).starts_with("-NOAUTH HELLO must be called"));
    assert!(bench.ask(new, &["AUTH wrong"]).starts_with("-WRONGPASS "));
    assert!(bench.ask(new, &["HELLO 3 AUTH default secret SETNAME ann"]).starts_with("%7\r\n"));
    assert_eq!(bench.ask(new, &["CLIENT GETNAME"]), "$3\r\nann\r\n");
    assert_eq!(bench.ask(new, &["RESET"]), "+RESET\r\n");
    assert!(bench.ask(new, &["PING"]).starts_with("-NOAUTH "));
    bench.engine.config.clients.requirepass = Some(String::new());
    bench.engine.apply_password();
    assert_eq!(bench.ask(new, &["PING"]), "+PONG\r\n");
}

#[test]
fn nothing_runs_after_quit() {
    let mut bench = Bench::new();
    let (client, other) = (bench.connect(), bench.connect());
    assert_eq!(bench.ask(client, &["QUIT", "SET k v"]), "+OK\r\n");
    assert!(bench.is_closed(client));
    assert_eq!(bench.ask(other, &["GET k"]), "$-1\r\n");
}

#[test]
fn reset_forgets_everything_but_the_library() {
    let mut bench = Bench::new();
    let client = bench.connect();
    bench.ask(
        client,
        &[
            "HELLO 3 SETNAME ann",
            "CLIENT SETINFO LIB-NAME lib",
            "CLIENT NO-TOUCH on",
            "SELECT 3",
            "SUBSCRIBE news",
            "WATCH k",
            "CLIENT REPLY OFF",
            "MULTI",
        ],
    );
    assert_eq!(bench.ask(client, &["RESET"]), "+RESET\r\n");
    let info = bench.ask(client, &["CLIENT INFO"]);
    let field = |name| field(&info, "id=", name);
    assert_eq!((field("name"), field("lib-name")), (String::new(), "lib".to_owned()));
    assert_eq!(
        (field("db"), field("sub"), field("multi"), field("resp")),
        ("0".into(), "0".into(), "-1".into(), "2".into())
    );
    assert_eq!((field("flags"), field("cmd")), ("N".to_owned(), "client|info".to_owned()));
    let other = bench.connect();
    assert_eq!(bench.ask(other, &["PUBLISH news x", "SET k v"]), ":0\r\n+OK\r\n");
    assert_eq!(bench.ask(client, &["MULTI", "EXEC"]), "+OK\r\n*0\r\n");
}

#[test]
fn a_killed_client_is_gone_at_once() {
    let mut bench = Bench::new();
    let (one, two, three) = (bench.connect(), bench.connect(), bench.connect());
    bench.ask(two, &["SUBSCRIBE news", "HELLO 3"]);
    assert_eq!(bench.ask(three, &["AWAIT k 0"]), "");
    let (second, third) = (bench.id(two), bench.id(three));
    assert_eq!(bench.ask(one, &[&format!("CLIENT KILL ID {second}"), "PUBLISH news x"]), ":1\r\n:0\r\n");
    assert_eq!(bench.ask(one, &[&format!("CLIENT KILL ID {third}"), "SET k v"]), ":1\r\n+OK\r\n");
    assert_eq!(bench.engine.blocked.len(), 0);
    assert!(bench.is_closed(two) && bench.is_closed(three));
    // What it had sent before does not run.
    assert_eq!(bench.ask(two, &["SET k w"]), "");
    assert_eq!(bench.ask(one, &["GET k"]), "$1\r\nv\r\n");
    // Oneself: the reply comes first, and nothing after it.
    assert_eq!(bench.ask(one, &["CLIENT KILL SKIPME no", "PING"]), ":1\r\n");
    assert!(bench.is_closed(one));
}

#[test]
fn a_pause_holds_writes_back_until_its_end() {
    let mut bench = Bench::new();
    let (one, two, three) = (bench.connect(), bench.connect(), bench.connect());
    assert_eq!(bench.ask(two, &["MULTI", "SET k v"]), "+OK\r\n+QUEUED\r\n");
    // A second pause neither shortens nor weakens the first.
    bench.ask(one, &["CLIENT PAUSE 5000 WRITE", "CLIENT PAUSE 10 WRITE"]);
    assert_eq!(bench.ask(two, &["EXEC"]), "");
    assert_eq!(bench.ask(three, &["GET k", "SET k w", "GET k"]), "$-1\r\n");
    let list = bench.ask(one, &["CLIENT LIST"]);
    assert_eq!(field(&list, "addr=10.0.0.1:2", "flags"), "b");
    assert_eq!(field(&list, "addr=10.0.0.1:1", "flags"), "xb");
    assert_eq!(bench.engine.blocked.len(), 2);
    // Held back is not waiting for something.
    let id = bench.id(three);
    assert_eq!(bench.ask(one, &[&format!("CLIENT UNBLOCK {id}")]), ":0\r\n");
    bench.advance(4900);
    assert_eq!(bench.received(two) + &bench.received(three), "");
    bench.advance(200);
    assert_eq!(bench.received(two), "*1\r\n+OK\r\n");
    assert_eq!(bench.received(three), "+OK\r\n");
    assert_eq!(bench.engine.blocked.len(), 0);
}

#[test]
fn unpause_resumes_at_once() {
    let mut bench = Bench::new();
    let (one, two) = (bench.connect(), bench.connect());
    bench.ask(one, &["CLIENT PAUSE 60000 WRITE"]);
    // What CLIENT REPLY said of a call holds when it has waited.
    bench.ask(two, &["CLIENT REPLY SKIP"]);
    assert_eq!(bench.ask(two, &["SET k v"]), "");
    assert_eq!(bench.ask(one, &["CLIENT UNPAUSE", "PING"]), "+OK\r\n+PONG\r\n");
    assert_eq!(bench.received(two), "");
    assert_eq!(bench.ask(two, &["GET k"]), "$1\r\nv\r\n");
}

#[test]
fn keys_that_expire_during_a_pause_are_hidden_and_stay() {
    let mut bench = Bench::new();
    let client = bench.connect();
    bench.ask(client, &["SET k v", "CLIENT PAUSE 1000 WRITE"]);
    let deadline = bench.engine.now_ms + 100;
    let (db, door) = bench.engine.keyspace.db(SpaceId::FIRST, 0);
    let key = Key::new(b"k");
    db.edit(door, key.hash, key.bytes).expect("the key is there").set_deadline(Some(deadline));
    bench.advance(500);
    assert_eq!(bench.ask(client, &["GET k"]), "$-1\r\n");
    assert_eq!(bench.engine.stats.expired_keys, 0);
    bench.ask(client, &["CLIENT UNPAUSE"]);
    assert_eq!(bench.ask(client, &["GET k"]), "$-1\r\n");
    assert_eq!(bench.engine.stats.expired_keys, 1);
}

#[test]
fn unblock_ends_a_wait_as_its_time_would_or_with_an_error() {
    let mut bench = Bench::new();
    let (one, two) = (bench.connect(), bench.connect());
    let id = bench.id(two);
    assert_eq!(bench.ask(two, &["AWAIT k 0"]), "");
    assert_eq!(bench.ask(one, &[&format!("CLIENT UNBLOCK {id}")]), ":1\r\n");
    assert_eq!(bench.received(two), "*-1\r\n");
    bench.ask(two, &["AWAIT k 0"]);
    assert_eq!(bench.ask(one, &[&format!("CLIENT UNBLOCK {id} error")]), ":1\r\n");
    assert_eq!(bench.received(two), "-UNBLOCKED client unblocked via CLIENT UNBLOCK\r\n");
    assert_eq!(bench.ask(one, &[&format!("CLIENT UNBLOCK {id}")]), ":0\r\n");
}

#[test]
fn messages_to_the_running_client_do_not_go_to_one_that_is_served_meanwhile() {
    let mut bench = Bench::new();
    let (one, two) = (bench.connect(), bench.connect());
    bench.engine.config.notifications.notify_keyspace_events = crate::engine::event::KEYEVENT;
    bench.engine.config.notifications.notify_keyspace_events.0 |= crate::engine::event::STRING.0;
    bench.engine.apply_config();
    bench.ask(one, &["HELLO 3", "SUBSCRIBE __keyevent@0__:set"]);
    bench.ask(two, &["HELLO 3", "SUBSCRIBE __keyevent@0__:set"]);
    assert_eq!(bench.ask(two, &["AWAIT k 0"]), "");
    let message = ">3\r\n$7\r\nmessage\r\n$18\r\n__keyevent@0__:set\r\n$1\r\nk\r\n";
    assert_eq!(bench.ask(one, &["SET k v"]), format!("{message}+OK\r\n"));
    assert_eq!(bench.received(two), format!("{message}$1\r\nk\r\n"));
}

#[test]
fn idle_clients_are_closed_but_not_those_who_wait_or_listen() {
    let mut bench = Bench::new();
    let (idle, waiting, listening) = (bench.connect(), bench.connect(), bench.connect());
    let monitor = bench.connect();
    bench.engine.config.clients.timeout = 2;
    bench.ask(monitor, &["MONITOR"]);
    bench.ask(waiting, &["AWAIT k 0"]);
    bench.ask(listening, &["SUBSCRIBE news"]);
    bench.advance(1900);
    assert!(!bench.is_closed(idle));
    bench.advance(2000);
    assert!(bench.is_closed(idle));
    assert!(!bench.is_closed(waiting) && !bench.is_closed(listening) && !bench.is_closed(monitor));
}

#[test]
fn a_backlog_over_the_soft_limit_for_too_long_closes_the_client() {
    let mut bench = Bench::new();
    let (slow, quick) = (bench.connect(), bench.connect());
    let pubsub = &mut bench.engine.config.clients.client_output_buffer_limit.pubsub;
    (pubsub.soft, pubsub.soft_seconds) = (1000, 2);
    bench.engine.apply_config();
    bench.ask(slow, &["SUBSCRIBE news"]);
    bench.ask(quick, &["SUBSCRIBE news"]);
    // What was fetched from the outbox, but could not be written.
    bench.outbox(slow).unwritten.store(2000, Relaxed);
    bench.advance(1500);
    bench.outbox(quick).unwritten.store(2000, Relaxed);
    bench.advance(500);
    bench.outbox(quick).unwritten.store(0, Relaxed);
    assert!(!bench.is_closed(slow));
    bench.advance(3000);
    assert!(bench.is_closed(slow));
    assert!(!bench.is_closed(quick));
    assert_eq!(bench.engine.stats.output_limit_disconnections, 1);
}

#[test]
fn the_read_buffer_put_down_to_a_client_grows_with_requests_and_shrinks_when_it_is_idle() {
    let mut bench = Bench::new();
    let (client, other) = (bench.connect(), bench.connect());
    bench.ask(client, &["CLIENT SETNAME ann"]);
    let size = |bench: &mut Bench| {
        let list = bench.ask(other, &["CLIENT LIST"]);
        let value = |name| field(&list, "name=ann", name).parse::<u64>().expect("a number");
        value("qbuf") + value("qbuf-free")
    };
    assert!((16384..32768).contains(&size(&mut bench)));
    bench.ask(client, &[&format!("SET k {}", "x".repeat(400_000))]);
    let large = size(&mut bench);
    assert!(large > 400_000);
    for _ in 0..10 {
        bench.advance(100);
        bench.ask(client, &["SET k x"]);
    }
    let small = size(&mut bench);
    assert!((1..32768).contains(&small), "{small}");
    bench.advance(3100);
    assert_eq!(size(&mut bench), 0);
}

#[test]
fn a_line_of_client_list() {
    let mut bench = Bench::new();
    let client = bench.connect();
    assert_eq!(
        bench.ask(client, &["CLIENT SETNAME a\u{e9}"]),
        "-ERR Client names cannot contain spaces, newlines or special characters.\r\n"
    );
    bench.ask(client, &["MULTI", "SET key value"]);
    bench.advance(2500);
    let other = bench.connect();
    let list = bench.ask(other, &["CLIENT LIST ID 1 77"]);
    assert!(
        list.contains(
            "id=1 addr=10.0.0.1:0 laddr= fd=0 name= age=2 idle=2 flags=x db=0 sub=0 psub=0 ssub=0 multi=1 qbuf=0 \
             qbuf-free=20480 argv-mem=0 multi-mem=35 rbs=0 rbp=0 obl=0 oll=0 omem=0 tot-mem="
        ),
        "{list}"
    );
    assert!(list.contains(" events=r cmd=set user=default redir=-1 resp=2 lib-name= lib-ver= watch=0 tot-net-in=0 tot-net-out=0 io-thread=0\n"), "{list}");
}

#[test]
fn what_client_reply_says_within_a_transaction_does_not_reach_back() {
    let mut bench = Bench::new();
    let client = bench.connect();
    bench.ask(client, &["MULTI", "PING", "CLIENT REPLY OFF", "PING"]);
    assert_eq!(bench.ask(client, &["EXEC", "PING"]), "*3\r\n+PONG\r\n");
    assert_eq!(
        bench.ask(client, &["CLIENT REPLY ON", "CLIENT REPLY SKIP", "PING", "PING"]),
        "+OK\r\n+PONG\r\n"
    );
}

#[test]
fn an_exec_that_is_refused_gives_the_transaction_up() {
    let mut bench = Bench::new();
    let client = bench.connect();
    bench.ask(client, &["MULTI", "SET k v"]);
    assert_eq!(
        bench.ask(client, &["EXEC now", "EXEC"]),
        "-EXECABORT Transaction discarded because of: wrong number of arguments for 'exec' command\r\n\
         -ERR EXEC without MULTI\r\n"
    );
}

#[test]
fn replies_beyond_the_limit_are_not_sent_at_all() {
    let mut bench = Bench::new();
    let (client, other) = (bench.connect(), bench.connect());
    bench.engine.config.clients.client_output_buffer_limit.normal.hard = 1000;
    bench.engine.apply_config();
    let value = "x".repeat(600);
    bench.ask(other, &[&format!("SET k {value}")]);
    assert_eq!(bench.ask(client, &["GET k"]).len(), 600 + 8);
    // One reply less than the limit is no matter, several in one batch are.
    assert_eq!(bench.ask(client, &["PING", "GET k", "GET k", "SET k late"]), "");
    assert!(bench.is_closed(client));
    assert_eq!(bench.engine.stats.output_limit_disconnections, 1);
    assert_eq!(bench.ask(other, &["STRLEN k"]), ":600\r\n");
}
