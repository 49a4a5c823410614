//! What stands between a stream that was accepted and the requests on it: encryption, and the
//! asking who it is. Shell.

use std::sync::Arc;

use client::net::tls::TlsError;
use protocol::security::SecurityProtocol;

use super::tls::TlsDoor;
use crate::auth::sasl::Sasl;
use crate::config::ListenerSettings;

/// The door of one listener. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Door {
    /// How connections through it are secured.
    pub(crate) protocol: SecurityProtocol,
    /// How they are encrypted. `None`: not.
    pub(crate) tls: Option<Arc<TlsDoor>>,
    /// How their clients authenticate. `None`: by their certificates, or not.
    pub(crate) sasl: Option<Arc<Sasl>>,
}

impl Door {
    /// The door of `listener`. To be called within a runtime.
    ///
    /// # Errors
    /// When certificates or keys cannot be used.
    pub(crate) fn new(
        listener: &str,
        settings: ListenerSettings,
        sasl: Option<Sasl>,
    ) -> Result<Self, TlsError> {
        let ListenerSettings { protocol, tls, config, .. } = settings;
        let tls = tls.map(|tls| TlsDoor::start(listener, tls, &config)).transpose()?;
        Ok(Self { protocol, tls: tls.map(Arc::new), sasl: sasl.map(Arc::new) })
    }
}
