//! A guest's view of Lua's stack: arguments, results, tables.

use std::ffi::{CStr, c_int};
use std::{ptr, slice};

use mlua_sys::*;

use super::call::{protected_call, trampoline};
use super::control::{Control, Shared};
use super::state::Reference;

unsafe extern "C-unwind" {
    fn mortise_readonly(state: *mut lua_State, index: c_int, enabled: c_int);
    fn mortise_isreadonly(state: *mut lua_State, index: c_int) -> c_int;
    fn mortise_wanted(state: *mut lua_State) -> c_int;
    fn mortise_words(state: *mut lua_State, first: c_int, count: c_int, words: *mut Word) -> c_int;
    fn mortise_emptied(state: *mut lua_State, index: c_int, room: c_int) -> c_int;
}

/// The bytes of a string on the stack; nothing, not even a place, for a number.
#[repr(C)]
#[derive(Clone, Copy)]
struct Word {
    start: *const u8,
    len: usize,
}

/// The stack of the function that is being called. Indices are Lua's: from 1 on arguments, negative ones from the top.
///
/// A C function has twenty places beyond its arguments; who needs more, or does not know, reserves them.
#[derive(Clone, Copy)]
pub(crate) struct Frame<'a> {
    pub(super) state: *mut lua_State,
    control: &'a Control,
}

/// The error that a guest raises stands on top of the stack.
#[derive(Debug)]
pub(crate) struct Raise;

/// How many values on top of the stack a guest returns, or that it raises an error.
pub(crate) type Returns = Result<c_int, Raise>;

/// The type of a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// There is no value at the index.
    None,
    Nil,
    Boolean,
    LightUserdata,
    Number,
    String,
    Table,
    Function,
    Userdata,
    Thread,
}

impl Kind {
    fn of(kind: c_int) -> Kind {
        match kind {
            LUA_TNIL => Kind::Nil,
            LUA_TBOOLEAN => Kind::Boolean,
            LUA_TLIGHTUSERDATA => Kind::LightUserdata,
            LUA_TNUMBER => Kind::Number,
            LUA_TSTRING => Kind::String,
            LUA_TTABLE => Kind::Table,
            LUA_TFUNCTION => Kind::Function,
            LUA_TUSERDATA => Kind::Userdata,
            LUA_TTHREAD => Kind::Thread,
            _ => Kind::None,
        }
    }

    /// As Lua's own messages have it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::None => "no value",
            Kind::Nil => "nil",
            Kind::Boolean => "boolean",
            Kind::LightUserdata | Kind::Userdata => "userdata",
            Kind::Number => "number",
            Kind::String => "string",
            Kind::Table => "table",
            Kind::Function => "function",
            Kind::Thread => "thread",
        }
    }
}

impl<'a> Frame<'a> {
    /// # Safety
    ///
    /// The state is alive for `'a`, the control is its own, and a guest has entered (`Control::enter`).
    pub(super) unsafe fn new(state: *mut lua_State, control: &'a Control) -> Frame<'a> {
        Frame { state, control }
    }

    /// What the state shares with its owner.
    #[inline(always)]
    pub(crate) fn control(self) -> &'a Control {
        self.control
    }

    /// What guests share.
    #[inline(always)]
    pub(crate) fn shared(self) -> &'a Shared {
        &self.control().shared
    }

    /// How many values stand on the stack.
    #[inline(always)]
    pub(crate) fn top(self) -> c_int {
        // SAFETY: see the module: the state is alive, and reading it raises nothing.
        unsafe { lua_gettop(self.state) }
    }

    /// Whether the function that runs was called as a statement: what it returns is dropped.
    #[inline(always)]
    pub(crate) fn is_statement(self) -> bool {
        // SAFETY: as above.
        unsafe { mortise_wanted(self.state) == 0 }
    }

    /// Drops values from the top, or fills up with nil.
    #[inline(always)]
    pub(crate) fn set_top(self, top: c_int) {
        // SAFETY: as above; callers fill up only what they have reserved.
        unsafe { lua_settop(self.state, top) }
    }

    /// Drops so many values.
    #[inline(always)]
    pub(crate) fn pop(self, count: c_int) {
        self.set_top(-count - 1);
    }

    /// Makes sure that so many values can be pushed; false if the stack would become too deep.
    #[inline(always)]
    pub(crate) fn reserve(self, count: c_int) -> bool {
        // SAFETY: as above; guests are not refused the memory.
        unsafe { lua_checkstack(self.state, count) != 0 }
    }

    /// The type of a value.
    #[inline(always)]
    pub(crate) fn kind(self, index: c_int) -> Kind {
        // SAFETY: as above.
        Kind::of(unsafe { lua_type(self.state, index) })
    }

    /// Whether it is a number, or a string that reads as one.
    pub(crate) fn is_number(self, index: c_int) -> bool {
        // SAFETY: as above.
        unsafe { lua_isnumber(self.state, index) != 0 }
    }

    /// Whether it is a string or a number.
    pub(crate) fn is_text(self, index: c_int) -> bool {
        matches!(self.kind(index), Kind::String | Kind::Number)
    }

    /// The number at an index, also from a string; 0 if there is none.
    #[inline(always)]
    pub(crate) fn number(self, index: c_int) -> f64 {
        // SAFETY: as above.
        unsafe { lua_tonumber(self.state, index) }
    }

    /// False for nil and false.
    pub(crate) fn boolean(self, index: c_int) -> bool {
        // SAFETY: as above.
        unsafe { lua_toboolean(self.state, index) != 0 }
    }

    /// Whether it is the light userdata that stands for null.
    pub(crate) fn is_null(self, index: c_int) -> bool {
        // SAFETY: as above.
        self.kind(index) == Kind::LightUserdata && unsafe { lua_touserdata(self.state, index) }.is_null()
    }

    /// The bytes of a string. They stay as long as the string is anywhere on the stack.
    #[inline(always)]
    pub(crate) fn bytes(self, index: c_int) -> Option<&'a [u8]> {
        if self.kind(index) != Kind::String { None } else { self.text(index) }
    }

    /// The bytes of a string, or of a number, which becomes a string where it stands: not for keys of [`Frame::next`].
    #[inline(always)]
    pub(crate) fn text(self, index: c_int) -> Option<&'a [u8]> {
        let mut len = 0;
        // SAFETY: as above; a guest is not refused the memory of the string. The bytes live as long as the string, which
        // its callers leave on the stack while they use them.
        unsafe {
            let start = lua_tolstring(self.state, index, &mut len);
            (!start.is_null()).then(|| slice::from_raw_parts(start.cast(), len))
        }
    }

    /// The bytes of the first values on the stack, as [`Frame::bytes`]; nothing for a number. Says whether there are numbers
    /// among them; `None` if there is something else.
    #[inline(always)]
    pub(crate) fn words(self, words: &mut [&'a [u8]]) -> Option<bool> {
        const AT_ONCE: usize = 12;

        let mut has_numbers = false;
        for (index, part) in words.chunks_mut(AT_ONCE).enumerate() {
            let mut found = [Word { start: ptr::null(), len: 0 }; AT_ONCE];
            let (first, count) = (1 + index * AT_ONCE, part.len());
            // SAFETY: as above; so many values stand on the stack, and there is room for so many words.
            if unsafe { mortise_words(self.state, first as c_int, count as c_int, found.as_mut_ptr()) } == 0 {
                return None;
            }
            for (word, Word { start, len }) in part.iter_mut().zip(found) {
                if start.is_null() {
                    has_numbers = true;
                    continue;
                }
                // SAFETY: as in `text`.
                *word = unsafe { slice::from_raw_parts(start, len) };
            }
        }
        Some(has_numbers)
    }

    /// Pushes nil.
    #[inline(always)]
    pub(crate) fn push_nil(self) {
        // SAFETY: as above; the place is reserved.
        unsafe { lua_pushnil(self.state) }
    }

    /// Pushes a boolean.
    #[inline(always)]
    pub(crate) fn push_boolean(self, value: bool) {
        // SAFETY: as above.
        unsafe { lua_pushboolean(self.state, value.into()) }
    }

    /// Pushes a number.
    #[inline(always)]
    pub(crate) fn push_number(self, value: f64) {
        // SAFETY: as above.
        unsafe { lua_pushnumber(self.state, value) }
    }

    /// Pushes a string.
    #[inline(always)]
    pub(crate) fn push_bytes(self, bytes: &[u8]) {
        // SAFETY: as above; Lua copies the bytes.
        unsafe { lua_pushlstring_(self.state, bytes.as_ptr().cast(), bytes.len()) }
    }

    /// Pushes the light userdata that stands for null.
    pub(crate) fn push_null(self) {
        // SAFETY: as above.
        unsafe { lua_pushlightuserdata(self.state, ptr::null_mut()) }
    }

    /// Pushes a table with room for an array and for fields.
    #[inline(always)]
    pub(crate) fn push_table(self, array: c_int, fields: c_int) {
        // SAFETY: as above.
        unsafe { lua_createtable(self.state, array, fields) }
    }

    /// Takes everything out of a table that has room for a list of this length and for nothing else; false if the value is
    /// no such table, which stays as it is.
    #[inline(always)]
    pub(crate) fn empty_list(self, index: c_int, room: c_int) -> bool {
        // SAFETY: as above.
        unsafe { mortise_emptied(self.state, index, room) != 0 }
    }

    /// Pushes a value that stands elsewhere on the stack.
    #[inline(always)]
    pub(crate) fn push_value(self, index: c_int) {
        // SAFETY: as above; the index is valid.
        unsafe { lua_pushvalue(self.state, index) }
    }

    /// Pushes a value that is kept in the registry.
    #[inline(always)]
    pub(crate) fn push_reference(self, reference: Reference) {
        // SAFETY: as above.
        unsafe { lua_rawgeti_(self.state, LUA_REGISTRYINDEX, reference.index()) }
    }

    /// Pushes the table of globals.
    pub(crate) fn push_globals(self) {
        self.push_value(LUA_GLOBALSINDEX);
    }

    /// Keeps the value on top in the registry, and drops it from the stack.
    pub(crate) fn keep(self) -> Reference {
        // SAFETY: as above; the registry is writable, its keys are numbers.
        Reference::new(unsafe { luaL_ref(self.state, LUA_REGISTRYINDEX) })
    }

    /// Pushes a function of ours: a function item or a closure that captures nothing.
    pub(crate) fn push_function<F>(self, function: F)
    where
        F: Fn(Frame<'_>) -> Returns + Copy + 'static,
    {
        self.push_closure(function, 0);
    }

    /// The same with so many values from the top of the stack for its own.
    pub(crate) fn push_closure<F>(self, _: F, values: c_int)
    where
        F: Fn(Frame<'_>) -> Returns + Copy + 'static,
    {
        const { assert!(size_of::<F>() == 0, "a function that captures nothing") };
        // SAFETY: as above.
        unsafe { lua_pushcclosure(self.state, trampoline::<F>, values) }
    }

    /// Pushes Lua's own functions of one name: those that Rust need not write.
    pub(crate) fn push_protected_call(self) {
        // SAFETY: as above.
        unsafe { lua_pushcclosure(self.state, protected_call, 0) }
    }

    /// Moves the value on top to an index, shifting what stands from there on.
    pub(crate) fn insert(self, index: c_int) {
        // SAFETY: as above; the index is valid.
        unsafe { lua_insert(self.state, index) }
    }

    /// Puts the value on top in the place of another.
    pub(crate) fn replace(self, index: c_int) {
        // SAFETY: as above; the index is valid.
        unsafe { lua_replace(self.state, index) }
    }

    /// Joins so many strings from the top.
    pub(crate) fn concat(self, count: c_int) {
        // SAFETY: as above; they are strings, so no metamethod is looked for.
        unsafe { lua_concat(self.state, count) }
    }

    /// Replaces the key on top by its value in a table.
    #[inline(always)]
    pub(crate) fn raw_get(self, table: c_int) {
        // SAFETY: as above; `table` is a table.
        unsafe { lua_rawget_(self.state, table) }
    }

    /// Pushes a table's value of a number.
    #[inline(always)]
    pub(crate) fn raw_get_index(self, table: c_int, index: c_int) {
        // SAFETY: as above.
        unsafe { lua_rawgeti_(self.state, table, index) }
    }

    /// Pushes a table's value of a name.
    #[inline(always)]
    pub(crate) fn raw_get_field(self, table: c_int, name: &[u8]) {
        self.push_bytes(name);
        self.raw_get(if table < 0 && table > LUA_REGISTRYINDEX { table - 1 } else { table });
    }

    /// Takes key and value from the top and puts them into a table that is not read-only; the key is neither nil nor NaN.
    #[inline(always)]
    pub(crate) fn raw_set(self, table: c_int) {
        debug_assert!(!self.is_readonly(table) && self.kind(-2) != Kind::Nil);
        // SAFETY: as above; by its contract nothing is raised.
        unsafe { lua_rawset(self.state, table) }
    }

    /// Takes the value from the top and puts it under a number.
    #[inline(always)]
    pub(crate) fn raw_set_index(self, table: c_int, index: c_int) {
        debug_assert!(!self.is_readonly(table));
        // SAFETY: as above; our own tables are not read-only.
        unsafe { lua_rawseti_(self.state, table, index) }
    }

    /// Takes the value from the top and puts it under a name. `table` counts with the value.
    pub(crate) fn raw_set_field(self, table: c_int, name: &[u8]) {
        self.push_bytes(name);
        self.insert(-2);
        self.raw_set(if table < 0 && table > LUA_REGISTRYINDEX { table - 1 } else { table });
    }

    /// Replaces a key by the next one and its value; false, and the key is gone, after the last.
    #[inline(always)]
    pub(crate) fn next(self, table: c_int) -> bool {
        // SAFETY: as above; the key comes from this table, or is nil.
        unsafe { lua_next(self.state, table) != 0 }
    }

    /// Takes a metatable from the top and gives it to a value.
    pub(crate) fn set_metatable(self, index: c_int) {
        debug_assert!(self.kind(index) != Kind::Table || !self.is_readonly(index));
        // SAFETY: as above; a table that is not read-only.
        unsafe { lua_setmetatable(self.state, index) };
    }

    /// Pushes the metatable of a value, if it has one.
    pub(crate) fn push_metatable(self, index: c_int) -> bool {
        // SAFETY: as above.
        unsafe { lua_getmetatable(self.state, index) != 0 }
    }

    /// Makes a table read-only, or writable.
    #[inline(always)]
    pub(crate) fn set_readonly(self, table: c_int, readonly: bool) {
        // SAFETY: as above; `table` is a table.
        unsafe { mortise_readonly(self.state, table, readonly.into()) }
    }

    /// Whether a table is read-only.
    pub(crate) fn is_readonly(self, table: c_int) -> bool {
        // SAFETY: as above.
        unsafe { mortise_isreadonly(self.state, table) != 0 }
    }

    /// Pushes plain data that Lua owns, for a closure.
    pub(crate) fn push_data<T: Copy>(self, value: T) {
        const { assert!(align_of::<T>() <= 8) };
        // SAFETY: as above; Lua gives as many bytes as asked for, aligned for a double.
        unsafe { lua_newuserdata(self.state, size_of::<T>()).cast::<T>().write(value) }
    }

    /// Reads the data of the closure that runs.
    pub(crate) fn data<T: Copy>(self) -> Option<T> {
        let data = self.upvalue::<T>()?;
        // SAFETY: it holds a `T`: only `push_data` makes userdata, and closures are made with theirs.
        Some(unsafe { data.read() })
    }

    /// Changes the data of the closure that runs.
    pub(crate) fn set_data<T: Copy>(self, value: T) {
        if let Some(data) = self.upvalue::<T>() {
            // SAFETY: as above.
            unsafe { data.write(value) }
        }
    }

    fn upvalue<T>(self) -> Option<*mut T> {
        let index = lua_upvalueindex(1);
        // SAFETY: as above; a userdata of another size is not ours.
        unsafe {
            let data = lua_touserdata(self.state, index);
            (!data.is_null() && lua_objlen(self.state, index) == size_of::<T>()).then_some(data.cast())
        }
    }

    /// Reads Lua text and pushes it as a function; if it is wrong, pushes the message and gives false.
    pub(crate) fn load(self, text: &[u8], name: &CStr) -> bool {
        // SAFETY: as above; errors of the parser are caught within.
        unsafe { luaL_loadbuffer(self.state, text.as_ptr().cast(), text.len(), name.as_ptr()) == 0 }
    }

    /// Opens Lua's own libraries: base, table, string, math.
    pub(crate) fn open_libraries(self) {
        let libraries: [(&CStr, lua_CFunction); 4] = [
            (c"", luaopen_base),
            (c"table", luaopen_table),
            (c"string", luaopen_string),
            (c"math", luaopen_math),
        ];
        for (name, open) in libraries {
            // SAFETY: as above; these openers only fill tables.
            unsafe {
                lua_pushcclosure(self.state, open, 0);
                lua_pushstring_(self.state, name.as_ptr());
                lua_call(self.state, 1, 0);
            }
        }
    }

    /// Collects all garbage.
    pub(crate) fn collect(self) {
        // SAFETY: as above; nothing has a finalizer.
        unsafe { lua_gc(self.state, LUA_GCCOLLECT, 0) };
    }

    /// Does a step of collecting garbage; true if it was the last of a cycle.
    pub(crate) fn collect_step(self, size: c_int) -> bool {
        // SAFETY: as above.
        unsafe { lua_gc(self.state, LUA_GCSTEP, size) != 0 }
    }
}
