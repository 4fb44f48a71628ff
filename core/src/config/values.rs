//! Settings with a form of their own: buffer limits, event classes, save points, addresses, percentiles, the
//! clock.

use mortise_sdk::args::parse_float;
use mortise_sdk::declare::config::{Bytes, Kind, Limits, Setting};

/// `client-output-buffer-limit`: how much may wait to be sent to a client before it is disconnected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutputBufferLimits {
    /// Ordinary clients.
    pub normal: BufferLimit,
    /// Replicas.
    pub replica: BufferLimit,
    /// Clients with subscriptions.
    pub pubsub: BufferLimit,
}

/// The limit of one class of clients. A zero means no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BufferLimit {
    /// A client is disconnected at once when this many bytes wait.
    pub hard: u64,
    /// A client is disconnected when this many bytes wait …
    pub soft: u64,
    /// … for this many seconds on end.
    pub soft_seconds: u64,
}

impl Default for OutputBufferLimits {
    fn default() -> Self {
        OutputBufferLimits {
            normal: BufferLimit { hard: 0, soft: 0, soft_seconds: 0 },
            replica: BufferLimit { hard: 256 << 20, soft: 64 << 20, soft_seconds: 60 },
            pubsub: BufferLimit { hard: 32 << 20, soft: 8 << 20, soft_seconds: 60 },
        }
    }
}

impl OutputBufferLimits {
    /// The smallest limit of any class, below which no backlog has to be looked at.
    pub fn smallest(&self) -> u64 {
        let all =
            [self.normal, self.replica, self.pubsub].into_iter().flat_map(|limit| [limit.hard, limit.soft]);
        all.filter(|bytes| *bytes > 0).min().unwrap_or(u64::MAX)
    }
}

impl Setting for OutputBufferLimits {
    const KIND: Kind =
        Kind::Words("<normal | replica | pubsub> hard-limit soft-limit soft-seconds, for one class or more.");
    const MULTIPLE: bool = true;

    fn parse(words: &[&str], _: Option<Limits>) -> Result<Self, String> {
        let (classes, []) = words.as_chunks::<4>() else {
            return Err("Wrong number of arguments in buffer limit configuration.".into());
        };
        let mut limits = OutputBufferLimits::default();
        for [class, hard, soft, seconds] in classes {
            let class = match class.to_ascii_lowercase().as_str() {
                "normal" => &mut limits.normal,
                "replica" | "slave" => &mut limits.replica,
                "pubsub" => &mut limits.pubsub,
                _ => return Err("Invalid client class specified in buffer limit configuration.".into()),
            };
            let (Some(Bytes(hard)), Some(Bytes(soft)), Ok(soft_seconds)) =
                (Bytes::from_word(hard), Bytes::from_word(soft), seconds.parse())
            else {
                return Err(
                    "Error in hard, soft or soft_seconds setting in buffer limit configuration.".into()
                );
            };
            *class = BufferLimit { hard, soft, soft_seconds };
        }
        Ok(limits)
    }

    /// Classes that are not named keep their limits.
    fn set(&mut self, words: &[&str], limits: Option<Limits>) -> Result<(), String> {
        let named = Self::parse(words, limits)?;
        for class in words.iter().step_by(4) {
            match class.to_ascii_lowercase().as_str() {
                "normal" => self.normal = named.normal,
                "pubsub" => self.pubsub = named.pubsub,
                _ => self.replica = named.replica,
            }
        }
        Ok(())
    }

    /// Here Redis still says `slave`, as its clients expect.
    fn show(&self) -> String {
        let class = |name, limit: &BufferLimit| {
            format!("{name} {} {} {}", limit.hard, limit.soft, limit.soft_seconds)
        };
        [class("normal", &self.normal), class("slave", &self.replica), class("pubsub", &self.pubsub)]
            .join(" ")
    }

    fn written(&self) -> Vec<String> {
        let line = |name, limit: &BufferLimit| {
            format!(
                "{name} {} {} {}",
                Bytes(limit.hard).short(),
                Bytes(limit.soft).short(),
                limit.soft_seconds
            )
        };
        vec![line("normal", &self.normal), line("replica", &self.replica), line("pubsub", &self.pubsub)]
    }
}

/// `notify-keyspace-events`: which key changes are published, and on which channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EventClasses(pub u16);

impl EventClasses {
    /// `K`: publish on `__keyspace@<db>__:<key>`.
    pub const KEYSPACE: EventClasses = EventClasses(1 << 0);
    /// `E`: publish on `__keyevent@<db>__:<event>`.
    pub const KEYEVENT: EventClasses = EventClasses(1 << 1);
    /// `g`: commands of no one type, such as DEL and EXPIRE.
    pub const GENERIC: EventClasses = EventClasses(1 << 2);
    /// `$`: strings.
    pub const STRING: EventClasses = EventClasses(1 << 3);
    /// `l`: lists.
    pub const LIST: EventClasses = EventClasses(1 << 4);
    /// `s`: sets.
    pub const SET: EventClasses = EventClasses(1 << 5);
    /// `h`: hashes.
    pub const HASH: EventClasses = EventClasses(1 << 6);
    /// `z`: sorted sets.
    pub const ZSET: EventClasses = EventClasses(1 << 7);
    /// `x`: keys that expire.
    pub const EXPIRED: EventClasses = EventClasses(1 << 8);
    /// `e`: keys evicted for lack of memory.
    pub const EVICTED: EventClasses = EventClasses(1 << 9);
    /// `t`: streams.
    pub const STREAM: EventClasses = EventClasses(1 << 10);
    /// `m`: look-ups of keys that do not exist; not part of `A`.
    pub const KEY_MISS: EventClasses = EventClasses(1 << 11);
    /// `d`: values of modules.
    pub const MODULE: EventClasses = EventClasses(1 << 12);
    /// `n`: keys that come into being; not part of `A`.
    pub const NEW: EventClasses = EventClasses(1 << 13);
    /// `A`: all of `g$lshzxetd`.
    pub const ALL: EventClasses = EventClasses(0b1_0111_1111_1100);

    /// Whether any class of `other` is in `self`.
    pub const fn any(self, other: EventClasses) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether every class of `other` is in `self`.
    pub const fn has(self, other: EventClasses) -> bool {
        self.0 & other.0 == other.0
    }

    /// In the order in which Redis shows them, those that `A` stands for first.
    const LETTERS: [(char, EventClasses); 14] = [
        ('g', Self::GENERIC),
        ('$', Self::STRING),
        ('l', Self::LIST),
        ('s', Self::SET),
        ('h', Self::HASH),
        ('z', Self::ZSET),
        ('x', Self::EXPIRED),
        ('e', Self::EVICTED),
        ('t', Self::STREAM),
        ('d', Self::MODULE),
        ('n', Self::NEW),
        ('K', Self::KEYSPACE),
        ('E', Self::KEYEVENT),
        ('m', Self::KEY_MISS),
    ];
}

impl Setting for EventClasses {
    const KIND: Kind = Kind::Words("Letters out of Ag$lshzxeKEtmdn; none turns notifications off.");

    fn parse(words: &[&str], _: Option<Limits>) -> Result<Self, String> {
        let [letters] = words else {
            return Err("wrong number of arguments".into());
        };
        let mut classes = EventClasses::default();
        for letter in letters.chars() {
            let named = Self::LETTERS.iter().find(|(known, _)| *known == letter).map(|(_, class)| *class);
            match named.or((letter == 'A').then_some(Self::ALL)) {
                Some(class) => classes.0 |= class.0,
                None => return Err("Invalid event class character. Use 'Ag$lshzxeKEtmdn'.".into()),
            }
        }
        Ok(classes)
    }

    fn show(&self) -> String {
        let mut text = String::new();
        let mut hidden = EventClasses::default();
        if self.has(Self::ALL) {
            text.push('A');
            // Redis shows no `n` beside `A`; here it is shown, so that what CONFIG GET says can be set again.
            hidden = Self::ALL;
        }
        let shown = Self::LETTERS.iter().filter(|(_, class)| self.has(*class) && !hidden.has(*class));
        text.extend(shown.map(|(letter, _)| *letter));
        text
    }

    fn written(&self) -> Vec<String> {
        vec![format!("\"{}\"", self.show())]
    }
}

/// `save`: a snapshot is taken when so many seconds have passed and so many changes were made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavePoints(pub Vec<SavePoint>);

/// One of the conditions of `save`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SavePoint {
    /// Seconds since the last snapshot.
    pub seconds: u32,
    /// Changes since then.
    pub changes: u32,
}

impl SavePoints {
    /// Those that there are if nobody says otherwise.
    pub fn usual() -> SavePoints {
        let point = |(seconds, changes)| SavePoint { seconds, changes };
        SavePoints([(3600, 1), (300, 100), (60, 10_000)].map(point).into())
    }
}

impl Setting for SavePoints {
    const KIND: Kind = Kind::Words("Pairs of seconds and changes; \"\" means never.");
    const MULTIPLE: bool = true;

    fn parse(words: &[&str], _: Option<Limits>) -> Result<Self, String> {
        let invalid = || String::from("Invalid save parameters");
        let words = if words == [""] { &[] } else { words };
        let (pairs, []) = words.as_chunks::<2>() else {
            return Err(invalid());
        };
        let point = |[seconds, changes]: &[&str; 2]| {
            let (seconds, changes) = (seconds.parse().ok()?, changes.parse().ok()?);
            (seconds >= 1).then_some(SavePoint { seconds, changes })
        };
        let points: Option<Vec<_>> = pairs.iter().map(point).collect();
        points.map(SavePoints).ok_or_else(invalid)
    }

    /// Lines of one file add up, and an empty one forgets those before it.
    fn add(&mut self, words: &[&str], limits: Option<Limits>) -> Result<(), String> {
        let more = Self::parse(words, limits)?;
        match more.0.is_empty() {
            true => self.0.clear(),
            false => self.0.extend(more.0),
        }
        Ok(())
    }

    fn show(&self) -> String {
        let points: Vec<_> = self.0.iter().map(|p| format!("{} {}", p.seconds, p.changes)).collect();
        points.join(" ")
    }

    fn written(&self) -> Vec<String> {
        match self.0.as_slice() {
            [] => vec!["\"\"".into()],
            points => points.iter().map(|p| format!("{} {}", p.seconds, p.changes)).collect(),
        }
    }
}

/// `bind`: the addresses listened on. One that begins with `-` may be unavailable; `*` and `::*` are all of a
/// family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addresses(pub Vec<String>);

impl Addresses {
    /// Every interface, of IPv6 too where there is any.
    pub fn everywhere() -> Addresses {
        Addresses(vec!["*".into(), "-::*".into()])
    }

    const MOST: usize = 16;
}

impl Setting for Addresses {
    const KIND: Kind = Kind::Words("Addresses; a leading - allows one to be unavailable.");
    const MULTIPLE: bool = true;

    fn parse(words: &[&str], limits: Option<Limits>) -> Result<Self, String> {
        if words.len() > Self::MOST {
            return Err("Too many bind addresses specified.".into());
        }
        Vec::parse(words, limits).map(Addresses)
    }

    fn show(&self) -> String {
        self.0.show()
    }

    fn written(&self) -> Vec<String> {
        self.0.written()
    }
}

/// `oom-score-adj-values`: a score for each kind of process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OomScores(pub [i32; 3]);

impl Setting for OomScores {
    const KIND: Kind = Kind::Words("Three numbers from -2000 to 2000: of a primary, a replica and a child.");
    const MULTIPLE: bool = true;

    fn parse(words: &[&str], _: Option<Limits>) -> Result<Self, String> {
        let Ok(words) = <[&str; 3]>::try_from(words) else { return Err(Kind::Text.refusal()) };
        let mut scores = [0; 3];
        for (score, word) in scores.iter_mut().zip(words) {
            *score = word
                .parse()
                .ok()
                .filter(|score| (-2000..=2000).contains(score))
                .ok_or("Invalid oom-score-adj-values, elements must be between -2000 and 2000.")?;
        }
        if !scores.is_sorted() {
            tracing::warn!("The values of oom-score-adj-values do not rise.");
        }
        Ok(OomScores(scores))
    }

    fn show(&self) -> String {
        self.0.map(|score| score.to_string()).join(" ")
    }

    fn written(&self) -> Vec<String> {
        vec![self.show()]
    }
}

/// `latency-tracking-info-percentiles`: which percentiles INFO shows.
#[derive(Debug, Clone, PartialEq)]
pub struct Percentiles(pub Vec<f64>);

impl Setting for Percentiles {
    const KIND: Kind = Kind::Words("Percentiles from 0 to 100; \"\" means none.");
    const MULTIPLE: bool = true;

    fn parse(words: &[&str], _: Option<Limits>) -> Result<Self, String> {
        let words = if words == [""] { &[] } else { words };
        let percentile = |word: &&str| match parse_float(word.as_bytes()) {
            Some(n) if (0.0..=100.0).contains(&n) => Ok(n),
            Some(_) => {
                Err("latency-tracking-info-percentiles parameters should sit between [0.0,100.0]".to_owned())
            }
            None => Err("Invalid latency-tracking-info-percentiles parameters".to_owned()),
        };
        words.iter().map(percentile).collect::<Result<_, _>>().map(Percentiles)
    }

    fn show(&self) -> String {
        let text = |n: &f64| format!("{n:.6}").trim_end_matches('0').trim_end_matches('.').to_owned();
        self.0.iter().map(text).collect::<Vec<_>>().join(" ")
    }

    fn written(&self) -> Vec<String> {
        vec![if self.0.is_empty() { "\"\"".into() } else { self.show() }]
    }
}

/// `hz`: how often a second the clock ticks. More a hint than an order: it is kept between 1 and 500.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hertz(pub u32);

impl Setting for Hertz {
    const KIND: Kind = Kind::Integer;

    fn parse(words: &[&str], limits: Option<Limits>) -> Result<Self, String> {
        let wide = Limits { low: 0, high: i128::from(i32::MAX) };
        u32::parse(words, Some(limits.unwrap_or(wide))).map(|n| Hertz(n.clamp(1, 500)))
    }

    fn show(&self) -> String {
        self.0.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set<T: Setting>(value: &mut T, text: &str) -> Result<String, String> {
        value.set(&text.split(' ').collect::<Vec<_>>(), None)?;
        Ok(value.show())
    }

    #[test]
    fn buffer_limits_change_class_by_class() {
        let mut limits = OutputBufferLimits::default();
        assert_eq!(limits.show(), "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60");
        let shown = set(&mut limits, "slave 1mb 1k 5");
        assert_eq!(shown, Ok("normal 0 0 0 slave 1048576 1000 5 pubsub 33554432 8388608 60".into()));
        assert_eq!(limits.written(), ["normal 0 0 0", "replica 1mb 1000 5", "pubsub 32mb 8mb 60"]);
        let before = limits;
        for (text, refusal) in [
            ("normal 0 0", "Wrong number of arguments in buffer limit configuration."),
            ("normal 1 1 1 master 1mb 1k 5", "Invalid client class specified in buffer limit configuration."),
            ("normal 0 x 0", "Error in hard, soft or soft_seconds setting in buffer limit configuration."),
            ("normal 0 0 -1", "Error in hard, soft or soft_seconds setting in buffer limit configuration."),
        ] {
            assert_eq!(set(&mut limits, text), Err(refusal.into()), "{text}");
        }
        assert_eq!(limits, before);
    }

    #[test]
    fn event_classes_are_shown_in_canonical_order() {
        let mut classes = EventClasses::default();
        assert_eq!(set(&mut classes, "KEA"), Ok("AKE".into()));
        assert_eq!(set(&mut classes, "mnKg$"), Ok("g$nKm".into()));
        assert_eq!(set(&mut classes, "Eg$lshzxetd"), Ok("AE".into()));
        assert_eq!(set(&mut classes, ""), Ok(String::new()));
        assert_eq!(
            set(&mut classes, "KQ"),
            Err("Invalid event class character. Use 'Ag$lshzxeKEtmdn'.".into())
        );
        let of_all = "g$lshzxetd".chars().map(|c| c.to_string());
        let all = of_all.map(|c| EventClasses::parse(&[&c], None).unwrap().0).fold(0, |a, b| a | b);
        assert_eq!(EventClasses(all), EventClasses::ALL);
    }

    #[test]
    fn save_points_of_a_file_add_up() {
        let mut points = SavePoints(vec![]);
        assert_eq!(set(&mut points, "3600 1 300 100"), Ok("3600 1 300 100".into()));
        points.add(&["60", "10000"], None).unwrap();
        assert_eq!(points.written(), ["3600 1", "300 100", "60 10000"]);
        points.add(&[""], None).unwrap();
        assert_eq!(points.written(), ["\"\""]);
        for text in ["1", "0 1", "1 -1", "a b", "1 2 3"] {
            assert_eq!(set(&mut points, text), Err("Invalid save parameters".into()), "{text}");
        }
    }

    #[test]
    fn addresses_are_at_most_sixteen() {
        let mut addresses = Addresses::everywhere();
        assert_eq!(addresses.show(), "* -::*");
        assert_eq!(set(&mut addresses, "127.0.0.1 -::1"), Ok("127.0.0.1 -::1".into()));
        assert_eq!(
            set(&mut addresses, &["1"; 17].join(" ")),
            Err("Too many bind addresses specified.".into())
        );
        assert_eq!(set(&mut addresses, ""), Ok(String::new()));
        assert_eq!(addresses.written(), ["\"\""]);
    }

    #[test]
    fn the_clock_ticks_at_a_sane_rate() {
        let mut hz = Hertz(10);
        assert_eq!(set(&mut hz, "0"), Ok("1".into()));
        assert_eq!(set(&mut hz, "100000"), Ok("500".into()));
        assert_eq!(set(&mut hz, "-1"), Err("argument must be between 0 and 2147483647 inclusive".into()));
    }

    #[test]
    fn percentiles_are_shown_without_trailing_zeros() {
        let mut percentiles = Percentiles(vec![]);
        assert_eq!(set(&mut percentiles, "50.0 99 99.9"), Ok("50 99 99.9".into()));
        assert_eq!(set(&mut percentiles, "100 0"), Ok("100 0".into()));
        let between = "latency-tracking-info-percentiles parameters should sit between [0.0,100.0]";
        assert_eq!(set(&mut percentiles, "50 101"), Err(between.into()));
        for text in ["50 x", "nan"] {
            assert_eq!(
                set(&mut percentiles, text),
                Err("Invalid latency-tracking-info-percentiles parameters".into())
            );
        }
    }
}
