//! The table of contents: every built-in feature, one line each.

use mortise_sdk::declare::{self, Runs};

use crate::config::Config;
use crate::engine::Engine;
use crate::engine::alone;
use crate::engine::call::{self, Call};
use crate::engine::registry::Registry;
use mortise_sdk::Result;

/// The ground that the core's own declarations stand on.
pub struct Core;

/// A core command's function.
pub type Run = fn(&mut Call<'_>) -> Result;

impl declare::Ground for Core {
    type Run = Run;
    type Alone = alone::Run;
    type Config = Config;
    type Engine = Engine;
    type Type = ();
}

/// A core command.
pub type Command = declare::Command<Run, alone::Run>;
/// A feature of the core.
pub type Feature = declare::Feature<Core>;
/// An INFO section of the core.
pub type Section = declare::Section<Engine>;
/// An INFO field of the core.
pub type Field = declare::Field<Engine>;

/// A container: it has subcommands and does nothing itself.
pub fn container(call: &mut Call<'_>) -> Result {
    Err(mortise_sdk::Error::wrong_arity(&call.command.name.to_ascii_lowercase()))
}

/// Every feature.
pub const FEATURES: &[Feature] = &[
    crate::session::FEATURE,
    crate::keys::FEATURE,
    crate::types::string::FEATURE,
    crate::types::list::FEATURE,
    crate::types::hash::FEATURE,
    crate::types::set::FEATURE,
    crate::types::zset::FEATURE,
    crate::types::stream::FEATURE,
    crate::transactions::FEATURE,
    crate::pubsub::FEATURE,
    crate::tracking::FEATURE,
    crate::scripting::FEATURE,
    crate::acl::FEATURE,
    crate::persistence::FEATURE,
    crate::persistence::journal::FEATURE,
    crate::replication::FEATURE,
    crate::admin::FEATURE,
    crate::admin::DEBUG,
    crate::modules::FEATURE,
    crate::server::FEATURE,
    crate::server::tls::FEATURE,
];

/// The registry of the core's own commands.
pub fn registry() -> std::result::Result<Registry, String> {
    let mut registry = Registry::default();
    for feature in FEATURES {
        let rows = feature.commands.iter().flat_map(|table| table.iter());
        let rows = rows.map(|command| match command.run {
            Runs::Whole(run) => (command.spec, call::Run::Core(run)),
            Runs::Alone(run) => (command.spec, call::Run::Alone(run)),
        });
        registry.install(rows, None).map_err(|error| format!("{}: {error}", feature.name))?;
    }
    Ok(registry)
}
