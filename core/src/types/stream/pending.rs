//! What is pending in a consumer group: XPENDING.

use mortise_sdk::declare::flags::*;
use mortise_sdk::declare::{ACCESS, RO, Spec, added, key};
use mortise_sdk::{Result, args, error};

use super::STREAM;
use super::claims::no_group;
use super::group::{Group, Pending};
use super::id::StreamId;
use super::ranges::write_id;
use super::value::Stream;
use crate::engine::call::Call;
use crate::features::Command;
use crate::resp::output::Output;

/// This file's commands.
pub(super) const COMMANDS: &[Command] = &[XPENDING];

const XPENDING: Command = Spec {
    usage: "XPENDING key group filters=[[IDLE min-idle-time:int] start end count:int [consumer]]",
    about: "Tells what was delivered to a consumer group and not acknowledged: a summary, or entry by entry.",
    since: "5.0.0",
    cost: "O(log(N) + M), N being the entries pending and M those looked at; O(C) for the summary, C being the consumers",
    flags: &[READONLY],
    keys: &[key("key", &[RO, ACCESS])],
    tips: &["nondeterministic_output"],
    history: &[("6.2.0", "`IDLE`, and bounds that are excluded.")],
    ages: &[added("IDLE", "6.2.0")],
    ..STREAM
}
.runs(xpending);

/// Which pending entries are asked for.
struct Filter<'a> {
    min_idle_ms: i64,
    from: StreamId,
    to: StreamId,
    count: usize,
    consumer: Option<&'a [u8]>,
}

impl<'a> Filter<'a> {
    fn parse(call: &Call<'a>) -> Result<Option<Filter<'a>>> {
        let argc = call.argc();
        if argc == 3 {
            return Ok(None);
        }
        if !(6..=9).contains(&argc) {
            return Err(error::SYNTAX);
        }
        let (mut at, mut min_idle_ms) = (3, 0);
        if call.arg(3).eq_ignore_ascii_case(b"IDLE") {
            min_idle_ms = call.integer(4)?;
            if argc < 8 {
                return Err(error::SYNTAX);
            }
            at = 5;
        }
        let count = args::parse_integer(call.arg(at + 2)).ok_or(error::NOT_INTEGER)?;
        Ok(Some(Filter {
            min_idle_ms,
            from: StreamId::parse_start(call.arg(at))?,
            to: StreamId::parse_end(call.arg(at + 1))?,
            count: usize::try_from(count).unwrap_or(0),
            consumer: call.args().get(at + 3),
        }))
    }
}

fn xpending(call: &mut Call<'_>) -> Result {
    let (key, name, now_ms) = (call.key(1), call.arg(2), call.now_ms());
    let filter = Filter::parse(call)?;
    let (stream, out) = call.read::<Stream>(key)?;
    let group = stream.and_then(|stream| stream.group(name)).ok_or_else(|| no_group(key, name))?;
    match filter {
        None => summary(out, group),
        Some(filter) => each(out, group, &filter, now_ms),
    }
    Ok(())
}

fn summary(out: &mut Output, group: &Group) {
    out.array(4);
    out.count(group.len());
    let Some((first, last)) = group.ends() else {
        out.null();
        out.null();
        out.null_array();
        return;
    };
    write_id(out, first);
    write_id(out, last);
    let busy = || group.consumers.iter().filter(|(_, consumer)| !consumer.pending.is_empty());
    out.array(busy().count());
    for (name, consumer) in busy() {
        out.array(2);
        out.bulk(name.bytes());
        out.bulk_integer(consumer.pending.len() as i64);
    }
}

fn each(out: &mut Output, group: &Group, filter: &Filter<'_>, now_ms: i64) {
    let mark = out.mark();
    let mut len = 0;
    let mut show = |id: StreamId, pending: &Pending| {
        if filter.min_idle_ms != 0 && !pending.is_idle_for(filter.min_idle_ms, now_ms) {
            return true;
        }
        if len == filter.count {
            return false;
        }
        len += 1;
        out.array(4);
        write_id(out, id);
        out.bulk(pending.consumer_name());
        out.integer(pending.idle_ms(now_ms));
        out.integer(pending.deliveries as i64);
        len < filter.count
    };
    if filter.count > 0 {
        match filter.consumer {
            None => {
                let range = group.up_from(&filter.from).take_while(|(id, _)| *id <= filter.to);
                range.map_while(|(id, pending)| show(id, pending).then_some(())).for_each(drop);
            }
            Some(consumer) => {
                let own = group.consumers.get(consumer);
                let range = own.into_iter().flat_map(|own| own.pending.up_from(filter.from));
                range
                    .take_while(|id| *id <= filter.to)
                    .filter_map(|id| Some((id, group.get(&id)?)))
                    .map_while(|(id, pending)| show(id, pending).then_some(()))
                    .for_each(drop);
            }
        }
    }
    out.array_before(mark, len);
}
