//! PUBLISH, SUBSCRIBE, PSUBSCRIBE and their opposites, PUBSUB.

use mortise_sdk::declare::flags::*;
use mortise_sdk::declare::{NOT_KEY, Spec, channel, channel_pattern, key};
use mortise_sdk::glob;
use mortise_sdk::{Error, Result};

use crate::engine::call::Call;
use crate::engine::session::Replies;
use crate::features::{Command, container};
use crate::pubsub::Kind;
use crate::resp::output::Output;

const PUBSUB_GROUP: Spec = Spec::group("pubsub");

/// This file's commands.
pub(super) const COMMANDS: &[Command] = &[
    PUBLISH,
    SUBSCRIBE,
    UNSUBSCRIBE,
    PSUBSCRIBE,
    PUNSUBSCRIBE,
    PUBSUB_CONTAINER,
    PUBSUB_CHANNELS,
    PUBSUB_NUMPAT,
    PUBSUB_NUMSUB,
    PUBSUB_SHARDCHANNELS,
    PUBSUB_SHARDNUMSUB,
    PUBSUB_HELP,
    SPUBLISH,
    SSUBSCRIBE,
    SUNSUBSCRIBE,
];

const PUBLISH: Command = Spec {
    usage: "PUBLISH channel message",
    about: "Sends a message to a channel; returns how many received it.",
    since: "2.0.0",
    cost: "O(N+M), N being the subscribers and M the patterns that begin as the channel does",
    flags: &[PUBSUB, LOADING, STALE, FAST, MAY_REPLICATE],
    channels: channel("channel"),
    ..PUBSUB_GROUP
}
.runs(publish);

fn publish(call: &mut Call<'_>) -> Result {
    let (channel, message) = (call.arg(1), call.arg(2));
    let receivers = call.engine.publish(call.session.space, channel, message);
    call.propagates_to_replicas();
    call.reply(receivers)
}

/// Adds the names to what the client listens to; answers each with a message of its own.
fn subscribe_to(call: &mut Call<'_>, kind: Kind) -> Result {
    let outbox = call.session.outbox.clone();
    let id = call.session.id;
    for index in 1..call.argc() {
        let name = call.arg(index);
        let Some(client) = call.engine.clients.get_mut(id) else { break };
        client.listen(kind, name);
        call.engine.pubsub.of(call.session.space).add(kind, name, id, outbox.clone());
        let word = match kind {
            Kind::Channel => "subscribe",
            Kind::Pattern => "psubscribe",
            Kind::Shard => "ssubscribe",
        };
        confirm(call, kind, word, Some(name));
    }
    Ok(())
}

/// Takes names (or all) from what the client listens to.
fn unsubscribe_from(call: &mut Call<'_>, kind: Kind) -> Result {
    let id = call.session.id;
    let word = match kind {
        Kind::Channel => "unsubscribe",
        Kind::Pattern => "punsubscribe",
        Kind::Shard => "sunsubscribe",
    };
    if call.argc() == 1 {
        unsubscribe_from_all(call, kind, word);
        return Ok(());
    }
    for index in 1..call.argc() {
        let name = call.arg(index);
        if let Some(client) = call.engine.clients.get_mut(id) {
            client.unlisten(kind, name);
        }
        call.engine.pubsub.of(call.session.space).remove(kind, name, id);
        confirm(call, kind, word, Some(name));
    }
    Ok(())
}

/// Takes all names of a kind from what the client listens to: they may be many, so that nothing but the answers, of which
/// each name has its own, is done at once.
fn unsubscribe_from_all(call: &mut Call<'_>, kind: Kind, word: &str) {
    let id = call.session.id;
    let Some(client) = call.engine.clients.get(id) else { return };
    let mut count = client.subscriptions_beside(kind);
    let mut answers = Output::new(call.session.version);
    for name in client.heard(kind) {
        count -= 1;
        write_confirmation(&mut answers, word, Some(name), count);
    }
    if client.heard(kind).is_empty() {
        return confirm(call, kind, word, None);
    }
    call.engine.leave_heard(id, kind);
    call.session.subscriptions = call.engine.clients.get(id).map_or(0, |client| client.subscriptions());
    send_confirmation(call, answers);
}

/// One answer of SUBSCRIBE and its kin: what happened, to which name, and how many are left.
fn confirm(call: &mut Call<'_>, kind: Kind, word: &str, name: Option<&[u8]>) {
    let client = call.engine.clients.get(call.session.id);
    let (count, all) =
        client.map_or((0, 0), |client| (client.subscriptions_beside(kind), client.subscriptions()));
    call.session.subscriptions = all;
    let mut answer = Output::new(call.session.version);
    write_confirmation(&mut answer, word, name, count);
    send_confirmation(call, answer);
}

fn write_confirmation(answer: &mut Output, word: &str, name: Option<&[u8]>, count: usize) {
    answer.push(3);
    answer.bulk(word.as_bytes());
    answer.bulk_or_null(name);
    answer.count(count);
}

/// It is a message rather than a reply: CLIENT REPLY does not hold it back.
fn send_confirmation(call: &mut Call<'_>, answer: Output) {
    if call.session.replies == Replies::On {
        call.out().raw(answer.bytes());
    } else {
        call.engine.push_to_caller(answer.bytes());
    }
}

const SUBSCRIBE: Command = Spec {
    usage: "SUBSCRIBE channel...",
    about: "Subscribes to channels.",
    since: "2.0.0",
    cost: "O(N), N being the channels named",
    flags: &[PUBSUB, NOSCRIPT, LOADING, STALE, SUBSCRIBER],
    channels: channel("channel"),
    ..PUBSUB_GROUP
}
.runs(subscribe);

fn subscribe(call: &mut Call<'_>) -> Result {
    subscribe_to(call, Kind::Channel)
}

const UNSUBSCRIBE: Command = Spec {
    usage: "UNSUBSCRIBE [channel...]",
    about: "Ends subscriptions to channels, to all if none is named.",
    since: "2.0.0",
    cost: "O(N), N being the channels named",
    flags: &[PUBSUB, NOSCRIPT, LOADING, STALE, SUBSCRIBER],
    ..PUBSUB_GROUP
}
.runs(unsubscribe);

fn unsubscribe(call: &mut Call<'_>) -> Result {
    unsubscribe_from(call, Kind::Channel)
}

const PSUBSCRIBE: Command = Spec {
    usage: "PSUBSCRIBE pattern=<pattern:pattern>...",
    about: "Subscribes to all channels that match patterns.",
    since: "2.0.0",
    cost: "O(N), N being the patterns named",
    flags: &[PUBSUB, NOSCRIPT, LOADING, STALE, SUBSCRIBER],
    channels: channel_pattern("pattern"),
    ..PUBSUB_GROUP
}
.runs(psubscribe);

fn psubscribe(call: &mut Call<'_>) -> Result {
    subscribe_to(call, Kind::Pattern)
}

const PUNSUBSCRIBE: Command = Spec {
    usage: "PUNSUBSCRIBE [pattern:pattern...]",
    about: "Ends subscriptions to patterns, to all if none is named.",
    since: "2.0.0",
    cost: "O(N), N being the patterns named",
    flags: &[PUBSUB, NOSCRIPT, LOADING, STALE, SUBSCRIBER],
    ..PUBSUB_GROUP
}
.runs(punsubscribe);

fn punsubscribe(call: &mut Call<'_>) -> Result {
    unsubscribe_from(call, Kind::Pattern)
}

const PUBSUB_CONTAINER: Command = Spec {
    usage: "PUBSUB",
    about: "Commands about channels and who listens.",
    since: "2.8.0",
    cost: "depends on the subcommand",
    flags: &[CONTAINER],
    ..PUBSUB_GROUP
}
.runs(container);

const PUBSUB_CHANNELS: Command = Spec {
    usage: "PUBSUB CHANNELS [pattern:pattern]",
    about: "Returns the channels that have subscribers.",
    since: "2.8.0",
    cost: "O(N), N being the channels in use",
    flags: &[PUBSUB, LOADING, STALE],
    ..PUBSUB_GROUP
}
.runs(pubsub_channels);

fn pubsub_channels(call: &mut Call<'_>) -> Result {
    list(call, Kind::Channel)
}

/// Answers with the names of channels that a pattern, if there is one, matches.
fn list(call: &mut Call<'_>, kind: Kind) -> Result {
    call.at_most(3)?;
    let pattern = call.args().get(2);
    let engine = &*call.engine;
    let channels = engine.pubsub.get(call.session.space).into_iter().flat_map(|of| of.named(kind).iter());
    let found: Vec<Vec<u8>> = channels
        .filter(|(name, _)| pattern.is_none_or(|pattern| glob::matches(pattern, name)))
        .filter(|(name, listeners)| engine.count_listeners(kind, name, listeners) > 0)
        .map(|(name, _)| name.to_vec())
        .collect();
    let out = call.out();
    out.array(found.len());
    found.iter().for_each(|name| out.bulk(name));
    Ok(())
}

const PUBSUB_NUMPAT: Command = Spec {
    usage: "PUBSUB NUMPAT",
    about: "Counts the patterns that are subscribed to.",
    since: "2.8.0",
    flags: &[PUBSUB, LOADING, STALE],
    ..PUBSUB_GROUP
}
.runs(pubsub_numpat);

fn pubsub_numpat(call: &mut Call<'_>) -> Result {
    let patterns = call.engine.count_patterns(call.session.space);
    call.reply(patterns)
}

const PUBSUB_NUMSUB: Command = Spec {
    usage: "PUBSUB NUMSUB [channel...]",
    about: "Counts the subscribers of channels.",
    since: "2.8.0",
    cost: "O(N), N being the channels named",
    flags: &[PUBSUB, LOADING, STALE],
    ..PUBSUB_GROUP
}
.runs(pubsub_numsub);

fn pubsub_numsub(call: &mut Call<'_>) -> Result {
    count(call, Kind::Channel)
}

/// Answers with the channels that are named, each with how many listen to it.
fn count(call: &mut Call<'_>, kind: Kind) -> Result {
    let names = call.args().iter().skip(2);
    call.out().array(names.len() * 2);
    for name in names {
        let engine = &*call.engine;
        let listeners = engine.pubsub.get(call.session.space).and_then(|of| of.named(kind).get(name));
        let listeners = listeners.map_or(0, |listeners| engine.count_listeners(kind, name, listeners));
        call.out().bulk(name);
        call.out().count(listeners);
    }
    Ok(())
}

const PUBSUB_SHARDCHANNELS: Command = Spec {
    usage: "PUBSUB SHARDCHANNELS [pattern:pattern]",
    about: "Returns the sharded channels that have subscribers.",
    since: "7.0.0",
    cost: "O(N), N being the sharded channels in use",
    flags: &[PUBSUB, LOADING, STALE],
    ..PUBSUB_GROUP
}
.runs(pubsub_shardchannels);

fn pubsub_shardchannels(call: &mut Call<'_>) -> Result {
    list(call, Kind::Shard)
}

const PUBSUB_SHARDNUMSUB: Command = Spec {
    usage: "PUBSUB SHARDNUMSUB [shardchannel...]",
    about: "Counts the subscribers of sharded channels.",
    since: "7.0.0",
    cost: "O(N), N being the channels named",
    flags: &[PUBSUB, LOADING, STALE],
    ..PUBSUB_GROUP
}
.runs(pubsub_shardnumsub);

fn pubsub_shardnumsub(call: &mut Call<'_>) -> Result {
    count(call, Kind::Shard)
}

const SPUBLISH: Command = Spec {
    usage: "SPUBLISH shardchannel message",
    about: "Sends a message to a sharded channel; returns how many received it.",
    since: "7.0.0",
    cost: "O(N), N being the channel's subscribers",
    flags: &[PUBSUB, LOADING, STALE, FAST, MAY_REPLICATE],
    keys: &[key("shardchannel", &[NOT_KEY])],
    channels: channel("shardchannel"),
    ..PUBSUB_GROUP
}
.runs(spublish);

fn spublish(call: &mut Call<'_>) -> Result {
    let (channel, message) = (call.arg(1), call.arg(2));
    let receivers = call.engine.publish_sharded(call.session.space, channel, message);
    call.propagates_to_replicas();
    call.reply(receivers)
}

const SSUBSCRIBE: Command = Spec {
    usage: "SSUBSCRIBE shardchannel...",
    about: "Subscribes to sharded channels.",
    since: "7.0.0",
    cost: "O(N), N being the channels named",
    flags: &[PUBSUB, NOSCRIPT, LOADING, STALE, SUBSCRIBER],
    keys: &[key("shardchannel", &[NOT_KEY])],
    channels: channel("shardchannel"),
    ..PUBSUB_GROUP
}
.runs(ssubscribe);

fn ssubscribe(call: &mut Call<'_>) -> Result {
    if call.cannot_wait() {
        return Err(Error::new("ERR SSUBSCRIBE isn't allowed for a DENY BLOCKING client"));
    }
    subscribe_to(call, Kind::Shard)
}

const SUNSUBSCRIBE: Command = Spec {
    usage: "SUNSUBSCRIBE [shardchannel...]",
    about: "Ends subscriptions to sharded channels, to all if none is named.",
    since: "7.0.0",
    cost: "O(N), N being the channels named",
    flags: &[PUBSUB, NOSCRIPT, LOADING, STALE, SUBSCRIBER],
    keys: &[key("shardchannel", &[NOT_KEY])],
    ..PUBSUB_GROUP
}
.runs(sunsubscribe);

fn sunsubscribe(call: &mut Call<'_>) -> Result {
    unsubscribe_from(call, Kind::Shard)
}

const PUBSUB_HELP: Command = Spec {
    usage: "PUBSUB HELP",
    about: "Lists the subcommands of PUBSUB.",
    since: "6.2.0",
    flags: &[LOADING, STALE],
    ..PUBSUB_GROUP
}
.runs(pubsub_help);

fn pubsub_help(call: &mut Call<'_>) -> Result {
    call.help(&[
        ("CHANNELS [<pattern>]", "Return the currently active channels matching a <pattern> (default: '*')."),
        ("NUMPAT", "Return number of subscriptions to patterns."),
        (
            "NUMSUB [<channel> ...]",
            "Return the number of subscribers for the specified channels, excluding\npattern subscriptions(default: no \
             channels).",
        ),
        (
            "SHARDCHANNELS [<pattern>]",
            "Return the currently active shard level channels matching a <pattern> (default: '*').",
        ),
        (
            "SHARDNUMSUB [<shardchannel> ...]",
            "Return the number of subscribers for the specified shard level channel(s)",
        ),
    ])
}
