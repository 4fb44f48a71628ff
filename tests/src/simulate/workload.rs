//! What clients say while the power is still on: commands of all types on a few keys of some databases, so that they meet.

use mortise_core::engine::random::Random;

/// Databases that are used.
pub(super) const DATABASES: usize = 6;

/// A request, as its words.
pub(super) type Words = Vec<Vec<u8>>;

/// A request, as it is written here: words between spaces, of which some stand for something random.
///
/// `@s` a string's key, and so `@h @l @t @z @x` for hashes, lists, sets, sorted sets and streams; `@k` any key; `#` a small
/// number, `~` a word, `$` a longer text, `%` a moment some seconds from now, `^` another database.
const LINES: &[&str] = &[
    "SET @s ~",
    "SET @s $",
    "SET @s # PX #00",
    "SETRANGE @s # ~",
    "APPEND @s ~",
    "INCR n#",
    "INCRBYFLOAT n# 0.#",
    "GETDEL @s",
    "GETEX @s PXAT %",
    "MSET @s ~ @s ~ @s $",
    "DEL @k @k",
    "UNLINK @k",
    "PEXPIREAT @k %",
    "PEXPIRE @k #00",
    "PERSIST @k",
    "RENAME @l @l",
    "COPY @k copy# REPLACE",
    "MOVE @k ^",
    "RPUSH @l ~ ~ #",
    "LPUSH @l $",
    "LPOP @l",
    "RPOPLPUSH @l @l",
    "LINSERT @l BEFORE # ~",
    "LTRIM @l 0 20",
    "LREM @l 0 #",
    "HSET @h ~ ~ # $",
    "HDEL @h # ~",
    "HINCRBY @h # #",
    "HINCRBYFLOAT @h f# 0.#",
    "HPEXPIREAT @h % FIELDS 1 #",
    "HPERSIST @h FIELDS 1 #",
    "SADD @t # ~ #",
    "SREM @t #",
    "SPOP @t",
    "SPOP @t 2",
    "SMOVE @t @t #",
    "SINTERSTORE t9 @t @t",
    "ZADD @z # ~ # #",
    "ZINCRBY @z 0.# #",
    "ZPOPMIN @z",
    "ZREMRANGEBYSCORE @z 0 #",
    "ZUNIONSTORE z9 2 @z @z",
    "XADD @x * field ~ other #",
    "XADD @x MAXLEN 10 * field ~",
    "XTRIM @x MAXLEN 5",
    "XGROUP CREATE @x g 0 MKSTREAM",
    "XREADGROUP GROUP g c# COUNT 3 STREAMS @x >",
    "XAUTOCLAIM @x g c# 0 0 COUNT 2",
    "XGROUP DELCONSUMER @x g c#",
    "PFADD pf# ~ ~ ~",
    "SETBIT bits# # 1",
    "SORT @l ALPHA STORE l9",
    "SELECT ^",
    "SELECT ^",
    "SELECT ^",
    "SWAPDB ^ ^",
    "FLUSHDB",
];

/// Scripts: each is a whole, whatever it does.
const SCRIPTS: &[&str] = &[
    "redis.call('INCR', KEYS[1]) redis.call('RPUSH', KEYS[2], ARGV[1]) redis.call('SADD', KEYS[3], ARGV[1])",
    "local v = redis.call('SPOP', KEYS[3]) if v then redis.call('RPUSH', KEYS[2], v) end",
    "redis.call('SET', KEYS[1], ARGV[1], 'PX', 700) redis.call('DEL', KEYS[2]) return redis.call('TIME')",
    "redis.call('SET', KEYS[1], ARGV[1]) redis.call('LPUSH', KEYS[1], 'x')",
];

/// Draws requests.
pub(super) struct Workload {
    random: Random,
    /// Keys of each type, in each database.
    pub(super) keys: usize,
    /// Bytes of a longer text.
    pub(super) text_len: usize,
}

impl Workload {
    pub(super) fn new(seed: u64) -> Workload {
        let mut random = Random::new(seed);
        let keys = 2 + random.below(6);
        // Now and then a file is more than one write.
        let text_len = if random.below(6) == 0 { 30_000 } else { 100 };
        Workload { random, keys, text_len }
    }

    /// What is said at one go: a request, a transaction, a script.
    pub(super) fn next(&mut self, now_ms: i64) -> Vec<Words> {
        match self.random.below(20) {
            0 => {
                let begin = vec![b"MULTI".to_vec()];
                let end = if self.random.below(8) == 0 { "DISCARD" } else { "EXEC" };
                let between = 1 + self.random.below(5);
                let mut requests = vec![begin];
                requests.extend((0..between).map(|_| self.request(now_ms)));
                requests.push(vec![end.into()]);
                requests
            }
            1 => vec![self.script()],
            _ => vec![self.request(now_ms)],
        }
    }

    fn script(&mut self) -> Words {
        let script = SCRIPTS[self.random.below(SCRIPTS.len())];
        let (string, list, set) = (self.key("n"), self.key("l"), self.key("t"));
        let value = self.random.below(20).to_string();
        [b"EVAL".to_vec(), script.into(), b"3".to_vec(), string, list, set, value.into()].into()
    }

    fn request(&mut self, now_ms: i64) -> Words {
        let line = LINES[self.random.below(LINES.len())];
        line.split(' ').map(|word| self.word(word, now_ms)).collect()
    }

    fn key(&mut self, kind: &str) -> Vec<u8> {
        format!("{kind}{}", self.random.below(self.keys)).into()
    }

    fn word(&mut self, word: &str, now_ms: i64) -> Vec<u8> {
        const KINDS: [&str; 7] = ["s", "h", "l", "t", "z", "x", "n"];
        match word {
            "@k" => {
                let kind = KINDS[self.random.below(KINDS.len())];
                self.key(kind)
            }
            "~" => format!("w{}", self.random.below(30)).into(),
            "$" => self.text(),
            "%" => (now_ms + self.random.below(20_000) as i64 - 3_000).to_string().into(),
            "^" => self.random.below(DATABASES).to_string().into(),
            _ if word.starts_with('@') => self.key(&word[1..]),
            _ => {
                let number = self.random.below(12).to_string();
                word.replace('#', &number).into()
            }
        }
    }

    /// A text that cannot be compressed.
    fn text(&mut self) -> Vec<u8> {
        let len = self.random.below(self.text_len);
        (0..len.div_ceil(8)).flat_map(|_| self.random.word().to_le_bytes()).take(len).collect()
    }
}
