//! The program `mortise-bench`: see the crate's documentation.

use std::process::ExitCode;

fn main() -> ExitCode {
    match mortise_benches::cli::run(std::env::args_os().skip(1)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mortise-bench: {error}");
            ExitCode::FAILURE
        }
    }
}
