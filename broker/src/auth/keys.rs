//! The keys of an issuer of tokens: from a file or over HTTPS, looked at again and again.
//!
//! A broker does not start without them. Later, when they cannot be had or make no sense, those
//! that were there before go on being used, and the log tells. Shell.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use client::net::https::{self, HttpsError};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tracing::{info, warn};

use super::jwt::{Keys, KeysError};
use crate::limits::{CERTIFICATES_LOOKED_AT_EVERY, JWKS_BYTES_MAX};

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

/// The keys of an issuer, kept up to date. Dropping it ends that.
#[derive(Debug)]
pub(crate) struct KeySource {
    keys: watch::Receiver<Arc<Keys>>,
    looking: AbortHandle,
}

impl Drop for KeySource {
    fn drop(&mut self) {
        self.looking.abort();
    }
}

impl KeySource {
    /// Gets the keys at `url`, `file://` or `https://`, and looks again every `refresh`; at a file
    /// more often. To be called within a runtime.
    ///
    /// # Errors
    /// When there are none.
    pub(crate) async fn start(url: &str, refresh: Duration) -> Result<Self, KeySourceError> {
        let text = get(url).await?;
        let (sender, keys) = watch::channel(Arc::new(parse(url, &text)?));
        let looking = tokio::spawn(look(url.to_owned(), refresh, text, sender)).abort_handle();
        Ok(Self { keys, looking })
    }

    /// The keys as they are now.
    pub(crate) fn keys(&self) -> Arc<Keys> {
        self.keys.borrow().clone()
    }
}

async fn look(url: String, refresh: Duration, first: Vec<u8>, sender: watch::Sender<Arc<Keys>>) {
    let is_file = url.starts_with("file://");
    let pause = if is_file { refresh.min(CERTIFICATES_LOOKED_AT_EVERY) } else { refresh };
    let mut seen = first;
    loop {
        tokio::time::sleep(pause).await;
        let parsed = match get(&url).await {
            Ok(text) if text == seen => continue,
            Ok(text) => {
                let parsed = parse(&url, &text);
                seen = text;
                parsed
            }
            Err(error) => Err(error),
        };
        match parsed {
            Ok(keys) => {
                info!(url, "the keys of the issuer of tokens have changed");
                sender.send_replace(Arc::new(keys));
            }
            Err(error) => warn!(%error, "keys of tokens cannot be had: those before stay"),
        }
    }
}

async fn get(url: &str) -> Result<Vec<u8>, KeySourceError> {
    if let Some(path) = url.strip_prefix("file://") {
        let refused = |source| KeySourceError::File { path: Path::new(path).to_owned(), source };
        let length = std::fs::metadata(path).map_err(refused)?.len();
        if length > u64::try_from(JWKS_BYTES_MAX).unwrap_or(u64::MAX) {
            return Err(refused(std::io::ErrorKind::FileTooLarge.into()));
        }
        return std::fs::read(path).map_err(refused);
    }
    let got = https::get(url, JWKS_BYTES_MAX).await;
    got.map_err(|source| KeySourceError::Https { url: url.to_owned(), source })
}

fn parse(url: &str, text: &[u8]) -> Result<Keys, KeySourceError> {
    Keys::parse(text).map_err(|error: KeysError| KeySourceError::NoKeys {
        url: url.to_owned(),
        reason: error.to_string(),
    })
}
