//! One rule: its text, what it means, what can be wrong with it.

use std::fmt;

use mortise_sdk::words::split_words;

/// A rule, as it is written. What it names (commands, categories, digests) is looked at when it is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule<'a> {
    /// The empty text.
    Nothing,
    /// `on`, `off`
    On(bool),
    /// `skip-sanitize-payload` is false.
    SanitizePayload(bool),
    NoPass,
    ResetPass,
    /// `>password`
    AddPassword(&'a [u8]),
    /// `<password`
    RemovePassword(&'a [u8]),
    /// `#digest`
    AddDigest(&'a [u8]),
    /// `!digest`
    RemoveDigest(&'a [u8]),
    /// What stands between the parentheses.
    Selector(&'a [u8]),
    ClearSelectors,
    Reset,
    /// For a selector: the user's own, or one in parentheses.
    Permission(Permission<'a>),
}

/// A rule of what is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Permission<'a> {
    /// `allkeys`, `resetkeys`
    AllKeys(bool),
    /// `~…` or `%…`: the rule as a whole.
    Keys(&'a [u8]),
    /// `allchannels`, `resetchannels`
    AllChannels(bool),
    /// The pattern behind `&`.
    Channels(&'a [u8]),
    /// `allcommands`, `nocommands`
    AllCommands(bool),
    /// `+@…`, `-@…`
    Category(bool, &'a [u8]),
    /// `+…`, `-…`
    Command(bool, &'a [u8]),
    /// No rule.
    Unknown,
}

impl<'a> Rule<'a> {
    /// What a text means for a user.
    pub(crate) fn parse(text: &'a [u8]) -> Rule<'a> {
        let is = |word: &str| until_nul(text).eq_ignore_ascii_case(word.as_bytes());
        match text {
            [] => Rule::Nothing,
            _ if is("on") => Rule::On(true),
            _ if is("off") => Rule::On(false),
            _ if is("sanitize-payload") => Rule::SanitizePayload(true),
            _ if is("skip-sanitize-payload") => Rule::SanitizePayload(false),
            _ if is("nopass") => Rule::NoPass,
            _ if is("resetpass") => Rule::ResetPass,
            [b'>', password @ ..] => Rule::AddPassword(password),
            [b'<', password @ ..] => Rule::RemovePassword(password),
            [b'#', digest @ ..] => Rule::AddDigest(digest),
            [b'!', digest @ ..] => Rule::RemoveDigest(digest),
            [b'(', inner @ .., b')'] => Rule::Selector(inner),
            _ if is("clearselectors") => Rule::ClearSelectors,
            _ if is("reset") => Rule::Reset,
            _ => Rule::Permission(Permission::parse(text)),
        }
    }
}

impl<'a> Permission<'a> {
    /// What a text means for a selector.
    pub(crate) fn parse(text: &'a [u8]) -> Permission<'a> {
        let word = until_nul(text);
        let is = |known: &str| word.eq_ignore_ascii_case(known.as_bytes());
        match text {
            _ if is("allkeys") || is("~*") => Permission::AllKeys(true),
            _ if is("resetkeys") => Permission::AllKeys(false),
            _ if is("allchannels") || is("&*") => Permission::AllChannels(true),
            _ if is("resetchannels") => Permission::AllChannels(false),
            _ if is("allcommands") || is("+@all") => Permission::AllCommands(true),
            _ if is("nocommands") || is("-@all") => Permission::AllCommands(false),
            [b'~' | b'%', ..] => Permission::Keys(text),
            [b'&', pattern @ ..] => Permission::Channels(pattern),
            [sign @ (b'+' | b'-'), b'@', ..] => Permission::Category(*sign == b'+', &word[2..]),
            [sign @ (b'+' | b'-'), ..] => Permission::Command(*sign == b'+', &word[1..]),
            _ => Permission::Unknown,
        }
    }
}

/// Words end at a NUL byte; only passwords may hold one.
fn until_nul(text: &[u8]) -> &[u8] {
    text.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// Whether a name or pattern could not be printed as a word: it has spaces or NUL bytes.
pub fn has_spaces(text: &[u8]) -> bool {
    text.iter().any(|byte| matches!(byte, b' ' | b'\t'..=b'\r' | 0))
}

/// The rules inside the parentheses of a selector. `None` if a quote is not closed.
pub(crate) fn inner_rules(inner: &[u8]) -> Option<Vec<Vec<u8>>> {
    split_words(until_nul(inner))
}

/// Joins selectors that are spread over several arguments, `(~a` and `+get)`, to one rule each. A parenthesis that is
/// not closed is the error: the argument it stands in.
pub(crate) fn join_selectors<'a>(rules: impl Iterator<Item = &'a [u8]>) -> Result<Vec<Vec<u8>>, &'a [u8]> {
    let mut joined: Vec<Vec<u8>> = Vec::new();
    let mut open: Option<&[u8]> = None;
    for rule in rules {
        let closes = rule.ends_with(b")");
        match joined.last_mut() {
            Some(selector) if open.is_some() => {
                selector.push(b' ');
                selector.extend_from_slice(until_nul(rule));
                open = open.filter(|_| !closes);
            }
            _ => {
                open = (rule.starts_with(b"(") && !closes).then_some(rule);
                joined.push(rule.to_vec());
            }
        }
    }
    open.map_or(Ok(joined), Err)
}

/// What is wrong with a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// No such command or category.
    UnknownCommand,
    /// It is no rule, or a pattern has spaces.
    Syntax,
    /// All keys are allowed already.
    AfterAllKeys,
    /// All channels are allowed already.
    AfterAllChannels,
    /// There is no such password to remove.
    NoSuchPassword,
    /// It is not a digest.
    BadDigest,
    /// A subcommand cannot be allowed for one first argument only.
    SubcommandArgument,
}

impl Wrong {
    /// What a client or operator is told.
    pub fn text(self) -> &'static str {
        match self {
            Wrong::UnknownCommand => "Unknown command or category name in ACL",
            Wrong::Syntax => "Syntax error",
            Wrong::AfterAllKeys => {
                "Adding a pattern after the * pattern (or the 'allkeys' flag) is not valid and does not have any effect. \
                 Try 'resetkeys' to start with an empty list of patterns"
            }
            Wrong::AfterAllChannels => {
                "Adding a pattern after the * pattern (or the 'allchannels' flag) is not valid and does not have any \
                 effect. Try 'resetchannels' to start with an empty list of channels"
            }
            Wrong::NoSuchPassword => "The password you are trying to remove from the user does not exist",
            Wrong::BadDigest => {
                "The password hash must be exactly 64 characters and contain only lowercase hexadecimal characters"
            }
            Wrong::SubcommandArgument => "Allowing first-arg of a subcommand is not supported",
        }
    }
}

/// Why rules were not applied; none of them was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// A parenthesis is not closed that this argument opens.
    Unclosed(Vec<u8>),
    /// This rule, and what is wrong with it.
    Rule(Vec<u8>, Wrong),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |text: &[u8]| String::from_utf8_lossy(until_nul(text)).into_owned();
        match self {
            Refused::Unclosed(rule) => {
                write!(f, "Unmatched parenthesis in acl selector starting at '{}'.", shown(rule))
            }
            Refused::Rule(rule, wrong) => {
                write!(f, "Error in ACL SETUSER modifier '{}': {}", shown(rule), wrong.text())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_are_joined() {
        let join = |rules: &[&str]| {
            join_selectors(rules.iter().map(|rule| rule.as_bytes()))
                .map(|joined| {
                    joined.iter().map(|rule| String::from_utf8(rule.clone()).unwrap()).collect::<Vec<_>>()
                })
                .map_err(|open| String::from_utf8(open.to_vec()).unwrap())
        };
        for (rules, joined) in [
            (&["on", "(~a", "+get", ")", "off"][..], Ok(vec!["on", "(~a +get )", "off"])),
            (&["(", "~a)", "(~b)"], Ok(vec!["( ~a)", "(~b)"])),
            (&["(~a", "", "(~b)"], Ok(vec!["(~a  (~b)"])),
            (&[")"], Ok(vec![")"])),
            (&["on", "(~a", "(~b"], Err("(~a")),
            (&["("], Err("(")),
            (&[], Ok(vec![])),
        ] {
            let joined = joined.map(|rules| rules.into_iter().map(str::to_owned).collect());
            assert_eq!(join(rules), joined.map_err(str::to_owned), "{rules:?}");
        }
    }
}
