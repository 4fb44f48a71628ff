//! What scripts call: the table `redis`, and `math.random`.

use mortise_sdk::host::Level;
use mortise_sdk::resp::encode::Version;

use crate::cache::Hasher;
use crate::host::{Host, Replication};
use crate::number;
use crate::random::Random;
use crate::raw::{Frame, Kind, Raise, Returns};
use crate::{convert, errors};

/// Levels of the log, by the numbers that scripts use.
const LEVELS: [(&str, Level); 4] = [
    ("LOG_DEBUG", Level::Debug),
    ("LOG_VERBOSE", Level::Verbose),
    ("LOG_NOTICE", Level::Notice),
    ("LOG_WARNING", Level::Warning),
];

const REPL_AOF: i64 = 1;
const REPL_REPLICA: i64 = 2;

/// Pushes the table `redis`.
pub(crate) fn push_table(frame: Frame<'_>, version: &str) {
    frame.push_table(0, 0);
    let number = |name: &str, value: f64| {
        frame.push_number(value);
        frame.raw_set_field(-2, name.as_bytes());
    };
    for (value, (name, _)) in LEVELS.iter().enumerate() {
        number(name, value as f64);
    }
    for (name, value) in [
        ("REPL_NONE", 0),
        ("REPL_AOF", REPL_AOF),
        ("REPL_SLAVE", REPL_REPLICA),
        ("REPL_REPLICA", REPL_REPLICA),
        ("REPL_ALL", REPL_AOF | REPL_REPLICA),
    ] {
        number(name, value as f64);
    }
    number("REDIS_VERSION_NUM", version_number(version));
    frame.push_bytes(version.as_bytes());
    frame.raw_set_field(-2, b"REDIS_VERSION");

    frame.push_function(call);
    frame.raw_set_field(-2, b"call");
    frame.push_function(pcall);
    frame.raw_set_field(-2, b"pcall");
    frame.push_function(log);
    frame.raw_set_field(-2, b"log");
    frame.push_function(setresp);
    frame.raw_set_field(-2, b"setresp");
    frame.push_function(sha1hex);
    frame.raw_set_field(-2, b"sha1hex");
    frame.push_function(error_reply);
    frame.raw_set_field(-2, b"error_reply");
    frame.push_function(status_reply);
    frame.raw_set_field(-2, b"status_reply");
    frame.push_function(set_repl);
    frame.raw_set_field(-2, b"set_repl");
    frame.push_function(acl_check_cmd);
    frame.raw_set_field(-2, b"acl_check_cmd");
    frame.push_function(breakpoint);
    frame.raw_set_field(-2, b"breakpoint");
    frame.push_function(debug);
    frame.raw_set_field(-2, b"debug");
    frame.push_function(replicate_commands);
    frame.raw_set_field(-2, b"replicate_commands");
}

/// `0x00MMmmpp`
fn version_number(version: &str) -> f64 {
    let mut parts = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    let mut next = || parts.next().unwrap_or(0) & 0xFF;
    f64::from(next() << 16 | next() << 8 | next())
}

fn call(frame: Frame<'_>) -> Returns {
    match execute(frame)? {
        Reply::Value => Ok(1),
        Reply::Dropped => Ok(0),
        Reply::Error => Err(Raise),
    }
}

fn pcall(frame: Frame<'_>) -> Returns {
    // Outside a run there is nothing to protect.
    let is_running = frame.control().is_running();
    match execute(frame) {
        Err(Raise) if is_running => Ok(1),
        Err(Raise) => Err(Raise),
        Ok(Reply::Dropped) => Ok(0),
        Ok(Reply::Value | Reply::Error) => Ok(1),
    }
}

/// What a command has answered.
enum Reply {
    /// A value, which has been pushed.
    Value,
    /// An error, which has been pushed.
    Error,
    /// Something that nobody wants, and that has not become a value.
    Dropped,
}

/// Executes a command and pushes its reply. What is wrong with the call itself is raised.
#[inline(always)]
fn execute(frame: Frame<'_>) -> Result<Reply, Raise> {
    let version = frame.shared().version.get();
    let mut long = None;
    let answer =
        asked(frame, "redis.call/pcall can only be called inside a script invocation", |host, words| {
            let reply = host.call(words, version);
            let is_error = reply.first() == Some(&b'-');
            if !is_error && frame.is_statement() {
                return Ok(Reply::Dropped);
            }
            // A few words may stay on the stack: the place for what comes is what a function has at least. Many might leave
            // no place for more.
            if words.len() > FEW {
                frame.set_top(0);
            }
            if !is_error && reply.len() > convert::LONG {
                // Others have their turn while it is read, and the host, whose it is, has to be free for that.
                long = Some(reply.to_vec());
                return Ok(Reply::Value);
            }
            convert::push_reply(frame, reply)?;
            Ok(if is_error { Reply::Error } else { Reply::Value })
        })?;
    let answer = match long {
        Some(reply) => convert::push_long_reply(frame, reply).map(|()| Reply::Value),
        None => answer,
    };
    answer.or_else(|why| convert::unreadable(frame, why))
}

/// Words that need no allocation.
const FEW: usize = 12;

/// Gathers the arguments as words, and asks the host.
#[inline(always)]
fn asked<R>(
    frame: Frame<'_>,
    outside: &str,
    ask: impl FnOnce(&mut dyn Host, &[&[u8]]) -> R,
) -> Result<R, Raise> {
    let count = frame.top();
    if !frame.control().is_running() {
        return errors::raise(frame, outside);
    }
    if count == 0 {
        return errors::raise(frame, "Please specify at least one argument for this redis lib call");
    }
    let mut few: [&[u8]; FEW] = [&[]; FEW];
    let mut many = Vec::new();
    let words = if count as usize <= FEW {
        &mut few[..count as usize]
    } else {
        many.resize(count as usize, &[][..]);
        &mut many[..]
    };
    let Some(has_numbers) = frame.words(words) else {
        return errors::raise(frame, "Lua redis lib command arguments must be strings or integers");
    };
    let answer = if has_numbers {
        with_numbers(frame, words, |words| frame.control().with_host(|host| ask(host, words)))
    } else {
        let words = &*words;
        frame.control().with_host(|host| ask(host, words))
    };
    match answer {
        Some(answer) => Ok(answer),
        None => errors::raise(frame, outside),
    }
}

/// Writes the numbers among the arguments with all their digits, and puts them among the words.
fn with_numbers<R>(frame: Frame<'_>, words: &mut [&[u8]], then: impl FnOnce(&[&[u8]]) -> R) -> R {
    let mut text = frame.shared().borrow_buffer();
    let is_number = |index: usize| frame.kind(index as i32 + 1) == Kind::Number;
    let mut ends = [0; 8];
    let numbers = (0..words.len()).filter(|&index| is_number(index));
    let mut many_ends = Vec::new();
    let mut count = 0;
    for index in numbers.clone() {
        number::write_exact(&mut text, frame.number(index as i32 + 1));
        match ends.get_mut(count) {
            Some(end) => *end = text.len(),
            None => many_ends.push(text.len()),
        }
        count += 1;
    }
    let mut all: Vec<&[u8]>;
    let mut few: [&[u8]; 12] = [&[]; 12];
    let answer = {
        let words = if words.len() <= few.len() {
            few[..words.len()].copy_from_slice(words);
            &mut few[..words.len()]
        } else {
            all = words.to_vec();
            &mut all[..]
        };
        let mut start = 0;
        for (index, end) in numbers.zip(ends.iter().take(count).chain(&many_ends)) {
            words[index] = &text[start..*end];
            start = *end;
        }
        then(words)
    };
    frame.shared().return_buffer(text);
    answer
}

fn acl_check_cmd(frame: Frame<'_>) -> Returns {
    let permitted =
        asked(frame, "redis.acl_check_cmd can only be called inside a script invocation", |host, words| {
            host.permits(words)
        })?;
    match permitted {
        Some(permitted) => {
            frame.push_boolean(permitted);
            Ok(1)
        }
        None => errors::raise(frame, "Invalid command passed to redis.acl_check_cmd()"),
    }
}

fn log(frame: Frame<'_>) -> Returns {
    let count = frame.top();
    if count < 2 {
        return errors::raise(frame, "redis.log() requires two arguments or more.");
    }
    if !frame.is_number(1) {
        return errors::raise(frame, "First argument must be a number (log level).");
    }
    let level = number::truncate_int(frame.number(1));
    let Some((_, level)) = usize::try_from(level).ok().and_then(|level| LEVELS.get(level)) else {
        return errors::raise(frame, "Invalid debug level.");
    };
    let mut line = frame.shared().borrow_buffer();
    for index in 2..=count {
        let Some(text) = frame.text(index) else { continue };
        if index > 2 {
            line.push(b' ');
        }
        line.extend_from_slice(text);
    }
    frame.control().with_host(|host| host.log(*level, &line));
    frame.shared().return_buffer(line);
    Ok(0)
}

fn setresp(frame: Frame<'_>) -> Returns {
    if !frame.control().is_running() {
        return errors::raise(frame, "redis.setresp can only be called inside a script invocation");
    }
    if frame.top() != 1 {
        return errors::raise(frame, "redis.setresp() requires one argument.");
    }
    frame.shared().version.set(match number::truncate_int(frame.number(1)) {
        2 => Version::Resp2,
        3 => Version::Resp3,
        _ => return errors::raise(frame, "RESP version must be 2 or 3."),
    });
    Ok(0)
}

fn set_repl(frame: Frame<'_>) -> Returns {
    if !frame.control().is_running() {
        return errors::raise(frame, "redis.set_repl can only be called inside a script invocation");
    }
    if frame.top() != 1 {
        return errors::raise(frame, "redis.set_repl() requires two arguments.");
    }
    let flags = i64::from(number::truncate_int(frame.number(1)));
    if flags & !(REPL_AOF | REPL_REPLICA) != 0 {
        return errors::raise(
            frame,
            "Invalid replication flags. Use REPL_AOF, REPL_REPLICA, REPL_ALL or REPL_NONE.",
        );
    }
    let replication = Replication { journal: flags & REPL_AOF != 0, replicas: flags & REPL_REPLICA != 0 };
    frame.control().with_host(|host| host.set_replication(replication));
    Ok(0)
}

fn sha1hex(frame: Frame<'_>) -> Returns {
    if frame.top() != 1 {
        return errors::raise(frame, "wrong number of arguments");
    }
    let mut hasher = Hasher::default();
    for part in frame.text(1).unwrap_or_default().chunks(1 << 20) {
        hasher.add(part);
        if part.len() == 1 << 20 {
            frame.look()?;
        }
    }
    frame.push_bytes(&hasher.digest().hex());
    Ok(1)
}

/// The one argument, which must be a string; else an error table stands on top of the stack.
fn only_string<'a>(frame: Frame<'a>) -> Option<&'a [u8]> {
    let text = if frame.top() == 1 { frame.bytes(1) } else { None };
    if text.is_none() {
        errors::push(frame, b"wrong number or type of arguments");
    }
    text
}

fn error_reply(frame: Frame<'_>) -> Returns {
    if let Some(text) = only_string(frame) {
        if text.starts_with(b"-") {
            errors::push(frame, text);
        } else {
            errors::push(frame, &[b"-", text].concat());
        }
    }
    Ok(1)
}

fn status_reply(frame: Frame<'_>) -> Returns {
    if only_string(frame).is_some() {
        frame.push_table(0, 1);
        frame.push_value(1);
        frame.raw_set_field(-2, b"ok");
    }
    Ok(1)
}

/// There is no debugger to stop in.
fn breakpoint(frame: Frame<'_>) -> Returns {
    frame.push_boolean(false);
    Ok(1)
}

/// Nor one to talk to.
fn debug(_: Frame<'_>) -> Returns {
    Ok(0)
}

/// A script's effects are what is propagated, always.
fn replicate_commands(frame: Frame<'_>) -> Returns {
    frame.push_boolean(true);
    Ok(1)
}

/// `math.random`: the same sequence everywhere.
pub(crate) fn random(frame: Frame<'_>) -> Returns {
    if !frame.control().is_running() {
        return frame.fail("math.random can only be called inside a script invocation");
    }
    let part = f64::from(frame.shared().random.draw() % Random::MAX) / f64::from(Random::MAX);
    let limit = |argument| frame.check_number(argument).map(number::truncate_int);
    let value = match frame.top() {
        0 => part,
        1 => {
            let upper = limit(1)?;
            if upper < 1 {
                return frame.wrong_argument(1, "interval is empty");
            }
            (part * f64::from(upper)).floor() + 1.0
        }
        2 => {
            let (lower, upper) = (limit(1)?, limit(2)?);
            if lower > upper {
                return frame.wrong_argument(2, "interval is empty");
            }
            (part * f64::from(upper.wrapping_sub(lower).wrapping_add(1))).floor() + f64::from(lower)
        }
        _ => return frame.fail("wrong number of arguments"),
    };
    frame.push_number(value);
    Ok(1)
}

/// `math.randomseed`
pub(crate) fn random_seed(frame: Frame<'_>) -> Returns {
    if !frame.control().is_running() {
        return frame.fail("math.randomseed can only be called inside a script invocation");
    }
    let seed = frame.check_number(1).map(number::truncate_int)?;
    frame.shared().random.seed(seed);
    Ok(0)
}
