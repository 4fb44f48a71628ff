//! What a script says of itself in its first line: `#!lua flags=no-writes,allow-stale`.

use mortise_sdk::error::Error;
use mortise_sdk::words::split_words;

/// What a script says of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Flags {
    /// The script has a first line of this kind. Without one the server keeps to older rules: it looks at each command.
    pub declared: bool,
    /// It does not write.
    pub no_writes: bool,
    /// It may run, and write, when memory is short.
    pub allow_oom: bool,
    /// It may run on a replica that is out of date.
    pub allow_stale: bool,
    /// It must not run in a cluster.
    pub no_cluster: bool,
    /// It may use keys of several slots.
    pub allow_cross_slot_keys: bool,
}

impl Flags {
    /// What the text of a script says of it; nothing if it cannot be understood.
    pub fn of(body: &[u8]) -> Option<Flags> {
        read(body).ok().map(|(flags, _)| flags)
    }
}

/// Reads the first line of a script, and says where its Lua begins (at the line end, so that lines keep their numbers).
pub(crate) fn read(body: &[u8]) -> Result<(Flags, usize), Error> {
    let mut flags = Flags::default();
    if !body.starts_with(b"#!") {
        return Ok((flags, 0));
    }
    let readable = body.iter().position(|&byte| byte == 0).unwrap_or(body.len());
    let Some(end) = body[..readable].iter().position(|&byte| byte == b'\n') else {
        return Err(Error::new("ERR Invalid script shebang"));
    };
    let words = split_words(&body[..end]).unwrap_or_default();
    let Some((engine, options)) = words.split_first() else {
        return Err(Error::new("ERR Invalid engine in script shebang"));
    };
    if engine != b"#!lua" {
        return Err(refusal("Unexpected engine in script shebang", engine));
    }
    flags.declared = true;
    for option in options {
        let Some(names) = option.strip_prefix(b"flags=") else {
            return Err(refusal("Unknown lua shebang option", option));
        };
        for name in names.split(|&byte| byte == b',').filter(|_| !names.is_empty()) {
            let flag = match name {
                b"no-writes" => &mut flags.no_writes,
                b"allow-oom" => &mut flags.allow_oom,
                b"allow-stale" => &mut flags.allow_stale,
                b"no-cluster" => &mut flags.no_cluster,
                b"allow-cross-slot-keys" => &mut flags.allow_cross_slot_keys,
                _ => return Err(refusal("Unexpected flag in script shebang", name)),
            };
            *flag = true;
        }
    }
    Ok((flags, end))
}

fn refusal(what: &str, word: &[u8]) -> Error {
    Error::quoting("ERR {}: {}", &[what.as_bytes(), word])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_lines() {
        assert_eq!(read(b"return 1"), Ok((Flags::default(), 0)));
        let declared = Flags { declared: true, ..Flags::default() };
        assert_eq!(read(b"#!lua\nreturn 1"), Ok((declared, 5)));
        assert_eq!(read(b"#!lua flags=\nreturn 1"), Ok((declared, 12)));
        let two = Flags { no_writes: true, allow_cross_slot_keys: true, ..declared };
        assert_eq!(read(b"#!lua  flags=no-writes,allow-cross-slot-keys\n"), Ok((two, 44)));
        let all = Flags { no_writes: true, allow_oom: true, allow_stale: true, no_cluster: true, ..declared };
        assert_eq!(
            read(b"#!lua \"flags=no-writes,allow-oom\" flags=allow-stale,no-cluster\n1"),
            Ok((all, 62))
        );
    }

    #[test]
    fn wrong_first_lines() {
        for (body, text) in [
            ("#!lua", "ERR Invalid script shebang"),
            ("#!lua\0\n", "ERR Invalid script shebang"),
            ("#!lua \"x\n", "ERR Invalid engine in script shebang"),
            ("#!not-lua\n", "ERR Unexpected engine in script shebang: #!not-lua"),
            ("#!\n", "ERR Unexpected engine in script shebang: #!"),
            ("#!lua name=x\n", "ERR Unknown lua shebang option: name=x"),
            ("#!lua flags=no-writes,,\n", "ERR Unexpected flag in script shebang: "),
            ("#!lua flags=bad\n", "ERR Unexpected flag in script shebang: bad"),
            ("#!lua \"flags=a\\r\\nb\"\n", "ERR Unexpected flag in script shebang: a  b"),
        ] {
            assert_eq!(
                read(body.as_bytes()).map_err(|error| error.to_string()),
                Err(text.to_owned()),
                "{body}"
            );
        }
    }
}
