#![doc = include_str!("../README.md")]

mod bits;
mod commands;
pub mod file;
pub mod log;
pub mod password;
mod patterns;
mod rule;
mod selector;
mod table;
mod user;
mod users;

pub use rule::{Refused, Wrong, has_spaces};
pub use selector::{Asked, Refusal, Selector};
pub use table::{Named, Table};
pub use user::User;
pub use users::{DEFAULT, Setting, Users};
