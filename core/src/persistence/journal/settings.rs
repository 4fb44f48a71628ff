//! Settings with a form of their own: how files are called.

use mortise_sdk::declare::config::{Kind, Limits, Setting, quote};

/// What the names of the journal's files begin with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalName(pub String);

/// The name of a directory in the working directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalDir(pub String);

impl Setting for JournalName {
    const KIND: Kind = Kind::Text;

    fn parse(words: &[&str], limits: Option<Limits>) -> Result<Self, String> {
        let refusal = "appendfilename can't be a path, just a filename";
        plain_name(words, limits, refusal).map(JournalName)
    }

    fn show(&self) -> String {
        self.0.clone()
    }

    fn written(&self) -> Vec<String> {
        vec![quote(self.0.as_bytes())]
    }
}

impl Setting for JournalDir {
    const KIND: Kind = Kind::Text;

    fn parse(words: &[&str], limits: Option<Limits>) -> Result<Self, String> {
        let refusal = "appenddirname can't be a path, just a dirname";
        plain_name(words, limits, refusal).map(JournalDir)
    }

    fn show(&self) -> String {
        self.0.clone()
    }

    fn written(&self) -> Vec<String> {
        vec![quote(self.0.as_bytes())]
    }
}

fn plain_name(words: &[&str], limits: Option<Limits>, refusal: &str) -> Result<String, String> {
    let name = String::parse(words, limits)?;
    if name.contains(['/', '\\']) { Err(refusal.into()) } else { Ok(name) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_no_path() {
        assert_eq!(JournalName::parse(&["j.aof"], None), Ok(JournalName("j.aof".into())));
        assert_eq!(JournalDir::parse(&["j"], None), Ok(JournalDir("j".into())));
        for path in ["a/b", "/", "a\\b"] {
            assert!(JournalName::parse(&[path], None).is_err(), "{path}");
            assert!(JournalDir::parse(&[path], None).is_err(), "{path}");
        }
    }
}
