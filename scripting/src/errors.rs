//! Errors on both sides: tables with a field `err` for scripts, and the line that a client is sent.

use crate::number;
use crate::raw::{Frame, Kind, Raise, Returns};

/// Pushes an error table. A text that begins with `-` has its code in front, any other gets `ERR`.
pub(crate) fn push(frame: Frame<'_>, text: &[u8]) {
    let shared = frame.shared();
    let mut message = shared.borrow_buffer();
    let text = until_zero(text);
    let (code, rest) = match text.strip_prefix(b"-") {
        Some(coded) => match coded.iter().position(|&byte| byte == b' ') {
            Some(space) => (&coded[..space], &coded[space + 1..]),
            None => (&b"ERR"[..], coded),
        },
        None => (&b"ERR"[..], text),
    };
    message.extend_from_slice(code);
    message.push(b' ');
    message.extend_from_slice(trim(rest));
    frame.reserve(4);
    frame.push_table(0, 1);
    frame.push_bytes(&message);
    frame.raw_set_field(-2, b"err");
    shared.return_buffer(message);
}

/// Raises an error table.
#[cold]
pub(crate) fn raise<T>(frame: Frame<'_>, text: &str) -> Result<T, Raise> {
    push(frame, text.as_bytes());
    Err(Raise)
}

/// Notes in an error table that the error has been counted where it arose.
pub(crate) fn mark_counted(frame: Frame<'_>) {
    frame.push_boolean(true);
    frame.raw_set_field(-2, b"ignore_error_stats_update");
}

/// What Lua calls with an error before the script's stack is gone: makes a table of it that says where it arose. If that
/// is a function of ours, the script that called it is meant.
pub(crate) fn handle(frame: Frame<'_>) -> Returns {
    frame.set_top(1);
    let place = match frame.place(1) {
        Some(place) if place.is_c => frame.place(2),
        place => place,
    };
    if frame.kind(1) != Kind::Table || frame.is_readonly(1) {
        let mut text = b"ERR ".to_vec();
        match frame.kind(1) {
            Kind::String | Kind::Number => text.extend_from_slice(frame.text(1).unwrap_or_default()),
            Kind::Boolean => text.extend_from_slice(if frame.boolean(1) { b"true" } else { b"false" }),
            Kind::Table => text.extend_from_slice(b"Attempt to modify a readonly table"),
            kind => text.extend_from_slice(kind.name().as_bytes()),
        }
        frame.push_table(0, 3);
        frame.push_bytes(&text);
        frame.raw_set_field(-2, b"err");
        frame.replace(1);
    }
    if let Some(place) = place {
        frame.push_bytes(&place.source);
        frame.raw_set_field(1, b"source");
        frame.push_number(place.line.into());
        frame.raw_set_field(1, b"line");
    }
    Ok(1)
}

/// What an error table says.
pub(crate) struct Description {
    /// The message with its code.
    pub(crate) message: Vec<u8>,
    /// The chunk and the line where it arose.
    pub(crate) place: Option<(Vec<u8>, Vec<u8>)>,
    /// It has been counted where it arose.
    pub(crate) counted: bool,
}

/// Reads the error table on top of the stack.
pub(crate) fn describe(frame: Frame<'_>) -> Description {
    let field = |name: &[u8]| {
        frame.raw_get_field(-1, name);
        let text = frame.text(-1).map(|text| until_zero(text).to_vec());
        frame.pop(1);
        text
    };
    let message = field(b"err").unwrap_or_else(|| b"ERR unknown error".to_vec());
    let place = field(b"source").zip(field(b"line"));
    frame.raw_get_field(-1, b"ignore_error_stats_update");
    let counted = frame.kind(-1) == Kind::Boolean && frame.boolean(-1);
    frame.pop(1);
    Description { message, place, counted }
}

/// Writes an error reply: `text` begins with its code, or with a `-` and its code. Nothing in it can end the line.
pub(crate) fn write(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'-');
    out.extend(trim_end(text).iter().map(|&byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { byte }));
    out.extend_from_slice(b"\r\n");
}

/// A text ends at its first zero, as it does in C.
pub(crate) fn until_zero(text: &[u8]) -> &[u8] {
    let end = text.iter().position(|&byte| byte == 0).unwrap_or(text.len());
    &text[..end]
}

fn trim(text: &[u8]) -> &[u8] {
    let start = text.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    trim_end(&text[start..])
}

fn trim_end(text: &[u8]) -> &[u8] {
    let end = text.iter().rposition(|byte| !matches!(byte, b'\r' | b'\n')).map_or(0, |last| last + 1);
    &text[..end]
}

/// The line of an error in a place: ` script: <sha>, on @user_script:1.`
pub(crate) fn write_place(text: &mut Vec<u8>, script: &[u8], source: &[u8], line: &[u8]) {
    for part in [&b" script: "[..], script, b", on ", source, b":", line, b"."] {
        text.extend_from_slice(part);
    }
}

/// A line number as text.
pub(crate) fn line_text(line: i32) -> Vec<u8> {
    let mut text = Vec::new();
    number::write_general(&mut text, line.into(), 14);
    text
}
