//! Settings with a form of their own.

use mortise_sdk::declare::config::{Kind, Limits, Setting};

/// `replicaof`: host and port of a primary, or none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrimaryAddress(pub Option<(String, u16)>);

impl Setting for PrimaryAddress {
    const KIND: Kind = Kind::Words("Host and port; \"no one\" means none.");
    const MULTIPLE: bool = true;

    fn parse(words: &[&str], _: Option<Limits>) -> Result<Self, String> {
        match words {
            [] | [""] => Ok(PrimaryAddress(None)),
            [no, one] if no.eq_ignore_ascii_case("no") && one.eq_ignore_ascii_case("one") => {
                Ok(PrimaryAddress(None))
            }
            [host, port] => match port.parse::<u16>() {
                Ok(port) if !host.is_empty() => Ok(PrimaryAddress(Some(((*host).to_owned(), port)))),
                _ => Err("Invalid master port".to_owned()),
            },
            _ => Err("wrong number of arguments".to_owned()),
        }
    }

    fn show(&self) -> String {
        self.0.as_ref().map_or_else(String::new, |(host, port)| format!("{host} {port}"))
    }

    fn written(&self) -> Vec<String> {
        self.0.iter().map(|(host, port)| format!("{host} {port}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (words, shown) in [
            (&["10.0.0.1", "6379"][..], Ok("10.0.0.1 6379")),
            (&["NO", "one"], Ok("")),
            (&[""], Ok("")),
            (&["host"], Err("wrong number of arguments")),
            (&["host", "65536"], Err("Invalid master port")),
            (&["host", "x"], Err("Invalid master port")),
        ] {
            let parsed = PrimaryAddress::parse(words, None).map(|address| address.show());
            assert_eq!(parsed, shown.map(str::to_owned).map_err(str::to_owned), "{words:?}");
        }
    }
}
