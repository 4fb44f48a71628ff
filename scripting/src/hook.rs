//! A script's clock: it gives way about once a millisecond, and ends when it is asked to.
//!
//! Lua calls the hook every so many instructions, and `mortise_tick` from within its own long functions (patterns, sort,
//! concat, hashing). Both look at the clock; when a slice is over they ask the host to pause, which is where a server
//! suspends the coroutine that the script runs on. The number of instructions adapts: an instruction may be an addition
//! or a call that takes a millisecond.
//!
//! A script that is to end is ended in two steps. First an error of memory is raised at every instruction: no handler
//! is called for it, and whatever catches it (pcall, a coroutine) is caught by the next. If that does not end the script
//! soon, its stack is unwound like that of a panic, and the state is closed. In the first case the state stays.

use std::cell::Cell;
use std::ffi::c_int;
use std::panic;
use std::time::{Duration, Instant};

use mlua_sys::*;

use crate::host::Verdict;
use crate::raw::{Control, Place, control_of, out_of_memory, place};

/// After so long a script gives way.
const SLICE: Duration = Duration::from_millis(1);
/// A hook that comes later than this came too late.
const LATE: Duration = Duration::from_micros(300);
/// A hook that comes earlier than this came too early.
const EARLY: Duration = Duration::from_micros(100);
/// Instructions to the first hook.
const COUNT_FIRST: c_int = 100;
/// Instructions at most.
const COUNT_MAX: c_int = 20_000;
/// How long a script may take to end by the error of memory.
const GRACE: Duration = Duration::from_millis(5);

/// What the clock of a script shows.
#[derive(Default)]
pub(crate) struct Watch {
    /// When the slice began; nothing before the first look.
    slice: Cell<Option<Instant>>,
    /// When the last hook was done.
    looked: Cell<Option<Instant>>,
    /// When the script was told to end.
    ended: Cell<Option<Instant>>,
    /// What guests have done since they last looked.
    steps: Cell<u32>,
}

impl Watch {
    /// A new script begins.
    #[inline(always)]
    pub(crate) fn begin(&self) {
        self.slice.set(None);
        self.ended.set(None);
    }

    /// A guest has done a step; true if it is time to look at the clock.
    #[inline(always)]
    pub(crate) fn steps(&self) -> bool {
        self.steps.set(self.steps.get().wrapping_add(1));
        self.steps.get() & 0x3FF == 0
    }

    /// Whether the script was told to end.
    #[inline(always)]
    pub(crate) fn has_ended(&self) -> bool {
        self.ended.get().is_some()
    }
}

/// The payload with which the stack of a script that does not end is unwound.
pub(crate) struct Unwound;

/// Sets the hook for a new script.
#[inline(always)]
pub(crate) fn arm(state: *mut lua_State) {
    // SAFETY: the state is alive; a hook is set by writing three fields.
    unsafe { lua_sethook(state, Some(hook), LUA_MASKCOUNT, COUNT_FIRST) };
}

/// Called by Lua between two instructions.
unsafe extern "C-unwind" fn hook(state: *mut lua_State, _: *mut lua_Debug) {
    let control = control_of(state);
    // Lua's own code runs, so no guest is there, whatever became of the last.
    control.leave(0);
    let now = Instant::now();
    let watch = &control.watch;
    if !watch.has_ended() {
        if let Some(looked) = watch.looked.get()
            && watch.slice.get().is_some()
        {
            adapt(state, now - looked);
        }
        look(state, control, now);
        watch.looked.set(Some(Instant::now()));
    }
    if watch.has_ended() {
        // SAFETY: this frame holds nothing that is to be dropped, and Lua's own frames neither.
        unsafe { end(state, control) };
    }
}

/// Called by Lua's own functions now and then while they take long.
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn mortise_tick(state: *mut lua_State) {
    let control = control_of(state);
    if control.has_guests() {
        return;
    }
    if !control.watch.has_ended() {
        look(state, control, Instant::now());
    }
    if control.watch.has_ended() {
        // SAFETY: as in the hook.
        unsafe { end(state, control) };
    }
}

/// Looks at the clock on behalf of a guest, which finds out by itself whether the script is to end.
#[cold]
pub(crate) fn pause(state: *mut lua_State, control: &Control) {
    if !control.watch.has_ended() {
        look(state, control, Instant::now());
    }
}

/// How many bytes a script may still ask for.
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn mortise_room(state: *mut lua_State) -> usize {
    control_of(state).room()
}

/// More instructions to the next hook, or fewer.
fn adapt(state: *mut lua_State, took: Duration) {
    // SAFETY: reads a field of the state.
    let count = unsafe { lua_gethookcount(state) };
    let adapted = if took > LATE {
        let wanted = f64::from(count) * EARLY.as_secs_f64() * 2.0 / took.as_secs_f64();
        (wanted as c_int).max(1)
    } else if took < EARLY {
        (count * 4).min(COUNT_MAX)
    } else {
        count
    };
    if adapted != count {
        // SAFETY: as in `arm`.
        unsafe { lua_sethook(state, Some(hook), LUA_MASKCOUNT, adapted) };
    }
}

/// Gives way if the slice is over.
fn look(state: *mut lua_State, control: &Control, now: Instant) {
    let watch = &control.watch;
    let Some(slice) = watch.slice.get() else {
        watch.slice.set(Some(now));
        return;
    };
    if now - slice < SLICE {
        return;
    }
    // The host may be unwound from here; then this frame and all of Lua's are, too.
    let verdict = control.with_host(|host| host.pause());
    let now = Instant::now();
    watch.slice.set(Some(now));
    watch.looked.set(Some(now));
    if verdict == Some(Verdict::End) {
        watch.ended.set(Some(now));
        // Where it was in a text that has a name; what it has loaded itself is named by all of its text.
        let is_named = |place: &Place| place.line > 0 && place.source.starts_with(b"@");
        let at = (0..).map_while(|level| place(state, level)).find(is_named);
        *control.shared.ended_at.borrow_mut() = at.map(|place| (place.source, place.line));
    }
}

/// Ends the script.
///
/// # Safety
///
/// As for [`out_of_memory`].
#[cold]
pub(crate) unsafe fn end(state: *mut lua_State, control: &Control) -> ! {
    if control.watch.ended.get().is_some_and(|ended| ended.elapsed() > GRACE) {
        panic::resume_unwind(Box::new(Unwound));
    }
    // SAFETY: the hook is set as in `arm`; the rest is the caller's word.
    unsafe {
        lua_sethook(state, Some(hook), LUA_MASKCOUNT, 1);
        out_of_memory(state)
    }
}
