//! Sorted sets: members with scores, in order.

pub mod commands;
pub mod value;
