//! A guest's view of Lua's stack: arguments, results, tables.

use std::ffi::{CStr, c_int};
use std::marker::PhantomData;
use std::{mem, ptr, slice};

use mlua_sys::*;

use super::control::{self, Control, Shared};
use super::state::Reference;
use crate::hook;

unsafe extern "C-unwind" {
    fn mortise_readonly(state: *mut lua_State, index: c_int, enabled: c_int);
    fn mortise_isreadonly(state: *mut lua_State, index: c_int) -> c_int;
}

/// The stack of the function that is being called. Indices are Lua's: from 1 on arguments, negative ones from the top.
///
/// A C function has twenty places beyond its arguments; who needs more, or does not know, reserves them.
#[derive(Clone, Copy)]
pub(crate) struct Frame<'a> {
    state: *mut lua_State,
    life: PhantomData<&'a Control>,
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
    /// # Safety
    ///
    /// The state is alive for `'a`, and a guest has entered (`Control::enter`).
    pub(super) unsafe fn new(state: *mut lua_State) -> Frame<'a> {
        Frame { state, life: PhantomData }
    }

    /// What the state shares with its owner.
    #[inline(always)]
    pub(crate) fn control(self) -> &'a Control {
        control::of(self.state)
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
        if bytes > self.control().room() { self.raise_text(b"not enough memory") } else { Ok(()) }
    }

    /// Called by guests that may take long, now and then: gives way like the script itself, and ends with it.
    /// The guest borrows nothing of the host meanwhile.
    #[inline(always)]
    pub(crate) fn breathe(self) -> Result<(), Raise> {
        if self.control().watch.steps() { self.pause() } else { Ok(()) }
    }

    #[cold]
    fn pause(self) -> Result<(), Raise> {
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

/// What Lua calls: serves the guest, then settles with Lua.
unsafe extern "C-unwind" fn trampoline<F>(state: *mut lua_State) -> c_int
where
    F: Fn(Frame<'_>) -> Returns + Copy + 'static,
{
    let control = control::of(state);
    let guests = control.enter();
    // SAFETY: `push_closure` was given one, and it has no size: there is nothing to be wrong about.
    let function: F = unsafe { mem::MaybeUninit::uninit().assume_init() };
    // SAFETY: Lua calls with a living state, and the guest has entered.
    let returns = function(unsafe { Frame::new(state) });
    if control.is_over() {
        settle(state, control);
    }
    control.leave(guests);
    match returns {
        Ok(count) if !control.is_over() => count,
        // SAFETY: nothing of the guest is left, so the jump skips nothing.
        Ok(_) => unsafe { out_of_memory(state) },
        // SAFETY: as above. The guest may have been told that the script is to end; then no handler is to see it.
        Err(Raise) if control.watch.has_ended() => unsafe { hook::end(state, control) },
        // SAFETY: as above; the error stands on top of the stack.
        Err(Raise) => unsafe { lua_error(state) },
    }
}

/// More has been given than is allowed: perhaps much of it is garbage.
#[cold]
fn settle(state: *mut lua_State, control: &Control) {
    // SAFETY: as in `collect`; a guest is still there, so nothing is refused.
    unsafe { lua_gc(state, LUA_GCCOLLECT, 0) };
    debug_assert!(control.has_guests());
}

/// Raises the error of memory, which no handler is called for.
///
/// # Safety
///
/// No frame between here and Lua's nearest protected call holds a value that is to be dropped.
pub(crate) unsafe fn out_of_memory(state: *mut lua_State) -> ! {
    let control = control::of(state);
    control.refuse_next();
    // SAFETY: the allocator refuses, so this jumps.
    unsafe { lua_newuserdata(state, 64) };
    unreachable!("the allocator refuses")
}

/// `pcall` as Redis has it: the text of an error table is what the caller gets.
unsafe extern "C-unwind" fn protected_call(state: *mut lua_State) -> c_int {
    // SAFETY: Lua calls with a living state; this frame holds nothing that is to be dropped, and no guest has entered:
    // the memory may be refused here as in any function of Lua's own.
    unsafe {
        let arguments = lua_gettop(state);
        lua_pushboolean(state, 1); // the result goes here
        lua_insert(state, 1);
        if arguments == 0 {
            // `pcall()` calls the place of the result.
            lua_pushboolean(state, 1);
        }
        if lua_pcall(state, (arguments - 1).max(0), LUA_MULTRET, 0) != 0 {
            lua_remove(state, 1); // makes room for at least one value
            if lua_type(state, -1) == LUA_TTABLE {
                lua_pushlstring_(state, c"err".as_ptr(), 3);
                lua_rawget_(state, -2);
                // Redis leaves what is no text as one more result.
                if lua_isstring(state, -1) != 0 {
                    lua_replace(state, -2);
                }
            }
            lua_pushboolean(state, 0);
            lua_insert(state, 1);
        }
        lua_gettop(state)
    }
}
