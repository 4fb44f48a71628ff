//! Walks over all keys: KEYS, SCAN.

use mortise_sdk::Result;
use mortise_sdk::declare::flags::*;
use mortise_sdk::declare::{Spec, added, category};
use mortise_sdk::resp::encode;

use crate::engine::call::{Call, Key};
use crate::features::Command;
use crate::types::AnyRef;
use crate::types::scan_options::{self, ScanOptions};

const GENERIC: Spec = Spec::group("generic");

/// This file's commands.
pub(super) const COMMANDS: &[Command] = &[KEYS, SCAN];

const KEYS: Command = Spec {
    usage: "KEYS pattern:pattern",
    about: "Returns all keys that match a pattern.",
    cost: "O(N), N being the keys of the database",
    flags: &[READONLY],
    categories: &[category::DANGEROUS],
    tips: &["request_policy:all_shards", "nondeterministic_output_order"],
    ..GENERIC
}
.runs(keys);

fn keys(call: &mut Call<'_>) -> Result {
    let (pattern, now_ms) = (call.arg(1), call.now_ms());
    let (mut found, mut bulks) = (0, Vec::new());
    for entry in call.db().0.dict().iter() {
        let expired = entry.deadline().is_some_and(|deadline| deadline <= now_ms);
        if !expired && scan_options::matches(pattern, entry.key()) {
            encode::bulk(&mut bulks, entry.key());
            found += 1;
        }
    }
    call.out().array(found);
    call.out().raw(&bulks);
    Ok(())
}

const SCAN: Command = Spec {
    usage: "SCAN cursor:int [MATCH pattern:pattern] [COUNT count:int] [TYPE type]",
    about: "Walks over the keys of the database, some in each call.",
    since: "2.8.0",
    cost: "O(1) a call, O(N) for all N keys",
    flags: &[READONLY],
    tips: &["nondeterministic_output", "request_policy:special"],
    history: &[("6.0.0", "Option `TYPE`.")],
    ages: &[added("TYPE", "6.0.0")],
    ..GENERIC
}
.runs(scan);

fn scan(call: &mut Call<'_>) -> Result {
    let cursor = scan_options::parse_cursor(call.arg(1))?;
    let mut type_name = None;
    let options = ScanOptions::parse_among(call.options(2), |options| {
        let value = options.takes_value("TYPE");
        type_name = value.or(type_name);
        value.is_some()
    })?;
    let now_ms = call.now_ms();
    let (mut found, mut bulks, mut expired) = (0, Vec::new(), Vec::<Box<[u8]>>::new());
    let next = call.db().0.dict().scan(cursor, options.count, |entry| {
        let key = entry.key();
        if !options.admits(key) {
            return;
        }
        if entry.deadline().is_some_and(|deadline| deadline <= now_ms) {
            expired.push(key.into());
            return;
        }
        let name = || AnyRef::of(entry).type_name().as_bytes();
        if type_name.is_none_or(|wanted| wanted.eq_ignore_ascii_case(name())) {
            encode::bulk(&mut bulks, key);
            found += 1;
        }
    });
    // Looking at them lets them go.
    for key in &expired {
        call.exists(Key::new(key));
    }
    call.says_apart();
    let out = call.out();
    out.array(2);
    out.bulk(next.to_string().as_bytes());
    out.array(found);
    out.raw(&bulks);
    Ok(())
}
