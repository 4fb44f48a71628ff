//! DEBUG: for tests and experts.

use std::time::Duration;

use mortise_sdk::declare::Spec;
use mortise_sdk::declare::config::Bytes;
use mortise_sdk::declare::flags::*;
use mortise_sdk::resp::encode;
use mortise_sdk::{Error, Result, args, error};

use super::digest;
use crate::engine::call::{Call, Key};
use crate::engine::event::EventClass;
use crate::features::Command;
use crate::keyspace::{Entry, Payload};
use crate::types;
use crate::types::string::value::{Str, stored};

const SERVER: Spec = Spec::group("server");

/// This file's commands.
pub(super) const COMMANDS: &[Command] = &[DEBUG];

const DEBUG: Command = Spec {
    usage: "DEBUG",
    about: "Commands for tests of the server.",
    cost: "depends on the subcommand",
    flags: &[ADMIN, NOSCRIPT, LOADING, STALE, NEEDS_DEBUG, SYSCMD],
    arity: Some(-2),
    ..SERVER
}
.runs(debug);

fn debug(call: &mut Call<'_>) -> Result {
    let word = call.arg(1).to_ascii_lowercase();
    match (&word[..], call.argc()) {
        (b"help", 2) => help(call),
        (b"digest", 2) => {
            let digest = digest::of_space(&call.engine.keyspace, call.session.space);
            call.out().simple(&digest::hex(digest));
            Ok(())
        }
        (b"digest-value", _) => digest_value(call),
        (b"error", 3) => {
            let error = Error::text(call.arg(2));
            call.out().error(&error);
            Ok(())
        }
        (b"aof-flush-sleep", 3) => {
            let us = u64::try_from(leading_integer(call.arg(2))).unwrap_or(0);
            call.engine.journal.write_delay = Duration::from_micros(us);
            call.ok()
        }
        (b"log", 3) => {
            tracing::warn!("DEBUG LOG: {}", String::from_utf8_lossy(call.arg(2)));
            call.ok()
        }
        (b"object", 3) => object(call),
        (b"pause-cron", 3) => {
            call.engine.cron_paused = leading_integer(call.arg(2)) != 0;
            call.ok()
        }
        (b"populate", 3..=5) => populate(call),
        (b"protocol", 3) => protocol(call),
        (b"loadaof", 2) => loadaof(call),
        (b"reload", _) => reload(call),
        (b"replicate", 3..) => {
            let words: Vec<&[u8]> = call.args().iter().skip(2).collect();
            call.engine.replication.tell(&words);
            call.ok()
        }
        (b"change-repl-id", 2) => {
            tracing::info!("Changing replication IDs after receiving change-repl-id");
            call.engine.forget_stream_names();
            call.ok()
        }
        (b"set-skip-checksum-validation", 3) => {
            call.engine.skips_checksums = leading_integer(call.arg(2)) != 0;
            call.ok()
        }
        (b"quicklist-packed-threshold", 3) => packed_threshold(call),
        (b"config-rewrite-force-all", 2) => super::config::rewrite_file(call, true),
        // Reply buffers are those of their thread, and are not resized.
        (b"replybuffer", 4) => call.ok(),
        (b"set-active-expire", 3) => {
            call.engine.active_expire = leading_integer(call.arg(2)) != 0;
            call.ok()
        }
        (b"set-disable-deny-scripts", 3) => {
            call.engine.scripting.may_debug = leading_integer(call.arg(2)) != 0;
            call.ok()
        }
        (b"sleep", 3) => sleep(call),
        _ => Err(call.misused()),
    }
}

fn help(call: &mut Call<'_>) -> Result {
    call.help(&[
        ("AOF-FLUSH-SLEEP <microseconds>", "Wait so long before each write to the append-only file, with everybody."),
        ("CHANGE-REPL-ID", "Give the stream of changes another name, so that no replica can go on where it is."),
        ("CONFIG-REWRITE-FORCE-ALL", "Write all directives into the configuration file, whether it names them or not."),
        ("DIGEST", "Return a signature of all data in hexadecimal digits."),
        ("DIGEST-VALUE <key> [<key> ...]", "Return a signature of each key's value."),
        ("ERROR <text>", "Answer with this error."),
        ("LOADAOF", "Write the append-only file to the end, and make all data of it anew."),
        ("LOG <text>", "Write a line to the log."),
        ("OBJECT <key>", "Show how a value is kept."),
        ("PAUSE-CRON <0|1>", "Stop what is done from time to time, or go on with it."),
        (
            "POPULATE <count> [<prefix>] [<size>]",
            "Create strings under the keys \"key:0\", \"key:1\" … or with another prefix. They\nare not propagated.",
        ),
        (
            "PROTOCOL <type>",
            "Answer with a reply of a type: string, integer, double, bignum, null, array,\nset, map, attrib, push, \
             verbatim, true or false.",
        ),
        (
            "RELOAD [NOFLUSH] [MERGE] [NOSAVE]",
            "Save all data, and load the file. With NOSAVE the file is loaded that is there; with NOFLUSH over\nwhat is there, \
             which MERGE must allow.",
        ),
        (
            "QUICKLIST-PACKED-THRESHOLD <size>",
            "Give elements of lists that are at least so long a piece of memory of their own;\n0 restores the default, \
             by which only those have one that do not fit together with\nothers.",
        ),
        ("REPLICATE <word> [<word> ...]", "Send replicas these words as a command."),
        ("REPLYBUFFER <option> <value>", "Nothing: reply buffers are not resized."),
        ("SET-ACTIVE-EXPIRE <0|1>", "Stop removing expired keys that nobody asks for, or go on with it."),
        ("SET-DISABLE-DENY-SCRIPTS <0|1>", "Let scripts call DEBUG, or keep them from it again."),
        ("SET-SKIP-CHECKSUM-VALIDATION <0|1>", "Take payloads whatever their checksum says, or check it again."),
        ("SLEEP <seconds>", "Stop the server for a time; decimals are allowed."),
    ])
}

fn loadaof(call: &mut Call<'_>) -> Result {
    call.engine.reload_from_journal()?;
    call.ok()
}

fn packed_threshold(call: &mut Call<'_>) -> Result {
    const NO_SIZE: Error =
        Error::new("ERR argument must be a memory value bigger than 1 and smaller than 4gb");
    let text = std::str::from_utf8(call.arg(2)).map_err(|_| NO_SIZE)?;
    let size = Bytes::from_word(text).and_then(|size| u32::try_from(size.0).ok()).ok_or(NO_SIZE)?;
    call.engine.limits.list.alone_len = if size == 0 { u32::MAX } else { size };
    call.ok()
}

/// As C's `atoi`: the integer at the beginning, or 0.
fn leading_integer(text: &[u8]) -> i64 {
    let text = text.trim_ascii_start();
    let sign = usize::from(matches!(text.first(), Some(b'-' | b'+')));
    let digits = text[sign..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let number = std::str::from_utf8(&text[..sign + digits]).unwrap_or_default();
    number.parse().unwrap_or_default()
}

/// Holds the engine: that nothing else happens is the purpose.
fn sleep(call: &mut Call<'_>) -> Result {
    let seconds = args::scan_float(call.arg(2)).map_or(0.0, |scanned| scanned.value);
    if let Ok(duration) = Duration::try_from_secs_f64(seconds) {
        std::thread::sleep(duration);
    }
    call.ok()
}

/// Sees expired keys as well: a look at the data changes nothing.
fn digest_value(call: &mut Call<'_>) -> Result {
    let mut digests = Vec::new();
    for index in 2..call.argc() {
        let key = call.key(index);
        let entry = call.db().0.find(key.hash, key.bytes);
        digests.push(entry.map_or(digest::NOTHING, digest::of_value));
    }
    call.out().array(digests.len());
    digests.into_iter().for_each(|digest| call.out().simple(&digest::hex(digest)));
    Ok(())
}

fn object(call: &mut Call<'_>) -> Result {
    let key = call.key(2);
    let clock = call.engine.clock24;
    let entry = call.db().0.find(key.hash, key.bytes).ok_or(error::NO_SUCH_KEY)?;
    let line = format!(
        "Value at:{:p} refcount:{} encoding:{} serializedlength:{} lru:{} lru_seconds_idle:{}",
        entry.address(),
        types::refcount(entry),
        types::encoding(entry),
        serialized_len(entry),
        entry.clock(),
        clock.idle_seconds(entry.clock()),
    );
    call.out().simple(&line);
    Ok(())
}

/// About how many bytes a value takes when it is written down.
fn serialized_len(entry: &Entry) -> usize {
    const LENGTH_LEN: usize = 1;
    match entry.payload() {
        Payload::Integer(n) if i8::try_from(n).is_ok() => LENGTH_LEN + 1,
        Payload::Integer(n) if i16::try_from(n).is_ok() => LENGTH_LEN + 2,
        Payload::Integer(n) if i32::try_from(n).is_ok() => LENGTH_LEN + 4,
        Payload::Integer(n) => LENGTH_LEN + n.to_string().len(),
        Payload::Bytes(bytes) => LENGTH_LEN + bytes.len(),
        Payload::Object(object) => LENGTH_LEN + object.memory(),
    }
}

fn reload(call: &mut Call<'_>) -> Result {
    let (mut flushes, mut merges, mut saves) = (true, false, true);
    let mut options = call.options(2);
    while !options.is_empty() {
        if options.takes("NOFLUSH") {
            flushes = false;
        } else if options.takes("MERGE") {
            merges = true;
        } else if options.takes("NOSAVE") {
            saves = false;
        } else {
            return Err(Error::new("ERR DEBUG RELOAD only supports the MERGE, NOFLUSH and NOSAVE options."));
        }
    }
    if !flushes && !merges {
        return Err(Error::new("ERR DEBUG RELOAD NOFLUSH without MERGE: every key would be there already"));
    }
    call.engine.reload_file(saves, flushes)?;
    call.ok()
}

fn populate(call: &mut Call<'_>) -> Result {
    /// Nobody is told more than that the keys are new.
    const UNPUBLISHED: EventClass = EventClass(0);
    let natural = |call: &Call<'_>, index: usize| -> Result<usize> {
        call.integer(index).ok().and_then(|n| usize::try_from(n).ok()).ok_or(error::NOT_POSITIVE)
    };
    let count = natural(call, 2)?;
    let prefix = call.args().get(3).unwrap_or(b"key");
    let size = if call.argc() == 5 { natural(call, 4)? } else { 0 };
    if size as u64 > call.engine.config.clients.proto_max_bulk_len.0 {
        return Err(error::STRING_TOO_LONG);
    }
    for index in 0..count {
        let name = [prefix, format!(":{index}").as_bytes()].concat();
        let key = Key::new(&name);
        if call.exists(key) {
            continue;
        }
        let mut value = format!("value:{index}").into_bytes();
        if size > 0 {
            value.resize(size, 0);
        }
        call.put::<Str>(key, stored(&value), false).also_changed("set", UNPUBLISHED);
    }
    call.propagates_nothing();
    call.ok()
}

fn protocol(call: &mut Call<'_>) -> Result {
    let kind = call.arg(2).to_ascii_lowercase();
    let out = call.out();
    let mut encoded = Vec::new();
    match &kind[..] {
        b"string" => out.bulk(b"Hello World"),
        b"integer" => out.integer(12345),
        #[allow(clippy::approx_constant)] // Redis's answer, which is no attempt at pi.
        b"double" => out.double(3.141),
        b"bignum" => {
            encode::big_number(&mut encoded, out.version(), b"1234567999999999999999999999999999999");
            out.raw(&encoded);
        }
        b"null" => out.null(),
        b"array" => {
            out.array(3);
            (0..3).for_each(|n| out.integer(n));
        }
        b"set" => {
            out.set(3);
            (0..3).for_each(|n| out.integer(n));
        }
        b"map" => {
            out.map(3);
            for n in 0..3 {
                out.integer(n);
                out.boolean(n == 1);
            }
        }
        b"attrib" => {
            if out.is_resp3() {
                encode::attributes(&mut encoded, 1);
                out.raw(&encoded);
                out.bulk(b"key-popularity");
                out.array(2);
                out.bulk(b"key:123");
                out.integer(90);
            }
            out.bulk(b"Some real reply following the attribute");
        }
        b"push" => {
            if !out.is_resp3() {
                return Err(Error::new("ERR RESP2 is not supported by this command"));
            }
            out.push(2);
            out.bulk(b"server-cpu-usage");
            out.integer(42);
            out.bulk(b"Some real reply following the push reply");
        }
        b"true" => out.boolean(true),
        b"false" => out.boolean(false),
        b"verbatim" => out.verbatim("This is a verbatim\nstring"),
        _ => {
            return Err(Error::new(
                "ERR Wrong protocol type name. Please use one of the following: \
                 string|integer|double|bignum|null|array|set|map|attrib|push|verbatim|true|false",
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::leading_integer;

    #[test]
    fn integers_at_the_beginning() {
        for (text, n) in [("1", 1), (" -2x", -2), ("+3", 3), ("", 0), ("x1", 0), ("-", 0)] {
            assert_eq!(leading_integer(text.as_bytes()), n, "{text:?}");
        }
    }
}
