//! What stands between a stream that was accepted and the requests on it: encryption, and the
//! asking who it is. Shell.

use std::sync::Arc;

use protocol::security::SecurityProtocol;

use super::tls::TlsDoor;
use crate::auth::sasl::Sasl;
use crate::auth::stores::Store;
use crate::config::{ClientAuth, ListenerConfig};
use crate::limits::{CONNECTION_BYTES, CONNECTION_TLS_BYTES};

/// The door of one listener. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Door {
    /// How connections through it are secured.
    pub(crate) protocol: SecurityProtocol,
    /// How they are encrypted. `None`: not.
    pub(crate) tls: Option<TlsDoor>,
    /// How their clients authenticate. `None`: by their certificates, or not.
    pub(crate) sasl: Option<Arc<Sasl>>,
    /// True when clients must prove who they are, by whichever way.
    pub(crate) asks: bool,
    /// What bounds its connections, beside what bounds those of the broker.
    pub(crate) bounds: Bounds,
}

/// Bounds on the connections of one listener.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bounds {
    /// How many there may be.
    pub(crate) connections_max: Option<u32>,
    /// How many may come per second.
    pub(crate) creation_rate_max: Option<u32>,
}

impl Door {
    /// What a connection through it costs while nothing is under way on it, in bytes of memory.
    pub(crate) fn connection_bytes(&self) -> u64 {
        CONNECTION_BYTES + if self.tls.is_some() { CONNECTION_TLS_BYTES } else { 0 }
    }

    /// The door of a listener: encrypted by what is in `store`, with `sasl` to ask by, and bounded by its settings.
    pub(crate) fn new(
        protocol: SecurityProtocol,
        store: Option<Arc<Store>>,
        sasl: Option<Sasl>,
        config: &ListenerConfig,
    ) -> Self {
        let bounds = Bounds {
            connections_max: config.max_connections,
            creation_rate_max: config.max_connection_creation_rate,
        };
        let asks = sasl.is_some() || config.ssl_client_auth == ClientAuth::Required;
        Self { protocol, tls: store.map(TlsDoor::new), sasl: sasl.map(Arc::new), asks, bounds }
    }

    /// What it shows of itself. `None`: it does not encrypt.
    pub(crate) fn store(&self) -> Option<Arc<Store>> {
        self.tls.as_ref().map(TlsDoor::store)
    }
}
