//! Runs shards: loads each from its partition, serves it, and lets replies go when they are true.
//!
//! One task per shard owns it; requests reach it through a bounded mailbox. While a shard loads,
//! requests wait in that mailbox; when it is full they are refused as retriable. The task ends when
//! leadership is lost or an accepted write was lost; the next request, or the next Image, loads the
//! shard anew. Shell.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use protocol::error_code::ErrorCode;
use protocol::ids::{BrokerId, CoordinatorEpoch, Offset, PartitionIndex};
use protocol::ids::{ProducerEpoch, ProducerId, Sequence};
use protocol::record::{BatchBuilder, BatchOptions, ControlError, ControlRecord, RecordBatch};
use protocol::time::Clock;
use tokio::sync::{mpsc, oneshot, watch};

use super::parked::Parked;
use super::route::partition_of;
use super::{KeyValue, Logged, Outcome, Records, Release, Shard, Token, Unavailable, refusal};
use crate::limits::{LOAD_READ_BYTES, SHARD_MAILBOX_MAX, SHARD_PARKED_MAX};
use crate::metadata::{Image, MetadataHandle};
use crate::partition::{
    Acks, Append, AppendError, EndTxnMarker, Origin, PartitionHandle, Partitions,
    VerificationGuard, Watermarks,
};

/// Makes an empty shard for a partition whose leadership has this epoch.
type Make<S> = Box<dyn Fn(PartitionIndex, CoordinatorEpoch) -> S + Send + Sync>;

/// All shards of one internal topic that this broker leads. Clones are the same.
pub struct Coordinator<S: Shard> {
    shared: Arc<Shared<S>>,
}

impl<S: Shard> Clone for Coordinator<S> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

struct Shared<S: Shard> {
    topic: &'static str,
    me: BrokerId,
    metadata: MetadataHandle,
    partitions: Partitions,
    clock: Clock,
    make: Make<S>,
    effects: mpsc::Sender<S::Effect>,
    /// A lock, as every connection looks shards up; held for the look-up alone.
    shards: Mutex<BTreeMap<PartitionIndex, mpsc::Sender<Command<S>>>>,
}

/// What waits until all that it could have seen is committed.
enum Held<S: Shard> {
    Release(Release<S>),
    /// Word that a marker is written.
    Marker(oneshot::Sender<Result<(), ErrorCode>>),
}

enum Command<S: Shard> {
    Request(S::Request, oneshot::Sender<S::Reply>),
    Marker(EndTxnMarker, oneshot::Sender<Result<(), ErrorCode>>),
}

impl<S: Shard> Coordinator<S> {
    /// The coordinator over `topic`. `effects` receives what shards let go for their room's shell.
    pub fn new(
        topic: &'static str,
        me: BrokerId,
        metadata: MetadataHandle,
        partitions: Partitions,
        clock: Clock,
        effects: mpsc::Sender<S::Effect>,
        make: impl Fn(PartitionIndex, CoordinatorEpoch) -> S + Send + Sync + 'static,
    ) -> Self {
        let make: Make<S> = Box::new(make);
        let shards = Mutex::new(BTreeMap::new());
        let shared = Shared { topic, me, metadata, partitions, clock, make, effects, shards };
        Self { shared: Arc::new(shared) }
    }

    /// Asks the shard that holds `key`. Answers once what the answer tells of is committed.
    ///
    /// # Errors
    /// All retriable, after a new look-up of the coordinator.
    pub async fn call(&self, key: &str, request: S::Request) -> Result<S::Reply, Unavailable> {
        let index = self.partition_of(key)?;
        let (reply, answer) = oneshot::channel();
        self.send(index, Command::Request(request, reply))
            .map_err(|code| unavailable(code, key))?;
        let lost = || Unavailable::NotCoordinator { key: key.to_owned() };
        answer.await.map_err(|_| lost())
    }

    /// Ends a client's transaction in partition `index` of this topic. Answers once the marker is
    /// committed.
    ///
    /// # Errors
    /// The code for WriteTxnMarkers; the sender retries all but a fenced coordinator.
    pub async fn write_marker(
        &self,
        index: PartitionIndex,
        marker: EndTxnMarker,
    ) -> Result<(), ErrorCode> {
        let (reply, answer) = oneshot::channel();
        self.send(index, Command::Marker(marker, reply))?;
        answer.await.unwrap_or(Err(ErrorCode::NotLeaderOrFollower))
    }

    /// A guard for what `producer` commits in the shard of partition `index`, to be taken before its
    /// transaction is verified. KIP-890.
    ///
    /// # Errors
    /// Retriable: the partition is not led here, or not well.
    pub async fn guard(
        &self,
        index: PartitionIndex,
        (id, epoch): (ProducerId, ProducerEpoch),
    ) -> Result<VerificationGuard, ErrorCode> {
        let handle = self.shared.partitions.get(self.shared.topic, index);
        let handle = handle.map_err(|_| ErrorCode::NotCoordinator)?;
        let standing = handle.open_transaction(id, epoch).await;
        standing.map(|it| it.guard).map_err(|_| ErrorCode::CoordinatorNotAvailable)
    }

    /// The partition that holds `key`.
    ///
    /// # Errors
    /// `NotAvailable` while the topic does not exist, `NotCoordinator` when it is led elsewhere.
    pub fn partition_of(&self, key: &str) -> Result<PartitionIndex, Unavailable> {
        let image = self.shared.metadata.image();
        let topic = image.topic(self.shared.topic);
        let missing = || Unavailable::NotAvailable { key: key.to_owned() };
        let topic = topic.ok_or_else(missing)?;
        let count =
            i32::try_from(topic.partitions.len()).expect("a topic's partitions fit 32 bits");
        let index = partition_of(key, count);
        let leads = topic.partition(index).is_some_and(|it| it.leader == self.shared.me);
        if leads { Ok(index) } else { Err(Unavailable::NotCoordinator { key: key.to_owned() }) }
    }

    /// The partitions that this broker leads: every shard that it may be asked for.
    #[must_use]
    pub fn led(&self) -> Vec<PartitionIndex> {
        let image = self.shared.metadata.image();
        let Some(topic) = image.topic(self.shared.topic) else { return Vec::new() };
        let count =
            i32::try_from(topic.partitions.len()).expect("a topic's partitions fit 32 bits");
        let ours = |index: &PartitionIndex| {
            topic.partition(*index).is_some_and(|it| it.leader == self.shared.me)
        };
        (0..count).map(PartitionIndex).filter(ours).collect()
    }

    /// Loads every shard that this broker leads, so that each resumes what it left half done.
    pub fn load_all(&self) {
        for index in self.led() {
            let _ = self.mailbox(index);
        }
    }

    /// Asks the shard of one partition; for listings that may lack none.
    ///
    /// # Errors
    /// All retriable.
    pub async fn call_shard(
        &self,
        index: PartitionIndex,
        request: S::Request,
    ) -> Result<S::Reply, ErrorCode> {
        let (reply, answer) = oneshot::channel();
        self.send(index, Command::Request(request, reply))?;
        answer.await.map_err(|_| ErrorCode::NotCoordinator)
    }

    /// Asks every shard that is led here; for listings. Shards that cannot answer are left out.
    pub async fn call_all(&self, request: impl Fn() -> S::Request) -> Vec<S::Reply> {
        let mut replies = Vec::new();
        for index in self.led() {
            let (reply, answer) = oneshot::channel();
            if self.send(index, Command::Request(request(), reply)).is_ok() {
                replies.extend(answer.await.ok());
            }
        }
        replies
    }

    /// Ends all shards: those who wait learn that their coordinator is gone. A later call would
    /// begin anew.
    pub fn stop(&self) {
        self.shared.shards.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn send(&self, index: PartitionIndex, command: Command<S>) -> Result<(), ErrorCode> {
        let mailbox = self.mailbox(index);
        mailbox.try_send(command).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => ErrorCode::CoordinatorLoadInProgress,
            mpsc::error::TrySendError::Closed(_) => ErrorCode::NotCoordinator,
        })
    }

    fn mailbox(&self, index: PartitionIndex) -> mpsc::Sender<Command<S>> {
        let mut shards = self.shared.shards.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(mailbox) = shards.get(&index).filter(|it| !it.is_closed()) {
            return mailbox.clone();
        }
        let (mailbox, commands) = mpsc::channel(SHARD_MAILBOX_MAX);
        shards.insert(index, mailbox.clone());
        tokio::spawn(run(Arc::clone(&self.shared), index, commands));
        mailbox
    }
}

fn unavailable(code: ErrorCode, key: &str) -> Unavailable {
    match code {
        ErrorCode::CoordinatorLoadInProgress => Unavailable::Loading { key: key.to_owned() },
        _ => Unavailable::NotCoordinator { key: key.to_owned() },
    }
}

/// Loads the shard and serves it until leadership, or a write, is lost.
async fn run<S: Shard>(
    shared: Arc<Shared<S>>,
    index: PartitionIndex,
    commands: mpsc::Receiver<Command<S>>,
) {
    let topic = shared.topic;
    let Ok(handle) = shared.partitions.get(topic, index) else { return };
    match Serving::load(&shared, index, handle).await {
        Ok(mut serving) => serving.serve(commands).await,
        Err(error) => tracing::warn!(topic, partition = index.0, %error, "shard not loaded"),
    }
}

/// Why a shard's log could not be read to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    #[error("read at {offset}: {reason}")]
    Read { offset: Offset, reason: String },
    #[error("batch at {offset}: {reason}")]
    Batch { offset: Offset, reason: String },
}

/// A loaded shard and what waits for its log.
struct Serving<'a, S: Shard> {
    shared: &'a Shared<S>,
    handle: PartitionHandle,
    watermarks: watch::Receiver<Watermarks>,
    at: Watermarks,
    images: watch::Receiver<Arc<Image>>,
    shard: S,
    parked: Parked<Held<S>>,
    asked: BTreeMap<Token, oneshot::Sender<S::Reply>>,
    tokens: u64,
}

impl<'a, S: Shard> Serving<'a, S> {
    async fn load(
        shared: &'a Shared<S>,
        index: PartitionIndex,
        handle: PartitionHandle,
    ) -> Result<Self, LoadError> {
        let mut watermarks = handle.watermarks();
        // Opening takes a moment; a partition that never opens is given up by the manager, which
        // drops the sender.
        let opened = watermarks.wait_for(|it| it.online).await.map(|it| *it);
        let at = opened.map_err(|_| LoadError::Read {
            offset: Offset::ZERO,
            reason: "the partition is not online".to_owned(),
        })?;
        let mut shard = (shared.make)(index, CoordinatorEpoch(at.leader_epoch.0));
        let mut offset = at.log_start;
        while offset < at.log_end {
            let fetched = handle.read(offset, LOAD_READ_BYTES).await;
            let fetched =
                fetched.map_err(|error| LoadError::Read { offset, reason: error.to_string() })?;
            let before = offset;
            offset = replay_bytes(&mut shard, shared.clock.now(), fetched.records, offset)?;
            if offset == before {
                break;
            }
        }
        tracing::debug!(topic = shared.topic, partition = index.0, %offset, "shard loaded");
        let parked = Parked::new(at.log_end, at.high_watermark);
        let asked = BTreeMap::new();
        let mut images = shared.metadata.watch();
        shard.follow(Arc::clone(&images.borrow_and_update()), &mut Vec::new());
        Ok(Self { shared, handle, watermarks, at, images, shard, parked, asked, tokens: 0 })
    }

    async fn serve(&mut self, mut commands: mpsc::Receiver<Command<S>>) {
        let mut outcomes = Vec::new();
        self.shard.loaded(self.shared.clock.now(), &mut outcomes);
        self.settle(outcomes).await;
        loop {
            let now = self.shared.clock.now().monotonic;
            let due = self.shard.wake_at().map(|at| at.saturating_sub(now));
            let timer = async {
                match due {
                    Some(wait) => tokio::time::sleep(wait).await,
                    None => std::future::pending().await,
                }
            };
            let lasts = tokio::select! {
                biased;
                changed = self.watermarks.changed() => changed.is_ok() && self.moved().await,
                command = commands.recv(), if self.parked.len() < SHARD_PARKED_MAX => {
                    match command {
                        Some(command) => {
                            self.take(command).await;
                            true
                        }
                        None => false,
                    }
                }
                () = timer => {
                    self.ticked().await;
                    true
                }
            };
            if !lasts {
                // Those who wait learn that their coordinator is gone by its closed channel.
                return;
            }
        }
    }

    /// The positions of the log changed: lets go what is committed now. False: the shard is lost.
    async fn moved(&mut self) -> bool {
        let at = *self.watermarks.borrow_and_update();
        // A rollback took records back that this shard has replayed.
        let lost = !at.online
            || at.leader_epoch != self.at.leader_epoch
            || at.rollbacks != self.at.rollbacks;
        self.at = at;
        if lost {
            tracing::debug!(topic = self.shared.topic, online = at.online, "shard left its log");
            return false;
        }
        for held in self.parked.release(at.high_watermark) {
            self.let_go(held).await;
        }
        true
    }

    /// Metadata that changed since the shard last looked reach it before what follows from them.
    async fn follow(&mut self) {
        if self.images.has_changed().unwrap_or(false) {
            let image = Arc::clone(&self.images.borrow_and_update());
            let mut outcomes = Vec::new();
            self.shard.follow(image, &mut outcomes);
            self.settle(outcomes).await;
        }
    }

    async fn take(&mut self, command: Command<S>) {
        self.follow().await;
        let now = self.shared.clock.now();
        match command {
            Command::Request(request, reply) => {
                self.tokens += 1;
                let token = Token(self.tokens);
                self.asked.insert(token, reply);
                let mut outcomes = Vec::new();
                self.shard.handle(now, token, request, &mut outcomes);
                self.settle(outcomes).await;
            }
            Command::Marker(marker, reply) => {
                // It is replayed in the order of the log; who asked for it hears once it is
                // committed.
                match self.handle.accept_marker(marker).await {
                    Ok(end) => {
                        self.shard.replay_marker(now, marker, end.plus(-1));
                        self.parked.accept(end);
                        if let Some(held) = self.parked.park(Held::Marker(reply)) {
                            self.let_go(held).await;
                        }
                    }
                    Err(error) => {
                        let _ = reply.send(Err(error.code()));
                    }
                }
            }
        }
    }

    async fn ticked(&mut self) {
        self.follow().await;
        let mut outcomes = Vec::new();
        self.shard.tick(self.shared.clock.now(), &mut outcomes);
        self.settle(outcomes).await;
    }

    /// Appends what was decided, replays it once accepted, and parks what follows from it.
    async fn settle(&mut self, outcomes: Vec<Outcome<S>>) {
        for Outcome { records, releases } in outcomes {
            let releases = match records.filter(|it| !it.entries.is_empty()) {
                None => releases,
                Some(records) => match self.append(&records).await {
                    Ok(()) => releases,
                    Err(error) => {
                        tracing::warn!(topic = self.shared.topic, %error, "append refused");
                        let now = self.shared.clock.now();
                        self.shard.refused(now, refusal(&error), releases)
                    }
                },
            };
            for release in releases {
                if let Some(held) = self.parked.park(Held::Release(release)) {
                    self.let_go(held).await;
                }
            }
        }
        #[cfg(any(test, feature = "check"))]
        self.shard.check();
    }

    async fn append(&mut self, records: &Records) -> Result<(), AppendError> {
        let now = self.shared.clock.now();
        let append = Append {
            batches: vec![batch_of(records, now.wall)],
            origin: records.guard.map_or(Origin::Coordinator, Origin::CoordinatorVerified),
            acks: Acks::Accepted,
            leader_epoch: Some(self.at.leader_epoch),
        };
        let appended = self.handle.append(append).await?;
        self.parked.accept(appended.end);
        for (at, entry) in (0..).zip(&records.entries) {
            let record = Logged {
                offset: appended.base_offset.plus(at),
                timestamp: now.wall,
                entry: entry.clone(),
                producer: records.producer,
            };
            self.shard.replay(now, &record);
        }
        Ok(())
    }

    async fn let_go(&mut self, held: Held<S>) {
        match held {
            // Whoever asked may be gone; then nobody wants the answer.
            Held::Release(Release::Reply(token, reply)) => {
                if let Some(asked) = self.asked.remove(&token) {
                    let _ = asked.send(reply);
                }
            }
            Held::Release(Release::Effect(effect)) => {
                let _ = self.shared.effects.send(effect).await;
            }
            Held::Marker(reply) => drop(reply.send(Ok(()))),
        }
    }
}

/// The records as one batch.
pub(crate) fn batch_of(records: &Records, now: protocol::time::Timestamp) -> RecordBatch {
    let mut builder = BatchBuilder::new(BatchOptions::default());
    for entry in &records.entries {
        let added = builder.append(now, Some(&entry.key), entry.value.as_deref(), &[]);
        added.expect("a coordinator's records are bounded by the requests that they come from");
    }
    match records.producer {
        None => builder.finish(ProducerId::NONE, ProducerEpoch::NONE, Sequence::NONE, false),
        // The offsets of a transaction carry its producer but no sequence: the coordinator, not
        // the producer, is who repeats itself.
        Some((id, epoch)) => builder.finish(id, epoch, Sequence::NONE, true),
    }
}

/// Replays all batches in `bytes`; returns the offset after the last.
pub(crate) fn replay_bytes<S: Shard>(
    shard: &mut S,
    now: protocol::time::Now,
    mut bytes: bytes::Bytes,
    mut offset: Offset,
) -> Result<Offset, LoadError> {
    let broken = |offset, reason: String| LoadError::Batch { offset, reason };
    while let Some(batch) =
        RecordBatch::split_first(&mut bytes).map_err(|error| broken(offset, error.to_string()))?
    {
        let header = batch.header();
        if header.attributes.is_control() {
            let record = match ControlRecord::of(&batch) {
                // Compaction may leave a control batch without its record; it ends nothing then.
                Err(ControlError::Empty(_)) => None,
                other => other.map_err(|error| broken(offset, error.to_string()))?,
            };
            let end = match record {
                Some(ControlRecord::Commit { coordinator_epoch }) => {
                    Some((true, coordinator_epoch))
                }
                Some(ControlRecord::Abort { coordinator_epoch }) => {
                    Some((false, coordinator_epoch))
                }
                Some(ControlRecord::Unknown(_)) | None => None,
            };
            if let Some((commit, coordinator_epoch)) = end {
                let marker = EndTxnMarker {
                    producer_id: header.producer_id,
                    producer_epoch: header.producer_epoch,
                    coordinator_epoch,
                    commit,
                    transaction_version: 0,
                };
                shard.replay_marker(now, marker, header.base_offset);
            }
        } else {
            let decoded = batch.decode(LOAD_READ_BYTES.max(batch.bytes().len() * 8));
            let decoded = decoded.map_err(|error| broken(offset, error.to_string()))?;
            let producer = header.attributes.is_transactional();
            let producer = producer.then_some((header.producer_id, header.producer_epoch));
            for record in decoded {
                let record = record.map_err(|error| broken(offset, error.to_string()))?;
                let Some(key) = record.key else { continue };
                shard.replay(
                    now,
                    &Logged {
                        offset: record.offset,
                        timestamp: record.timestamp,
                        entry: KeyValue { key, value: record.value },
                        producer,
                    },
                );
            }
        }
        offset = header.next_offset();
    }
    Ok(offset)
}
