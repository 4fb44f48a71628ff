//! How Lua calls guests, and how an error becomes a jump.

use std::ffi::c_int;
use std::ptr;

use mlua_sys::*;

use super::control::{self, Control};
use super::frame::{Frame, Raise, Returns};
use crate::hook;

/// What Lua calls: serves the guest, then settles with Lua.
pub(super) unsafe extern "C-unwind" fn trampoline<F>(state: *mut lua_State) -> c_int
where
    F: Fn(Frame<'_>) -> Returns + Copy + 'static,
{
    let control = control::of(state);
    let guests = control.enter();
    // SAFETY: `push_closure` was given such a function, and it has no size: there is nothing to be read.
    let function = unsafe { ptr::NonNull::<F>::dangling().as_ref() };
    // SAFETY: Lua calls with a living state, and the guest has entered.
    let returns = function(unsafe { Frame::new(state, control) });
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
pub(super) unsafe extern "C-unwind" fn protected_call(state: *mut lua_State) -> c_int {
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
        let status = lua_pcall(state, (arguments - 1).max(0), LUA_MULTRET, 0);
        if status != 0 {
            if status == LUA_ERRMEM && !control::of(state).watch.has_ended() {
                // What was wanted is garbage by now; without it the script could do nothing about the error.
                lua_gc(state, LUA_GCCOLLECT, 0);
            }
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
