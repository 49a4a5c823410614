//! Which quota is for whom, and what everyone has used of theirs.
//!
//! Of the quotas that fit a client, the strongest holds: for its user and client id, for its user
//! and any client id, for its user, for any user and its client id, for any user and any client id,
//! for any user, for its client id, for any client id. Who shares a quota is what it names: one for
//! a user is for all of that user's clients together, one for a user and any client id is for each
//! of them. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::bucket::{Refill, TokenBucket};
use super::{Client, QuotaKind, Windows};
use crate::limits::{QUOTA_BUCKETS_MAX, THROTTLE_MAX};
use crate::metadata::{QuotaEntity, Quotas};

/// Who uses a quota together. A part that is absent makes no difference.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Sharers {
    kind: QuotaKind,
    user: Option<Arc<str>>,
    client_id: Option<Arc<str>>,
    ip: Option<Arc<str>>,
}

#[derive(Debug)]
struct Account {
    bucket: TokenBucket,
    touched: Duration,
}

/// The quotas in force and what was used of them.
#[derive(Debug)]
pub(super) struct Core {
    quotas: Arc<Quotas>,
    /// Of bytes and time.
    windows: Windows,
    /// Of changes and connections.
    controller_windows: Windows,
    accounts: BTreeMap<Sharers, Account>,
}

impl Core {
    /// No quotas.
    pub(super) fn new(windows: Windows, controller_windows: Windows) -> Self {
        Self { quotas: Arc::default(), windows, controller_windows, accounts: BTreeMap::new() }
    }

    /// Puts other quotas in force. What was used stays used.
    pub(super) fn set(&mut self, quotas: Arc<Quotas>) {
        self.quotas = quotas;
    }

    /// Charges `amount` to `client`; says how long it must be silent for it.
    pub(super) fn spend(
        &mut self,
        now: Duration,
        kind: QuotaKind,
        client: Client<'_>,
        amount: f64,
    ) -> Duration {
        let Some((bound, sharers)) = bound(&self.quotas, kind, client) else {
            return Duration::ZERO;
        };
        let refill = self.refill(kind, bound);
        let silent = self.bucket(now, sharers, refill).spend(now, refill, amount);
        let most = match kind {
            QuotaKind::Request => self.windows.size,
            QuotaKind::Produce | QuotaKind::Fetch | QuotaKind::Mutation | QuotaKind::Connection => {
                THROTTLE_MAX
            }
        };
        silent.min(most)
    }

    /// Charges `amount` of tokens to `client`, unless it owes some.
    ///
    /// # Errors
    /// How long until it owes none. Nothing was charged.
    pub(super) fn try_spend(
        &mut self,
        now: Duration,
        kind: QuotaKind,
        client: Client<'_>,
        amount: f64,
    ) -> Result<(), Duration> {
        let Some((bound, sharers)) = bound(&self.quotas, kind, client) else { return Ok(()) };
        self.try_account(now, sharers, bound, amount)
    }

    /// Charges a connection to the address that it comes from, unless that owes some.
    ///
    /// # Errors
    /// How long until it owes none. Nothing was charged.
    pub(super) fn try_connect(&mut self, now: Duration, ip: &str) -> Result<(), Duration> {
        let kind = QuotaKind::Connection;
        let value = |name| self.quotas.value(&QuotaEntity::new([("ip", name)]).ok()?, kind.key());
        let Some(bound) = value(Some(ip)).or_else(|| value(None)) else { return Ok(()) };
        let sharers = Sharers { kind, user: None, client_id: None, ip: Some(ip.into()) };
        self.try_account(now, sharers, bound, 1.0)
    }

    fn try_account(
        &mut self,
        now: Duration,
        sharers: Sharers,
        bound: f64,
        amount: f64,
    ) -> Result<(), Duration> {
        let refill = self.refill(sharers.kind, bound);
        let spent = self.bucket(now, sharers, refill).try_spend(now, refill, amount);
        spent.map_err(|silent| silent.min(THROTTLE_MAX))
    }

    /// What comes at `rate`. A first burst of bytes or time is as long as Kafka's, which finds the
    /// rate over all windows but the present; changes and connections are saved up over all.
    fn refill(&self, kind: QuotaKind, rate: f64) -> Refill {
        let span = match kind {
            QuotaKind::Produce | QuotaKind::Fetch | QuotaKind::Request => self.windows.past(),
            QuotaKind::Mutation | QuotaKind::Connection => self.controller_windows.span(),
        };
        Refill { rate, span }
    }

    fn bucket(&mut self, now: Duration, sharers: Sharers, refill: Refill) -> &mut TokenBucket {
        if self.accounts.len() >= QUOTA_BUCKETS_MAX && !self.accounts.contains_key(&sharers) {
            self.make_room(now);
        }
        let new = || Account { bucket: TokenBucket::full(now, refill), touched: now };
        let account = self.accounts.entry(sharers).or_insert_with(new);
        account.touched = now;
        &mut account.bucket
    }

    /// Forgets who owes nothing and could have saved up all there is; if nobody could, who was
    /// silent longest.
    fn make_room(&mut self, now: Duration) {
        let span = self.windows.span().max(self.controller_windows.span());
        let is_needed = |account: &Account| {
            account.bucket.owes() || now.saturating_sub(account.touched) <= span
        };
        self.accounts.retain(|_, account| is_needed(account));
        if self.accounts.len() >= QUOTA_BUCKETS_MAX {
            let oldest = self.accounts.iter().min_by_key(|(_, account)| account.touched);
            if let Some(oldest) = oldest.map(|(sharers, _)| sharers.clone()) {
                self.accounts.remove(&oldest);
            }
        }
    }
}

/// The quota that holds for `client`, and who uses it together.
fn bound(quotas: &Quotas, kind: QuotaKind, client: Client<'_>) -> Option<(f64, Sharers)> {
    let Client { user, client_id } = client;
    let (named_user, any_user) = (Some(("user", Some(user))), Some(("user", None)));
    let named_client = Some(("client-id", Some(client_id)));
    let any_client = Some(("client-id", None));
    let levels = [
        (named_user, named_client),
        (named_user, any_client),
        (named_user, None),
        (any_user, named_client),
        (any_user, any_client),
        (any_user, None),
        (None, named_client),
        (None, any_client),
    ];
    levels.into_iter().find_map(|(user_part, client_part)| {
        let parts = user_part.into_iter().chain(client_part);
        let value = quotas.value(&QuotaEntity::new(parts).ok()?, kind.key())?;
        let user = user_part.map(|_| user.into());
        let client_id = client_part.map(|_| client_id.into());
        Some((value, Sharers { kind, user, client_id, ip: None }))
    })
}
