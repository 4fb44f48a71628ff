//! ZPOPMIN, ZPOPMAX, ZMPOP, and the three that wait: BZPOPMIN, BZPOPMAX, BZMPOP.

use mortise_sdk::declare::flags::*;
use mortise_sdk::declare::{ACCESS, DELETE, RW, Spec, key};
use mortise_sdk::{Result, error};

use super::SORTED_SET;
use super::value::Zset;
use crate::engine::call::{Call, Key, Options};
use crate::features::Command;
use crate::types::popping::{self, ManyKeys, at_least, pop_first, pop_or_wait};

/// This file's commands.
pub(super) const COMMANDS: &[Command] = &[ZPOPMIN, ZPOPMAX, ZMPOP, BZPOPMIN, BZPOPMAX, BZMPOP];

/// From which end members are popped.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Min,
    Max,
}

impl End {
    fn event(self) -> &'static str {
        match self {
            End::Min => "zpopmin",
            End::Max => "zpopmax",
        }
    }
}

impl popping::End for End {
    fn parse(options: &mut Options<'_>) -> Result<End> {
        if options.takes("MIN") {
            Ok(End::Min)
        } else if options.takes("MAX") {
            Ok(End::Max)
        } else {
            Err(error::SYNTAX)
        }
    }

    fn pop_command(self) -> &'static [u8] {
        match self {
            End::Min => b"ZPOPMIN",
            End::Max => b"ZPOPMAX",
        }
    }
}

/// How popped members are answered.
#[derive(Clone, Copy)]
struct Form {
    /// The key stands in front.
    key: bool,
    /// Each member is paired with its score.
    pairs: bool,
}

impl Form {
    const KEY_AND_PAIRS: Form = Form { key: true, pairs: true };
}

/// Pops up to `count` members from one key and answers with them. Says how many there were, none if there is no key.
fn pop(call: &mut Call<'_>, key: Key<'_>, end: End, count: usize, form: Form) -> Result<Option<usize>> {
    let (zset, out) = call.edit_replying::<Zset>(key)?;
    let Some(mut zset) = zset else { return Ok(None) };
    let len = zset.view().len();
    let popped = count.min(len);
    match form {
        Form { key: false, pairs: false } => out.array(popped * 2),
        Form { key: false, pairs: true } => out.array(popped),
        Form { key: true, pairs: false } => {
            out.array(popped * 2 + 1);
            out.bulk(key.bytes);
        }
        Form { key: true, pairs: true } => {
            out.array(2);
            out.bulk(key.bytes);
            out.array(popped);
        }
    }
    if popped == 0 {
        return Ok(Some(0));
    }
    let ranks = match end {
        End::Min => 0..popped,
        End::Max => len - popped..len,
    };
    for (score, member) in zset.view().slice(ranks.clone(), end == End::Max) {
        if form.pairs {
            out.array(2);
        }
        out.bulk(member);
        out.double(score);
    }
    zset.remove_ranks(ranks);
    zset.changed(end.event());
    Ok(Some(popped))
}

const ZPOPMIN: Command = Spec {
    usage: "ZPOPMIN key [count:int]",
    about: "Pops members with the lowest scores.",
    since: "5.0.0",
    cost: "O(M*log(N)), N being the members and M those popped",
    flags: &[WRITE, FAST],
    keys: &[key("key", &[RW, ACCESS, DELETE])],
    ..SORTED_SET
}
.runs(zpopmin);

fn zpopmin(call: &mut Call<'_>) -> Result {
    pop_one_key(call, End::Min)
}

const ZPOPMAX: Command = Spec {
    usage: "ZPOPMAX key [count:int]",
    about: "Pops members with the highest scores.",
    since: "5.0.0",
    cost: "O(M*log(N)), N being the members and M those popped",
    flags: &[WRITE, FAST],
    keys: &[key("key", &[RW, ACCESS, DELETE])],
    ..SORTED_SET
}
.runs(zpopmax);

fn zpopmax(call: &mut Call<'_>) -> Result {
    pop_one_key(call, End::Max)
}

fn pop_one_key(call: &mut Call<'_>, end: End) -> Result {
    if call.argc() > 3 {
        return Err(error::SYNTAX);
    }
    let counted = call.argc() == 3;
    let count = match counted {
        true => at_least(call.arg(2), 0, error::NOT_POSITIVE)?,
        false => 1,
    };
    let pairs = counted && call.out().is_resp3();
    if pop(call, call.key(1), end, count, Form { key: false, pairs })?.is_none() {
        call.out().array(0);
    }
    Ok(())
}

const ZMPOP: Command = Spec {
    usage: "ZMPOP numkeys:int key... where=<MIN | MAX> [COUNT count:int]",
    about: "Pops members with the lowest or highest scores from the first sorted set that has any.",
    since: "7.0.0",
    cost: "O(K) + O(M*log(N)), K being the keys, N the members and M those popped",
    flags: &[WRITE],
    keys: &[key("key", &[RW, ACCESS, DELETE])],
    ..SORTED_SET
}
.runs(zmpop);

fn zmpop(call: &mut Call<'_>) -> Result {
    let ManyKeys { keys, end, count } = ManyKeys::parse(call, 1)?;
    let pop = |call: &mut Call<'_>, key: Key<'_>| pop(call, key, end, count, Form::KEY_AND_PAIRS);
    if !pop_first(call, keys, end, true, pop)? {
        call.out().null_array();
    }
    Ok(())
}

const BZPOPMIN: Command = Spec {
    usage: "BZPOPMIN key... timeout:double",
    about: "Pops the member with the lowest score from the first sorted set that has any, or waits for one.",
    since: "5.0.0",
    cost: "O(log(N)), N being the members",
    flags: &[WRITE, NOSCRIPT, BLOCKING, FAST],
    keys: &[key("key", &[RW, ACCESS, DELETE])],
    history: &[("6.0.0", "`timeout` may have a fraction.")],
    ..SORTED_SET
}
.runs(bzpopmin);

fn bzpopmin(call: &mut Call<'_>) -> Result {
    pop_one_or_wait(call, End::Min)
}

const BZPOPMAX: Command = Spec {
    usage: "BZPOPMAX key... timeout:double",
    about: "Pops the member with the highest score from the first sorted set that has any, or waits for one.",
    since: "5.0.0",
    cost: "O(log(N)), N being the members",
    flags: &[WRITE, NOSCRIPT, BLOCKING, FAST],
    keys: &[key("key", &[RW, ACCESS, DELETE])],
    history: &[("6.0.0", "`timeout` may have a fraction.")],
    ..SORTED_SET
}
.runs(bzpopmax);

fn bzpopmax(call: &mut Call<'_>) -> Result {
    pop_one_or_wait(call, End::Max)
}

/// Pops one member from the first sorted set that has any, or waits until the time that the last argument tells.
fn pop_one_or_wait(call: &mut Call<'_>, end: End) -> Result {
    let last = call.argc() - 1;
    let timeout = call.timeout(last)?;
    let form = Form { key: true, pairs: false };
    pop_or_wait(call, 1..last, end, false, timeout, |call, key| pop(call, key, end, 1, form))
}

const BZMPOP: Command = Spec {
    usage: "BZMPOP timeout:double numkeys:int key... where=<MIN | MAX> [COUNT count:int]",
    about: "Pops members with the lowest or highest scores from the first sorted set that has any, or waits.",
    since: "7.0.0",
    cost: "O(K) + O(M*log(N)), K being the keys, N the members and M those popped",
    flags: &[WRITE, BLOCKING],
    keys: &[key("key", &[RW, ACCESS, DELETE])],
    ..SORTED_SET
}
.runs(bzmpop);

fn bzmpop(call: &mut Call<'_>) -> Result {
    let ManyKeys { keys, end, count } = ManyKeys::parse(call, 2)?;
    let timeout = call.timeout(1)?;
    pop_or_wait(call, keys, end, true, timeout, |call, key| pop(call, key, end, count, Form::KEY_AND_PAIRS))
}
