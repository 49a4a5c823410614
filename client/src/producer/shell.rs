//! The producer's task: sends what is due, lands what comes back, runs one verb at a time.
//!
//! It ends when the producer is dropped; what was not sent by then is not sent. A verb that has
//! begun is carried to its end even if its caller stops waiting. Shell.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use protocol::api::produce::ProduceRequest;
use protocol::api::producer_id::InitProducerIdRequest;
use protocol::api_key::ApiKey;
use protocol::error_code::ErrorCode;
use protocol::ids::{BrokerId, ProducerEpoch, ProducerId, TopicPartition};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{sleep, timeout_at};

use super::accumulator::Request;
use super::core::{BatchAck, Core, Landed, Plan, Settled};
use super::error::{Failure, ProduceError};
use super::queue::BatchId;
use super::sequencer::Stamp;
use super::verbs::{self, Verb};
use super::wire::{self, Sent};
use crate::backoff::Backoff;
use crate::cluster::Cluster;
use crate::config::{Acks, ProducerConfig};
use crate::error::RequestError;
use crate::net::connection::{Answer, CallOptions};
use crate::net::pool::Purpose;
use crate::router::{Router, Topics};
use crate::time::deadline_after;

/// 11: the newest version of Produce that does not add partitions to a transaction.
const PRODUCE_VERSION_1: i16 = 11;
/// 12: the newest version that names topics; it adds partitions to a transaction. KIP-890.
const PRODUCE_VERSION_2: i16 = 12;

/// Who waits for the records of a batch, and for which of them.
type Waiters = BTreeMap<BatchId, Vec<(i32, oneshot::Sender<Waited>)>>;

/// How a record ended: its batch, and its place therein.
pub(super) type Waited = (i32, Result<BatchAck, ProduceError>);

/// What the producer and its task share.
pub(super) struct Shared {
    pub(super) router: Arc<Router>,
    pub(super) config: ProducerConfig,
    /// A lock, as appending is synchronous: an owning task would cost a message per record. Held
    /// for one append, or one step of the task.
    state: Mutex<State>,
    /// There is something new to do.
    pub(super) work: Notify,
    /// Something was done.
    pub(super) progress: Notify,
}

pub(super) struct State {
    pub(super) core: Core,
    pub(super) waiters: Waiters,
}

impl Shared {
    pub(super) fn new(router: Arc<Router>, config: ProducerConfig, core: Core) -> Self {
        let state = Mutex::new(State { core, waiters: BTreeMap::new() });
        Self { router, config, state, work: Notify::new(), progress: Notify::new() }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `look` sees what it looks for, at most for `timeout`.
    pub(super) async fn until<T>(
        &self,
        timeout: Duration,
        mut look: impl FnMut(&mut Core) -> Option<T>,
    ) -> Option<T> {
        let deadline = deadline_after(timeout);
        loop {
            let progress = self.progress.notified();
            tokio::pin!(progress);
            // Before looking: what happens in between must not be missed.
            progress.as_mut().enable();
            if let Some(seen) = look(&mut self.lock().core) {
                return Some(seen);
            }
            timeout_at(deadline, progress).await.ok()?;
        }
    }

    /// Tells those who wait for records of these batches.
    pub(super) fn settle(&self, settled: Vec<Settled>) {
        if settled.is_empty() {
            return;
        }
        let mut state = self.lock();
        for Settled { id, outcome } in settled {
            for (index, waiter) in state.waiters.remove(&id).unwrap_or_default() {
                // Who stopped waiting does not want to know.
                drop(waiter.send((index, outcome.clone())));
            }
        }
        drop(state);
        self.progress.notify_waiters();
    }

    pub(super) fn fail_for_good(&self, failure: Failure) {
        let settled = self.lock().core.fail_for_good(failure);
        self.settle(settled);
        self.progress.notify_waiters();
    }
}

/// What was under way and is over.
enum Event {
    Produced { broker: BrokerId, landed: Vec<Landed> },
    Refreshed(Result<(), RequestError>),
    Identified(Result<Stamp, RequestError>),
    Added(BTreeSet<TopicPartition>),
    VerbEnded,
}

/// The task.
pub(super) struct Sender {
    shared: Arc<Shared>,
    verbs: mpsc::Receiver<Verb>,
    under_way: FuturesUnordered<BoxFuture<'static, Event>>,
    is_refreshing: bool,
    refresh_backoff: Backoff,
    is_identifying: bool,
    is_adding: bool,
    has_verb: bool,
}

impl Sender {
    pub(super) fn new(shared: Arc<Shared>, verbs: mpsc::Receiver<Verb>) -> Self {
        let refresh_backoff = shared.router.backoff();
        Self {
            shared,
            verbs,
            under_way: FuturesUnordered::new(),
            is_refreshing: false,
            refresh_backoff,
            is_identifying: false,
            is_adding: false,
            has_verb: false,
        }
    }

    pub(super) async fn run(mut self) {
        loop {
            let wait = loop {
                if let Some(wait) = self.carry_out().await {
                    break wait;
                }
            };
            let shared = Arc::clone(&self.shared);
            tokio::select! {
                biased;
                Some(event) = self.under_way.next() => self.on(event),
                verb = self.verbs.recv(), if !self.has_verb => match verb {
                    Some(verb) => {
                        self.has_verb = true;
                        let shared = Arc::clone(&self.shared);
                        self.start(async move {
                            verbs::run(&shared, verb).await;
                            Event::VerbEnded
                        });
                    }
                    None => return,
                },
                () = shared.work.notified() => {}
                () = sleep(wait) => {}
            }
        }
    }

    fn start(&mut self, work: impl Future<Output = Event> + Send + 'static) {
        self.under_way.push(Box::pin(work));
    }

    /// Carries out one plan. How long the next may wait; `None`: there may be more to do at once.
    async fn carry_out(&mut self) -> Option<Duration> {
        let now = self.shared.router.now().monotonic;
        let max_age = self.shared.config.metadata_max_age;
        let plan = self.shared.router.cluster(|cluster| {
            let mut plan = self.shared.lock().core.plan(now, cluster);
            plan.wants_metadata |= cluster.needs_update(now, max_age, []);
            plan
        });
        // Reckoned from when the plan was made: what falls due since then is in no plan yet.
        let wake_at = self.shared.lock().core.wake_at(now);
        let wait = wake_at.map_or(max_age, |it| it - now);
        let Plan { requests, settled, to_add, wants_metadata, wants_producer_id } = plan;
        self.shared.settle(settled);
        if !wants_metadata {
            self.refresh_backoff.reset();
        } else if !self.is_refreshing {
            self.is_refreshing = true;
            self.refresh();
        }
        if wants_producer_id && !self.is_identifying {
            self.is_identifying = true;
            self.identify();
        }
        if !to_add.is_empty() && !self.is_adding {
            self.is_adding = true;
            let shared = Arc::clone(&self.shared);
            self.start(async move { Event::Added(verbs::add_partitions(&shared, to_add).await) });
        }
        let is_more = !requests.is_empty();
        for request in requests {
            self.produce(request).await;
        }
        (!is_more).then_some(wait)
    }

    /// Asks for Metadata: at once, but after a while when the last answer did not help.
    fn refresh(&mut self) {
        let topics = self.shared.lock().core.accumulator.topics();
        let is_first = self.refresh_backoff.attempt_count() == 0;
        let wait = self.refresh_backoff.next_wait();
        let shared = Arc::clone(&self.shared);
        self.start(async move {
            if !is_first {
                sleep(wait).await;
            }
            let refreshed = shared.router.refresh(Topics::These(topics), true).await;
            let refreshed = refreshed.map(drop);
            if refreshed.is_ok() {
                shared.router.cluster(|cluster| shared.lock().core.learn(cluster));
                shared.progress.notify_waiters();
            }
            Event::Refreshed(refreshed)
        });
    }

    fn identify(&mut self) {
        let shared = Arc::clone(&self.shared);
        self.start(async move {
            Event::Identified(init_producer_id(&shared.router, shared.config.max_block).await)
        });
    }

    async fn produce(&mut self, request: Request) {
        let Request { broker, batches, .. } = request;
        let transactional_id = self.shared.config.transactional_id.clone();
        let is_transactional = transactional_id.is_some();
        let sent: Vec<_> = batches
            .into_iter()
            .map(|(queue, partition, it)| Sent::new(queue, partition, it, is_transactional))
            .collect();
        let timeout = self.shared.config.request_timeout;
        let acks = self.shared.config.acks;
        let timeout_ms = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
        let request = wire::request(&sent, transactional_id.as_deref(), acks.to_wire(), timeout_ms);
        let connection = self.shared.router.broker(broker, Purpose::Produce);
        let Some(connection) = connection else {
            let nothing = super::core::Said::Nothing { is_in_doubt: false };
            let landed = sent.into_iter().map(|it| it.land(nothing.clone())).collect();
            return self.start(std::future::ready(Event::Produced { broker, landed }));
        };
        let options = CallOptions {
            timeout,
            version_max: self.produce_version(),
            has_answer: acks != Acks::None,
        };
        // In this order requests are written, so in this order brokers see them.
        let answer = connection.send(options, move |_| request).await;
        let shared = Arc::clone(&self.shared);
        self.start(async move {
            let landed = match answer {
                Ok(answer) => land(&shared, answer, sent, acks).await,
                Err(error) => wire::lost(&error, sent),
            };
            Event::Produced { broker, landed }
        });
    }

    fn produce_version(&self) -> i16 {
        let state = self.shared.lock();
        let is_version_1 = state.core.transaction.as_ref().is_some_and(|it| !it.is_version_2);
        if is_version_1 { PRODUCE_VERSION_1 } else { PRODUCE_VERSION_2 }
    }

    fn on(&mut self, event: Event) {
        match event {
            Event::Produced { broker, landed } => {
                let now = self.shared.router.now().monotonic;
                let settled = self.shared.lock().core.land(now, broker, landed);
                self.shared.settle(settled);
                // Also when nothing is settled: someone may wait for nothing being in flight.
                self.shared.progress.notify_waiters();
            }
            Event::Refreshed(refreshed) => {
                self.is_refreshing = false;
                if let Err(error) = refreshed {
                    tracing::debug!(%error, "metadata not refreshed");
                }
            }
            Event::Identified(identified) => {
                self.is_identifying = false;
                match identified {
                    Ok(stamp) => self.shared.lock().core.set_stamp(stamp),
                    Err(error) if error.is_retriable() => {
                        tracing::debug!(%error, "no producer id yet");
                    }
                    Err(error) => self.shared.fail_for_good(Failure::from(&error)),
                }
            }
            Event::Added(partitions) => {
                self.is_adding = false;
                if let Some(transaction) = &mut self.shared.lock().core.transaction {
                    transaction.added(partitions);
                }
                self.shared.progress.notify_waiters();
            }
            Event::VerbEnded => self.has_verb = false,
        }
    }
}

async fn land(
    shared: &Shared,
    answer: Answer<ProduceRequest>,
    sent: Vec<Sent>,
    acks: Acks,
) -> Vec<Landed> {
    match answer.receive().await {
        Ok(_) if acks == Acks::None => wire::unasked(sent),
        Ok(response) => {
            let hints = wire::leaders(&response);
            shared.router.cluster(|cluster: &mut Cluster| {
                for (partition, leader) in hints {
                    cluster.update_leader(&partition, leader);
                }
            });
            wire::said(response, sent)
        }
        Err(error) => wire::lost(&error, sent),
    }
}

/// A producer id for a producer without transactions, from any broker.
pub(super) async fn init_producer_id(
    router: &Router,
    timeout: Duration,
) -> Result<Stamp, RequestError> {
    let attempt = || async {
        let request = InitProducerIdRequest {
            transactional_id: None,
            transaction_timeout_ms: i32::MAX,
            ..InitProducerIdRequest::default()
        };
        let response = router.ask_any(move |_| request).await?;
        let refuse =
            |code| RequestError::code(ApiKey::InitProducerId, "idempotent producer", code, None);
        ErrorCode::from_wire(response.error_code).ok().map_err(refuse)?;
        Ok(Stamp {
            producer_id: ProducerId(response.producer_id),
            producer_epoch: ProducerEpoch(response.producer_epoch),
        })
    };
    router.retry(timeout, "get a producer id", attempt).await
}
