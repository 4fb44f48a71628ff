//! A trial: what is done in it stays as a whole, or leaves no trace.
//!
//! Commands that fail half way keep what they have done, as Redis's do, so no command needs this by itself. It is for
//! whoever makes several calls one: they begin a trial, and end it well or badly before the unit settles.

use super::Engine;

impl Engine {
    /// Begins a trial; false if one goes on already.
    pub fn begin_trial(&mut self) -> bool {
        if self.keyspace.may_abort() {
            return false;
        }
        self.trial = Some(self.unit.mark());
        self.keyspace.begin_undo();
        true
    }

    /// Ends a trial well: what was done stays, and is told when the unit settles.
    pub fn commit_trial(&mut self) {
        self.trial = None;
        self.keyspace.commit_undo();
        self.free_spent();
    }

    /// Ends a trial badly: the data is as before, and nobody hears of anything: no watcher, no subscriber, no waiting
    /// call, no reader of the stream.
    pub fn abort_trial(&mut self) {
        self.keyspace.abort();
        if let Some(mark) = self.trial.take() {
            self.unit.rollback(mark);
        }
        self.free_spent();
    }
}
