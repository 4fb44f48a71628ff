//! Settings, and what is made of them: what connections are accepted with.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::SingleCertAndKey;
use rustls::{CipherSuite, RootCertStore, ServerConfig, SupportedProtocolVersion, version};

use crate::client::Connector;
use crate::names::{self, Protocols};
use crate::session::Session;
use crate::store::Store;
use crate::{Problem, files};

/// Whether clients must show a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    /// None is asked for.
    No,
    /// Each must, and an authority that is named must have certified it.
    Yes,
    /// Who shows one must show a good one.
    Optional,
}

/// Everything that may be set; the fields are called as their directives. Files that are not named are `None`.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The server's certificate, and behind it what certifies it: PEM.
    pub cert_file: Option<PathBuf>,
    /// The key to it: PEM.
    pub key_file: Option<PathBuf>,
    /// What opens the key, if it is encrypted.
    pub key_file_pass: Option<String>,
    /// Authorities that certify clients: PEM.
    pub ca_cert_file: Option<PathBuf>,
    /// A folder of such files.
    pub ca_cert_dir: Option<PathBuf>,
    /// Parameters of finite-field Diffie-Hellman: refused, there is none.
    pub dh_params_file: Option<PathBuf>,
    /// Whether clients must show a certificate.
    pub auth_clients: ClientAuth,
    /// Versions: `TLSv1.2 TLSv1.3`. The empty text means both.
    pub protocols: String,
    /// Ciphers of TLS 1.2, as OpenSSL names them.
    pub ciphers: String,
    /// Ciphers of TLS 1.3.
    pub ciphersuites: String,
    /// Whether the order of these lists counts, and not the client's.
    pub prefer_server_ciphers: bool,
    /// Whether clients may resume sessions.
    pub session_caching: bool,
    /// How many sessions are kept for that; zero means any number.
    pub session_cache_size: usize,
    /// For how long.
    pub session_cache_timeout: Duration,
    /// Whether connections to other servers are to be made, which must show certificates.
    pub connects: bool,
    /// What these are shown, if it is not the server's certificate: PEM.
    pub client_cert_file: Option<PathBuf>,
    /// The key to it: PEM.
    pub client_key_file: Option<PathBuf>,
    /// What opens the key, if it is encrypted.
    pub client_key_file_pass: Option<String>,
}

impl Default for Settings {
    /// No file; what Redis does unless it is told otherwise.
    fn default() -> Settings {
        Settings {
            cert_file: None,
            key_file: None,
            key_file_pass: None,
            ca_cert_file: None,
            ca_cert_dir: None,
            dh_params_file: None,
            auth_clients: ClientAuth::Yes,
            protocols: String::new(),
            ciphers: String::new(),
            ciphersuites: String::new(),
            prefer_server_ciphers: false,
            session_caching: true,
            session_cache_size: 20 * 1024,
            session_cache_timeout: Duration::from_secs(300),
            connects: false,
            client_cert_file: None,
            client_key_file: None,
            client_key_file_pass: None,
        }
    }
}

/// What settings were made into.
#[derive(Debug)]
pub struct Loaded {
    /// What connections are accepted with.
    pub acceptor: Acceptor,
    /// What connections to other servers are made with, if such are to be made.
    pub connector: Option<Connector>,
    /// What an operator should know.
    pub warnings: Vec<String>,
}

/// What connections are accepted with. A clone costs a counter.
#[derive(Clone, Debug)]
pub struct Acceptor(Arc<ServerConfig>);

impl Acceptor {
    /// The session of a new connection.
    pub fn session(&self) -> Result<Session, Problem> {
        Session::new(self.0.clone())
    }
}

impl Settings {
    /// Reads the files, and checks that all fits together.
    pub fn load(&self) -> Result<Loaded, Problem> {
        let Some(cert_file) = &self.cert_file else {
            return Err(Problem::new("No tls-cert-file configured!"));
        };
        let Some(key_file) = &self.key_file else { return Err(Problem::new("No tls-key-file configured!")) };
        if let Some(file) = &self.dh_params_file {
            return Err(Problem::new(format!(
                "tls-dh-params-file ({}): Mortise agrees on keys by elliptic curves alone, which need no parameters: \
                 remove the directive.",
                file.display()
            )));
        }
        let protocols = Protocols::parse(&self.protocols)?;
        let provider = Arc::new(provider(
            protocols,
            names::parse_suites(&self.ciphersuites)?,
            names::parse_ciphers(&self.ciphers)?,
        ));
        let failed = |error: rustls::Error| Problem::new(format!("Failed to configure TLS: {error}"));
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&versions(protocols))
            .map_err(failed)?;

        let mut warnings = Vec::new();
        let connector = self.connects.then(|| self.connector(&provider, protocols)).transpose()?;
        let builder = if self.auth_clients == ClientAuth::No {
            builder.with_no_client_auth()
        } else {
            let roots = Arc::new(self.authorities(&mut warnings)?);
            // As Redis does, the authorities are not told to clients: a folder of them may be long.
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider.clone())
                .clear_root_hint_subjects();
            let verifier = if self.auth_clients == ClientAuth::Optional {
                verifier.allow_unauthenticated()
            } else {
                verifier
            };
            let verifier = verifier
                .build()
                .map_err(|error| Problem::new(format!("Failed to configure TLS: {error}")))?;
            builder.with_client_cert_verifier(verifier)
        };
        let identity = files::identity(cert_file, key_file, self.key_file_pass.as_deref(), &provider)?;
        let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(identity)));
        config.ignore_client_order = self.prefer_server_ciphers;
        if self.session_caching {
            config.session_storage =
                Arc::new(Store::new(self.session_cache_size, self.session_cache_timeout));
        } else {
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
        Ok(Loaded { acceptor: Acceptor(Arc::new(config)), connector, warnings })
    }

    fn authorities(&self, warnings: &mut Vec<String>) -> Result<RootCertStore, Problem> {
        let (file, folder) = (self.ca_cert_file.as_deref(), self.ca_cert_dir.as_deref());
        if file.is_none() && folder.is_none() {
            return Err(Problem::new(
                "Either tls-ca-cert-file or tls-ca-cert-dir must be specified when tls-replication or tls-auth-clients are \
                 enabled!",
            ));
        }
        files::authorities(file, folder, warnings)
    }

    fn connector(&self, provider: &Arc<CryptoProvider>, protocols: Protocols) -> Result<Connector, Problem> {
        // What is wrong with the authorities' files is said when clients are trusted by them, too.
        let roots = self.authorities(&mut Vec::new())?;
        let (cert, key, password) = match (&self.client_cert_file, &self.client_key_file) {
            (Some(cert), Some(key)) => (cert, key, &self.client_key_file_pass),
            (None, None) => match (&self.cert_file, &self.key_file) {
                (Some(cert), Some(key)) => (cert, key, &self.key_file_pass),
                _ => return Err(Problem::new("No tls-cert-file configured!")),
            },
            (Some(_), None) => return Err(Problem::new("No tls-client-key-file configured!")),
            (None, Some(_)) => return Err(Problem::new("No tls-client-cert-file configured!")),
        };
        let identity = files::identity(cert, key, password.as_deref(), provider)?;
        Connector::new(identity, roots, provider, &versions(protocols))
            .map_err(|error| Problem::new(format!("Failed to configure TLS: {error}")))
    }
}

/// The algorithms, with the suites that are wanted, in the order in which they are.
fn provider(protocols: Protocols, tls13: Vec<CipherSuite>, tls12: Vec<CipherSuite>) -> CryptoProvider {
    let mut provider = aws_lc_rs::default_provider();
    let known = std::mem::take(&mut provider.cipher_suites);
    let wanted = [(protocols.tls13, tls13), (protocols.tls12, tls12)];
    let wanted = wanted.into_iter().filter(|(spoken, _)| *spoken).flat_map(|(_, suites)| suites);
    provider.cipher_suites =
        wanted.filter_map(|suite| known.iter().find(|known| known.suite() == suite).copied()).collect();
    provider
}

fn versions(protocols: Protocols) -> Vec<&'static SupportedProtocolVersion> {
    let all = [(protocols.tls13, &version::TLS13), (protocols.tls12, &version::TLS12)];
    all.into_iter().filter(|(spoken, _)| *spoken).map(|(_, version)| version).collect()
}
