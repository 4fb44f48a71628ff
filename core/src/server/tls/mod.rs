//! TLS at the rim: its directives, the certificates in force, and connections that speak it.
//!
//! `mortise-tls` turns bytes into bytes. Here these bytes meet sockets: `stream.rs` is a socket that speaks TLS,
//! `handshake.rs` is what comes before a connection is one. The engine hears of neither.

pub mod handshake;
pub mod stream;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use mortise_sdk::declare::config::{Kind, Limits, Setting};
use mortise_sdk::{config, setting_enum};
use mortise_tls::{ClientAuth, Current, Problem, Settings};

use crate::config::Config;
use crate::features::Feature;

/// Encrypted connections.
pub const FEATURE: Feature = Feature { name: "tls", config: TlsConfig::directives(), ..Feature::EMPTY };

/// What CONFIG SET says when the new settings cannot be used; the log says why.
pub const CANNOT_UPDATE: &str = "Unable to update TLS configuration. Check server logs.";

setting_enum! {
    /// Whether clients must show a certificate.
    pub enum AuthClients {
        /// None is asked for.
        No = "no",
        /// Each must.
        Yes = "yes",
        /// Who shows one must show a good one.
        Optional = "optional",
    }
}

/// The name of a file whose contents are read when it is set: setting it again reads it again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FileName(Option<String>);

impl FileName {
    fn path(&self) -> Option<PathBuf> {
        self.0.as_ref().map(PathBuf::from)
    }
}

impl Setting for FileName {
    const KIND: Kind = Kind::Text;
    const VOLATILE: bool = true;

    fn parse(words: &[&str], limits: Option<Limits>) -> Result<Self, String> {
        Option::parse(words, limits).map(FileName)
    }

    fn show(&self) -> String {
        self.0.show()
    }

    fn written(&self) -> Vec<String> {
        self.0.written()
    }
}

config! {
    /// Encrypted connections.
    pub struct TlsConfig {
        /// TCP port to listen on for TLS. Zero means none.
        live tls_port: u16 = 0, in 0..=65535 => listen;
        /// The server's certificate, and behind it those that certify it: PEM.
        live tls_cert_file: FileName = FileName::default() => tls;
        /// The key to the certificate: PEM.
        live tls_key_file: FileName = FileName::default() => tls;
        /// The password of the key, if it is encrypted (as PKCS#8: `openssl pkcs8 -topk8`).
        secret tls_key_file_pass: Option<String> = None => tls;
        /// Certificates of the authorities that certify clients: PEM.
        live tls_ca_cert_file: FileName = FileName::default() => tls;
        /// A folder of such files.
        live tls_ca_cert_dir: FileName = FileName::default() => tls;
        /// Whether the link to a primary is encrypted.
        live tls_replication: bool = false => tls;
        /// The certificate that a primary is shown, if it is not the one of tls-cert-file: PEM.
        live tls_client_cert_file: FileName = FileName::default() => tls;
        /// The key to it: PEM.
        live tls_client_key_file: FileName = FileName::default() => tls;
        /// The password of that key, if it is encrypted.
        secret tls_client_key_file_pass: Option<String> = None => tls;
        /// Whether clients must show a certificate; if it is optional, one that is shown must be good.
        live tls_auth_clients: AuthClients = AuthClients::Yes => tls;
        /// Versions of the protocol: TLSv1.2, TLSv1.3, or both in quotes. The empty text means both.
        live tls_protocols: String = String::new() => tls;
        /// Ciphers of TLSv1.2, as OpenSSL names them. The empty text means all there are.
        live tls_ciphers: String = String::new() => tls;
        /// Ciphers of TLSv1.3. The empty text means all there are.
        live tls_ciphersuites: String = String::new() => tls;
        /// Whether the server's order of ciphers counts instead of the client's.
        live tls_prefer_server_ciphers: bool = false => tls;
        /// Must stay empty: keys are agreed on by elliptic curves, which need no parameters.
        live tls_dh_params_file: FileName = FileName::default() => tls;
        /// Whether clients may resume sessions, which makes their next handshakes cheap.
        live tls_session_caching: bool = true => tls;
        /// How many sessions are kept for that. Zero means any number.
        live tls_session_cache_size: u32 = 20480, in 0..=i32::MAX => tls;
        /// Seconds for which they are kept.
        live tls_session_cache_timeout: u32 = 300, in 0..=i32::MAX => tls;
        /// Seconds that a handshake may take.
        live tls_handshake_timeout: u32 = 10, in 1..=3600;
        /// How many handshakes may be under way at once; the oldest gives way to one more.
        live tls_handshakes_max: u32 = 1000, in 1..=i32::MAX;
    }
}

impl TlsConfig {
    /// Whether anything is encrypted.
    fn is_used(&self) -> bool {
        self.tls_port != 0 || self.tls_replication
    }

    fn settings(&self) -> Settings {
        Settings {
            cert_file: self.tls_cert_file.path(),
            key_file: self.tls_key_file.path(),
            key_file_pass: self.tls_key_file_pass.clone(),
            ca_cert_file: self.tls_ca_cert_file.path(),
            ca_cert_dir: self.tls_ca_cert_dir.path(),
            dh_params_file: self.tls_dh_params_file.path(),
            auth_clients: match self.tls_auth_clients {
                AuthClients::No => ClientAuth::No,
                AuthClients::Yes => ClientAuth::Yes,
                AuthClients::Optional => ClientAuth::Optional,
            },
            protocols: self.tls_protocols.clone(),
            ciphers: self.tls_ciphers.clone(),
            ciphersuites: self.tls_ciphersuites.clone(),
            prefer_server_ciphers: self.tls_prefer_server_ciphers,
            session_caching: self.tls_session_caching,
            session_cache_size: self.tls_session_cache_size as usize,
            session_cache_timeout: Duration::from_secs(self.tls_session_cache_timeout.into()),
            connects: self.tls_replication,
            client_cert_file: self.tls_client_cert_file.path(),
            client_key_file: self.tls_client_key_file.path(),
            client_key_file_pass: self.tls_client_key_file_pass.clone(),
        }
    }
}

/// What the threads share of it.
#[derive(Debug, Default)]
pub struct Tls {
    /// What new connections are accepted with.
    pub current: Current,
    /// `tls-handshake-timeout`, read without the engine's lock.
    handshake_timeout_s: AtomicU32,
    /// `tls-handshakes-max`, read without the engine's lock.
    handshakes_max: AtomicU32,
}

impl Tls {
    /// Reads certificates and keys as the settings name them, for connections that come from now on. Without a port for
    /// TLS nothing is read, unless the link to a primary needs it; it will be when there is one.
    pub fn load(&self, config: &Config) -> Result<(), Problem> {
        if !config.tls.is_used() {
            self.current.clear();
            return Ok(());
        }
        for warning in self.current.replace(&config.tls.settings())? {
            tracing::warn!("{warning}");
        }
        Ok(())
    }

    /// Reads them if that was not done yet.
    pub fn ensure_loaded(&self, config: &Config) -> Result<(), Problem> {
        if !config.tls.is_used() || self.current.acceptor().is_some() { Ok(()) } else { self.load(config) }
    }

    /// Takes over settings that are read without the lock.
    pub fn apply_config(&self, config: &TlsConfig) {
        self.handshake_timeout_s.store(config.tls_handshake_timeout, Ordering::Relaxed);
        self.handshakes_max.store(config.tls_handshakes_max, Ordering::Relaxed);
    }

    fn handshake_timeout(&self) -> Duration {
        Duration::from_secs(self.handshake_timeout_s.load(Ordering::Relaxed).into())
    }

    /// How many handshakes each of `threads` threads may have under way.
    fn handshakes_max(&self, threads: usize) -> usize {
        (self.handshakes_max.load(Ordering::Relaxed) as usize / threads.max(1)).max(1)
    }
}
