//! The other end: connections that are made to another server.

use std::fmt;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::Ipv4Addr;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme,
    SupportedProtocolVersion,
};

use crate::Problem;

/// What connections to other servers are made with. A clone costs a counter.
#[derive(Clone, Debug)]
pub struct Connector(Arc<ClientConfig>);

impl Connector {
    /// Of whoever shows this certificate, and trusts these authorities.
    pub(crate) fn new(
        identity: CertifiedKey,
        roots: RootCertStore,
        provider: &Arc<CryptoProvider>,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Result<Connector, rustls::Error> {
        let verifier = Arc::new(ByAuthority { roots, provider: provider.clone() });
        let mut config = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(versions)?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity)));
        config.resumption = Resumption::disabled();
        Ok(Connector(Arc::new(config)))
    }

    /// The session of a new connection.
    pub fn session(&self) -> Result<ClientSession, Problem> {
        // An address is not told to the other end, and a name would not be looked at here.
        let nobody = ServerName::IpAddress(Ipv4Addr::UNSPECIFIED.into());
        let connection = ClientConnection::new(self.0.clone(), nobody).map_err(problem)?;
        Ok(ClientSession { connection })
    }
}

/// Trusts a server whom an authority has certified, whatever it is called: as Redis does, since servers are known by their
/// addresses, which certificates rarely name.
#[derive(Debug)]
struct ByAuthority {
    roots: RootCertStore,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for ByAuthority {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let certificate = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&certificate, &self.roots, intermediates, now, algorithms)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// TLS of a connection that was made to another server. There are few of them, so this one keeps what it is given until it
/// has been worked on.
pub struct ClientSession {
    connection: ClientConnection,
}

impl ClientSession {
    /// Whether the handshake is done.
    pub fn is_established(&self) -> bool {
        !self.connection.is_handshaking()
    }

    /// What has to be sent now, appended to `out`: the first words, or an answer.
    pub fn collect(&mut self, out: &mut Vec<u8>) -> Result<(), Problem> {
        while self.connection.wants_write() {
            self.connection.write_tls(out).map_err(|error| Problem::new(error.to_string()))?;
        }
        Ok(())
    }

    /// Takes ciphertext, and appends to `plaintext` what it says. There may be something to be sent then, also if the
    /// other end has broken the protocol.
    pub fn receive(&mut self, mut ciphertext: &[u8], plaintext: &mut Vec<u8>) -> Result<(), Problem> {
        while !ciphertext.is_empty() {
            self.connection.read_tls(&mut ciphertext).map_err(|error| Problem::new(error.to_string()))?;
            self.connection.process_new_packets().map_err(problem)?;
            match self.connection.reader().read_to_end(plaintext) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(Problem::new(error.to_string())),
            }
        }
        Ok(())
    }

    /// Encrypts plaintext: what is to be sent for it is appended to `out`.
    pub fn send(&mut self, mut plaintext: &[u8], out: &mut Vec<u8>) -> Result<(), Problem> {
        if !self.is_established() {
            return Err(Problem::new("the session is not established"));
        }
        while !plaintext.is_empty() {
            let taken = self.connection.writer().write(plaintext);
            plaintext = &plaintext[taken.map_err(|error| Problem::new(error.to_string()))?..];
            self.collect(out)?;
        }
        Ok(())
    }
}

impl fmt::Debug for ClientSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientSession").field("established", &self.is_established()).finish()
    }
}

fn problem(error: rustls::Error) -> Problem {
    Problem::new(error.to_string())
}
