//! All users. A value of [`Users`] is cheap to copy and can be asked by any thread; who changes users, changes a copy
//! of his own.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::password::Scheme;
use crate::rule::{Refused, has_spaces};
use crate::table::Table;
use crate::user::User;

/// What rules are read by, beside their text.
#[derive(Clone, Debug, Default)]
pub struct Setting {
    /// The commands that they can name.
    pub table: Arc<Table>,
    /// Whether new users may use all channels (`acl-pubsub-default`).
    pub all_channels: bool,
    /// How passwords are kept that are given in the clear (`acl-password-hash`).
    pub scheme: Scheme,
}

/// The users there are. There is always one named `default`.
#[derive(Clone, Debug)]
pub struct Users {
    by_name: Arc<BTreeMap<Box<[u8]>, Arc<User>>>,
    default: Arc<User>,
    setting: Setting,
    version: u64,
}

/// The name of the user that connections have before they log in.
pub const DEFAULT: &[u8] = b"default";

impl Default for Users {
    fn default() -> Users {
        Users::new(Setting::default())
    }
}

impl Users {
    /// The default user alone.
    pub fn new(setting: Setting) -> Users {
        Users::of(BTreeMap::new(), setting, 1)
    }

    fn of(mut by_name: BTreeMap<Box<[u8]>, Arc<User>>, setting: Setting, version: u64) -> Users {
        let default =
            by_name.entry(DEFAULT.into()).or_insert_with(|| Arc::new(User::default_user(&setting))).clone();
        Users { by_name: Arc::new(by_name), default, setting, version }
    }

    /// A number that changes with every change: what was looked up before is to be looked up again.
    #[inline(always)]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// What rules are read by.
    pub fn setting(&self) -> &Setting {
        &self.setting
    }

    /// The user of a name.
    pub fn find(&self, name: &[u8]) -> Option<&Arc<User>> {
        self.by_name.get(name)
    }

    /// The user that connections have before they log in.
    pub fn default_user(&self) -> &Arc<User> {
        &self.default
    }

    /// Whether connections are let in without AUTH.
    #[inline(always)]
    pub fn default_needs_no_password(&self) -> bool {
        self.default.is_on() && self.default.needs_no_password()
    }

    /// All users by their names.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Arc<User>> {
        self.by_name.values()
    }

    /// The user of a name as some rules would make it, from what it is now, or from nothing.
    pub fn staged<'a>(&self, name: &[u8], rules: impl Iterator<Item = &'a [u8]>) -> Result<User, Refused> {
        match self.find(name) {
            Some(user) => user.with(rules, &self.setting),
            None => User::new(name, &self.setting).with(rules, &self.setting),
        }
    }

    /// Takes a user in, in the place of one of the same name.
    pub fn insert(&mut self, user: User) {
        let user = Arc::new(user);
        if user.name() == DEFAULT {
            self.default = user.clone();
        }
        Arc::make_mut(&mut self.by_name).insert(user.name().into(), user);
        self.version += 1;
    }

    /// Removes a user, if it is there and not the default one.
    pub fn remove(&mut self, name: &[u8]) -> bool {
        if name == DEFAULT || !self.by_name.contains_key(name) {
            return false;
        }
        Arc::make_mut(&mut self.by_name).remove(name);
        self.version += 1;
        true
    }

    /// Puts others in the place of all. If the default user is not among them, it is what it was before any rule.
    pub fn replace(&mut self, users: Vec<User>) {
        let by_name = users.into_iter().map(|user| (user.name().into(), Arc::new(user))).collect();
        *self = Users::of(by_name, self.setting.clone(), self.version + 1);
    }

    /// Gives the default user one password, or lets anybody in without one.
    pub fn set_default_password(&mut self, password: Option<&[u8]>) {
        self.insert(self.default.with_password(password, &self.setting.table));
    }

    /// Changes how rules are read from now on. Users stay what they are, but that rules mean other commands if there
    /// are other commands now.
    pub fn set(&mut self, setting: Setting) {
        if !Arc::ptr_eq(&setting.table, &self.setting.table) {
            let resolved = self.iter().map(|user| user.resolved(&setting.table));
            let by_name = resolved.map(|user| (user.name().into(), Arc::new(user))).collect();
            *self = Users::of(by_name, setting, self.version + 1);
        } else {
            self.setting = setting;
        }
    }

    /// Whether a user may have this name.
    pub fn is_name(name: &[u8]) -> bool {
        !has_spaces(name)
    }
}
