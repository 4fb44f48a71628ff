//! Sessions against a client of rustls: what is said arrives, whatever the wire does to it.

use std::io::{Read as _, Write as _};

use crate::common::{ClientWish, Pair, Server, client_config};
use mortise_tls::{ClientAuth, Current, Settings};
use rustls::{CipherSuite, HandshakeKind, ProtocolVersion, SupportedProtocolVersion, version};

const TLS12: &[&SupportedProtocolVersion] = &[&version::TLS12];
const TLS13: &[&SupportedProtocolVersion] = &[&version::TLS13];

fn pair(server: &Server, wish: &ClientWish) -> Pair {
    Pair::new(&server.acceptor(), client_config(&server.authority, wish))
}

fn speaking(versions: &[&'static SupportedProtocolVersion]) -> ClientWish {
    ClientWish { versions: versions.to_vec(), ..ClientWish::default() }
}

/// Bytes that differ from place to place.
fn value(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 31 % 251) as u8).collect()
}

fn read(pair: &mut Pair, len: usize) -> Vec<u8> {
    pair.told.drain(..len).collect()
}

#[test]
fn what_is_said_arrives_however_the_wire_cuts_it() {
    let server = Server::new(ClientAuth::No);
    for versions in [TLS12, TLS13] {
        for step in [1, 2, 3, 5, 6, 7, 100, 1009, usize::MAX] {
            let mut pair = pair(&server, &speaking(versions));
            pair.step = step;
            assert!(!pair.session.is_established());
            pair.settle().unwrap();
            assert!(pair.session.is_established());

            for len in [1, 5, 71, 16 * 1024, 16 * 1024 + 1] {
                pair.heard.clear();
                pair.client.writer().write_all(&value(len)).unwrap();
                pair.settle().unwrap();
                assert_eq!(pair.heard, value(len), "{step} {len}");
                // A session answers while the next record is half there.
                pair.client.writer().write_all(b"second").unwrap();
                let record = pair.take_from_client();
                pair.give_session(&record[..record.len() / 2]).unwrap();
                let wire = pair.say(&value(len));
                pair.give_client(&wire).unwrap();
                assert_eq!(read(&mut pair, len), value(len));
                pair.give_session(&record[record.len() / 2..]).unwrap();
                assert!(pair.heard.ends_with(b"second"));
            }
        }
    }
}

#[test]
fn a_megabyte_goes_both_ways() {
    let server = Server::new(ClientAuth::No);
    let mut pair = pair(&server, &ClientWish::default());
    pair.settle().unwrap();
    pair.client.set_buffer_limit(None);
    let megabyte = value(1 << 20);
    pair.client.writer().write_all(&megabyte).unwrap();
    pair.step = 60_000;
    pair.settle().unwrap();
    assert_eq!(pair.heard, megabyte);
    let mut got = Vec::new();
    for chunk in megabyte.chunks(50_000) {
        let wire = pair.say(chunk);
        assert!(wire.len() > chunk.len());
        pair.give_client(&wire).unwrap();
        got.extend(read(&mut pair, chunk.len()));
    }
    assert_eq!(got, megabyte);
}

#[test]
fn many_records_of_one_read_are_heard_in_order() {
    let server = Server::new(ClientAuth::No);
    let mut pair = pair(&server, &ClientWish::default());
    pair.settle().unwrap();
    let mut wire = Vec::new();
    for number in 0..500_u32 {
        pair.client.writer().write_all(&number.to_be_bytes()).unwrap();
        wire.extend(pair.take_from_client());
    }
    pair.give_session(&wire).unwrap();
    let expected: Vec<u8> = (0..500_u32).flat_map(u32::to_be_bytes).collect();
    assert_eq!(pair.heard, expected);
}

#[test]
fn both_ends_may_say_goodbye() {
    let server = Server::new(ClientAuth::No);
    for versions in [TLS12, TLS13] {
        let mut pair = pair(&server, &speaking(versions));
        pair.settle().unwrap();
        pair.client.writer().write_all(b"last").unwrap();
        pair.client.send_close_notify();
        pair.settle().unwrap();
        assert_eq!((&pair.heard[..], pair.session.is_ended()), (&b"last"[..], true));
        // It may still answer, and says goodbye itself, once.
        let mut wire = pair.say(b"answer");
        pair.session.close(&mut wire);
        let len = wire.len();
        pair.session.close(&mut wire);
        assert_eq!(wire.len(), len);
        pair.give_client(&wire).unwrap();
        assert_eq!(pair.told, b"answer");
        assert_eq!(pair.client.reader().read(&mut [0]).expect("it was not cut off"), 0);
        assert!(pair.session.send(b"more", &mut [0; 2048]).is_err());
    }
}

#[test]
fn what_is_no_tls_is_answered_by_an_alert() {
    let server = Server::new(ClientAuth::No);
    for bytes in [&b"PING\r\n"[..], b"*1\r\n$4\r\nPING\r\n", b"GET / HTTP/1.1\r\n\r\n", &[0; 64], &[0xff; 64]]
    {
        let mut session = server.acceptor().session().unwrap();
        let mut out = Vec::new();
        let refused = session.receive(&mut bytes.to_vec(), |_| panic!("nothing was said"), &mut out);
        assert!(refused.is_err(), "{bytes:?}");
        assert_eq!(out.first(), Some(&21), "an alert: {out:?}");
        assert!(session.receive(&mut bytes.to_vec(), |_| {}, &mut out).is_err());
        assert!(!session.is_established());
    }
}

#[test]
fn before_the_handshake_nothing_can_be_said() {
    let mut session = Server::new(ClientAuth::No).acceptor().session().unwrap();
    assert!(session.send(b"x", &mut [0; 2048]).is_err());
    let mut out = Vec::new();
    session.close(&mut out);
    assert!(out.is_empty());
}

#[test]
fn the_client_may_change_its_keys() {
    let server = Server::new(ClientAuth::No);
    let mut pair = pair(&server, &speaking(TLS13));
    pair.settle().unwrap();
    for round in 0..5_u8 {
        pair.client.refresh_traffic_keys().unwrap();
        pair.client.writer().write_all(&[round; 10]).unwrap();
        pair.settle().unwrap();
        assert_eq!(pair.heard, vec![round; 10]);
        pair.heard.clear();
        let wire = pair.say(&[round; 20]);
        pair.give_client(&wire).unwrap();
        assert_eq!(read(&mut pair, 20), [round; 20]);
    }
}

#[test]
fn clients_show_certificates_as_is_asked_for() {
    let other = crate::common::Authority::new();
    for (auth, none, good, wrong) in [
        (ClientAuth::No, true, true, true),
        (ClientAuth::Yes, false, true, false),
        (ClientAuth::Optional, true, true, false),
    ] {
        let server = Server::new(auth);
        let good_identity = server.authority.certify(|_| {});
        let expired = server.authority.certify_expired();
        let servers_only = server.authority.certify(|params| {
            params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
        });
        for (identity, accepted) in [
            (None, none),
            (Some(good_identity), good),
            (Some(other.certify(|_| {})), wrong),
            (Some(expired), wrong),
            (Some(servers_only), wrong),
        ] {
            for versions in [TLS12, TLS13] {
                let wish = ClientWish { identity: identity.clone(), ..speaking(versions) };
                let mut pair = pair(&server, &wish);
                let settled = pair.settle();
                assert_eq!(settled.is_ok(), accepted, "{auth:?} {versions:?}: {settled:?}");
                assert_eq!(pair.session.is_established(), accepted);
            }
        }
    }
}

#[test]
fn a_chain_is_sent_and_understood() {
    let mut server = Server::new(ClientAuth::No);
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, "between");
    let between = server.authority.certify_authority(params);
    let identity = between.certify(|_| {});
    let chain = format!("{}{}", identity.cert, between.cert());
    server.settings.cert_file = Some(server.folder.write("chain.crt", chain));
    server.settings.key_file = Some(server.folder.write("chain.key", identity.key));
    pair(&server, &ClientWish::default()).settle().unwrap();
    server.settings.cert_file = Some(server.folder.write("alone.crt", identity.cert));
    let mut pair = pair(&server, &ClientWish::default());
    let hello = pair.take_from_client();
    let mut out = Vec::new();
    pair.session.receive(&mut hello.clone(), |_| {}, &mut out).unwrap();
    assert!(pair.give_client(&out).is_err(), "the client misses what certifies it");
}

#[test]
fn versions_and_ciphers_are_those_of_the_settings() {
    const AES128: CipherSuite = CipherSuite::TLS13_AES_128_GCM_SHA256;
    const AES256: CipherSuite = CipherSuite::TLS13_AES_256_GCM_SHA384;
    let mut server = Server::new(ClientAuth::No);
    for (protocols, version12, version13) in [
        ("", true, true),
        ("TLSv1.2", true, false),
        ("TLSv1.3", false, true),
        ("TLSv1.3 TLSv1.2", true, true),
    ] {
        server.settings.protocols = protocols.into();
        for (versions, accepted) in [(TLS12, version12), (TLS13, version13)] {
            let settled = pair(&server, &speaking(versions)).settle();
            assert_eq!(settled.is_ok(), accepted, "{protocols} {settled:?}");
        }
    }
    server.settings.protocols = String::new();
    server.settings.ciphersuites = "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384".into();
    for (prefer_own, chosen) in [(false, AES256), (true, AES128)] {
        server.settings.prefer_server_ciphers = prefer_own;
        let wish = ClientWish { suites: vec![AES256, AES128], ..speaking(TLS13) };
        let mut pair = pair(&server, &wish);
        pair.settle().unwrap();
        assert_eq!(pair.client.negotiated_cipher_suite().unwrap().suite(), chosen);
    }
    let wish = ClientWish { suites: vec![CipherSuite::TLS13_CHACHA20_POLY1305_SHA256], ..speaking(TLS13) };
    assert!(pair(&server, &wish).settle().is_err());
    server.settings.ciphers = "ECDHE+AES128".into();
    let mut pair = pair(&server, &speaking(TLS12));
    pair.settle().unwrap();
    assert_eq!(
        (pair.client.protocol_version(), pair.client.negotiated_cipher_suite().unwrap().suite()),
        (Some(ProtocolVersion::TLSv1_2), CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256)
    );
}

/// Two connections of one client, one after the other; how the second came about.
fn second_handshake(
    server: &Server,
    versions: &[&'static SupportedProtocolVersion],
    between: impl FnOnce(&Current),
) -> HandshakeKind {
    let current = Current::default();
    current.replace(&server.settings).unwrap();
    let config = client_config(&server.authority, &speaking(versions));
    let mut first = Pair::new(&current.acceptor().unwrap(), config.clone());
    first.settle().unwrap();
    between(&current);
    let mut second = Pair::new(&current.acceptor().unwrap(), config);
    second.settle().unwrap();
    second.client.handshake_kind().unwrap()
}

#[test]
fn sessions_are_resumed_under_the_same_settings_only() {
    let mut server = Server::new(ClientAuth::No);
    for versions in [TLS12, TLS13] {
        assert_eq!(second_handshake(&server, versions, |_| {}), HandshakeKind::Resumed);
        let reloaded = |current: &Current| drop(current.replace(&server.settings).unwrap());
        assert_eq!(second_handshake(&server, versions, reloaded), HandshakeKind::Full);
    }
    server.settings.session_caching = false;
    for versions in [TLS12, TLS13] {
        assert_eq!(second_handshake(&server, versions, |_| {}), HandshakeKind::Full);
    }
    server.settings.session_caching = true;
    server.settings.session_cache_timeout = std::time::Duration::ZERO;
    assert_eq!(second_handshake(&server, TLS13, |_| {}), HandshakeKind::Full);
}

#[test]
fn what_cannot_be_loaded_changes_nothing() {
    let server = Server::new(ClientAuth::No);
    let current = Current::default();
    assert!(current.acceptor().is_none());
    current.replace(&server.settings).unwrap();
    let bad = Settings { cert_file: Some("/no/such.crt".into()), ..server.settings.clone() };
    let problem = current.replace(&bad).unwrap_err().to_string();
    assert_eq!(problem, "Failed to load certificate: /no/such.crt: No such file or directory");
    let config = client_config(&server.authority, &ClientWish::default());
    Pair::new(&current.acceptor().unwrap(), config).settle().unwrap();
    current.clear();
    assert!(current.acceptor().is_none());
}

/// No bytes make a session panic: the wire is bent at every place of a handshake and of what follows.
#[test]
fn whatever_the_wire_carries_is_survived() {
    let server = Server::new(ClientAuth::Optional);
    let acceptor = server.acceptor();
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    for round in 0..3000 {
        let versions = if round % 2 == 0 { TLS12 } else { TLS13 };
        let mut pair = Pair::new(&acceptor, client_config(&server.authority, &speaking(versions)));
        pair.step = 1 + (random() % 700) as usize;
        let clean = random() % 4;
        for message in 0..6 {
            if !pair.client.is_handshaking() {
                pair.client.writer().write_all(b"*1\r\n$4\r\nPING\r\n").unwrap();
            }
            let mut bytes = pair.take_from_client();
            if message >= clean && !bytes.is_empty() {
                let at = (random() % bytes.len() as u64) as usize;
                match random() % 4 {
                    0 => bytes[at] ^= 1 << (random() % 8),
                    1 => bytes.truncate(at),
                    2 => bytes.insert(at, random() as u8),
                    _ => drop(bytes.drain(at..(at + 3).min(bytes.len()))),
                }
            }
            let result = pair.give_session_alone(&bytes);
            if pair.session.is_established() {
                let _ = pair.session.send(b"+PONG\r\n", &mut [0; 2048]);
            }
            if result.is_err() {
                break;
            }
        }
        pair.session.close(&mut Vec::new());
    }
}
