//! CLIENT KILL.

use mortise_sdk::args::parse_integer;
use mortise_sdk::declare::flags::*;
use mortise_sdk::declare::{Spec, added, outdated};
use mortise_sdk::{Error, Result, error};

use super::list::ClientType;
use crate::engine::call::Call;
use crate::engine::client::Client;
use crate::engine::session::ClientId;
use crate::features::Command;

const CONNECTION: Spec = Spec::group("connection");

/// This file's commands.
pub(in crate::session) const COMMANDS: &[Command] = &[CLIENT_KILL];

/// Which clients are meant: those to which all of it applies.
#[derive(Default)]
struct Filter<'a> {
    id: Option<ClientId>,
    kind: Option<ClientType>,
    user: Option<&'a [u8]>,
    address: Option<&'a [u8]>,
    local_address: Option<&'a [u8]>,
    /// Connected for at least so many seconds.
    age_s: Option<i64>,
    /// Not the one who asks.
    except: Option<ClientId>,
}

impl<'a> Filter<'a> {
    fn parse(call: &Call<'a>) -> Result<Filter<'a>> {
        let own = call.session.id;
        let mut filter = Filter { except: Some(own), ..Filter::default() };
        let mut options = call.options(2);
        while !options.is_empty() {
            if let Some(id) = options.takes_value("ID") {
                const REFUSED: Error = Error::new("ERR client-id should be greater than 0");
                let id = parse_integer(id).filter(|id| *id > 0).ok_or(REFUSED)?;
                filter.id = Some(id as ClientId);
            } else if let Some(name) = options.takes_value("TYPE") {
                filter.kind = Some(ClientType::parse(name)?);
            } else if let Some(address) = options.takes_value("ADDR") {
                filter.address = Some(address);
            } else if let Some(address) = options.takes_value("LADDR") {
                filter.local_address = Some(address);
            } else if let Some(user) = options.takes_value("USER") {
                if call.engine.users.find(user).is_none() {
                    return Err(Error::quoting("ERR No such user '{}'", &[user]));
                }
                filter.user = Some(user);
            } else if let Some(seconds) = options.takes_value("MAXAGE") {
                const NO_INTEGER: Error = Error::new("ERR maxage is not an integer or out of range");
                let seconds = parse_integer(seconds).ok_or(NO_INTEGER)?;
                if seconds <= 0 {
                    return Err(Error::new("ERR maxage should be greater than 0"));
                }
                filter.age_s = Some(seconds);
            } else if let Some(word) = options.takes_value("SKIPME") {
                filter.except = if word.eq_ignore_ascii_case(b"yes") {
                    Some(own)
                } else if word.eq_ignore_ascii_case(b"no") {
                    None
                } else {
                    return Err(error::SYNTAX);
                };
            } else {
                return Err(error::SYNTAX);
            }
        }
        Ok(filter)
    }

    fn applies(&self, client: &Client, now_ms: i64) -> bool {
        self.id.is_none_or(|id| id == client.id)
            && self.kind.is_none_or(|kind| kind == ClientType::of(client))
            && self.user.is_none_or(|user| *user == *client.user)
            && self.address.is_none_or(|address| address == client.origin.address.as_bytes())
            && self.local_address.is_none_or(|address| address == client.origin.local_address.as_bytes())
            && self.age_s.is_none_or(|age_s| now_ms / 1000 - client.connected_ms / 1000 >= age_s)
            && self.except != Some(client.id)
    }
}

const CLIENT_KILL: Command = Spec {
    usage: "CLIENT KILL filter=<ip:port | new-format=<[ID client-id:int] | \
            [TYPE normal_master_slave_pubsub=<NORMAL | MASTER | SLAVE | REPLICA | PUBSUB>] | \
            [USER username] | [ADDR ip:port] | [LADDR ip:port] | [SKIPME yes/no]>...>",
    about: "Closes the connections that match.",
    since: "2.4.0",
    cost: "O(N), N being the connections",
    flags: &[ADMIN, NOSCRIPT, LOADING, STALE],
    arity: Some(-3),
    history: &[
        ("2.8.12", "Takes filters."),
        ("2.8.12", "Filter `ID`."),
        ("3.2.0", "`TYPE MASTER`."),
        ("5.0.0", "`TYPE REPLICA`, for which `SLAVE` stays an alias."),
        ("6.2.0", "Filter `LADDR`."),
    ],
    ages: &[
        outdated("ip:port", "2.8.12"),
        added("ID", "2.8.12"),
        added("TYPE", "2.8.12"),
        added("MASTER", "3.2.0"),
        added("REPLICA", "5.0.0"),
        added("LADDR", "6.2.0"),
    ],
    ..CONNECTION
}
.runs(client_kill);

fn client_kill(call: &mut Call<'_>) -> Result {
    let by_address = call.argc() == 3;
    // The old form lets a client kill itself.
    let filter = if by_address {
        Filter { address: Some(call.arg(2)), ..Filter::default() }
    } else {
        Filter::parse(call)?
    };
    let (own, now_ms) = (call.session.id, call.now_ms());
    let clients = call.engine.clients.iter();
    let meant: Vec<ClientId> =
        clients.filter(|client| filter.applies(client, now_ms)).map(|client| client.id).collect();
    for id in &meant {
        if *id == own {
            // It still gets its reply.
            call.session.closing = true;
        } else {
            call.engine.kill(*id);
        }
    }
    if !by_address {
        return call.reply(meant.len());
    }
    if meant.is_empty() {
        return Err(Error::new("ERR No such client"));
    }
    call.ok()
}
