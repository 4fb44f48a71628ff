//! Commands as a script calls them: which can be, how that is said, and what becomes of what they answer.

use std::collections::HashMap;
use std::io;

use crate::client::Client;
use crate::reply::Reply;
use crate::script::Awaited;

/// Commands that a script may call, but that change what is only the script's.
const NEVER: &[&str] = &["select"];

/// As many words as Lua's `unpack` can return, less what else is on its stack.
const WORDS_MAX: usize = 7900;

/// What a server says of its commands, by their names; those of subcommands as `config|get`.
#[derive(Debug)]
pub(super) struct Commands(HashMap<String, Command>);

#[derive(Debug)]
struct Command {
    arity: i64,
    allowed: bool,
    is_container: bool,
}

impl Commands {
    /// Asks a server.
    pub(super) fn of(client: &mut Client) -> io::Result<Commands> {
        let mut commands = HashMap::new();
        if let Reply::Array(rows) = client.call(&["COMMAND"])? {
            rows.iter().for_each(|row| collect(row, &mut commands));
        }
        Ok(Commands(commands))
    }

    /// Whether a script may call it and be told what a client is told. A script is told otherwise what is no command, and
    /// which takes other arguments.
    pub(super) fn may_be_called(&self, arguments: &[Vec<u8>]) -> bool {
        let word =
            |index: usize| arguments.get(index).map(|word| String::from_utf8_lossy(word).to_lowercase());
        let Some(name) = word(0) else { return false };
        let named = self.0.get(&name).and_then(|command| match command.is_container {
            true => self.0.get(&format!("{name}|{}", word(1)?)),
            false => Some(command),
        });
        let count = arguments.len();
        named.is_some_and(|command| {
            let fits = usize::try_from(command.arity)
                .map_or_else(|_| count >= command.arity.unsigned_abs() as usize, |arity| count == arity);
            command.allowed && fits && count < WORDS_MAX && !NEVER.contains(&name.as_str())
        })
    }
}

fn collect(row: &Reply, commands: &mut HashMap<String, Command>) {
    let Reply::Array(row) = row else { return };
    let [Reply::Bulk(name), Reply::Integer(arity), Reply::Array(flags), rest @ ..] = &row[..] else { return };
    let allowed = !flags.iter().any(|flag| *flag == Reply::Simple(b"noscript".to_vec()));
    let subcommands = match rest.last() {
        Some(Reply::Array(subcommands)) => &subcommands[..],
        _ => &[],
    };
    let command = Command { arity: *arity, allowed, is_container: !subcommands.is_empty() };
    commands.insert(String::from_utf8_lossy(name).to_lowercase(), command);
    subcommands.iter().for_each(|row| collect(row, commands));
}

/// The request by which a script calls a command. It is told its keys as keys.
pub(super) fn called(control: &mut Client, arguments: &[Vec<u8>]) -> io::Result<Vec<Vec<u8>>> {
    let question = [&b"COMMAND"[..], b"GETKEYS"].into_iter().chain(arguments.iter().map(Vec::as_slice));
    let keys = match control.call(&question.collect::<Vec<_>>())? {
        Reply::Array(keys) => keys,
        // It has none, or they cannot be told.
        _ => Vec::new(),
    };
    let keys: Vec<_> = keys
        .into_iter()
        .filter_map(|key| match key {
            Reply::Bulk(key) => Some(key),
            _ => None,
        })
        .collect();
    let mut request = vec![b"EVAL".to_vec(), b"return redis.pcall(unpack(ARGV))".to_vec()];
    request.push(keys.len().to_string().into_bytes());
    request.extend(keys);
    request.extend_from_slice(arguments);
    Ok(request)
}

/// What comes of what is awaited, once it has been a value of Lua.
pub(super) fn returned(awaited: Awaited) -> Awaited {
    match awaited {
        Awaited::Reply(expected) => Awaited::Reply(expected.by_lua()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::{Commands, HashMap, collect};
    use crate::reply::Reply;

    fn row(name: &str, arity: i64, flags: &[&str], subcommands: Vec<Reply>) -> Reply {
        let flags = flags.iter().map(|flag| Reply::Simple(flag.as_bytes().to_vec())).collect();
        let name = Reply::Bulk(name.as_bytes().to_vec());
        Reply::Array(vec![name, Reply::Integer(arity), Reply::Array(flags), Reply::Array(subcommands)])
    }

    #[test]
    fn scripts_call_what_they_may() {
        let subcommands =
            vec![row("object|freq", 3, &["readonly"], vec![]), row("object|help", 2, &["noscript"], vec![])];
        let rows = [
            row("get", 2, &["readonly"], vec![]),
            row("set", -3, &["write"], vec![]),
            row("select", 2, &["fast"], vec![]),
            row("eval", -3, &["noscript"], vec![]),
            row("object", -2, &[], subcommands),
        ];
        let mut commands = HashMap::new();
        rows.iter().for_each(|row| collect(row, &mut commands));
        let commands = Commands(commands);
        for (line, may) in [
            ("GET k", true),
            ("get", false),
            ("GET k k", false),
            ("SET k v", true),
            ("SET k v EX 1", true),
            ("SET k", false),
            ("SELECT 1", false),
            ("EVAL s 0", false),
            ("NOSUCH", false),
            ("OBJECT FREQ k", true),
            ("OBJECT HELP", false),
            ("OBJECT", false),
            ("OBJECT NOSUCH k", false),
        ] {
            let words: Vec<_> = line.split(' ').map(|word| word.as_bytes().to_vec()).collect();
            assert_eq!(commands.may_be_called(&words), may, "{line}");
        }
    }
}
