//! How a command uses its keys, and channels.

/// One way in which a command uses the keys that an argument of its usage line names.
#[derive(Clone, Copy, Debug)]
pub struct KeyUse {
    /// The argument's name in the usage line.
    pub arg: &'static str,
    /// What is done to the key and to its value.
    pub access: Access,
    /// Where the keys are, when the usage line cannot tell.
    pub at: Option<KeyPosition>,
    /// The note that COMMAND INFO shows, if any.
    pub notes: &'static str,
    /// What one call does to its keys, where that depends on the other arguments.
    pub refine: Option<Refine>,
    /// Which argument the key is, where positions cannot tell.
    pub locate: Option<Locate>,
}

/// Tells what one call does to its keys, from the number of its arguments and access to each (0 is the name).
pub type Refine = for<'a> fn(usize, &dyn Fn(usize) -> &'a [u8]) -> Access;

/// Tells which argument of a call is the key, if any, from the number of its arguments and access to each (0 is the name).
pub type Locate = for<'a> fn(usize, &dyn Fn(usize) -> &'a [u8]) -> Option<usize>;

/// Where keys are, as Redis's key specifications say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyPosition {
    /// Where to begin.
    pub begin: Begin,
    /// How to go on from there.
    pub find: Find,
}

/// Where the search for keys begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// At a fixed argument.
    Index(i32),
    /// After a token, sought from an argument on (from the end if negative).
    Keyword(&'static str, i32),
    /// Not described.
    Unknown,
}

/// Which arguments from there on are keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Find {
    /// Up to `last` (relative to the beginning, or from the end if negative), every `step`-th;
    /// `limit` 2 means the first half of what is left, 3 a third, and so on.
    Range {
        /// Last key, relative to the first one; negative counts from the end of the arguments.
        last: i32,
        /// Distance between keys.
        step: i32,
        /// With `last` -1: the part of the arguments to look at, as a divisor.
        limit: i32,
    },
    /// An argument says how many there are.
    KeyNum {
        /// Where the number stands, relative to the beginning.
        index: i32,
        /// The first key, relative to the beginning.
        first: i32,
        /// Distance between keys.
        step: i32,
    },
    /// Not described.
    Unknown,
}

/// What a command does to a key: access flags of a key specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access(pub u16);

macro_rules! access {
    ($( $(#[doc = $doc:literal])+ $name:ident = $bit:literal as $shown:literal; )*) => {
        $( $(#[doc = $doc])+ pub const $name: Access = Access(1 << $bit); )*
        impl Access {
            /// Everything that can be done to a key.
            pub const ALL: Access = Access($( $name.0 )|*);
        }
        const NAMES: &[(Access, &str)] = &[ $( ($name, $shown) ),* ];
    };
}

access! {
    /// Read only: does not change the value.
    RO = 0 as "RO";
    /// Read and write: changes the value, and its content matters.
    RW = 1 as "RW";
    /// Overwrites the value without looking at it.
    OW = 2 as "OW";
    /// Deletes the key.
    RM = 3 as "RM";
    /// Returns or copies or uses what users stored.
    ACCESS = 4 as "access";
    /// Updates what is stored.
    UPDATE = 5 as "update";
    /// Adds without changing or removing.
    INSERT = 6 as "insert";
    /// Deletes content on purpose.
    DELETE = 7 as "delete";
    /// Not a key, but routed like one (sharded channels).
    NOT_KEY = 8 as "not_key";
    /// The specification does not find every key.
    INCOMPLETE = 9 as "incomplete";
    /// The access depends on other arguments.
    VARIABLE_FLAGS = 10 as "variable_flags";
}

impl Access {
    /// Whether every flag of `other` is in `self`.
    pub const fn has(self, other: Access) -> bool {
        self.0 & other.0 == other.0
    }

    /// The names that COMMAND INFO shows, in the order of Redis.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        NAMES.iter().filter(move |(access, _)| self.has(*access)).map(|(_, name)| *name)
    }
}

impl std::ops::BitOr for Access {
    type Output = Access;
    fn bitor(self, other: Access) -> Access {
        Access(self.0 | other.0)
    }
}

impl Access {
    /// The union of two sets, usable in constants.
    pub const fn and(self, other: Access) -> Access {
        Access(self.0 | other.0)
    }
}

/// The keys that the argument `arg` of the usage line names, used as `access` lists.
pub const fn key(arg: &'static str, access: &[Access]) -> KeyUse {
    let mut union = 0;
    let mut i = 0;
    while i < access.len() {
        union |= access[i].0;
        i += 1;
    }
    KeyUse { arg, access: Access(union), at: None, notes: "", refine: None, locate: None }
}

impl KeyUse {
    /// The same, with positions that the usage line cannot tell.
    pub const fn at(mut self, begin: Begin, find: Find) -> KeyUse {
        self.at = Some(KeyPosition { begin, find });
        self
    }

    /// The same, with what one call does to its keys told by a function.
    pub const fn refined(mut self, refine: Refine) -> KeyUse {
        self.refine = Some(refine);
        self
    }

    /// The same, with a function that finds the key in a call. What the positions say is only shown; but if they say that
    /// keys stand behind a keyword, the function finds the first, and they how to go on.
    pub const fn located(mut self, locate: Locate) -> KeyUse {
        self.locate = Some(locate);
        self
    }

    /// The same, with a note for COMMAND INFO.
    pub const fn notes(mut self, notes: &'static str) -> KeyUse {
        self.notes = notes;
        self
    }
}

/// How a command uses the channels that an argument of its usage line names: what ACL rules have to allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelUse {
    /// The argument's name in the usage line.
    pub arg: &'static str,
    /// Whether they are patterns of channels, which rules name literally.
    pub patterns: bool,
}

/// The channels that the argument `arg` of the usage line names, to be published to or listened to.
pub const fn channel(arg: &'static str) -> Option<ChannelUse> {
    Some(ChannelUse { arg, patterns: false })
}

/// The patterns of channels that the argument `arg` of the usage line names.
pub const fn channel_pattern(arg: &'static str) -> Option<ChannelUse> {
    Some(ChannelUse { arg, patterns: true })
}
