//! One selector: commands, and the keys and channels that they may be used with.

use mortise_sdk::declare::Facts;
use mortise_sdk::declare::flags::NO_AUTH;
use mortise_sdk::declare::keys::{self, Access, Begin, Find, KeyPosition};

use crate::commands::Commands;
use crate::patterns::{Patterns, Uses};
use crate::rule::{Permission, Wrong, has_spaces};
use crate::table::Table;
use crate::users::Setting;

/// What a selector allows.
#[derive(Clone, Debug)]
pub struct Selector {
    pub(crate) commands: Commands,
    all_keys: bool,
    keys: Patterns,
    all_channels: bool,
    channels: Patterns,
    /// Nothing is refused, whatever is asked.
    allows_all: bool,
}

/// A call, as rules see it.
#[derive(Clone, Copy)]
pub struct Asked<'a, F> {
    /// The command's place in the registry.
    pub index: usize,
    /// What is known of it.
    pub facts: &'a Facts,
    /// How many words the call has, the command's name among them.
    pub argc: usize,
    /// The word at an index below that.
    pub arg: F,
}

/// What is refused. The later ones weigh more, where several selectors refuse different things.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    /// The command.
    Command,
    /// The key at this argument.
    Key(usize),
    /// The channel at this argument.
    Channel(usize),
}

impl Selector {
    /// Allows nothing, but perhaps all channels.
    pub(crate) fn new(setting: &Setting) -> Selector {
        Selector {
            commands: Commands::none(&setting.table),
            all_keys: false,
            keys: Patterns::default(),
            all_channels: setting.all_channels,
            channels: Patterns::default(),
            allows_all: false,
        }
    }

    pub(crate) fn apply(&mut self, rule: Permission<'_>, table: &Table) -> Result<(), Wrong> {
        match rule {
            Permission::AllKeys(all) => {
                self.all_keys = all;
                self.keys.clear();
            }
            Permission::AllChannels(all) => {
                self.all_channels = all;
                self.channels.clear();
            }
            Permission::Keys(_) if self.all_keys => return Err(Wrong::AfterAllKeys),
            Permission::Keys(text) => {
                let (uses, pattern) = key_pattern(text).ok_or(Wrong::Syntax)?;
                self.keys.add(pattern, uses);
            }
            Permission::Channels(_) if self.all_channels => return Err(Wrong::AfterAllChannels),
            Permission::Channels(pattern) if has_spaces(pattern) => return Err(Wrong::Syntax),
            Permission::Channels(pattern) => self.channels.add(pattern, Uses::ALL),
            Permission::AllCommands(allow) => self.commands.set_all(allow, table),
            Permission::Category(allow, name) => self.commands.set_category(allow, name, table)?,
            Permission::Command(allow, name) => self.commands.set_command(allow, name, table)?,
            Permission::Unknown => return Err(Wrong::Syntax),
        }
        Ok(())
    }

    /// To be called when rules were applied, before anything is asked.
    pub(crate) fn compile(&mut self, table: &Table) {
        self.allows_all = self.all_keys && self.all_channels && self.commands.is_all(table);
    }

    /// Works out what the rules mean for other commands than before.
    pub(crate) fn resolve(&mut self, table: &Table) {
        self.commands.resolve(table);
        self.compile(table);
    }

    /// Whether nothing is refused.
    pub(crate) fn allows_all(&self) -> bool {
        self.allows_all
    }

    #[inline]
    pub(crate) fn check<'a, F: Fn(usize) -> &'a [u8]>(&self, asked: &Asked<'_, F>) -> Result<(), Refusal> {
        let Asked { index, facts, argc, arg } = asked;
        let first_arg = || (*argc > 1).then(|| arg(1));
        if !self.commands.allows(*index, None)
            && !facts.flags.has(NO_AUTH)
            && !self.commands.allows(*index, first_arg())
        {
            return Err(Refusal::Command);
        }
        if !self.all_keys && facts.has_keys() {
            self.check_keys(asked)?;
        }
        if !self.all_channels
            && let Some(channels) = facts.channels
        {
            for index in channels.indices(*argc) {
                if !self.allows_channel(arg(index), channels.patterns) {
                    return Err(Refusal::Channel(index));
                }
            }
        }
        Ok(())
    }

    #[inline]
    fn check_keys<'a, F: Fn(usize) -> &'a [u8]>(&self, asked: &Asked<'_, F>) -> Result<(), Refusal> {
        let Asked { facts, argc, arg, .. } = asked;
        if let [key] = &facts.keys[..]
            && let KeyPosition { begin: Begin::Index(index), find: Find::Range { last: 0, .. } } =
                key.position
            && let Ok(index) = usize::try_from(index)
            && key.refine.is_none()
            && key.locate.is_none()
            && !key.access.has(keys::INCOMPLETE)
        {
            // One key at a fixed place: by far the most calls.
            let allowed = index >= *argc || self.allows_key(arg(index), key.access);
            return if allowed { Ok(()) } else { Err(Refusal::Key(index)) };
        }
        let mut refused = None;
        let found = facts.each_key(*argc, arg, false, &mut |key| {
            if refused.is_none() && !self.allows_key(arg(key.index), key.access) {
                refused = Some(key.index);
            }
        });
        if found.is_err() {
            // A call whose keys cannot be told is the command's to refuse; a command that does not tell all its keys
            // is for those who may use any.
            let incomplete = facts.keys.iter().any(|key| key.access.has(keys::INCOMPLETE));
            refused = if incomplete { refused.or(facts.first_key).or(Some(0)) } else { None };
        }
        refused.map_or(Ok(()), |index| Err(Refusal::Key(index)))
    }

    /// Whether a key may be used so.
    #[inline]
    pub(crate) fn allows_key(&self, key: &[u8], access: Access) -> bool {
        self.all_keys || self.keys.allow(key, uses(access))
    }

    /// Whether every key there could be may be used so.
    pub(crate) fn allows_every_key(&self, access: Access) -> bool {
        self.all_keys || self.keys.allow_all(uses(access))
    }

    /// Whether a channel may be used. A pattern may if there is a rule of the same text.
    pub(crate) fn allows_channel(&self, channel: &[u8], is_pattern: bool) -> bool {
        self.all_channels
            || if is_pattern {
                self.channels.contains(channel)
            } else {
                self.channels.allow(channel, Uses::NONE)
            }
    }

    /// Whether all channels may be used.
    pub(crate) fn allows_every_channel(&self) -> bool {
        self.all_channels
    }

    /// The patterns of channels that may be used.
    pub(crate) fn channels(&self) -> impl Iterator<Item = &[u8]> {
        self.channels.iter().map(|(pattern, _)| pattern)
    }

    /// The rules for commands that come to this.
    pub fn describe_commands(&self, table: &Table) -> Vec<u8> {
        self.commands.describe(table)
    }

    /// The rules for keys that come to this.
    pub fn describe_keys(&self) -> Vec<u8> {
        if self.all_keys {
            return b"~*".to_vec();
        }
        let alone = self.keys.iter().count() == 1;
        let rules = self.keys.iter().map(|(pattern, uses)| {
            let sign: &[u8] = match uses {
                Uses::READ => b"%R~",
                Uses::WRITE => b"%W~",
                // After `~*` no other pattern would be accepted when this is read back.
                _ if pattern == b"*" && !alone => b"%RW~",
                _ => b"~",
            };
            [sign, pattern].concat()
        });
        rules.collect::<Vec<_>>().join(&b' ')
    }

    /// The rules for channels that come to this.
    pub fn describe_channels(&self) -> Vec<u8> {
        if self.all_channels {
            return b"&*".to_vec();
        }
        self.channels().map(|pattern| [b"&", pattern].concat()).collect::<Vec<_>>().join(&b' ')
    }

    /// All rules that come to this, as a file has them.
    pub(crate) fn describe(&self, table: &Table) -> Vec<u8> {
        let channels = self.describe_channels();
        let reset: &[u8] = if self.all_channels { b"" } else { b"resetchannels" };
        let parts = [self.describe_keys(), reset.to_vec(), channels, self.describe_commands(table)];
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(&b' ')
    }
}

/// What `~pattern`, `%R~pattern`, `%W~pattern` or `%RW~pattern` says.
fn key_pattern(text: &[u8]) -> Option<(Uses, &[u8])> {
    let (mut uses, mut rest) = (Uses::NONE, &text[1..]);
    if text[0] == b'~' {
        uses = Uses::ALL;
    } else {
        while let [letter, behind @ ..] = rest {
            rest = behind;
            match letter.to_ascii_uppercase() {
                b'R' if !uses.has(Uses::READ) => uses = uses.and(Uses::READ),
                b'W' if !uses.has(Uses::WRITE) => uses = uses.and(Uses::WRITE),
                b'~' => break,
                _ => return None,
            }
        }
    }
    // A pattern for no use at all could not be printed.
    (uses != Uses::NONE && !has_spaces(rest)).then_some((uses, rest))
}

/// What somebody has to be allowed who does this to a key. Asking whether it exists needs some permission, whichever.
#[inline]
fn uses(access: Access) -> Uses {
    let reads = access.has(keys::ACCESS);
    let writes = access.has(keys::INSERT) || access.has(keys::DELETE) || access.has(keys::UPDATE);
    match (reads, writes) {
        (false, false) => Uses::NONE,
        (true, false) => Uses::READ,
        (false, true) => Uses::WRITE,
        (true, true) => Uses::ALL,
    }
}
