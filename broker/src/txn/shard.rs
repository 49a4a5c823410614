//! The transactional ids of one partition of `__transaction_state`.
//!
//! Every decision of [`super::state`] becomes a record; the map changes by replay alone. A decision
//! whose record is committed releases the effect that sends its markers; so does loading, for
//! decisions that the last coordinator left without them. Open transactions that outlive their
//! timeout are aborted. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use protocol::error_code::ErrorCode;
use protocol::ids::{CoordinatorEpoch, Offset};
#[cfg(test)]
use protocol::ids::{ProducerId, TopicPartition};
use protocol::time::{Now, Timestamp};

use super::state::{self, Decision, Status, Txn};
use super::{Decided, Init, Producer, Reply, Request, record};
use crate::coordinator::{Logged, Outcome, Records, Release, Shard, Token};
use crate::limits::COMPLETION_WAITERS_MAX;
use crate::partition::EndTxnMarker;

/// 1000: ids that one batch forgets, about 50 KB of tombstones.
const FORGOTTEN_PER_BATCH: usize = 1000;

/// What bounds transactions, from the broker's settings.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// `transaction.max.timeout.ms`.
    pub timeout_max: Duration,
    /// `transactional.id.expiration.ms`.
    pub expiration: Duration,
    /// `transaction.remove.expired.transaction.cleanup.interval.ms`.
    pub expiration_check: Duration,
    /// Transactional ids in one shard; the next new one is refused as retriable.
    pub ids_max: usize,
}

/// The transactional ids of one partition.
#[derive(Debug)]
pub struct TxnShard {
    limits: Limits,
    coordinator_epoch: CoordinatorEpoch,
    txns: BTreeMap<Arc<str>, Txn>,
    /// When open transactions time out, on the monotonic clock.
    deadlines: BTreeMap<Arc<str>, Duration>,
    /// Who waits for markers to be written, by the id whose they are.
    waiting: BTreeMap<Arc<str>, Vec<Token>>,
    expiry_at: Duration,
    loaded_at: Duration,
}

impl TxnShard {
    /// An empty shard, about to be loaded.
    #[must_use]
    pub fn new(limits: Limits, coordinator_epoch: CoordinatorEpoch) -> Self {
        Self {
            limits,
            coordinator_epoch,
            txns: BTreeMap::new(),
            deadlines: BTreeMap::new(),
            waiting: BTreeMap::new(),
            expiry_at: Duration::ZERO,
            loaded_at: Duration::ZERO,
        }
    }

    fn init(&self, now: Now, token: Token, init: &Init) -> Outcome<Self> {
        let refuse = |code| Outcome::reply(token, Reply::Initialised(Err(code)));
        if init.id.is_empty() {
            return refuse(ErrorCode::InvalidRequest);
        }
        if init.timeout.is_zero() || self.limits.timeout_max < init.timeout {
            return refuse(ErrorCode::InvalidTransactionTimeout);
        }
        let known = self.txns.get(&init.id);
        if known.is_none() && self.limits.ids_max <= self.txns.len() {
            return refuse(ErrorCode::CoordinatorNotAvailable);
        }
        match state::init(known, init, now.wall) {
            Ok(decision) => self.carry_out(&init.id, decision, token, Reply::Initialised),
            Err(code) => refuse(code),
        }
    }

    /// The records and replies of a decision.
    fn carry_out(
        &self,
        id: &Arc<str>,
        decision: Decision,
        token: Token,
        reply: impl Fn(Result<Producer, ErrorCode>) -> Reply,
    ) -> Outcome<Self> {
        match decision {
            Decision::Stands(producer) => Outcome::reply(token, reply(Ok(producer))),
            Decision::Becomes(txn, producer) => {
                let mut outcome = self.becomes(id, &txn);
                outcome.releases.insert(0, Release::Reply(token, reply(Ok(producer))));
                outcome
            }
            Decision::EndsFirst(txn) => {
                let mut outcome = self.becomes(id, &txn);
                let come_again = reply(Err(ErrorCode::ConcurrentTransactions));
                outcome.releases.insert(0, Release::Reply(token, come_again));
                outcome
            }
        }
    }

    /// The record of a state, and the markers that it owes once committed.
    fn becomes(&self, id: &Arc<str>, txn: &Txn) -> Outcome<Self> {
        let entries = vec![record::write(id, Some(txn))];
        let owed = self.owed(id, txn).map(Release::Effect);
        Outcome { records: Some(Records::own(entries)), releases: owed.into_iter().collect() }
    }

    fn owed(&self, id: &Arc<str>, txn: &Txn) -> Option<Decided> {
        txn.status.is_prepared().then(|| Decided {
            id: Arc::clone(id),
            producer: txn.producer,
            commit: txn.status == Status::PrepareCommit,
            version: txn.version,
            coordinator_epoch: self.coordinator_epoch,
            partitions: txn.partitions.clone(),
            loaded_at: self.loaded_at,
        })
    }

    /// True while markers of some decision are not known to be written.
    #[cfg(test)]
    pub(super) fn owes(&self) -> bool {
        self.txns.iter().any(|(id, txn)| self.owed(id, txn).is_some())
    }

    fn markers_written(&mut self, now: Now, token: Token, decided: &Decided) -> Outcome<Self> {
        let txn = self.txns.get(&decided.id);
        let is_this = txn.is_some_and(|it| self.owed(&decided.id, it).as_ref() == Some(decided));
        let next = txn.filter(|_| is_this).and_then(|it| it.completed(now.wall));
        // A decision that is not owed any more was completed already: nothing to note.
        let Some(next) = next else { return Outcome::reply(token, Reply::Noted(Ok(()))) };
        let mut outcome = self.becomes(&decided.id, &next);
        let waiting = self.waiting.remove(&decided.id).unwrap_or_default();
        for token in waiting.into_iter().chain([token]) {
            outcome.releases.push(Release::Reply(token, Reply::Noted(Ok(()))));
        }
        outcome
    }

    fn completion(&mut self, token: Token, id: &Arc<str>) -> Outcome<Self> {
        let owes = self.txns.get(id).is_some_and(|it| it.status.is_prepared());
        if !owes {
            return Outcome::reply(token, Reply::Noted(Ok(())));
        }
        let waiting = self.waiting.entry(Arc::clone(id)).or_default();
        if COMPLETION_WAITERS_MAX <= waiting.len() {
            return Outcome::reply(token, Reply::Noted(Err(ErrorCode::ConcurrentTransactions)));
        }
        waiting.push(token);
        Outcome::nothing()
    }

    /// Whether the producer has a transaction that holds `partition`, and so will end there.
    #[cfg(test)]
    pub(crate) fn will_end(&self, producer: ProducerId, partition: &TopicPartition) -> bool {
        let holds = |txn: &Txn| txn.producer.id == producer && txn.partitions.contains(partition);
        self.txns.values().any(holds)
    }

    fn take_in(&mut self, now: Now, id: Arc<str>, txn: Option<Txn>) {
        let Some(txn) = txn else {
            self.txns.remove(&id);
            self.deadlines.remove(&id);
            return;
        };
        if txn.status == Status::Ongoing {
            let deadline = || now.monotonic + remaining(&txn, now.wall);
            self.deadlines.entry(Arc::clone(&id)).or_insert_with(deadline);
        } else {
            self.deadlines.remove(&id);
        }
        self.txns.insert(id, txn);
    }

    fn expire(&self, now: Now, outcomes: &mut Vec<Outcome<Self>>) {
        let expiration = i64::try_from(self.limits.expiration.as_millis()).unwrap_or(i64::MAX);
        let before = Timestamp(now.wall.0.saturating_sub(expiration));
        let rests = |txn: &Txn| {
            txn.status != Status::Ongoing && !txn.status.is_prepared() && txn.updated < before
        };
        let old = self.txns.iter().filter(|(_, txn)| rests(txn));
        let entries: Vec<_> = old.map(|(id, _)| record::write(id, None)).collect();
        for entries in entries.chunks(FORGOTTEN_PER_BATCH) {
            let records = Some(Records::own(entries.to_vec()));
            outcomes.push(Outcome { records, releases: Vec::new() });
        }
    }
}

/// How much of its time an open transaction has left.
fn remaining(txn: &Txn, now: Timestamp) -> Duration {
    let passed = u64::try_from(now.0.saturating_sub(txn.started.0)).unwrap_or(0);
    txn.timeout.saturating_sub(Duration::from_millis(passed))
}

impl Shard for TxnShard {
    type Request = Request;
    type Reply = Reply;
    type Effect = Decided;

    fn handle(
        &mut self,
        now: Now,
        token: Token,
        request: Request,
        outcomes: &mut Vec<Outcome<Self>>,
    ) {
        let nameless = ErrorCode::InvalidRequest;
        let outcome = match request {
            Request::Init(init) => self.init(now, token, &init),
            Request::Add(add) if add.id.is_empty() => {
                Outcome::reply(token, Reply::Added(Err(nameless)))
            }
            Request::Verify(asked) if asked.id.is_empty() => {
                let codes = vec![nameless; asked.partitions.len()];
                Outcome::reply(token, Reply::Verified(codes))
            }
            Request::End(end) if end.id.is_empty() => {
                Outcome::reply(token, Reply::Ended(Err(nameless)))
            }
            Request::Describe(id) if id.is_empty() => {
                Outcome::reply(token, Reply::Described(Err(nameless)))
            }
            Request::Add(add) => match state::add(self.txns.get(&add.id), &add, now.wall) {
                Ok(decision) => {
                    let added = |it: Result<Producer, ErrorCode>| Reply::Added(it.map(|_| ()));
                    self.carry_out(&add.id, decision, token, added)
                }
                Err(code) => Outcome::reply(token, Reply::Added(Err(code))),
            },
            Request::Verify(asked) => {
                let verified = state::verify(self.txns.get(&asked.id), &asked);
                let all = |code| vec![code; asked.partitions.len()];
                Outcome::reply(token, Reply::Verified(verified.unwrap_or_else(all)))
            }
            Request::End(end) => match state::end(self.txns.get(&end.id), &end, now.wall) {
                Ok(decision) => self.carry_out(&end.id, decision, token, Reply::Ended),
                Err(code) => Outcome::reply(token, Reply::Ended(Err(code))),
            },
            Request::Describe(id) => {
                let known = self.txns.get(&id).cloned().map(Box::new);
                let described = known.ok_or(ErrorCode::TransactionalIdNotFound);
                Outcome::reply(token, Reply::Described(described))
            }
            Request::List(filter) => {
                let found = self.txns.iter().filter(|(id, txn)| filter.admits(id, txn, now.wall));
                let listed = found.map(|(id, txn)| (Arc::clone(id), txn.producer.id, txn.status));
                Outcome::reply(token, Reply::Listed(listed.collect()))
            }
            Request::Completion(id) => self.completion(token, &id),
            Request::MarkersWritten(decided) => self.markers_written(now, token, &decided),
        };
        outcomes.push(outcome);
    }

    fn replay(&mut self, now: Now, logged: &Logged) {
        match record::read(&logged.entry) {
            Ok((id, txn)) => self.take_in(now, id, txn),
            Err(reason) => {
                tracing::warn!(offset = logged.offset.0, reason, "transaction record skipped");
            }
        }
    }

    fn replay_marker(&mut self, _: Now, _: EndTxnMarker, _: Offset) {
        // Nobody writes to this log inside a transaction.
    }

    fn loaded(&mut self, now: Now, outcomes: &mut Vec<Outcome<Self>>) {
        self.loaded_at = now.monotonic;
        self.expiry_at = now.monotonic + self.limits.expiration_check;
        let owed = self.txns.iter().filter_map(|(id, txn)| self.owed(id, txn));
        let releases: Vec<_> = owed.map(Release::Effect).collect();
        outcomes.push(Outcome { records: None, releases });
    }

    fn tick(&mut self, now: Now, outcomes: &mut Vec<Outcome<Self>>) {
        let due = self.deadlines.iter().filter(|(_, at)| **at <= now.monotonic);
        for (id, _) in due {
            let txn = self.txns.get(id).expect("a deadline is that of an open transaction");
            tracing::info!(transactional_id = %id, "transaction timed out");
            outcomes.push(self.becomes(id, &txn.fenced(now.wall)));
        }
        if self.expiry_at <= now.monotonic {
            self.expiry_at = now.monotonic + self.limits.expiration_check;
            self.expire(now, outcomes);
        }
    }

    fn wake_at(&self) -> Option<Duration> {
        self.deadlines.values().copied().chain([self.expiry_at]).min()
    }

    fn refused(
        &mut self,
        now: Now,
        error: ErrorCode,
        releases: Vec<Release<Self>>,
    ) -> Vec<Release<Self>> {
        // The timeouts that were due are tried again, but not at once: the log is not well.
        for at in self.deadlines.values_mut().filter(|at| **at <= now.monotonic) {
            *at = now.monotonic + Duration::from_secs(1);
        }
        let refuse = |reply| match reply {
            Reply::Initialised(_) => Reply::Initialised(Err(error)),
            Reply::Added(_) => Reply::Added(Err(error)),
            Reply::Verified(codes) => Reply::Verified(vec![error; codes.len()]),
            Reply::Ended(_) => Reply::Ended(Err(error)),
            Reply::Described(_) => Reply::Described(Err(error)),
            listed @ Reply::Listed(_) => listed,
            Reply::Noted(_) => Reply::Noted(Err(error)),
        };
        let keep = |release| match release {
            Release::Reply(token, reply) => Some(Release::Reply(token, refuse(reply))),
            // The decision is not in the log: its markers must not go out.
            Release::Effect(_) => None,
        };
        releases.into_iter().filter_map(keep).collect()
    }

    #[cfg(any(test, feature = "check"))]
    fn check(&self) {
        self.txns.values().for_each(Txn::check);
        for (id, txn) in &self.txns {
            assert_eq!(txn.status == Status::Ongoing, self.deadlines.contains_key(id));
        }
        for (id, waiting) in &self.waiting {
            assert!(self.txns[id].status.is_prepared(), "{id} is complete");
            assert!(waiting.len() <= COMPLETION_WAITERS_MAX);
        }
    }
}
