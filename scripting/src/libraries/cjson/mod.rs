//! `cjson`: values as JSON.
//!
//! How it works can be set, for each table of its own that `cjson.new()` makes; for the global one this lasts until
//! the scripts are flushed, as it does in Redis.

mod decode;
mod encode;

use crate::raw::{Frame, Kind, Raise, Returns};

/// The settings of one table; its functions share them.
#[derive(Clone, Copy)]
struct Config {
    /// Arrays that are too sparse become objects.
    sparse_convert: i32,
    /// An array is too sparse with more than so many places an element …
    sparse_ratio: i32,
    /// … if it has more places than this.
    sparse_safe: i32,
    encode_depth_max: i32,
    /// 0: numbers that JSON has not are refused. 1: they are written. 2: as null.
    encode_invalid_numbers: i32,
    /// Significant digits.
    encode_precision: i32,
    encode_keep_buffer: i32,
    /// 0: numbers that JSON has not are refused.
    decode_invalid_numbers: i32,
    decode_depth_max: i32,
}

const DEFAULT: Config = Config {
    sparse_convert: 0,
    sparse_ratio: 2,
    sparse_safe: 10,
    encode_depth_max: 1000,
    encode_invalid_numbers: 0,
    encode_precision: 14,
    encode_keep_buffer: 1,
    decode_invalid_numbers: 1,
    decode_depth_max: 1000,
};

/// Pushes a table with settings of its own.
pub(super) fn push_table(frame: Frame<'_>) {
    frame.push_table(0, 14);
    frame.push_data(DEFAULT);
    add(frame, b"encode", encode::encode);
    add(frame, b"decode", decode::decode);
    add(frame, b"encode_sparse_array", encode_sparse_array);
    add(frame, b"encode_max_depth", encode_max_depth);
    add(frame, b"decode_max_depth", decode_max_depth);
    add(frame, b"encode_number_precision", encode_number_precision);
    add(frame, b"encode_keep_buffer", encode_keep_buffer);
    add(frame, b"encode_invalid_numbers", encode_invalid_numbers);
    add(frame, b"decode_invalid_numbers", decode_invalid_numbers);
    add(frame, b"new", |frame| {
        push_table(frame);
        Ok(1)
    });
    frame.pop(1);
    frame.push_null();
    frame.raw_set_field(-2, b"null");
    frame.push_bytes(b"cjson");
    frame.raw_set_field(-2, b"_NAME");
    frame.push_bytes(b"2.1.0");
    frame.raw_set_field(-2, b"_VERSION");
}

/// Adds a function to the table below the settings, which it shares.
fn add<F: Fn(Frame<'_>) -> Returns + Copy + 'static>(frame: Frame<'_>, name: &[u8], function: F) {
    frame.push_value(-1);
    frame.push_closure(function, 1);
    frame.raw_set_field(-3, name);
}

/// The settings of the function that runs.
fn config(frame: Frame<'_>) -> Result<Config, Raise> {
    match frame.data() {
        Some(config) => Ok(config),
        None => frame.fail("BUG: Unable to fetch CJSON configuration"),
    }
}

/// Changes settings: what was asked for holds also if a later argument is wrong.
fn change(
    frame: Frame<'_>,
    arguments: i32,
    options: impl FnOnce(&mut Config) -> Result<(), Raise>,
) -> Returns {
    if frame.top() > arguments {
        return frame.wrong_argument(arguments + 1, "found too many arguments");
    }
    frame.set_top(arguments);
    let mut config = config(frame)?;
    let changed = options(&mut config);
    frame.set_data(config);
    changed.map(|()| arguments)
}

/// A number within limits, if the argument is given; pushes what holds now.
fn integer(frame: Frame<'_>, argument: i32, setting: &mut i32, min: i32, max: i32) -> Result<(), Raise> {
    if frame.kind(argument) != Kind::Nil {
        let value = frame.check_integer(argument)? as i32;
        if !(min..=max).contains(&value) {
            return frame.wrong_argument(1, format!("expected integer between {min} and {max}"));
        }
        *setting = value;
    }
    frame.push_number(f64::from(*setting));
    Ok(())
}

/// One of some words, if the argument is given; the first two are also false and true. Pushes what holds now.
fn choice(frame: Frame<'_>, argument: i32, setting: &mut i32, words: &[&str]) -> Result<(), Raise> {
    match frame.kind(argument) {
        Kind::Nil => {}
        Kind::Boolean => *setting = i32::from(frame.boolean(argument)),
        _ => {
            let text = frame.check_text(argument)?;
            match words.iter().position(|word| word.as_bytes() == text) {
                Some(place) => *setting = place as i32,
                None => return frame.wrong_choice(argument, text),
            }
        }
    }
    match *setting {
        0 | 1 => frame.push_boolean(*setting == 1),
        other => frame.push_bytes(words.get(other as usize).copied().unwrap_or_default().as_bytes()),
    }
    Ok(())
}

const SWITCH: &[&str] = &["off", "on"];

fn encode_sparse_array(frame: Frame<'_>) -> Returns {
    change(frame, 3, |config| {
        choice(frame, 1, &mut config.sparse_convert, SWITCH)?;
        integer(frame, 2, &mut config.sparse_ratio, 0, i32::MAX)?;
        integer(frame, 3, &mut config.sparse_safe, 0, i32::MAX)
    })
}

fn encode_max_depth(frame: Frame<'_>) -> Returns {
    change(frame, 1, |config| integer(frame, 1, &mut config.encode_depth_max, 1, i32::MAX))
}

fn decode_max_depth(frame: Frame<'_>) -> Returns {
    change(frame, 1, |config| integer(frame, 1, &mut config.decode_depth_max, 1, i32::MAX))
}

fn encode_number_precision(frame: Frame<'_>) -> Returns {
    change(frame, 1, |config| integer(frame, 1, &mut config.encode_precision, 1, 14))
}

/// The buffer is not a table's own, so this only remembers what was said.
fn encode_keep_buffer(frame: Frame<'_>) -> Returns {
    change(frame, 1, |config| choice(frame, 1, &mut config.encode_keep_buffer, SWITCH))
}

fn encode_invalid_numbers(frame: Frame<'_>) -> Returns {
    change(frame, 1, |config| choice(frame, 1, &mut config.encode_invalid_numbers, &["off", "on", "null"]))
}

fn decode_invalid_numbers(frame: Frame<'_>) -> Returns {
    change(frame, 1, |config| choice(frame, 1, &mut config.decode_invalid_numbers, SWITCH))
}
