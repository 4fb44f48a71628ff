//! The text of redis.conf: lines, quoting, includes. Knows no directive but `include`.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use mortise_sdk::glob;
pub use mortise_sdk::words::split_words;

/// How deep files may include files.
const INCLUDE_DEPTH: usize = 16;

/// Where a line of configuration stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// In a file.
    File(PathBuf),
    /// In what was read from standard input.
    Stdin,
    /// Among the arguments of the program, each option being a line.
    CommandLine,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::File(path) => path.display().fmt(f),
            Source::Stdin => f.write_str("standard input"),
            Source::CommandLine => f.write_str("the command line"),
        }
    }
}

/// A line of configuration that is neither blank nor a comment.
#[derive(Debug, Clone)]
pub struct Line {
    /// Where it stands.
    pub source: Arc<Source>,
    /// Its number there, from 1.
    pub number: usize,
    /// As it was written, without the space around it.
    pub text: String,
    /// The directive's name in lower case.
    pub name: String,
    /// What follows the name, unquoted.
    pub words: Vec<Vec<u8>>,
}

/// Why the server cannot start. Displayed as the whole message, in the shape that tools know from Redis.
#[derive(Debug, Clone)]
pub struct Fatal {
    /// What is wrong.
    pub reason: String,
    place: Option<(Arc<Source>, usize, String)>,
}

/// How many ends of lines a text has.
pub fn line_ends(text: &[u8]) -> usize {
    text.iter().filter(|byte| **byte == b'\n').count()
}

impl Fatal {
    /// A reason that no line stands for.
    pub fn new(reason: impl Into<String>) -> Fatal {
        Fatal { reason: reason.into(), place: None }
    }

    /// Whether a line is at fault.
    pub fn has_line(&self) -> bool {
        self.place.is_some()
    }

    /// A reason that lies in `line`.
    pub fn at(line: &Line, reason: impl Into<String>) -> Fatal {
        Fatal { reason: reason.into(), place: Some((line.source.clone(), line.number, line.text.clone())) }
    }
}

impl fmt::Display for Fatal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n*** FATAL CONFIG FILE ERROR (Mortise {}) ***", env!("CARGO_PKG_VERSION"))?;
        if let Some((source, number, text)) = &self.place {
            writeln!(f, "Reading the configuration file, at line {number} of {source}")?;
            writeln!(f, ">>> '{text}'")?;
        }
        writeln!(f, "{}", self.reason)
    }
}

impl std::error::Error for Fatal {}

/// Reads the file at `path`, and what it includes, after `lines`. Says how many ends of lines the file itself has.
pub fn read(path: &Path, lines: &mut Vec<Line>) -> Result<usize, Fatal> {
    Reader { lines, open: Vec::new() }.file(path)
}

/// Reads `text`, and what it includes, after `lines`.
pub fn parse(text: &[u8], source: Source, lines: &mut Vec<Line>) -> Result<(), Fatal> {
    parse_behind(0, text, source, lines)
}

/// The same, where the numbers of lines go on from what stands before the text.
pub fn parse_behind(before: usize, text: &[u8], source: Source, lines: &mut Vec<Line>) -> Result<(), Fatal> {
    Reader { lines, open: Vec::new() }.text(before, text, source)
}

struct Reader<'a> {
    lines: &'a mut Vec<Line>,
    /// The files being read, each included by the one before it.
    open: Vec<PathBuf>,
}

impl Reader<'_> {
    fn file(&mut self, path: &Path) -> Result<usize, Fatal> {
        let unreadable = |e: io::Error| {
            Fatal::new(format!(
                "Fatal error, can't open config file '{}': {}",
                path.display(),
                error_text(&e)
            ))
        };
        // A pipe, as of `<(command)`, has no path of its own.
        let identity = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        if self.open.contains(&identity) {
            return Err(Fatal::new(format!("Config file '{}' includes itself", path.display())));
        }
        let text = fs::read(path).map_err(unreadable)?;
        self.open.push(identity);
        self.text(0, &text, Source::File(path.to_owned()))?;
        self.open.pop();
        Ok(line_ends(&text))
    }

    fn text(&mut self, before: usize, text: &[u8], source: Source) -> Result<(), Fatal> {
        let source = Arc::new(source);
        for (i, text) in text.split(|byte| *byte == b'\n').enumerate() {
            let text = text.trim_ascii();
            if text.is_empty() || text[0] == b'#' {
                continue;
            }
            let mut line = Line {
                source: source.clone(),
                number: before + i + 1,
                text: String::from_utf8_lossy(text).into_owned(),
                name: String::new(),
                words: Vec::new(),
            };
            let mut words = split_words(text)
                .ok_or_else(|| Fatal::at(&line, "Unbalanced quotes in configuration line"))?
                .into_iter();
            let Some(name) = words.next() else {
                continue;
            };
            line.name = String::from_utf8_lossy(&name).to_ascii_lowercase();
            line.words = words.collect();
            match line.words.as_slice() {
                [pattern] if line.name == "include" => {
                    self.include(Path::new(std::ffi::OsStr::from_bytes(pattern)), &line)?
                }
                _ => self.lines.push(line),
            }
        }
        Ok(())
    }

    /// Reads what `line` includes. A pattern may match nothing, so that a directory of files may be empty; a
    /// plain path must exist. A relative path starts at the working directory.
    fn include(&mut self, pattern: &Path, line: &Line) -> Result<(), Fatal> {
        if self.open.len() >= INCLUDE_DEPTH {
            return Err(Fatal::at(line, format!("Files include each other more than {INCLUDE_DEPTH} deep")));
        }
        let paths = if is_pattern(pattern.as_os_str().as_bytes()) {
            expand(pattern)
        } else {
            vec![pattern.to_owned()]
        };
        for path in paths {
            self.file(&path)
                .map_err(|fatal| if fatal.place.is_none() { Fatal::at(line, fatal.reason) } else { fatal })?;
        }
        Ok(())
    }
}

/// What the operating system says, without Rust's number behind it.
pub(crate) fn error_text(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

fn is_pattern(name: &[u8]) -> bool {
    name.iter().any(|byte| b"*?[".contains(byte))
}

/// The existing paths that match `pattern`, in order of name. Hidden names are matched only by a pattern that
/// begins with a dot.
fn expand(pattern: &Path) -> Vec<PathBuf> {
    let mut paths = vec![PathBuf::new()];
    for component in pattern.components() {
        let name = component.as_os_str().as_bytes();
        if !matches!(component, Component::Normal(_)) || !is_pattern(name) {
            paths.iter_mut().for_each(|path| path.push(component));
            continue;
        }
        paths = paths.iter().flat_map(|directory| matching(directory, name)).collect();
    }
    paths.retain(|path| path.exists());
    paths
}

fn matching(directory: &Path, pattern: &[u8]) -> Vec<PathBuf> {
    let here = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    let entries = fs::read_dir(here).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries.map(|entry| entry.file_name().into_vec()).collect();
    names.retain(|name| (name[0] != b'.' || pattern[0] == b'.') && glob::matches(pattern, name));
    names.sort();
    names.into_iter().map(|name| directory.join(std::ffi::OsString::from_vec(name))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tempdir::TempDir;

    #[test]
    fn lines_remember_where_they_stand() {
        let mut lines = Vec::new();
        parse(b"# comment\n\n  PORT 1 \r\nx y\xff\n", Source::Stdin, &mut lines).unwrap();
        assert_eq!((lines[0].number, lines[0].name.as_str(), lines[0].text.as_str()), (3, "port", "PORT 1"));
        assert_eq!((lines[1].number, lines[1].words.as_slice()), (4, &[b"y\xff".to_vec()][..]));
        assert_eq!(lines.len(), 2);
    }

    #[test]
    fn an_error_names_its_line() {
        let fatal =
            parse(b"port 1\nport \"abc\n", Source::File("/etc/x.conf".into()), &mut Vec::new()).unwrap_err();
        let version = env!("CARGO_PKG_VERSION");
        assert_eq!(
            fatal.to_string(),
            format!(
                "\n*** FATAL CONFIG FILE ERROR (Mortise {version}) ***\n\
                 Reading the configuration file, at line 2 of /etc/x.conf\n\
                 >>> 'port \"abc'\nUnbalanced quotes in configuration line\n"
            )
        );
    }

    #[test]
    fn included_lines_stand_where_the_include_was() {
        let dir = TempDir::new("include");
        dir.write("conf.d/b.conf", "b 1\n");
        dir.write("conf.d/a.conf", "a 1\n");
        dir.write("conf.d/.hidden.conf", "hidden 1\n");
        let base = dir.path().display();
        let main = dir.write(
            "main.conf",
            &format!(
                "first 1\ninclude {base}/conf.d/*.conf\ninclude {base}/none/*.conf\n\
                 include \"{base}/conf.d/a.conf\"\nlast 1\n"
            ),
        );
        let mut lines = Vec::new();
        read(&main, &mut lines).unwrap();
        let names: Vec<_> = lines.iter().map(|line| line.name.as_str()).collect();
        assert_eq!(names, ["first", "a", "b", "a", "last"]);
        assert_eq!(*lines[1].source, Source::File(dir.path().join("conf.d/a.conf")));
        assert_eq!(lines[4].number, 5);
    }

    #[test]
    fn a_missing_or_endless_include_is_refused() {
        let dir = TempDir::new("endless");
        let missing = dir.write("missing.conf", "\ninclude /no/such/file.conf\n");
        let fatal = read(&missing, &mut Vec::new()).unwrap_err();
        let reason = "Fatal error, can't open config file '/no/such/file.conf': No such file or directory";
        assert_eq!(fatal.reason, reason);
        assert!(fatal.to_string().contains("at line 2 of "), "{fatal}");

        let path = dir.path().join("self.conf");
        dir.write("self.conf", &format!("include {}\n", path.display()));
        assert!(read(&path, &mut Vec::new()).unwrap_err().reason.contains("includes itself"));

        for i in 0..20 {
            dir.write(&format!("{i}.conf"), &format!("include {}/{}.conf\n", dir.path().display(), i + 1));
        }
        let fatal = read(&dir.path().join("0.conf"), &mut Vec::new()).unwrap_err();
        assert_eq!(fatal.reason, "Files include each other more than 16 deep");
        assert!(read(&dir.path().join("nosuch"), &mut Vec::new()).is_err());
    }
}
