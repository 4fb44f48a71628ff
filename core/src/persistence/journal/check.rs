//! Looking at a journal without a server, and mending it: what `redis-check-aof` does, and `mortise-server` under that name.
//!
//! It looks closer than a server that loads: what it finds whole is what a unit ends with, and behind that a file may be
//! cut off. Only the last file is: those that follow one went on from what would be missing.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use super::super::check::check_medium;
use super::super::disk::Disk;
use super::manifest::Manifest;
use super::number::{LeadingInteger, leading};
use crate::server::error_text;

/// The longest line of which the end is looked for.
const LINE_MAX: usize = 127;
/// The longest that begins with `#`.
const ANNOTATION_MAX: usize = 1024;

const USAGE: &str =
    "Usage: redis-check-aof [--fix|--truncate-to-timestamp $timestamp] <file.manifest|file.aof>\n";

/// What is asked for.
struct Wanted {
    path: PathBuf,
    /// What is damaged is to be cut off.
    mends: bool,
    /// What happened after this second is to be cut off.
    until_s: Option<i64>,
}

/// Why there is nothing more to do: it has been said.
struct Over;

/// What a file turned out to be.
enum Verdict {
    Valid,
    Empty,
    Cut,
    CutAtTime,
    Damaged,
}

/// Looks at what the arguments name. Says what it finds, asks before it cuts anything off, and returns whether all is well.
pub fn check(
    arguments: &[PathBuf],
    disk: &dyn Disk,
    now_ms: i64,
    out: &mut dyn Write,
    answers: &mut dyn BufRead,
) -> io::Result<bool> {
    let wanted = match wanted(arguments) {
        Ok(wanted) => wanted,
        Err(text) => {
            out.write_all(text.as_bytes())?;
            return Ok(false);
        }
    };
    let mut check = Check { disk, now_ms, wanted, out, answers, line: 1, failed: None };
    let ended = check.run();
    match check.failed {
        Some(error) => Err(error),
        None => Ok(ended.is_ok()),
    }
}

fn wanted(arguments: &[PathBuf]) -> Result<Wanted, &'static str> {
    match arguments {
        [path] => Ok(Wanted { path: path.clone(), mends: false, until_s: None }),
        [option, path] if option.as_os_str() == "--fix" => {
            Ok(Wanted { path: path.clone(), mends: true, until_s: None })
        }
        [option, moment, path] if option.as_os_str() == "--truncate-to-timestamp" => {
            let moment = moment.as_os_str().as_encoded_bytes();
            let LeadingInteger { number, len, is_beyond } = leading(moment);
            if is_beyond || len < moment.len() {
                return Err("Invalid timestamp, aborting...\n");
            }
            Ok(Wanted { path: path.clone(), mends: false, until_s: (number != 0).then_some(number) })
        }
        _ => Err(USAGE),
    }
}

struct Check<'c> {
    disk: &'c dyn Disk,
    now_ms: i64,
    wanted: Wanted,
    out: &'c mut dyn Write,
    answers: &'c mut dyn BufRead,
    /// Lines counted so far, over all files.
    line: u64,
    /// Nobody reads what is said.
    failed: Option<io::Error>,
}

/// A file, as it is read.
struct Source {
    from: BufReader<Box<dyn Read + Send>>,
    at: u64,
}

impl Source {
    /// The next byte, which is not taken.
    fn peek(&mut self) -> io::Result<Option<u8>> {
        Ok(self.from.fill_buf()?.first().copied())
    }

    /// A line with its end, or so much of it.
    fn line(&mut self, len_max: usize) -> io::Result<Vec<u8>> {
        let mut line = Vec::new();
        (&mut self.from).take(len_max as u64).read_until(b'\n', &mut line)?;
        self.at += line.len() as u64;
        Ok(line)
    }

    /// Takes so many bytes, as far as they are there; says how many, with which words they begin and with what they end.
    fn take(&mut self, len: u64) -> io::Result<(u64, Vec<u8>, [u8; 2])> {
        let (mut left, mut begin, mut end) = (len, Vec::new(), [0; 2]);
        while left > 0 {
            let there = self.from.fill_buf()?;
            let there = &there[..there.len().min(usize::try_from(left).unwrap_or(usize::MAX))];
            if there.is_empty() {
                break;
            }
            for byte in &there[there.len().saturating_sub(2)..] {
                end = [end[1], *byte];
            }
            begin.extend(there.iter().take(WORD_LEN.saturating_sub(begin.len())));
            let taken = there.len();
            self.from.consume(taken);
            left -= taken as u64;
        }
        self.at += len - left;
        Ok((len - left, begin, end))
    }
}

/// So much of a request's first word is looked at.
const WORD_LEN: usize = 16;

/// How a file is told of.
struct Named<'n> {
    name: &'n str,
    path: &'n Path,
    is_last: bool,
    /// It begins with a snapshot.
    has_snapshot: bool,
}

impl Check<'_> {
    fn say(&mut self, text: impl AsRef<str>) {
        if self.failed.is_none() {
            self.failed = self.out.write_all(text.as_ref().as_bytes()).err();
        }
    }

    /// Says a last thing.
    fn give_up<T>(&mut self, text: impl AsRef<str>) -> Result<T, Over> {
        self.say(text);
        Err(Over)
    }

    fn run(&mut self) -> Result<(), Over> {
        let path = self.wanted.path.clone();
        let shown = path.display().to_string();
        if self.is_manifest(&path)? {
            self.say("Start checking Multi Part AOF\n");
            return self.parts(&path);
        }
        let has_snapshot = self.is_snapshot(&path)?;
        self.say("Start checking Old-Style AOF\n");
        let verdict = self.file(&Named { name: &shown, path: &path, is_last: true, has_snapshot })?;
        self.judge("", &shown, verdict)
    }

    /// Says what has become of a file.
    fn judge(&mut self, kind: &str, name: &str, verdict: Verdict) -> Result<(), Over> {
        match verdict {
            Verdict::Valid => self.say(format!("{kind}AOF {name} is valid\n")),
            Verdict::Empty => self.say(format!("{kind}AOF {name} is empty\n")),
            Verdict::Cut => self.say(format!("Successfully truncated AOF {name}\n")),
            Verdict::CutAtTime => {
                let until_s = self.wanted.until_s.unwrap_or_default();
                self.say(format!("Successfully truncated AOF {name} to timestamp {until_s}\n"));
            }
            Verdict::Damaged => {
                return self
                    .give_up(format!("AOF {name} is not valid. Use the --fix option to try fixing it.\n"));
            }
        }
        Ok(())
    }

    /// All files of a manifest.
    fn parts(&mut self, path: &Path) -> Result<(), Over> {
        let mut text = Vec::new();
        let read = self.disk.open(path).and_then(|mut opened| opened.data.read_to_end(&mut text));
        let manifest = match read.map(|_| Manifest::parse(&text)) {
            Ok(Ok(manifest)) => manifest,
            Ok(Err(wrong)) => return self.give_up(format!("{wrong}\n")),
            Err(error) => {
                return self.give_up(format!(
                    "Fatal error: can't open the AOF manifest file {} for reading: {}\n",
                    path.display(),
                    error_text(&error)
                ));
            }
        };
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let last = manifest.parts().count().wrapping_sub(1);
        for (index, part) in manifest.parts().enumerate() {
            let (name, path) = (part.to_string(), dir.join(part.file_name()));
            let is_base = index == 0 && manifest.base.is_some();
            let has_snapshot = is_base && self.is_snapshot(&path)?;
            if is_base {
                let form = if has_snapshot { "RDB" } else { "RESP" };
                self.say(format!("Start to check BASE AOF ({form} format).\n"));
            } else if manifest.increments.first() == Some(part) {
                self.say("Start to check INCR files.\n");
            }
            let verdict =
                self.file(&Named { name: &name, path: &path, is_last: index == last, has_snapshot })?;
            self.judge(if is_base { "BASE " } else { "INCR " }, &name, verdict)?;
        }
        self.say("All AOF files and manifest are valid\n");
        Ok(())
    }

    fn open(&mut self, path: &Path) -> Result<(Source, u64), Over> {
        match self.disk.open(path) {
            Ok(opened) => Ok((Source { from: BufReader::new(opened.data), at: 0 }, opened.len)),
            Err(error) => {
                self.give_up(format!("Cannot open file {}: {}\n", path.display(), error_text(&error)))
            }
        }
    }

    /// Whether it is a manifest: what its first line says that is no comment.
    fn is_manifest(&mut self, path: &Path) -> Result<bool, Over> {
        let (mut source, _) = self.open(path)?;
        loop {
            match source.line(ANNOTATION_MAX) {
                Ok(line) if line.first() == Some(&b'#') => {}
                Ok(line) => return Ok(line.starts_with(b"file")),
                Err(_) => return self.give_up(format!("Cannot read file: {}\n", path.display())),
            }
        }
    }

    /// Whether it begins with a snapshot.
    fn is_snapshot(&mut self, path: &Path) -> Result<bool, Over> {
        let (mut source, len) = self.open(path)?;
        match source.take(5) {
            Ok((_, begin, _)) => Ok(len >= 8 && begin == b"REDIS"),
            Err(_) => self.give_up(format!("Cannot read file: {}\n", path.display())),
        }
    }

    fn file(&mut self, named: &Named<'_>) -> Result<Verdict, Over> {
        let (name, path) = (named.name, named.path);
        let (mut source, len) = match self.disk.open(path) {
            Ok(opened) => (Source { from: BufReader::new(opened.data), at: 0 }, opened.len),
            Err(error) => {
                let reason = error_text(&error);
                return self.give_up(format!("Cannot open file {}: {reason}, aborting...\n", path.display()));
            }
        };
        if len == 0 {
            return Ok(Verdict::Empty);
        }
        if named.has_snapshot {
            self.snapshot(named, &mut source)?;
        }
        let unread = format!("Failed to read from AOF {name}, aborting...\n");
        let mut walk = Walk { whole: source.at, at: 0, transactions: 0, lines: self.line, complaint: None };
        let ended = walk.run(&mut source, self.wanted.until_s, name);
        self.line = walk.lines;
        match ended {
            Ok(Stopped::Here) => {}
            Ok(Stopped::Late { at, until_s }) => return self.cut_at_time(named, at, until_s),
            Ok(Stopped::BadMoment) => return self.give_up("Invalid timestamp annotation\n"),
            Err(_) => return self.give_up(unread),
        }
        if let Some(complaint) = walk.complaint {
            self.say(format!("{complaint}\n"));
        }
        let (whole, lines) = (walk.whole, walk.lines);
        let beyond = len.saturating_sub(whole);
        if let (0, Some(until_s)) = (beyond, self.wanted.until_s) {
            self.say(format!("Truncate nothing in AOF {name} to timestamp {until_s}\n"));
            return Ok(Verdict::Valid);
        }
        self.say(format!(
            "AOF analyzed: filename={name}, size={len}, ok_up_to={whole}, ok_up_to_line={lines}, diff={beyond}\n"
        ));
        match beyond {
            0 => Ok(Verdict::Valid),
            _ if self.wanted.mends => self.mend(named, len, whole),
            _ => Ok(Verdict::Damaged),
        }
    }

    /// Looks at the snapshot with which a file begins; the source goes on behind it.
    fn snapshot(&mut self, named: &Named<'_>, source: &mut Source) -> Result<(), Over> {
        let (finding, end) = check_medium(named.name, &mut source.from, self.now_ms);
        self.say(finding.text);
        if !finding.is_ok {
            return self.give_up("RDB preamble of AOF file is not sane, aborting.\n");
        }
        self.say("RDB preamble is OK, proceeding with AOF tail...\n");
        // More than the snapshot has been read: the file is taken up again behind it.
        *source = self.open(named.path)?.0;
        match source.take(end) {
            Ok(_) => Ok(()),
            Err(_) => self.give_up(format!("Failed to fseek in AOF {}\n", named.name)),
        }
    }

    fn mend(&mut self, named: &Named<'_>, len: u64, whole: u64) -> Result<Verdict, Over> {
        let name = named.name;
        if !named.is_last {
            return self.give_up(format!("Failed to truncate AOF {name} because it is not the last file\n"));
        }
        self.say(format!(
            "This will shrink the AOF {name} from {len} bytes, with {} bytes, to {whole} bytes\nContinue? [y/N]: ",
            len - whole
        ));
        if self.failed.is_none() {
            self.failed = self.out.flush().err();
        }
        let mut answer = Vec::new();
        let read = self.answers.read_until(b'\n', &mut answer);
        if read.is_err() || !matches!(answer.first(), Some(b'y' | b'Y')) {
            return self.give_up("Aborting...\n");
        }
        match self.disk.truncate(named.path, whole) {
            Ok(()) => Ok(Verdict::Cut),
            Err(_) => self.give_up(format!("Failed to truncate AOF {name}\n")),
        }
    }

    /// What begins at a byte happened too late.
    fn cut_at_time(&mut self, named: &Named<'_>, at: u64, until_s: i64) -> Result<Verdict, Over> {
        let path = named.path.display();
        if at == 0 {
            return self.give_up(format!("AOF {path} has nothing before timestamp {until_s}, aborting...\n"));
        }
        if !named.is_last {
            return self.give_up(format!(
                "Failed to truncate AOF {path} to timestamp {until_s} to offset {at} because it is not the last file.\n\
                 If you insist, please delete all files after this file according to the manifest file and delete the \
                 corresponding records in manifest file manually. Then re-run redis-check-aof.\n"
            ));
        }
        match self.disk.truncate(named.path, at) {
            Ok(()) => Ok(Verdict::CutAtTime),
            Err(_) => self.give_up(format!("Failed to truncate AOF {path} to timestamp {until_s}\n")),
        }
    }
}

/// Where a walk over the requests of a file ended.
enum Stopped {
    /// At the end, or where something is wrong.
    Here,
    /// At what begins here and happened after this second.
    Late { at: u64, until_s: i64 },
    /// At a moment that cannot be read.
    BadMoment,
}

/// A walk over the requests of a file.
struct Walk {
    /// Up to where everything is whole.
    whole: u64,
    /// Where what was looked at last begins.
    at: u64,
    /// MULTI without EXEC so far.
    transactions: i64,
    lines: u64,
    complaint: Option<String>,
}

impl Walk {
    fn run(&mut self, source: &mut Source, until_s: Option<i64>, name: &str) -> io::Result<Stopped> {
        loop {
            if self.transactions == 0 {
                self.whole = source.at;
            }
            match source.peek()? {
                None => {
                    self.end();
                    return Ok(Stopped::Here);
                }
                Some(b'#') => {
                    let at = source.at;
                    let line = source.line(ANNOTATION_MAX)?;
                    let (Some(until_s), Some(moment)) = (until_s, line.strip_prefix(b"#TS:")) else {
                        continue;
                    };
                    let LeadingInteger { number, len, is_beyond } = leading(moment);
                    if is_beyond || moment.get(len) != Some(&b'\r') {
                        return Ok(Stopped::BadMoment);
                    }
                    if number > until_s {
                        return Ok(Stopped::Late { at, until_s });
                    }
                }
                Some(b'*') => {
                    if !self.request(source, name)? {
                        return Ok(Stopped::Here);
                    }
                }
                Some(_) => {
                    self.complaint = Some(format!("AOF {name} format error"));
                    return Ok(Stopped::Here);
                }
            }
        }
    }

    /// The file ends.
    fn end(&mut self) {
        if self.transactions != 0 {
            self.complain("Reached EOF before reading EXEC for MULTI");
        }
    }

    fn complain(&mut self, what: &str) {
        self.complaint.get_or_insert(format!("0x{:>16x}: {what}", self.at));
    }

    /// Takes a request; false if something is wrong with it.
    fn request(&mut self, source: &mut Source, name: &str) -> io::Result<bool> {
        let Some(count) = self.number(source, b'*')? else { return Ok(false) };
        for index in 0..count {
            let Some(len) = self.number(source, b'$')? else { return Ok(false) };
            let Some(len) = u64::try_from(len).ok().filter(|len| *len <= i64::MAX as u64 - 2) else {
                self.complain(&format!(
                    "Expected to read string of {len} bytes, which is not in the suitable range"
                ));
                return Ok(false);
            };
            self.at = source.at;
            let (came, begin, end) = source.take(len + 2)?;
            if came < len + 2 {
                self.complain(&format!("Expected to read {} bytes, got {came} bytes", len + 2));
                return Ok(false);
            }
            if !self.ends_line(&end) {
                return Ok(false);
            }
            let word = &begin[..begin.len().min(usize::try_from(len).unwrap_or(usize::MAX))];
            if index == 0 && word.eq_ignore_ascii_case(b"multi") {
                self.transactions += 1;
                if self.transactions != 1 {
                    self.complain(&format!("Unexpected MULTI in AOF {name}"));
                    return Ok(false);
                }
            } else if index == 0 && word.eq_ignore_ascii_case(b"exec") {
                self.transactions -= 1;
                if self.transactions != 0 {
                    self.complain(&format!("Unexpected EXEC in AOF {name}"));
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Takes a line with a number.
    fn number(&mut self, source: &mut Source, prefix: u8) -> io::Result<Option<i64>> {
        self.at = source.at;
        let line = source.line(LINE_MAX)?;
        let Some((first, rest)) = line.split_first() else {
            self.end();
            return Ok(None);
        };
        if *first != prefix {
            let (expected, got) = (char::from(prefix), first.escape_ascii());
            self.complain(&format!("Expected prefix '{expected}', got: '{got}'"));
            return Ok(None);
        }
        let LeadingInteger { number, len, .. } = leading(rest);
        Ok(self.ends_line(&rest[len..]).then_some(number))
    }

    /// Whether here a line ends.
    fn ends_line(&mut self, rest: &[u8]) -> bool {
        let byte = |index: usize| rest.get(index).copied().unwrap_or(0);
        if rest.starts_with(b"\r\n") {
            self.lines += 1;
            return true;
        }
        self.complain(&format!("Expected \\r\\n, got: {:02x}{:02x}", byte(0), byte(1)));
        false
    }
}

#[cfg(test)]
mod tests;
