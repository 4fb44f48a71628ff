//! Lists: elements in order, which come and go at both ends.

mod adding;
mod chunk;
mod item;
mod moving;
mod popping;
pub(crate) mod rdb;
mod reading;
mod removing;
mod sequence;
#[cfg(test)]
mod tests;
mod tree;
pub mod value;

use mortise_sdk::config;
use mortise_sdk::declare::Spec;

pub use chunk::ChunkLimits;
pub use item::Item;
pub use sequence::Sequence;

use crate::engine::call::Options;
use crate::features::Feature;
use mortise_sdk::{Result, error};

const LIST: Spec = Spec::group("list");

/// Lists.
pub const FEATURE: Feature = Feature {
    name: "list",
    commands: &[adding::COMMANDS, reading::COMMANDS, removing::COMMANDS, popping::COMMANDS, moving::COMMANDS],
    config: ListConfig::directives(),
    ..Feature::EMPTY
};

config! {
    /// How lists are kept.
    pub struct ListConfig {
        /// How much of a list stands together in one piece of memory. From -1 to -5: 4, 8, 16, 32 or 64 KB. A positive number: so many elements, up to 8 KB.
        live list_max_listpack_size | list_max_ziplist_size: i32 = -2;
        /// So many such pieces at each end of a list are kept as they are, those in between compressed. 0: none is compressed.
        live list_compress_depth: u32 = 0, in 0..=i32::MAX;
    }
}

/// An end of a list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// Where the first element is.
    Left,
    /// Where the last one is.
    Right,
}

impl End {
    /// The event of an element that has come at this end.
    fn pushed(self) -> &'static str {
        match self {
            End::Left => "lpush",
            End::Right => "rpush",
        }
    }

    /// The event of one that has gone.
    fn popped(self) -> &'static str {
        match self {
            End::Left => "lpop",
            End::Right => "rpop",
        }
    }
}

impl crate::types::popping::End for End {
    fn parse(options: &mut Options<'_>) -> Result<End> {
        if options.takes("LEFT") {
            Ok(End::Left)
        } else if options.takes("RIGHT") {
            Ok(End::Right)
        } else {
            Err(error::SYNTAX)
        }
    }

    fn pop_command(self) -> &'static [u8] {
        match self {
            End::Left => b"LPOP",
            End::Right => b"RPOP",
        }
    }
}
