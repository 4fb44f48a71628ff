//! What a directive's value may be: how it is parsed, shown, and written into redis.conf.

use super::words::{quote, word};

/// A type that a directive can have.
///
/// Texts of refusals are Redis's, as CONFIG SET and the start of the server show them.
pub trait Setting: Clone + PartialEq + 'static {
    /// What it accepts, for documentation.
    const KIND: Kind;
    /// Whether it takes several words.
    const MULTIPLE: bool = false;
    /// Whether setting it to the value that it has takes effect, since the value names something (a file) whose contents
    /// may be others by now.
    const VOLATILE: bool = false;

    /// A value from the words after the directive's name: exactly one, unless it takes several.
    fn parse(words: &[&str], limits: Option<Limits>) -> Result<Self, String>;

    /// The value as CONFIG GET shows it.
    fn show(&self) -> String;

    /// Changes the value. Settings with parts may keep the parts that `words` do not name.
    fn set(&mut self, words: &[&str], limits: Option<Limits>) -> Result<(), String> {
        *self = Self::parse(words, limits)?;
        Ok(())
    }

    /// Changes the value by a further line of the same file.
    fn add(&mut self, words: &[&str], limits: Option<Limits>) -> Result<(), String> {
        self.set(words, limits)
    }

    /// What stands after the directive's name in redis.conf, for each line it needs; no line means "not set".
    fn written(&self) -> Vec<String> {
        vec![self.show()]
    }
}

/// The range of a number, of bytes, or of how many words there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The least value accepted.
    pub low: i128,
    /// The greatest value accepted.
    pub high: i128,
}

impl Limits {
    fn check(self, n: i128) -> Result<(), String> {
        if n < self.low || n > self.high {
            return Err(format!("argument must be between {} and {} inclusive", self.low, self.high));
        }
        Ok(())
    }
}

/// What a setting accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `yes` or `no`.
    YesNo,
    /// An integer.
    Integer,
    /// A floating-point number.
    Float,
    /// A number of bytes, with or without a unit.
    Memory,
    /// A number of bytes or a percentage.
    MemoryOrPercent,
    /// An octal number, such as permissions of a file.
    Octal,
    /// Any text.
    Text,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// Several words, described.
    Words(&'static str),
}

impl Kind {
    /// What is said of a word that is none of this kind.
    pub fn refusal(self) -> String {
        match self {
            Kind::YesNo => "argument must be 'yes' or 'no'".into(),
            Kind::Integer => "argument couldn't be parsed into an integer".into(),
            Kind::Float => "argument couldn't be parsed into a float".into(),
            Kind::Memory => "argument must be a memory value".into(),
            Kind::MemoryOrPercent => "argument must be a memory or percent value".into(),
            Kind::Octal => "argument couldn't be parsed as an octal number".into(),
            Kind::Text | Kind::Words(_) => WRONG_NUMBER.into(),
            Kind::OneOf(words) => format!("argument(s) must be one of the following: {}", words.join(", ")),
        }
    }
}

const WRONG_NUMBER: &str = "wrong number of arguments";

/// The only word there is.
fn single<'a>(words: &[&'a str]) -> Result<&'a str, String> {
    match words {
        [word] => Ok(word),
        _ => Err(WRONG_NUMBER.into()),
    }
}

impl Setting for bool {
    const KIND: Kind = Kind::YesNo;

    fn parse(words: &[&str], _: Option<Limits>) -> Result<Self, String> {
        match single(words)? {
            word if word.eq_ignore_ascii_case("yes") => Ok(true),
            word if word.eq_ignore_ascii_case("no") => Ok(false),
            _ => Err(Self::KIND.refusal()),
        }
    }

    fn show(&self) -> String {
        if *self { "yes" } else { "no" }.into()
    }
}

/// An integer in its one canonical form: no sign but `-`, no leading zeros, no spaces.
fn integer(word: &str) -> Option<i64> {
    let n: i64 = word.parse().ok()?;
    (n.to_string() == word).then_some(n)
}

macro_rules! integers {
    ($($Int:ty)*) => { $(
        impl Setting for $Int {
            const KIND: Kind = Kind::Integer;

            fn parse(words: &[&str], limits: Option<Limits>) -> Result<Self, String> {
                // Nothing beyond an i64 is accepted, whatever the type, as its users could not show it as a
                // signed integer.
                let high = (<$Int>::MAX as i128).min(i64::MAX as i128);
                let whole = Limits { low: <$Int>::MIN as i128, high };
                let n = integer(single(words)?).ok_or_else(|| Self::KIND.refusal())?;
                limits.unwrap_or(whole).check(i128::from(n))?;
                <$Int>::try_from(n).or_else(|_| whole.check(i128::from(n)).and(Err(Self::KIND.refusal())))
            }

            fn show(&self) -> String {
                self.to_string()
            }
        }
    )* };
}
integers!(i32 i64 u8 u16 u32 u64 usize);

impl Setting for f64 {
    const KIND: Kind = Kind::Float;

    fn parse(words: &[&str], limits: Option<Limits>) -> Result<Self, String> {
        let n: f64 = single(words)?.parse().map_err(|_| Self::KIND.refusal())?;
        if !n.is_finite() {
            return Err(Self::KIND.refusal());
        }
        match limits {
            Some(Limits { low, high }) if n < low as f64 || n > high as f64 => {
                Err(format!("argument must be between {low} and {high} inclusive"))
            }
            _ => Ok(n),
        }
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Setting for String {
    const KIND: Kind = Kind::Text;

    fn parse(words: &[&str], _: Option<Limits>) -> Result<Self, String> {
        single(words).map(str::to_owned)
    }

    fn show(&self) -> String {
        self.clone()
    }

    fn written(&self) -> Vec<String> {
        vec![quote(self.as_bytes())]
    }
}

/// A text that may be absent: the empty text unsets it.
impl Setting for Option<String> {
    const KIND: Kind = Kind::Text;

    fn parse(words: &[&str], _: Option<Limits>) -> Result<Self, String> {
        single(words).map(|word| (!word.is_empty()).then(|| word.to_owned()))
    }

    fn show(&self) -> String {
        self.clone().unwrap_or_default()
    }

    fn written(&self) -> Vec<String> {
        self.iter().map(|text| quote(text.as_bytes())).collect()
    }
}

/// Words; a single empty one means none. Limits bound how many there are.
impl Setting for Vec<String> {
    const KIND: Kind = Kind::Words("Several words.");
    const MULTIPLE: bool = true;

    fn parse(words: &[&str], limits: Option<Limits>) -> Result<Self, String> {
        let words = if words == [""] { &[] } else { words };
        let count = words.len() as i128;
        if limits.is_some_and(|limits| limits.check(count).is_err()) {
            return Err(WRONG_NUMBER.into());
        }
        Ok(words.iter().map(|word| (*word).to_owned()).collect())
    }

    fn show(&self) -> String {
        self.join(" ")
    }

    fn written(&self) -> Vec<String> {
        if self.is_empty() {
            return vec![quote(b"")];
        }
        vec![self.iter().map(|text| word(text.as_bytes())).collect::<Vec<_>>().join(" ")]
    }
}

/// A number of bytes: `100`, `1k` (1000), `1kb` (1024), `5mb`, `2g`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

impl Bytes {
    /// The number that `word` names. What is more than there can be is as much as there can be, so that it is refused by
    /// the limits of a directive, not for its form.
    pub fn from_word(word: &str) -> Option<Bytes> {
        let digits = word.bytes().take_while(u8::is_ascii_digit).count();
        let factor: u64 = match word[digits..].to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "k" => 1000,
            "kb" => 1 << 10,
            "m" => 1_000_000,
            "mb" => 1 << 20,
            "g" => 1_000_000_000,
            "gb" => 1 << 30,
            _ => return None,
        };
        if digits == 0 {
            return None;
        }
        Some(Bytes(word[..digits].parse().unwrap_or(u64::MAX).saturating_mul(factor)))
    }

    /// As short as redis.conf writes it: the largest unit that divides it.
    pub fn short(self) -> String {
        match self.0 {
            0 => "0".into(),
            n if n % (1 << 30) == 0 => format!("{}gb", n >> 30),
            n if n % (1 << 20) == 0 => format!("{}mb", n >> 20),
            n if n % (1 << 10) == 0 => format!("{}kb", n >> 10),
            n => n.to_string(),
        }
    }
}

impl Setting for Bytes {
    const KIND: Kind = Kind::Memory;

    fn parse(words: &[&str], limits: Option<Limits>) -> Result<Self, String> {
        let bytes = Bytes::from_word(single(words)?).ok_or_else(|| Self::KIND.refusal())?;
        limits.map_or(Ok(()), |limits| limits.check(i128::from(bytes.0)))?;
        Ok(bytes)
    }

    fn show(&self) -> String {
        self.0.to_string()
    }

    fn written(&self) -> Vec<String> {
        vec![self.short()]
    }
}

/// A number of bytes, or a share of something else: `5%`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BytesOrPercent {
    /// A number of bytes.
    Bytes(u64),
    /// A percentage, at most 100.
    Percent(u8),
}

impl Setting for BytesOrPercent {
    const KIND: Kind = Kind::MemoryOrPercent;

    fn parse(words: &[&str], limits: Option<Limits>) -> Result<Self, String> {
        let word = single(words)?;
        if let Some(bytes) = Bytes::from_word(word) {
            limits.map_or(Ok(()), |limits| limits.check(i128::from(bytes.0)))?;
            return Ok(BytesOrPercent::Bytes(bytes.0));
        }
        match word.strip_suffix('%').and_then(integer) {
            Some(percent @ 0..=100) => Ok(BytesOrPercent::Percent(percent as u8)),
            Some(101..) => Err("percentage argument must be less or equal to 100".into()),
            _ => Err(Self::KIND.refusal()),
        }
    }

    fn show(&self) -> String {
        match self {
            BytesOrPercent::Bytes(bytes) => bytes.to_string(),
            BytesOrPercent::Percent(percent) => format!("{percent}%"),
        }
    }

    fn written(&self) -> Vec<String> {
        match self {
            BytesOrPercent::Bytes(bytes) => Bytes(*bytes).written(),
            BytesOrPercent::Percent(_) => vec![self.show()],
        }
    }
}

/// An octal number: permissions of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Octal(pub u32);

impl Setting for Octal {
    const KIND: Kind = Kind::Octal;

    fn parse(words: &[&str], limits: Option<Limits>) -> Result<Self, String> {
        let n = i64::from_str_radix(single(words)?, 8).map_err(|_| Self::KIND.refusal())?;
        let Limits { low, high } = limits.unwrap_or(Limits { low: 0, high: i128::from(u32::MAX) });
        match u32::try_from(n) {
            Ok(mode) if (low..=high).contains(&i128::from(mode)) => Ok(Octal(mode)),
            _ => Err(format!("argument must be between {low:o} and {high:o} inclusive")),
        }
    }

    fn show(&self) -> String {
        format!("{:o}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused<T: Setting + std::fmt::Debug>(word: &str, limits: Option<Limits>) -> String {
        T::parse(&[word], limits).unwrap_err()
    }

    #[test]
    fn yes_and_no_in_any_case() {
        assert_eq!(bool::parse(&["YES"], None), Ok(true));
        assert_eq!(bool::parse(&["no"], None), Ok(false));
        assert_eq!(refused::<bool>("1", None), "argument must be 'yes' or 'no'");
    }

    #[test]
    fn integers_are_canonical_and_bounded() {
        assert_eq!(u16::parse(&["65535"], None), Ok(65535));
        assert_eq!(refused::<u16>("65536", None), "argument must be between 0 and 65535 inclusive");
        assert_eq!(refused::<u16>("-1", None), "argument must be between 0 and 65535 inclusive");
        for word in ["01", "+1", " 1", "1 ", "", "abc", "-0", "1.0", "9223372036854775808"] {
            assert_eq!(refused::<u64>(word, None), "argument couldn't be parsed into an integer", "{word:?}");
        }
        assert_eq!(usize::parse(&["9223372036854775807"], None), Ok(i64::MAX as usize));
        let wide = Some(Limits { low: -5, high: 1000 });
        assert_eq!(
            refused::<u8>("300", wide),
            "argument must be between 0 and 255 inclusive",
            "limits wider than the type"
        );
    }

    #[test]
    fn memory_has_decimal_and_binary_units() {
        for (word, bytes) in
            [("0", 0), ("1b", 1), ("1k", 1000), ("1KB", 1024), ("2M", 2_000_000), ("3mb", 3 << 20)]
        {
            assert_eq!(Bytes::parse(&[word], None), Ok(Bytes(bytes)), "{word}");
        }
        assert_eq!(Bytes::parse(&["1g"], None), Ok(Bytes(1_000_000_000)));
        for word in ["18446744073709551615", "18446744073709551616", "18446744073709551615gb"] {
            assert_eq!(Bytes::parse(&[word], None), Ok(Bytes(u64::MAX)), "{word}");
        }
        for word in ["", "kb", "-1", "1x", "1kbb", "1.5mb", "1é"] {
            assert_eq!(refused::<Bytes>(word, None), "argument must be a memory value", "{word:?}");
        }
        let limits = Some(Limits { low: 1 << 20, high: i64::MAX.into() });
        assert_eq!(
            refused::<Bytes>("1k", limits),
            "argument must be between 1048576 and 9223372036854775807 inclusive"
        );
        assert_eq!(
            refused::<Bytes>("18446744073709551616", limits),
            "argument must be between 1048576 and 9223372036854775807 inclusive"
        );
    }

    #[test]
    fn memory_is_shown_in_full_and_written_short() {
        assert_eq!(Bytes(100 << 20).show(), "104857600");
        assert_eq!(Bytes(100 << 20).written(), ["100mb"]);
        assert_eq!(Bytes(1000).written(), ["1000"]);
        assert_eq!(Bytes(3 << 10).written(), ["3kb"]);
    }

    #[test]
    fn a_percentage_is_at_most_a_hundred() {
        assert_eq!(BytesOrPercent::parse(&["5%"], None), Ok(BytesOrPercent::Percent(5)));
        assert_eq!(BytesOrPercent::parse(&["5mb"], None), Ok(BytesOrPercent::Bytes(5 << 20)));
        assert_eq!(
            refused::<BytesOrPercent>("101%", None),
            "percentage argument must be less or equal to 100"
        );
        assert_eq!(refused::<BytesOrPercent>("-5%", None), "argument must be a memory or percent value");
        assert_eq!(refused::<BytesOrPercent>("%", None), "argument must be a memory or percent value");
    }

    #[test]
    fn permissions_are_octal() {
        let limits = Some(Limits { low: 0, high: 0o777 });
        assert_eq!(Octal::parse(&["770"], limits), Ok(Octal(0o770)));
        assert_eq!(Octal(0o770).show(), "770");
        assert_eq!(refused::<Octal>("8", limits), "argument couldn't be parsed as an octal number");
        assert_eq!(refused::<Octal>("1000", limits), "argument must be between 0 and 777 inclusive");
        assert_eq!(refused::<Octal>("-1", limits), "argument must be between 0 and 777 inclusive");
    }
}
