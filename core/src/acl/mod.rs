//! Users at the server: the gate that asks whether a call is allowed, and the commands and directives about users. What
//! rules mean is the acl crate's; it knows no server.

mod absent;
mod access;
mod asking;
mod changes;
mod file;
mod log;
mod users;

use std::sync::Arc;

use mortise_acl::password::Scheme;
use mortise_acl::{Setting, Table};
use mortise_sdk::declare::Spec;
use mortise_sdk::declare::flags::CONTAINER;
use mortise_sdk::{config, setting_enum};

use crate::engine::Engine;
use crate::engine::registry::Registry;
use crate::features::{Command, Feature, container};

pub(crate) use access::{Refused, check, error, reads_every_key};
pub(crate) use file::{check_lines, entry, load_at_start};

/// Users, and what they may do.
pub const FEATURE: Feature = Feature {
    name: "acl",
    commands: &[COMMANDS, users::COMMANDS, asking::COMMANDS, file::COMMANDS, log::COMMANDS],
    config: AclConfig::directives(),
    ..Feature::EMPTY
};

setting_enum! {
    /// Which channels new users may use.
    pub enum Channels {
        /// All of them.
        All = "allchannels",
        /// None.
        None = "resetchannels",
    }
}

setting_enum! {
    /// How passwords are kept.
    pub enum PasswordHash {
        /// As Redis keeps them: quickly compared, and quickly guessed if the password is one that people think of.
        Sha256 = "sha256",
        /// Slowly hashed, with a salt and much memory.
        Argon2id = "argon2id",
    }
}

config! {
    /// Users.
    pub struct AclConfig {
        /// File that holds the users, a line each. The empty text means none: then they stand in this file.
        fixed aclfile: String = String::new();
        /// Whether new users may use all pub/sub channels.
        live acl_pubsub_default: Channels = Channels::None;
        /// How many refusals ACL LOG keeps.
        live acllog_max_len: usize = 128, in 0..=i64::MAX;
        /// How passwords are kept from now on that rules give in the clear.
        live acl_password_hash: PasswordHash = PasswordHash::Sha256;
    }
}

const ACL: Spec = Spec::group("server");

/// This file's commands.
const COMMANDS: &[Command] = &[Spec {
    usage: "ACL",
    about: "Commands about users.",
    since: "6.0.0",
    cost: "depends on the subcommand",
    flags: &[CONTAINER],
    ..ACL
}
.runs(container)];

/// The commands that rules can name.
pub(crate) fn table_of(registry: &Registry) -> Arc<Table> {
    Arc::new(absent::table_with(registry))
}

impl Engine {
    /// How rules are read by the settings as they are.
    pub(crate) fn follow_acl_settings(&mut self) {
        let table = self.users.setting().table.clone();
        self.set_rules_table(table);
    }

    /// There are other commands than before.
    pub(crate) fn follow_registry(&mut self) {
        self.set_rules_table(table_of(&self.registry));
        self.rim.config_changed(&self.config, &self.users);
    }

    fn set_rules_table(&mut self, table: Arc<Table>) {
        let acl = &self.config.acl;
        self.users.set(Setting {
            table,
            all_channels: acl.acl_pubsub_default == Channels::All,
            scheme: match acl.acl_password_hash {
                PasswordHash::Sha256 => Scheme::Sha256,
                PasswordHash::Argon2id => Scheme::Argon2id,
            },
        });
    }
}
