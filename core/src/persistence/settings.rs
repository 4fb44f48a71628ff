//! Settings with a form of their own: the name of a file, how a signal shuts the server down.

use mortise_sdk::declare::config::{Kind, Limits, Setting, quote};

/// The name of a file in the working directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileName(pub String);

impl Setting for FileName {
    const KIND: Kind = Kind::Text;

    fn parse(words: &[&str], limits: Option<Limits>) -> Result<Self, String> {
        let name = String::parse(words, limits)?;
        match name.contains('/') {
            true => Err("dbfilename can't be a path, just a filename".into()),
            false => Ok(FileName(name)),
        }
    }

    fn show(&self) -> String {
        self.0.clone()
    }

    fn written(&self) -> Vec<String> {
        vec![quote(self.0.as_bytes())]
    }
}

/// How the server is shut down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Shutdown {
    /// Whether the data is saved; if nothing is said, it is where there are save points.
    pub saves: Option<bool>,
    /// Without waiting for replicas.
    pub now: bool,
    /// Also if the data cannot be saved.
    pub forced: bool,
}

impl Setting for Shutdown {
    const KIND: Kind = Kind::OneOf(&["default", "save", "nosave", "now", "force"]);
    const MULTIPLE: bool = true;

    fn parse(words: &[&str], _: Option<Limits>) -> Result<Self, String> {
        let words: Vec<&str> = words.iter().flat_map(|word| word.split_ascii_whitespace()).collect();
        if words.is_empty() {
            return Err(Self::KIND.refusal());
        }
        let mut shutdown = Shutdown::default();
        let (mut saves, mut saves_not) = (false, false);
        for word in words {
            match &*word.to_ascii_lowercase() {
                "default" => {}
                "save" => saves = true,
                "nosave" => saves_not = true,
                "now" => shutdown.now = true,
                "force" => shutdown.forced = true,
                _ => return Err(Self::KIND.refusal()),
            }
        }
        if saves && saves_not {
            return Err("shutdown options SAVE and NOSAVE can't be used simultaneously".into());
        }
        shutdown.saves = (saves || saves_not).then_some(saves);
        Ok(shutdown)
    }

    fn show(&self) -> String {
        let words = [
            (self.saves == Some(true), "save"),
            (self.saves == Some(false), "nosave"),
            (self.now, "now"),
            (self.forced, "force"),
        ];
        let said: Vec<_> = words.iter().filter(|(is, _)| *is).map(|(_, word)| *word).collect();
        if said.is_empty() { "default".into() } else { said.join(" ") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_to_shut_down() {
        let shown = |words: &[&str]| Shutdown::parse(words, None).map(|shutdown| shutdown.show());
        for (words, expected) in [
            (&["default"][..], "default"),
            (&["FORCE", "save"], "save force"),
            (&["nosave now"], "nosave now"),
            (&["now", "default"], "now"),
        ] {
            assert_eq!(shown(words), Ok(expected.to_owned()), "{words:?}");
        }
        for words in [&["save", "nosave"][..], &[], &["soon"], &[""]] {
            assert!(shown(words).is_err(), "{words:?}");
        }
    }

    #[test]
    fn a_name_is_no_path() {
        assert!(FileName::parse(&["a/b"], None).is_err());
        assert_eq!(FileName::parse(&["dump.rdb"], None), Ok(FileName("dump.rdb".into())));
    }
}
