//! The libraries that scripts are given beside Lua's own.

use crate::raw::Frame;

/// Pushes a library's table.
type Push = fn(Frame<'_>);

/// All of them.
pub(crate) const LIBRARIES: [(&str, Push); 0] = [];
