//! Classes of key events, as `notify-keyspace-events` names them, and the time the engine is handed.

use std::fmt;

/// A class of events, or a set of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct EventClass(pub u32);

macro_rules! classes {
    ($($name:ident = $bit:literal $letter:literal $about:literal;)*) => {
        $( #[doc = $about] pub const $name: EventClass = EventClass(1 << $bit); )*
        /// Every class with its letter.
        pub const CLASSES: &[(EventClass, char)] = &[$(($name, $letter)),*];
    };
}

classes! {
    KEYSPACE = 0 'K' "Events are published by key.";
    KEYEVENT = 1 'E' "Events are published by name.";
    GENERIC = 2 'g' "Commands for any type: DEL, EXPIRE, RENAME …";
    STRING = 3 '$' "String commands.";
    LIST = 4 'l' "List commands.";
    SET = 5 's' "Set commands.";
    HASH = 6 'h' "Hash commands.";
    ZSET = 7 'z' "Sorted set commands.";
    EXPIRED = 8 'x' "A key expired.";
    EVICTED = 9 'e' "A key was evicted.";
    STREAM = 10 't' "Stream commands.";
    MODULE = 13 'd' "A module's types.";
    MISSED = 11 'm' "A key was looked for in vain.";
    NEW = 14 'n' "A key came into being.";
}

impl EventClass {
    /// What the letter `A` stands for.
    pub const ALL: EventClass = EventClass(
        GENERIC.0 | STRING.0 | LIST.0 | SET.0 | HASH.0 | ZSET.0 | EXPIRED.0 | EVICTED.0 | STREAM.0 | MODULE.0,
    );

    /// Whether any class of `other` is in `self`.
    #[inline(always)]
    pub fn any(self, other: EventClass) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether every class of `other` is in `self`.
    pub fn has(self, other: EventClass) -> bool {
        self.0 & other.0 == other.0
    }

    /// The set that letters name; `None` for an unknown letter.
    pub fn parse(letters: &str) -> Option<EventClass> {
        letters.chars().try_fold(EventClass(0), |set, letter| {
            let class = if letter == 'A' {
                EventClass::ALL
            } else {
                CLASSES.iter().find(|(_, known)| *known == letter)?.0
            };
            Some(EventClass(set.0 | class.0))
        })
    }
}

impl fmt::Display for EventClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self.has(EventClass::ALL);
        if all {
            f.write_str("A")?;
        }
        for (class, letter) in CLASSES {
            let covered = all && EventClass::ALL.has(*class);
            if self.has(*class) && !covered {
                write!(f, "{letter}")?;
            }
        }
        Ok(())
    }
}

/// The clock that the engine reads: once per command, and nowhere else.
pub trait Clock: Send {
    /// Nanoseconds since some fixed moment; never goes back.
    fn monotonic_ns(&self) -> u64;
    /// Microseconds since 1970.
    fn unix_us(&self) -> i64;
}
