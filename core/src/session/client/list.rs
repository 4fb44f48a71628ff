//! CLIENT LIST and CLIENT INFO.

use std::fmt::Write;
use std::sync::atomic::Ordering::Relaxed;

use mortise_sdk::declare::flags::*;
use mortise_sdk::declare::{Spec, added};
use mortise_sdk::resp::encode::Version;
use mortise_sdk::{Error, Result};

use super::filter::{Filter, Numbers};
use crate::engine::Engine;
use crate::engine::args::Args;
use crate::engine::call::Call;
use crate::engine::client::Client;
use crate::engine::registry::Registry;
use crate::engine::session::ClientId;
use crate::features::Command;
use crate::tracking::commands::redirect_of;

const CONNECTION: Spec = Spec::group("connection");

/// This file's commands.
pub(in crate::session) const COMMANDS: &[Command] = &[CLIENT_INFO, CLIENT_LIST];

/// Classes of clients.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum ClientType {
    Normal,
    PubSub,
    /// A replica that is connected to this server.
    Replica,
    /// The server that this one follows.
    Master,
}

impl ClientType {
    /// The type of a name.
    pub(super) fn parse(name: &[u8]) -> Result<ClientType> {
        match name.to_ascii_lowercase().as_slice() {
            b"normal" => Ok(ClientType::Normal),
            b"pubsub" => Ok(ClientType::PubSub),
            b"replica" | b"slave" => Ok(ClientType::Replica),
            b"master" => Ok(ClientType::Master),
            _ => Err(Error::quoting("ERR Unknown client type '{}'", &[name])),
        }
    }

    /// The type of a client.
    pub(super) fn of(client: &Client) -> ClientType {
        match client {
            _ if client.is_primary => ClientType::Master,
            _ if client.is_replica => ClientType::Replica,
            _ if client.subscriptions() > 0 => ClientType::PubSub,
            _ => ClientType::Normal,
        }
    }
}

const CLIENT_INFO: Command = Spec {
    usage: "CLIENT INFO",
    about: "Describes this connection.",
    since: "6.2.0",
    flags: &[NOSCRIPT, LOADING, STALE],
    tips: &["nondeterministic_output"],
    ..CONNECTION
}
.runs(client_info);

fn client_info(call: &mut Call<'_>) -> Result {
    let id = call.session.id;
    let mut text = String::new();
    if let Some(client) = call.engine.clients.get(id) {
        View::new(call).line(client, &mut text);
    }
    call.out().verbatim(&text);
    Ok(())
}

const CLIENT_LIST: Command = Spec {
    usage: "CLIENT LIST [TYPE <NORMAL | MASTER | REPLICA | PUBSUB>] [ID id=<client-id:int...>]",
    about: "Describes the connections that are open, a line each.",
    since: "2.4.0",
    cost: "O(N), N being the connections",
    flags: &[ADMIN, NOSCRIPT, LOADING, STALE],
    tips: &["nondeterministic_output"],
    history: &[
        ("2.8.12", "Shows `id`."),
        ("5.0.0", "Filter `TYPE`."),
        ("6.0.0", "Shows `user`."),
        ("6.2.0", "Filter `ID`; shows `argv-mem`, `tot-mem`, `laddr` and `redir`."),
        ("7.0.0", "Shows `resp`, `multi-mem`, `rbs` and `rbp`."),
        ("7.0.3", "Shows `ssub`."),
        ("7.2.0", "Shows `lib-name` and `lib-ver`."),
        ("7.4.0", "Shows `watch`."),
        ("8.0.0", "Shows `io-thread`, and as Valkey does `tot-net-in` and `tot-net-out`."),
    ],
    ages: &[added("TYPE", "5.0.0"), added("ID", "6.2.0")],
    ..CONNECTION
}
.runs(client_list);

fn client_list(call: &mut Call<'_>) -> Result {
    const NUMBERS: Numbers = Numbers { refused: "ERR Invalid client ID", positive: false };
    let filter = Filter::parse(call, 2, NUMBERS)?;
    let mut text = String::new();
    let view = View::new(call);
    let clients = call.engine.clients.iter().filter(|client| filter.applies(call.engine, client));
    clients.for_each(|client| view.line(client, &mut text));
    call.out().verbatim(&text);
    Ok(())
}

/// The line of one client, without its end: as the log of what was refused keeps it.
pub(crate) fn line_of(engine: &Engine, id: ClientId, args: Args<'_>) -> String {
    let mut text = String::new();
    let view = View { engine, commands: names(&engine.registry), caller: id, args, written: 0 };
    if let Some(client) = engine.clients.get(id) {
        view.line(client, &mut text);
    }
    text.truncate(text.trim_end().len());
    text
}

/// What the lines are made from.
struct View<'a> {
    engine: &'a Engine,
    /// Names of commands by their indices.
    commands: Vec<&'a str>,
    /// Who asks, and what.
    caller: ClientId,
    args: Args<'a>,
    /// Bytes of replies that the caller is going to get.
    written: u64,
}

/// Pieces of output in which a backlog is counted.
const PIECE_LEN: u64 = 16 << 10;

impl<'a> View<'a> {
    fn new(call: &'a Call<'_>) -> View<'a> {
        View {
            engine: call.engine,
            commands: names(call.registry),
            caller: call.session.id,
            args: call.args(),
            written: call.written() as u64,
        }
    }

    /// The line of a client.
    fn line(&self, client: &Client, text: &mut String) {
        let outbox = &*client.outbox;
        let now_ms = self.engine.now_ms;
        let unread = outbox.unread.load(Relaxed);
        let input_size = outbox.input_size();
        let args_len = self.args_len(client);
        // As much as fits into a first buffer counts as that, the rest as a list of further ones.
        let backlog = outbox.backlog() + if client.id == self.caller { self.written } else { 0 };
        let first = backlog.min(PIECE_LEN);
        let rest = backlog - first;
        // What the caller asks and is going to get is nowhere else yet.
        let own = if client.id == self.caller { args_len + self.written } else { 0 };
        let total = self.engine.client_memory(client) + own;
        let writes = outbox.unwritten.load(Relaxed) > 0;
        let command = outbox.last_command.load(Relaxed) as usize;
        let command = command.checked_sub(1).and_then(|index| self.commands.get(index)).unwrap_or(&"NULL");
        let protocol = if outbox.version() == Version::Resp3 { 3 } else { 2 };
        // Writing to a String does not fail.
        let _ = writeln!(
            text,
            "id={} addr={} laddr={} fd={} name={} age={} idle={} flags={} db={} sub={} psub={} ssub={} multi={} \
             qbuf={unread} qbuf-free={} argv-mem={args_len} multi-mem={} rbs=0 rbp=0 obl={first} oll={} omem={rest} \
             tot-mem={total} events={} cmd={command} user={} redir={} resp={protocol} lib-name={} lib-ver={} watch={} \
             tot-net-in={} tot-net-out={} io-thread={}",
            client.id,
            client.origin.address,
            client.origin.local_address,
            client.origin.fd,
            client.name,
            now_ms / 1000 - client.connected_ms / 1000,
            client.idle_s(now_ms).max(0),
            flags(self.engine, client),
            client.db,
            client.channels.len(),
            client.patterns.len(),
            client.shards.len(),
            client.queued.map_or(-1, |queued| queued as i64),
            input_size - unread.min(input_size),
            client.queued_len,
            rest.div_ceil(PIECE_LEN),
            if writes { "rw" } else { "r" },
            String::from_utf8_lossy(&client.user),
            redirect_of(client.tracking.as_deref()),
            client.lib_name,
            client.lib_version,
            client.watched.len(),
            outbox.bytes_in.load(Relaxed),
            outbox.bytes_out.load(Relaxed),
            client.origin.io_thread,
        );
    }

    /// Bytes of the arguments of the call that runs or waits.
    fn args_len(&self, client: &Client) -> u64 {
        let len = |args: Args<'_>| args.iter().map(<[u8]>::len).sum::<usize>() as u64;
        if client.id == self.caller {
            return len(self.args);
        }
        client.waits.and_then(|id| self.engine.blocked.get(id)).map_or(0, |wait| len(wait.args.view()))
    }
}

fn is_monitor(engine: &Engine, client: &Client) -> bool {
    engine.monitors.iter().any(|monitor| monitor.id == client.id)
}

/// All letters that there are; N stands for none.
pub(super) const FLAGS: &str = "OSMPxbtRBdAUeTN";

/// A letter for each thing that is out of the ordinary.
pub(super) fn flags(engine: &Engine, client: &Client) -> String {
    let letters = [
        ('O', is_monitor(engine, client)),
        ('S', client.is_replica),
        ('M', client.is_primary),
        ('P', client.subscriptions() > 0),
        ('x', client.queued.is_some()),
        ('b', client.waits.is_some()),
        ('t', client.tracking.is_some()),
        ('R', client.tracking.as_ref().is_some_and(|tracker| tracker.is_broken)),
        ('B', client.tracking.as_ref().is_some_and(|tracker| tracker.broadcast)),
        ('d', client.spoilt),
        ('A', client.outbox.is_closing()),
        ('U', client.origin.is_unix),
        ('e', client.no_evict),
        ('T', client.no_touch),
    ];
    let text: String = letters.iter().filter(|(_, applies)| *applies).map(|(letter, _)| *letter).collect();
    if text.is_empty() { "N".to_owned() } else { text }
}

/// Full names of the commands by their indices.
fn names(registry: &Registry) -> Vec<&str> {
    let mut names = vec!["NULL"; registry.indices()];
    for (_, command) in registry.iter() {
        for command in std::iter::once(command).chain(command.subcommands.values()) {
            if let Some(name) = names.get_mut(command.index) {
                *name = &command.name;
            }
        }
    }
    names
}
