//! Modules at run time: what a module may do, and what its faults cannot.

#[path = "support/modules.rs"]
mod support;

use mortise_core::engine::replay::Replay;
use mortise_core::modules::Permission;
use support::{Server, library};

#[test]
fn a_module_brings_all_four_tables() {
    let mut server = Server::with("hello");
    assert_eq!(server.ask("HELLO.GREET Ann"), "$11 Hello, Ann!");
    assert_eq!(server.ask("hello.greet"), "-ERR wrong number of arguments for 'hello.greet' command");
    assert_eq!(server.ask("HELLO.SIGN book Ann"), ":1");
    assert_eq!(server.ask("HELLO.SIGN book Bob"), ":2");
    assert_eq!(server.ask("HELLO.GUESTS book"), "*2 $3 Ann $3 Bob");
    assert_eq!(server.ask("HELLO.GUESTS nobody"), "*0");

    server.ask("SET text x");
    let wrong_type = "-WRONGTYPE Operation against a key holding the wrong kind of value";
    assert_eq!(server.ask("HELLO.SIGN text Ann"), wrong_type);
    assert_eq!(server.ask("HELLO.GUESTS text"), wrong_type);
    assert_eq!(server.ask("GET book"), wrong_type);

    let engine = &mut server.engine;
    let directives = engine.directives.clone();
    let shown = directives.get_matching(&engine.config, &[b"hello.*"]);
    assert_eq!(
        shown,
        [("hello.greeting".into(), "Hello".into()), ("hello.guests-max".into(), "1000000".into())]
    );
    assert!(directives.set_many(&mut engine.config, &[(b"hello.guests-max", b"0")], false).is_err());
    assert!(directives.set_many(&mut engine.config, &[(b"hello.greeting", b"Good day")], false).is_ok());
    assert_eq!(server.ask("HELLO.GREET Ann"), "$14 Good day, Ann!");

    for words in ["INFO hello", "INFO modules", "INFO everything"] {
        assert!(server.ask(words).contains("# hello hello_greetings:"), "{}", server.ask(words));
    }
    assert!(server.ask("INFO").contains("# Modules module:name=hello,ver=100,api=1,"));
    assert!(!server.ask("INFO").contains("hello_greetings"));
    let module = server.engine.modules.find("hello").unwrap();
    assert!(module.memory() > 0 && module.version == 100);
}

#[test]
fn an_emptied_value_goes_and_an_unchanged_one_is_not_propagated() {
    let mut server = Server::with("hello");
    for line in
        ["HELLO.SIGN b Ann", "HELLO.ERASE b Bob", "HELLO.GUESTS b", "HELLO.ERASE b Ann", "HELLO.ERASE b Ann"]
    {
        server.ask(line);
    }
    assert_eq!(server.propagated(), ["HELLO.SIGN b Ann", "HELLO.ERASE b Ann"]);
    assert_eq!(server.engine.modules.data_type("guestbook").unwrap().name(), "guestbook");
    assert_eq!(server.ask("MODULE UNLOAD hello"), "+OK");
}

#[test]
fn what_is_propagated_makes_the_same_values() {
    let mut server = Server::with("hello");
    let mut shadow = Server::beside();
    shadow.engine.set_registry((*server.engine.registry).clone());
    for line in
        ["HELLO.SIGN b Ann", "HELLO.SIGN b Bob", "MULTI", "HELLO.ERASE b Ann", "HELLO.SIGN b Eve", "EXEC"]
    {
        assert!(!server.ask(line).starts_with('-'), "{line}");
    }
    let units: Vec<_> = server.stream.0.lock().unwrap().drain(..).collect();
    let mut replay = Replay::new();
    for unit in &units {
        replay.unit(&mut shadow.engine, unit).unwrap();
    }
    assert_eq!(shadow.ask("HELLO.GUESTS b"), "*2 $3 Bob $3 Eve");
    assert_eq!(server.ask("HELLO.GUESTS b"), "*2 $3 Bob $3 Eve");
}

#[test]
fn values_take_part_in_undo() {
    let mut server = Server::with("hello");
    server.ask("HELLO.SIGN b Ann");
    server.engine.keyspace.begin_undo();
    server.ask("HELLO.SIGN b Bob");
    server.ask("HELLO.SIGN new Bob");
    server.ask("HELLO.ERASE b Ann");
    assert_eq!(server.ask("HELLO.GUESTS b"), "*1 $3 Bob");
    server.engine.keyspace.abort();
    assert_eq!(server.ask("HELLO.GUESTS b"), "*1 $3 Ann");
    assert_eq!(server.ask("HELLO.GUESTS new"), "*0");
}

#[test]
fn modules_are_loaded_with_settings_and_unloaded() {
    let mut server = Server::new();
    let path = library("hello").to_str().unwrap().to_owned();
    let mut loadex = |words: &[&str]| server.say(&[&["MODULE", "LOADEX", &path], words].concat());
    assert!(loadex(&["CONFIG", "hello.greeting"]).contains("CONFIG stands without a name and a value"));
    assert!(loadex(&["CONFIG", "hello.nothing", "1"]).contains("has no directive 'hello.nothing'"));
    assert!(
        loadex(&["CONFIG", "hello.guests-max", "many"]).contains("refuses 'many' for 'hello.guests-max'")
    );
    assert!(loadex(&["WHAT"]).contains("Syntax error around 'WHAT'"));
    assert_eq!(
        loadex(&["CONFIG", "hello.greeting", "Hi", "ARGS", "a", "b"]),
        "-ERR Error loading the extension. Module 'hello' does not start: it takes no arguments."
    );
    assert_eq!(loadex(&["CONFIG", "hello.greeting", "Hi"]), "+OK");
    assert_eq!(server.ask("HELLO.GREET Ann"), "$8 Hi, Ann!");
    let list = format!("*1 *8 $4 name $5 hello $3 ver :100 $4 path ${} {path} $4 args *0", path.len());
    assert_eq!(server.ask("MODULE LIST"), list);

    server.ask("HELLO.SIGN book Ann");
    let in_use =
        "-ERR Error unloading module: the module exports one or more module-side data types, can't unload";
    assert_eq!(server.ask("MODULE UNLOAD hello"), in_use);
    assert_eq!(server.ask("MODULE UNLOAD x"), "-ERR Error unloading module: no such module with that name");
    server.ask("HELLO.ERASE book Ann");

    // A queued command outlives the module, and says so.
    let mut other = server.engine.local_session().unwrap();
    for words in [&[&b"MULTI"[..]][..], &[b"HELLO.GREET", b"Ann"]] {
        other = server.engine.request(other, words).0.unwrap();
    }
    assert_eq!(server.ask("MODULE UNLOAD hello"), "+OK");
    let (_, reply) = server.engine.request(other, &[b"EXEC"]);
    assert_eq!(String::from_utf8_lossy(&reply), "*1\r\n-ERR module 'hello' has been unloaded\r\n");
    assert!(server.ask("HELLO.GREET Ann").starts_with("-ERR unknown command 'HELLO.GREET'"));
    assert!(!server.engine.directives.contains("hello.greeting"));

    // Loaded again, it begins anew.
    assert_eq!(server.load("hello"), "+OK");
    assert_eq!(server.ask("HELLO.GREET Ann"), "$11 Hello, Ann!");
}

#[test]
fn only_who_may_loads() {
    let mut server = Server::new();
    server.engine.config.modules.enable_module_command = Permission::No;
    assert!(server.load("hello").starts_with("-ERR MODULE command not allowed."));
}

#[test]
fn panics_are_errors() {
    let mut server = Server::with("panicking");
    let panicked = |command: &str| format!("-ERR module 'panicking' panicked in {command}");
    assert_eq!(server.ask("PANICKING.NOW"), panicked("PANICKING.NOW"));
    assert_eq!(server.ask("PANICKING.WELL"), "+OK");
    assert_eq!(server.ask("PANICKING.SILENT"), "-ERR module 'panicking' gave no reply in PANICKING.SILENT");

    // Every function of this value panics: it cannot be copied, measured or freed, and nothing comes of it.
    assert_eq!(server.ask("PANICKING.ARM bomb"), "+OK");
    assert_eq!(server.ask("PANICKING.EDIT bomb"), panicked("PANICKING.EDIT"));
    server.engine.keyspace.begin_undo();
    let irrevocable = "-ERR a value of a module that cannot be copied cannot be changed in an atomic call";
    for command in ["PANICKING.EDIT bomb", "DEL bomb", "SET bomb x", "RENAME bomb b", "MSET a 1 bomb 2"] {
        assert_eq!(server.ask(command), irrevocable, "{command}");
    }
    // What came into being within the trial can go again.
    assert_eq!(server.ask("PANICKING.ARM another"), "+OK");
    assert_eq!(server.ask("PANICKING.EDIT another"), panicked("PANICKING.EDIT"));
    assert_eq!(server.ask("SET x 1"), "+OK");
    server.engine.keyspace.abort();
    assert_eq!(server.ask("TYPE bomb"), "+bomb");
    assert_eq!(server.ask("EXISTS x another a b"), ":0");
    assert_eq!(server.ask("PANICKING.ARM bomb"), "+OK");
    assert_eq!(server.ask("SET bomb x"), "+OK");
    assert_eq!(server.ask("PANICKING.WELL"), "+OK");
}

#[test]
fn whoever_keeps_panicking_is_disabled() {
    let mut server = Server::with("panicking");
    for _ in 0..100 {
        assert!(server.ask("PANICKING.NOW").contains("panicked in"));
    }
    let disabled = "-ERR module 'panicking' is disabled, as it has panicked 100 times";
    assert_eq!(server.ask("PANICKING.WELL"), disabled);
    assert_eq!(server.ask("MODULE UNLOAD panicking"), "+OK");
    assert_eq!(server.load("panicking"), "+OK");
    assert_eq!(server.ask("PANICKING.WELL"), "+OK");
}

#[test]
fn a_type_that_was_not_declared_is_not_taken_for_another() {
    let mut server = Server::with("panicking");
    server.ask("PANICKING.ARM bomb");
    let refusal = "-ERR the module uses a data type that it has not declared";
    assert_eq!(server.ask("PANICKING.UNDECLARED bomb"), refusal);
    assert_eq!(server.ask("PANICKING.UNDECLARED other"), refusal);
}

#[test]
fn modules_invoke_commands() {
    let mut server = Server::with("panicking");
    assert_eq!(server.ask("PANICKING.INVOKE SET k v"), simple_ok());
    assert_eq!(server.propagated(), ["PANICKING.INVOKE SET k v"]);
    assert_eq!(server.ask("GET k"), "$1 v");
    assert_eq!(server.ask("PANICKING.INVOKE GET k"), "$11 Bulk([118])");
    assert_eq!(server.ask("PANICKING.INVOKE GET"), "-ERR wrong number of arguments for 'get' command");
    assert_eq!(server.ask("PANICKING.INVOKE NOTHING"), "-ERR unknown command 'NOTHING'");
    assert_eq!(server.ask("PANICKING.INVOKE MULTI"), "-ERR a module cannot invoke 'multi'");
    let deep = format!("{}WELL", "PANICKING.INVOKE ".repeat(20));
    assert_eq!(server.ask(&deep), "-ERR commands of modules invoke each other too deeply");
    assert_eq!(server.propagated(), [""; 0]);

    assert_eq!(server.ask("PANICKING.REMEMBER then"), "+OK");
    assert_eq!(server.propagated(), ["SET then 1700000000000"]);
}

/// `Simple("OK")` as its bytes are shown, in a bulk string.
fn simple_ok() -> String {
    let text = format!("Simple({:?})", b"OK");
    format!("${} {text}", text.len())
}

#[test]
fn modules_are_given_their_arguments() {
    let mut server = Server::new();
    let path = library("rich").to_str().unwrap().to_owned();
    let mut load = |args: &[&str]| server.say(&[&["MODULE", "LOAD", &path], args].concat());
    let refused =
        |reason: &str| format!("-ERR Error loading the extension. Module 'rich' does not start: {reason}.");
    assert_eq!(load(&["refuse"]), refused("it was told to refuse"));
    assert_eq!(load(&["panic"]), refused("it panicked"));
    assert_eq!(load(&["a", "b c"]), "+OK");
    assert_eq!(server.ask("RICH.ARGS"), "*2 $1 a $3 b c");
    assert!(server.ask("MODULE LIST").ends_with("$4 args *2 $1 a $3 b c"));
    assert_eq!(server.ask("MODULE UNLOAD rich"), "+OK");
    assert_eq!(server.load("rich"), "+OK");
    assert_eq!(server.ask("RICH.ARGS"), "*0");
}

#[test]
fn a_module_has_containers_of_its_own() {
    let mut server = Server::with("rich");
    assert_eq!(server.ask("RICH.GROUP ONE"), "$3 one");
    assert_eq!(server.ask("RICH.GROUP TWO"), "-ERR unknown subcommand 'TWO'. Try RICH.GROUP HELP.");
    assert_eq!(server.ask("RICH.GROUP"), "-ERR wrong number of arguments for 'rich.group' command");
    assert_eq!(server.ask("MODULE UNLOAD rich"), "+OK");
    assert!(server.ask("RICH.GROUP ONE").starts_with("-ERR unknown command 'RICH.GROUP'"));
}

#[test]
fn quotes_around_words_survive() {
    let mut server = Server::with("rich");
    assert_eq!(server.ask("RICH.WORDS"), "*2 $3 a b $1 c");
    let directives = server.engine.directives.clone();
    let set = |server: &mut Server, value: &[u8]| {
        directives.set_many(&mut server.engine.config, &[(b"rich.words", value)], false).map(|_| ())
    };
    set(&mut server, br#"one "two  three" 'four five'"#).unwrap();
    assert_eq!(server.ask("RICH.WORDS"), "*3 $3 one $10 two  three $9 four five");
    assert!(set(&mut server, br#"one "two"#).unwrap_err().to_string().ends_with("unbalanced quotes"));
    // What is taken back is what was there, although the other directive of the call is the one refused.
    let pairs: [(&[u8], &[u8]); 2] = [(b"rich.words", b"x"), (b"port", b"x")];
    assert!(directives.set_many(&mut server.engine.config, &pairs, false).is_err());
    assert_eq!(server.ask("RICH.WORDS"), "*3 $3 one $10 two  three $9 four five");
    let entries = directives.entries(&server.engine.config).unwrap();
    let entry = entries.iter().find(|entry| entry.name == "rich.words").unwrap();
    assert_eq!((&entry.lines[..], entry.force), (&[r#"one "two  three" "four five""#.to_owned()][..], true));
    set(&mut server, b"").unwrap();
    assert_eq!(server.ask("RICH.WORDS"), "*0");
}

#[test]
fn select_holds_until_the_modules_command_ends() {
    let mut server = Server::with("rich");
    assert_eq!(server.ask("RICH.ELSEWHERE 3 SET k there"), simple_ok());
    assert_eq!(server.session.as_ref().unwrap().db, 0);
    assert!(server.ask("CLIENT INFO").contains(" db=0 "), "{}", server.ask("CLIENT INFO"));
    assert_eq!(server.ask("GET k"), "$-1");
    // Within another module's command it is over with the command that it belongs to.
    assert!(server.ask("RICH.ELSEWHERE 3 RICH.ELSEWHERE 4 SET k further").contains("Bulk("));
    assert_eq!(server.session.as_ref().unwrap().db, 0);
    assert_eq!(server.ask("SELECT 3"), "+OK");
    assert_eq!(server.ask("GET k"), "$5 there");
}

#[test]
fn what_a_module_invokes_is_allowed_to_its_caller() {
    let mut server = Server::with("panicking");
    server.ask("SET theirs secret");
    server.ask("ACL SETUSER guest on nopass ~own:* %R~shared &news +panicking.invoke +get +set +publish +eval +multi +exec");
    assert_eq!(server.ask("AUTH guest any"), "+OK");
    let command = "-NOPERM this user has no permissions to run the 'del' command";
    let key = "-NOPERM this user has no permissions to access one of the keys used as arguments";
    let channel = "-NOPERM this user has no permissions to access one of the channels used as arguments";
    let value = format!("$11 Bulk({:?})", b"v");
    let cases = [
        ("SET own:1 v", simple_ok()),
        ("GET own:1", value.clone()),
        ("GET shared", "$4 Null".to_owned()),
        ("PUBLISH news x", "$10 Integer(0)".to_owned()),
        ("DEL own:1", command.to_owned()),
        ("SELECT 1", command.replace("del", "select")),
        ("SET shared v", key.to_owned()),
        ("GET theirs", key.to_owned()),
        ("PUBLISH others x", channel.to_owned()),
        // However deep it is hidden.
        ("PANICKING.INVOKE PANICKING.INVOKE GET theirs", key.to_owned()),
        // What does not exist is said before, and what takes other arguments.
        ("NOTHING", "-ERR unknown command 'NOTHING'".to_owned()),
        ("DEL", "-ERR wrong number of arguments for 'del' command".to_owned()),
    ];
    for (words, reply) in &cases {
        assert_eq!(server.ask(&format!("PANICKING.INVOKE {words}")), *reply, "{words}");
    }
    // In a transaction and from a script as well.
    for line in ["MULTI", "PANICKING.INVOKE GET theirs", "PANICKING.INVOKE GET own:1"] {
        server.ask(line);
    }
    assert_eq!(server.ask("EXEC"), format!("*2 {key} {value}"));
    let script = "return redis.pcall('PANICKING.INVOKE','GET','theirs')";
    assert_eq!(server.say(&["EVAL", script, "0"]), key);

    assert_eq!(server.ask("AUTH default any"), "+OK");
    assert_eq!(server.ask("GET theirs"), "$6 secret");
    let log = server.ask("ACL LOG");
    for what in ["key", "channel", "command"] {
        let noted = format!("$6 reason ${} {what} $7 context $6 module $6 object", what.len());
        assert!(log.contains(&noted), "{what}: {log}");
    }
    assert!(!log.contains("toplevel") && !log.contains("$3 lua") && !log.contains("$5 multi"), "{log}");
    assert_eq!(server.ask("PANICKING.INVOKE DEL own:1"), "$10 Integer(1)");
}

#[test]
fn a_reply_is_one_and_whole() {
    let mut server = Server::with("replying");
    assert_eq!(server.ask("REPLYING.LINES"), "+one  :2");
    let nothing = "-ERR module 'replying' gave no reply in REPLYING.ROW";
    assert_eq!(server.ask("REPLYING.ROW"), nothing);
    for (pieces, reply) in [
        ("i", ":1"),
        ("a0", "*0"),
        ("m0", "*0"),
        ("a2 i $", "*2 :1 $4 bulk"),
        ("a2 a1 d m1 b n", "*2 *1 $3 1.5 *2 :1 $-1"),
        ("s1 a2 + a0", "*1 *2 +status *0"),
    ] {
        assert_eq!(server.ask(&format!("REPLYING.ROW {pieces}")), reply, "{pieces}");
    }
    let wrong = "-ERR module 'replying' did not give one whole reply in REPLYING.ROW";
    for pieces in
        ["i i", "a3", "a3 i i", "a1 i i", "m1 i", "a0 i", "a0 a0", "a1 a1", "i a1", "a18446744073709551615 i"]
    {
        assert_eq!(server.ask(&format!("REPLYING.ROW {pieces}")), wrong, "{pieces}");
    }
    // What is behind it in a transaction stays in its place.
    for line in ["MULTI", "REPLYING.ROW a3", "GET k", "REPLYING.ROW i i"] {
        server.ask(line);
    }
    assert_eq!(server.ask("EXEC"), format!("*3 {wrong} $-1 {wrong}"));
}

#[test]
fn a_panic_of_the_core_does_not_unwind_through_a_module() {
    use mortise_core::engine::call::Run;
    use mortise_sdk::declare::Spec;
    let mut server = Server::with("panicking");
    let boom = Spec { usage: "BOOM", ..Spec::group("generic") };
    let mut registry = (*server.engine.registry).clone();
    registry.install([(boom, Run::Core(|_| panic!("of the core")))].into_iter(), None).unwrap();
    server.engine.set_registry(registry);
    for line in ["PANICKING.INVOKE BOOM", "PANICKING.INVOKE PANICKING.INVOKE BOOM"] {
        let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| server.ask(line))).unwrap_err();
        assert_eq!(panic.downcast_ref(), Some(&"of the core"), "{line}");
        assert_eq!(server.engine.unit.invoked, 0);
        // It has cost the client; the next one is served.
        server.session = server.engine.local_session();
        assert_eq!(server.ask("PANICKING.INVOKE SET k v"), simple_ok());
    }
    server.propagated();
    assert_eq!(server.ask("PANICKING.INVOKE SET k v"), simple_ok());
    assert_eq!(server.propagated(), ["PANICKING.INVOKE SET k v"]);
}

#[test]
fn what_a_module_cannot_say_is_not_nothing() {
    let mut server = Server::with("panicking");
    let empty = server.engine.digest();
    server.ask("PANICKING.ARM bomb");
    assert_ne!(server.engine.digest(), empty);
    let bomb = server.engine.modules.data_type("bomb").unwrap();
    assert!(bomb.load(b"", 1).is_err());

    let directives = server.engine.directives.clone();
    let mood: &[u8] = b"panicking.mood";
    directives.set_many(&mut server.engine.config, &[(mood, b"good")], false).unwrap();
    assert_eq!(directives.get_matching(&server.engine.config, &[mood]).len(), 1);
    directives.set_many(&mut server.engine.config, &[(mood, b"unspeakable")], false).unwrap();
    assert_eq!(directives.get_matching(&server.engine.config, &[mood]), []);
    let unreadable = directives.entries(&server.engine.config).map(|_| ()).unwrap_err();
    assert_eq!(unreadable, "directive panicking.mood cannot be read: the module panicked");
}

#[test]
fn a_module_that_comes_and_goes_leaves_nothing_behind() {
    let mut server = Server::with("rich");
    let places = server.engine.registry.indices();
    let index = server.engine.registry.by_full_name(b"rich.group|one").unwrap().index;
    for _ in 0..3 {
        assert_eq!(server.ask("RICH.GROUP ONE"), "$3 one");
        assert_eq!(server.engine.stats.commands[index].calls, 1);
        assert_eq!(server.ask("MODULE UNLOAD rich"), "+OK");
        assert_eq!(server.engine.stats.commands[index].calls, 0);
        assert!(server.engine.stats.commands[index].latency.is_none());
        assert_eq!(server.load("rich"), "+OK");
        assert_eq!(server.engine.registry.indices(), places);
    }
}
