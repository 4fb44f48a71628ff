//! Whether a connection is taken.

use std::sync::Arc;

use mortise_sdk::error;

use super::Connection;
use crate::engine::outbox::Outbox;
use crate::engine::session::Session;
use crate::resp::request::Partial;
use crate::server::Shared;
use crate::server::io_thread::Arrival;

impl Connection {
    /// Takes a connection, or turns it away.
    pub(super) fn accept(arrival: Arrival, shared: &Arc<Shared>) -> Option<Connection> {
        const DENIED: &str = "-DENIED Redis is running in protected mode because protected mode is enabled and no \
            password is set for the default user. In this mode connections are only accepted from the loopback \
            interface. If you want to connect from external computers to Redis you may adopt one of the following \
            solutions: 1) Just disable protected mode sending the command 'CONFIG SET protected-mode no' from the \
            loopback interface by connecting to Redis from the same host the server is running, however MAKE SURE Redis \
            is not publicly accessible from internet if you do so. Use CONFIG REWRITE to make this change permanent. 2) \
            Alternatively you can just disable the protected mode by editing the Redis configuration file, and setting \
            the protected mode option to 'no', and then restarting the server. 3) If you started the server manually \
            just for testing, restart it with the '--protected-mode no' option. 4) Setup a an authentication password \
            for the default user. NOTE: You only need to do one of the above things in order for the server to start \
            accepting connections from the outside.\r\n";
        let Arrival { stream, origin, .. } = arrival;
        let outbox = Arc::new(Outbox::new());
        let known = shared.known();
        if known.admits_only_local() && !origin.is_local {
            shared.with_engine(|engine| engine.stats.rejected_connections += 1);
            tokio::task::spawn_local(stream.refuse(DENIED.to_owned()));
            return None;
        }
        let session = match shared.acquire() {
            Some(mut engine) => {
                engine.connect(outbox.clone(), origin).ok_or_else(|| format!("-{}\r\n", error::MAX_CLIENTS))
            }
            None => {
                // The engine hears of it when it is free.
                let mut session = Session::arriving(&shared.ids, outbox.clone(), &origin, &known.users);
                session.owes.anything = true;
                session.owes.arrival = Some(Box::new(origin));
                Ok(session)
            }
        };
        let session = match session {
            Ok(session) => session,
            Err(text) => {
                tokio::task::spawn_local(stream.refuse(text));
                return None;
            }
        };
        Some(Connection {
            stream,
            shared: shared.clone(),
            outbox,
            id: session.id,
            session: Some(session),
            input: Vec::new(),
            partial: Partial::default(),
            taken: None,
            unwritten: Default::default(),
            written: 0,
            waker: None,
            held: Default::default(),
            stalled: false,
            gives_way: false,
            heard: 0,
            closing: false,
            put_off: false,
            in_turn: false,
            over: false,
        })
    }
}
