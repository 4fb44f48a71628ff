//! What is true of a command as a whole: the flags that COMMAND INFO reports.

use std::ops::BitOr;

/// A flag of a command, or a set of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Flags(pub u64);

impl Flags {
    /// No flag.
    pub const NONE: Flags = Flags(0);

    /// The union of a list, usable in constants.
    pub const fn all(list: &[Flags]) -> Flags {
        let mut union = 0;
        let mut i = 0;
        while i < list.len() {
            union |= list[i].0;
            i += 1;
        }
        Flags(union)
    }

    /// Whether every flag of `other` is in `self`.
    #[inline(always)]
    pub const fn has(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether any flag of `other` is in `self`.
    #[inline(always)]
    pub const fn any(self, other: Flags) -> bool {
        self.0 & other.0 != 0
    }

    /// The names that COMMAND INFO shows, in the order of Redis.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        NAMES.iter().filter(move |(flag, _)| self.has(*flag)).map(|(_, name)| *name)
    }
}

impl BitOr for Flags {
    type Output = Flags;
    fn bitor(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }
}

macro_rules! flags {
    ($( $(#[doc = $doc:literal])+ $name:ident = $bit:literal $(as $shown:literal)?; )*) => {
        $( $(#[doc = $doc])+ pub const $name: Flags = Flags(1 << $bit); )*
        const NAMES: &[(Flags, &str)] = &[ $( $( ($name, $shown), )? )* ];
    };
}

flags! {
    /// May change data.
    WRITE = 0 as "write";
    /// Reads keys and changes nothing.
    READONLY = 1 as "readonly";
    /// May grow memory; refused when memory is short.
    DENYOOM = 2 as "denyoom";
    /// Comes from a loaded module.
    MODULE = 3 as "module";
    /// An operator's command.
    ADMIN = 4 as "admin";
    /// Belongs to pub/sub.
    PUBSUB = 5 as "pubsub";
    /// Refused in scripts.
    NOSCRIPT = 6 as "noscript";
    /// May wait.
    BLOCKING = 7 as "blocking";
    /// Allowed while data is being loaded.
    LOADING = 8 as "loading";
    /// Allowed on a replica with stale data.
    STALE = 9 as "stale";
    /// Not shown by MONITOR.
    SKIP_MONITOR = 10 as "skip_monitor";
    /// Not noted in the slow log.
    SKIP_SLOWLOG = 11 as "skip_slowlog";
    /// Allowed on a slot that is being imported.
    ASKING = 12 as "asking";
    /// Takes constant or logarithmic time.
    FAST = 13 as "fast";
    /// Allowed before authentication.
    NO_AUTH = 14 as "no_auth";
    /// Not a write, but may be replicated. Not shown.
    MAY_REPLICATE = 15;
    /// Has key specs, but may be called without keys.
    NO_MANDATORY_KEYS = 18 as "no_mandatory_keys";
    /// Refused unless `enable-debug-command` allows it. Not shown.
    NEEDS_DEBUG = 19;
    /// Refused while data is loaded asynchronously.
    NO_ASYNC_LOADING = 20 as "no_async_loading";
    /// Refused inside a transaction.
    NO_MULTI = 21 as "no_multi";
    /// Key positions cannot be told by first, last and step alone.
    MOVABLEKEYS = 22 as "movablekeys";
    /// Allowed while a script runs past its threshold.
    ALLOW_BUSY = 23 as "allow_busy";
    /// The call may be suspended half way, so its batch runs on a coroutine. Not shown.
    SUSPENDS = 40;
    /// Runs what a transaction has queued: EXEC. Not shown.
    RUNS_QUEUE = 41;
    /// Obeyed inside a transaction instead of being queued (EXEC, DISCARD, MULTI, WATCH, QUIT, RESET). Not shown.
    NOT_QUEUED = 42;
    /// A container: it has subcommands, and is nothing without one. Not shown.
    CONTAINER = 43;
    /// For the server's own use or for tests; COMMAND DOCS marks it so. Not shown.
    SYSCMD = 44;
    /// Allowed to a subscriber on RESP2: SUBSCRIBE and its like, PING, QUIT, RESET. Not shown.
    SUBSCRIBER = 45;
    /// Refused unless `enable-module-command` allows it. Not shown.
    NEEDS_MODULE = 46;
}
