//! What is wrong with files and settings is said with the name of the file and the reason.

use crate::common::{Authority, Folder, Server};
use mortise_tls::{ClientAuth, Settings};

fn refusal(settings: &Settings) -> String {
    settings.load().map(|_| ()).unwrap_err().to_string()
}

#[test]
fn what_is_missing_is_named() {
    let server = Server::new(ClientAuth::Yes);
    let with = |change: fn(&mut Settings)| {
        let mut settings = server.settings.clone();
        change(&mut settings);
        refusal(&settings)
    };
    assert_eq!(with(|s| s.cert_file = None), "No tls-cert-file configured!");
    assert_eq!(with(|s| s.key_file = None), "No tls-key-file configured!");
    assert_eq!(
        with(|s| s.ca_cert_file = None),
        "Either tls-ca-cert-file or tls-ca-cert-dir must be specified when tls-replication or tls-auth-clients are \
         enabled!"
    );
    assert!(with(|s| s.dh_params_file = Some("dh.pem".into())).starts_with("tls-dh-params-file (dh.pem): "));
    for (change, start) in [
        (
            (|s| s.cert_file = Some("/no/cert".into())) as fn(&mut Settings),
            "Failed to load certificate: /no/cert: No such file",
        ),
        (|s| s.key_file = Some("/no/key".into()), "Failed to load private key: /no/key: No such file"),
        (
            |s| s.ca_cert_file = Some("/no/ca".into()),
            "Failed to configure CA certificate(s) file/directory: /no/ca: No such file",
        ),
        (
            |s| s.ca_cert_dir = Some("/no/dir".into()),
            "Failed to configure CA certificate(s) file/directory: /no/dir: No such file",
        ),
        (|s| s.protocols = "TLSv1.4".into(), "Invalid tls-protocols specified ('TLSv1.4')"),
        (|s| s.ciphers = "AES:nosuch".into(), "Failed to configure ciphers: 'nosuch'"),
        (|s| s.ciphersuites = "nosuch".into(), "Failed to configure ciphersuites: 'nosuch'"),
    ] {
        let text = with(change);
        assert!(text.starts_with(start), "{text}");
    }
}

#[test]
fn what_is_in_a_file_must_be_what_it_is_to_be() {
    let server = Server::new(ClientAuth::No);
    let other = server.authority.certify(|_| {});
    let folder = &server.folder;
    let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let broken = "-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n";
    for (name, text, part) in [
        ("empty", "", "there is no certificate in it"),
        ("key", other.key.as_str(), "there is no certificate in it"),
        ("garbage", garbage, "encoding"),
        ("broken", broken, "base64"),
    ] {
        let settings = Settings { cert_file: Some(folder.write(name, text)), ..server.settings.clone() };
        let refusal = refusal(&settings);
        let start = format!("Failed to load certificate: {}: ", folder.path().join(name).display());
        assert!(refusal.starts_with(&start) && refusal.to_lowercase().contains(part), "{name}: {refusal}");
    }
    for (name, text, part) in [
        ("empty", "", "there is no private key in it"),
        ("cert", other.cert.as_str(), "there is no private key in it"),
        ("other", other.key.as_str(), "it is not the key to the certificate in"),
        (
            "bad",
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
            "it is no key that is supported",
        ),
        (
            "old",
            "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nAAAA\n\
             -----END RSA PRIVATE KEY-----\n",
            "traditional way",
        ),
        (
            "locked",
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
            "there is no tls-key-file-pass",
        ),
    ] {
        let settings = Settings { key_file: Some(folder.write(name, text)), ..server.settings.clone() };
        let refusal = refusal(&settings);
        let start = format!("Failed to load private key: {}: ", folder.path().join(name).display());
        assert!(refusal.starts_with(&start) && refusal.contains(part), "{name}: {refusal}");
    }
}

#[test]
fn a_folder_of_authorities_is_read_whole() {
    let mut server = Server::new(ClientAuth::Yes);
    let (folder, others) = (Folder::new(), [Authority::new(), Authority::new()]);
    server.settings.ca_cert_file = None;
    server.settings.ca_cert_dir = Some(folder.path().to_owned());
    assert!(refusal(&server.settings).contains("there is no file with a usable certificate in it"));
    folder.write("README", "nothing of interest");
    folder.write("one.pem", others[0].cert());
    folder.write("again.0", others[0].cert());
    folder.write("two.pem", others[1].cert() + &server.authority.cert());
    assert_eq!(server.settings.load().unwrap().warnings, [""; 0]);
    folder.write("bad.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    let warnings = server.settings.load().unwrap().warnings;
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].contains("bad.pem"), "{warnings:?}");

    let wish = crate::common::ClientWish {
        identity: Some(server.authority.certify(|_| {})),
        ..crate::common::ClientWish::default()
    };
    let config = crate::common::client_config(&server.authority, &wish);
    crate::common::Pair::new(&server.acceptor(), config).settle().unwrap();
}
