//! What Lua may see: the globals of Redis, all of them read-only.

use crate::raw::{Frame, Kind, Returns};
use crate::{bridge, errors, libraries};

/// What Lua's own libraries bring along and scripts are not to have: files, the terminal, the environments of other
/// functions, and userdata with a finalizer, which would run when nobody watches the clock.
const REMOVED: [&str; 6] = ["dofile", "getfenv", "loadfile", "newproxy", "print", "setfenv"];

/// Fills the table of globals, and locks it.
pub(crate) fn build(frame: Frame<'_>, version: &str) {
    frame.open_libraries();
    frame.push_globals();
    for name in REMOVED {
        frame.push_nil();
        frame.raw_set_field(-2, name.as_bytes());
    }
    frame.push_protected_call();
    frame.raw_set_field(-2, b"pcall");
    frame.push_function(collectgarbage);
    frame.raw_set_field(-2, b"collectgarbage");
    frame.push_function(errors::handle);
    frame.raw_set_field(-2, HANDLER);

    frame.raw_get_field(-1, b"math");
    frame.push_function(bridge::random);
    frame.raw_set_field(-2, b"random");
    frame.push_function(bridge::random_seed);
    frame.raw_set_field(-2, b"randomseed");
    frame.pop(1);

    bridge::push_table(frame, version);
    frame.raw_set_field(-2, b"redis");
    for (name, push) in libraries::LIBRARIES {
        push(frame);
        frame.raw_set_field(-2, name.as_bytes());
    }
    // Set by each script; here, so that setting them adds nothing to the table.
    for name in ["KEYS", "ARGV"] {
        frame.push_boolean(false);
        frame.raw_set_field(-2, name.as_bytes());
    }

    frame.push_table(0, 1);
    frame.push_function(missing);
    frame.raw_set_field(-2, b"__index");
    frame.set_metatable(-2);
    lock(frame);
    frame.pop(1);

    // Strings share one metatable, which is reached from none of the globals.
    frame.push_bytes(b"");
    if frame.push_metatable(-1) {
        lock(frame);
        frame.pop(1);
    }
    frame.pop(1);
}

/// The global name of the function that makes an error table of an error.
pub(crate) const HANDLER: &[u8] = b"__redis__err__handler";

/// Makes the table on top of the stack read-only, and every table that is reached from it.
fn lock(frame: Frame<'_>) {
    if frame.is_readonly(-1) {
        return;
    }
    frame.set_readonly(-1, true);
    frame.reserve(4);
    frame.push_nil();
    while frame.next(-2) {
        if frame.kind(-1) == Kind::Table {
            lock(frame);
        }
        frame.pop(1);
    }
    if frame.push_metatable(-1) {
        lock(frame);
        frame.pop(1);
    }
}

/// `__index` of the globals.
fn missing(frame: Frame<'_>) -> Returns {
    if frame.top() != 2 {
        return frame.fail("Wrong number of arguments to luaProtectedTableError");
    }
    match frame.is_text(2).then(|| frame.text(2)).flatten() {
        Some(name) => {
            let name = errors::until_zero(name);
            frame.fail([b"Script attempted to access nonexistent global variable '", name, b"'"].concat())
        }
        None => frame.fail("Second argument to luaProtectedTableError must be a string or number"),
    }
}

/// `collectgarbage`, which leaves nothing changed for the next script: it collects, but how the collector works is not
/// a script's affair.
fn collectgarbage(frame: Frame<'_>) -> Returns {
    let option =
        if frame.top() >= 1 && frame.kind(1) != Kind::Nil { frame.check_text(1)? } else { b"collect" };
    const OPTIONS: [&[u8]; 7] =
        [b"collect", b"count", b"step", b"stop", b"restart", b"setpause", b"setstepmul"];
    if !OPTIONS.contains(&option) {
        return frame.wrong_choice(1, option);
    }
    let size = frame.optional_integer(2, 0)?;
    match option {
        b"collect" => {
            frame.collect();
            frame.look()?;
            frame.push_number(0.0);
        }
        b"count" => frame.push_number(frame.control().used() as f64 / 1024.0),
        b"step" => frame.push_boolean(frame.collect_step(size.clamp(0, 1 << 20) as i32)),
        b"setpause" | b"setstepmul" => frame.push_number(200.0),
        _ => frame.push_number(0.0), // stop, restart
    }
    Ok(1)
}
