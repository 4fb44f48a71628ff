//! Connections that are made: to servers that an authority has certified, and to no others.

use crate::common::{Authority, Server};
use mortise_tls::{ClientAuth, ClientSession, Problem, Session, Settings, ciphertext_len_max};

/// Both ends, and what each has heard.
struct Ends {
    client: ClientSession,
    server: Session,
    told: Vec<u8>,
    heard: Vec<u8>,
}

impl Ends {
    fn new(client: &Settings, server: &Settings) -> Ends {
        let connector = client.load().unwrap().connector.unwrap();
        Ends {
            client: connector.session().unwrap(),
            server: server.load().unwrap().acceptor.session().unwrap(),
            told: Vec::new(),
            heard: Vec::new(),
        }
    }

    /// Carries what the client has to say, and the answers, so many bytes at a time.
    fn settle(&mut self, step: usize) -> Result<(), Problem> {
        loop {
            let mut wire = Vec::new();
            self.client.collect(&mut wire)?;
            if wire.is_empty() {
                return Ok(());
            }
            self.give_server(&wire, step)?;
        }
    }

    fn give_server(&mut self, wire: &[u8], step: usize) -> Result<(), Problem> {
        for part in wire.chunks(step) {
            let (mut answer, heard) = (Vec::new(), &mut self.heard);
            let taken =
                self.server.receive(&mut part.to_vec(), |bytes| heard.extend_from_slice(bytes), &mut answer);
            for part in answer.chunks(step) {
                self.client.receive(part, &mut self.told)?;
            }
            taken?;
        }
        Ok(())
    }
}

fn connecting(server: &Server) -> Settings {
    Settings { connects: true, ..server.settings.clone() }
}

#[test]
fn both_ends_hear_each_other() {
    let server = Server::new(ClientAuth::Yes);
    for step in [1, 7, 1000, usize::MAX] {
        let mut ends = Ends::new(&connecting(&server), &server.settings);
        assert!(ends.client.send(b"too early", &mut Vec::new()).is_err());
        ends.settle(step).unwrap();
        assert!(ends.client.is_established() && ends.server.is_established());
        for len in [1, 5000, 100_000] {
            let said: Vec<u8> = (0..len).map(|n: u32| n as u8).collect();
            let mut wire = Vec::new();
            ends.client.send(&said, &mut wire).unwrap();
            ends.heard.clear();
            ends.give_server(&wire, step).unwrap();
            assert_eq!(ends.heard, said);
            let mut room = vec![0; ciphertext_len_max(said.len())];
            let len = ends.server.send(&said, &mut room).unwrap();
            ends.told.clear();
            for part in room[..len].chunks(step) {
                ends.client.receive(part, &mut ends.told).unwrap();
            }
            assert_eq!(ends.told, said);
        }
    }
}

#[test]
fn only_who_is_certified_is_trusted() {
    let (server, stranger) = (Server::new(ClientAuth::No), Server::new(ClientAuth::No));
    let mut ends = Ends::new(&connecting(&server), &stranger.settings);
    let refusal = ends.settle(usize::MAX).unwrap_err().to_string();
    assert!(refusal.starts_with("invalid peer certificate: "), "{refusal}");
    let expired = server.authority.certify_expired();
    let settings = Settings {
        cert_file: Some(server.folder.write("expired.crt", &expired.cert)),
        key_file: Some(server.folder.write("expired.key", &expired.key)),
        ..server.settings.clone()
    };
    let mut ends = Ends::new(&connecting(&server), &settings);
    assert!(ends.settle(usize::MAX).unwrap_err().to_string().contains("expired"));
    // Rubbish ends the connection, and nothing else.
    let mut ends = Ends::new(&connecting(&server), &server.settings);
    assert!(ends.client.receive(b"+PONG\r\n+PONG\r\n", &mut Vec::new()).is_err());
}

#[test]
fn a_server_may_ask_who_connects() {
    let server = Server::new(ClientAuth::Yes);
    let stranger = Authority::new().certify(|_| {});
    let own = server.authority.certify(|_| {});
    for (identity, is_known) in [(stranger, false), (own, true)] {
        let settings = Settings {
            client_cert_file: Some(server.folder.write("client.crt", &identity.cert)),
            client_key_file: Some(server.folder.write("client.key", &identity.key)),
            ..connecting(&server)
        };
        assert_eq!(Ends::new(&settings, &server.settings).settle(usize::MAX).is_ok(), is_known);
    }
}

#[test]
fn what_is_missing_is_named() {
    let server = Server::new(ClientAuth::No);
    let refused = |settings: Settings| settings.load().unwrap_err().to_string();
    let none = Settings { ca_cert_file: None, ..connecting(&server) };
    assert!(refused(none).starts_with("Either tls-ca-cert-file or tls-ca-cert-dir must be specified"));
    let cert = Settings { client_cert_file: server.settings.cert_file.clone(), ..connecting(&server) };
    assert_eq!(refused(cert), "No tls-client-key-file configured!");
    let key = Settings { client_key_file: server.settings.key_file.clone(), ..connecting(&server) };
    assert_eq!(refused(key), "No tls-client-cert-file configured!");
    assert!(server.settings.load().unwrap().connector.is_none());
}
