//! Removing elements by place or content: LTRIM, LREM.

use mortise_sdk::Result;
use mortise_sdk::declare::flags::*;
use mortise_sdk::declare::{DELETE, RW, Spec, key};

use super::value::List;
use super::{End, LIST};
use crate::engine::call::Call;
use crate::features::Command;

/// This file's commands.
pub(super) const COMMANDS: &[Command] = &[LTRIM, LREM];

const LTRIM: Command = Spec {
    usage: "LTRIM key start:int stop:int",
    about: "Removes all elements of a list but a range.",
    since: "1.0.0",
    cost: "O(log(N)), N being the elements; what is removed is freed in the background",
    flags: &[WRITE],
    keys: &[key("key", &[RW, DELETE])],
    ..LIST
}
.runs(ltrim);

fn ltrim(call: &mut Call<'_>) -> Result {
    let (first, last) = (call.integer(2)?, call.integer(3)?);
    if let Some(mut list) = call.edit::<List>(call.key(1))? {
        let len = list.view().len();
        let kept = list.view().range(first, last);
        if kept.is_empty() {
            list.remove(0..len);
        } else {
            list.remove(kept.end..len);
            list.remove(0..kept.start);
        }
        // Also if there was nothing to remove.
        list.changed("ltrim");
    }
    call.ok()
}

const LREM: Command = Spec {
    usage: "LREM key count:int element",
    about: "Removes elements that are the same as another: the first ones, the last ones if `count` is negative, or all \
            if it is 0.",
    since: "1.0.0",
    cost: "O(N), N being the elements",
    flags: &[WRITE],
    keys: &[key("key", &[RW, DELETE])],
    ..LIST
}
.runs(lrem);

fn lrem(call: &mut Call<'_>) -> Result {
    let count = call.integer(2)?;
    let element = call.arg(3);
    let end = if count < 0 { End::Right } else { End::Left };
    let most = match count {
        0 => usize::MAX,
        count => usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX),
    };
    let mut removed = 0;
    if let Some(mut list) = call.edit::<List>(call.key(1))? {
        removed = list.remove_same(element, most, end);
        if removed > 0 {
            list.changed("lrem");
        }
    }
    call.reply(removed)
}
