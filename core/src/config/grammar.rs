//! What may stand behind directives that Mortise does not have yet: a line that Redis refuses is a mistake, whoever reads
//! it. Names that stand in no table here take one word, whatever it is. A name leaves its table with the one of
//! [`absent`](super::absent).

use mortise_sdk::declare::config::{Bytes, Kind, Limits, Setting};

/// `yes` or `no`.
const YES_NO: &[&str] = &[
    "activedefrag",
    "activerehashing",
    "always-show-logo",
    "cluster-allow-pubsubshard-when-down",
    "cluster-allow-reads-when-down",
    "cluster-allow-replica-migration",
    "cluster-enabled",
    "cluster-replica-no-failover",
    "cluster-require-full-coverage",
    "crash-log-enabled",
    "crash-memcheck-enabled",
    "disable-thp",
    "dynamic-hz",
    "io-threads-do-reads",
    "jemalloc-bg-thread",
    "set-proc-title",
    "syslog-enabled",
    "tls-cluster",
    "use-exit-on-panic",
];

const INT_MAX: i128 = i32::MAX as i128;
const LONG_MAX: i128 = i64::MAX as i128;

/// Numbers, from one value to another.
const NUMBERS: &[(&str, i128, i128)] = &[
    ("active-defrag-cycle-max", 1, 99),
    ("active-defrag-cycle-min", 1, 99),
    ("active-defrag-max-scan-fields", 1, LONG_MAX),
    ("active-defrag-threshold-lower", 0, 1000),
    ("active-defrag-threshold-upper", 0, 1000),
    ("cluster-announce-bus-port", 0, 65535),
    ("cluster-announce-port", 0, 65535),
    ("cluster-announce-tls-port", 0, 65535),
    ("cluster-migration-barrier", 0, INT_MAX),
    ("cluster-node-timeout", 0, LONG_MAX),
    ("cluster-port", 0, 65535),
    ("cluster-replica-validity-factor", 0, INT_MAX),
    ("socket-mark-id", 0, u32::MAX as i128),
    ("watchdog-period", 0, INT_MAX),
];

/// Numbers of bytes, from one value to another.
const SIZES: &[(&str, i128, i128)] =
    &[("active-defrag-ignore-bytes", 1, LONG_MAX), ("cluster-link-sendbuf-limit", 0, u64::MAX as i128)];

/// One of some words.
const WORDS: &[(&str, &[&str])] = &[
    ("cluster-preferred-endpoint-type", &["ip", "hostname", "unknown-endpoint"]),
    (
        "syslog-facility",
        &["user", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7"],
    ),
];

/// Why Redis would refuse these words behind a directive's name.
pub(super) fn check(name: &str, words: &[Vec<u8>]) -> Result<(), String> {
    let words: Vec<_> = words.iter().map(|word| String::from_utf8_lossy(word)).collect();
    let words: Vec<&str> = words.iter().map(|word| &**word).collect();
    let limits = |low, high| Some(Limits { low, high });
    let row = |table: &[(&str, i128, i128)]| table.iter().find(|row| row.0 == name).map(|row| (row.1, row.2));
    if YES_NO.contains(&name) {
        bool::parse(&words, None).map(drop)
    } else if let Some((low, high)) = row(NUMBERS) {
        i64::parse(&words, limits(low, high)).map(drop)
    } else if let Some((low, high)) = row(SIZES) {
        Bytes::parse(&words, limits(low, high)).map(drop)
    } else if let Some((_, known)) = WORDS.iter().find(|row| row.0 == name) {
        let word = String::parse(&words, None)?;
        one_of(&word, known)
    } else {
        other(name, &words)
    }
}

/// What stands in no table, as it is special.
fn other(name: &str, words: &[&str]) -> Result<(), String> {
    let single = || String::parse(words, None);
    match name {
        "cluster-announce-hostname" => host_name(&single()?),
        "list-max-ziplist-entries" | "list-max-ziplist-value" | "lua-replicate-commands" => {
            single().map(drop).map_err(|_| "Bad directive or wrong number of arguments".into())
        }
        _ => single().map(drop),
    }
}

fn one_of(word: &str, known: &'static [&'static str]) -> Result<(), String> {
    match known.iter().any(|known| known.eq_ignore_ascii_case(word)) {
        true => Ok(()),
        false => Err(Kind::OneOf(known).refusal()),
    }
}

fn host_name(name: &str) -> Result<(), String> {
    match name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.')) {
        true => Ok(()),
        false => Err("Hostnames may only contain alphanumeric characters, hyphens or dots".into()),
    }
}

#[cfg(test)]
mod tests {
    use mortise_sdk::words::split_words;

    use super::super::absent::ALL;
    use super::*;

    fn checked(line: &str) -> Result<(), String> {
        let words = split_words(line.as_bytes()).unwrap();
        check(&String::from_utf8(words[0].clone()).unwrap(), &words[1..])
    }

    #[test]
    fn every_name_is_in_the_table() {
        let numbers = NUMBERS.iter().chain(SIZES).map(|row| row.0);
        let words = WORDS.iter().map(|row| row.0);
        for name in YES_NO.iter().copied().chain(numbers).chain(words) {
            assert!(ALL.iter().any(|row| row.name == name), "{name}");
        }
    }

    #[test]
    fn what_redis_refuses_is_refused() {
        for (line, reason) in [
            ("dynamic-hz maybe", "argument must be 'yes' or 'no'"),
            ("dynamic-hz", "wrong number of arguments"),
            ("syslog-ident a b", "wrong number of arguments"),
            ("active-defrag-cycle-max 0", "argument must be between 1 and 99 inclusive"),
            ("active-defrag-cycle-max 1s", "argument couldn't be parsed into an integer"),
            ("active-defrag-ignore-bytes x", "argument must be a memory value"),
            (
                "cluster-preferred-endpoint-type maybe",
                "argument(s) must be one of the following: ip, hostname, unknown-endpoint",
            ),
            (
                "cluster-announce-hostname a/b",
                "Hostnames may only contain alphanumeric characters, hyphens or dots",
            ),
            ("lua-replicate-commands", "Bad directive or wrong number of arguments"),
        ] {
            assert_eq!(checked(line), Err(reason.to_owned()), "{line}");
        }
    }

    #[test]
    fn what_redis_takes_is_taken() {
        for line in ["dynamic-hz YES", "cluster-config-file nodes.conf"] {
            assert_eq!(checked(line), Ok(()), "{line}");
        }
    }
}
