//! Configuration directives: one declaration each, from which follow the typed field, the parsing of
//! redis.conf and of the command line, CONFIG GET, SET and REWRITE, their errors, and the text of the default
//! redis.conf.
//!
//! ```
//! use mortise_sdk::config;
//! use mortise_sdk::declare::config::Bytes;
//!
//! config! {
//!     /// Limits of a shop.
//!     pub struct ShopConfig {
//!         /// How many customers may be inside at once.
//!         live max_customers | max_clients: u32 = 100, in 1..=10_000 => doors;
//!         /// How much the till may hold.
//!         fixed till_size: Bytes = Bytes(1 << 20);
//!     }
//! }
//!
//! let rows = ShopConfig::directives::<ShopConfig>();
//! let mut shop = ShopConfig::default();
//! assert_eq!((rows[0].name, rows[0].aliases), ("max-customers", &["max-clients"][..]));
//! (rows[0].set)(&mut shop, &["7"]).unwrap();
//! assert_eq!(shop.max_customers, 7);
//! let refused = (rows[0].set)(&mut shop, &["0"]);
//! assert_eq!(refused, Err("argument must be between 1 and 10000 inclusive".into()));
//! ```
//!
//! A declaration reads, with what is optional in brackets:
//!
//! ```text
//! access name [| alias ...]: Type = default [, in low..=high] [=> effect];
//! ```
//!
//! The directive's name is the field's, with `-` for `_`. The effect names what the server does after CONFIG
//! SET has changed the value; directives that share one let it happen once.

mod setting;
mod words;

pub use setting::{Bytes, BytesOrPercent, Kind, Limits, Octal, Setting};
pub use words::{quote, split_words, word};

/// Who may change a directive, and how visible it is: the first word of its declaration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// `live`: CONFIG SET changes it.
    Live,
    /// `fixed`: only the configuration at start sets it.
    Fixed,
    /// `protected`: live, if `enable-protected-configs` admits the caller.
    Protected,
    /// `secret`: live, and its value is kept out of logs.
    Secret,
    /// `hidden`: live, and shown by CONFIG GET only if asked for by its exact name.
    Hidden,
}

/// A directive that reads and writes `C`.
#[derive(Debug)]
pub struct Directive<C: 'static> {
    /// Its name in redis.conf.
    pub name: &'static str,
    /// Older names that mean the same.
    pub aliases: &'static [&'static str],
    /// Its documentation, a line of text per line.
    pub about: &'static str,
    /// Who may change it.
    pub access: Access,
    /// What it accepts.
    pub kind: Kind,
    /// The range it accepts, where the declaration narrows it.
    pub limits: Option<Limits>,
    /// Whether it takes several words.
    pub multiple: bool,
    /// Whether setting it to the value that it has takes effect: it names something whose contents may be others by now.
    pub volatile: bool,
    /// What the server does once CONFIG SET has changed it.
    pub on_change: Option<&'static str>,
    /// Its value as CONFIG GET shows it.
    pub get: fn(&C) -> String,
    /// Gives it a value, or says why not and leaves it as it was.
    pub set: fn(&mut C, &[&str]) -> Result<(), String>,
    /// What a further line of the same file does: for most settings it replaces the value as `set` does.
    pub add: fn(&mut C, &[&str]) -> Result<(), String>,
    /// What stands after its name in redis.conf, quoted, for each of its lines.
    pub lines: fn(&C) -> Vec<String>,
    /// The same for its default value.
    pub default: fn() -> Vec<String>,
}

/// Declares a struct of settings: its fields, its `Default`, and its table of directives.
///
/// `X::directives::<C>()` is the table for any `C` that holds an `X`: `C: AsRef<X> + AsMut<X>`, `X` itself
/// included.
#[macro_export]
macro_rules! config {
    (@access live) => { $crate::declare::config::Access::Live };
    (@access fixed) => { $crate::declare::config::Access::Fixed };
    (@access protected) => { $crate::declare::config::Access::Protected };
    (@access secret) => { $crate::declare::config::Access::Secret };
    (@access hidden) => { $crate::declare::config::Access::Hidden };
    (@name $name:ident) => {{
        const FIELD: &str = stringify!($name);
        const NAME: [u8; FIELD.len()] = $crate::declare::config::dashed(FIELD);
        $crate::declare::config::ascii(&NAME)
    }};
    (@limits) => { None };
    (@limits $low:literal $high:expr) => {
        Some($crate::declare::config::Limits { low: $low as i128, high: $high as i128 })
    };
    (@effect) => { None };
    (@effect $effect:ident) => { Some(stringify!($effect)) };
    (
        $(#[doc = $head:literal])*
        $vis:vis struct $Config:ident {
            $(
                $(#[doc = $doc:literal])+
                $access:ident $name:ident $(| $alias:ident)* : $Type:ty = $default:expr
                    $(, in $low:literal ..= $high:expr)? $(=> $effect:ident)? ;
            )*
        }
    ) => {
        $(#[doc = $head])*
        #[derive(Clone)]
        $vis struct $Config {
            $( $(#[doc = $doc])+ pub $name: $Type, )*
        }

        impl Default for $Config {
            fn default() -> Self {
                $Config { $( $name: $default, )* }
            }
        }

        impl AsRef<$Config> for $Config {
            fn as_ref(&self) -> &$Config {
                self
            }
        }

        impl AsMut<$Config> for $Config {
            fn as_mut(&mut self) -> &mut $Config {
                self
            }
        }

        const _: () = {
            // Carries the table, as a constant may depend on `C` only inside an `impl`. Paths are written out
            // and the name is odd, so that they hide no type of the declaration.
            struct __Table<C>(::std::marker::PhantomData<C>);

            impl<C: AsRef<$Config> + AsMut<$Config> + 'static> __Table<C> {
                const ROWS: &'static [$crate::declare::config::Directive<C>] = &[
                    $({
                        const LIMITS: Option<$crate::declare::config::Limits> =
                            $crate::config!(@limits $($low $high)?);
                        $crate::declare::config::Directive {
                            name: $crate::config!(@name $name),
                            aliases: &[$( $crate::config!(@name $alias) ),*],
                            about: concat!($($doc, "\n"),+),
                            access: $crate::config!(@access $access),
                            kind: <$Type as $crate::declare::config::Setting>::KIND,
                            limits: LIMITS,
                            multiple: <$Type as $crate::declare::config::Setting>::MULTIPLE,
                            volatile: <$Type as $crate::declare::config::Setting>::VOLATILE,
                            on_change: $crate::config!(@effect $($effect)?),
                            get: |c| {
                                $crate::declare::config::Setting::show(&AsRef::<$Config>::as_ref(c).$name)
                            },
                            set: |c, words| {
                                let value = &mut AsMut::<$Config>::as_mut(c).$name;
                                $crate::declare::config::Setting::set(value, words, LIMITS)
                            },
                            add: |c, words| {
                                let value = &mut AsMut::<$Config>::as_mut(c).$name;
                                $crate::declare::config::Setting::add(value, words, LIMITS)
                            },
                            lines: |c| {
                                $crate::declare::config::Setting::written(&AsRef::<$Config>::as_ref(c).$name)
                            },
                            default: || <$Type as $crate::declare::config::Setting>::written(&{ $default }),
                        }
                    },)*
                ];
            }

            impl $Config {
                /// The directives of this struct, for a `C` that holds it.
                $vis const fn directives<C>() -> &'static [$crate::declare::config::Directive<C>]
                where
                    C: AsRef<$Config> + AsMut<$Config> + 'static,
                {
                    __Table::<C>::ROWS
                }
            }
        };
    };
}

/// Declares an enum whose variants are words of a directive, the first of several being the one shown.
///
/// ```
/// mortise_sdk::setting_enum! {
///     /// How loud the server is.
///     pub enum Loudness {
///         /// Almost silent.
///         Quiet = "quiet" | "silent",
///         /// Talks.
///         Loud = "loud",
///     }
/// }
/// assert_eq!(Loudness::Quiet.name(), "quiet");
/// ```
#[macro_export]
macro_rules! setting_enum {
    (
        $(#[doc = $head:literal])*
        $vis:vis enum $Enum:ident {
            $( $(#[doc = $doc:literal])* $Variant:ident = $word:literal $(| $other:literal)* ),* $(,)?
        }
    ) => {
        $(#[doc = $head])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        $vis enum $Enum {
            $( $(#[doc = $doc])* $Variant, )*
        }

        impl $Enum {
            /// The word that stands for it in redis.conf.
            $vis const fn name(self) -> &'static str {
                match self {
                    $( $Enum::$Variant => $word, )*
                }
            }
        }

        impl $crate::declare::config::Setting for $Enum {
            const KIND: $crate::declare::config::Kind =
                $crate::declare::config::Kind::OneOf(&[$( $word $(, $other)* ),*]);

            fn parse(
                words: &[&str],
                _: Option<$crate::declare::config::Limits>,
            ) -> ::std::result::Result<Self, String> {
                if let [word] = words {
                    $(
                        if [$word $(, $other)*].iter().any(|name| name.eq_ignore_ascii_case(word)) {
                            return Ok($Enum::$Variant);
                        }
                    )*
                }
                Err(Self::KIND.refusal())
            }

            fn show(&self) -> String {
                self.name().to_owned()
            }
        }
    };
}

/// `name` with `-` for `_`: how a field becomes a directive.
#[doc(hidden)]
pub const fn dashed<const N: usize>(name: &str) -> [u8; N] {
    let name = name.as_bytes();
    let mut dashed = [0; N];
    let mut i = 0;
    while i < N {
        dashed[i] = if name[i] == b'_' { b'-' } else { name[i] };
        i += 1;
    }
    dashed
}

/// Bytes of a Rust identifier as text.
#[doc(hidden)]
pub const fn ascii(name: &'static [u8]) -> &'static str {
    match std::str::from_utf8(name) {
        Ok(name) => name,
        Err(_) => panic!("a directive's name is ASCII"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    crate::setting_enum! {
        /// Colours.
        enum Colour {
            /// Like blood.
            Red = "red" | "crimson",
            /// Like grass.
            Green = "green",
        }
    }

    crate::config! {
        /// Paint.
        struct PaintConfig {
            /// Its colour.
            /// Shown on the lid.
            live wall_colour: Colour = Colour::Green;
            /// Its thickness.
            live thickness | old_thickness: i32 = 3, in -1..=i32::MAX => repaint;
            /// Where it stands.
            fixed shelf: Option<String> = None;
            /// What the tin is for.
            secret note: String = String::from("a b");
            /// Rooms.
            hidden rooms: Vec<String> = vec!["hall".into()];
        }
    }

    /// A configuration of which paint is a part.
    #[derive(Default)]
    struct House {
        paint: PaintConfig,
    }

    impl AsRef<PaintConfig> for House {
        fn as_ref(&self) -> &PaintConfig {
            &self.paint
        }
    }

    impl AsMut<PaintConfig> for House {
        fn as_mut(&mut self) -> &mut PaintConfig {
            &mut self.paint
        }
    }

    fn row(name: &str) -> &'static Directive<House> {
        PaintConfig::directives().iter().find(|row| row.name == name).expect("declared")
    }

    #[test]
    fn a_row_says_what_was_declared() {
        let colour = row("wall-colour");
        assert_eq!(colour.about, " Its colour.\n Shown on the lid.\n");
        assert_eq!((colour.access, colour.kind), (Access::Live, Kind::OneOf(&["red", "crimson", "green"])));
        assert_eq!((colour.aliases, colour.on_change, colour.limits), (&[][..], None, None));

        let thickness = row("thickness");
        assert_eq!((thickness.aliases, thickness.on_change), (&["old-thickness"][..], Some("repaint")));
        assert_eq!(thickness.limits, Some(Limits { low: -1, high: i128::from(i32::MAX) }));
        assert_eq!((row("shelf").access, row("note").access), (Access::Fixed, Access::Secret));
        assert!(row("rooms").multiple && row("rooms").access == Access::Hidden);
    }

    #[test]
    fn a_row_reads_and_writes_its_field_alone() {
        let mut house = House::default();
        (row("wall-colour").set)(&mut house, &["Crimson"]).unwrap();
        assert_eq!(house.paint.wall_colour, Colour::Red);
        assert_eq!((row("wall-colour").get)(&house), "red");
        assert_eq!((row("thickness").get)(&house), "3");
    }

    #[test]
    fn a_refused_value_changes_nothing() {
        let mut house = House::default();
        let refused = (row("wall-colour").set)(&mut house, &["blue"]).unwrap_err();
        assert_eq!(refused, "argument(s) must be one of the following: red, crimson, green");
        assert_eq!(
            (row("thickness").set)(&mut house, &["-2"]).unwrap_err(),
            "argument must be between -1 and 2147483647 inclusive"
        );
        assert_eq!((row("thickness").set)(&mut house, &["1", "2"]).unwrap_err(), "wrong number of arguments");
        assert_eq!((house.paint.wall_colour, house.paint.thickness), (Colour::Green, 3));
    }

    #[test]
    fn lines_are_quoted_and_defaults_known() {
        let mut house = House::default();
        assert_eq!((row("note").default)(), [r#""a b""#]);
        assert_eq!((row("shelf").default)(), [""; 0]);
        (row("shelf").set)(&mut house, &["top \"left\""]).unwrap();
        assert_eq!((row("shelf").lines)(&house), [r#""top \"left\"""#]);
        (row("shelf").set)(&mut house, &[""]).unwrap();
        assert_eq!(house.paint.shelf, None);
        (row("rooms").set)(&mut house, &["hall", "bath room"]).unwrap();
        assert_eq!((row("rooms").lines)(&house), ["hall \"bath room\""]);
    }
}
