//! TLS: certificates, keys and roots as Kafka's settings name them, and the one crypto provider.
//!
//! Whoever needs TLS, brokers too, comes here for [`provider`] and for what stands in PEM:
//! rustls' own builders would choose a provider by what happens to be compiled in. Errors name
//! files and settings, never what stands in them. Who names a file may be far away: [`read_file`]
//! neither waits for it nor takes more of it than a bound. [`connector`] is the client's end.
//! KIP-651. Shell.

pub mod connector;

use std::fs::{File, Metadata, OpenOptions, metadata};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use protocol::security::store::{Identity, Pem, unfolded};
use rustix::fs::OFlags;
use tokio_rustls::rustls::crypto::{CryptoProvider, aws_lc_rs};
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{self, RootCertStore, SupportedProtocolVersion};

pub use connector::{TlsConnector, TlsOptions};

/// 4 MiB: the largest file of certificates; larger ones are refused.
const PEM_BYTES_MAX: u64 = 4 << 20;

/// Why TLS cannot be had as the settings say.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{}: cannot be read", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the disk said.
        source: io::Error,
    },
    /// Something is not PEM, or of another kind.
    #[error("{from}: {reason}")]
    Pem {
        /// A file, or which setting.
        from: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A cipher suite that there is not.
    #[error("ssl.cipher.suites: {0} is not offered")]
    Cipher(String),
    /// Nothing is left to agree on, or the key is not that of the certificate.
    #[error(transparent)]
    Rustls(#[from] rustls::Error),
    /// The machine trusts no one.
    #[error("this machine has no trusted roots: set ssl.truststore.location")]
    NoRoots,
    /// The roots cannot be used to look at certificates.
    #[error("the truststore: {0}")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
}

/// The crypto of all TLS, with `ciphers` alone unless they are empty.
///
/// # Errors
/// When a cipher suite is not known.
pub fn provider(ciphers: &[String]) -> Result<Arc<CryptoProvider>, TlsError> {
    let mut provider = aws_lc_rs::default_provider();
    if ciphers.is_empty() {
        return Ok(Arc::new(provider));
    }
    // rustls calls those of TLS 1.3 so, IANA does not.
    let name = |suite: &rustls::SupportedCipherSuite| {
        format!("{:?}", suite.suite()).replacen("TLS13_", "TLS_", 1)
    };
    let unknown =
        ciphers.iter().find(|it| provider.cipher_suites.iter().all(|by| name(by) != **it));
    if let Some(unknown) = unknown {
        return Err(TlsError::Cipher(unknown.clone()));
    }
    provider.cipher_suites.retain(|suite| ciphers.contains(&name(suite)));
    Ok(Arc::new(provider))
}

/// The versions of these names; those without a meaning are passed over.
#[must_use]
pub fn versions(names: &[String]) -> Vec<&'static SupportedProtocolVersion> {
    let named = names.iter().filter_map(|name| match name.as_str() {
        "TLSv1.2" => Some(&TLS12),
        "TLSv1.3" => Some(&TLS13),
        _ => None,
    });
    named.collect()
}

/// What to do about an error of TLS. `None`: it is none, or nothing is known to help.
#[must_use]
pub(super) fn advice(error: &io::Error) -> Option<&'static str> {
    use rustls::{AlertDescription, CertificateError, Error};
    match error.get_ref()?.downcast_ref()? {
        Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        ) => {
            Some("set ssl.truststore.location to the roots that signed the certificate of the peer")
        }
        Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => Some(
            "reach it by a name that stands in its certificate, or leave names unchecked by \
             setting ssl.endpoint.identification.algorithm to nothing",
        ),
        Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        ) => Some("the certificate of the peer must be renewed"),
        Error::AlertReceived(
            AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::UnknownCA
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateExpired,
        ) => Some("the peer wants a certificate that it trusts: set ssl.keystore.location"),
        Error::InvalidMessage(_) => {
            Some("the peer does not speak TLS: look at security.protocol, and at its port")
        }
        _ => None,
    }
}

/// What stands in the PEM of a store.
///
/// # Errors
/// When its file cannot be read.
pub fn read(pem: &Pem) -> Result<Vec<u8>, TlsError> {
    match pem {
        Pem::Text(text) => Ok(unfolded(text.expose()).into_bytes()),
        Pem::File(path) => {
            let refused = |source| TlsError::File { path: path.clone(), source };
            read_file(path, PEM_BYTES_MAX).map_err(refused)
        }
    }
}

/// What stands in a regular file of at most `bytes_max`. Whatever else `path` leads to is refused
/// unread, and at once: a pipe that nobody writes to, a device that never ends.
///
/// # Errors
/// When it is no such file, or cannot be read.
pub fn read_file(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    // Some devices act when they are merely opened.
    check_file(&metadata(path)?, bytes_max)?;
    let file = open(path)?;
    // Another may have taken its place.
    check_file(&file.metadata()?, bytes_max)?;
    let mut bytes = Vec::new();
    // A file can grow, and those of the kernel do not tell their length.
    file.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes)?;
    check_length(u64::try_from(bytes.len()).unwrap_or(u64::MAX), bytes_max)?;
    Ok(bytes)
}

/// Opens a file without waiting for who may write to it.
fn open(path: &Path) -> io::Result<File> {
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).expect("the flag is one of the lower bits");
    OpenOptions::new().read(true).custom_flags(flags).open(path)
}

fn check_file(metadata: &Metadata, bytes_max: u64) -> io::Result<()> {
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"));
    }
    check_length(metadata.len(), bytes_max)
}

fn check_length(length: u64, bytes_max: u64) -> io::Result<()> {
    if length > bytes_max { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(()) }
}

/// Where the PEM of a store stands, for errors.
fn place(pem: &Pem, setting: &str) -> String {
    match pem {
        Pem::File(path) => path.display().to_string(),
        Pem::Text(_) => setting.to_owned(),
    }
}

fn certificates(pem: &Pem, setting: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = read(pem)?;
    let refuse = |reason: String| TlsError::Pem { from: place(pem, setting), reason };
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let found = read.map_err(|error| refuse(error.to_string()))?;
    if found.is_empty() { Err(refuse("there is no certificate".to_owned())) } else { Ok(found) }
}

/// A certificate with those that follow it, and its key.
pub type Keys = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// A certificate with those that follow it, and its key.
///
/// # Errors
/// When one of them is missing or cannot be read.
pub fn identity(identity: &Identity) -> Result<Keys, TlsError> {
    let chain = certificates(&identity.chain, "ssl.keystore.certificate.chain")?;
    let text = read(&identity.key)?;
    let refuse = |reason: &str| TlsError::Pem {
        from: place(&identity.key, "ssl.keystore.key"),
        reason: reason.to_owned(),
    };
    let key = PrivateKeyDer::from_pem_slice(&text).map_err(|error| match error {
        pem::Error::NoItemsFound if has_encrypted_key(&text) => {
            refuse("the private key is encrypted: decrypt it, as by openssl pkcs8")
        }
        pem::Error::NoItemsFound => refuse("there is no private key"),
        _ => refuse("the private key is no PEM"),
    })?;
    Ok((chain, key))
}

fn has_encrypted_key(text: &[u8]) -> bool {
    let mark = b"-----BEGIN ENCRYPTED PRIVATE KEY-----";
    text.windows(mark.len()).any(|window| window == mark)
}

/// The roots that stand in a store.
///
/// # Errors
/// When there are none, or one makes no sense.
pub fn roots(pem: &Pem) -> Result<RootCertStore, TlsError> {
    let setting = "ssl.truststore.certificates";
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem, setting)? {
        let reason = |error: rustls::Error| error.to_string();
        let refuse = |error| TlsError::Pem { from: place(pem, setting), reason: reason(error) };
        roots.add(certificate).map_err(refuse)?;
    }
    Ok(roots)
}

/// The roots that this machine trusts.
///
/// # Errors
/// When there are none.
pub fn native_roots() -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    // One that makes no sense to us does not make the others worse.
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() { Err(TlsError::NoRoots) } else { Ok(roots) }
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    use super::*;

    /// What comes of it, unless it waits.
    fn soon<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
        let (sender, done) = mpsc::sync_channel(1);
        let named = thread::Builder::new().name("reads".to_owned());
        named.spawn(move || sender.send(work())).unwrap();
        done.recv_timeout(Duration::from_secs(20)).expect("nothing is waited for")
    }

    #[test]
    fn what_is_no_regular_file_is_refused_and_nothing_of_it_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        let opened = fifo.clone();
        assert!(soon(move || open(&opened)).is_ok(), "whoever takes a file's place: no waiting");
        for path in [fifo, dir.path().to_owned(), PathBuf::from("/dev/null")] {
            let pem = Pem::File(path.clone());
            let Err(TlsError::File { path: told, source }) = soon(move || read(&pem)) else {
                panic!("{path:?} was read");
            };
            assert_eq!((told, source.kind()), (path, io::ErrorKind::InvalidInput), "{source}");
        }
    }

    #[test]
    fn no_more_is_read_than_the_bound_whatever_length_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.pem");
        let kind = |path: &Path, bytes_max| read_file(path, bytes_max).map_err(|it| it.kind());
        // All holes: it takes no room.
        File::create(&path).unwrap().set_len(PEM_BYTES_MAX + 1).unwrap();
        assert_eq!(kind(&path, PEM_BYTES_MAX), Err(io::ErrorKind::FileTooLarge));
        std::fs::write(&path, "four").unwrap();
        assert_eq!(kind(&path, 4), Ok(b"four".to_vec()));
        assert_eq!(kind(&path, 3), Err(io::ErrorKind::FileTooLarge));
        if cfg!(target_os = "linux") {
            let endless = Path::new("/proc/self/status");
            assert_eq!(metadata(endless).unwrap().len(), 0, "it does not tell");
            assert_eq!(kind(endless, 16), Err(io::ErrorKind::FileTooLarge));
        }
    }
}
