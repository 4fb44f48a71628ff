//! The command line: `mortise-server [redis.conf | -] [--directive value …] [-]`, as redis-server takes it.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{self, PathBuf};

use mortise_sdk::declare::config::quote;

use crate::config::file::{self, Fatal, Line, Source, split_words};

/// What `--help` prints.
pub const USAGE: &str = "\
Usage: mortise-server [/path/to/redis.conf] [--directive value ...] [-]
       mortise-server - (reads the configuration from standard input)
       mortise-server -v or --version
       mortise-server -h or --help

Later sources override earlier ones: the file, standard input, the options.

Examples:
       mortise-server (with the default configuration)
       echo 'maxclients 128' | mortise-server -
       mortise-server /etc/redis/6379.conf
       mortise-server --port 7777 --bind 127.0.0.1 ::1
       mortise-server /etc/myredis.conf --loglevel verbose
";

/// What the command line asks for.
#[derive(Debug)]
pub enum Request {
    /// Start with this configuration.
    Start(Startup),
    /// Print this on standard output, and end with success.
    Print(String),
}

/// The configuration that the server starts with.
#[derive(Debug)]
pub struct Startup {
    /// The file that CONFIG REWRITE writes, as an absolute path.
    pub config_file: Option<PathBuf>,
    /// Every line, in order of increasing precedence, for `Directives::load`.
    pub lines: Vec<Line>,
}

/// Reads the arguments behind the program's name, and the configuration that they name.
pub fn read(arguments: &[OsString], stdin: impl FnOnce() -> io::Result<Vec<u8>>) -> Result<Request, Fatal> {
    let arguments: Vec<&[u8]> = arguments.iter().map(|argument| argument.as_bytes()).collect();
    match arguments.first() {
        Some(&(b"-v" | b"--version")) => {
            return Ok(Request::Print(format!("Mortise server v={}\n", env!("CARGO_PKG_VERSION"))));
        }
        Some(&(b"-h" | b"--help")) => return Ok(Request::Print(USAGE.into())),
        Some(&option @ (b"--test-memory" | b"--check-system")) => {
            let option = String::from_utf8_lossy(option);
            return Err(Fatal::new(format!(
                "mortise-server has no {option}: it does not test the machine it runs on"
            )));
        }
        _ => {}
    }
    if arguments.contains(&b"--sentinel".as_slice()) {
        return Err(Fatal::new("mortise-server has no sentinel mode"));
    }

    let Arguments { config_file, from_stdin, options } = Arguments::split(&arguments);
    let mut lines = Vec::new();
    let config_file = config_file.map(|name| path::absolute(OsString::from_vec(name.to_vec())));
    let config_file =
        config_file.transpose().map_err(|e| Fatal::new(format!("Can't find the config file: {e}")))?;
    // Redis reads file, standard input and options as one text, in which the options begin on a line of their own; and
    // so their lines are counted.
    let mut before = 1;
    if let Some(path) = &config_file {
        before += file::read(path, &mut lines)?;
    }
    if from_stdin {
        let text = stdin()
            .map_err(|e| Fatal::new(format!("Can't read the configuration from standard input: {e}")))?;
        before += file::line_ends(&text);
        file::parse(&text, Source::Stdin, &mut lines)?;
    }
    file::parse_behind(before, &options, Source::CommandLine, &mut lines)?;
    Ok(Request::Start(Startup { config_file, lines }))
}

/// The arguments, told apart.
struct Arguments<'a> {
    config_file: Option<&'a [u8]>,
    from_stdin: bool,
    /// The options as text of a configuration, a line each.
    options: Vec<u8>,
}

impl<'a> Arguments<'a> {
    fn split(arguments: &[&'a [u8]]) -> Arguments<'a> {
        let mut split = Arguments { config_file: None, from_stdin: false, options: Vec::new() };
        let mut rest = arguments;
        if let [name, tail @ ..] = rest
            && !name.starts_with(b"-")
        {
            split.config_file = Some(name);
            rest = tail;
        }
        // The first word behind an option's name is its value, whatever it looks like: `--logfile --log`.
        let mut value_expected = false;
        let options = rest;
        while let [argument, tail @ ..] = rest {
            let first = rest.len() == arguments.len();
            if *argument == b"-" && (first || tail.is_empty()) {
                split.from_stdin = true;
            } else if !value_expected && argument.starts_with(b"--") {
                if rest.len() < options.len() {
                    split.options.push(b'\n');
                }
                split.options.extend(&argument[2..]);
                split.options.push(b' ');
                // `"--port 6380"` brings its value along.
                value_expected = split_words(argument).is_none_or(|words| words.len() == 1);
                // `--save` may be the last word, or be followed by an option: it then means `save ""`.
                let valueless = tail.first().is_none_or(|next| next.starts_with(b"--"));
                if argument.eq_ignore_ascii_case(b"--save") && valueless {
                    split.options.extend(b"\"\"");
                    value_expected = false;
                }
            } else {
                split.options.extend(quote(argument).into_bytes());
                split.options.push(b' ');
                value_expected = false;
            }
            rest = tail;
        }
        split
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tempdir::TempDir;

    fn start(arguments: &[&str], stdin: &str) -> Result<Startup, Fatal> {
        let arguments: Vec<_> = arguments.iter().map(OsString::from).collect();
        match read(&arguments, || Ok(stdin.as_bytes().to_vec()))? {
            Request::Start(startup) => Ok(startup),
            Request::Print(text) => panic!("{text}"),
        }
    }

    /// Every line as `name word|word`.
    fn lines(arguments: &[&str], stdin: &str) -> Vec<String> {
        let words = |line: &Line| String::from_utf8_lossy(&line.words.join(&b'|')).into_owned();
        let lines = start(arguments, stdin).unwrap().lines;
        lines.iter().map(|line| format!("{} {}", line.name, words(line))).collect()
    }

    #[test]
    fn options_are_lines() {
        for (arguments, expected) in [
            (&[][..], &[][..]),
            (
                &["--port", "1", "--bind", "127.0.0.1", "::1", "--x", "y"],
                &["port 1", "bind 127.0.0.1|::1", "x y"],
            ),
            (&["--port 1", "--Loglevel verbose"], &["port 1", "loglevel verbose"]),
            (&["--bind", "1 2"], &["bind 1 2"]),
            (&["--save", ""], &["save "]),
            (&["--save", "--port", "1"], &["save ", "port 1"]),
            (&["--port", "1", "--save"], &["port 1", "save "]),
            (&["--save", "60", "1", "--save", "30 2"], &["save 60|1", "save 30 2"]),
            (&["--port"], &["port "]),
            (&["--logfile", "--my--log", "--loglevel", "--bla"], &["logfile --my--log", "loglevel --bla"]),
            (&["--port", "--loglevel", "verbose"], &["port --loglevel|verbose"]),
            (&["--port", "1", "-", "--x", "y"], &["port 1|-", "x y"]),
            (&["--x", "a\nb \"c\""], &["x a\nb \"c\""]),
        ] {
            assert_eq!(lines(arguments, "unread 1"), expected, "{arguments:?}");
        }
    }

    #[test]
    fn an_option_is_shown_as_redis_shows_it() {
        let line = &start(&["--x", "1", "--port", "6379", "6380"], "").unwrap().lines[1];
        assert_eq!(
            (line.text.as_str(), line.number, line.source.to_string().as_str()),
            ("port \"6379\" \"6380\"", 3, "the command line")
        );
        assert_eq!(start(&["--port"], "").unwrap().lines[0].text, "port");
    }

    #[test]
    fn lines_of_options_are_counted_behind_the_others() {
        let dir = TempDir::new("numbers");
        let number = |text: &str, arguments: &[&str], stdin: &str| {
            let file = dir.write("a.conf", text);
            let lines = start(&[&[file.to_str().unwrap()], arguments].concat(), stdin).unwrap().lines;
            lines.last().map(|line| line.number)
        };
        assert_eq!(start(&["--hz", "1"], "").unwrap().lines[0].number, 2);
        assert_eq!(number("port 1\n", &["--hz", "1"], ""), Some(3));
        assert_eq!(number("port 1", &["--hz", "1"], ""), Some(2));
        assert_eq!(number("port 1\n", &["--timeout", "1", "--hz", "1", "-"], "a 1\nb 1\n"), Some(6));
    }

    #[test]
    fn file_then_stdin_then_options() {
        let dir = TempDir::new("cli");
        let file = dir.write("a.conf", "from file\n");
        let file = file.to_str().unwrap();
        assert_eq!(
            lines(&[file, "--from", "options", "-"], "from stdin"),
            ["from file", "from stdin", "from options"]
        );
        assert_eq!(lines(&["-", "--from", "options"], "from stdin"), ["from stdin", "from options"]);
        assert_eq!(start(&[file], "").unwrap().config_file.unwrap(), PathBuf::from(file));
        assert_eq!(start(&["-"], "").unwrap().config_file, None);
    }

    #[test]
    fn a_file_that_cannot_be_read_stops_the_start() {
        let reason = start(&["/no/such.conf"], "").unwrap_err().reason;
        assert_eq!(reason, "Fatal error, can't open config file '/no/such.conf': No such file or directory");
    }

    #[test]
    fn what_redis_has_and_we_do_not_is_refused_in_words() {
        for arguments in [&["--test-memory", "5"][..], &["--check-system"], &["x.conf", "--sentinel"]] {
            assert!(start(arguments, "").unwrap_err().reason.starts_with("mortise-server has no "));
        }
    }

    #[test]
    fn help_and_version_are_printed() {
        let print = |argument: &str| match read(&[argument.into()], || Ok(vec![])) {
            Ok(Request::Print(text)) => text,
            other => panic!("{other:?}"),
        };
        assert_eq!(print("-h"), print("--help"));
        assert_eq!(print("-v"), print("--version"));
        assert!(print("-v").starts_with("Mortise server v="));
    }
}
