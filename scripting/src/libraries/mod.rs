//! The libraries that scripts are given beside Lua's own: JSON, MessagePack, packed structures, bits.

mod bit;
mod cjson;
mod cmsgpack;
mod structs;

use crate::raw::Frame;

/// Pushes a library's table.
type Push = fn(Frame<'_>);

/// All of them.
pub(crate) const LIBRARIES: [(&str, Push); 4] = [
    ("bit", bit::push_table),
    ("cjson", cjson::push_table),
    ("cmsgpack", cmsgpack::push_table),
    ("struct", structs::push_table),
];
