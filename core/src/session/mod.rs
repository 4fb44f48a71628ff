//! A connection's own commands: HELLO AUTH SELECT CLIENT RESET PING ECHO QUIT.

mod basic;
mod client;
mod info;
pub(crate) mod login;
#[cfg(test)]
mod tests;

use mortise_sdk::config;
use mortise_sdk::declare::config::{Bytes, BytesOrPercent};

use crate::config::values::OutputBufferLimits;
use crate::features::Feature;
pub(crate) use client::list::line_of;

/// The version of Redis that clients are told they speak to: they decide by it what they may ask for.
pub const REDIS_VERSION: &str = "7.2.4";

/// Connections.
pub const FEATURE: Feature = Feature {
    name: "session",
    commands: &[
        basic::COMMANDS,
        login::COMMANDS,
        client::COMMANDS,
        client::list::COMMANDS,
        client::kill::COMMANDS,
        client::pause::COMMANDS,
    ],
    config: ClientsConfig::directives(),
    info: &[info::CLIENTS],
    ..Feature::EMPTY
};

config! {
    /// Limits of connections.
    pub struct ClientsConfig {
        /// How many clients may be connected at once.
        live maxclients: u32 = 10000, in 1..=u32::MAX => maxclients;
        /// Close connections that are idle for so many seconds. Zero means never.
        live timeout: u32 = 0, in 0..=i32::MAX;
        /// Seconds between TCP keepalive probes. Zero means none.
        live tcp_keepalive: u32 = 300, in 0..=i32::MAX;
        /// Disconnect clients that do not read their replies. A class of clients is disconnected at once when its hard
        /// limit is reached, and when it stays over the soft limit for so many seconds. Zero means no limit.
        live client_output_buffer_limit: OutputBufferLimits = OutputBufferLimits::default();
        /// How much all clients together may take, in bytes or in percent of maxmemory. Beyond that those that take most
        /// are closed. Zero means no limit.
        live maxmemory_clients: BytesOrPercent = BytesOrPercent::Bytes(0);
        /// Upper limit of what a client may have sent and not been answered yet.
        live client_query_buffer_limit: Bytes = Bytes(1 << 30), in 1048576..=i64::MAX;
        /// Upper limit of one argument.
        live proto_max_bulk_len: Bytes = Bytes(512 << 20), in 1048576..=i64::MAX;
        /// Password of the default user. The empty text means none.
        secret requirepass: Option<String> = None => requirepass;
    }
}
