//! What the program does under other names: redis-check-rdb looks at a snapshot's file, redis-check-aof at a journal, and
//! mends it.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::disk::SystemDisk;
use super::{clock, error_text};
use crate::engine::event::Clock as _;
use crate::persistence::check::check as check_file;
use crate::persistence::journal::check::check as check_parts;

/// What it does, if it was started under such a name.
pub(super) fn named(name: &OsString, arguments: &[OsString]) -> Option<ExitCode> {
    let name = Path::new(name).file_name()?;
    if name == "redis-check-rdb" {
        return Some(check_snapshot(arguments));
    }
    (name == "redis-check-aof").then(|| check_journal(arguments))
}

fn now_ms() -> i64 {
    clock::SystemClock::new().unix_us() / 1000
}

fn check_snapshot(arguments: &[OsString]) -> ExitCode {
    let path = match arguments {
        [word] if word == "-v" || word == "--version" => {
            println!(
                "redis-check-rdb {} (Mortise {})",
                crate::session::REDIS_VERSION,
                env!("CARGO_PKG_VERSION")
            );
            return ExitCode::SUCCESS;
        }
        [path] => Path::new(path),
        _ => {
            eprintln!("Usage: redis-check-rdb <rdb-file-name>");
            return ExitCode::FAILURE;
        }
    };
    match check_file(path, &SystemDisk, now_ms()) {
        Ok(finding) => {
            print!("{}", finding.text);
            if finding.is_ok { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("Cannot open the file {}: {}", path.display(), error_text(&error));
            ExitCode::FAILURE
        }
    }
}

fn check_journal(arguments: &[OsString]) -> ExitCode {
    let arguments: Vec<_> = arguments.iter().map(PathBuf::from).collect();
    let (mut out, mut answers) = (io::stdout().lock(), io::stdin().lock());
    let ended = check_parts(&arguments, &SystemDisk, now_ms(), &mut out, &mut answers);
    match ended.and_then(|is_ok| out.flush().map(|()| is_ok)) {
        Ok(true) => ExitCode::SUCCESS,
        // Whoever does not read to the end does not want to know.
        Ok(false) | Err(_) => ExitCode::FAILURE,
    }
}
