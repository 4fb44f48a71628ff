//! Certificates made on the spot, and a tunnel: plain connections on one side, TLS on the other, so that whatever speaks to
//! a server can be told to do so over TLS.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::{fs, thread};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    date_time_ymd,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use crate::tempdir::TempDir;

/// Files of an authority, a server, its clients, and some that are wrong.
#[derive(Debug)]
pub struct Certificates {
    dir: TempDir,
    authority: CertifiedIssuer<'static, KeyPair>,
}

impl Certificates {
    /// Makes `ca`, `server` and `client`, of each a `.crt` and a `.key`; the same of `expired`, and of `stranger`, whom
    /// another authority has certified.
    pub fn create() -> Certificates {
        let dir = TempDir::create().expect("a temporary directory");
        let certificates = Certificates { dir, authority: authority("Mortise's tests") };
        certificates.write("ca.crt", &certificates.authority.pem());
        for name in ["server", "client"] {
            certificates.certify(name, |_| {});
        }
        certificates.certify("expired", |params| params.not_after = date_time_ymd(2001, 1, 1));
        certificates.certify_by(&authority("somebody else"), "stranger", |_| {});
        certificates
    }

    /// The path of one of the files.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The folder that they lie in.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Makes another certificate and its key, in the place of any of this name.
    pub fn certify(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) {
        self.certify_by(&self.authority, name, change);
    }

    fn certify_by(
        &self,
        authority: &CertifiedIssuer<'static, KeyPair>,
        name: &str,
        change: impl FnOnce(&mut CertificateParams),
    ) {
        let mut params = CertificateParams::new(vec!["localhost".into(), "127.0.0.1".into()]).expect("names");
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, authority).expect("a certificate");
        self.write(&format!("{name}.crt"), &certificate.pem());
        self.write(&format!("{name}.key"), &key.serialize_pem());
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("the temporary directory can be written to");
    }

    /// The directives of a server that listens for TLS on `port`, and asks clients for certificates as `auth` says.
    pub fn directives(&self, port: u16, auth: &str) -> Vec<String> {
        let path = |name| self.path(name).display().to_string();
        vec![
            format!("tls-port {port}"),
            format!("tls-cert-file {}", path("server.crt")),
            format!("tls-key-file {}", path("server.key")),
            format!("tls-ca-cert-file {}", path("ca.crt")),
            format!("tls-auth-clients {auth}"),
        ]
    }

    /// What a client needs that shows the certificate of this name, or none.
    pub fn client(&self, name: Option<&str>) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        let root = CertificateDer::from_pem_file(self.path("ca.crt")).expect("it was written");
        roots.add(root).expect("an authority");
        let builder = ClientConfig::builder().with_root_certificates(roots);
        Arc::new(match name {
            None => builder.with_no_client_auth(),
            Some(name) => {
                let chain =
                    CertificateDer::from_pem_file(self.path(&format!("{name}.crt"))).expect("its file");
                let key = PrivateKeyDer::from_pem_file(self.path(&format!("{name}.key"))).expect("its file");
                builder.with_client_auth_cert(vec![chain], key).expect("they fit together")
            }
        })
    }
}

fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a certificate")
}

/// A port that nobody listens on at the moment.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("it is bound").port()
}

/// A tunnel: what comes in is carried over TLS. It lasts as long as the process.
pub fn tunnel(target: SocketAddr, config: Arc<ClientConfig>) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for plain in listener.incoming().flatten() {
            // Whoever cannot get through finds the connection closed.
            if let Ok(secure) = TcpStream::connect(target) {
                let _ = carry(plain, secure, &config);
            }
        }
    });
    Ok(address)
}

fn carry(plain: TcpStream, secure: TcpStream, config: &Arc<ClientConfig>) -> io::Result<()> {
    let name = "localhost".try_into().expect("a name");
    let mut client = ClientConnection::new(config.clone(), name).map_err(io::Error::other)?;
    client.set_buffer_limit(None);
    plain.set_nodelay(true)?;
    secure.set_nodelay(true)?;
    let client = Arc::new(Mutex::new(client));
    flush(&client, &secure)?;
    let (up, down) = ((plain.try_clone()?, secure.try_clone()?, client.clone()), (plain, secure, client));
    thread::spawn(move || {
        let (plain, secure, client) = up;
        if carry_up(&plain, &secure, &client).is_ok() {
            client.lock().expect("nobody panics with it").send_close_notify();
            let _ = flush(&client, &secure);
        }
        let _ = secure.shutdown(Shutdown::Write);
    });
    thread::spawn(move || {
        let (plain, secure, client) = down;
        // Either way, the other end is told that nothing more comes.
        let _ = carry_down(&plain, &secure, &client);
        let _ = plain.shutdown(Shutdown::Both);
    });
    Ok(())
}

fn carry_up(mut plain: &TcpStream, secure: &TcpStream, client: &Mutex<ClientConnection>) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let len = plain.read(&mut buffer)?;
        if len == 0 {
            return Ok(());
        }
        client.lock().expect("nobody panics with it").writer().write_all(&buffer[..len])?;
        flush(client, secure)?;
    }
}

fn carry_down(
    mut plain: &TcpStream,
    mut secure: &TcpStream,
    client: &Mutex<ClientConnection>,
) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let len = secure.read(&mut buffer)?;
        if len == 0 {
            return Ok(());
        }
        let mut plaintext = Vec::new();
        {
            let client = &mut *client.lock().expect("nobody panics with it");
            let mut bytes = &buffer[..len];
            while !bytes.is_empty() {
                client.read_tls(&mut bytes)?;
                let state = client.process_new_packets().map_err(io::Error::other)?;
                let start = plaintext.len();
                plaintext.resize(start + state.plaintext_bytes_to_read(), 0);
                client.reader().read_exact(&mut plaintext[start..])?;
            }
        }
        flush(client, secure)?;
        plain.write_all(&plaintext)?;
    }
}

/// Writes what is encrypted; the lock keeps the records of the two directions in their order.
fn flush(client: &Mutex<ClientConnection>, mut secure: &TcpStream) -> io::Result<()> {
    let client = &mut *client.lock().expect("nobody panics with it");
    while client.wants_write() {
        client.write_tls(&mut secure)?;
    }
    Ok(())
}
