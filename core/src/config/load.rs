//! Applying lines of configuration when the server starts.

use std::collections::{BTreeMap, HashSet};

use super::absent::{self, Absent};
use super::file::{Fatal, Line, split_words};
use super::{Directives, Row, grammar};
use mortise_sdk::declare::config::Kind;

/// What lines of configuration say beside values of directives, in their order, for those who can obey.
#[derive(Debug, Default)]
pub struct Loaded {
    /// What an operator should know.
    pub warnings: Vec<String>,
    /// `loadmodule path [argument …]`.
    pub modules: Vec<Line>,
    /// `user name [rule …]`.
    pub users: Vec<Line>,
    /// `rename-command from to`, where `to` may be empty.
    pub renames: Vec<Line>,
    /// `module.directive value …`, of modules that are yet to be loaded.
    pub module_settings: Vec<Line>,
}

impl<C: Clone> Directives<C> {
    /// Sets each directive that `lines` name: the last line counts, but for directives whose lines add up.
    pub fn load(&self, config: &mut C, lines: &[Line]) -> Result<Loaded, Fatal> {
        let mut loaded = Loaded::default();
        let mut seen = HashSet::new();
        let mut absent: BTreeMap<&str, (&Absent, &Line)> = BTreeMap::new();
        for line in lines {
            let words = line.words.len();
            match line.name.as_str() {
                name if let Some(i) = self.position(name) => {
                    let first = seen.insert(i);
                    self.load_line(config, &self.rows[i], line, first)
                        .map_err(|reason| Fatal::at(line, reason))?;
                }
                name if let Some(row) = absent::find(name) => {
                    grammar::check(row.name, &line.words).map_err(|reason| Fatal::at(line, reason))?;
                    absent.insert(row.name, (row, line));
                }
                "loadmodule" if words >= 1 => loaded.modules.push(line.clone()),
                "user" if words >= 1 => loaded.users.push(line.clone()),
                "rename-command" if words == 2 => loaded.renames.push(line.clone()),
                "sentinel" => return Err(Fatal::at(line, "sentinel directive while not in sentinel mode")),
                name if name.contains('.') && words == 0 => {
                    return Err(Fatal::at(line, "Module config specified without value"));
                }
                name if name.contains('.') => loaded.module_settings.push(line.clone()),
                _ => return Err(Fatal::at(line, "Bad directive or wrong number of arguments")),
            }
        }
        if let Some((_, line)) = absent.values().find(|(row, line)| row.stops(&line.words)) {
            return Err(Fatal::at(line, absent::WOULD_BE_UNSAFE));
        }
        if !absent.is_empty() {
            let names: Vec<_> = absent.into_keys().collect();
            let warning = format!("Ignored directives that Mortise does not have yet: {}", names.join(", "));
            loaded.warnings.push(warning);
        }
        Ok(loaded)
    }

    fn load_line(&self, config: &mut C, row: &Row<C>, line: &Line, first: bool) -> Result<(), String> {
        let text = |word: &Vec<u8>| {
            String::from_utf8(word.clone()).map_err(|_| "argument must be valid UTF-8".to_owned())
        };
        let mut words = line.words.iter().map(text).collect::<Result<Vec<_>, _>>()?;
        let directive = match row {
            Row::Own(directive) => directive,
            Row::External(external) => {
                return external.set_words(&words.iter().map(String::as_str).collect::<Vec<_>>());
            }
        };
        // Several words may come as one, in quotes: --bind "127.0.0.1 ::1".
        if directive.multiple && words.len() == 1 && !words[0].is_empty() {
            let parts = split_words(words[0].as_bytes()).ok_or("Unbalanced quotes in configuration line")?;
            words = parts.iter().map(text).collect::<Result<_, _>>()?;
        }
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        if !directive.multiple && words.len() != 1 {
            return Err(Kind::Text.refusal());
        }
        if first { (directive.set)(config, &words) } else { (directive.add)(config, &words) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::file::{Source, parse};
    use super::super::tests::{Config, directives};
    use super::*;
    use mortise_sdk::declare::config::Setting;

    fn load(text: &str) -> Result<(Config, Loaded), Fatal> {
        let mut lines = Vec::new();
        parse(text.as_bytes(), Source::Stdin, &mut lines)?;
        let mut config = Config::default();
        let loaded = directives().load(&mut config, &lines)?;
        Ok((config, loaded))
    }

    #[test]
    fn the_last_line_counts_and_some_lines_add_up() {
        let (config, loaded) = load(
            "port 1\nPort 2\nbind 127.0.0.1\nbind \"::1 127.0.0.2\"\nhash-max-ziplist-value 1kb\n\
             save 1 2\nsave 3 4\n\
             client-output-buffer-limit normal 1mb 0 0\nclient-output-buffer-limit pubsub 2mb 0 0\n",
        )
        .unwrap();
        assert_eq!((config.net.port, config.net.bind.show().as_str()), (2, "::1 127.0.0.2"));
        assert_eq!(
            (config.value.hash_max_listpack_value.0, config.value.save.show().as_str()),
            (1024, "1 2 3 4")
        );
        assert_eq!(config.value.client_output_buffer_limit.normal.hard, 1 << 20);
        assert_eq!(config.value.client_output_buffer_limit.pubsub.hard, 2 << 20);
        assert!(loaded.warnings.is_empty());
    }

    #[test]
    fn a_bad_line_stops_the_start() {
        for (line, reason) in [
            ("port", "wrong number of arguments"),
            ("port 1 2", "wrong number of arguments"),
            ("port abc", "argument couldn't be parsed into an integer"),
            ("databases 0", "argument must be between 1 and 2147483647 inclusive"),
            (
                "cluster-preferred-endpoint-type maybe",
                "argument(s) must be one of the following: ip, hostname, unknown-endpoint",
            ),
            ("bad line", "Bad directive or wrong number of arguments"),
            ("loadmodule", "Bad directive or wrong number of arguments"),
            ("rename-command a", "Bad directive or wrong number of arguments"),
            ("include", "Bad directive or wrong number of arguments"),
            ("module.x", "Module config specified without value"),
            ("sentinel monitor x", "sentinel directive while not in sentinel mode"),
            ("requirepass \"\\xff\"", "argument must be valid UTF-8"),
        ] {
            let fatal = load(&format!("# first\n{line}\n")).map(|_| ()).unwrap_err();
            assert_eq!(fatal.reason, reason, "{line}");
            assert!(
                fatal.to_string().contains(&format!("at line 2 of standard input\n>>> '{line}'\n")),
                "{fatal}"
            );
        }
    }

    #[test]
    fn what_others_must_obey_is_handed_on() {
        let (_, loaded) =
            load("loadmodule /x.so a \"b c\"\nrename-command FLUSHALL \"\"\nhello.greeting Good day\n")
                .unwrap();
        assert_eq!(loaded.modules[0].words, [b"/x.so".to_vec(), b"a".to_vec(), b"b c".to_vec()]);
        assert_eq!(loaded.renames[0].words, [b"FLUSHALL".to_vec(), b"".to_vec()]);
        assert_eq!(loaded.module_settings[0].name, "hello.greeting");
    }

    #[test]
    fn absent_directives_are_named_in_one_warning() {
        let (_, loaded) =
            load("dynamic-hz no\ncluster-slave-no-failover no\ncluster-replica-no-failover no\nwatchdog-period 0\n").unwrap();
        assert_eq!(
            loaded.warnings,
            [
                "Ignored directives that Mortise does not have yet: cluster-replica-no-failover, dynamic-hz, watchdog-period"
            ]
        );
    }

    #[test]
    fn an_absent_promise_stops_the_start_unless_it_is_taken_back() {
        let fatal = load("port 1\ncluster-enabled yes\n").map(|_| ()).unwrap_err();
        assert!(
            fatal.to_string().contains("at line 2 of standard input\n>>> 'cluster-enabled yes'\n"),
            "{fatal}"
        );
        assert!(load("cluster-enabled yes\ncluster-enabled no\n").is_ok());
    }

    #[test]
    fn no_text_makes_it_panic() {
        const PIECES: [&str; 20] = [
            "port",
            "bind",
            "save",
            "client-output-buffer-limit",
            "hash-max-ziplist-value",
            "maxmemory",
            "user",
            "a.b",
            " ",
            " ",
            "\n",
            "\"",
            "'",
            "\\",
            "\\x4",
            "#",
            "0",
            "1kb",
            "normal",
            "\u{e9}",
        ];
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        for _ in 0..5000 {
            let mut text = String::new();
            for _ in 0..12 {
                seed ^= seed << 13;
                seed ^= seed >> 7;
                seed ^= seed << 17;
                text.push_str(PIECES[(seed % 20) as usize]);
            }
            let _ = load(&text);
        }
    }
}
