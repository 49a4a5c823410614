//! What stands between a stream that was accepted and the requests on it: encryption, and the
//! asking who it is. Shell.

use std::sync::Arc;

use protocol::security::SecurityProtocol;

use super::tls::TlsDoor;
use crate::auth::sasl::Sasl;
use crate::auth::stores::Store;

/// The door of one listener. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Door {
    /// How connections through it are secured.
    pub(crate) protocol: SecurityProtocol,
    /// How they are encrypted. `None`: not.
    pub(crate) tls: Option<TlsDoor>,
    /// How their clients authenticate. `None`: by their certificates, or not.
    pub(crate) sasl: Option<Arc<Sasl>>,
}

impl Door {
    /// The door of a listener: encrypted by what is in `store`, and with `sasl` to ask by.
    pub(crate) fn new(
        protocol: SecurityProtocol,
        store: Option<Arc<Store>>,
        sasl: Option<Sasl>,
    ) -> Self {
        Self { protocol, tls: store.map(TlsDoor::new), sasl: sasl.map(Arc::new) }
    }

    /// What it shows of itself. `None`: it does not encrypt.
    pub(crate) fn store(&self) -> Option<Arc<Store>> {
        self.tls.as_ref().map(TlsDoor::store)
    }
}
