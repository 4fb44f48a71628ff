//! Certificates made on the spot, a client, and the wire between it and a session.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use mortise_tls::{Acceptor, ClientAuth, Problem, Session, Settings, ciphertext_len_max};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    date_time_ymd,
};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{CipherSuite, ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion};

/// A folder that is removed with it.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Folder {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("mortise-tls-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A certificate and its key, as PEM.
#[derive(Clone)]
pub(crate) struct Identity {
    pub(crate) cert: String,
    pub(crate) key: String,
}

/// An authority.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Authority(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(crate) fn cert(&self) -> String {
        self.0.pem()
    }

    /// An authority below this one.
    pub(crate) fn certify_authority(&self, params: CertificateParams) -> Authority {
        Authority(CertifiedIssuer::signed_by(params, KeyPair::generate().unwrap(), &self.0).unwrap())
    }

    pub(crate) fn certify(&self, change: impl FnOnce(&mut CertificateParams)) -> Identity {
        let mut params = CertificateParams::new(vec!["localhost".into()]).unwrap();
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.0).unwrap();
        Identity { cert: cert.pem(), key: key.serialize_pem() }
    }

    pub(crate) fn certify_expired(&self) -> Identity {
        self.certify(|params| params.not_after = date_time_ymd(2001, 1, 1))
    }
}

/// A server's files, and the settings that name them; the clients' authority is the server's.
pub(crate) struct Server {
    pub(crate) folder: Folder,
    pub(crate) authority: Authority,
    pub(crate) settings: Settings,
}

impl Server {
    pub(crate) fn new(auth_clients: ClientAuth) -> Server {
        let (folder, authority) = (Folder::new(), Authority::new());
        let identity = authority.certify(|_| {});
        let settings = Settings {
            cert_file: Some(folder.write("server.crt", &identity.cert)),
            key_file: Some(folder.write("server.key", &identity.key)),
            ca_cert_file: Some(folder.write("ca.crt", authority.cert())),
            auth_clients,
            ..Settings::default()
        };
        Server { folder, authority, settings }
    }

    pub(crate) fn acceptor(&self) -> Acceptor {
        self.settings.load().unwrap().acceptor
    }
}

/// What a client wants.
pub(crate) struct ClientWish {
    pub(crate) identity: Option<Identity>,
    pub(crate) versions: Vec<&'static SupportedProtocolVersion>,
    /// In the client's order; none means its usual ones.
    pub(crate) suites: Vec<CipherSuite>,
}

impl Default for ClientWish {
    fn default() -> ClientWish {
        ClientWish { identity: None, versions: rustls::DEFAULT_VERSIONS.to_vec(), suites: Vec::new() }
    }
}

pub(crate) fn client_config(authority: &Authority, wish: &ClientWish) -> Arc<ClientConfig> {
    let mut provider: CryptoProvider = aws_lc_rs::default_provider();
    if !wish.suites.is_empty() {
        let known = std::mem::take(&mut provider.cipher_suites);
        let find = |suite: &CipherSuite| known.iter().find(|known| known.suite() == *suite).copied().unwrap();
        provider.cipher_suites = wish.suites.iter().map(find).collect();
    }
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.cert().as_bytes()).unwrap()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&wish.versions)
        .unwrap()
        .with_root_certificates(roots);
    Arc::new(match &wish.identity {
        None => builder.with_no_client_auth(),
        Some(Identity { cert, key }) => {
            let chain = vec![CertificateDer::from_pem_slice(cert.as_bytes()).unwrap()];
            builder
                .with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap())
                .unwrap()
        }
    })
}

/// A client and a session, and what has arrived at either end.
pub(crate) struct Pair {
    pub(crate) client: ClientConnection,
    pub(crate) session: Session,
    /// Plaintext that the session has received.
    pub(crate) heard: Vec<u8>,
    /// Plaintext that the client has received.
    pub(crate) told: Vec<u8>,
    /// Bytes that the wire carries at a time.
    pub(crate) step: usize,
}

impl Pair {
    pub(crate) fn new(acceptor: &Acceptor, config: Arc<ClientConfig>) -> Pair {
        Pair {
            client: ClientConnection::new(config, "localhost".try_into().unwrap()).unwrap(),
            session: acceptor.session().unwrap(),
            heard: Vec::new(),
            told: Vec::new(),
            step: usize::MAX,
        }
    }

    /// What the client wants to send.
    pub(crate) fn take_from_client(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while self.client.wants_write() {
            self.client.write_tls(&mut bytes).unwrap();
        }
        bytes
    }

    /// Gives bytes to the session, and its answer to the client.
    pub(crate) fn give_session(&mut self, bytes: &[u8]) -> Result<(), Problem> {
        let mut out = Vec::new();
        for part in bytes.chunks(self.step.min(bytes.len().max(1))) {
            let heard = &mut self.heard;
            let taken = self.session.receive(
                &mut part.to_vec(),
                |plaintext| heard.extend_from_slice(plaintext),
                &mut out,
            );
            if taken.is_err() {
                let _ = self.give_client(&out);
                return taken;
            }
        }
        self.give_client(&out).map_err(|error| panic!("{error}"))
    }

    /// Gives bytes to the session, and its answer to the client, who may not understand it.
    pub(crate) fn give_session_alone(&mut self, bytes: &[u8]) -> Result<(), Problem> {
        let mut out = Vec::new();
        let mut result = Ok(());
        for part in bytes.chunks(self.step.min(bytes.len().max(1))) {
            result = self.session.receive(&mut part.to_vec(), |_| {}, &mut out);
            if result.is_err() {
                break;
            }
        }
        let _ = self.give_client(&out);
        result
    }

    /// Gives bytes to the client.
    pub(crate) fn give_client(&mut self, mut bytes: &[u8]) -> Result<(), rustls::Error> {
        while !bytes.is_empty() {
            self.client.read_tls(&mut bytes).unwrap();
            let len = self.client.process_new_packets()?.plaintext_bytes_to_read();
            let start = self.told.len();
            self.told.resize(start + len, 0);
            self.client.reader().read_exact(&mut self.told[start..]).unwrap();
        }
        Ok(())
    }

    /// Carries bytes until neither end has more to say.
    pub(crate) fn settle(&mut self) -> Result<(), Problem> {
        loop {
            let bytes = self.take_from_client();
            if bytes.is_empty() {
                return Ok(());
            }
            self.give_session(&bytes)?;
        }
    }

    /// Lets the session say something; returns what stands on the wire.
    pub(crate) fn say(&mut self, plaintext: &[u8]) -> Vec<u8> {
        let mut room = vec![0; ciphertext_len_max(plaintext.len())];
        let len = self.session.send(plaintext, &mut room).unwrap();
        room.truncate(len);
        room
    }
}
