//! Scripts at the server: EVAL and its like, and the commands about scripts. Lua itself is the scripting crate's; it
//! knows no server.

mod eval;
mod host;
pub(crate) mod script;

use std::collections::BTreeMap;
use std::sync::Arc;

use mortise_scripting::{Flags, Sandbox, Settings, Usage};
use mortise_sdk::config;
use mortise_sdk::declare::config::Bytes;
use parking_lot::Mutex;

use self::host::Recent;
use crate::engine::args::{Args, Span};
use crate::engine::registry::Command;
use crate::features::Feature;
use crate::keyspace::SpaceId;
use crate::session::REDIS_VERSION;

/// Scripts.
pub const FEATURE: Feature = Feature {
    name: "scripting",
    commands: &[eval::COMMANDS, script::COMMANDS],
    config: ScriptingConfig::directives(),
    ..Feature::EMPTY
};

config! {
    /// Scripts.
    pub struct ScriptingConfig {
        /// Bytes that the Lua of a space may hold. A script that wants more fails.
        live script_memory_limit: Bytes = Bytes(1 << 30);
    }
}

/// Buffers of scripts that were once larger are given back.
const KEEP_MAX: usize = 1 << 20;

/// The sandbox of each space: scripts of one tenant are not known to another.
#[derive(Default)]
pub struct Scripting {
    sandboxes: BTreeMap<SpaceId, Arc<Mutex<Sandbox>>>,
    /// Buffers of the script that runs: its reply, and the words of its commands.
    reply: Vec<u8>,
    words: Vec<u8>,
    spans: Vec<Span>,
    recent: Recent,
    /// What the Lua of a space may hold, as the sandboxes know it.
    memory_max: usize,
    /// Scripts may call DEBUG.
    pub(crate) may_debug: bool,
}

impl Scripting {
    /// The sandbox of a space. It is shared with the script that runs, which may be unwound.
    fn of(&mut self, space: SpaceId, memory_max: usize) -> Arc<Mutex<Sandbox>> {
        if self.memory_max != memory_max {
            self.limit_memory(memory_max);
        }
        let sandbox = self.sandboxes.entry(space).or_insert_with(|| {
            let version = REDIS_VERSION.to_owned();
            Arc::new(Mutex::new(Sandbox::new(Settings { memory_max, version })))
        });
        sandbox.clone()
    }

    #[cold]
    fn limit_memory(&mut self, memory_max: usize) {
        let mut all = true;
        for sandbox in self.sandboxes.values() {
            match sandbox.try_lock() {
                Some(mut sandbox) => sandbox.set_memory_max(memory_max),
                // A script is running in it: it hears of the limit when the next one begins.
                None => all = false,
            }
        }
        if all {
            self.memory_max = memory_max;
        }
    }

    /// Whether a call is one of a script that has declared that it does not write.
    pub(crate) fn only_reads(&self, space: SpaceId, command: &Command, args: Args<'_>) -> bool {
        self.declared(space, command, args).is_some_and(|flags| flags.no_writes)
    }

    /// Whether a call is one of a script that says of itself that it may write, but not when memory is short.
    pub(crate) fn wants_memory(&self, space: SpaceId, command: &Command, args: Args<'_>) -> bool {
        self.declared(space, command, args).is_some_and(|flags| !flags.no_writes && !flags.allow_oom)
    }

    /// What the script of a call has declared, if it is known and has.
    fn declared(&self, space: SpaceId, command: &Command, args: Args<'_>) -> Option<Flags> {
        let script = args.get(1)?;
        let flags = match &*command.facts.words[0] {
            "eval" | "eval_ro" => Flags::of(script),
            "evalsha" | "evalsha_ro" => self.flags(space, script),
            _ => None,
        };
        flags.filter(|flags| flags.declared)
    }

    /// There are other commands than before.
    pub(crate) fn forget_commands(&mut self) {
        self.recent.clear();
    }

    fn flags(&self, space: SpaceId, digest: &[u8]) -> Option<Flags> {
        let script = self.sandboxes.get(&space)?.try_lock()?.find(digest)?;
        Some(script.flags())
    }

    /// What scripts take in all spaces. A sandbox in which a script is running right now is not counted.
    pub fn usage(&self) -> Usage {
        let mut all = Usage::default();
        for usage in self.sandboxes.values().filter_map(|sandbox| Some(sandbox.try_lock()?.usage())) {
            all.lua_bytes += usage.lua_bytes;
            all.scripts += usage.scripts;
            all.scripts_bytes += usage.scripts_bytes;
        }
        all
    }
}
