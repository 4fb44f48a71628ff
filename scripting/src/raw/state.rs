//! A Lua state: made, entered, called, closed.

use std::ffi::{c_int, c_void};
use std::ptr::NonNull;

use mlua_sys::*;

use super::control::{self, Control};
use super::frame::Frame;
use crate::hook;

/// A value that is kept in the registry of one state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Reference(c_int);

impl Reference {
    pub(super) fn new(index: c_int) -> Reference {
        Reference(index)
    }

    pub(super) fn index(self) -> c_int {
        self.0
    }
}

/// A call has failed. The error stands on top of the stack.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Failed;

/// A Lua state. It is closed when dropped, also half way through a script whose stack has been unwound.
pub(crate) struct State {
    state: NonNull<lua_State>,
}

// SAFETY: a state belongs to no thread; it is used by whoever owns it.
unsafe impl Send for State {}

impl State {
    /// A state without anything in it; `None` without memory.
    ///
    /// # Safety of use
    ///
    /// The control must outlive the state and stay where it is: `Sandbox` keeps it in a box that it drops last.
    pub(crate) fn new(control: &Control) -> Option<State> {
        let context: *const Control = control;
        // SAFETY: the control outlives the state, and is only read through this pointer (its fields are cells).
        let state = unsafe { lua_newstate(control::allocate, context as *mut c_void) };
        Some(State { state: NonNull::new(state)? })
    }

    fn control(&self) -> &Control {
        control::of(self.state.as_ptr())
    }

    /// Does something with the stack, as a guest.
    #[inline(always)]
    pub(crate) fn enter<R>(&self, act: impl FnOnce(Frame<'_>) -> R) -> R {
        let control = self.control();
        let guests = control.enter();
        // SAFETY: the state is alive, and the guest has entered.
        let result = act(unsafe { Frame::new(self.state.as_ptr(), control) });
        control.leave(guests);
        result
    }

    /// Calls the function on top of the stack, with the function below it as the handler of errors. One value, the result
    /// or the error, takes its place.
    #[inline(always)]
    pub(crate) fn call(&self) -> Result<(), Failed> {
        let state = self.state.as_ptr();
        let control = self.control();
        control.leave(0);
        hook::arm(state);
        // SAFETY: function and handler stand on the stack; what is raised ends here. A panic unwinds through Lua's frames
        // and leaves a state that is not used again: `Sandbox` closes it.
        match unsafe { lua_pcall(state, 0, 1, -2) } {
            0 => Ok(()),
            _ => Err(Failed),
        }
    }
}

impl Drop for State {
    fn drop(&mut self) {
        let control = self.control();
        control.leave(0);
        // SAFETY: nobody uses the state any more. Closing it needs nothing of what its stack held: it begins anew from the
        // bottom, and no value has a finalizer.
        unsafe { lua_close(self.state.as_ptr()) }
    }
}
