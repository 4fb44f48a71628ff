//! Users: what no script can say. Files, the start, passwords that take long to verify.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use mortise_tests::client::request;
use mortise_tests::server::{Server, mortise_binary};
use mortise_tests::{Client, Reply, TempDir, check};

/// What a status, an error or a text says.
fn said(reply: Reply) -> String {
    match reply {
        Reply::Simple(text) | Reply::Error(text) | Reply::Bulk(text) => {
            String::from_utf8_lossy(&text).into_owned()
        }
        Reply::Integer(number) => number.to_string(),
        other => panic!("{other:?}"),
    }
}

fn ask(client: &mut Client, words: &str) -> String {
    let words: Vec<&str> = words.split(' ').collect();
    said(client.call(&words).expect("an answer"))
}

fn users(client: &mut Client) -> Vec<String> {
    let Ok(Reply::Array(lines)) = client.call(&["ACL", "LIST"]) else { panic!("no list") };
    lines.into_iter().map(said).collect()
}

/// A server whose users stand in a file.
fn with_file(text: &str) -> (TempDir, Server) {
    let dir = TempDir::create().expect("a temporary directory");
    let path = dir.path().join("users.acl");
    fs::write(&path, text).unwrap();
    let server = Server::start(&[&format!("aclfile {}", path.display())]);
    (dir, server)
}

fn refused(directives: &[&str]) -> String {
    let binary = mortise_binary().expect("it is built");
    Server::start_binary(&binary, directives).expect_err("it does not start")
}

#[test]
fn users_are_loaded_from_their_file_and_saved_to_it() {
    let (dir, server) =
        with_file("user ann on >secret ~a* +@all\n\nuser default on nopass ~* &* +@all -debug\n");
    let path = dir.path().join("users.acl");
    let mut client = server.connect();
    let (mut ann, mut other) = (server.connect(), server.connect());
    assert_eq!(ask(&mut ann, "AUTH ann secret"), "OK");
    assert_eq!(ask(&mut other, "PING"), "PONG");
    assert_eq!(ask(&mut client, "ACL SETUSER bob on nopass +get ~b (+set ~c)"), "OK");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(ask(&mut client, "ACL SAVE"), "OK");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600, "others may not read it");
    let saved = fs::read_to_string(&path).unwrap();
    assert_eq!(saved, users(&mut client).join("\n") + "\n");
    assert!(
        saved.contains("user bob on nopass ~b resetchannels -@all +get (~c resetchannels -@all +set)\n"),
        "{saved}"
    );
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing else is left there");

    fs::write(&path, "user ann on nopass ~* +@all\n").unwrap();
    assert_eq!(ask(&mut client, "ACL LOAD"), "OK");
    assert_eq!(
        users(&mut client),
        ["user ann on nopass ~* resetchannels +@all", "user default on nopass ~* &* +@all"]
    );
    assert!(ann.call(&["PING"]).is_err(), "whoever is not the default user is disconnected");
    assert_eq!(ask(&mut other, "PING"), "PONG");
    // Who asks for it still hears the answer.
    assert_eq!(ask(&mut other, "AUTH ann x"), "OK");
    other.send_raw(&[request(&["ACL", "LOAD"]), request(&["PING"])].concat()).unwrap();
    assert_eq!(said(other.receive().unwrap()), "OK");
    assert!(other.receive().is_err());
}

#[test]
fn a_bad_file_changes_nothing_and_each_line_is_named() {
    let (dir, server) = with_file("user ann on nopass ~* +@all\n");
    let path = dir.path().join("users.acl");
    let mut client = server.connect();
    let before = users(&mut client);
    fs::write(&path, "user ann on\nuser bob +nosuch bad worse\nann on\nuser ann off\nuser eve (~a\n")
        .unwrap();
    let errors = ask(&mut client, "ACL LOAD");
    let file = path.display();
    assert_eq!(
        errors,
        format!(
            "ERR {file}:2: Error in applying operation '+nosuch': Unknown command or category name in ACL. {file}:2: Syntax \
             error. {file}:3 should start with user keyword followed by the username. WARNING: Duplicate user 'ann' found \
             on line 4. {file}:5: Unmatched parenthesis in selector definition. WARNING: ACL errors detected, no change to \
             the previously active ACL rules was performed"
        )
    );
    assert_eq!(users(&mut client), before);
    fs::remove_file(&path).unwrap();
    let errors = ask(&mut client, "ACL LOAD");
    assert_eq!(errors, format!("ERR Error loading ACLs, opening file '{file}': No such file or directory"));
    assert_eq!(users(&mut client), before);
    fs::remove_dir_all(dir.path()).unwrap();
    assert!(ask(&mut client, "ACL SAVE").starts_with("ERR There was an error trying to save the ACLs."));
}

#[test]
fn what_is_wrong_with_users_stops_the_start() {
    let error = refused(&["aclfile /nonexistent/users.acl"]);
    assert!(
        error.contains(
            "Aborting Redis startup because of ACL errors: Error loading ACLs, opening file '/nonexistent/users.acl'"
        ),
        "{error}"
    );
    let error = refused(&["aclfile users.acl", "user ann on"]);
    assert!(error.contains("please define either an ACL file or declare users directly"), "{error}");
    for (lines, reason) in [
        (&["user ann on", "user ann off"][..], "Error in user declaration 'ann': Duplicate user found."),
        (&["user ann on ~* ~a"], "Error in user declaration '~a': Adding a pattern after the * pattern"),
        (&["user ann (~a"], "Error in user declaration '(~a': Unmatched parenthesis"),
        (&["user \"a b\" on"], "Spaces not allowed in ACL usernames"),
        (&["user"], "Bad directive or wrong number of arguments"),
    ] {
        let error = refused(lines);
        assert!(error.contains("FATAL CONFIG FILE ERROR"), "{error}");
        assert!(error.contains(&format!(">>> '{}'", lines[lines.len() - 1])), "{error}");
        assert!(error.contains(reason), "{error}");
    }
    // Whether there is such a command is known when modules are loaded.
    let error = refused(&["user ann on +nosuch"]);
    let reason =
        "for the user named 'ann': Error in ACL SETUSER modifier '+nosuch': Unknown command or category";
    assert!(error.contains(reason), "{error}");
}

#[test]
fn users_stand_in_the_configuration_file_and_are_written_there() {
    let server = Server::start(&[
        "# about users",
        "user ann on >secret ~a (+get ~b)",
        "user default on nopass ~* +@all -flushall",
    ]);
    let mut client = server.connect();
    let ann = "user ann on #2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b ~a resetchannels -@all \
               (~b resetchannels -@all +get)";
    let default = "user default on nopass sanitize-payload ~* resetchannels +@all -flushall";
    assert_eq!(users(&mut client), [ann, default]);
    check(&server, "> FLUSHALL\n-NOPERM this user has no permissions to run the 'flushall' command\n");

    // What has quotes in it is quoted.
    assert_eq!(ask(&mut client, "ACL SETUSER odd ~\"quoted' &back\\slash (\"~it's\")"), "OK");
    let before = users(&mut client);
    assert_eq!(ask(&mut client, "CONFIG REWRITE"), "OK");
    let file = fs::read_to_string(server.dir().join("server.conf")).unwrap();
    let lines: Vec<&str> = file.lines().filter(|line| line.starts_with("user ")).collect();
    assert!(file.contains(&format!("# about users\n{ann}\n{default}\n")), "{file}");
    assert_eq!(lines.len(), 3, "{file}");
    let again = Server::start(&lines);
    let mut client = again.connect();
    assert_eq!(users(&mut client), before);
    assert_eq!(ask(&mut client, "ACL DELUSER odd"), "1");
}

#[test]
fn users_in_a_file_of_their_own_do_not_stand_in_the_configuration_file() {
    let (_dir, server) = with_file("user ann on nopass\n");
    assert_eq!(ask(&mut server.connect(), "CONFIG REWRITE"), "OK");
    let file = fs::read_to_string(server.dir().join("server.conf")).unwrap();
    assert!(!file.contains("user ") && file.contains("aclfile "), "{file}");
}

const SLOW: &str = "acl-password-hash argon2id";

#[test]
fn a_password_that_takes_long_makes_only_its_client_wait() {
    let server = Server::start(&[SLOW]);
    let (mut client, mut other) = (server.connect(), server.connect());
    assert_eq!(ask(&mut client, "ACL SETUSER ann on >secret >secret +@all ~*"), "OK");
    let line = users(&mut client).remove(0);
    assert!(line.starts_with("user ann on #$argon2id$v=19$m=19456,t=2,p=1$"), "{line}");
    assert_eq!(line.matches("argon2id").count(), 1, "a password that is there is not added again: {line}");

    // Sixteen clients log in, with requests right behind; meanwhile another one is answered.
    let mut waiting: Vec<Client> = (0..16).map(|_| server.connect()).collect();
    let requests =
        [request(&["AUTH", "ann", "secret"]), request(&["ACL", "WHOAMI"]), request(&["PING"])].concat();
    let begun = Instant::now();
    waiting.iter_mut().for_each(|client| client.send_raw(&requests).unwrap());
    let mut longest = Duration::ZERO;
    for _ in 0..100 {
        let asked = Instant::now();
        assert_eq!(ask(&mut other, "PING"), "PONG");
        longest = longest.max(asked.elapsed());
    }
    for client in &mut waiting {
        assert_eq!([(); 3].map(|()| said(client.receive().unwrap())), ["OK", "ann", "PONG"]);
    }
    let all = begun.elapsed();
    assert!(longest < all / 4, "another client waited {longest:?}, all logins took {all:?}");

    let mut client = server.connect();
    assert_eq!(
        ask(&mut client, "AUTH ann wrong"),
        "WRONGPASS invalid username-password pair or user is disabled."
    );
    assert_eq!(ask(&mut client, "ACL WHOAMI"), "default");
    check(
        &server,
        "
        > HELLO 3 AUTH ann secret SETNAME me
        {proto: :3, ...}
        > CLIENT GETNAME
        \"me\"
        > ACL SETUSER admin on >other +@all ~*
        +OK
        > HELLO 3 AUTH ann secret AUTH admin secret
        -WRONGPASS invalid username-password pair or user is disabled.
        > ACL WHOAMI
        \"ann\"
        > HELLO 3 AUTH ann secret AUTH admin other
        {proto: :3, ...}
        > ACL WHOAMI
        \"admin\"
        > ACL SETUSER ann <secret
        +OK
        > HELLO 2 AUTH ann secret
        -WRONGPASS invalid username-password pair or user is disabled.
        > ACL LOG 1
        [{count: :1, reason: auth, context: toplevel, object: HELLO, username: ann, ...}]
        ",
    );
}

#[test]
fn slow_passwords_in_a_transaction_and_of_clients_that_leave() {
    let server = Server::start(&[SLOW]);
    check(
        &server,
        "
        > MULTI
        +OK
        > ACL SETUSER ann on >secret +@all ~* &*
        +QUEUED
        > AUTH ann secret
        +QUEUED
        > AUTH ann wrong
        +QUEUED
        > ACL WHOAMI
        +QUEUED
        > EXEC
        [+OK +OK -\"WRONGPASS invalid username-password pair or user is disabled.\" ann]
        ",
    );
    // Who leaves while a password is verified disturbs nobody.
    for _ in 0..8 {
        let mut client = server.connect();
        let requests = [request(&["WATCH", "key"]), request(&["AUTH", "ann", "secret"])].concat();
        client.send_raw(&requests).unwrap();
    }
    let mut client = server.connect();
    let deadline = Instant::now() + Duration::from_secs(10);
    while !ask(&mut client, "INFO clients").contains("connected_clients:1\r") {
        assert!(Instant::now() < deadline, "they do not leave");
    }
    assert_eq!(ask(&mut server.connect(), "SET key value"), "OK");
    // Removed while somebody logs in: the login is worth nothing, or has not happened.
    let mut client = server.connect();
    client.send(&["AUTH", "ann", "secret"]).unwrap();
    let removed = server.connect().call(&["ACL", "DELUSER", "ann"]).unwrap();
    assert!(matches!(removed, Reply::Integer(1)));
    if client.receive().is_ok_and(|reply| said(reply) == "OK") {
        assert!(client.call(&["PING"]).is_err());
    }
}
