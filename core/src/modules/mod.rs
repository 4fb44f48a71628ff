//! Loaded modules.

use mortise_sdk::{config, setting_enum};

use crate::features::{Feature, Section};

/// Modules.
pub const FEATURE: Feature = Feature {
    name: "modules",
    config: ModulesConfig::directives(),
    info: &[Section { name: "modules", fields: &[] }],
    ..Feature::EMPTY
};

setting_enum! {
    /// Who may do what is forbidden by default.
    pub enum Permission {
        /// Nobody.
        No = "no",
        /// Everybody.
        Yes = "yes",
        /// Connections from this machine.
        Local = "local",
    }
}

impl Permission {
    /// Whether a connection may, given where it comes from.
    pub fn allows(self, is_local: bool) -> bool {
        match self {
            Permission::No => false,
            Permission::Yes => true,
            Permission::Local => is_local,
        }
    }
}

config! {
    /// Loading modules.
    pub struct ModulesConfig {
        /// Who may call MODULE.
        fixed enable_module_command: Permission = Permission::No;
    }
}
