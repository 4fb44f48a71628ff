//! How a feature is declared: commands, key uses, flags, categories, directives, INFO fields.

pub mod category;
pub mod config;
pub mod facts;
pub mod feature;
pub mod flags;
pub mod info;
pub mod keys;
pub mod spec;
pub mod usage;

pub use category::Category;
pub use config::Directive;
pub use facts::{BadKeys, ChannelSpec, Facts, KeyRef, KeySpec};
pub use feature::{Feature, Ground};
pub use flags::*;
pub use info::{Field, Section, Shown};
pub use keys::*;
pub use spec::{ArgumentAge, Command, Deprecation, Runs, Spec, added, outdated};
pub use usage::{Argument, Kind, Usage, UsageError};
