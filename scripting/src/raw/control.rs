//! What a Lua state and its owner share: the count of memory, the host of the running script, the state of libraries.

use std::alloc::{self, Layout};
use std::cell::{Cell, RefCell};
use std::ffi::c_void;
use std::ptr::{self, NonNull};

use mlua_sys::{lua_State, lua_getallocf};
use mortise_sdk::resp::encode::Version;

use crate::hook::Watch;
use crate::host::Host;
use crate::random::Random;

/// What Lua's own structures need of alignment: a pointer or a double.
const ALIGN: usize = 8;

/// Lives at one address for as long as its state does, which knows it as the context of its allocator.
pub(crate) struct Control {
    /// Bytes that Lua holds.
    used: Cell<usize>,
    /// Bytes that it may hold.
    limit: Cell<usize>,
    /// Bytes that it held when all garbage had been collected.
    survived: Cell<usize>,
    /// The next request for memory is refused: an error of memory is to be raised.
    refuses: Cell<bool>,
    /// How many guests are being served, one within another.
    guests: Cell<u32>,
    host: Cell<Option<NonNull<dyn Host>>>,
    /// The clock of the running script.
    pub(crate) watch: Watch,
    /// What guests share.
    pub(crate) shared: Shared,
}

// SAFETY: a control goes from thread to thread only between runs, when it holds no host; everything else in it is plain
// data. During a run its machine stands on the run's own stack.
unsafe impl Send for Control {}

/// What guests share with each other and with the sandbox.
pub(crate) struct Shared {
    /// The protocol in which the script wants replies.
    pub(crate) version: Cell<Version>,
    /// The generator behind `math.random`.
    pub(crate) random: Random,
    /// A buffer that is lent to whoever needs one.
    buffer: Cell<Vec<u8>>,
    /// Where a script was when it was ended.
    pub(crate) ended_at: RefCell<Option<(Vec<u8>, i32)>>,
}

impl Shared {
    /// Lends the buffer, empty.
    pub(crate) fn borrow_buffer(&self) -> Vec<u8> {
        let mut buffer = self.buffer.take();
        buffer.clear();
        buffer
    }

    /// Takes it back, unless it has become large.
    pub(crate) fn return_buffer(&self, buffer: Vec<u8>) {
        const KEEP_MAX: usize = 1 << 20;
        if buffer.capacity() <= KEEP_MAX {
            self.buffer.set(buffer);
        }
    }
}

impl Control {
    pub(crate) fn new(limit: usize, random: Random) -> Control {
        Control {
            used: Cell::new(0),
            limit: Cell::new(limit),
            survived: Cell::new(0),
            refuses: Cell::new(false),
            guests: Cell::new(0),
            host: Cell::new(None),
            watch: Watch::default(),
            shared: Shared {
                version: Cell::new(Version::Resp2),
                random,
                buffer: Cell::new(Vec::new()),
                ended_at: RefCell::new(None),
            },
        }
    }

    /// Bytes that Lua holds.
    pub(crate) fn used(&self) -> usize {
        self.used.get()
    }

    /// Lets Lua hold so many bytes from now on.
    pub(crate) fn set_limit(&self, limit: usize) {
        self.limit.set(limit);
    }

    /// Bytes that it may still ask for.
    pub(crate) fn room(&self) -> usize {
        self.limit.get().saturating_sub(self.used.get())
    }

    /// Whether more than half of what is allowed is taken, leaving aside what has survived the last collection: that is
    /// no garbage, and would be looked through in vain.
    #[inline(always)]
    pub(crate) fn is_tight(&self) -> bool {
        let survived = self.survived.get();
        self.used.get() > survived + self.limit.get().saturating_sub(survived) / 2
    }

    /// All garbage has been collected.
    pub(crate) fn note_survivors(&self) {
        self.survived.set(self.used.get());
    }

    /// Whether more has been given than allowed: guests are not refused anything.
    pub(crate) fn is_over(&self) -> bool {
        self.used.get() > self.limit.get()
    }

    /// The next request for memory is refused.
    pub(crate) fn refuse_next(&self) {
        self.refuses.set(true);
    }

    /// Whether a script is running.
    #[inline(always)]
    pub(crate) fn is_running(&self) -> bool {
        self.host.get().is_some()
    }

    /// Whether Rust code runs within Lua.
    pub(crate) fn has_guests(&self) -> bool {
        self.guests.get() > 0
    }

    /// A guest comes; gives the number to go back to.
    #[inline(always)]
    pub(super) fn enter(&self) -> u32 {
        self.guests.replace(self.guests.get() + 1)
    }

    /// Back to the number before.
    #[inline(always)]
    pub(crate) fn leave(&self, guests: u32) {
        self.guests.set(guests);
    }

    /// Lends a host for a run, or takes it away.
    pub(crate) fn set_host(&self, host: Option<&mut dyn Host>) {
        // SAFETY: only the lifetime is forgotten. `Sandbox::run` lends its host for the time of the run and takes it away
        // before it returns or unwinds; nobody else uses it meanwhile.
        let host = host.map(|host| unsafe { std::mem::transmute::<&mut dyn Host, NonNull<dyn Host>>(host) });
        self.host.set(host);
    }

    /// Asks the host of the running script; `None` if no script is running.
    #[inline(always)]
    pub(crate) fn with_host<R>(&self, ask: impl FnOnce(&mut dyn Host) -> R) -> Option<R> {
        // Taken away while it is asked, so that it is never lent twice.
        let mut host = self.host.take()?;
        // SAFETY: the host outlives the run (`set_host`), and this is the only reference to it.
        let answer = ask(unsafe { host.as_mut() });
        self.host.set(Some(host));
        Some(answer)
    }
}

/// The control of a state.
#[inline(always)]
pub(crate) fn of<'a>(state: *mut lua_State) -> &'a Control {
    let mut context = ptr::null_mut();
    // SAFETY: every state is made by `State::new`, whose allocator's context is its control; that outlives the state.
    unsafe {
        lua_getallocf(state, &mut context);
        &*context.cast::<Control>()
    }
}

/// Lua's allocator: counts, and refuses beyond the limit.
pub(super) unsafe extern "C" fn allocate(
    context: *mut c_void,
    block: *mut c_void,
    old: usize,
    new: usize,
) -> *mut c_void {
    // SAFETY: the context is the control, which outlives the state.
    let control = unsafe { &*context.cast::<Control>() };
    let old = if block.is_null() { 0 } else { old };
    let layout = |len| Layout::from_size_align(len, ALIGN).ok();
    if new == 0 {
        if let Some(layout) = layout(old)
            && old > 0
        {
            // SAFETY: Lua hands back a block with the length it was asked for.
            unsafe { alloc::dealloc(block.cast(), layout) };
            control.used.set(control.used.get() - old);
        }
        return ptr::null_mut();
    }
    let used = control.used.get() - old + new;
    if new > old && control.guests.get() == 0 && (control.refuses.take() || used > control.limit.get()) {
        return ptr::null_mut();
    }
    let Some(wanted) = layout(new) else { return ptr::null_mut() };
    let block = match layout(old) {
        // SAFETY: as above; `new` is not zero and makes a valid layout.
        Some(old) if old.size() > 0 => unsafe { alloc::realloc(block.cast(), old, new) },
        // SAFETY: `new` is not zero.
        _ => unsafe { alloc::alloc(wanted) },
    };
    if block.is_null() && control.guests.get() > 0 {
        // A guest cannot be refused, so this ends as everywhere in Rust.
        alloc::handle_alloc_error(wanted);
    }
    if !block.is_null() {
        control.used.set(used);
    }
    block.cast()
}
