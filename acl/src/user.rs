//! A user: who may log in as it, and what it may do then. A user never changes; a changed one takes its place.

use std::sync::OnceLock;

use mortise_sdk::declare::config::quote;
use mortise_sdk::declare::keys::Access;

use crate::password::{Digest, Scheme, sha256};
use crate::rule::{Permission, Refused, Rule, Wrong, inner_rules, join_selectors};
use crate::selector::{Asked, Refusal, Selector};
use crate::table::Table;
use crate::users::Setting;

/// A user, compiled: asking it costs no look-up of names.
#[derive(Clone, Debug)]
pub struct User {
    name: Box<[u8]>,
    rights: Rights,
    /// Nothing is refused to it, whatever is asked.
    allows_all: bool,
    description: OnceLock<Box<[u8]>>,
}

#[derive(Clone, Debug)]
struct Rights {
    on: bool,
    no_password: bool,
    /// Whether what it restores is looked at closely; nothing if no rule has said so.
    sanitizes: Option<bool>,
    passwords: Vec<Digest>,
    /// The user's own selector, then those in parentheses.
    own: Selector,
    selectors: Vec<Selector>,
}

impl User {
    /// A new user: it is off, has no password, and may do nothing (but perhaps use all channels).
    pub fn new(name: &[u8], setting: &Setting) -> User {
        let rights = Rights {
            on: false,
            no_password: false,
            sanitizes: None,
            passwords: Vec::new(),
            own: Selector::new(setting),
            selectors: Vec::new(),
        };
        User::of(name.into(), rights, &setting.table)
    }

    /// The user that connections have at first, before any rule: it may do everything, and needs no password.
    pub fn default_user(setting: &Setting) -> User {
        let mut rights = User::new(b"default", setting).rights;
        (rights.on, rights.no_password) = (true, true);
        for all in [Permission::AllCommands(true), Permission::AllKeys(true), Permission::AllChannels(true)] {
            rights.own.apply(all, &setting.table).expect("these rules name nothing");
        }
        User::of(b"default".as_slice().into(), rights, &setting.table)
    }

    fn of(name: Box<[u8]>, mut rights: Rights, table: &Table) -> User {
        rights.every_selector().for_each(|selector| selector.compile(table));
        let allows_all = rights.own.allows_all() || rights.selectors.iter().any(Selector::allows_all);
        User { name, rights, allows_all, description: OnceLock::new() }
    }

    /// Its name.
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    // ---- changes

    /// The user that it becomes by some rules, all of them or none. Takes long if [`User::takes_long`] says so.
    pub fn with<'a>(
        &self,
        rules: impl Iterator<Item = &'a [u8]>,
        setting: &Setting,
    ) -> Result<User, Refused> {
        let rules = join_selectors(rules).map_err(|open| Refused::Unclosed(open.to_vec()))?;
        let mut rights = self.rights.clone();
        for rule in rules {
            if let Err(wrong) = rights.apply(&rule, setting) {
                return Err(Refused::Rule(rule, wrong));
            }
        }
        Ok(User::of(self.name.clone(), rights, &setting.table))
    }

    /// The user that it becomes by those of some rules that can be applied; the others are told.
    pub(crate) fn with_those_of(
        &self,
        rules: &[&[u8]],
        setting: &Setting,
        mut tell: impl FnMut(&[u8], Wrong),
    ) -> User {
        let mut rights = self.rights.clone();
        for rule in rules {
            if let Err(wrong) = rights.apply(rule, setting) {
                tell(rule, wrong);
            }
        }
        User::of(self.name.clone(), rights, &setting.table)
    }

    /// Whether applying some rules takes longer than others should have to wait: passwords are hashed slowly.
    pub fn takes_long<'a>(&self, mut rules: impl Iterator<Item = &'a [u8]>, setting: &Setting) -> bool {
        rules.any(|rule| match Rule::parse(rule) {
            Rule::AddPassword(_) => setting.scheme == Scheme::Argon2id,
            Rule::RemovePassword(_) => self.rights.passwords.iter().any(Digest::is_slow),
            _ => false,
        })
    }

    /// The same user, when there are other commands than before.
    pub(crate) fn resolved(&self, table: &Table) -> User {
        let mut rights = self.rights.clone();
        rights.every_selector().for_each(|selector| selector.resolve(table));
        User::of(self.name.clone(), rights, table)
    }

    /// The same user with one password, or needing none. The password is one that stands readable elsewhere, so that
    /// hashing it slowly would hide nothing.
    pub(crate) fn with_password(&self, password: Option<&[u8]>, table: &Table) -> User {
        let mut rights = self.rights.clone();
        rights.no_password = password.is_none();
        rights.passwords =
            password.map(|password| Digest::of(password, Scheme::Sha256)).into_iter().collect();
        User::of(self.name.clone(), rights, table)
    }

    // ---- logging in

    /// Whether anybody may log in.
    pub fn is_on(&self) -> bool {
        self.rights.on
    }

    /// Whether any password will do.
    pub fn needs_no_password(&self) -> bool {
        self.rights.no_password
    }

    /// Whether a password lets somebody in, as far as it can be told at once. `None`: [`User::verifies_slowly`] knows.
    pub fn verifies(&self, password: &[u8]) -> Option<bool> {
        let Rights { on, no_password, passwords, .. } = &self.rights;
        if !on {
            return Some(false);
        }
        if *no_password {
            return Some(true);
        }
        let given = sha256(password);
        // All of them are compared, whichever it is.
        let found = passwords.iter().fold(false, |found, digest| found | digest.is_sha256(&given));
        (found || !passwords.iter().any(Digest::is_slow)).then_some(found)
    }

    /// Whether a password lets somebody in by a digest that takes long to verify.
    pub fn verifies_slowly(&self, password: &[u8]) -> bool {
        self.rights.passwords.iter().any(|digest| digest.is_slow() && digest.verifies(password))
    }

    // ---- what it may do

    /// Whether a call is allowed: the command, its keys and its channels, all by the same selector.
    #[inline(always)]
    pub fn check<'a, F: Fn(usize) -> &'a [u8]>(&self, asked: &Asked<'_, F>) -> Result<(), Refusal> {
        if self.allows_all { Ok(()) } else { self.check_selectors(asked) }
    }

    fn check_selectors<'a, F: Fn(usize) -> &'a [u8]>(&self, asked: &Asked<'_, F>) -> Result<(), Refusal> {
        let Err(mut refusal) = self.rights.own.check(asked) else { return Ok(()) };
        for selector in &self.rights.selectors {
            match selector.check(asked) {
                Ok(()) => return Ok(()),
                // The one that came furthest is told.
                Err(other) => refusal = refusal.max(other),
            }
        }
        Err(refusal)
    }

    /// Whether a key may be used so, by some selector.
    pub fn allows_key(&self, key: &[u8], access: Access) -> bool {
        self.selectors().any(|selector| selector.allows_key(key, access))
    }

    /// Whether a channel, or a pattern of channels, may be used, by some selector.
    pub fn allows_channel(&self, channel: &[u8], is_pattern: bool) -> bool {
        self.selectors().any(|selector| selector.allows_channel(channel, is_pattern))
    }

    /// Whether a call is allowed by a selector that also allows such use of any key there could be.
    pub fn allows_with_every_key<'a, F: Fn(usize) -> &'a [u8]>(
        &self,
        asked: &Asked<'_, F>,
        access: Access,
    ) -> bool {
        self.selectors().any(|selector| selector.check(asked).is_ok() && selector.allows_every_key(access))
    }

    /// Whether it may use every channel that another user (itself, as it was) may use, so that nobody's subscriptions
    /// need to be looked at.
    pub fn keeps_channels_of(&self, before: &User) -> bool {
        let keeps = |pattern: &[u8]| self.selectors().any(|selector| selector.allows_channel(pattern, true));
        self.selectors().any(Selector::allows_every_channel)
            || !before.selectors().any(Selector::allows_every_channel)
                && before.selectors().flat_map(Selector::channels).all(keeps)
    }

    // ---- how it is shown

    /// The words for what it is: "on", "nopass" …
    pub fn flags(&self) -> impl Iterator<Item = &'static str> {
        let Rights { on, no_password, sanitizes, .. } = self.rights;
        let sanitizes = sanitizes.map(|yes| if yes { "sanitize-payload" } else { "skip-sanitize-payload" });
        [Some(if on { "on" } else { "off" }), no_password.then_some("nopass"), sanitizes]
            .into_iter()
            .flatten()
    }

    /// What is kept of its passwords.
    pub fn passwords(&self) -> impl ExactSizeIterator<Item = String> {
        self.rights.passwords.iter().map(ToString::to_string)
    }

    /// Its own selector.
    pub fn own(&self) -> &Selector {
        &self.rights.own
    }

    /// The selectors in parentheses.
    pub fn further(&self) -> &[Selector] {
        &self.rights.selectors
    }

    fn selectors(&self) -> impl Iterator<Item = &Selector> {
        std::iter::once(&self.rights.own).chain(&self.rights.selectors)
    }

    /// The rules that make it, as a file has them behind the name.
    pub fn describe(&self, table: &Table) -> &[u8] {
        self.description.get_or_init(|| {
            let mut text = Vec::new();
            for flag in self.flags() {
                text.extend_from_slice(flag.as_bytes());
                text.push(b' ');
            }
            for digest in self.passwords() {
                text.push(b'#');
                text.extend_from_slice(digest.as_bytes());
                text.push(b' ');
            }
            text.extend_from_slice(&self.rights.own.describe(table));
            for selector in &self.rights.selectors {
                text.extend_from_slice(b" (");
                text.extend_from_slice(&quoted(&selector.describe(table)));
                text.push(b')');
            }
            text.into()
        })
    }
}

/// Rules as they stand between parentheses, where quotes mean something, and a word that ends with a parenthesis ends it.
fn quoted(rules: &[u8]) -> Vec<u8> {
    let is_plain =
        |rule: &[u8]| !rule.ends_with(b")") && !rule.iter().any(|byte| matches!(byte, b'"' | b'\''));
    let rules = rules.split(|byte| *byte == b' ');
    let rules = rules.map(|rule| if is_plain(rule) { rule.to_vec() } else { quote(rule).into_bytes() });
    rules.collect::<Vec<_>>().join(&b' ')
}

impl Rights {
    fn every_selector(&mut self) -> impl Iterator<Item = &mut Selector> {
        std::iter::once(&mut self.own).chain(&mut self.selectors)
    }

    /// Applies a rule; if it is wrong, nothing has changed.
    fn apply(&mut self, rule: &[u8], setting: &Setting) -> Result<(), Wrong> {
        match Rule::parse(rule) {
            Rule::Nothing => {}
            Rule::On(on) => self.on = on,
            Rule::SanitizePayload(yes) => self.sanitizes = Some(yes),
            Rule::NoPass => {
                self.no_password = true;
                self.passwords.clear();
            }
            Rule::ResetPass => {
                self.no_password = false;
                self.passwords.clear();
            }
            Rule::AddPassword(password) => {
                self.no_password = false;
                let slow = setting.scheme == Scheme::Argon2id;
                let is_there = |digest: &Digest| digest.is_slow() == slow && digest.verifies(password);
                if !self.passwords.iter().any(is_there) {
                    self.passwords.push(Digest::of(password, setting.scheme));
                }
            }
            Rule::AddDigest(text) => {
                let digest = Digest::parse(text).ok_or(Wrong::BadDigest)?;
                self.no_password = false;
                if !self.passwords.contains(&digest) {
                    self.passwords.push(digest);
                }
            }
            Rule::RemovePassword(password) => self.remove(|digest| digest.verifies(password))?,
            Rule::RemoveDigest(text) => {
                let removed = Digest::parse(text).ok_or(Wrong::BadDigest)?;
                self.remove(|digest| *digest == removed)?;
            }
            Rule::Selector(inner) => {
                let mut selector = Selector::new(setting);
                for rule in inner_rules(inner).ok_or(Wrong::Syntax)? {
                    selector.apply(Permission::parse(&rule), &setting.table)?;
                }
                self.selectors.push(selector);
            }
            Rule::ClearSelectors => self.selectors.clear(),
            Rule::Reset => {
                *self = Rights {
                    on: false,
                    no_password: false,
                    sanitizes: Some(true),
                    passwords: Vec::new(),
                    own: Selector::new(setting),
                    selectors: Vec::new(),
                }
            }
            Rule::Permission(permission) => self.own.apply(permission, &setting.table)?,
        }
        Ok(())
    }

    fn remove(&mut self, is_meant: impl Fn(&Digest) -> bool) -> Result<(), Wrong> {
        let before = self.passwords.len();
        self.passwords.retain(|digest| !is_meant(digest));
        if self.passwords.len() < before { Ok(()) } else { Err(Wrong::NoSuchPassword) }
    }
}
