//! The file of users: a line each, `user name rules`.

use std::collections::BTreeMap;

use crate::rule::{Wrong, has_spaces, join_selectors};
use crate::user::User;
use crate::users::{Setting, Users};

/// The users of a file's text. Otherwise everything that is wrong with it, by lines, in one line of text.
///
/// `path` is how the file is called in that. Hashes the passwords that stand in the clear, which may take long.
pub fn parse(text: &[u8], path: &str, setting: &Setting) -> Result<Vec<User>, String> {
    let mut users: BTreeMap<Vec<u8>, User> = BTreeMap::new();
    let mut errors = String::new();
    for (number, line) in (1..).zip(text.split(|byte| *byte == b'\n')) {
        let place = format!("{path}:{number}");
        let line = trim(line, b" \t\r");
        if line.is_empty() {
            continue;
        }
        let mut words = line.split(|byte| *byte == b' ');
        let (Some(b"user"), Some(name)) = (words.next(), words.next()) else {
            errors += &format!("{place} should start with user keyword followed by the username. ");
            continue;
        };
        let shown = String::from_utf8_lossy(name);
        if has_spaces(name) {
            errors += &format!("'{place}: username '{shown}' contains invalid characters. ");
            continue;
        }
        if users.contains_key(name) {
            errors += &format!("WARNING: Duplicate user '{shown}' found on line {number}. ");
            continue;
        }
        let user = user(name, words, &place, setting, &mut errors);
        users.insert(name.to_vec(), user);
    }
    if errors.is_empty() {
        return Ok(users.into_values().collect());
    }
    errors += "WARNING: ACL errors detected, no change to the previously active ACL rules was performed";
    Err(errors)
}

/// The user of a line. Unknown commands are told all, of the other errors the first, as it may be the cause of those that
/// follow.
fn user<'a>(
    name: &[u8],
    rules: impl Iterator<Item = &'a [u8]>,
    place: &str,
    setting: &Setting,
    errors: &mut String,
) -> User {
    let user = User::new(name, setting);
    let Ok(rules) = join_selectors(rules) else {
        *errors += &format!("{place}: Unmatched parenthesis in selector definition. ");
        return user;
    };
    let rules: Vec<&[u8]> = rules.iter().map(|rule| trim(rule, b"\t\r")).collect();
    let mut is_first = true;
    user.with_those_of(&rules, setting, |rule, wrong| {
        let text = wrong.text();
        if wrong == Wrong::UnknownCommand {
            let rule = String::from_utf8_lossy(rule);
            *errors += &format!("{place}: Error in applying operation '{rule}': {text}. ");
        } else if std::mem::take(&mut is_first) {
            *errors += &format!("{place}: {text}. ");
        }
    })
}

fn trim<'a>(mut text: &'a [u8], of: &[u8]) -> &'a [u8] {
    while let [first, rest @ ..] = text
        && of.contains(first)
    {
        text = rest;
    }
    while let [rest @ .., last] = text
        && of.contains(last)
    {
        text = rest;
    }
    text
}

/// The lines of all users, without line ends.
pub fn lines(users: &Users) -> impl Iterator<Item = Vec<u8>> {
    let table = &users.setting().table;
    users.iter().map(|user| [b"user ", user.name(), b" ", user.describe(table)].concat())
}

/// The text of a file that [`parse`] makes the same users of.
pub fn print(users: &Users) -> Vec<u8> {
    lines(users).flat_map(|line| [line, b"\n".to_vec()]).flatten().collect()
}
