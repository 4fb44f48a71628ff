//! Requests that come from no connection: a stream that is replayed, a shadow, a test.

use std::sync::Arc;

use super::args::OwnedArgs;
use super::client::Origin;
use super::dispatch::{Asked, Batch};
use super::outbox::Outbox;
use super::registry::Lookup;
use super::session::Session;
use super::settle::StreamUnit;
use super::{Caller, Engine};
use crate::resp::output::Output;

/// Replays streams into an engine.
pub struct Replay {
    session: Session,
}

impl Default for Replay {
    fn default() -> Replay {
        Replay::new()
    }
}

impl Replay {
    /// A replay that begins.
    pub fn new() -> Replay {
        Replay { session: Session::new(0, Arc::new(Outbox::new()), &mortise_acl::Users::default()) }
    }

    /// Executes a unit of a stream. An error names the command that failed; a stream that was written by an engine has
    /// none.
    pub fn unit(&mut self, engine: &mut Engine, unit: &StreamUnit) -> Result<(), String> {
        engine.refresh_clock();
        for said in unit.iter() {
            self.session.space = said.space;
            self.session.db = said.db;
            self.command(engine, &said.args())?;
        }
        engine.settle();
        Ok(())
    }

    fn command(&mut self, engine: &mut Engine, args: &OwnedArgs) -> Result<(), String> {
        let registry = engine.registry.clone();
        let mut out = Output::default();
        let failed = match registry.find(args.view()) {
            Lookup::Found(command) => {
                engine.execute(
                    &mut self.session,
                    &registry,
                    Asked::new(&command, args.view()),
                    &mut out,
                    Caller::Journal,
                );
                out.bytes().first() == Some(&b'-')
            }
            _ => true,
        };
        if failed {
            let words: Vec<_> = args.view().iter().map(String::from_utf8_lossy).collect();
            return Err(format!("{}: {}", words.join(" "), String::from_utf8_lossy(out.bytes()).trim_end()));
        }
        Ok(())
    }
}

impl Engine {
    /// A session for requests that come from no connection. It counts as a client.
    pub fn local_session(&mut self) -> Option<Box<Session>> {
        let origin = Origin { is_local: true, ..Origin::default() };
        self.connect(Arc::new(Outbox::new()), origin)
    }

    /// Executes one request on the road of every other, and returns the encoded reply; empty while the call waits.
    pub fn request(&mut self, mut session: Box<Session>, words: &[&[u8]]) -> (Option<Box<Session>>, Vec<u8>) {
        let (mut buffer, mut batch) = (Vec::new(), Batch::default());
        for word in words {
            let start = buffer.len() as u32;
            buffer.extend_from_slice(word);
            batch.spans.push((start, buffer.len() as u32));
        }
        let registry = self.registry.clone();
        batch.add(&registry, &session, &buffer, 0, buffer.len());
        let mut out = Output::new(session.version);
        match self.run(&mut session, &registry, (&batch, 0..1), &buffer, &mut out, None).1 {
            super::dispatch::Stop::Waits(wait) => {
                self.park(session, wait);
                (None, out.take())
            }
            _ => (Some(session), out.take()),
        }
    }
}
