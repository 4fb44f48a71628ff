//! The protocol: requests in, replies out.

pub mod output;
pub mod request;
