//! The keys of an issuer of tokens: from a file or over HTTPS, looked at again and again.
//!
//! A broker does not start without them. Later, when they cannot be had or make no sense, those
//! that were there before go on being used, and the log tells. When a token names a key that is not
//! among them, they are looked at sooner, but not as often as strangers make up such tokens. Shell.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use client::net::https::{Https, HttpsError};
use client::net::tls::read_file;
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;
use tracing::{info, warn};

use super::jwt::{Keys, KeysError};
use crate::limits::{CERTIFICATES_LOOKED_AT_EVERY, JWKS_BYTES_MAX, JWKS_MISSED_AT_MOST_EVERY};

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
pub enum KeySourceError {
    /// The file cannot be read.
    #[error("{}: cannot be read", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the disk said.
        source: std::io::Error,
    },
    /// The server did not give them.
    #[error("{url}: {source}")]
    Https {
        /// From where.
        url: String,
        /// What went wrong.
        source: HttpsError,
    },
    /// What came is no set of keys.
    #[error("{url}: {reason}")]
    NoKeys {
        /// From where.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// Where keys come from, and how often.
#[derive(Clone, Debug)]
pub(crate) struct KeyPlace {
    /// `file://` or `https://`.
    pub(crate) url: String,
    /// How it is asked.
    pub(crate) https: Https,
    /// How often it is looked at in any case; a file is more often.
    pub(crate) refresh: Duration,
    /// How soon it may be looked at again because a key is missed.
    pub(crate) missed_at_most_every: Duration,
}

impl KeyPlace {
    /// One at `url`, whose certificate follows from the roots that `https` trusts.
    pub(crate) fn new(url: &str, https: Https, refresh: Duration) -> Self {
        let missed_at_most_every = JWKS_MISSED_AT_MOST_EVERY;
        Self { url: url.to_owned(), https, refresh, missed_at_most_every }
    }
}

/// The keys of an issuer, kept up to date. Dropping it ends that.
#[derive(Debug)]
pub(crate) struct KeySource {
    keys: watch::Receiver<Arc<Keys>>,
    missed: Arc<Notify>,
    looking: AbortHandle,
}

impl Drop for KeySource {
    fn drop(&mut self) {
        self.looking.abort();
    }
}

impl KeySource {
    /// Gets the keys, and looks again and again. To be called within a runtime.
    ///
    /// # Errors
    /// When there are none.
    pub(crate) async fn start(place: KeyPlace) -> Result<Self, KeySourceError> {
        let text = get(&place).await?;
        let (sender, keys) = watch::channel(Arc::new(parse(&place.url, &text)?));
        let missed = Arc::new(Notify::new());
        let looking = tokio::spawn(look(place, missed.clone(), text, sender)).abort_handle();
        Ok(Self { keys, missed, looking })
    }

    /// The keys as they are now.
    pub(crate) fn keys(&self) -> Arc<Keys> {
        self.keys.borrow().clone()
    }

    /// Somebody came with a token of a key that is not among them.
    pub(crate) fn miss(&self) {
        self.missed.notify_one();
    }
}

async fn look(
    place: KeyPlace,
    missed: Arc<Notify>,
    first: Vec<u8>,
    sender: watch::Sender<Arc<Keys>>,
) {
    let is_file = place.url.starts_with("file://");
    let refresh = place.refresh;
    let pause = if is_file { refresh.min(CERTIFICATES_LOOKED_AT_EVERY) } else { refresh };
    let mut seen = first;
    loop {
        let missed = async {
            tokio::time::sleep(place.missed_at_most_every).await;
            missed.notified().await;
        };
        tokio::select! {
            biased;
            () = tokio::time::sleep(pause) => {}
            () = missed => {}
        }
        let parsed = match get(&place).await {
            Ok(text) if text == seen => continue,
            Ok(text) => {
                let parsed = parse(&place.url, &text);
                seen = text;
                parsed
            }
            Err(error) => Err(error),
        };
        match parsed {
            Ok(keys) => {
                info!(url = place.url, "the keys of the issuer of tokens have changed");
                sender.send_replace(Arc::new(keys));
            }
            Err(error) => warn!(%error, "keys of tokens cannot be had: those before stay"),
        }
    }
}

async fn get(place: &KeyPlace) -> Result<Vec<u8>, KeySourceError> {
    let url = &place.url;
    if let Some(path) = url.strip_prefix("file://") {
        let refused = |source| KeySourceError::File { path: Path::new(path).to_owned(), source };
        let bytes_max = u64::try_from(JWKS_BYTES_MAX).unwrap_or(u64::MAX);
        return read_file(Path::new(path), bytes_max).map_err(refused);
    }
    let got = place.https.get(url, JWKS_BYTES_MAX).await;
    got.map_err(|source| KeySourceError::Https { url: url.clone(), source })
}

fn parse(url: &str, text: &[u8]) -> Result<Keys, KeySourceError> {
    Keys::parse(text).map_err(|error: KeysError| KeySourceError::NoKeys {
        url: url.to_owned(),
        reason: error.to_string(),
    })
}

#[cfg(test)]
#[path = "keys_tests.rs"]
mod tests;
