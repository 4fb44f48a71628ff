//! ACL categories.

/// A set of ACL categories, in the order of Redis's ACL CAT.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Category(pub u32);

macro_rules! categories {
    ($($name:ident = $bit:literal as $shown:literal;)*) => {
        $( #[doc = concat!("Category `@", $shown, "`.")] pub const $name: Category = Category(1 << $bit); )*
        impl Category {
            /// Every category.
            pub const ALL: Category = Category($( $name.0 )|*);
        }
        /// Every category with its name.
        pub const CATEGORIES: &[(Category, &str)] = &[$(($name, $shown)),*];
    };
}

categories! {
    KEYSPACE = 0 as "keyspace";
    READ = 1 as "read";
    WRITE = 2 as "write";
    SET = 3 as "set";
    SORTEDSET = 4 as "sortedset";
    LIST = 5 as "list";
    HASH = 6 as "hash";
    STRING = 7 as "string";
    BITMAP = 8 as "bitmap";
    HYPERLOGLOG = 9 as "hyperloglog";
    GEO = 10 as "geo";
    STREAM = 11 as "stream";
    PUBSUB = 12 as "pubsub";
    ADMIN = 13 as "admin";
    FAST = 14 as "fast";
    SLOW = 15 as "slow";
    BLOCKING = 16 as "blocking";
    DANGEROUS = 17 as "dangerous";
    CONNECTION = 18 as "connection";
    TRANSACTION = 19 as "transaction";
    SCRIPTING = 20 as "scripting";
}

impl Category {
    /// No category.
    pub const NONE: Category = Category(0);

    /// Whether every category of `other` is in `self`.
    pub const fn has(self, other: Category) -> bool {
        self.0 & other.0 == other.0
    }

    /// The union of two sets.
    pub const fn and(self, other: Category) -> Category {
        Category(self.0 | other.0)
    }

    /// The names in the order of ACL CAT, without the `@`.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        CATEGORIES.iter().filter(move |(category, _)| self.has(*category)).map(|(_, name)| *name)
    }
}
