//! The quotas of a running broker, shared by its connections.
//!
//! A task follows the Image and puts new quotas in force. Who charges takes a lock for the time of
//! a look-up, and only while there is a quota of that kind at all. Shell.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::core::Core;
use super::{Client, QuotaKind, Windows};
use crate::config::BrokerConfig;
use crate::metadata::{MetadataHandle, Quotas};

/// The quotas of a broker. Clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct QuotaHandle(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// A bit for each kind of which there is a quota.
    present: AtomicU8,
    /// A lock, as every connection charges to the same accounts; held for one of them.
    core: Mutex<Core>,
}

impl QuotaHandle {
    /// Quotas as the Image of `metadata` has them, from now on.
    pub(crate) fn start(config: &BrokerConfig, metadata: &MetadataHandle) -> Self {
        let windows = Windows { count: config.quota_window_num, size: config.quota_window_size };
        let controller_windows = Windows {
            count: config.controller_quota_window_num,
            size: config.controller_quota_window_size,
        };
        let core = Mutex::new(Core::new(windows, controller_windows));
        let handle = Self(Arc::new(Shared { present: AtomicU8::new(0), core }));
        let mut images = metadata.watch();
        let mut quotas = images.borrow_and_update().quotas().clone();
        handle.set(quotas.clone());
        let followed = Arc::downgrade(&handle.0);
        tokio::spawn(async move {
            while images.changed().await.is_ok() {
                let Some(shared) = followed.upgrade() else { return };
                let now = images.borrow_and_update().quotas().clone();
                if !Arc::ptr_eq(&now, &quotas) {
                    Self(shared).set(now.clone());
                    quotas = now;
                }
            }
        });
        handle
    }

    /// Charges `amount` to `client`; says how long it must be silent for it.
    pub(crate) fn spend(
        &self,
        now: Duration,
        kind: QuotaKind,
        client: Client<'_>,
        amount: f64,
    ) -> Duration {
        if !self.has(kind) {
            return Duration::ZERO;
        }
        self.core().spend(now, kind, client, amount)
    }

    /// Charges `amount` to `client` unless it owes some; see [`Core::try_spend`].
    ///
    /// # Errors
    /// How long until it owes none. Nothing was charged.
    pub(crate) fn try_spend(
        &self,
        now: Duration,
        kind: QuotaKind,
        client: Client<'_>,
        amount: f64,
    ) -> Result<(), Duration> {
        if self.has(kind) { self.core().try_spend(now, kind, client, amount) } else { Ok(()) }
    }

    /// Charges a connection to the address that it comes from, unless that owes some.
    ///
    /// # Errors
    /// How long until it owes none. Nothing was charged.
    pub(crate) fn try_connect(&self, now: Duration, ip: &str) -> Result<(), Duration> {
        if self.has(QuotaKind::Connection) { self.core().try_connect(now, ip) } else { Ok(()) }
    }

    /// True when somebody has a quota of this kind.
    pub(crate) fn has(&self, kind: QuotaKind) -> bool {
        self.0.present.load(Ordering::Relaxed) & bit(kind) != 0
    }

    fn set(&self, quotas: Arc<Quotas>) {
        let is_present =
            |kind: &QuotaKind| quotas.iter().any(|(_, values)| values.contains_key(kind.key()));
        let present = QuotaKind::ALL.into_iter().filter(is_present).map(bit);
        let present = present.fold(0, |all, bit| all | bit);
        self.core().set(quotas);
        self.0.present.store(present, Ordering::Relaxed);
    }

    fn core(&self) -> MutexGuard<'_, Core> {
        self.0.core.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn bit(kind: QuotaKind) -> u8 {
    match kind {
        QuotaKind::Produce => 1,
        QuotaKind::Fetch => 2,
        QuotaKind::Request => 4,
        QuotaKind::Mutation => 8,
        QuotaKind::Connection => 16,
    }
}
