//! What scripts answer: `snippets.txt`, as committed, and as a real server has it.
//!
//! `REFERENCE=redis-server` or `REFERENCE=host:port` names the server (it is flushed!); without it, one that is
//! installed is started. `UPDATE=1` writes its answers into the file.

mod common;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs};

use common::{Keyspace, run_with, shown};
use mortise_scripting::{Sandbox, Settings};
use mortise_sdk::resp::decode;
use mortise_sdk::resp::encode::{self, Version};

const VERSIONS: [Version; 2] = [Version::Resp2, Version::Resp3];

/// A script and its replies in both versions of the protocol, escaped.
#[derive(Clone, Default)]
struct Snippet {
    line: usize,
    /// Comments and blank lines in front of it.
    before: String,
    text: String,
    /// The words after the script: the number of keys, keys, arguments.
    words: Vec<String>,
    expected: [String; 2],
}

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/snippets.txt")
}

/// Reads the file: `>` begins a line of a script, `@` its keys and arguments, `=` the reply in both versions, `2` and
/// `3` in one.
fn snippets() -> Vec<Snippet> {
    let file = fs::read_to_string(path()).unwrap();
    let mut all: Vec<Snippet> = Vec::new();
    let mut current = Snippet::default();
    let mut in_script = false;
    for (number, line) in file.lines().enumerate() {
        match line.split_at_checked(2) {
            Some(("> ", text)) => {
                if !in_script && !current.text.is_empty() {
                    all.push(std::mem::take(&mut current));
                }
                if !in_script {
                    current.line = number + 1;
                } else {
                    current.text.push('\n');
                }
                current.text.push_str(text);
                in_script = true;
                continue;
            }
            Some(("@ ", words)) => current.words = words.split(' ').map(str::to_owned).collect(),
            Some(("= ", reply)) => current.expected = [reply.to_owned(), reply.to_owned()],
            Some(("2 ", reply)) => current.expected[0] = reply.to_owned(),
            Some(("3 ", reply)) => current.expected[1] = reply.to_owned(),
            _ => {
                assert!(line.is_empty() || line.starts_with('#'), "line {}: {line}", number + 1);
                if !current.text.is_empty() {
                    all.push(std::mem::take(&mut current));
                }
                current.before.push_str(line);
                current.before.push('\n');
            }
        }
        in_script = false;
    }
    if !current.text.is_empty() {
        all.push(current);
    }
    all
}

fn write(all: &[Snippet]) {
    let mut file = String::new();
    for snippet in all {
        file.push_str(&snippet.before);
        snippet.text.lines().for_each(|line| file.push_str(&format!("> {line}\n")));
        if !snippet.words.is_empty() {
            file.push_str(&format!("@ {}\n", snippet.words.join(" ")));
        }
        let [two, three] = &snippet.expected;
        if two == three {
            file.push_str(&format!("= {two}\n"));
        } else {
            file.push_str(&format!("2 {two}\n3 {three}\n"));
        }
    }
    fs::write(path(), file).unwrap();
}

/// What this crate answers, each snippet in a sandbox of its own.
fn ours(snippet: &Snippet, version: Version) -> String {
    let mut sandbox = Sandbox::new(Settings::default());
    let words: Vec<&[u8]> = snippet.words.iter().map(|word| word.as_bytes()).collect();
    let (keys, arguments) = match words.split_first() {
        Some((count, rest)) => rest.split_at(String::from_utf8_lossy(count).parse().unwrap()),
        None => (&[][..], &[][..]),
    };
    let (_, reply) =
        run_with(&mut sandbox, &mut Keyspace::default(), version, snippet.text.as_bytes(), keys, arguments);
    shown(&reply)
}

#[test]
fn as_committed() {
    let all = snippets();
    assert!(all.len() >= 200, "only {} snippets", all.len());
    compare(&all, ours);
}

fn compare(all: &[Snippet], answer: impl Fn(&Snippet, Version) -> String) {
    let mut problems = Vec::new();
    for snippet in all {
        for (version, expected) in VERSIONS.iter().zip(&snippet.expected) {
            let found = answer(snippet, *version);
            if found != *expected {
                let Snippet { line, text, .. } = snippet;
                problems
                    .push(format!("{line}: {text}\n  expected {expected}\n  found    {found} ({version:?})"));
            }
        }
    }
    assert!(problems.is_empty(), "\n{}\n{} differ\n", problems.join("\n"), problems.len());
}

/// A server that is asked the same.
struct Reference {
    address: String,
    child: Option<Child>,
}

impl Reference {
    fn find() -> Option<Reference> {
        let named = env::var("REFERENCE").ok().filter(|name| !name.is_empty());
        match named {
            Some(address) if address.to_socket_addrs().is_ok() => Some(Reference { address, child: None }),
            Some(name) => {
                Some(Reference::start(&name).unwrap_or_else(|| panic!("REFERENCE: {name} does not start")))
            }
            None => Reference::start("redis-server"),
        }
    }

    fn start(binary: &str) -> Option<Reference> {
        let port = TcpListener::bind("127.0.0.1:0").ok()?.local_addr().ok()?.port();
        let child = Command::new(binary)
            .args(["--port", &port.to_string(), "--save", "", "--bind", "127.0.0.1"])
            .current_dir(env::temp_dir())
            .stdout(Stdio::null())
            .spawn()
            .ok()?;
        let reference = Reference { address: format!("127.0.0.1:{port}"), child: Some(child) };
        let start = Instant::now();
        while TcpStream::connect(&reference.address).is_err() {
            assert!(start.elapsed() < Duration::from_secs(10), "{binary} does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
        Some(reference)
    }

    fn ask(&self, snippet: &Snippet, version: Version) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        if version == Version::Resp3 {
            Reference::request(&mut stream, &[b"HELLO", b"3"]);
        }
        Reference::request(&mut stream, &[b"FLUSHALL"]);
        let mut words: Vec<&[u8]> = vec![b"EVAL", snippet.text.as_bytes()];
        words.extend(snippet.words.iter().map(|word| word.as_bytes()));
        if snippet.words.is_empty() {
            words.push(b"0");
        }
        shown(&Reference::request(&mut stream, &words))
    }

    fn request(stream: &mut TcpStream, words: &[&[u8]]) -> Vec<u8> {
        stream.write_all(&encode::request(words.iter().copied())).unwrap();
        let mut input = Vec::new();
        let mut part = [0; 65536];
        loop {
            let len = stream.read(&mut part).unwrap();
            assert!(
                len > 0,
                "the server has closed the connection, asked for {}",
                shown(words[words.len().min(2) - 1])
            );
            input.extend_from_slice(&part[..len]);
            match decode(&input) {
                Ok(None) => continue,
                Ok(Some((_, len))) => assert_eq!(len, input.len(), "one reply: {}", shown(&input)),
                // A script can make a number that is none.
                Err(error) => assert!(input.ends_with(b"\r\n"), "{error}: {}", shown(&input)),
            }
            return input;
        }
    }
}

impl Drop for Reference {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[test]
fn as_redis_has_it() {
    let Some(reference) = Reference::find() else {
        println!("no redis-server is installed, so nothing is compared");
        return;
    };
    let mut all = snippets();
    if env::var("UPDATE").is_ok_and(|update| update == "1") {
        for snippet in &mut all {
            snippet.expected = VERSIONS.map(|version| reference.ask(snippet, version));
        }
        write(&all);
        return;
    }
    compare(&all, |snippet, version| reference.ask(snippet, version));
}
