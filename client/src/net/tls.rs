//! TLS: certificates, keys and roots as Kafka's settings name them, and the one crypto provider.
//!
//! Whoever needs TLS, brokers too, comes here for [`provider`] and for what stands in PEM:
//! rustls' own builders would choose a provider by what happens to be compiled in. Errors name
//! files and settings, never what stands in them. [`connector`] is the client's end. KIP-651. Shell.

pub mod connector;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use protocol::security::store::{Identity, Pem, unfolded};
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
            let length = std::fs::metadata(path).map_err(refused)?.len();
            if length > PEM_BYTES_MAX {
                return Err(refused(io::ErrorKind::FileTooLarge.into()));
            }
            std::fs::read(path).map_err(refused)
        }
    }
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
