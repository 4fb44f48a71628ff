//! What rules say, how they are printed, what is wrong with those that are refused.

mod support;

use mortise_acl::password::Scheme;
use mortise_acl::{Setting, User, Users, file};
use support::{ask, facts, setting, table};

const DIGEST: &str = "2bd806c97f0e00af1a1fc3328fa763a9269723c8db8fac4f93af71db186d6e90"; // of "alice"

fn with(user: &User, rules: &str, setting: &Setting) -> Result<User, String> {
    user.with(rules.split(' ').map(str::as_bytes), setting).map_err(|refused| refused.to_string())
}

fn shown(user: &User, setting: &Setting) -> String {
    String::from_utf8(user.describe(&setting.table).to_vec()).unwrap()
}

#[test]
fn rules_are_printed() {
    let setting = setting(&facts(), false);
    for (rules, printed) in [
        ("", "off resetchannels -@all"),
        ("on nopass ~* &* +@all", "on nopass ~* &* +@all"),
        ("reset", "off sanitize-payload resetchannels -@all"),
        ("ON NoPass AllKeys ALLCHANNELS AllCommands", "on nopass ~* &* +@all"),
        ("skip-sanitize-payload", "off skip-sanitize-payload resetchannels -@all"),
        (">alice >alice", &format!("off #{DIGEST} resetchannels -@all")),
        (">alice nopass", "off nopass resetchannels -@all"),
        (">alice <alice", "off resetchannels -@all"),
        ("%R~foo %W~foo %RW~bar %wr~baz", "off ~foo ~bar ~baz resetchannels -@all"),
        ("%R~r %W~w ~b", "off %R~r %W~w ~b resetchannels -@all"),
        ("%RW~*", "off ~* resetchannels -@all"),
        ("%RW~* ~a", "off %RW~* ~a resetchannels -@all"),
        ("%R", "off %R~ resetchannels -@all"),
        ("&a &b &a", "off resetchannels &a &b -@all"),
        ("&a &*", "off &* -@all"),
        ("+@string", "off resetchannels -@all +@string"),
        ("+@string -get", "off resetchannels -@all +@string -get"),
        ("+@all -@string +get", "off resetchannels +@all -@string +get"),
        ("+@all -client +client|id", "off resetchannels +@all -client +client|id"),
        ("+@all -client|kill", "off resetchannels +@all -client|kill"),
        ("+config -config|set", "off resetchannels -@all +config -config|set"),
        ("+client|id +client", "off resetchannels -@all +client"),
        ("+select|0 +select|1 +select|0", "off resetchannels -@all +select|0 +select|1"),
        ("+@all -debug +debug|digest", "off resetchannels +@all -debug +debug|digest"),
        ("+select|0 +select", "off resetchannels -@all +select"),
        ("+select|0 -@fast", "off resetchannels -@all"),
        ("+GET", "off resetchannels -@all +get"),
        ("+hello.sign +@write -set -mset -copy -zunionstore", "off resetchannels -@all +hello.sign"),
        (
            "(+get ~a) (  ~b  &c )",
            "off resetchannels -@all (~a resetchannels -@all +get) (~b resetchannels &c -@all)",
        ),
        ("( ) clearselectors", "off resetchannels -@all"),
    ] {
        let user =
            with(&User::new(b"ann", &setting), rules, &setting).unwrap_or_else(|e| panic!("{rules}: {e}"));
        assert_eq!(shown(&user, &setting), printed, "{rules}");
        let again = with(&User::new(b"ann", &setting), printed, &setting).unwrap();
        assert_eq!(shown(&again, &setting), printed, "read back: {rules}");
    }
}

#[test]
fn odd_patterns_in_selectors_are_read_back() {
    let setting = setting(&facts(), false);
    let user = User::new(b"ann", &setting);
    for (rule, printed) in [
        (r#"(~a" %R~b')"#, None), // the quotes are not closed
        (r#"("~a\"" '%R~b')"#, Some(r#"off resetchannels -@all ("~a\"" %R~b resetchannels -@all)"#)),
        ("(~a) +get)", Some(r#"off resetchannels -@all ("~a)" resetchannels -@all +get)"#)),
        ("(&x' &y')", None), // one pattern with a space in it
    ] {
        let made = user.with([rule.as_bytes()].into_iter(), &setting);
        let Some(printed) = printed else {
            assert!(made.is_err(), "{rule}");
            continue;
        };
        assert_eq!(shown(&made.unwrap(), &setting), printed, "{rule}");
        assert_eq!(shown(&with(&user, printed, &setting).unwrap(), &setting), printed, "{rule}");
    }
}

#[test]
fn new_selectors_may_have_all_channels() {
    let setting = setting(&facts(), true);
    let user = with(&User::new(b"ann", &setting), "(~a)", &setting).unwrap();
    assert_eq!(shown(&user, &setting), "off &* -@all (~a &* -@all)");
    let user = with(&user, "resetchannels &x reset", &setting).unwrap();
    assert_eq!(shown(&user, &setting), "off sanitize-payload &* -@all");
}

#[test]
fn a_wrong_rule_is_named_and_nothing_is_applied() {
    let setting = setting(&facts(), false);
    for (rules, wrong, why) in [
        ("on foo", "foo", "Syntax error"),
        ("+nothing", "+nothing", "Unknown command or category name in ACL"),
        ("-nothing", "-nothing", "Unknown command or category name in ACL"),
        ("+@nothing", "+@nothing", "Unknown command or category name in ACL"),
        ("+config|nothing", "+config|nothing", "Unknown command or category name in ACL"),
        ("-config|nothing", "-config|nothing", "Unknown command or category name in ACL"),
        ("-select|0", "-select|0", "Unknown command or category name in ACL"),
        ("+get|a|b", "+get|a|b", "Unknown command or category name in ACL"),
        ("+config|get|a", "+config|get|a", "Allowing first-arg of a subcommand is not supported"),
        ("+debug|", "+debug|", "Syntax error"),
        ("+debug|a\tb", "+debug|a\tb", "Syntax error"),
        ("~a\tb", "~a\tb", "Syntax error"),
        ("&a\tb", "&a\tb", "Syntax error"),
        ("%X~a", "%X~a", "Syntax error"),
        ("%RR~a", "%RR~a", "Syntax error"),
        ("%~a", "%~a", "Syntax error"),
        ("%", "%", "Syntax error"),
        (
            "~* ~a",
            "~a",
            "Adding a pattern after the * pattern (or the 'allkeys' flag) is not valid and does not have any effect. Try \
             'resetkeys' to start with an empty list of patterns",
        ),
        (
            "(&* &a)",
            "(&* &a)",
            "Adding a pattern after the * pattern (or the 'allchannels' flag) is not valid and does not have any effect. \
             Try 'resetchannels' to start with an empty list of channels",
        ),
        ("<alice", "<alice", "The password you are trying to remove from the user does not exist"),
        (
            "#abc",
            "#abc",
            "The password hash must be exactly 64 characters and contain only lowercase hexadecimal characters",
        ),
        (
            "!abc",
            "!abc",
            "The password hash must be exactly 64 characters and contain only lowercase hexadecimal characters",
        ),
        ("(on)", "(on)", "Syntax error"),
        ("(~a \"b)", "(~a \"b)", "Syntax error"),
        (")", ")", "Syntax error"),
    ] {
        let user = User::new(b"ann", &setting);
        let refused = with(&user, rules, &setting).unwrap_err();
        assert_eq!(refused, format!("Error in ACL SETUSER modifier '{wrong}': {why}"));
        assert_eq!(shown(&user, &setting), "off resetchannels -@all");
    }
    let refused = with(&User::new(b"ann", &setting), "on (~a +get", &setting).unwrap_err();
    assert_eq!(refused, "Unmatched parenthesis in acl selector starting at '(~a'.");
}

#[test]
fn calls_are_allowed_or_refused() {
    let facts = facts();
    let setting = setting(&facts, false);
    for (rules, call, answer) in [
        ("", "get a", "Err(Command)"),
        ("", "auth x", "Ok(())"),
        ("+get", "get a", "Err(Key(1))"),
        ("+get ~a*", "GET abc", "Ok(())"),
        ("+get %W~a*", "get abc", "Err(Key(1))"),
        ("+@all ~a %R~r", "copy r a", "Ok(())"),
        ("+@all ~a %R~r", "copy a r", "Err(Key(2))"),
        ("+@all %R~r %W~w", "exists r w", "Ok(())"),
        ("+@all ~a", "mset a 1 b 2", "Err(Key(3))"),
        ("+@all ~a ~to", "zunionstore to 2 a b", "Err(Key(4))"),
        ("+@all ~a", "zunionstore to 9 a b", "Ok(())"), // the command refuses it
        ("+@all ~*", "publish a b", "Err(Channel(1))"),
        ("+@all &a*", "subscribe ab b", "Err(Channel(2))"),
        ("+@all &a*", "psubscribe a*", "Ok(())"),
        ("+@all &a*", "psubscribe ab", "Err(Channel(1))"),
        ("+config -config|set", "config get x", "Ok(())"),
        ("+config -config|set", "config set x y", "Err(Command)"),
        ("+select|0", "select 0", "Ok(())"),
        ("+select|0", "select 1", "Err(Command)"),
        ("+debug|Object", "debug OBJECT a", "Ok(())"),
        ("+@read ~*", "hello.greet x", "Err(Command)"),
        ("+hello.sign ~*", "hello.sign a b", "Ok(())"),
        ("(+get %R~r) (+set %W~w)", "get r", "Ok(())"),
        ("(+get %R~r) (+set %W~w)", "set w x", "Ok(())"),
        ("(+get %R~r) (+set %W~w)", "get w", "Err(Key(1))"),
        ("+exists ~a (+exists ~a ~b)", "exists b c", "Err(Key(2))"),
    ] {
        let user = with(&User::new(b"ann", &setting), rules, &setting).unwrap();
        let words: Vec<&str> = call.split(' ').collect();
        assert_eq!(format!("{:?}", ask(&user, &facts, &words)), answer, "{rules}: {call}");
    }
}

#[test]
fn users_outlive_the_modules_they_name() {
    let facts = facts();
    let mut users = Users::new(setting(&facts, false));
    for (name, rules) in
        [("ann", "+@all ~* -hello.sign"), ("bob", "+get +hello.sign ~*"), ("eve", "+@all ~*")]
    {
        let user = users.staged(name.as_bytes(), rules.split(' ').map(str::as_bytes)).unwrap();
        users.insert(user);
    }
    let describe = |users: &Users, name: &str| {
        let user = users.find(name.as_bytes()).unwrap();
        String::from_utf8(user.describe(&users.setting().table).to_vec()).unwrap()
    };
    let printed = ["ann", "bob", "eve"].map(|name| describe(&users, name));
    let version = users.version();
    users.set(Setting { table: table(&facts, false), ..Setting::default() });
    assert!(users.version() > version);
    assert_eq!(["ann", "bob", "eve"].map(|name| describe(&users, name)), printed, "without the module");
    users.set(Setting { table: table(&facts, true), ..Setting::default() });
    assert_eq!(["ann", "bob", "eve"].map(|name| describe(&users, name)), printed);
    for (name, allowed) in [("ann", false), ("bob", true), ("eve", true)] {
        let user = users.find(name.as_bytes()).unwrap();
        assert_eq!(ask(user, &facts, &["hello.sign", "a", "b"]).is_ok(), allowed, "{name}");
    }
}

#[test]
fn passwords() {
    let setting = setting(&facts(), false);
    let check = |rules: &str, password: &str| {
        with(&User::new(b"ann", &setting), rules, &setting).unwrap().verifies(password.as_bytes())
    };
    assert_eq!(check("on >alice >bob", "bob"), Some(true));
    assert_eq!(check(&format!("on #{DIGEST}"), "alice"), Some(true));
    assert_eq!(check("on >alice", "bob"), Some(false));
    assert_eq!(check(">alice", "alice"), Some(false), "off");
    assert_eq!(check("on", ""), Some(false), "no password at all");
    assert_eq!(check("on nopass", "anything"), Some(true));
    assert_eq!(check("on nopass >alice", "anything"), Some(false));
    assert_eq!(check("on nopass resetpass", "anything"), Some(false));
}

#[test]
fn slow_passwords_say_so() {
    let facts = facts();
    let slow = Setting { scheme: Scheme::Argon2id, ..setting(&facts, false) };
    let rules = |text: &'static str| text.split(' ').map(str::as_bytes);
    let ann = User::new(b"ann", &slow);
    assert!(ann.takes_long(rules("on >alice"), &slow) && !ann.takes_long(rules("on <alice ~*"), &slow));
    let ann = ann.with(rules("on >alice >alice"), &slow).unwrap();
    assert_eq!(ann.passwords().len(), 1, "it is there already");
    assert_eq!(ann.verifies(b"alice"), None);
    assert!(ann.verifies_slowly(b"alice") && !ann.verifies_slowly(b"bob"));
    let text = String::from_utf8(ann.describe(&slow.table).to_vec()).unwrap();
    assert!(text.starts_with("on #$argon2id$v=19$"), "{text}");

    // Both kinds at once; what is quickly found is not asked slowly.
    let quick = setting(&facts, false);
    let read = with(&User::new(b"ann", &quick), &text, &quick).unwrap();
    let read = with(&read, ">bob", &quick).unwrap();
    assert_eq!((read.verifies(b"bob"), read.verifies(b"alice")), (Some(true), None));
    assert!(read.takes_long(rules("<alice"), &quick));
    let read = read.with(rules("<alice"), &quick).unwrap();
    assert_eq!(read.verifies(b"alice"), Some(false));
}

#[test]
fn the_default_user_is_always_there() {
    let mut users = Users::new(setting(&facts(), false));
    assert!(users.default_needs_no_password() && !users.remove(b"default"));
    users.set_default_password(Some(b"se\0cret"));
    assert!(!users.default_needs_no_password());
    assert_eq!(users.default_user().verifies(b"se\0cret"), Some(true));
    users.set_default_password(None);
    assert!(users.default_needs_no_password());
    let off = users.staged(b"default", [&b"off"[..]].into_iter()).unwrap();
    users.insert(off);
    assert!(!users.default_needs_no_password());
    users.replace(vec![User::new(b"ann", users.setting())]);
    assert!(users.default_needs_no_password() && users.find(b"ann").is_some());
    assert!(users.remove(b"ann") && !users.remove(b"ann"));
}

#[test]
fn channels_that_are_kept() {
    let setting = setting(&facts(), false);
    let user = |rules| with(&User::new(b"ann", &setting), rules, &setting).unwrap();
    for (before, after, keeps) in [
        ("&a &b", "&b &a &c", true),
        ("&a &b", "&b", false),
        ("&a", "&*", true),
        ("&*", "&a", false),
        ("&a (&b)", "&a (&b)", true),
        ("&a (&b)", "&b (&a)", true),
        ("(&*)", "&a", false),
        ("", "", true),
    ] {
        assert_eq!(user(after).keeps_channels_of(&user(before)), keeps, "{before} → {after}");
    }
}

#[test]
fn files_are_read_back() {
    let facts = facts();
    let setting = setting(&facts, false);
    let text = b"user alice on allcommands allkeys &* >alice\r\n\n  user bob on -@all +@string (+get ~a %R~b) ~set* &x \n";
    let mut users = Users::new(setting.clone());
    users.replace(file::parse(text, "users.acl", &setting).unwrap());
    let printed = String::from_utf8(file::print(&users)).unwrap();
    assert_eq!(
        printed,
        format!(
            "user alice on #{DIGEST} ~* &* +@all\n\
             user bob on ~set* resetchannels &x -@all +@string (~a %R~b resetchannels -@all +get)\n\
             user default on nopass ~* &* +@all\n"
        )
    );
    let again = file::parse(printed.as_bytes(), "users.acl", &setting).unwrap();
    let mut read = Users::new(setting);
    read.replace(again);
    assert_eq!(String::from_utf8(file::print(&read)).unwrap(), printed);
}

#[test]
fn everything_wrong_with_a_file_is_told() {
    let setting = setting(&facts(), false);
    let unchanged =
        "WARNING: ACL errors detected, no change to the previously active ACL rules was performed";
    for (text, errors) in [
        ("alice on", "f:1 should start with user keyword followed by the username. "),
        ("User alice", "f:1 should start with user keyword followed by the username. "),
        ("user", "f:1 should start with user keyword followed by the username. "),
        ("user a\tb on", "'f:1: username 'a\tb' contains invalid characters. "),
        ("user a on\nuser a off", "WARNING: Duplicate user 'a' found on line 2. "),
        ("user a (~x", "f:1: Unmatched parenthesis in selector definition. "),
        (
            "user a ~* ~a bad",
            "f:1: Adding a pattern after the * pattern (or the 'allkeys' flag) is not valid and does \
          not have any effect. Try 'resetkeys' to start with an empty list of patterns. ",
        ),
        (
            "user a +x bad -y worse\n\nuser b #1",
            "f:1: Error in applying operation '+x': Unknown command or category name in ACL. f:1: Syntax error. f:1: \
             Error in applying operation '-y': Unknown command or category name in ACL. f:3: The password hash must be \
             exactly 64 characters and contain only lowercase hexadecimal characters. ",
        ),
    ] {
        let told = file::parse(text.as_bytes(), "f", &setting).unwrap_err();
        assert_eq!(told, format!("{errors}{unchanged}"));
    }
}

#[test]
fn no_text_makes_it_panic_and_what_is_accepted_is_read_back() {
    const PIECES: &str = "user user user ann bob on nopass +@all -@all +get -get +@string -@string +config|get +config \
                          +select|0 +select|a)b ~* %R~* %W~* %RW~* ~a ~a) ~\"a ~'b' &* &x &\"y\" ( ) (~k +get) (+@all (~z\" \
                          reset resetkeys resetchannels clearselectors >pass <pass # ! + - ~ & % %R @ | \\ \\x41 \" ' \u{e9}";
    let setting = setting(&facts(), false);
    let pieces: Vec<&str> = PIECES.split_whitespace().chain(["\n", "\n", "\r\n", "\t", "", "\0"]).collect();
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut accepted = 0;
    for _ in 0..60_000 {
        let mut text = String::from("user ann ");
        for _ in 0..6 {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            text.push_str(pieces[seed as usize % pieces.len()]);
            text.push_str(if seed >> 60 == 0 { "" } else { " " });
        }
        let Ok(read) = file::parse(text.as_bytes(), "f", &setting) else { continue };
        accepted += 1;
        let mut users = Users::new(setting.clone());
        users.replace(read);
        let printed = file::print(&users);
        let shown = String::from_utf8_lossy(&printed).into_owned();
        let again =
            file::parse(&printed, "f", &setting).unwrap_or_else(|error| panic!("{text:?}: {shown}: {error}"));
        users.replace(again);
        assert_eq!(String::from_utf8_lossy(&file::print(&users)), shown, "{text:?}");
    }
    assert!(accepted > 1000, "{accepted} were accepted");
}
