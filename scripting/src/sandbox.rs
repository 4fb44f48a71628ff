//! The sandbox: scripts, and the Lua they run in.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use mortise_sdk::error::Error;
use mortise_sdk::resp::encode::Version;

use crate::cache::{Cache, Digest, Entry, Script};
use crate::host::Host;
use crate::random::Random;
use crate::raw::{Control, Failed, Frame, Kind, Reference, State};
use crate::result::{Cut, Pace, Writer};
use crate::{environment, errors, hook};

/// What a sandbox is made with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Bytes that Lua may hold, garbage included. A script that wants more fails.
    pub memory_max: usize,
    /// The server's version, as scripts see it.
    pub version: String,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { memory_max: 1 << 30, version: "7.0.15".to_owned() }
    }
}

/// How a script's run came to its end. Its reply, also an error, has been written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It returned.
    Returned,
    /// It failed.
    Failed,
    /// Its host had it ended.
    Ended,
}

/// What INFO and MEMORY show.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Usage {
    /// Bytes that Lua holds.
    pub lua_bytes: usize,
    /// Scripts that are known.
    pub scripts: usize,
    /// Bytes that their texts take.
    pub scripts_bytes: usize,
}

/// Scripts and the Lua they run in. It is no thread's, and used by one at a time.
pub struct Sandbox {
    settings: Settings,
    scripts: Cache,
    machine: Option<Machine>,
    /// How many machines there have been.
    machines: u64,
    random: Random,
}

/// A Lua state with its environment.
struct Machine {
    // The state is closed before its control goes.
    state: State,
    control: Box<Control>,
    /// Which of the machines it is: functions belong to one.
    number: u64,
    handler: Reference,
    keys: Reference,
    arguments: Reference,
}

/// What has been forgotten and takes time to free; it may be dropped on another thread.
pub struct Remains {
    _scripts: Cache,
    _machine: Option<Machine>,
}

impl Sandbox {
    /// A sandbox without scripts. Lua itself comes with the first.
    pub fn new(settings: Settings) -> Sandbox {
        Sandbox { settings, scripts: Cache::default(), machine: None, machines: 0, random: Random::default() }
    }

    /// Lets Lua hold so many bytes from now on. What it holds beyond that stays until it is collected; until then scripts
    /// are given nothing.
    pub fn set_memory_max(&mut self, memory_max: usize) {
        self.settings.memory_max = memory_max;
        if let Some(machine) = &self.machine {
            machine.control.set_limit(memory_max);
        }
    }

    /// Makes a script known (EVAL, SCRIPT LOAD). The error is the reply.
    pub fn load(&mut self, body: &[u8]) -> Result<Script, Error> {
        self.load_as(Digest::of(body), body)
    }

    /// The same where the digest is known already.
    pub fn load_as(&mut self, digest: Digest, body: &[u8]) -> Result<Script, Error> {
        if let Some(script) = self.scripts.find(&digest) {
            return Ok(script);
        }
        let (flags, start) = Cache::read(body)?;
        let machine = self.machine()?;
        let function = machine.compile(&body[start..])?;
        let function = Some((machine.number, function));
        Ok(self.scripts.add(Entry { digest, body: body.into(), start, function }, flags))
    }

    /// The script of a digest in forty hexadecimal digits, if it is known (EVALSHA, SCRIPT EXISTS).
    #[inline]
    pub fn find(&mut self, digest: &[u8]) -> Option<Script> {
        self.scripts.find_digits(digest)
    }

    /// The script of a digest.
    pub fn find_digest(&self, digest: &Digest) -> Option<Script> {
        self.scripts.find(digest)
    }

    /// A script's name and its text, if it has not been forgotten.
    pub fn text(&self, script: Script) -> Option<(Digest, &[u8])> {
        self.scripts.entry(script).map(|entry| (entry.digest, &*entry.body))
    }

    /// Forgets all scripts, and Lua with them (SCRIPT FLUSH). The sequence of `math.random` goes on.
    pub fn flush(&mut self) -> Remains {
        Remains { _scripts: self.scripts.clear(), _machine: self.machine.take() }
    }

    /// What it takes.
    pub fn usage(&self) -> Usage {
        Usage {
            lua_bytes: self.machine.as_ref().map_or(0, |machine| machine.control.used()),
            scripts: self.scripts.len(),
            scripts_bytes: self.scripts.bytes(),
        }
    }

    /// Runs a script. Its result, or an error, is written as one reply in the client's version of the protocol.
    ///
    /// The run may be unwound from [`Host::pause`] or by a panic of the host; the sandbox stays usable.
    pub fn run<'a>(
        &mut self,
        script: Script,
        keys: impl ExactSizeIterator<Item = &'a [u8]>,
        arguments: impl ExactSizeIterator<Item = &'a [u8]>,
        host: &mut dyn Host,
        version: Version,
        out: &mut Vec<u8>,
    ) -> Outcome {
        let prepared = self.function(script).and_then(|function| Ok((function, self.take_machine()?)));
        let (function, machine) = match prepared {
            Ok(prepared) => prepared,
            Err(error) => {
                errors::write(out, error.as_bytes());
                host.count_error(error.as_bytes());
                return Outcome::Failed;
            }
        };
        machine.state.enter(|frame| {
            frame.set_top(0);
            frame.push_reference(machine.handler);
            frame.push_reference(function);
            frame.push_globals();
            frame.set_readonly(-1, false);
            push_list(frame, machine.keys, keys);
            push_list(frame, machine.arguments, arguments);
            frame.set_readonly(-1, true);
            frame.pop(1);
            if machine.control.is_over() && machine.control.is_tight() {
                frame.collect();
            }
        });
        // If the run is unwound, the machine is closed with this call's stack.
        let (outcome, machine) = machine.go(host, &mut Written { sandbox: self, script, version, out });
        if let Some(machine) = &machine
            && machine.control.is_tight()
        {
            machine.clean();
        }
        self.machine = machine;
        outcome
    }

    /// The machine, made if there is none.
    fn machine(&mut self) -> Result<&Machine, Error> {
        match &mut self.machine {
            Some(machine) => Ok(machine),
            none => {
                self.machines += 1;
                Ok(none.insert(Machine::new(&self.settings, self.machines, &self.random)?))
            }
        }
    }

    #[inline(always)]
    fn take_machine(&mut self) -> Result<Machine, Error> {
        match self.machine.take() {
            Some(machine) => Ok(machine),
            None => {
                self.machine()?;
                self.machine.take().ok_or(NO_MEMORY)
            }
        }
    }

    /// A script's function in the machine that is there; compiled anew if another has gone since.
    #[inline(always)]
    fn function(&mut self, script: Script) -> Result<Reference, Error> {
        if let Some(Entry { function: Some((number, function)), .. }) = self.scripts.entry(script)
            && self.machine.as_ref().is_some_and(|machine| machine.number == *number)
        {
            return Ok(*function);
        }
        self.compile(script)
    }

    #[cold]
    fn compile(&mut self, script: Script) -> Result<Reference, Error> {
        self.machine()?;
        let machine = self.machine.as_ref().ok_or(NO_MEMORY)?;
        let entry = self.scripts.entry_mut(script).ok_or(NOSCRIPT)?;
        let function = machine.compile(&entry.body[entry.start..])?;
        entry.function = Some((machine.number, function));
        Ok(function)
    }
}

/// What a script is refused with that is not known.
pub const NOSCRIPT: Error = Error::new("NOSCRIPT No matching script. Please use EVAL.");

const NO_MEMORY: Error = Error::new("ERR not enough memory for Lua");

/// What a script is told when it was ended.
const ENDED: &[u8] = b"ERR Script killed by user with SCRIPT KILL...";

/// Sets a global to a list of strings; the globals stand on top. The table of the run before is used again if nothing was
/// done to it: no script can have kept it, as nothing of a script stays but its function.
#[inline(always)]
fn push_list<'a>(frame: Frame<'_>, name: Reference, list: impl ExactSizeIterator<Item = &'a [u8]>) {
    // Room as if the list had grown element by element: the order of `pairs` hangs on it.
    let room = if list.len() == 0 { 0 } else { list.len().next_power_of_two() };
    let room = i32::try_from(room).unwrap_or(0);
    frame.push_reference(name);
    frame.raw_get(-2);
    let is_new = !frame.empty_list(-1, room);
    if is_new {
        frame.pop(1);
        frame.push_table(room, 0);
    }
    for (index, element) in (1..).zip(list) {
        frame.push_bytes(element);
        frame.raw_set_index(-2, index);
    }
    if is_new {
        frame.push_reference(name);
        frame.insert(-2);
        frame.raw_set(-3);
    } else {
        frame.pop(1);
    }
}

/// Where a run's reply goes.
struct Written<'r> {
    sandbox: &'r Sandbox,
    script: Script,
    version: Version,
    out: &'r mut Vec<u8>,
}

impl Written<'_> {
    /// The script's name.
    fn name(&self) -> [u8; 40] {
        self.sandbox.text(self.script).map_or([b'0'; 40], |(digest, _)| digest.hex())
    }

    /// An error with the place where it arose.
    #[cold]
    fn error(&mut self, mut text: Vec<u8>, place: Option<(Vec<u8>, Vec<u8>)>, host: Option<&mut dyn Host>) {
        if let Some((source, line)) = place {
            errors::write_place(&mut text, &self.name(), &source, &line);
        }
        errors::write(self.out, &text);
        if let Some(host) = host {
            host.count_error(&text);
        }
    }

    /// An error that no handler has seen.
    #[cold]
    fn bare_error(&mut self, text: &[u8], host: &mut dyn Host) {
        let text = [b"ERR Error running script ", &self.name()[..], b", ", text].concat();
        self.error(text, None, Some(host));
    }
}

impl Machine {
    fn new(settings: &Settings, number: u64, random: &Random) -> Result<Machine, Error> {
        let control = Box::new(Control::new(settings.memory_max, random.clone()));
        let state = State::new(&control).ok_or(NO_MEMORY)?;
        let (handler, keys, arguments) = state.enter(|frame| {
            environment::build(frame, &settings.version);
            frame.push_globals();
            frame.raw_get_field(-1, environment::HANDLER);
            let handler = frame.keep();
            frame.push_bytes(b"KEYS");
            let keys = frame.keep();
            frame.push_bytes(b"ARGV");
            let arguments = frame.keep();
            frame.set_top(0);
            (handler, keys, arguments)
        });
        Ok(Machine { state, control, number, handler, keys, arguments })
    }

    /// Compiles a script. The error is the reply.
    fn compile(&self, text: &[u8]) -> Result<Reference, Error> {
        match self.try_compile(text)? {
            Some(function) => return Ok(function),
            // Perhaps the arguments of the script before have no more use than garbage.
            None => self.clean(),
        }
        let function = self.try_compile(text)?;
        if function.is_none() {
            self.clean();
        }
        function.ok_or(NO_MEMORY)
    }

    /// Compiles a script; nothing if more is taken than allowed when the garbage of it has been collected.
    fn try_compile(&self, text: &[u8]) -> Result<Option<Reference>, Error> {
        self.state.enter(|frame| {
            frame.set_top(0);
            if frame.load(text, c"@user_script") {
                if self.control.is_over() {
                    frame.collect();
                }
                let fits = !self.control.is_over();
                let function = fits.then(|| frame.keep());
                frame.set_top(0);
                return Ok(function);
            }
            let message = frame.text(-1).unwrap_or_default();
            let error = Error::quoting("ERR Error compiling script (new function): {}", &[message]);
            frame.set_top(0);
            Err(error)
        })
    }

    /// Runs the function that stands on the stack, and writes its reply. The machine comes back, unless it was unwound.
    #[inline(always)]
    fn go(self, host: &mut dyn Host, written: &mut Written<'_>) -> (Outcome, Option<Machine>) {
        let control = &*self.control;
        control.watch.begin();
        control.shared.version.set(Version::Resp2);
        control.set_host(Some(host));
        let called = catch_unwind(AssertUnwindSafe(|| self.state.call()));
        control.set_host(None);
        let result = match called {
            Ok(result) => result,
            Err(payload) if payload.is::<hook::Unwound>() => {
                self.ended(written);
                return (Outcome::Ended, None);
            }
            // Not ours to stop: whoever drives the run wants it unwound, or a command has panicked.
            Err(payload) => resume_unwind(payload),
        };
        if control.watch.has_ended() {
            self.ended(written);
            self.state.enter(|frame| frame.set_top(0));
            return (Outcome::Ended, Some(self));
        }
        let outcome = match result {
            Ok(()) => self.returned(host, written),
            Err(Failed) => {
                self.failed(host, written);
                Outcome::Failed
            }
        };
        (outcome, Some(self))
    }

    #[inline(always)]
    fn returned(&self, host: &mut dyn Host, written: &mut Written<'_>) -> Outcome {
        let mark = written.out.len();
        let result = self.state.enter(|frame| {
            let mut writer = Writer {
                out: &mut *written.out,
                version: written.version,
                script_version: self.control.shared.version.get(),
                host,
                // The reply counts like Lua's memory; 64 KB are always to be had.
                end_max: mark + self.control.room().max(1 << 16),
                pace: Pace::default(),
            };
            let result = writer.value(frame);
            frame.set_top(0);
            result
        });
        match result {
            Ok(()) => Outcome::Returned,
            Err(cut) => {
                written.out.truncate(mark);
                match cut {
                    Cut::Ended => {
                        self.ended(written);
                        Outcome::Ended
                    }
                    Cut::TooLarge => {
                        written.bare_error(b"the result is too large", host);
                        Outcome::Failed
                    }
                }
            }
        }
    }

    #[cold]
    fn failed(&self, host: &mut dyn Host, written: &mut Written<'_>) {
        self.state.enter(|frame| {
            if frame.kind(-1) == Kind::Table {
                let description = errors::describe(frame);
                let host = (!description.counted).then_some(host);
                written.error(description.message, description.place, host);
            } else {
                written.bare_error(errors::until_zero(frame.bytes(-1).unwrap_or(b"execution failure")), host);
            }
            frame.set_top(0);
        });
    }

    /// Collects what a script that took much has left, so that the next need not. Its arguments are let go, too.
    #[cold]
    fn clean(&self) {
        self.state.enter(|frame| {
            frame.push_globals();
            frame.set_readonly(-1, false);
            for name in [self.keys, self.arguments] {
                frame.push_reference(name);
                frame.push_boolean(false);
                frame.raw_set(-3);
            }
            frame.set_readonly(-1, true);
            frame.set_top(0);
            frame.collect();
        });
        self.control.note_survivors();
    }

    #[cold]
    fn ended(&self, written: &mut Written<'_>) {
        let place = self.control.shared.ended_at.take();
        let place = place.map(|(source, line)| (source, errors::line_text(line)));
        written.error(ENDED.to_vec(), place, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Calls nothing.
    struct Nobody;

    impl Host for Nobody {
        fn call(&mut self, _: &[&[u8]], _: Version) -> &[u8] {
            b"-ERR nobody is there\r\n"
        }
        fn permits(&mut self, _: &[&[u8]]) -> Option<bool> {
            None
        }
        fn log(&mut self, _: mortise_sdk::host::Level, _: &[u8]) {}
        fn set_replication(&mut self, _: crate::Replication) {}
        fn pause(&mut self) -> crate::Verdict {
            crate::Verdict::GoOn
        }
    }

    fn run(sandbox: &mut Sandbox, script: Script) -> Vec<u8> {
        let mut out = Vec::new();
        sandbox.run(script, [].into_iter(), [].into_iter(), &mut Nobody, Version::Resp2, &mut out);
        out
    }

    #[test]
    fn a_sandbox_goes_from_thread_to_thread() {
        let mut sandbox = Sandbox::new(Settings::default());
        let script = sandbox.load(b"return 'here'").unwrap();
        assert_eq!(run(&mut sandbox, script), b"$4\r\nhere\r\n");
        let there = std::thread::spawn(move || run(&mut sandbox, script));
        assert_eq!(there.join().unwrap(), b"$4\r\nhere\r\n");
    }

    #[test]
    fn scripts_are_forgotten() {
        let mut sandbox = Sandbox::new(Settings::default());
        assert_eq!(sandbox.usage(), Usage::default());
        let script = sandbox.load(b"return 1").unwrap();
        assert_eq!(sandbox.load(b"return 1"), Ok(script));
        let digest = b"E0E1F9FABFC9D4800C877A703B823AC0578FF8DB";
        assert_eq!(sandbox.find(digest), Some(script));
        assert_eq!(sandbox.text(script), Some((Digest::of(b"return 1"), &b"return 1"[..])));
        assert!(sandbox.usage().scripts == 1 && sandbox.usage().lua_bytes > 0);
        let remains = sandbox.flush();
        std::thread::spawn(move || drop(remains)).join().unwrap();
        assert_eq!(sandbox.usage(), Usage::default());
        assert_eq!(sandbox.find(digest), None);
        assert_eq!(run(&mut sandbox, script), b"-NOSCRIPT No matching script. Please use EVAL.\r\n");
        // Another of the same text has another handle.
        let anew = sandbox.load(b"return 1").unwrap();
        assert_eq!(
            (run(&mut sandbox, anew), run(&mut sandbox, script).starts_with(b"-")),
            (b":1\r\n".to_vec(), true)
        );
    }

    #[test]
    fn the_sequence_of_random_numbers_goes_on() {
        let mut sandbox = Sandbox::new(Settings::default());
        let draw = |sandbox: &mut Sandbox| {
            let script = sandbox.load(b"return math.random(1000000)").unwrap();
            run(sandbox, script)
        };
        let first = draw(&mut sandbox);
        let second = draw(&mut sandbox);
        drop(sandbox.flush());
        let third = draw(&mut sandbox);
        assert!(first != second && second != third && first != third);
    }
}
