//! What a script says of itself in its first line: `#!lua flags=no-writes,allow-stale`.

use mortise_sdk::error::Error;

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
    let words = split(&body[..end]).unwrap_or_default();
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

/// Words between white space, which may be quoted as in a configuration file; `None` if a quote is not closed.
fn split(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c);
    let mut words = Vec::new();
    let mut rest = line;
    loop {
        rest = &rest[rest.iter().take_while(|byte| is_space(byte)).count()..];
        if rest.is_empty() {
            return Some(words);
        }
        let mut word = Vec::new();
        while let Some((&byte, after)) = rest.split_first() {
            if is_space(&byte) {
                break;
            }
            rest = after;
            match byte {
                b'"' | b'\'' => {
                    rest = quoted(rest, byte, &mut word)?;
                    if rest.first().is_some_and(|byte| !is_space(byte)) {
                        return None;
                    }
                }
                byte => word.push(byte),
            }
        }
        words.push(word);
    }
}

/// Reads to the closing quote, and gives what comes after it.
fn quoted<'a>(mut rest: &'a [u8], quote: u8, word: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        match (quote, rest) {
            (_, []) => return None,
            (b'"', [b'\\', b'x', a, b, after @ ..]) if a.is_ascii_hexdigit() && b.is_ascii_hexdigit() => {
                let digit = |digit: u8| (digit as char).to_digit(16).unwrap_or(0) as u8;
                word.push(digit(*a) << 4 | digit(*b));
                rest = after;
            }
            (b'"', [b'\\', escaped, after @ ..]) => {
                word.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 8,
                    b'a' => 7,
                    other => *other,
                });
                rest = after;
            }
            (b'\'', [b'\\', b'\'', after @ ..]) => {
                word.push(b'\'');
                rest = after;
            }
            (_, [byte, after @ ..]) => {
                rest = after;
                if *byte == quote {
                    return Some(rest);
                }
                word.push(*byte);
            }
        }
    }
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
