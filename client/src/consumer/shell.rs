//! The consumer's task: carries out what the core asks for, whether or not the caller polls.
//!
//! So heartbeats are sent and records fetched ahead while the caller is busy. It ends when the
//! consumer is dropped: then nobody leaves the group, which notices only when the session times
//! out. Shell.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use protocol::api::Request;
use protocol::api::consumer_group::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse,
};
use protocol::api::fetch::{FetchRequest, FetchResponse};
use protocol::api::group::{
    HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse, SyncGroupRequest,
    SyncGroupResponse,
};
use protocol::api::offsets::{
    ListOffsetsResponse, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
};
use protocol::error_code::ErrorCode;
use protocol::ids::{BrokerId, LeaderEpoch, TopicPartition};
use tokio::sync::{Notify, mpsc};
use tokio::time::sleep;

use super::classic::{Ask, Attempt};
use super::committer::Offsets;
use super::core::{Core, Effect};
use super::fetcher::Fetch;
use super::positions::{Doubt, Reset, Ticket};
use super::wire;
use crate::cluster::Cluster;
use crate::config::{ConsumerConfig, IsolationLevel};
use crate::error::RequestError;
use crate::group_offsets::{self, GroupMetadata};
use crate::net::connection::{CallError, CallOptions};
use crate::net::pool::Purpose;
use crate::offsets;
use crate::router::{CoordinatorKind, Router, Topics};

/// What the consumer and its task share.
pub(super) struct Shared {
    pub(super) router: Arc<Router>,
    pub(super) config: ConsumerConfig,
    /// A lock, as records are handed over without a message each: held for one step of the task,
    /// or for decoding what one `poll` returns.
    core: Mutex<Core>,
    /// There is something new to do.
    pub(super) work: Notify,
    /// Something was done.
    pub(super) progress: Notify,
}

impl Shared {
    pub(super) fn new(router: Arc<Router>, config: ConsumerConfig, core: Core) -> Self {
        let core = Mutex::new(core);
        Self { router, config, core, work: Notify::new(), progress: Notify::new() }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn now(&self) -> Duration {
        self.router.now().monotonic
    }

    /// Asks the group's coordinator on the connection for `purpose`.
    async fn ask<R: Request>(
        &self,
        purpose: Purpose,
        timeout: Duration,
        build: impl FnOnce(i16) -> R + Send + 'static,
        code: impl FnOnce(&R::Response) -> i16,
    ) -> Result<R::Response, RequestError> {
        let kind = CoordinatorKind::Group;
        let group_id = self.config.group_id.as_deref().expect("only members ask");
        let connection = self.router.coordinator(kind, group_id, purpose).await?;
        let answer = connection.call_with(CallOptions::within(timeout), build).await;
        match &answer {
            Ok(answer) => {
                let code = ErrorCode::from_wire(code(answer));
                self.router.heed_coordinator(kind, group_id, code);
            }
            Err(_) => self.router.forget_coordinator(kind, group_id),
        }
        Ok(answer?)
    }

    /// How long a join may take: all others may take the whole rebalance timeout.
    fn join_timeout(&self) -> Duration {
        let slack = Duration::from_secs(5);
        self.config.request_timeout.max(self.config.max_poll_interval.saturating_add(slack))
    }

    async fn join(&self, request: JoinGroupRequest) -> Result<JoinGroupResponse, RequestError> {
        let build = |version| wire::join_request(version, request);
        self.ask(Purpose::Join, self.join_timeout(), build, |it| it.error_code).await
    }

    async fn sync(&self, request: SyncGroupRequest) -> Result<SyncGroupResponse, RequestError> {
        let build = |version| wire::sync_request(version, request);
        self.ask(Purpose::Join, self.join_timeout(), build, |it| it.error_code).await
    }

    async fn heartbeat(
        &self,
        request: HeartbeatRequest,
    ) -> Result<HeartbeatResponse, RequestError> {
        // An answer that comes after the session is of no use.
        let timeout = self.config.request_timeout.min(self.config.session_timeout);
        let build = |version| wire::heartbeat_request(version, request);
        self.ask(Purpose::Coordinator, timeout, build, |it| it.error_code).await
    }

    async fn consumer_heartbeat(
        &self,
        request: ConsumerGroupHeartbeatRequest,
    ) -> Result<ConsumerGroupHeartbeatResponse, RequestError> {
        let timeout = self.config.request_timeout.min(self.config.session_timeout);
        let build = |version| wire::consumer_heartbeat_request(version, request);
        self.ask(Purpose::Coordinator, timeout, build, |it| it.error_code).await
    }

    /// Tells the coordinator to expect us no longer. Whether it hears is of no consequence but
    /// time: it notices when the session times out.
    pub(super) async fn leave(&self, ask: Ask) {
        let left = match ask {
            Ask::Leave(request) => {
                let timeout = self.config.request_timeout;
                let build = |version| wire::leave_request(version, request);
                let left = self.ask(Purpose::Coordinator, timeout, build, |it| it.error_code);
                left.await.map(drop)
            }
            Ask::ConsumerLeave(request) => self.consumer_heartbeat(request).await.map(drop),
            Ask::Join(..) | Ask::Sync(..) | Ask::Heartbeat(..) | Ask::Consumer(..) => {
                unreachable!("leaving is another question")
            }
        };
        if let Err(error) = left {
            tracing::debug!(%error, "the group was not told that we left");
        }
    }
}

/// What was under way and is over.
enum Event {
    Refreshed(Result<(), RequestError>),
    Fetched(Fetch, Result<FetchResponse, RequestError>),
    Committed(BTreeMap<TopicPartition, Ticket>, Result<Offsets, RequestError>),
    Listed(Vec<(Reset, LeaderEpoch)>, Result<ListOffsetsResponse, RequestError>),
    Validated(Vec<Doubt>, Result<OffsetForLeaderEpochResponse, RequestError>),
    Joined(Attempt, Result<JoinGroupResponse, RequestError>),
    Synced(Attempt, Result<SyncGroupResponse, RequestError>),
    Heartbeat(Attempt, Result<HeartbeatResponse, RequestError>),
    ConsumerHeartbeat(Attempt, Result<ConsumerGroupHeartbeatResponse, RequestError>),
    Left,
    AutoCommitted(GroupMetadata, Offsets, Result<(), RequestError>),
}

/// Never sent: that the consumer is gone is told by its end of the channel.
pub(super) enum Nothing {}

/// The task.
pub(super) struct Runner {
    shared: Arc<Shared>,
    alive: mpsc::Receiver<Nothing>,
    under_way: FuturesUnordered<BoxFuture<'static, Event>>,
}

impl Runner {
    pub(super) fn new(shared: Arc<Shared>, alive: mpsc::Receiver<Nothing>) -> Self {
        Self { shared, alive, under_way: FuturesUnordered::new() }
    }

    pub(super) async fn run(mut self) {
        loop {
            let now = self.shared.now();
            let effects =
                self.shared.router.cluster(|cluster| self.shared.lock().plan(now, cluster));
            for effect in effects {
                self.carry_out(effect);
            }
            let wake_at = self.shared.lock().wake_at(now);
            let wait = wake_at.map(|it| it - now);
            let wait = wait.unwrap_or(self.shared.config.metadata_max_age);
            let shared = Arc::clone(&self.shared);
            tokio::select! {
                biased;
                None = self.alive.recv() => return,
                Some(event) = self.under_way.next() => self.on(event),
                () = shared.work.notified() => {}
                () = sleep(wait) => {}
            }
        }
    }

    fn start<F: Future<Output = Event> + Send + 'static>(
        &mut self,
        work: impl FnOnce(Arc<Shared>) -> F,
    ) {
        self.under_way.push(Box::pin(work(Arc::clone(&self.shared))));
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Refresh(topics) => self.refresh(topics),
            Effect::Fetch(fetch) => self.fetch(fetch),
            Effect::FetchCommitted(asked) => self.fetch_committed(asked),
            Effect::List { broker, resets } => self.list(broker, resets),
            Effect::Validate(doubts) => self.validate(doubts),
            Effect::Ask(Ask::Join(attempt, request)) => self
                .start(|shared| async move { Event::Joined(attempt, shared.join(request).await) }),
            Effect::Ask(Ask::Sync(attempt, request)) => self
                .start(|shared| async move { Event::Synced(attempt, shared.sync(request).await) }),
            Effect::Ask(Ask::Heartbeat(attempt, request)) => {
                self.start(|shared| async move {
                    Event::Heartbeat(attempt, shared.heartbeat(request).await)
                });
            }
            Effect::Ask(Ask::Consumer(attempt, request)) => self.start(|shared| async move {
                Event::ConsumerHeartbeat(attempt, shared.consumer_heartbeat(request).await)
            }),
            Effect::Ask(leave @ (Ask::Leave(_) | Ask::ConsumerLeave(_))) => {
                self.start(|shared| async move {
                    shared.leave(leave).await;
                    Event::Left
                });
            }
            Effect::Commit { identity, offsets } => {
                self.start(|shared| async move {
                    let timeout = shared.config.default_api_timeout;
                    let router = &shared.router;
                    let committed =
                        group_offsets::commit(router, timeout, &identity, &offsets).await;
                    Event::AutoCommitted(identity, offsets, committed)
                });
            }
        }
    }

    fn refresh(&mut self, topics: Topics) {
        self.start(|shared| async move {
            let may_create = shared.config.allow_auto_create_topics;
            let refreshed = shared.router.refresh(topics, may_create).await;
            Event::Refreshed(refreshed.map(drop))
        });
    }

    fn fetch(&mut self, fetch: Fetch) {
        self.start(|shared| async move {
            let config = &shared.config;
            let version_max = wire::fetch_version_max(&fetch);
            // The broker answers after the wait at the latest, unless something is wrong.
            let timeout = config.request_timeout.saturating_add(config.fetch_max_wait);
            let options = CallOptions::within(timeout).up_to_version(version_max);
            let request = wire::fetch_request(config, &fetch);
            let build = move |_| -> FetchRequest { request };
            let answer = call(&shared.router, fetch.broker, Purpose::Fetch, options, build).await;
            Event::Fetched(fetch, answer)
        });
    }

    fn fetch_committed(&mut self, asked: BTreeMap<TopicPartition, Ticket>) {
        self.start(|shared| async move {
            let config = &shared.config;
            let group_id = config.group_id.as_deref().expect("without a group nothing is asked");
            let partitions: Vec<_> = asked.keys().cloned().collect();
            // Offsets that are pending in a transaction are about to change (KIP-447).
            let require_stable = config.isolation_level == IsolationLevel::ReadCommitted;
            let timeout = config.default_api_timeout;
            let committed = group_offsets::fetch(
                &shared.router,
                timeout,
                group_id,
                Some(&partitions),
                require_stable,
            );
            let committed = committed.await;
            Event::Committed(asked, committed)
        });
    }

    fn list(&mut self, broker: BrokerId, resets: Vec<(Reset, LeaderEpoch)>) {
        self.start(|shared| async move {
            let isolation = shared.config.isolation_level;
            let timeout = shared.config.request_timeout;
            let wall = shared.router.now().wall;
            let one = |(it, epoch): &(Reset, LeaderEpoch)| {
                (it.partition.clone(), *epoch, it.goal.spec(wall))
            };
            let asked: Vec<_> = resets.iter().map(one).collect();
            let build = move |version| offsets::request(version, isolation, &asked, timeout);
            let options = CallOptions::within(timeout);
            let answer = call(&shared.router, broker, Purpose::General, options, build).await;
            Event::Listed(resets, answer)
        });
    }

    fn validate(&mut self, doubts: Vec<Doubt>) {
        self.start(|shared| async move {
            let broker = doubts[0].leader.broker;
            let request = wire::end_of_epoch_request(&doubts);
            let options = CallOptions::within(shared.config.request_timeout);
            let build = move |_| -> OffsetForLeaderEpochRequest { request };
            let answer = call(&shared.router, broker, Purpose::General, options, build).await;
            Event::Validated(doubts, answer)
        });
    }

    fn on(&mut self, event: Event) {
        let now = self.shared.now();
        let (shared, router) = (&self.shared, &self.shared.router);
        match event {
            Event::Refreshed(refreshed) => {
                router.cluster(|cluster| shared.lock().on_refreshed(now, refreshed, cluster));
            }
            Event::Fetched(fetch, answer) => {
                let answer = answer.inspect_err(|error| tracing::debug!(%error, "not fetched"));
                let response = answer.ok();
                let brokers = response.as_ref().map(wire::brokers).unwrap_or_default();
                let (leaders, is_stale) = shared.lock().on_fetched(now, fetch, response);
                router.cluster(|cluster| {
                    for (broker, endpoint) in brokers {
                        cluster.update_broker(broker, endpoint);
                    }
                    for (partition, leader) in leaders {
                        cluster.update_leader(&partition, leader);
                    }
                    mark(cluster, is_stale);
                });
            }
            Event::Committed(asked, answer) => shared.lock().on_committed(now, &asked, answer),
            Event::Listed(resets, answer) => {
                let answer = answer.inspect_err(|error| tracing::debug!(%error, "not listed"));
                let is_stale = shared.lock().on_listed(now, &resets, answer.ok());
                router.cluster(|cluster| mark(cluster, is_stale));
            }
            // Brokers before 2.3 let only other brokers ask.
            Event::Validated(doubts, Err(RequestError::Call(CallError::Unsupported { .. }))) => {
                shared.lock().on_not_comparable(&doubts);
            }
            Event::Validated(doubts, answer) => {
                let answer = answer.inspect_err(|error| tracing::debug!(%error, "not compared"));
                let is_stale = shared.lock().on_validated(now, &doubts, answer.ok());
                router.cluster(|cluster| mark(cluster, is_stale));
            }
            Event::Joined(attempt, answer) => shared.lock().on_joined(now, attempt, answer),
            Event::Synced(attempt, answer) => shared.lock().on_synced(now, attempt, answer),
            Event::Heartbeat(attempt, answer) => shared.lock().on_heartbeat(now, attempt, answer),
            Event::ConsumerHeartbeat(attempt, answer) => router.cluster(|cluster| {
                shared.lock().on_consumer_heartbeat(now, attempt, answer, cluster);
            }),
            Event::Left => {}
            Event::AutoCommitted(identity, offsets, committed) => {
                shared.lock().on_auto_committed(now, &identity, offsets, committed);
            }
        }
        self.shared.progress.notify_waiters();
    }
}

fn mark(cluster: &mut Cluster, is_stale: bool) {
    if is_stale {
        cluster.mark_stale();
    }
}

/// Asks `broker`, which may be gone.
async fn call<R: Request>(
    router: &Router,
    broker: BrokerId,
    purpose: Purpose,
    options: CallOptions,
    build: impl FnOnce(i16) -> R + Send + 'static,
) -> Result<R::Response, RequestError> {
    match router.broker(broker, purpose) {
        Some(connection) => Ok(connection.call_with(options, build).await?),
        None => Err(RequestError::NoLeader { subject: format!("broker {broker}") }),
    }
}
