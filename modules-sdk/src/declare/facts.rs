//! What follows from a row: all that look-up, ACL, routing and COMMAND need to know, worked out once at registration.

use super::category::{self as acl, Category};
use super::flags::{self, Flags};
use super::keys::{
    Access, Begin, ChannelUse, Find, INCOMPLETE, KeyPosition, KeyUse, Locate, NOT_KEY, Refine,
};
use super::spec::Spec;
use super::usage::{Argument, Kind, Usage, UsageError};
use crate::args::parse_integer;

/// Longer names are none of a command.
pub const NAME_LEN_MAX: usize = 64;

/// What is known of a command.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The row itself: summary, group, cost, versions, history, tips.
    pub spec: Spec,
    /// The name in lower case, as COMMAND shows it: "get", "config|get".
    pub name: String,
    /// The words of the name in lower case: one, or container and subcommand.
    pub words: Vec<String>,
    /// The number of words of a call, the name among them; negative if it is a minimum.
    pub arity: i32,
    /// The row's flags, and those that follow from its keys.
    pub flags: Flags,
    /// ACL categories: explicit ones, and those that group and flags imply.
    pub categories: Category,
    /// The first key by the old description of positions, 0 if there is none.
    pub first: i32,
    /// The last key, from the end if negative.
    pub last: i32,
    /// The distance between keys.
    pub step: i32,
    /// Where keys are, and what is done to them.
    pub keys: Vec<KeySpec>,
    /// Where channels are that it publishes or listens to.
    pub channels: Option<ChannelSpec>,
    /// The argument that is the first key if the call has keys, whatever the others say: for hashing ahead of execution.
    pub first_key: Option<usize>,
    /// The argument tree.
    pub arguments: Vec<Argument>,
}

/// A key specification.
#[derive(Clone, Copy, Debug)]
pub struct KeySpec {
    /// Where the keys are.
    pub position: KeyPosition,
    /// What is done to them.
    pub access: Access,
    /// The note that COMMAND INFO shows, if any.
    pub notes: &'static str,
    /// What one call does to them, if that depends on its other arguments.
    pub refine: Option<Refine>,
    /// Which argument the key is, where the position only hints at it.
    pub locate: Option<Locate>,
}

/// Where the channels of a call are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelSpec {
    /// The first one.
    pub first: usize,
    /// Whether all arguments from there on are channels.
    pub many: bool,
    /// Whether they are patterns of channels.
    pub patterns: bool,
}

impl ChannelSpec {
    fn of(used: ChannelUse, usage: &Usage) -> Option<ChannelSpec> {
        let KeyPosition { begin: Begin::Index(first), find: Find::Range { last, .. } } =
            usage.key_position(used.arg)?
        else {
            return None;
        };
        Some(ChannelSpec { first: usize::try_from(first).ok()?, many: last < 0, patterns: used.patterns })
    }

    /// Which arguments are channels, of a call that has so many.
    pub fn indices(self, argc: usize) -> std::ops::Range<usize> {
        self.first..if self.many { argc } else { (self.first + 1).min(argc) }
    }
}

/// A key of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyRef {
    /// Which argument it is; 0 is the name.
    pub index: usize,
    /// What is done to it.
    pub access: Access,
}

/// The arguments of a call are not what its key specifications want, so its keys cannot be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadKeys;

impl Facts {
    /// Derives everything from a row.
    pub fn of(spec: &Spec) -> Result<Facts, UsageError> {
        let wrong = |reason| UsageError { usage: spec.usage, reason };
        let mut usage = Usage::parse(spec.usage)?;
        if !usage.name.iter().all(|word| is_name(word)) {
            return Err(wrong(
                "the name is longer than 64 bytes, or not of capitals, digits and . _ - alone",
            ));
        }
        let mut keys = Vec::with_capacity(spec.keys.len());
        for key in spec.keys {
            let position = key.at.or_else(|| usage.key_position(key.arg));
            let position = position.ok_or(wrong("the positions of a key cannot be told from it"))?;
            let KeyUse { access, notes, refine, locate, .. } = *key;
            keys.push(KeySpec { position, access, notes, refine, locate });
        }
        let channels = spec.channels.map(|used| {
            ChannelSpec::of(used, &usage).ok_or(wrong("the positions of channels cannot be told from it"))
        });
        let channels = channels.transpose()?;
        mark_keys(&mut usage, spec).map_err(wrong)?;
        mark_ages(&mut usage, spec).map_err(wrong)?;

        let legacy = Legacy::of(&keys);
        let movable = if legacy.movable { flags::MOVABLEKEYS } else { Flags::NONE };
        let flags = Flags::all(spec.flags) | movable;
        let implied = if flags.has(flags::CONTAINER) { -2 } else { usage.arity() };
        // With fewer words than the line has, a command would look for arguments that are not there.
        if spec.arity.is_some_and(|arity| arity.unsigned_abs() < implied.unsigned_abs()) {
            return Err(wrong("the arity that the row states is less than what it implies"));
        }
        let words: Vec<String> = usage.name.iter().map(|word| word.to_ascii_lowercase()).collect();
        Ok(Facts {
            spec: *spec,
            name: words.join("|"),
            words,
            arity: spec.arity.unwrap_or(implied),
            flags,
            categories: categories(spec, flags),
            first: legacy.first,
            last: legacy.last,
            step: legacy.step,
            first_key: first_key(&keys),
            keys,
            channels,
            arguments: usage.arguments,
        })
    }

    /// Whether the number of words of a call is right.
    #[inline]
    pub fn accepts(&self, argc: usize) -> bool {
        let wanted = self.arity.unsigned_abs() as usize;
        if self.arity < 0 { argc >= wanted } else { argc == wanted }
    }

    /// Whether the command has keys at all; channels that are only routed like keys do not count.
    pub fn has_keys(&self) -> bool {
        self.keys.iter().any(|key| !key.access.has(NOT_KEY))
    }

    /// What marks COMMAND DOCS puts on it.
    pub fn doc_flags(&self) -> impl Iterator<Item = &'static str> {
        let deprecated = self.spec.deprecated.map(|_| "deprecated");
        let internal = self.flags.has(flags::SYSCMD).then_some("syscmd");
        deprecated.into_iter().chain(internal)
    }

    /// The keys of a call, from the number of its words and access to each.
    pub fn keys_of<'a>(&self, argc: usize, arg: &dyn Fn(usize) -> &'a [u8]) -> Result<Vec<KeyRef>, BadKeys> {
        let mut found = Vec::new();
        self.each_key(argc, arg, false, &mut |key| found.push(key))?;
        Ok(found)
    }

    /// Visits the keys of a call, without allocation; if `routed`, also channels that are routed like keys.
    ///
    /// What was visited before an error is to be forgotten.
    pub fn each_key<'a>(
        &self,
        argc: usize,
        arg: &dyn Fn(usize) -> &'a [u8],
        routed: bool,
        visit: &mut dyn FnMut(KeyRef),
    ) -> Result<(), BadKeys> {
        for key in &self.keys {
            if key.access.has(NOT_KEY) && !routed {
                continue;
            }
            let Some(span) = Span::of(key, argc, arg)? else {
                continue;
            };
            let access = key.refine.map_or(key.access, |refine| refine(argc, arg));
            for index in (span.first..=span.last).step_by(span.step) {
                visit(KeyRef { index, access });
            }
            if key.access.has(INCOMPLETE) {
                return Err(BadKeys);
            }
        }
        Ok(())
    }
}

/// The keys that one specification finds in a call.
struct Span {
    first: usize,
    last: usize,
    step: usize,
}

impl Span {
    /// `None` if the keyword that it begins with is not there.
    fn of<'a>(key: &KeySpec, argc: usize, arg: &dyn Fn(usize) -> &'a [u8]) -> Result<Option<Span>, BadKeys> {
        let count = i64::try_from(argc).map_err(|_| BadKeys)?;
        let located = match key.locate {
            Some(locate) => {
                let found = locate(argc, arg).filter(|index| (1..argc).contains(index));
                if found.is_none() || !matches!(key.position.begin, Begin::Keyword(..)) {
                    return Ok(found.map(|index| Span { first: index, last: index, step: 1 }));
                }
                found
            }
            None => None,
        };
        let word = |index: i64| usize::try_from(index).ok().filter(|&index| index < argc).map(arg);
        let begin = match key.position.begin {
            Begin::Index(index) => i64::from(index),
            Begin::Keyword(..) if located.is_some() => located.map_or(0, |index| index as i64),
            Begin::Keyword(keyword, from) => {
                let is_keyword = |&index: &i64| {
                    word(index).is_some_and(|word| word.eq_ignore_ascii_case(keyword.as_bytes()))
                };
                // The last word is no keyword, as nothing could follow it; nor is the first after the name,
                // where the search runs backwards: Redis has it so.
                let found = if from > 0 {
                    (i64::from(from)..count - 1).find(is_keyword)
                } else {
                    (2..=count + i64::from(from)).rev().find(is_keyword)
                };
                match found {
                    Some(index) => index + 1,
                    None => return Ok(None),
                }
            }
            Begin::Unknown => return Err(BadKeys),
        };
        let (first, last, step) = match key.position.find {
            Find::Range { last, step, .. } if last >= 0 => (begin, begin + i64::from(last), step),
            Find::Range { last, step, limit } if limit > 0 => {
                (begin, begin + (count - begin) / i64::from(limit) + i64::from(last), step)
            }
            Find::Range { last, step, .. } => (begin, count + i64::from(last), step),
            Find::KeyNum { index, first, step } => {
                let number = word(begin + i64::from(index)).and_then(parse_integer).ok_or(BadKeys)?;
                // More keys than words is an error, whatever the number.
                if number < 0 || number > count {
                    return Err(BadKeys);
                }
                let first = begin + i64::from(first);
                (first, first + (number - 1) * i64::from(step), step)
            }
            Find::Unknown => return Err(BadKeys),
        };
        if first < 1 || last < first || last >= count {
            return Err(BadKeys);
        }
        let step = usize::try_from(step).ok().filter(|&step| step > 0).ok_or(BadKeys)?;
        Ok(Some(Span { first: first as usize, last: last as usize, step }))
    }
}

fn is_name(word: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
    word.len() <= NAME_LEN_MAX && word.bytes().all(is_plain)
}

/// Arguments that the row's keys name are keys; channels that are routed like keys stay strings.
fn mark_keys(usage: &mut Usage, spec: &Spec) -> Result<(), &'static str> {
    for (index, key) in spec.keys.iter().enumerate() {
        let mut named = false;
        usage.each_argument(&mut |argument| {
            if argument.name == key.arg
                && argument.kind.parts().is_empty()
                && argument.kind != Kind::PureToken
            {
                named = true;
                if key.access.has(NOT_KEY) {
                    return;
                }
                argument.key_spec.get_or_insert(index);
                if argument.kind == Kind::String {
                    argument.kind = Kind::Key;
                }
            }
        });
        if !named {
            return Err("it does not name a key that the row declares");
        }
    }
    // Further keys belong to the only specification there is.
    if spec.keys.len() == 1 {
        usage.each_argument(&mut |argument| {
            if argument.kind == Kind::Key {
                argument.key_spec.get_or_insert(0);
            }
        });
    }
    Ok(())
}

fn mark_ages(usage: &mut Usage, spec: &Spec) -> Result<(), &'static str> {
    for age in spec.ages {
        let mut named = false;
        usage.each_argument(&mut |argument| {
            if argument.token.unwrap_or(&argument.name) == age.argument {
                named = true;
                argument.since = age.since.or(argument.since);
                argument.deprecated = age.deprecated.or(argument.deprecated);
            }
        });
        if !named {
            return Err("it does not name an argument whose age the row declares");
        }
    }
    Ok(())
}

/// The category that a group is, if it is one. Pub/sub commands are told by their flag.
fn category_of_group(group: &str) -> Category {
    match group {
        "generic" => acl::KEYSPACE,
        "string" => acl::STRING,
        "bitmap" => acl::BITMAP,
        "hash" => acl::HASH,
        "list" => acl::LIST,
        "set" => acl::SET,
        "sorted-set" => acl::SORTEDSET,
        "hyperloglog" => acl::HYPERLOGLOG,
        "geo" => acl::GEO,
        "stream" => acl::STREAM,
        "connection" => acl::CONNECTION,
        "transactions" => acl::TRANSACTION,
        "scripting" => acl::SCRIPTING,
        _ => Category::NONE,
    }
}

fn categories(spec: &Spec, flags: Flags) -> Category {
    let mut all = spec.categories.iter().fold(Category::NONE, |all, category| all.and(*category));
    if !flags.has(flags::CONTAINER) {
        // What is of several types in particular, or of the connection, is not of the keyspace as a whole.
        let in_particular = all.has(acl::SET) && all.has(acl::LIST) || all.has(acl::CONNECTION);
        let of_group = category_of_group(spec.group);
        all = if in_particular { all } else { all.and(of_group) };
    }
    let scripting = all.has(acl::SCRIPTING);
    for (flag, implied) in [
        (flags::WRITE, acl::WRITE),
        (flags::READONLY, if scripting { Category::NONE } else { acl::READ }),
        (flags::ADMIN, acl::ADMIN.and(acl::DANGEROUS)),
        (flags::PUBSUB, acl::PUBSUB),
        (flags::FAST, acl::FAST),
        (flags::BLOCKING, acl::BLOCKING),
    ] {
        if flags.has(flag) {
            all = all.and(implied);
        }
    }
    if all.has(acl::FAST) { all } else { all.and(acl::SLOW) }
}

/// The argument that is a key in every call that has keys.
fn first_key(keys: &[KeySpec]) -> Option<usize> {
    keys.iter().filter(|key| !key.access.has(NOT_KEY)).find_map(|key| match key.position {
        KeyPosition { begin: Begin::Index(index), find: Find::Range { .. } } => usize::try_from(index).ok(),
        KeyPosition { begin: Begin::Index(index), find: Find::KeyNum { first, .. } } => {
            usize::try_from(index + first).ok()
        }
        _ => None,
    })
}

/// First key, last key and step, as clients knew them before there were key specifications.
#[derive(Default)]
struct Legacy {
    first: i32,
    last: i32,
    step: i32,
    movable: bool,
}

impl Legacy {
    /// One range is taken as it is. Of several, those that follow each other without gaps are joined; what does not
    /// fit marks the keys as movable.
    fn of(keys: &[KeySpec]) -> Legacy {
        let plain = |key: &KeySpec| match key.position {
            KeyPosition { begin: Begin::Index(first), find: Find::Range { last, step, limit: 0 } } => {
                Some((first, if last < 0 { last } else { first + last }, step))
            }
            _ => None,
        };
        let incomplete = |key: &KeySpec| key.access.has(INCOMPLETE);
        if let [key] = keys
            && let Some((first, last, step)) = plain(key)
        {
            return Legacy { first, last, step, movable: incomplete(key) };
        }
        let mut legacy = Legacy::default();
        for key in keys {
            match plain(key) {
                Some((first, last, 1)) if legacy.last == 0 || legacy.last == first - 1 => {
                    legacy.movable |= incomplete(key);
                    legacy.first = if legacy.first == 0 { first } else { legacy.first.min(first) };
                    // A position from the end is behind all those from the beginning.
                    legacy.last = if last < 0 { last } else { legacy.last.max(last) };
                    legacy.step = 1;
                }
                _ => legacy.movable = true,
            }
        }
        legacy
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::declare::*;

    const BASE: Spec = Spec::group("sorted-set");

    fn facts(spec: Spec) -> Facts {
        Facts::of(&spec).unwrap()
    }

    fn keys(facts: &Facts, call: &str) -> Result<Vec<usize>, BadKeys> {
        let words: Vec<&[u8]> = call.split(' ').map(str::as_bytes).collect();
        Ok(facts.keys_of(words.len(), &|i| words[i])?.iter().map(|key| key.index).collect())
    }

    fn names(categories: Category) -> Vec<&'static str> {
        categories.names().collect()
    }

    #[test]
    fn a_plain_command() {
        let zadd = facts(
            const {
                Spec {
                    usage: "ZADD key [condition=<NX | XX>] <score:double member>...",
                    flags: &[WRITE, DENYOOM, FAST],
                    keys: &[key("key", &[RW, UPDATE])],
                    ages: &[added("condition", "3.0.2")],
                    ..BASE
                }
            },
        );
        assert_eq!((&*zadd.name, zadd.arity), ("zadd", -4));
        assert_eq!((zadd.first, zadd.last, zadd.step, zadd.first_key), (1, 1, 1, Some(1)));
        assert_eq!(names(zadd.categories), ["write", "sortedset", "fast"]);
        assert_eq!((&zadd.arguments[0].kind, zadd.arguments[0].key_spec), (&Kind::Key, Some(0)));
        assert_eq!(zadd.arguments[1].since, Some("3.0.2"));
        assert!(zadd.accepts(4) && zadd.accepts(5) && !zadd.accepts(3));
        assert!(!zadd.flags.has(MOVABLEKEYS));
    }

    #[test]
    fn subcommands_and_containers() {
        let get = facts(
            const { Spec { usage: "CONFIG GET parameter...", flags: &[ADMIN, NOSCRIPT], ..Spec::group("server") } },
        );
        assert_eq!((&*get.name, get.arity), ("config|get", -3));
        assert_eq!(names(get.categories), ["admin", "slow", "dangerous"]);
        let client =
            facts(const { Spec { usage: "CLIENT", flags: &[CONTAINER], ..Spec::group("connection") } });
        assert_eq!((client.arity, names(client.categories)), (-2, vec!["slow"]));
    }

    #[test]
    fn keys_of_calls() {
        let del = facts(const { Spec { usage: "DEL key...", keys: &[key("key", &[RM, DELETE])], ..BASE } });
        assert_eq!(keys(&del, "del a b c"), Ok(vec![1, 2, 3]));
        let mset = facts(const { Spec { usage: "MSET <key value>...", keys: &[key("key", &[OW])], ..BASE } });
        assert_eq!((mset.first, mset.last, mset.step), (1, -1, 2));
        assert_eq!(keys(&mset, "mset a 1 b 2"), Ok(vec![1, 3]));
        let store = facts(
            const {
                Spec {
                    usage: "ZDIFFSTORE destination numkeys:int key...",
                    keys: &[key("destination", &[OW, UPDATE]), key("key", &[RO, ACCESS])],
                    ..BASE
                }
            },
        );
        assert_eq!((store.first, store.last, store.step), (1, 1, 1));
        assert!(store.flags.has(MOVABLEKEYS));
        assert_eq!(keys(&store, "zdiffstore to 2 a b"), Ok(vec![1, 3, 4]));
        for bad in ["zdiffstore to 3 a b", "zdiffstore to 0 a", "zdiffstore to -1 a", "zdiffstore to x a"] {
            assert_eq!(keys(&store, bad), Err(BadKeys), "{bad}");
        }
        assert_eq!(keys(&store, "zdiffstore to 9223372036854775807 a"), Err(BadKeys));
        let read = facts(
            const {
                Spec {
                    usage: "XREAD [COUNT count:int] STREAMS streams=<key... id...>",
                    keys: &[key("key", &[RO, ACCESS])],
                    ..BASE
                }
            },
        );
        assert_eq!((read.first, read.first_key), (0, None));
        assert_eq!(keys(&read, "xread count 1 streams a b 0 0"), Ok(vec![4, 5]));
        assert_eq!(keys(&read, "xread count 1"), Ok(vec![]));
    }

    #[test]
    fn access_may_depend_on_the_call() {
        let set = facts(
            const {
                Spec {
                    usage: "SET key value [GET]",
                    keys: &[key("key", &[RW, ACCESS, UPDATE, VARIABLE_FLAGS]).refined(|argc, arg| match (3
                        ..argc)
                        .any(|i| arg(i).eq_ignore_ascii_case(b"get"))
                    {
                        true => RW | ACCESS | UPDATE,
                        false => OW | UPDATE,
                    })],
                    ..BASE
                }
            },
        );
        let access =
            |words: &[&'static str]| set.keys_of(words.len(), &|i| words[i].as_bytes()).unwrap()[0].access;
        assert_eq!(access(&["set", "get", "get"]), OW | UPDATE);
        assert_eq!(access(&["set", "k", "v", "GET"]), RW | ACCESS | UPDATE);
    }

    #[test]
    fn channels_are_routed_but_are_no_keys() {
        let publish = facts(
            const {
                Spec {
                    usage: "SPUBLISH shardchannel message",
                    keys: &[key("shardchannel", &[NOT_KEY])],
                    ..BASE
                }
            },
        );
        assert!(!publish.has_keys());
        assert_eq!(keys(&publish, "spublish c m"), Ok(vec![]));
        let words: [&[u8]; 3] = [b"spublish", b"c", b"m"];
        let mut routed = vec![];
        publish.each_key(3, &|i| words[i], true, &mut |key| routed.push(key.index)).unwrap();
        assert_eq!(routed, [1]);
    }

    #[test]
    fn channels_that_rules_have_to_allow() {
        let publish =
            facts(const { Spec { usage: "PUBLISH channel message", channels: channel("channel"), ..BASE } });
        let found = publish.channels.unwrap();
        assert_eq!((found.indices(3), found.patterns), (1..2, false));
        let listen = facts(
            const { Spec { usage: "PSUBSCRIBE pattern...", channels: channel_pattern("pattern"), ..BASE } },
        );
        let found = listen.channels.unwrap();
        assert_eq!((found.indices(4), found.patterns), (1..4, true));
        assert!(Facts::of(&const { Spec { usage: "X y", channels: channel("z"), ..BASE } }).is_err());
    }

    #[test]
    fn rows_that_contradict_themselves_are_refused() {
        const LONG: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ.ABCDEFGHIJKLMNOPQRSTUVWXYZ.ABCDEFGHIJK key";
        const ROWS: [Spec; 10] = [
            Spec { usage: LONG, ..BASE },
            Spec { usage: "G\0T key", ..BASE },
            Spec { usage: "GÉT key", ..BASE },
            Spec { usage: "V:GET key", ..BASE },
            Spec { usage: "V.GET key", arity: Some(-1), ..BASE },
            Spec { usage: "V.GET key", arity: Some(1), ..BASE },
            Spec { usage: "V.GET", flags: &[CONTAINER], arity: Some(-1), ..BASE },
            Spec { usage: "GET key", keys: &[key("kee", &[RO])], ..BASE },
            Spec { usage: "GET [a] key", keys: &[key("key", &[RO])], ..BASE },
            Spec { usage: "GET key", ages: &[added("NX", "1.0.0")], ..BASE },
        ];
        for spec in ROWS {
            assert!(Facts::of(&spec).is_err(), "{}", spec.usage);
        }
    }

    #[test]
    fn a_function_may_find_where_keys_begin() {
        fn behind_count<'a>(argc: usize, arg: &dyn Fn(usize) -> &'a [u8]) -> Option<usize> {
            (2..argc).find(|&index| arg(index) == b"KEYS").map(|index| index + 1)
        }
        let facts = facts(
            const {
                Spec {
                    usage: "COUNTALL name KEYS key...",
                    keys: &[key("key", &[RO])
                        .at(Begin::Keyword("KEYS", 1), Find::Range { last: -1, step: 1, limit: 0 })
                        .located(behind_count)],
                    ..BASE
                }
            },
        );
        assert_eq!(keys(&facts, "COUNTALL KEYS KEYS a b"), Ok(vec![3, 4]));
        assert_eq!(keys(&facts, "COUNTALL KEYS a b"), Ok(vec![]));
    }

    #[test]
    fn a_key_may_be_found_by_a_function() {
        fn last_behind_to<'a>(argc: usize, arg: &dyn Fn(usize) -> &'a [u8]) -> Option<usize> {
            (2..argc - 1).rev().find(|&index| arg(index) == b"TO").map(|index| index + 1)
        }
        let facts = facts(
            const {
                Spec {
                    usage: "COPYALL from [TO to]",
                    keys: &[
                        key("from", &[RO]),
                        key("to", &[OW]).at(Begin::Unknown, Find::Unknown).located(last_behind_to),
                    ],
                    ..BASE
                }
            },
        );
        assert_eq!(keys(&facts, "COPYALL a"), Ok(vec![1]));
        assert_eq!(keys(&facts, "COPYALL a TO b TO c"), Ok(vec![1, 5]));
        assert!(facts.flags.has(flags::MOVABLEKEYS));
    }
}
