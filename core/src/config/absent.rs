//! Directives of Redis 7.0 and 7.2 that Mortise does not have yet.
//!
//! At start they are ignored with a warning, so that an existing redis.conf can be used, unless durability or
//! safety hangs on the value: then the server does not start. Where one value says what the server does without the
//! directive (`cluster-enabled no`), CONFIG GET shows it and CONFIG SET takes it; all else is refused. A directive
//! leaves this table when a feature declares it.

/// What CONFIG SET says of such a directive.
pub const NOT_YET: &str = "Mortise does not have this directive yet";

/// What is said at start of a value that cannot be ignored.
pub const WOULD_BE_UNSAFE: &str =
    "Mortise does not have this directive yet, and ignoring this value would cost durability or safety";

/// What CONFIG SET says of a directive that only the configuration at start sets.
pub const IMMUTABLE: &str = "can't set immutable config";

/// Which of them only the configuration at start sets.
const FIXED: &[&str] = &[
    "always-show-logo",
    "aof_rewrite_cpulist",
    "bgsave_cpulist",
    "bio_cpulist",
    "cluster-config-file",
    "cluster-enabled",
    "cluster-port",
    "disable-thp",
    "io-threads-do-reads",
    "server_cpulist",
    "set-proc-title",
    "socket-mark-id",
    "syslog-enabled",
    "syslog-facility",
    "syslog-ident",
];

/// A directive that is known by name only.
#[derive(Debug)]
pub struct Absent {
    /// Its name in redis.conf.
    pub name: &'static str,
    /// An older name for it, or an empty text.
    pub alias: &'static str,
    ignored: Ignored,
}

/// Which values may be ignored.
#[derive(Debug)]
enum Ignored {
    /// All.
    Always,
    /// All, and this one is in force.
    For(&'static str),
    /// These words, in any case.
    If(&'static [&'static str]),
}

impl Absent {
    /// Whether the server must not start with this value.
    pub fn stops(&self, words: &[Vec<u8>]) -> bool {
        let is = |word: &[u8], expected: &str| word.eq_ignore_ascii_case(expected.as_bytes());
        let harmless = match &self.ignored {
            Ignored::Always | Ignored::For(_) => true,
            Ignored::If(expected) => {
                words.len() == expected.len()
                    && words.iter().zip(*expected).all(|(word, expected)| is(word, expected))
            }
        };
        !harmless
    }

    /// The value that says what the server does without the directive, as CONFIG GET shows it. `None` where no value
    /// does, since there is nothing that it could describe.
    pub fn in_force(&self) -> Option<&'static str> {
        match self.ignored {
            Ignored::Always => None,
            Ignored::For(value) => Some(value),
            Ignored::If([value]) => Some(value),
            Ignored::If(_) => Some(""),
        }
    }

    /// Why CONFIG SET does not take a value; nothing if it does, as the value is in force anyway.
    pub fn refusal(&self, value: &[u8]) -> Option<&'static str> {
        if FIXED.contains(&self.name) {
            return Some(IMMUTABLE);
        }
        let is_in_force = self.in_force().is_some_and(|known| known.as_bytes() == value);
        (!is_in_force).then_some(NOT_YET)
    }

    /// The names and values that CONFIG GET shows.
    pub fn shown() -> impl Iterator<Item = (&'static str, &'static str)> {
        ALL.iter().flat_map(|row| {
            let names = [row.name, row.alias].into_iter().filter(|name| !name.is_empty());
            row.in_force().into_iter().flat_map(move |value| names.clone().map(move |name| (name, value)))
        })
    }
}

/// The row that `name` names, in any case, by alias too.
pub fn find(name: &str) -> Option<&'static Absent> {
    let is = |known: &str| !known.is_empty() && known.eq_ignore_ascii_case(name);
    ALL.iter().find(|row| is(row.name) || is(row.alias))
}

const fn ignored(name: &'static str) -> Absent {
    Absent { name, alias: "", ignored: Ignored::Always }
}

const fn renamed(name: &'static str, alias: &'static str) -> Absent {
    Absent { name, alias, ignored: Ignored::Always }
}

const fn unless(name: &'static str, ignored: Ignored) -> Absent {
    Absent { name, alias: "", ignored }
}

/// All of them, by subject.
pub const ALL: &[Absent] = &[
    // Durability and safety: these promise something that would silently not happen.
    unless("cluster-enabled", Ignored::If(&["no"])),
    // Cluster.
    ignored("cluster-config-file"),
    ignored("cluster-node-timeout"),
    ignored("cluster-port"),
    renamed("cluster-replica-validity-factor", "cluster-slave-validity-factor"),
    renamed("cluster-replica-no-failover", "cluster-slave-no-failover"),
    ignored("cluster-migration-barrier"),
    ignored("cluster-allow-replica-migration"),
    ignored("cluster-require-full-coverage"),
    ignored("cluster-allow-reads-when-down"),
    ignored("cluster-allow-pubsubshard-when-down"),
    ignored("cluster-link-sendbuf-limit"),
    ignored("cluster-announce-ip"),
    ignored("cluster-announce-port"),
    ignored("cluster-announce-tls-port"),
    ignored("cluster-announce-bus-port"),
    ignored("cluster-announce-hostname"),
    ignored("cluster-announce-human-nodename"),
    ignored("cluster-preferred-endpoint-type"),
    // TLS.
    unless("tls-cluster", Ignored::If(&["no"])),
    // Memory.
    unless("activedefrag", Ignored::For("no")),
    ignored("active-defrag-cycle-min"),
    ignored("active-defrag-cycle-max"),
    ignored("active-defrag-threshold-lower"),
    ignored("active-defrag-threshold-upper"),
    ignored("active-defrag-ignore-bytes"),
    ignored("active-defrag-max-scan-fields"),
    unless("jemalloc-bg-thread", Ignored::For("yes")),
    unless("activerehashing", Ignored::For("yes")),
    // What older versions had.
    ignored("list-max-ziplist-entries"),
    ignored("list-max-ziplist-value"),
    ignored("lua-replicate-commands"),
    // The process and its host.
    ignored("io-threads-do-reads"),
    ignored("always-show-logo"),
    ignored("set-proc-title"),
    ignored("proc-title-template"),
    unless("syslog-enabled", Ignored::For("no")),
    ignored("syslog-ident"),
    ignored("syslog-facility"),
    ignored("crash-log-enabled"),
    ignored("crash-memcheck-enabled"),
    ignored("use-exit-on-panic"),
    ignored("disable-thp"),
    ignored("server_cpulist"),
    ignored("bio_cpulist"),
    ignored("aof_rewrite_cpulist"),
    ignored("bgsave_cpulist"),
    ignored("ignore-warnings"),
    ignored("socket-mark-id"),
    ignored("locale-collate"),
    unless("watchdog-period", Ignored::For("0")),
    unless("dynamic-hz", Ignored::For("no")),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn stops(name: &str, words: &[&str]) -> bool {
        find(name)
            .expect("in the table")
            .stops(&words.iter().map(|w| w.as_bytes().to_vec()).collect::<Vec<_>>())
    }

    #[test]
    fn names_are_unique() {
        let mut seen = HashSet::new();
        for row in ALL {
            assert!(seen.insert(row.name), "{}", row.name);
            assert!(row.alias.is_empty() || seen.insert(row.alias), "{}", row.alias);
        }
    }

    #[test]
    fn what_is_declared_is_not_absent() {
        let directives = crate::server::directives().unwrap();
        for row in ALL {
            assert!(!directives.contains(row.name), "{}", row.name);
            assert!(!directives.contains(row.alias), "{}", row.alias);
        }
    }

    #[test]
    fn values_that_promise_something_stop_the_start() {
        for (name, words) in
            [("TLS-cluster", &["yes"][..]), ("tls-cluster", &[]), ("cluster-enabled", &["yes"])]
        {
            assert!(stops(name, words), "{name} {words:?}");
        }
    }

    #[test]
    fn every_name_in_a_list_is_in_the_table() {
        for name in FIXED {
            assert!(ALL.iter().any(|row| row.name == *name), "{name}");
        }
    }

    #[test]
    fn set_refuses_as_redis_does() {
        let refusal = |name: &str, value: &str| find(name).and_then(|row| row.refusal(value.as_bytes()));
        for (name, value) in [("cluster-enabled", "no"), ("syslog-enabled", "no")] {
            assert_eq!(refusal(name, value), Some(IMMUTABLE), "{name}");
        }
        assert_eq!(refusal("tls-cluster", "no"), None);
        assert_eq!(refusal("tls-cluster", "yes"), Some(NOT_YET));
    }

    #[test]
    fn what_is_in_force_does_not_stop_the_start() {
        for row in ALL.iter().filter(|row| row.alias.is_empty()) {
            assert!(row.in_force().is_none_or(|value| !stops(row.name, &[value])), "{}", row.name);
        }
        assert_eq!(find("cluster-port").and_then(Absent::in_force), None);
    }

    #[test]
    fn other_values_do_not() {
        for (name, words) in [("tls-cluster", &["No"][..]), ("cluster-config-file", &["nodes.conf"])] {
            assert!(!stops(name, words), "{name} {words:?}");
        }
    }
}
