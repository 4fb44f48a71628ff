//! Which files a journal consists of: its base, the increments behind it, and what has become history.
//!
//! ```text
//! file appendonly.aof.2.base.rdb seq 2 type b
//! file appendonly.aof.1.incr.aof seq 1 type h
//! file appendonly.aof.2.incr.aof seq 2 type i
//! ```
//!
//! The manifest is the truth: a file that it does not name is no part of the journal. So it is written anew, as a whole,
//! before anything is appended to a new increment, when a new base takes the place of what it holds, and when history has
//! been removed.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use mortise_sdk::declare::config::quote;

use super::super::disk::Target;
use super::number::leading_integer;
use crate::config::file::split_words;

/// The longest line, with its end.
const LINE_MAX: usize = 1024;

/// What the base holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A snapshot.
    Snapshot,
    /// Commands.
    Commands,
}

/// What the files of a journal are called, and where they stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// The server's directory, in which an old-style journal stands.
    pub above: PathBuf,
    /// The journal's own directory.
    pub dir: PathBuf,
    /// What all names begin with; it is the whole name of an old-style journal.
    pub stem: String,
}

impl Names {
    /// The names under the server's directory `above`, as appenddirname and appendfilename have it.
    pub fn new(above: impl Into<PathBuf>, dir_name: &str, stem: &str) -> Names {
        let above = above.into();
        Names { dir: above.join(dir_name), above, stem: stem.to_owned() }
    }

    /// Where the manifest is to stand, and where it stands until it is whole.
    pub fn manifest(&self) -> Target {
        Target {
            path: self.dir.join(format!("{}.manifest", self.stem)),
            temporary: self.dir.join(format!("temp-{}.manifest", self.stem)),
        }
    }

    /// The name of a base.
    pub fn base(&self, sequence: i64, form: Form) -> String {
        let end = if form == Form::Snapshot { "rdb" } else { "aof" };
        format!("{}.{sequence}.base.{end}", self.stem)
    }

    /// The name of an increment.
    pub fn increment(&self, sequence: i64) -> String {
        format!("{}.{sequence}.incr.aof", self.stem)
    }

    /// The name of the increment that is written while the journal has no base yet. It gets its own when it has.
    pub fn temporary_increment(&self) -> String {
        format!("temp-{}.incr", self.stem)
    }

    /// Where the journal stands that a server before Redis 7 wrote.
    pub fn old_style(&self) -> PathBuf {
        self.above.join(&self.stem)
    }

    /// Where a part stands.
    pub fn path(&self, part: &Part) -> PathBuf {
        self.dir.join(part.file_name())
    }
}

/// A file that the manifest names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its name in the journal's directory.
    pub name: Vec<u8>,
    /// Its place among those of its kind.
    pub sequence: i64,
}

impl Part {
    /// Its name, as the system takes it.
    pub fn file_name(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.name))
    }

    /// Whether its name says that it is a base that holds a snapshot.
    pub fn is_snapshot(&self) -> bool {
        self.name.ends_with(b".base.rdb")
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.name))
    }
}

/// The parts of a journal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    /// What everything begins with. A journal that began with nothing may do without.
    pub base: Option<Part>,
    /// What happened since, in order; the last is being written.
    pub increments: Vec<Part>,
    /// What has been replaced and is to be removed.
    pub history: Vec<Part>,
    /// The highest numbers given so far.
    last_base: i64,
    last_increment: i64,
}

/// What is wrong with a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// In which line, and how it reads; nothing if the line could not even be read.
    pub line: Option<(usize, Vec<u8>)>,
    /// What.
    pub what: &'static str,
}

const MALFORMED: &str = "Invalid AOF manifest file format";

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\n*** FATAL AOF MANIFEST FILE ERROR ***\n")?;
        if let Some((number, line)) = &self.line {
            let line = String::from_utf8_lossy(line);
            write!(f, "Reading the manifest file, at line {number}\n>>> '{line}'\n")?;
        }
        f.write_str(self.what)
    }
}

impl std::error::Error for Wrong {}

impl Manifest {
    /// The manifest of an old-style journal, which becomes the base of one in parts.
    pub fn of_old_style(names: &Names) -> Manifest {
        let base = Part { name: names.stem.clone().into_bytes(), sequence: 1 };
        Manifest { base: Some(base), last_base: 1, ..Manifest::default() }
    }

    /// Understands what a file holds. Whatever Redis refuses is refused, in its words.
    pub fn parse(text: &[u8]) -> Result<Manifest, Wrong> {
        let unread = |what| Wrong { line: None, what };
        if text.is_empty() {
            return Err(unread("Found an empty AOF manifest"));
        }
        let (mut manifest, mut rest, mut number) = (Manifest::default(), text, 0);
        while !rest.is_empty() {
            let end = rest.iter().take(LINE_MAX).position(|byte| *byte == b'\n');
            let (line, tail) = rest.split_at(end.map_or(rest.len().min(LINE_MAX), |end| end + 1));
            rest = tail;
            number += 1;
            if line[0] == b'#' {
                continue;
            }
            // Redis takes the line for a C text, which ends with a NUL.
            if end.is_none() || line.contains(&0) {
                return Err(unread("The AOF manifest file contains too long line"));
            }
            let line = trim(line);
            manifest.add(line).map_err(|what| Wrong { line: Some((number, line.to_vec())), what })?;
        }
        Ok(manifest)
    }

    /// Adds what a line says.
    fn add(&mut self, line: &[u8]) -> Result<(), &'static str> {
        let words = split_words(line).filter(|words| words.len() >= 6 && words.len().is_multiple_of(2));
        let words = words.ok_or(MALFORMED)?;
        let (mut name, mut sequence, mut kind) = (None, 0, 0);
        // What nobody knows here is for servers to come. Of what is said twice, the last counts.
        for [key, value] in words.as_chunks().0 {
            match &*key.to_ascii_lowercase() {
                b"file" if value.iter().any(|byte| matches!(byte, b'/' | b'\\')) => {
                    return Err("File can't be a path, just a filename");
                }
                b"file" => name = Some(value.clone()),
                b"seq" => sequence = leading_integer(value),
                b"type" => kind = value.first().copied().unwrap_or(0),
                _ => {}
            }
        }
        // A number that has no successor would give the next file the same name.
        let name = name.filter(|_| sequence != 0 && sequence != i64::MAX && kind != 0).ok_or(MALFORMED)?;
        let part = Part { name, sequence };
        match kind {
            b'b' if self.base.is_some() => return Err("Found duplicate base file information"),
            b'b' => {
                self.last_base = sequence;
                self.base = Some(part);
            }
            b'i' if sequence <= self.last_increment => return Err("Found a non-monotonic sequence number"),
            b'i' => {
                self.last_increment = sequence;
                self.increments.push(part);
            }
            b'h' => self.history.push(part),
            _ => return Err("Unknown AOF file type"),
        }
        Ok(())
    }

    /// How it stands in a file.
    pub fn to_text(&self) -> Vec<u8> {
        let base = self.base.iter().map(|part| (part, 'b'));
        let history = self.history.iter().map(|part| (part, 'h'));
        let increments = self.increments.iter().map(|part| (part, 'i'));
        let mut text = Vec::new();
        for (Part { name, sequence }, kind) in base.chain(history).chain(increments) {
            text.extend_from_slice(b"file ");
            match is_plain(name) {
                true => text.extend_from_slice(name),
                false => text.extend_from_slice(quote(name).as_bytes()),
            }
            text.extend_from_slice(format!(" seq {sequence} type {kind}\n").as_bytes());
        }
        text
    }

    /// Whether there is nothing to be loaded.
    pub fn is_empty(&self) -> bool {
        self.base.is_none() && self.increments.is_empty()
    }

    /// What is to be loaded, in order.
    pub fn parts(&self) -> impl Iterator<Item = &Part> {
        self.base.iter().chain(&self.increments)
    }

    /// Adds the increment that is written from now on.
    pub fn begin_increment(&mut self, names: &Names) -> &Part {
        self.last_increment = self.last_increment.saturating_add(1).max(1);
        let sequence = self.last_increment;
        self.increments.push(Part { name: names.increment(sequence).into_bytes(), sequence });
        &self.increments[self.increments.len() - 1]
    }

    /// Puts a new base in the place of the old one and of all increments but the last so many, which go on from it. What
    /// it takes the place of is history.
    pub fn replace_base(&mut self, names: &Names, form: Form, increments_kept: usize) -> &Part {
        self.last_base = self.last_base.saturating_add(1).max(1);
        let sequence = self.last_base;
        self.history.extend(self.base.take());
        let replaced = self.increments.len().saturating_sub(increments_kept);
        self.history.extend(self.increments.drain(..replaced));
        self.base.insert(Part { name: names.base(sequence, form).into_bytes(), sequence })
    }

    /// Takes what is to be removed; the manifest without it is to be written afterwards. What is still in use under the
    /// same name is not among it.
    pub fn take_history(&mut self) -> Vec<Part> {
        let mut history = std::mem::take(&mut self.history);
        history.retain(|part| !self.parts().any(|used| used.name == part.name));
        history
    }
}

/// A line without spaces around.
fn trim(line: &[u8]) -> &[u8] {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
    let start = line.iter().position(|byte| !is_space(byte)).unwrap_or(line.len());
    let end = line.iter().rposition(|byte| !is_space(byte)).map_or(start, |last| last + 1);
    &line[start..end]
}

/// Whether a name can stand in a line without quotes.
fn is_plain(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(|byte| byte.is_ascii_graphic() && !b"\\\"'".contains(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        Names::new("/data", "appendonlydir", "appendonly.aof")
    }

    fn wrong(text: &[u8]) -> String {
        Manifest::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn what_it_is_written_as() {
        let text = b"file appendonly.aof.2.base.rdb seq 2 type b\n\
            file \"a b\\\"\\x00\" seq -7 type h\n\
            file appendonly.aof.1.incr.aof seq 1 type i\n\
            file \"\" seq 3 type i\n";
        let manifest = Manifest::parse(text).unwrap();
        assert_eq!(manifest.history[0].name, b"a b\"\0");
        assert_eq!(String::from_utf8_lossy(&manifest.to_text()), String::from_utf8_lossy(text));
        assert_eq!(Manifest::parse(&manifest.to_text()), Ok(manifest));
    }

    #[test]
    fn what_is_let_pass() {
        for (text, base, increments, history) in [
            (&b"#only this\n"[..], 0, 0, 0),
            (b"#\0\nfile a seq 1 type b\n", 1, 0, 0),
            (b"FILE a SEQ 1 tYpE b new thing\r\n", 1, 0, 0),
            (b"   type i seq 1 file a\n", 0, 1, 0),
            (b"file a file b seq 1 type bb\n", 1, 0, 0),
            (b"file a seq 1 type i\nfile c seq 3x type i\nfile b seq -1 type b\n", 1, 2, 0),
            (b"file a seq ' 1' type i type h\nfile a seq 1 type h\n", 0, 0, 2),
        ] {
            let manifest = Manifest::parse(text).unwrap();
            let found = (manifest.base.iter().count(), manifest.increments.len(), manifest.history.len());
            assert_eq!(found, (base, increments, history), "{}", text.escape_ascii());
        }
        let longest = [b"file a seq 1 type i", &[b' '; 1004][..], b"\n"].concat();
        assert!(Manifest::parse(&longest).is_ok());
    }

    #[test]
    fn what_is_refused() {
        let base = "file a seq 1 type b\n";
        let too_long = ["file a seq 1 type i", &" ".repeat(1005), "\n"].concat();
        for (text, line, what) in [
            ("", None, "Found an empty AOF manifest"),
            ("\n", Some((1, "")), MALFORMED),
            ("#\n \r\n", Some((2, "")), MALFORMED),
            ("file a seq 1 type b", None, "The AOF manifest file contains too long line"),
            (&too_long, None, "The AOF manifest file contains too long line"),
            ("file a\0b seq 1 type b\n", None, "The AOF manifest file contains too long line"),
            (&base.repeat(2), Some((2, "file a seq 1 type b")), "Found duplicate base file information"),
            ("file a seq 1 type x\n", Some((1, "file a seq 1 type x")), "Unknown AOF file type"),
            ("FILE a SEQ 1 TYPE B\n", Some((1, "FILE a SEQ 1 TYPE B")), "Unknown AOF file type"),
            (
                "file a seq 2 type i\n file b seq 2 type i \n",
                Some((2, "file b seq 2 type i")),
                "Found a non-monotonic sequence number",
            ),
            ("file a/b seq 1 type b\n", None, "File can't be a path, just a filename"),
            ("file a\\b seq 1 type b\n", None, "File can't be a path, just a filename"),
            ("filx a seq 1 type b\n", None, MALFORMED),
            ("file a seq 1\n", None, MALFORMED),
            ("file a seq 1 type b more\n", None, MALFORMED),
            ("seq 1 type b a b\n", None, MALFORMED),
            ("file a seq 0 type b\n", None, MALFORMED),
            ("file a seq x type b\n", None, MALFORMED),
            ("file a seq 9223372036854775807 type b\n", None, MALFORMED),
            ("file a seq 1 type ''\n", None, MALFORMED),
            ("file \"a seq 1 type b\n", None, MALFORMED),
            ("file 'x'y seq 1 type b\n", None, MALFORMED),
        ] {
            let said = wrong(text.as_bytes());
            assert!(said.ends_with(what), "{text:?}: {said}");
            if let Some((number, line)) = line {
                let place = format!("Reading the manifest file, at line {number}\n>>> '{line}'\n{what}");
                assert!(said.ends_with(&place), "{text:?}: {said}");
            }
        }
        assert_eq!(wrong(b""), "\n*** FATAL AOF MANIFEST FILE ERROR ***\nFound an empty AOF manifest");
    }

    #[test]
    fn a_journal_grows_and_is_rewritten() {
        let (names, mut manifest) = (names(), Manifest::default());
        let text = |manifest: &Manifest| String::from_utf8(manifest.to_text()).unwrap();
        assert!(manifest.is_empty());
        assert_eq!(manifest.begin_increment(&names).name, b"appendonly.aof.1.incr.aof");
        // A rewrite: what comes meanwhile goes to the next increment, and then the base is there.
        manifest.begin_increment(&names);
        manifest.replace_base(&names, Form::Snapshot, 1);
        assert_eq!(
            text(&manifest),
            "file appendonly.aof.1.base.rdb seq 1 type b\n\
             file appendonly.aof.1.incr.aof seq 1 type h\n\
             file appendonly.aof.2.incr.aof seq 2 type i\n"
        );
        manifest.begin_increment(&names);
        manifest.replace_base(&names, Form::Commands, 1);
        let removed: Vec<_> = manifest.take_history().iter().map(Part::to_string).collect();
        assert_eq!(
            removed,
            ["appendonly.aof.1.incr.aof", "appendonly.aof.1.base.rdb", "appendonly.aof.2.incr.aof"]
        );
        assert_eq!(
            text(&manifest),
            "file appendonly.aof.2.base.aof seq 2 type b\nfile appendonly.aof.3.incr.aof seq 3 type i\n"
        );
        assert_eq!(Manifest::parse(&manifest.to_text()), Ok(manifest));
    }

    #[test]
    fn an_old_style_journal_becomes_the_base() {
        let (names, mut manifest) = (names(), Manifest::of_old_style(&names()));
        assert_eq!(names.old_style(), Path::new("/data/appendonly.aof"));
        let base = manifest.base.clone().unwrap();
        assert_eq!(names.path(&base), Path::new("/data/appendonlydir/appendonly.aof"));
        manifest.begin_increment(&names);
        assert_eq!(
            manifest.to_text(),
            b"file appendonly.aof seq 1 type b\nfile appendonly.aof.1.incr.aof seq 1 type i\n"
        );
        assert_eq!(manifest.replace_base(&names, Form::Snapshot, 0).sequence, 2);
        assert!(manifest.increments.is_empty());
    }

    #[test]
    fn what_is_in_use_is_not_removed() {
        let text = b"file appendonly.aof.1.base.rdb seq 1 type h\n";
        let mut manifest = Manifest::parse(text).unwrap();
        manifest.replace_base(&names(), Form::Snapshot, 0);
        assert!(manifest.take_history().is_empty());
    }

    #[test]
    fn where_files_stand() {
        let names = names();
        assert_eq!(names.manifest().path, Path::new("/data/appendonlydir/appendonly.aof.manifest"));
        assert_eq!(names.manifest().temporary, Path::new("/data/appendonlydir/temp-appendonly.aof.manifest"));
        assert_eq!(names.temporary_increment(), "temp-appendonly.aof.incr");
        assert_eq!(names.base(3, Form::Commands), "appendonly.aof.3.base.aof");
    }
}
