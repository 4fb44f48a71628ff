//! The source itself: what every file of the workspace keeps to.

use std::fs;
use std::path::{Path, PathBuf};

use mortise_tests::source;

/// A file answers one question; when it grows beyond this it is mostly two.
const LINES_MAX: usize = 700;

/// Files that may be longer, and why.
const LONGER: &[(&str, &str)] = &[];

/// Where `unsafe` may stand; everywhere else the compiler denies it, unless a file allows it to itself.
const UNSAFE: &[&str] = &[
    "core/src/keyspace/dict.rs",
    "core/src/keyspace/dict/segment.rs",
    "core/src/keyspace/entry.rs",
    "core/src/keyspace/memory.rs",
    "core/src/modules/border.rs",
    "core/src/modules/load.rs",
    "modules-sdk/abi/src/",
    "modules-sdk/src/border/",
    // The clock of a script, which Lua calls; and the binding: state, stack, allocator. The rest of the crate is safe.
    "scripting/src/hook.rs",
    "scripting/src/raw.rs",
    "scripting/src/raw/",
    "tests/fixtures/modules/examples/early_memory.rs",
    "tests/fixtures/modules/examples/other_version.rs",
];

/// Macros that say "later". Written in two parts, so that this file does not name them.
const UNFINISHED: &[(&str, &str)] = &[("todo", "!("), ("unimplemented", "!("), ("dbg", "!(")];

/// Each file's path from the root of the workspace, and its text.
fn rust_files() -> Vec<(String, String)> {
    let root = source::workspace_root();
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        (relative(&path, root), text)
    };
    source::files(root, "rs").into_iter().map(read).collect()
}

fn relative(path: &Path, root: &Path) -> String {
    path.strip_prefix(root).unwrap_or(path).to_string_lossy().replace('\\', "/")
}

/// The code of a line: without its comment and the texts of its strings (which are rarely more than a line long).
fn code(line: &str) -> String {
    let mut out = String::new();
    let mut in_string = false;
    // The quote as a character opens no string.
    let line = line.replace("'\"'", "");
    let mut characters = line.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\\' if in_string => {
                characters.next();
            }
            '"' => in_string = !in_string,
            '/' if !in_string && characters.peek() == Some(&'/') => break,
            _ if !in_string => out.push(character),
            _ => {}
        }
    }
    out
}

fn has_word(code: &str, word: &str) -> bool {
    code.split(|c: char| !(c.is_alphanumeric() || c == '_')).any(|found| found == word)
}

fn assert_none(problems: Vec<String>) {
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}

#[test]
fn files_are_short_enough_to_read() {
    let mut problems = Vec::new();
    for (path, text) in rust_files() {
        let allowed = LONGER.iter().any(|(longer, _)| *longer == path);
        let lines = text.lines().count();
        match lines > LINES_MAX {
            true if !allowed => problems.push(format!("{path}: {lines} lines are more than {LINES_MAX}")),
            false if allowed => problems.push(format!("{path}: is short again; take it off the list")),
            _ => {}
        }
    }
    assert_none(problems);
}

#[test]
fn every_file_says_what_it_is() {
    let silent = rust_files().into_iter().filter(|(_, text)| {
        // The crate's attributes may stand before its documentation, and a README may be the documentation.
        let first = text.lines().find(|line| !line.trim().is_empty());
        !first.is_some_and(|line| line.starts_with("//!") || line.starts_with("#![doc = include_str!("))
    });
    assert_none(silent.map(|(path, _)| format!("{path}: does not begin with //!")).collect());
}

#[test]
fn nothing_is_left_for_later() {
    let mut problems = Vec::new();
    for (path, text) in rust_files() {
        for (number, line) in text.lines().enumerate() {
            let code = code(line);
            let found = UNFINISHED.iter().find(|(name, call)| code.contains(&format!("{name}{call}")));
            if let Some((name, _)) = found {
                problems.push(format!("{path}:{}: {name}!", number + 1));
            }
        }
    }
    assert_none(problems);
}

#[test]
fn unsafe_stands_only_where_it_is_known() {
    let mut problems = Vec::new();
    for (path, text) in rust_files() {
        let known =
            UNSAFE.iter().any(|place| path == *place || (place.ends_with('/') && path.starts_with(place)));
        for (number, line) in text.lines().enumerate().filter(|_| !known) {
            if has_word(&code(line), "unsafe") {
                problems.push(format!("{path}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    assert_none(problems);
}

#[test]
fn lines_are_read_as_the_compiler_does() {
    assert_eq!(code("let a = \"unsafe // \\\" x\"; // unsafe").trim(), "let a = ;");
    assert_eq!(code("if c == '\"' { unsafe }"), "if c ==  { unsafe }");
    assert!(has_word("pub unsafe fn", "unsafe") && !has_word("unsafe_code", "unsafe"));
}

#[test]
fn scripts_name_their_command() {
    // The first line of a script is its title: the file's name, and what the command does.
    let scripts = source::files(&mortise_tests::suite::scripts_folder(), "test");
    let untitled = scripts.into_iter().filter(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let text = fs::read_to_string(path).unwrap_or_default();
        !text.starts_with(&format!("# {name} — "))
    });
    assert_none(untitled.map(|path| format!("{}: has no title", path.display())).collect());
}

#[test]
fn the_tests_own_list_names_each_of_them() {
    let folder = source::workspace_root().join("tests");
    let text = fs::read_to_string(folder.join("README.md")).expect("the tests have a README");
    let list = text.split("\n\n").find(|part| part.contains("`src/`")).expect("it lists what there is");
    let named: Vec<&str> = list.split('`').skip(1).step_by(2).collect();
    let mut problems = Vec::new();
    let mut found = Vec::new();
    for place in ["", "src", "tests"] {
        for entry in fs::read_dir(folder.join(place)).expect("the folder is there").flatten() {
            let mut name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with('.') || ["Cargo.toml", "README.md", "lib.rs", "target"].contains(&&*name) {
                continue;
            }
            name.push_str(if entry.path().is_dir() { "/" } else { "" });
            if !named.contains(&&*name) {
                problems.push(format!("tests/README.md does not name {place}/{name}"));
            }
            found.push(name);
        }
    }
    // Texts between quotes that are no names have no point or slash at all.
    let is_name = |name: &&&str| name.ends_with(".rs") || name.ends_with('/') || name.ends_with(".sh");
    let gone = named.iter().filter(is_name).filter(|name| !found.iter().any(|there| there == **name));
    problems.extend(gone.map(|name| format!("tests/README.md names {name}, which is not there")));
    assert_none(problems);
}
