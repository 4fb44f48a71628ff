//! The log: lines in the shape that tools know from Redis, `12345:M 21 Nov 2026 00:10:00.123 * Server initialized`.

use std::fmt::{self, Write as _};
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use jiff::Zoned;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};

use super::LogLevel;

/// The level from which lines are written: one for the process, as there is one log.
static LEVEL: AtomicU8 = AtomicU8::new(rank(LogLevel::Notice));
/// Whether the server follows another one, which each line shows.
static IS_REPLICA: AtomicBool = AtomicBool::new(false);
/// The file that lines go to; standard output if its name is empty.
static FILE: OnceLock<String> = OnceLock::new();

/// Starts the log of the process. Of several calls the first one counts.
pub fn start(file: &str, level: LogLevel) -> io::Result<()> {
    if !file.is_empty() {
        open(file)?;
    }
    set_level(level);
    if FILE.set(file.to_owned()).is_ok() {
        // It fails if the program that embeds the server has a log of its own, which then gets the lines.
        let _ = tracing::subscriber::set_global_default(Log);
    }
    Ok(())
}

/// Changes how much is logged.
pub fn set_level(level: LogLevel) {
    LEVEL.store(rank(level), Ordering::Relaxed);
}

/// Lines show from now on that the server follows another one, or that it does not.
pub(super) fn set_role(is_replica: bool) {
    IS_REPLICA.store(is_replica, Ordering::Relaxed);
}

const fn rank(level: LogLevel) -> u8 {
    match level {
        LogLevel::Debug => 0,
        LogLevel::Verbose => 1,
        LogLevel::Notice => 2,
        LogLevel::Warning => 3,
    }
}

/// The rank of a level of `tracing`, and the character by which lines of that rank are known.
fn rank_of(level: &Level) -> (u8, char) {
    match *level {
        Level::TRACE => (0, '.'),
        Level::DEBUG => (1, '-'),
        Level::INFO => (2, '*'),
        Level::WARN | Level::ERROR => (3, '#'),
    }
}

fn open(path: impl AsRef<Path>) -> io::Result<std::fs::File> {
    OpenOptions::new().append(true).create(true).open(path)
}

/// Writes events as lines. It knows no spans.
struct Log;

impl Subscriber for Log {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        // Libraries log to nobody. Our own levels may change while the server runs.
        if metadata.target().starts_with("mortise") { Interest::sometimes() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        rank_of(metadata.level()).0 >= LEVEL.load(Ordering::Relaxed)
            && metadata.target().starts_with("mortise")
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let role = if IS_REPLICA.load(Ordering::Relaxed) { 'S' } else { 'M' };
        let line = line(role, &Zoned::now(), event.metadata().level(), &Text::of(event).0);
        // A full disk or a closed terminal must not stop the server.
        let _ = match FILE.get() {
            // Opened for each line, so that the file may be moved away.
            Some(file) if !file.is_empty() => open(file).and_then(|mut file| file.write_all(line.as_bytes())),
            _ => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(line.as_bytes()).and_then(|()| stdout.flush())
            }
        };
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

fn line(role: char, time: &Zoned, level: &Level, text: &str) -> String {
    let time = time.strftime("%d %b %Y %H:%M:%S.%3f");
    format!("{}:{role} {time} {} {text}\n", std::process::id(), rank_of(level).1)
}

/// What an event says.
#[derive(Default)]
struct Text(String);

impl Text {
    fn of(event: &Event<'_>) -> Text {
        let mut text = Text::default();
        event.record(&mut text);
        text
    }
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a String cannot fail.
        let _ = match field.name() {
            "message" => write!(self.0, "{value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_looks_as_tools_expect_it() {
        let time: Zoned = "2026-11-01T00:10:00.0239+00:00[UTC]".parse().unwrap();
        let expected = format!("{}:M 01 Nov 2026 00:10:00.023 * Server initialized\n", std::process::id());
        assert_eq!(line('M', &time, &Level::INFO, "Server initialized"), expected);
    }

    #[test]
    fn levels_are_marked_and_ordered() {
        let levels = [Level::TRACE, Level::DEBUG, Level::INFO, Level::WARN, Level::ERROR];
        let marks: String = levels.iter().map(|level| rank_of(level).1).collect();
        assert_eq!(marks, ".-*##");
        assert!(rank_of(&Level::DEBUG).0 < rank(LogLevel::Notice));
        assert!(rank_of(&Level::INFO).0 < rank(LogLevel::Warning));
    }
}
