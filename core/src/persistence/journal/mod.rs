//! The journal: every change is appended to a file, and the file is played again when the server starts.
//!
//! | file | owns |
//! |---|---|
//! | `manifest.rs` | which files there are, what they are called, and in which order they are read |
//! | `number.rs` | how numbers are read |

pub mod manifest;
mod number;
