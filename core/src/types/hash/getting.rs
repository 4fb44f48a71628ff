//! Fields that are read or set together with what becomes of them: HGETEX, HSETEX, HGETDEL.

use mortise_sdk::declare::flags::*;
use mortise_sdk::declare::{ACCESS, DELETE, RW, Spec, UPDATE, key};
use mortise_sdk::error::{self, Result};
use mortise_sdk::resp::format_integer;

use super::HASH;
use super::deadlines::{fields, named_fields, propagate, propagate_deadline, propagate_persist};
use super::value::Hash;
use crate::engine::call::{Call, Key, Options};
use crate::engine::edit::Edit;
use crate::engine::event;
use crate::features::Command;
use crate::types::string::expiry::{Condition, Lifetime};

/// This file's commands.
pub(super) const COMMANDS: &[Command] = &[HGETDEL, HGETEX, HSETEX];

const HGETDEL: Command = Spec {
    usage: "HGETDEL key fields=<FIELDS numfields:int field...>",
    about: "Returns the values of fields of a hash and deletes them, and the hash with its last one.",
    since: "8.0.0",
    cost: "O(N), N being the fields named",
    flags: &[WRITE, FAST],
    keys: &[key("key", &[RW, ACCESS, DELETE])],
    ..HASH
}
.runs(hgetdel);

fn hgetdel(call: &mut Call<'_>) -> Result {
    let fields = named_fields(call)?;
    let done = answer(call, fields, "hdel", |hash, field, _| hash.remove(field))?;
    propagate(call, &[b"HDEL"], &done);
    Ok(())
}

/// Answers with the values of fields, each before it is changed. What changes a field knows its deadline, and says whether
/// it did change it. Names the event and returns the fields that were changed, if there were any.
fn answer<'c>(
    call: &mut Call<'c>,
    fields: Options<'c>,
    event: &'static str,
    mut change: impl FnMut(&mut Edit<'_, Hash>, &[u8], Option<i64>) -> bool,
) -> Result<Vec<&'c [u8]>> {
    let (hash, out) = call.edit_replying::<Hash>(call.key(1))?;
    out.array(fields.left());
    let mut changed = Vec::new();
    let Some(mut hash) = hash else {
        fields.for_each(|_| out.bulk_or_null(None));
        return Ok(changed);
    };
    for field in fields {
        let found = hash.view().get_with_deadline(field);
        out.bulk_or_null(found.map(|(value, _)| value));
        if let Some((_, deadline)) = found
            && change(&mut hash, field, deadline)
        {
            changed.push(field);
        }
    }
    if !changed.is_empty() {
        hash.changed(event);
    }
    Ok(changed)
}

const HGETEX: Command = Spec {
    usage: "HGETEX key [expiration=<EX seconds:int | PX milliseconds:int | EXAT unix-time-seconds:time | \
            PXAT unix-time-milliseconds:time | PERSIST>] fields=<FIELDS numfields:int field...>",
    about: "Returns the values of fields of a hash, and sets how long they live.",
    since: "8.0.0",
    cost: "O(N), N being the fields named",
    flags: &[WRITE, FAST],
    keys: &[key("key", &[RW, ACCESS, UPDATE])],
    ..HASH
}
.runs(hgetex);

fn hgetex(call: &mut Call<'_>) -> Result {
    let (mut options, mut lifetime) = (call.options(2), Lifetime::default());
    while !options.takes("FIELDS") {
        let accepted =
            if options.takes("PERSIST") { lifetime.persist() } else { lifetime.take_expiry(&mut options) };
        if !accepted {
            return Err(error::SYNTAX);
        }
    }
    let fields = fields(options, 1)?;
    let deadline = deadline(call, lifetime)?;
    let is_past = is_past(call, deadline);
    let Some(deadline) = deadline else {
        let persists = matches!(lifetime, Lifetime::Persist);
        let done = answer(call, fields, "hpersist", |hash, field, current| {
            if persists {
                hash.set_field_deadline(field, None);
            }
            persists && current.is_some()
        })?;
        propagate_persist(call, &done);
        return Ok(());
    };
    let event = if is_past { "hexpired" } else { "hexpire" };
    let done = answer(call, fields, event, |hash, field, _| {
        if is_past {
            return hash.remove(field);
        }
        hash.set_field_deadline(field, Some(deadline));
        true
    })?;
    propagate_deadline(call, deadline, is_past, &done);
    Ok(())
}

const HSETEX: Command = Spec {
    usage: "HSETEX key [key-condition=<NX | XX>] [condition=<FNX | FXX>] [expiration=<EX seconds:int | \
            PX milliseconds:int | EXAT unix-time-seconds:time | PXAT unix-time-milliseconds:time | KEEPTTL>] \
            fields=<FIELDS numfields:int <field value>...>",
    about: "Sets fields of a hash, and how long they live.",
    since: "8.0.0",
    cost: "O(N), N being the fields named",
    flags: &[WRITE, DENYOOM, FAST],
    keys: &[key("key", &[RW, UPDATE])],
    ..HASH
}
.runs(hsetex);

fn hsetex(call: &mut Call<'_>) -> Result {
    let SetOptions { of_key, of_fields, lifetime, pairs } = SetOptions::parse(call)?;
    let deadline = deadline(call, lifetime)?;
    let is_past = is_past(call, deadline);
    let keeps = matches!(lifetime, Lifetime::Keep);
    let number = pairs.left() / 2;
    let names = || pairs.clone().step_by(2);

    let key = call.key(1);
    let (hash, out) = call.edit_replying::<Hash>(key)?;
    let key_is_right = of_key.is_none_or(|of_key| hash.is_some() == (of_key == Condition::Present));
    let has = |field| hash.as_ref().is_some_and(|hash| hash.view().get(field).is_some());
    let fields_are_right = match of_fields {
        None => true,
        Some(Condition::Absent) => !names().any(has),
        Some(Condition::Present) => names().all(has),
    };
    drop(hash);
    out.integer(i64::from(key_is_right && fields_are_right));
    if !(key_is_right && fields_are_right) {
        return Ok(());
    }

    set(call, key, pairs.clone(), keeps, deadline.map(|deadline| (deadline, is_past)))?;

    if is_past {
        call.engine.unit.expired_parts += number as u64;
    }
    // Whether a condition holds depends on what has expired, which whoever follows does not know.
    if call.is_propagated() {
        let number = format_integer(number as i64);
        let words: Vec<&[u8]> = pairs.clone().collect();
        match deadline {
            Some(_) if is_past => propagate(call, &[b"HDEL"], &names().collect::<Vec<_>>()),
            Some(deadline) => {
                let deadline = format_integer(deadline);
                let said: [&[u8]; 5] =
                    [b"HSETEX", b"PXAT", deadline.as_bytes(), b"FIELDS", number.as_bytes()];
                propagate(call, &said, &words);
            }
            None if keeps => propagate(call, &[b"HSETEX", b"KEEPTTL", b"FIELDS", number.as_bytes()], &words),
            None => propagate(call, &[b"HSET"], &words),
        }
    }
    Ok(())
}

/// Sets fields. They keep their deadlines, or get one; if it has passed, they go at once.
fn set(
    call: &mut Call<'_>,
    key: Key<'_>,
    pairs: Options<'_>,
    keeps: bool,
    deadline: Option<(i64, bool)>,
) -> Result {
    let mut hash = call.create::<Hash>(key)?;
    let mut words = pairs.clone();
    while let (Some(field), Some(value)) = (words.next(), words.next()) {
        if keeps {
            hash.set_keeping_deadline(field, value);
        } else {
            hash.set(field, value);
        }
        if let Some((deadline, false)) = deadline {
            hash.set_field_deadline(field, Some(deadline));
        }
    }
    match deadline {
        None => hash.changed("hset"),
        Some((_, false)) => {
            hash.also_changed("hset", event::HASH);
            hash.changed("hexpire");
        }
        Some((_, true)) => {
            hash.also_changed("hset", event::HASH);
            hash.also_changed("hexpire", event::HASH);
            pairs.step_by(2).for_each(|field| {
                hash.remove(field);
            });
            hash.changed("hexpired");
        }
    }
    Ok(())
}

/// The options of HSETEX.
struct SetOptions<'a> {
    of_key: Option<Condition>,
    of_fields: Option<Condition>,
    lifetime: Lifetime<'a>,
    /// Fields and values in turn.
    pairs: Options<'a>,
}

impl<'a> SetOptions<'a> {
    fn parse(call: &Call<'a>) -> Result<SetOptions<'a>> {
        let (mut of_key, mut of_fields, mut lifetime) = (None, None, Lifetime::default());
        let mut options = call.options(2);
        while !options.takes("FIELDS") {
            let accepted = if options.takes("NX") {
                require(&mut of_key, Condition::Absent)
            } else if options.takes("XX") {
                require(&mut of_key, Condition::Present)
            } else if options.takes("FNX") {
                require(&mut of_fields, Condition::Absent)
            } else if options.takes("FXX") {
                require(&mut of_fields, Condition::Present)
            } else if options.takes("KEEPTTL") {
                lifetime.keep()
            } else {
                lifetime.take_expiry(&mut options)
            };
            if !accepted {
                return Err(error::SYNTAX);
            }
        }
        Ok(SetOptions { of_key, of_fields, lifetime, pairs: fields(options, 2)? })
    }
}

fn require(said: &mut Option<Condition>, condition: Condition) -> bool {
    let agrees = said.is_none_or(|said| said == condition);
    *said = Some(condition);
    agrees
}

/// The deadline that the options name.
fn deadline(call: &Call<'_>, lifetime: Lifetime<'_>) -> Result<Option<i64>> {
    match lifetime {
        Lifetime::Until(expiry) => expiry.deadline_or_now(call).map(Some),
        Lifetime::Unsaid | Lifetime::Keep | Lifetime::Persist => Ok(None),
    }
}

/// Whether a deadline has passed: the fields then go at once, unless a stream is replayed, which says itself what goes.
fn is_past(call: &Call<'_>, deadline: Option<i64>) -> bool {
    !call.caller().is_stream() && deadline.is_some_and(|deadline| deadline <= call.now_ms())
}
