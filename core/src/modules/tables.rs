//! What a module declares, as the server has it: its commands' declarations and its directives. A wrong row is refused.

use mortise_sdk::abi::{self, Form};
use mortise_sdk::declare::config::{Access, word};
use mortise_sdk::declare::flags::{self, Flags};
use mortise_sdk::declare::{Category, KeyUse, Spec, keys};

use super::border::{Failure, Table, text};
use crate::config::External;

/// Flags that a module's command may have; the others are the server's own.
const FLAGS: Flags = Flags::all(&[
    flags::WRITE,
    flags::READONLY,
    flags::DENYOOM,
    flags::ADMIN,
    flags::PUBSUB,
    flags::NOSCRIPT,
    flags::LOADING,
    flags::STALE,
    flags::SKIP_MONITOR,
    flags::SKIP_SLOWLOG,
    flags::FAST,
    flags::NO_MANDATORY_KEYS,
    flags::NO_MULTI,
    flags::ALLOW_BUSY,
    flags::CONTAINER,
]);

/// The declaration of a command as the server has it. Its lists live for ever, as the library does: it is asked for once.
pub(super) fn spec(row: &abi::CommandRow<'static>) -> std::result::Result<Spec, String> {
    let usage = text(row.usage)?;
    let wrong = |what: &str| Err(format!("brings a wrong command: {what} in '{usage}'"));
    if row.flags & !FLAGS.0 != 0 {
        return wrong("flags that are the server's own");
    }
    if Flags(row.flags).has(flags::WRITE | flags::READONLY) {
        return wrong("both WRITE and READONLY");
    }
    if row.categories & !Category::ALL.0 != 0 {
        return wrong("unknown categories");
    }
    let mut key_uses: Vec<KeyUse> = Vec::new();
    for key in row.keys.get() {
        let access = u16::try_from(key.access).ok().filter(|access| access & !keys::Access::ALL.0 == 0);
        let Some(access) = access else { return wrong("an unknown use of keys") };
        key_uses.push(keys::key(text(key.arg)?, &[keys::Access(access)]));
    }
    let tips = row.tips.get().iter().map(|tip| text(*tip)).collect::<std::result::Result<Vec<_>, _>>()?;
    Ok(Spec {
        usage,
        about: text(row.about)?,
        since: text(row.since)?,
        cost: text(row.cost)?,
        flags: vec![Flags(row.flags)].leak(),
        keys: key_uses.leak(),
        categories: vec![Category(row.categories)].leak(),
        arity: (row.arity != 0).then_some(row.arity),
        tips: tips.leak(),
        ..Spec::group(text(row.group)?)
    })
}

/// A directive of a module.
pub(super) struct GuestDirective {
    name: String,
    access: Access,
    multiple: bool,
    table: Table,
    place: u32,
}

impl GuestDirective {
    /// The directive at a place of a module's table.
    pub(super) fn new(
        module: &str,
        table: Table,
        place: u32,
        row: &abi::DirectiveRow<'static>,
    ) -> std::result::Result<GuestDirective, String> {
        let name = text(row.name)?;
        let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if name.is_empty() || !name.bytes().all(is_plain) {
            return Err(format!("brings a directive with the wrong name '{name}'"));
        }
        let access = match row.access {
            0 => Access::Live,
            1 => Access::Fixed,
            2 => Access::Protected,
            3 => Access::Secret,
            4 => Access::Hidden,
            _ => return Err(format!("brings the directive '{name}' with an unknown access")),
        };
        let multiple = row.multiple != 0;
        Ok(GuestDirective { name: format!("{module}.{name}"), access, multiple, table, place })
    }

    fn show(&self, form: Form) -> std::result::Result<String, String> {
        self.table.show(self.place, form).map_err(because)
    }

    fn written(&self, form: Form) -> std::result::Result<Vec<String>, String> {
        Ok(self.show(form)?.lines().map(str::to_owned).collect())
    }
}

fn because(failure: Failure) -> String {
    match failure {
        Failure::Error(reason) => reason,
        Failure::Panicked => "the module panicked".to_owned(),
    }
}

impl External for GuestDirective {
    fn name(&self) -> &str {
        &self.name
    }

    fn access(&self) -> Access {
        self.access
    }

    fn get(&self) -> std::result::Result<String, String> {
        self.show(Form::SHOWN)
    }

    fn set(&self, value: &str) -> std::result::Result<(), String> {
        self.table.set(self.place, value).map_err(because)
    }

    fn set_words(&self, words: &[&str]) -> std::result::Result<(), String> {
        if !self.multiple {
            return self.set(&words.join(" "));
        }
        let words: Vec<_> = words.iter().map(|text| word(text.as_bytes())).collect();
        self.set(&words.join(" "))
    }

    fn kept(&self) -> std::result::Result<String, String> {
        if self.multiple { Ok(self.lines()?.join(" ")) } else { self.get() }
    }

    fn lines(&self) -> std::result::Result<Vec<String>, String> {
        self.written(Form::WRITTEN)
    }

    fn default_lines(&self) -> std::result::Result<Vec<String>, String> {
        self.written(Form::DEFAULT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mortise_sdk::abi::{CommandRow, KeyRow, List, Slice};

    const FINE: CommandRow<'static> = CommandRow {
        usage: Slice::text("X.GET key"),
        about: Slice::text("Gets."),
        since: Slice::text("1.0.0"),
        cost: Slice::text("O(1)"),
        group: Slice::text("x"),
        flags: flags::READONLY.0,
        categories: 1,
        arity: 0,
        keys: List::new(&[]),
        tips: List::new(&[]),
    };

    #[test]
    fn rows_with_unknown_bits_are_refused() {
        assert!(spec(&FINE).is_ok());
        for flag in [flags::NO_AUTH, flags::MODULE, Flags(1 << 60)] {
            let refusal = spec(&CommandRow { flags: flag.0, ..FINE }).map(|_| ()).unwrap_err();
            assert_eq!(refusal, "brings a wrong command: flags that are the server's own in 'X.GET key'");
        }
        let both = flags::READONLY | flags::WRITE;
        assert!(spec(&CommandRow { flags: both.0, ..FINE }).is_err());
        let categories = Category::ALL.0;
        assert!(spec(&CommandRow { categories, ..FINE }).is_ok());
        let refusal = spec(&CommandRow { categories: categories + 1, ..FINE }).map(|_| ()).unwrap_err();
        assert_eq!(refusal, "brings a wrong command: unknown categories in 'X.GET key'");
        for (access, is_known) in
            [(1, true), (u32::from(keys::Access::ALL.0), true), (1 << 11, false), (1 << 16, false)]
        {
            let rows = vec![KeyRow { arg: Slice::text("key"), access }].leak();
            let spec = spec(&CommandRow { keys: List::new(rows), ..FINE });
            assert_eq!(spec.is_ok(), is_known, "{access:#x}");
        }
        let text = b"X.GET \xff";
        assert!(spec(&CommandRow { usage: Slice::new(text), ..FINE }).is_err());
    }
}
