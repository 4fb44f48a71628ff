//! Users change: what that does to those who are connected.

use mortise_acl::{DEFAULT, User};

use crate::engine::Engine;
use crate::engine::session::{ClientId, Session};

impl Engine {
    /// A user is another now, or there is one more. Whoever listens to channels as this user that it may not use any more
    /// is disconnected.
    pub(crate) fn put_user(&mut self, session: &mut Session, user: User) {
        let before = self.users.find(user.name());
        let narrowed = before.is_some_and(|before| !user.keeps_channels_of(before));
        let losing: Vec<ClientId> = if narrowed {
            let channels = |client: &crate::engine::client::Client| {
                !client.patterns.iter().all(|pattern| user.allows_channel(pattern, true))
                    || !client.channels.iter().all(|channel| user.allows_channel(channel, false))
                    || !client.shards.iter().all(|channel| user.allows_channel(channel, false))
            };
            let clients = self.clients.iter().filter(|client| *client.user == *user.name());
            clients.filter(|client| channels(client)).map(|client| client.id).collect()
        } else {
            Vec::new()
        };
        self.users.insert(user);
        self.disconnect_all(session, &losing);
        self.users_changed();
    }

    /// Removes users, and disconnects who is logged in as one of them; says how many there were.
    pub(crate) fn remove_users<'a>(
        &mut self,
        session: &mut Session,
        names: impl Iterator<Item = &'a [u8]>,
    ) -> usize {
        let mut removed = 0;
        for name in names {
            if self.users.remove(name) {
                removed += 1;
                let clients = self.clients.iter().filter(|client| *client.user == *name);
                let meant: Vec<ClientId> = clients.map(|client| client.id).collect();
                self.disconnect_all(session, &meant);
            }
        }
        self.users_changed();
        removed
    }

    /// Puts other users in the place of all, and disconnects who is logged in as any but the default one.
    pub(crate) fn replace_users(&mut self, session: &mut Session, users: Vec<User>) {
        self.users.replace(users);
        let clients = self.clients.iter().filter(|client| *client.user != *DEFAULT);
        let meant: Vec<ClientId> = clients.map(|client| client.id).collect();
        self.disconnect_all(session, &meant);
        self.users_changed();
    }

    /// Whoever asked for it still gets the reply.
    fn disconnect_all(&mut self, session: &mut Session, clients: &[ClientId]) {
        for id in clients {
            if *id == session.id {
                session.closing = true;
            } else {
                self.kill(*id);
            }
        }
    }

    fn users_changed(&mut self) {
        self.rim.config_changed(&self.config, &self.users);
    }
}
