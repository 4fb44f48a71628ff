//! What is said to a request that names no command.

use mortise_sdk::error::Error;

use super::args::Args;
use super::registry::Lookup;

/// The error for a request that names no command.
pub(crate) fn unknown(lookup: &Lookup, args: Args<'_>) -> Error {
    match lookup {
        Lookup::UnknownSubcommand(_) => unknown_subcommand(args),
        _ => unknown_command(args),
    }
}

/// How much of what a client said is repeated.
const EXCERPT_LEN_MAX: usize = 128;

fn excerpt(word: &[u8], len_max: usize) -> &[u8] {
    &word[..word.len().min(len_max)]
}

#[cold]
fn unknown_command(args: Args<'_>) -> Error {
    let mut beginning = Vec::new();
    for arg in args.iter().skip(1) {
        if beginning.len() >= EXCERPT_LEN_MAX {
            break;
        }
        let said = excerpt(arg, EXCERPT_LEN_MAX - beginning.len());
        beginning.extend_from_slice(Error::quoting("'{}' ", &[said]).as_bytes());
    }
    let name = excerpt(args.at(0), EXCERPT_LEN_MAX);
    Error::quoting("ERR unknown command '{}', with args beginning with: {}", &[name, &beginning])
}

#[cold]
fn unknown_subcommand(args: Args<'_>) -> Error {
    let said = excerpt(args.at(1), EXCERPT_LEN_MAX);
    let container = excerpt(args.at(0), EXCERPT_LEN_MAX).to_ascii_uppercase();
    Error::quoting("ERR unknown subcommand '{}'. Try {} HELP.", &[said, &container])
}
