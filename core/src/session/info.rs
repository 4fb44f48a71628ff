//! INFO's section about clients.

use std::sync::atomic::Ordering;

use crate::admin::info::{field, never};
use crate::features::Section;

/// Clients.
pub(super) const CLIENTS: Section = Section {
    name: "clients",
    fields: &[
        field("connected_clients", "Clients, replicas excluded.", |e| {
            e.clients.connected().saturating_sub(e.replication.replicas.len()).into()
        }),
        field("cluster_connections", "Connections to other nodes of a cluster.", never),
        field("maxclients", "How many clients there may be.", |e| e.config.clients.maxclients.into()),
        field(
            "client_recent_max_input_buffer",
            "The most that a client has sent and not been answered, bytes.",
            |e| {
                e.clients
                    .iter()
                    .map(|client| client.outbox.unread.load(Ordering::Relaxed))
                    .max()
                    .unwrap_or(0)
                    .into()
            },
        ),
        field("client_recent_max_output_buffer", "The most that waits to be sent to a client, bytes.", |e| {
            e.clients.iter().map(|client| client.outbox.backlog()).max().unwrap_or(0).into()
        }),
        field("blocked_clients", "Clients that wait in a blocking command.", |e| e.blocked.len().into()),
        field("tracking_clients", "Clients that are told when keys change.", |e| e.tracking.clients().into()),
        field("clients_in_timeout_table", "Clients that wait up to a point in time.", |e| {
            e.blocked.limited().into()
        }),
    ],
};
