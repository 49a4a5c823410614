//! The broker's end of TLS: the handshake with a client, and whom its certificate makes it.
//!
//! What a listener shows of itself and whom it trusts is loaded elsewhere, and may change between
//! one connection and the next. Versions below 1.2 are not spoken. Shell.

use std::io;
use std::sync::Arc;

use tokio_rustls::TlsAcceptor;

use super::accepted::Accepted;
use crate::auth::stores::Store;
use crate::auth::{Principal, certificate};

/// What a listener needs to speak TLS. Clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct TlsDoor(Arc<Store>);

/// Why a client is not let in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsRefusal {
    /// No agreement on how to encrypt, or a certificate that is not trusted.
    #[error("TLS: {0}")]
    Handshake(io::Error),
    /// Its certificate is trusted, but no user follows from it.
    #[error("TLS: no rule of ssl.principal.mapping.rules fits the subject {0:?}")]
    NoName(String),
    /// Its certificate's subject makes no sense.
    #[error("TLS: the subject of the certificate cannot be read")]
    NoSubject,
}

impl TlsDoor {
    /// One that shows what is in `store`.
    pub(crate) fn new(store: Arc<Store>) -> Self {
        Self(store)
    }

    /// What it shows is in.
    pub(crate) fn store(&self) -> Arc<Store> {
        Arc::clone(&self.0)
    }

    /// Agrees with a client on how to encrypt. Who it is, if its certificate says so.
    ///
    /// # Errors
    /// When there is no agreement, or its certificate is not good enough.
    pub(crate) async fn accept(
        &self,
        stream: Accepted,
    ) -> Result<(Accepted, Option<Principal>), TlsRefusal> {
        let loaded = self.0.loaded();
        let acceptor = TlsAcceptor::from(Arc::clone(&loaded.config));
        let stream = acceptor.accept(stream).await.map_err(TlsRefusal::Handshake)?;
        let chain = stream.get_ref().1.peer_certificates();
        let principal = match chain.and_then(|chain| chain.first()) {
            None => None,
            Some(shown) => {
                let subject = certificate::subject(shown).ok_or(TlsRefusal::NoSubject)?;
                let name = loaded.rules.name(&subject);
                let name = name.filter(|name| !name.is_empty());
                Some(Principal::user(name.ok_or(TlsRefusal::NoName(subject))?))
            }
        };
        Ok((Accepted::Stream(Box::new(stream)), principal))
    }
}
