//! What listeners show of themselves and whom they trust: certificates, keys and roots, loaded.
//!
//! They are loaded when the broker starts, as soon as its settings of them are altered (KIP-226),
//! and when what stands in their files has changed, at which is looked every few seconds. Who
//! connects afterwards meets what is new; connections that were made before go on. What cannot be
//! used is told in the log, and what was there before stays. Who alters settings from afar is not
//! told what is wrong with a file: it would tell which files there are. Shell.

use std::sync::Arc;

use client::net::tls::{TlsError, identity, provider, read, roots, versions};
use protocol::config::ConfigErrors;
use protocol::security::store::Pem;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::AbortHandle;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use tracing::{info, warn};

use super::audit::plain;
use crate::config::{
    BrokerConfig, ClientAuth, ListenerConfig, ListenerError, ListenerSettings, METRICS,
    PrincipalRules, TlsSettings,
};
use crate::limits::CERTIFICATES_LOOKED_AT_EVERY;

/// 1: who waits to be told that a listener looked stands in line with all others.
const ASKING_MAX: usize = 1;

/// What a listener needs to speak TLS.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// For its handshakes.
    pub(crate) config: Arc<ServerConfig>,
    /// From the subjects of clients' certificates to the names of their users.
    pub(crate) rules: PrincipalRules,
}

/// Why certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CertificateError {
    /// The settings do not fit together.
    #[error(transparent)]
    Settings(#[from] ConfigErrors),
    /// Those of one listener do not.
    #[error(transparent)]
    Listener(#[from] ListenerError),
    /// What they name cannot be read, or is not of one another.
    #[error("listener {listener}: {source}")]
    Tls {
        /// Which listener.
        listener: String,
        /// Whether it reads files of this machine.
        has_files: bool,
        /// What is wrong.
        source: TlsError,
    },
}

impl CertificateError {
    /// What who asked from afar may know of it. The log of this broker has the rest.
    pub(crate) fn told(&self) -> String {
        if let Self::Tls { listener, has_files: true, source } = self {
            let cause = std::error::Error::source(source).map(ToString::to_string);
            let (error, cause) = (plain(&source.to_string()), plain(&cause.unwrap_or_default()));
            warn!(listener, error, cause, "stores that were to be set cannot be used");
            return format!(
                "listener {listener}: its stores cannot be used: this broker's log says why"
            );
        }
        self.to_string()
    }
}

/// Tells the settings of a listener as they are now.
pub(crate) type SettingsNow = Box<dyn Fn() -> Result<ListenerSettings, ListenerError> + Send>;

/// The certificates of one listener, kept up to date. Dropping it ends that.
#[derive(Debug)]
pub(crate) struct Store {
    loaded: watch::Receiver<Arc<Loaded>>,
    asking: mpsc::Sender<oneshot::Sender<()>>,
    looking: AbortHandle,
}

impl Drop for Store {
    fn drop(&mut self) {
        self.looking.abort();
    }
}

impl Store {
    /// Loads what `listener` needs, whose settings `now` tells from here on. To be called within a
    /// runtime.
    ///
    /// # Errors
    /// When it cannot be used.
    pub(crate) fn start(
        listener: &str,
        tls: &TlsSettings,
        config: &ListenerConfig,
        now: SettingsNow,
    ) -> Result<Self, TlsError> {
        let seen = (config.clone(), files(tls)?);
        let (sender, loaded) = watch::channel(Arc::new(load(tls, config)?));
        let (asking, asked) = mpsc::channel(ASKING_MAX);
        let look = Look { listener: listener.to_owned(), now, seen, sender };
        let looking = tokio::spawn(look.run(asked)).abort_handle();
        Ok(Self { loaded, asking, looking })
    }

    /// What is shown and trusted now.
    pub(crate) fn loaded(&self) -> Arc<Loaded> {
        self.loaded.borrow().clone()
    }

    /// Looks at settings and files, now.
    async fn reload(&self) {
        let (sender, done) = oneshot::channel();
        if self.asking.send(sender).await.is_ok() {
            // It may end with the broker meanwhile.
            let _ = done.await;
        }
    }
}

/// The certificates of all listeners that have any. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stores(Arc<[Arc<Store>]>);

impl FromIterator<Arc<Store>> for Stores {
    fn from_iter<I: IntoIterator<Item = Arc<Store>>>(all: I) -> Self {
        Self(all.into_iter().collect())
    }
}

impl Stores {
    /// Looks at the settings and files of all, now: what can be used is in use afterwards.
    pub(crate) async fn reload(&self) {
        for store in &*self.0 {
            store.reload().await;
        }
    }
}

/// Whether listeners could be as `config` says: all that it names is read, and nothing changed.
///
/// # Errors
/// The first that cannot.
pub(crate) fn check(config: &BrokerConfig) -> Result<(), CertificateError> {
    config.check_listeners()?;
    let of_clients = config.listen_on().into_iter().map(|on| on.listener);
    let metrics = config.metrics_security()?.map(|_| METRICS.to_owned());
    for listener in of_clients.chain(metrics) {
        let ListenerSettings { tls: Some(tls), config, .. } = config.listener(&listener)? else {
            continue;
        };
        load(&tls, &config).map_err(|source| refused(listener, &tls, source))?;
    }
    Ok(())
}

fn refused(listener: String, tls: &TlsSettings, source: TlsError) -> CertificateError {
    let has_files = parts(tls).any(|it| matches!(it, Pem::File(_)));
    CertificateError::Tls { listener, has_files, source }
}

/// All that is to be read for these settings.
fn parts(settings: &TlsSettings) -> impl Iterator<Item = &Pem> {
    [&settings.identity.chain, &settings.identity.key].into_iter().chain(&settings.roots)
}

fn load(tls: &TlsSettings, config: &ListenerConfig) -> Result<Loaded, TlsError> {
    let config = Arc::new(server_config(tls, config)?);
    Ok(Loaded { config, rules: tls.rules.clone() })
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
    parts(settings).map(read).collect()
}

/// Looks at settings and files of one listener, again and again.
struct Look {
    listener: String,
    now: SettingsNow,
    /// The settings, and what stood in their files, when they were last looked at.
    seen: (ListenerConfig, Vec<Vec<u8>>),
    sender: watch::Sender<Arc<Loaded>>,
}

impl Look {
    async fn run(mut self, mut asked: mpsc::Receiver<oneshot::Sender<()>>) {
        loop {
            let waiting = tokio::select! {
                biased;
                asked = asked.recv() => match asked {
                    Some(waiting) => Some(waiting),
                    None => return,
                },
                () = tokio::time::sleep(CERTIFICATES_LOOKED_AT_EVERY) => None,
            };
            self.look();
            if let Some(waiting) = waiting {
                // Who asked may have gone.
                let _ = waiting.send(());
            }
        }
    }

    fn look(&mut self) {
        let news = self.news();
        let listener = &self.listener;
        match news {
            Ok(None) => {}
            Ok(Some(loaded)) => {
                info!(listener, "certificates changed: new connections meet the new ones");
                self.sender.send_replace(Arc::new(loaded));
            }
            Err(error) => {
                warn!(listener, %error, "certificates cannot be used: those before stay");
            }
        }
    }

    /// What is to be shown from now on. `None`: what is shown already.
    fn news(&mut self) -> Result<Option<Loaded>, CertificateError> {
        let ListenerSettings { tls: Some(tls), config, .. } = (self.now)()? else {
            return Ok(None);
        };
        let listener = self.listener.clone();
        let refused = |source| refused(listener, &tls, source);
        let seen = match files(&tls) {
            Ok(files) => (config, files),
            Err(error) => return Err(refused(error)),
        };
        if seen == self.seen {
            return Ok(None);
        }
        let loaded = load(&tls, &seen.0);
        self.seen = seen;
        loaded.map(Some).map_err(refused)
    }
}
