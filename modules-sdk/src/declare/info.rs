//! INFO sections and fields, declared beside the numbers they show.

/// A section of INFO.
#[derive(Debug)]
pub struct Section<E: 'static> {
    /// Its name in lower case, as `INFO name` takes it.
    pub name: &'static str,
    /// Its fields, in the order shown.
    pub fields: &'static [Field<E>],
}

/// A line of INFO.
#[derive(Debug)]
pub struct Field<E: 'static> {
    /// The name before the colon.
    pub name: &'static str,
    /// One plain sentence.
    pub about: &'static str,
    /// Reads the value.
    pub read: fn(&E) -> Shown,
}

/// The value of a field.
#[derive(Debug, Clone, PartialEq)]
pub enum Shown {
    /// An integer.
    Int(i64),
    /// Anything else, as text.
    Text(String),
    /// A number with two decimals.
    Ratio(f64),
    /// The field is not shown at the moment.
    Hidden,
    /// Several lines that stand in place of this field.
    Lines(Vec<(String, String)>),
}

macro_rules! shown_from_integer {
    ($($t:ty)*) => { $(impl From<$t> for Shown { fn from(n: $t) -> Shown { Shown::Int(n as i64) } })* };
}
shown_from_integer!(i64 u64 i32 u32 u16 usize bool);

impl From<String> for Shown {
    fn from(text: String) -> Shown {
        Shown::Text(text)
    }
}

impl From<&str> for Shown {
    fn from(text: &str) -> Shown {
        Shown::Text(text.to_owned())
    }
}
