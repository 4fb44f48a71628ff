//! What guests say when something is wrong, with the place where Lua says it: arguments, depth, memory.

use std::ffi::{CStr, c_int};
use std::mem;

use mlua_sys::*;

use super::frame::{Frame, Kind, Raise};
use crate::hook;

/// Where a function stands.
pub(crate) struct Place {
    /// The chunk's name, as it was given: `@user_script`.
    pub(crate) source: Vec<u8>,
    /// The line that runs; -1 for a C function.
    pub(crate) line: i32,
    /// Whether it is a C function.
    pub(crate) is_c: bool,
}

impl<'a> Frame<'a> {
    /// Where a caller stands: 0 is the function that runs, 1 who called it.
    pub(crate) fn place(self, level: c_int) -> Option<Place> {
        place(self.state, level)
    }

    /// The name under which the function that runs was called, and whether as a method.
    fn called_as(self) -> Option<(Option<&'a CStr>, bool)> {
        // SAFETY: as above; the strings are Lua's and live while the function runs.
        unsafe {
            let mut debug: lua_Debug = mem::zeroed();
            if lua_getstack(self.state, 0, &mut debug) == 0 {
                return None;
            }
            lua_getinfo(self.state, c"n".as_ptr(), &mut debug);
            let name = (!debug.name.is_null()).then(|| CStr::from_ptr(debug.name));
            Some((name, !debug.namewhat.is_null() && CStr::from_ptr(debug.namewhat) == c"method"))
        }
    }

    /// Pushes where a caller stands, as errors begin: `user_script:1: `.
    fn push_where(self, level: c_int) {
        // SAFETY: as above.
        unsafe { luaL_where(self.state, level) }
    }

    /// Raises a text, with the line of the caller in front.
    #[cold]
    pub(crate) fn fail<T>(self, text: impl AsRef<[u8]>) -> Result<T, Raise> {
        self.reserve(3);
        self.push_where(1);
        self.push_bytes(text.as_ref());
        self.concat(2);
        Err(Raise)
    }

    /// Raises a text as it is.
    #[cold]
    pub(crate) fn raise_text<T>(self, text: &[u8]) -> Result<T, Raise> {
        self.reserve(1);
        self.push_bytes(text);
        Err(Raise)
    }

    /// Says what is wrong with an argument.
    #[cold]
    pub(crate) fn wrong_argument<T>(self, argument: c_int, what: impl AsRef<[u8]>) -> Result<T, Raise> {
        let mut text = match self.called_as() {
            None => format!("bad argument #{argument} ("),
            Some((name, is_method)) => {
                let name = name.unwrap_or(c"?").to_string_lossy();
                match argument - c_int::from(is_method) {
                    0 if is_method => format!("calling '{name}' on bad self ("),
                    argument => format!("bad argument #{argument} to '{name}' ("),
                }
            }
        }
        .into_bytes();
        text.extend_from_slice(what.as_ref());
        text.push(b')');
        self.fail(text)
    }

    /// Says that a text is none of the choices.
    #[cold]
    pub(crate) fn wrong_choice<T>(self, argument: c_int, text: &[u8]) -> Result<T, Raise> {
        let text = text.split(|&byte| byte == 0).next().unwrap_or_default();
        self.wrong_argument(argument, [b"invalid option '", text, b"'"].concat())
    }

    /// Reserves so many values, or raises the error of a stack that is too deep.
    pub(crate) fn check_stack(self, count: c_int, what: &str) -> Result<(), Raise> {
        if self.reserve(count) { Ok(()) } else { self.fail(format!("stack overflow ({what})")) }
    }

    /// A guest's own buffers count like Lua's memory: raises the error of memory if so many bytes are not to be had.
    #[inline(always)]
    pub(crate) fn check_room(self, bytes: usize) -> Result<(), Raise> {
        if bytes > self.control().room() { self.find_room(bytes) } else { Ok(()) }
    }

    #[cold]
    fn find_room(self, bytes: usize) -> Result<(), Raise> {
        self.collect();
        if bytes > self.control().room() { self.raise_text(b"not enough memory") } else { Ok(()) }
    }

    /// Called by guests that may take long, now and then: gives way like the script itself, and ends with it.
    /// The guest borrows nothing of the host meanwhile.
    #[inline(always)]
    pub(crate) fn breathe(self) -> Result<(), Raise> {
        if self.control().watch.steps() { self.look() } else { Ok(()) }
    }

    /// The same for a guest that has taken long.
    #[cold]
    pub(crate) fn look(self) -> Result<(), Raise> {
        hook::pause(self.state, self.control());
        if self.control().watch.has_ended() || self.control().is_over() {
            return self.raise_text(b"not enough memory");
        }
        Ok(())
    }

    /// Says that an argument is of the wrong type.
    #[cold]
    pub(crate) fn wrong_type<T>(self, argument: c_int, expected: &str) -> Result<T, Raise> {
        let found = self.kind(argument).name();
        self.wrong_argument(argument, format!("{expected} expected, got {found}"))
    }

    /// An argument that must be a number.
    pub(crate) fn check_number(self, argument: c_int) -> Result<f64, Raise> {
        if self.is_number(argument) { Ok(self.number(argument)) } else { self.wrong_type(argument, "number") }
    }

    /// An argument that must be a number, as an integer.
    pub(crate) fn check_integer(self, argument: c_int) -> Result<i64, Raise> {
        Ok(crate::number::truncate(self.check_number(argument)?))
    }

    /// The same where it may be missing.
    pub(crate) fn optional_integer(self, argument: c_int, default: i64) -> Result<i64, Raise> {
        match self.kind(argument) {
            Kind::None | Kind::Nil => Ok(default),
            _ => self.check_integer(argument),
        }
    }

    /// An argument that must be a string, or a number that becomes one.
    pub(crate) fn check_text(self, argument: c_int) -> Result<&'a [u8], Raise> {
        match self.text(argument) {
            Some(text) => Ok(text),
            None => self.wrong_type(argument, "string"),
        }
    }
}

/// Where a function of a state's call stack stands.
pub(crate) fn place(state: *mut lua_State, level: c_int) -> Option<Place> {
    // SAFETY: the state is alive; the strings are copied before anything else happens.
    unsafe {
        let mut debug: lua_Debug = mem::zeroed();
        if lua_getstack(state, level, &mut debug) == 0 {
            return None;
        }
        lua_getinfo(state, c"Sl".as_ptr(), &mut debug);
        Some(Place {
            source: CStr::from_ptr(debug.source).to_bytes().to_vec(),
            line: debug.currentline,
            is_c: CStr::from_ptr(debug.what) == c"C",
        })
    }
}
