//! The wire format of replies: encoding and decoding, shared by everyone who speaks it.

pub mod decode;
pub mod encode;
mod number;

pub use decode::{DecodeError, Limits, Reply, decode};
pub use number::{DoubleText, IntegerText, format_double, format_integer};
