//! The default redis.conf, generated from the declarations.

use std::fmt::Write;

use mortise_sdk::declare::config::{Access, Directive, Kind};

const HEAD: &str = "\
# The default configuration of Mortise, generated from its directives.
#
# A line is a directive and its value; words with spaces stand in \"quotes\". Sizes have units: 1k is 1000
# bytes and 1kb is 1024, and so on with m, mb, g, gb, in any case. Every value below is the default.
";

/// The text of redis.conf: each feature's name with its directives, hidden ones left out.
pub fn redis_conf<C>(features: &[(&str, &[Directive<C>])]) -> String {
    let mut text = String::from(HEAD);
    for (feature, directives) in features {
        let shown: Vec<_> =
            directives.iter().filter(|directive| directive.access != Access::Hidden).collect();
        if shown.is_empty() {
            continue;
        }
        let title = feature.to_uppercase();
        write!(text, "\n{:#>1$}\n", format!(" {title}"), 100).expect("writing to a string cannot fail");
        shown.iter().for_each(|directive| describe(directive, &mut text));
    }
    text
}

fn describe<C>(directive: &Directive<C>, text: &mut String) {
    text.push('\n');
    let about = directive.about.lines().map(str::trim).map(str::to_owned);
    for line in about.chain(accepted(directive)) {
        text.push_str(if line.is_empty() { "#" } else { "# " });
        text.push_str(&line);
        text.push('\n');
    }
    let name = directive.name;
    match (directive.default)().as_slice() {
        [] => text.extend(["# ", name, " …\n"]),
        lines => lines.iter().for_each(|line| text.extend([name, " ", line, "\n"])),
    }
}

/// What the directive accepts, and when, in sentences.
fn accepted<C>(directive: &Directive<C>) -> Option<String> {
    let mut sentences = Vec::new();
    match (directive.kind, directive.limits) {
        (Kind::OneOf(words), _) => sentences.push(format!("One of: {}.", words.join(", "))),
        (Kind::Words(form), _) => sentences.push(form.to_owned()),
        (Kind::Octal, Some(limits)) => sentences.push(format!("From {:o} to {:o}.", limits.low, limits.high)),
        // A bound that is the type's own says nothing.
        (_, Some(limits)) if limits.high >= i128::from(i32::MAX) => {
            sentences.push(format!("At least {}.", limits.low))
        }
        (_, Some(limits)) => sentences.push(format!("From {} to {}.", limits.low, limits.high)),
        _ => {}
    }
    if directive.access == Access::Fixed {
        sentences.push("Fixed at start.".into());
    }
    if !directive.aliases.is_empty() {
        sentences.push(format!("Also called {}.", directive.aliases.join(", ")));
    }
    (!sentences.is_empty()).then(|| sentences.join(" "))
}

#[cfg(test)]
mod tests {
    use super::super::file::{Source, parse};
    use super::super::tests::{Config, NetConfig, ValueConfig, directives};
    use super::*;
    use crate::features::FEATURES;

    fn generated() -> String {
        redis_conf::<Config>(&[("network", NetConfig::directives()), ("values", ValueConfig::directives())])
    }

    /// Writes the file anew instead if the environment says UPDATE.
    #[test]
    fn the_file_of_the_package_is_up_to_date() {
        let tables: Vec<_> = FEATURES.iter().map(|feature| (feature.name, feature.config)).collect();
        let text = redis_conf(&tables);
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/redis.conf");
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(path, &text).unwrap();
        }
        let file = std::fs::read_to_string(path).unwrap_or_default();
        assert!(file == text, "core/redis.conf is not what the directives say: run this test with UPDATE=1");

        let (mut lines, mut config) = (Vec::new(), crate::config::Config::default());
        parse(text.as_bytes(), Source::Stdin, &mut lines).unwrap();
        let table = crate::server::directives().unwrap();
        table.load(&mut config, &lines).unwrap();
        let all = |config| table.get_matching(config, &[b"*"]);
        assert_eq!(all(&config), all(&crate::config::Config::default()));
    }

    #[test]
    fn a_directive_is_shown_with_its_documentation() {
        let text = generated();
        for part in [
            "############ NETWORK\n\n# TCP port.\nport 6379\n",
            "\n# Number of databases.\n# At least 1. Fixed at start.\ndatabases 16\n",
            "\n# Password.\n# requirepass …\n",
            "\n# Entries of a small hash.\n# Also called hash-max-ziplist-entries.\n\
             hash-max-listpack-entries 512\n",
            "client-output-buffer-limit pubsub 32mb 8mb 60\n",
        ] {
            assert!(text.contains(part), "{part}\nnot in\n{text}");
        }
        assert!(!text.contains("hash-seed"));
    }

    #[test]
    fn the_generated_file_is_the_default_configuration() {
        let (mut lines, mut config) = (Vec::new(), Config::default());
        parse(generated().as_bytes(), Source::Stdin, &mut lines).unwrap();
        let table = directives();
        table.load(&mut config, &lines).unwrap();
        let all = |config: &Config| table.get_matching(config, &[b"*"]);
        assert_eq!(all(&config), all(&Config::default()));
    }
}
