//! What becomes of the members that a command has found: they are answered or stored.

use mortise_sdk::Result;

use super::value::{Built, Zset};
use crate::engine::call::Call;
use crate::keyspace::entry::{Kind, NewValue};
use crate::resp::output::Output;

/// Answers with `len` members. Their scores stand behind them in RESP2, and are paired with them in RESP3.
pub(super) fn answer<'a>(
    out: &mut Output,
    len: usize,
    members: impl Iterator<Item = (f64, &'a [u8])>,
    with_scores: bool,
) {
    let paired = with_scores && out.is_resp3();
    out.array(if with_scores && !paired { len * 2 } else { len });
    for (score, member) in members {
        if paired {
            out.array(2);
        }
        out.bulk(member);
        if with_scores {
            out.double(score);
        }
    }
}

/// Stores a sorted set under the key at an index and answers with its size. An empty one removes the key.
pub(super) fn store(call: &mut Call<'_>, index: usize, built: Option<Built>, event: &'static str) -> Result {
    let key = call.key(index);
    let Some(built) = built.filter(|built| built.len > 0) else {
        call.remove(key, "del");
        return call.reply(0_i64);
    };
    match built.object {
        Some(object) => call.put::<Zset>(key, NewValue::Object(object), false).changed(event),
        None => call.put::<Zset>(key, NewValue::Bytes(Kind::PackedZset, &built.packed), false).changed(event),
    }
    call.reply(built.len)
}
