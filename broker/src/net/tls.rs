//! The broker's end of TLS: what a listener shows of itself, and what it asks of its clients.
//!
//! Certificate, key and roots are looked at again every few seconds: connections made after a
//! change meet what is new, those made before go on. A change that cannot be used is told in the
//! log, and what was there before goes on being used. Versions below 1.2 are not spoken. Shell.

use std::io;
use std::sync::Arc;

use client::net::BoxStream;
use client::net::tls::{TlsError, identity, provider, read, roots, versions};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use tracing::{info, warn};

use crate::auth::{Principal, certificate};
use crate::config::{ClientAuth, ListenerConfig, TlsSettings};
use crate::limits::CERTIFICATES_LOOKED_AT_EVERY;

/// What a listener needs to speak TLS. Dropping it ends the looking at files.
#[derive(Debug)]
pub(crate) struct TlsDoor {
    settings: TlsSettings,
    config: watch::Receiver<Arc<ServerConfig>>,
    looking: AbortHandle,
}

impl Drop for TlsDoor {
    fn drop(&mut self) {
        self.looking.abort();
    }
}

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
    /// Reads what `listener` needs. To be called within a runtime.
    ///
    /// # Errors
    /// When it cannot be used.
    pub(crate) fn start(
        listener: &str,
        settings: TlsSettings,
        config: &ListenerConfig,
    ) -> Result<Self, TlsError> {
        let seen = files(&settings)?;
        let built = server_config(&settings, config)?;
        let (sender, receiver) = watch::channel(Arc::new(built));
        let look = Look {
            listener: listener.to_owned(),
            settings: settings.clone(),
            config: config.clone(),
            seen,
        };
        let looking = tokio::spawn(look.run(sender)).abort_handle();
        Ok(Self { settings, config: receiver, looking })
    }

    /// Agrees with a client on how to encrypt. Who it is, if its certificate says so.
    ///
    /// # Errors
    /// When there is no agreement, or its certificate is not good enough.
    pub(crate) async fn accept(
        &self,
        stream: BoxStream,
    ) -> Result<(BoxStream, Option<Principal>), TlsRefusal> {
        let acceptor = TlsAcceptor::from(self.config.borrow().clone());
        let stream = acceptor.accept(stream).await.map_err(TlsRefusal::Handshake)?;
        let chain = stream.get_ref().1.peer_certificates();
        let principal = match chain.and_then(|chain| chain.first()) {
            None => None,
            Some(shown) => {
                let subject = certificate::subject(shown).ok_or(TlsRefusal::NoSubject)?;
                let name = self.settings.rules.name(&subject);
                let name = name.filter(|name| !name.is_empty());
                Some(Principal::user(name.ok_or(TlsRefusal::NoName(subject))?))
            }
        };
        Ok((Box::new(stream), principal))
    }
}

fn server_config(
    settings: &TlsSettings,
    config: &ListenerConfig,
) -> Result<ServerConfig, TlsError> {
    let provider = provider(&config.ssl_cipher_suites)?;
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&versions(&config.ssl_enabled_protocols))?;
    let (chain, key) = identity(&settings.identity)?;
    let trusted = settings.roots.as_ref().filter(|_| settings.client_auth != ClientAuth::None);
    let Some(trusted) = trusted else {
        return Ok(builder.with_no_client_auth().with_single_cert(chain, key)?);
    };
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(trusted)?), provider);
    let verifier = match settings.client_auth {
        ClientAuth::Requested => verifier.allow_unauthenticated(),
        ClientAuth::Required | ClientAuth::None => verifier,
    };
    let builder = builder.with_client_cert_verifier(verifier.build()?);
    let mut config = builder.with_single_cert(chain, key)?;
    // A session that is taken up again brings its certificate along unverified: it may have
    // expired since.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// What stands in the files of these settings.
fn files(settings: &TlsSettings) -> Result<Vec<Vec<u8>>, TlsError> {
    let own = [&settings.identity.chain, &settings.identity.key];
    own.into_iter().chain(&settings.roots).map(read).collect()
}

/// Looks at the files of one listener, again and again.
struct Look {
    listener: String,
    settings: TlsSettings,
    config: ListenerConfig,
    /// What stood in them when they were last looked at.
    seen: Vec<Vec<u8>>,
}

impl Look {
    async fn run(mut self, sender: watch::Sender<Arc<ServerConfig>>) {
        loop {
            tokio::time::sleep(CERTIFICATES_LOOKED_AT_EVERY).await;
            let built = match files(&self.settings) {
                Ok(now) if now == self.seen => continue,
                Ok(now) => {
                    self.seen = now;
                    server_config(&self.settings, &self.config)
                }
                Err(error) => Err(error),
            };
            let listener = &self.listener;
            match built {
                Ok(config) => {
                    info!(listener, "certificates changed: new connections meet the new ones");
                    sender.send_replace(Arc::new(config));
                }
                Err(error) => {
                    warn!(listener, %error, "certificates cannot be used: those before stay");
                }
            }
        }
    }
}
