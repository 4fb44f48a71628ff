#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod cli;
pub mod compare;
pub mod connection;
pub mod control;
pub mod fanout;
pub mod growth;
pub mod load;
pub mod process;
pub mod replies;
pub mod report;
pub mod request;
pub mod server;
pub mod workload;
