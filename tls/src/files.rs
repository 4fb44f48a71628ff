//! Certificates and keys from files. Every refusal names the file and the reason.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pkcs8::der::pem::PemLabel as _;
use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SigningKey};

use crate::Problem;

/// Reads the server's certificate, with what certifies it behind it, and the key to it.
pub(crate) fn identity(
    cert_file: &Path,
    key_file: &Path,
    password: Option<&str>,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, Problem> {
    let failed = |reason: String| {
        Problem::new(format!("Failed to load certificate: {}: {reason}", cert_file.display()))
    };
    let text = fs::read(cert_file).map_err(|error| failed(io_text(&error)))?;
    let chain = certificates(&text).map_err(failed)?;
    if chain.is_empty() {
        return Err(failed("there is no certificate in it (-----BEGIN CERTIFICATE-----)".into()));
    }
    let identity = CertifiedKey::new(chain, key(key_file, password, provider)?);
    let mismatch = || {
        Problem::new(format!(
            "Failed to load private key: {}: it is not the key to the certificate in {}",
            key_file.display(),
            cert_file.display()
        ))
    };
    match identity.keys_match() {
        Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::KeyMismatch)) => Err(mismatch()),
        // A certificate of version 1 is not understood here; whether to trust it is for clients to decide. The public key
        // stands in it all the same, as it does in every certificate.
        Err(error) if is_version1(&error) => {
            let public_key = identity.key.public_key();
            let matches = public_key.is_none_or(|key| {
                identity.cert[0].windows(key.len().max(1)).any(|part| part == key.as_ref())
            });
            if matches { Ok(identity) } else { Err(mismatch()) }
        }
        Err(rustls::Error::InvalidCertificate(reason)) => Err(failed(reason.to_string())),
        Ok(()) | Err(_) => Ok(identity),
    }
}

/// Whether a certificate was not understood because it is of version 1, which has no place for what a verifier must know.
pub(crate) fn is_version1(error: &rustls::Error) -> bool {
    is_other(error, "UnsupportedCertVersion")
}

/// Whether a certificate was refused because it is an authority's.
pub(crate) fn is_authority(error: &rustls::Error) -> bool {
    is_other(error, "CaUsedAsEndEntity")
}

/// Where rustls has no word of its own for what is wrong with a certificate, only the name of it tells.
fn is_other(error: &rustls::Error, name: &str) -> bool {
    let rustls::Error::InvalidCertificate(rustls::CertificateError::Other(other)) = error else {
        return false;
    };
    other.to_string().contains(name)
}

/// Reads a private key: PKCS#8 (encrypted or not), PKCS#1 or SEC1.
fn key(
    path: &Path,
    password: Option<&str>,
    provider: &CryptoProvider,
) -> Result<Arc<dyn SigningKey>, Problem> {
    let failed =
        |reason: String| Problem::new(format!("Failed to load private key: {}: {reason}", path.display()));
    let text = fs::read(path).map_err(|error| failed(io_text(&error)))?;
    let key = match encrypted(&text) {
        Encrypted::No => PrivateKeyDer::from_pem_slice(&text).map_err(|error| match error {
            pem::Error::NoItemsFound => {
                failed("there is no private key in it (-----BEGIN PRIVATE KEY-----)".into())
            }
            other => failed(other.to_string()),
        })?,
        Encrypted::Pkcs8(pem) => {
            let Some(password) = password else {
                return Err(failed("it is encrypted, and there is no tls-key-file-pass".into()));
            };
            decrypt(pem, password).map_err(failed)?
        }
        Encrypted::Traditional => {
            return Err(failed(
                "it is encrypted in OpenSSL's traditional way, whose keys are derived by MD5: that is not supported. \
                 `openssl pkcs8 -topk8` writes it in a way that is"
                    .into(),
            ));
        }
    };
    provider.key_provider.load_private_key(key).map_err(|_| {
        failed(
            "it is no key that is supported: RSA (2048 to 8192 bits), ECDSA (P-256, P-384, P-521) and Ed25519 are"
                .into(),
        )
    })
}

/// Whether, and how, the key in a file is encrypted.
enum Encrypted<'a> {
    No,
    /// As PKCS#8 does it; its text.
    Pkcs8(&'a str),
    /// By headers of the PEM.
    Traditional,
}

fn encrypted(text: &[u8]) -> Encrypted<'_> {
    const END: &str = "-----END ENCRYPTED PRIVATE KEY-----";
    let Ok(text) = std::str::from_utf8(text) else { return Encrypted::No };
    if let Some(start) = text.find("-----BEGIN ENCRYPTED PRIVATE KEY-----") {
        let end = text[start..].find(END).map_or(text.len(), |at| start + at + END.len());
        return Encrypted::Pkcs8(&text[start..end]);
    }
    if text.contains("Proc-Type: 4,ENCRYPTED") { Encrypted::Traditional } else { Encrypted::No }
}

fn decrypt(pem: &str, password: &str) -> Result<PrivateKeyDer<'static>, String> {
    use pkcs8::EncryptedPrivateKeyInfo;
    let (label, document) = pkcs8::SecretDocument::from_pem(pem).map_err(|error| error.to_string())?;
    EncryptedPrivateKeyInfo::validate_pem_label(label).map_err(|error| error.to_string())?;
    let locked = EncryptedPrivateKeyInfo::try_from(document.as_bytes()).map_err(|error| {
        format!("its encryption is not supported ({error}); AES with PBKDF2 or scrypt is")
    })?;
    let key = locked.decrypt(password).map_err(|_| "tls-key-file-pass does not open it".to_owned())?;
    Ok(PrivateKeyDer::Pkcs8(key.as_bytes().to_vec().into()))
}

fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let found = CertificateDer::pem_slice_iter(text);
    found.collect::<Result<_, _>>().map_err(|error| error.to_string())
}

/// Reads the authorities that certify clients, of a file, of every file in a folder, or of both. What cannot be used is
/// told among the warnings; it is a refusal only if nothing can.
pub(crate) fn authorities(
    file: Option<&Path>,
    folder: Option<&Path>,
    warnings: &mut Vec<String>,
) -> Result<RootCertStore, Problem> {
    let failed = |path: &Path, reason: &str| {
        Problem::new(format!(
            "Failed to configure CA certificate(s) file/directory: {}: {reason}",
            path.display()
        ))
    };
    let mut found = Authorities { store: RootCertStore::empty(), seen: HashSet::new(), warnings };
    if let Some(file) = file {
        let text = fs::read(file).map_err(|error| failed(file, &io_text(&error)))?;
        found.add(file, &text, true).map_err(|reason| failed(file, &reason))?;
        if found.store.is_empty() {
            return Err(failed(file, "there is no usable certificate in it"));
        }
    }
    if let Some(folder) = folder {
        for path in files_of(folder).map_err(|error| failed(folder, &io_text(&error)))? {
            let added = fs::read(&path).map_err(|error| io_text(&error));
            if let Err(reason) = added.and_then(|text| found.add(&path, &text, false)) {
                found.warnings.push(format!("CA certificate ignored: {}: {reason}", path.display()));
            }
        }
        if found.store.is_empty() {
            return Err(failed(folder, "there is no file with a usable certificate in it"));
        }
    }
    Ok(found.store)
}

struct Authorities<'a> {
    store: RootCertStore,
    /// Folders of authorities hold most of them twice, by name and by number.
    seen: HashSet<Vec<u8>>,
    warnings: &'a mut Vec<String>,
}

impl Authorities<'_> {
    fn add(&mut self, path: &Path, text: &[u8], must_be_some: bool) -> Result<(), String> {
        let certificates = certificates(text)?;
        if certificates.is_empty() && must_be_some {
            return Err("there is no certificate in it (-----BEGIN CERTIFICATE-----)".into());
        }
        for certificate in certificates {
            if !self.seen.insert(certificate.to_vec()) {
                continue;
            }
            if let Err(error) = self.store.add(certificate) {
                self.warnings.push(format!("CA certificate ignored: {}: {error}", path.display()));
            }
        }
        Ok(())
    }
}

/// The files of a folder, in order of their names; links count as what they lead to.
fn files_of(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// The system's words for an error, without Rust's addition.
fn io_text(error: &io::Error) -> String {
    let text = error.to_string();
    text.find(" (os error").map_or(text.clone(), |at| text[..at].to_owned())
}
