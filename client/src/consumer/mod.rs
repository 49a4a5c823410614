//! Consuming records: alone or as a member of a group.
//!
//! A [`Consumer`] has partitions, either those given to [`assign`](Consumer::assign) or, after
//! [`subscribe`](Consumer::subscribe), those that its group gives it. [`poll`](Consumer::poll)
//! returns whole batches from its position in each, which a task of its own fetches ahead; that
//! task also sends the group's heartbeats, so that only a caller who does not poll for
//! `max.poll.interval.ms` is taken for dead.
//!
//! Groups are of two protocols, by `group.protocol`: in a `classic` one a member assigns, and all
//! join again when something changes; in a `consumer` one the coordinator assigns (KIP-848), and
//! members keep what is not taken from them. To the caller they look the same.
//!
//! A position is not a commit: what is done is told to the group by [`commit`](Consumer::commit),
//! or with a transaction by the producer's `send_offsets`, which takes
//! [`group_metadata`](Consumer::group_metadata).
//!
//! | `poll` returns | and the caller |
//! |---|---|
//! | [`Polled::Batches`] | processes them; positions are beyond them already |
//! | [`Polled::Revoked`] | commits what it processed, then polls again, or calls [`revoked`](Consumer::revoked): only then are the partitions given up |
//! | the same with `lost` | drops what it has of them: others may have them already, and commits are refused |
//! | [`Polled::Assigned`] | may [`seek`](Consumer::seek) before it polls again |
//! | [`Polled::Nothing`] | looks after other things |
//!
//! While a revocation is not acknowledged the whole group waits. If that takes longer than
//! `max.poll.interval.ms`, the coordinator goes on without this member: its commits are refused
//! from then on, and `poll` tells that what it still had is lost. Shell.

mod aborted;
mod assignor;
mod classic;
mod commits;
mod committer;
mod core;
mod error;
mod fetched;
mod fetcher;
mod group;
mod membership;
mod modern;
mod positions;
mod queries;
mod shell;
mod stream;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use protocol::ids::{LeaderEpoch, Offset, TopicPartition};
use protocol::time::{Clock, Now};
use tokio::sync::mpsc;
use tokio::time::timeout_at;

use self::classic::{Member, Settings};
use self::committer::Committer;
use self::core::{Core, Found};
use self::fetcher::{Fetcher, Limits};
use self::group::{Group, Tell};
use self::membership::Membership;
use self::modern::Modern;
use self::positions::{Position, Positions};
use self::shell::{Nothing, Runner, Shared};
use crate::bootstrap::Bootstrap;
use crate::config::{ConsumerConfig, GroupProtocol, IsolationLevel};
use crate::router::{Patience, Router, Topics};
use crate::time::deadline_after;

pub use crate::group_offsets::{GroupMetadata, OffsetAndMetadata};
pub use crate::offsets::OffsetSpec;
pub use error::{CommitError, ConnectError, ConsumeError, NotAssigned, PatternUnsupported};
pub use fetched::FetchedBatch;
pub use group::Revoked;
pub use stream::ConsumerRecord;

/// 100 ms: what sending the request to leave may take when all other time is used up.
const LEAVE_TIMEOUT_MIN: Duration = Duration::from_millis(100);

/// What a `poll` is about.
#[derive(Clone, Debug)]
pub enum Polled {
    /// Records; at least one batch.
    Batches(Vec<FetchedBatch>),
    /// Partitions to give up: the next `poll`, or `revoked`, says that this is done.
    Revoked(Revoked),
    /// The group gave this consumer partitions besides those that it keeps; perhaps none.
    Assigned(BTreeSet<TopicPartition>),
    /// The time is up, or positions moved over what is not to be seen: markers, and records of
    /// aborted transactions.
    Nothing,
}

/// A consumer. Dropping it leaves its group in the dark until the session times out:
/// [`close`](Self::close) it instead.
pub struct Consumer {
    shared: Arc<Shared>,
    clock: Clock,
    /// Its end tells the task to end.
    _alive: mpsc::Sender<Nothing>,
}

impl Consumer {
    /// Reaches the cluster, trying for at most `default.api.timeout.ms`. Call it inside a runtime.
    ///
    /// # Errors
    /// When settings contradict one another, or no broker answers.
    pub async fn connect(
        bootstrap: Bootstrap,
        config: ConsumerConfig,
    ) -> Result<Self, ConnectError> {
        config.validate()?;
        let patience = Patience {
            request_timeout: config.request_timeout,
            retry_backoff: config.retry_backoff,
            retry_backoff_max: config.retry_backoff_max,
            metadata_max_age: config.metadata_max_age,
        };
        let router = Router::new(&bootstrap, patience);
        let attempt = || router.refresh(Topics::These([].into()), false);
        router.retry(config.default_api_timeout, "reach the cluster", attempt).await?;
        let core = new_core(&router, &config);
        let shared = Arc::new(Shared::new(router, config, core));
        let (alive, end) = mpsc::channel(1);
        tokio::spawn(Runner::new(Arc::clone(&shared), end).run());
        Ok(Self { shared, clock: bootstrap.clock, _alive: alive })
    }

    /// The time by the consumer's clock.
    #[must_use]
    pub fn now(&self) -> Now {
        self.clock.now()
    }

    /// Takes exactly these partitions, without asking any group. Those that it had before keep
    /// their positions; the others start at what the group committed, if there is a `group.id`,
    /// or else by `auto.offset.reset`. Ends a subscription.
    pub fn assign(&mut self, partitions: impl IntoIterator<Item = TopicPartition>) {
        let partitions = partitions.into_iter().collect();
        self.change(|core| core.assign(&partitions));
    }

    /// Joins the group for partitions of these topics, instead of those subscribed to before.
    /// What was assigned by hand is dropped. `poll` tells what the group assigns.
    ///
    /// # Panics
    /// Without a `group.id`: whoever writes the call writes the setting.
    pub fn subscribe<T: Into<Arc<str>>>(&mut self, topics: impl IntoIterator<Item = T>) {
        let topics = topics.into_iter().map(Into::into).collect();
        let now = self.shared.now();
        let has_group = self.change(|core| core.subscribe(now, topics));
        assert!(has_group, "subscribing needs group.id");
    }

    /// Joins the group for partitions of the topics whose whole name matches `pattern`, instead of
    /// those subscribed to before; topics that come later, too. The coordinator reads the pattern,
    /// in RE2's syntax, and tells by `poll` when it cannot: KIP-848.
    ///
    /// # Errors
    /// Without a `group.id` and `group.protocol=consumer`: in a classic group nobody could.
    pub fn subscribe_matching(
        &mut self,
        pattern: impl Into<String>,
    ) -> Result<(), PatternUnsupported> {
        let now = self.shared.now();
        let pattern = pattern.into();
        let is_taken = self.change(|core| core.subscribe_regex(now, pattern));
        is_taken.then_some(()).ok_or(PatternUnsupported)
    }

    /// Drops all partitions, and leaves the group at once if there is a subscription. Nothing is
    /// committed, and nothing told: the caller knows.
    pub fn unsubscribe(&mut self) {
        self.change(Core::unsubscribe);
    }

    /// The partitions that it has.
    #[must_use]
    pub fn assignment(&self) -> BTreeSet<TopicPartition> {
        self.shared.lock().positions.partitions().cloned().collect()
    }

    /// The topics subscribed to.
    #[must_use]
    pub fn subscription(&self) -> BTreeSet<Arc<str>> {
        let core = self.shared.lock();
        core.group.as_ref().map(|it| it.subscription().clone()).unwrap_or_default()
    }

    /// Waits at most for `timeout` for something to return. Dropping it loses nothing.
    ///
    /// It says that what the last call returned is processed: partitions told to be revoked are
    /// given up, and with `enable.auto.commit` positions are committed, before they are given up
    /// and once per interval.
    ///
    /// # Errors
    /// See [`ConsumeError`]. None of them ends the consumer: polling goes on with the rest.
    pub async fn poll(&mut self, timeout: Duration) -> Result<Polled, ConsumeError> {
        // First of all, that the rebalance timeout counts from here.
        let now = self.shared.now();
        let has_work = self.shared.lock().polled(now);
        if has_work {
            self.shared.work.notify_one();
        }
        self.commit_revoked().await;
        self.revoked();
        let deadline = deadline_after(timeout);
        if timeout.is_zero() {
            // Who never waits must not keep the task from working.
            tokio::task::yield_now().await;
        }
        loop {
            let progress = self.shared.progress.notified();
            tokio::pin!(progress);
            // Before looking: what happens in between must not be missed.
            progress.as_mut().enable();
            let now = self.shared.now();
            if let Some(found) = self.shared.lock().find(now) {
                // There is room for the next fetch.
                self.shared.work.notify_one();
                return polled(found);
            }
            // Waiting here is being alive.
            let lively = deadline_after(self.shared.config.max_poll_interval / 2);
            if timeout_at(deadline.min(lively), progress).await.is_err() && lively >= deadline {
                return Ok(Polled::Nothing);
            }
            let now = self.shared.now();
            self.shared.lock().alive(now);
        }
    }

    /// The caller has given up what `poll` told it to. The next `poll` says so, too: call this to
    /// let the group go on while there is something else to do.
    pub fn revoked(&mut self) {
        let had_some = self.shared.lock().revoked();
        if had_some {
            self.shared.work.notify_one();
        }
    }

    /// Moves the position: the next record delivered is the first at or after `offset`.
    ///
    /// # Errors
    /// When the partition is not assigned.
    pub fn seek(&mut self, partition: &TopicPartition, offset: Offset) -> Result<(), NotAssigned> {
        let position = Position { offset, leader_epoch: LeaderEpoch::NONE };
        let is_ours = self.change(|core| core.positions.seek(partition, position));
        is_ours.then_some(()).ok_or_else(|| NotAssigned { partition: partition.clone() })
    }

    /// Moves the position to an end of the log, or to a time, as of when its leader answers. Where
    /// no record is young enough, to the end: those that come will be.
    ///
    /// # Errors
    /// When the partition is not assigned.
    pub fn seek_to(
        &mut self,
        partition: &TopicPartition,
        spec: OffsetSpec,
    ) -> Result<(), NotAssigned> {
        let is_ours = self.change(|core| core.positions.seek_to(partition, spec));
        is_ours.then_some(()).ok_or_else(|| NotAssigned { partition: partition.clone() })
    }

    /// The offset after what `poll` returned last, or where it will begin: beyond markers and
    /// aborted records, so the one to commit when all is processed. `None`: not assigned, or not
    /// known yet.
    #[must_use]
    pub fn position(&self, partition: &TopicPartition) -> Option<Offset> {
        self.shared.lock().positions.position(partition).map(|it| it.offset)
    }

    /// The position as something to commit. `None` as [`position`](Self::position).
    #[must_use]
    pub fn position_to_commit(&self, partition: &TopicPartition) -> Option<OffsetAndMetadata> {
        let Position { offset, leader_epoch } = self.shared.lock().positions.position(partition)?;
        Some(OffsetAndMetadata { offset, leader_epoch, metadata: String::new() })
    }

    /// How many offsets lie between the position and the end of what may be read, as of the last
    /// fetch. `None`: nothing was fetched yet. KIP-695.
    #[must_use]
    pub fn lag(&self, partition: &TopicPartition) -> Option<u64> {
        let core = self.shared.lock();
        let (position, ends) =
            (core.positions.position(partition)?, core.positions.ends(partition)?);
        let end = match self.shared.config.isolation_level {
            IsolationLevel::ReadUncommitted => ends.high_watermark,
            IsolationLevel::ReadCommitted => ends.last_stable_offset,
        };
        Some(u64::try_from(end.0.saturating_sub(position.offset.0)).unwrap_or(0))
    }

    /// Stops delivering, and fetching, records of these partitions. Those that are not ours are
    /// passed over. What was fetched stays.
    pub fn pause<'a>(&mut self, partitions: impl IntoIterator<Item = &'a TopicPartition>) {
        self.set_paused(partitions, true);
    }

    /// Delivers records of these partitions again.
    pub fn resume<'a>(&mut self, partitions: impl IntoIterator<Item = &'a TopicPartition>) {
        self.set_paused(partitions, false);
    }

    fn set_paused<'a>(
        &mut self,
        partitions: impl IntoIterator<Item = &'a TopicPartition>,
        is_paused: bool,
    ) {
        self.change(|core| {
            for partition in partitions {
                core.positions.set_paused(partition, is_paused);
            }
        });
    }

    /// The partitions that are paused.
    #[must_use]
    pub fn paused(&self) -> BTreeSet<TopicPartition> {
        let core = self.shared.lock();
        let all = core.positions.partitions();
        all.filter(|it| core.positions.is_paused(it)).cloned().collect()
    }

    /// Who this consumer is in its group, as far as `poll` told. A member that was replaced is
    /// refused with it, as it must be (KIP-447). `None`: no `group.id` is set.
    #[must_use]
    pub fn group_metadata(&self) -> Option<GroupMetadata> {
        self.shared.lock().identity().cloned()
    }

    /// Leaves the group, so that others go on at once; one with a `group.instance.id` stays a
    /// member until its session times out, and may come back. With `enable.auto.commit`, commits
    /// first. Waits at most `default.api.timeout.ms` for all of it.
    ///
    /// # Errors
    /// When what was to be committed is not. The group is left all the same.
    pub async fn close(self) -> Result<(), CommitError> {
        let timeout = self.shared.config.default_api_timeout;
        self.close_within(timeout).await
    }

    /// As [`close`](Self::close), within `timeout`. Leaving is tried even when it is over: the
    /// request is sent if there is a connection.
    ///
    /// # Errors
    /// As [`close`](Self::close).
    pub async fn close_within(self, timeout: Duration) -> Result<(), CommitError> {
        let deadline = deadline_after(timeout);
        let offsets = {
            let core = self.shared.lock();
            let is_enabled = core.committer.is_enabled();
            if is_enabled { core.committer.uncommitted(&core.positions) } else { BTreeMap::new() }
        };
        let committed = if offsets.is_empty() {
            Ok(())
        } else {
            let committed = timeout_at(deadline, self.commit_until(deadline, offsets)).await;
            committed.unwrap_or(Err(CommitError::Late { timeout }))
        };
        let leave = self.shared.lock().close();
        if let Some(leave) = leave {
            let deadline = deadline.max(deadline_after(LEAVE_TIMEOUT_MIN));
            drop(timeout_at(deadline, self.shared.leave(leave)).await);
        }
        committed
    }

    /// Changes what the task has to do.
    fn change<T>(&self, change: impl FnOnce(&mut Core) -> T) -> T {
        let changed = change(&mut self.shared.lock());
        self.shared.work.notify_one();
        changed
    }
}

fn new_core(router: &Router, config: &ConsumerConfig) -> Core {
    let limits = Limits {
        fetch_bytes: config.fetch_max_bytes,
        partition_bytes: config.max_partition_fetch_bytes,
        records: config.max_poll_records,
        isolation: config.isolation_level,
        checks_crcs: config.check_crcs,
    };
    let group = config.group_id.as_deref().map(|group_id| new_membership(router, config, group_id));
    let positions = Positions::new(config.auto_offset_reset, group.is_some(), router.backoff());
    let interval = config.enable_auto_commit.then_some(config.auto_commit_interval);
    let committer = Committer::new(interval, router.now().monotonic);
    let max_age = config.metadata_max_age;
    Core::new(positions, Fetcher::new(limits), group, committer, max_age, router.backoff())
}

fn new_membership(router: &Router, config: &ConsumerConfig, group_id: &str) -> Membership {
    if config.group_protocol == GroupProtocol::Consumer {
        let mut rng = router.rng();
        let settings = modern::Settings {
            group_id: group_id.into(),
            instance_id: config.group_instance_id.clone(),
            member_id: format!("{:016x}{:016x}", rng.next_u64(), rng.next_u64()),
            rebalance_timeout: config.max_poll_interval,
            assignor: config.group_remote_assignor.clone(),
            rack: config.client_rack.clone(),
            max_poll_interval: config.max_poll_interval,
        };
        return Membership::Modern(Box::new(Modern::new(settings, router.backoff())));
    }
    let settings = Settings {
        group_id: group_id.into(),
        instance_id: config.group_instance_id.clone(),
        session_timeout: config.session_timeout,
        rebalance_timeout: config.max_poll_interval,
        heartbeat_interval: config.heartbeat_interval,
        assignor: config.assignor,
        rack: config.client_rack.clone(),
    };
    let member = Member::new(settings, router.backoff());
    let group = Group::new(member, config.assignor, config.max_poll_interval);
    Membership::Classic(Box::new(group))
}

fn polled(found: Found) -> Result<Polled, ConsumeError> {
    match found {
        Found::Told(Tell::Revoked(revoked)) => Ok(Polled::Revoked(revoked)),
        Found::Told(Tell::Assigned(added)) => Ok(Polled::Assigned(added)),
        Found::Batches(batches) => Ok(Polled::Batches(batches)),
        Found::Moved => Ok(Polled::Nothing),
        Found::Failed(error) => Err(error),
    }
}

impl std::fmt::Debug for Consumer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Consumer").field("config", &self.shared.config).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
