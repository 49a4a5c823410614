//! The client's end of TLS: streams of another connector, encrypted, to brokers whose certificates
//! name them.
//!
//! That a certificate names the broker's host can be left unchecked, as in Kafka
//! (`ssl.endpoint.identification.algorithm` empty); that it comes from a trusted root cannot. Shell.

use std::fmt;
use std::io;
use std::sync::Arc;

use protocol::security::store::{Identity, Pem};
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::client::{
    WebPkiServerVerifier, verify_server_cert_signed_by_trust_anchor,
};
use tokio_rustls::rustls::crypto::{
    CryptoProvider, verify_tls12_signature, verify_tls13_signature,
};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::ParsedCertificate;
use tokio_rustls::rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};

use super::{TlsError, identity, native_roots, provider, roots, versions};
use crate::net::{BoxStream, Connector, Endpoint};

/// How a client encrypts.
#[derive(Clone, Debug, Default)]
pub struct TlsOptions {
    /// The roots of brokers' certificates. `None`: those that this machine trusts.
    pub roots: Option<Pem>,
    /// Our own certificate, for brokers that ask.
    pub identity: Option<Identity>,
    /// Versions by Kafka's names. Empty: all.
    pub versions: Vec<String>,
    /// Cipher suites by their IANA names. Empty: all.
    pub ciphers: Vec<String>,
    /// True: a broker's certificate need not name its host.
    pub is_any_host: bool,
}

/// Encrypts the streams of another connector.
pub struct TlsConnector {
    inner: Arc<dyn Connector>,
    tls: tokio_rustls::TlsConnector,
}

impl TlsConnector {
    /// Reads certificates and keys. They are read once: a client lives shorter than they do, or is
    /// made anew.
    ///
    /// # Errors
    /// When they cannot be used.
    pub fn new(inner: Arc<dyn Connector>, options: &TlsOptions) -> Result<Self, TlsError> {
        let config = client_config(options)?;
        Ok(Self { inner, tls: tokio_rustls::TlsConnector::from(Arc::new(config)) })
    }
}

fn client_config(options: &TlsOptions) -> Result<ClientConfig, TlsError> {
    let provider = provider(&options.ciphers)?;
    let all = ["TLSv1.2", "TLSv1.3"].map(str::to_owned);
    let named = if options.versions.is_empty() { &all[..] } else { &options.versions };
    let roots = match &options.roots {
        Some(pem) => roots(pem)?,
        None => native_roots()?,
    };
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&versions(named))?;
    let verifier: Arc<dyn ServerCertVerifier> = if options.is_any_host {
        Arc::new(AnyHost { roots, provider })
    } else {
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build()?
    };
    let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
    match &options.identity {
        Some(own) => {
            let (chain, key) = identity(own)?;
            Ok(builder.with_client_auth_cert(chain, key)?)
        }
        None => Ok(builder.with_no_client_auth()),
    }
}

#[async_trait::async_trait]
impl Connector for TlsConnector {
    async fn connect(&self, endpoint: &Endpoint) -> io::Result<BoxStream> {
        let name = ServerName::try_from(endpoint.host.to_string());
        let name = name.map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let stream = self.inner.connect(endpoint).await?;
        let stream = self.tls.connect(name, stream).await?;
        Ok(Box::new(stream))
    }
}

impl fmt::Debug for TlsConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsConnector").finish_non_exhaustive()
    }
}

/// Accepts what a trusted root has signed, whomever it names.
#[derive(Debug)]
struct AnyHost {
    roots: RootCertStore,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for AnyHost {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let certificate = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        let (roots, chain) = (&self.roots, intermediates);
        verify_server_cert_signed_by_trust_anchor(&certificate, roots, chain, now, algorithms)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
