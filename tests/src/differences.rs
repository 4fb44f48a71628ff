//! Where Mortise answers otherwise than Redis 7.0.15, on purpose: the table `tests/differences.md`.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use crate::notation::Expected;

/// The rows of the table, by their names.
#[derive(Debug, Default)]
pub struct Differences {
    rows: HashMap<String, Row>,
}

/// One row: what Redis 7.0.15 answers instead.
#[derive(Clone, Debug)]
pub struct Row {
    /// `None` if the table tells it in prose, which no machine compares.
    pub redis: Option<Expected>,
}

impl Differences {
    /// Reads the table beside the scripts.
    pub fn load(path: &Path) -> Result<Differences, String> {
        let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        Differences::parse(&text)
    }

    fn parse(text: &str) -> Result<Differences, String> {
        let mut rows = HashMap::new();
        // The first two rows of a table are its head and the line under it.
        for line in text.lines().filter(|line| line.starts_with('|')).skip(2) {
            let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
            let [name, _what, redis, _mortise, _source] = cells[..] else {
                return Err(format!("a row needs five cells: {line}"));
            };
            let redis = match redis.strip_prefix('`').and_then(|code| code.strip_suffix('`')) {
                Some(code) => Some(Expected::parse(code).map_err(|error| format!("row {name}: {error:?}"))?),
                None => None,
            };
            if rows.insert(name.to_string(), Row { redis }).is_some() {
                return Err(format!("two rows are named {name}"));
            }
        }
        Ok(Differences { rows })
    }

    /// The names of all rows.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.rows.keys().map(String::as_str)
    }

    /// The row of that name.
    pub fn get(&self, name: &str) -> Option<&Row> {
        self.rows.get(name)
    }
}

#[cfg(test)]
mod tests {
    use super::Differences;
    use crate::notation::Expected;

    const TABLE: &str = "| ID | what | Redis 7.0.15 | Mortise | source |\n|---|---|---|---|---|\n";

    #[test]
    fn rows_are_read() {
        let table =
            format!("# Title\n\n{TABLE}| one | x | `-ERR no` | y | z |\n| two | x | prose | y | z |\n");
        let differences = Differences::parse(&table).unwrap();
        assert_eq!(differences.get("one").unwrap().redis, Some(Expected::parse("-ERR no").unwrap()));
        assert_eq!(differences.get("two").unwrap().redis, None);
        assert!(differences.get("three").is_none());
    }

    #[test]
    fn broken_rows_are_refused() {
        for rows in ["| one | x |", "| a | x | p | y | z |\n| a | x | p | y | z |", "| a | x | `[` | y | z |"]
        {
            assert!(Differences::parse(&format!("{TABLE}{rows}\n")).is_err(), "{rows}");
        }
    }
}
