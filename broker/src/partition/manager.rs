//! Which partitions this broker leads, as the Image says.
//!
//! One task follows the Image: it starts what this broker now leads, tells what changed, stops what
//! it lost, and deletes the logs of topics that are gone. A new log of a name is not begun before
//! the old one is deleted. Logs are opened when they are first needed, and otherwise one after the
//! other in the background, so that ten thousand partitions neither delay the start nor stand in
//! the way of the first request. Shell.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use protocol::error_code::ErrorCode;
use protocol::ids::{BrokerId, PartitionIndex, TopicId, TopicPartition};
use protocol::time::Clock;
use tokio::sync::mpsc;
use tracing::{debug, error, info, warn};

use super::core::{Event, Leadership};
use super::handle::PartitionHandle;
use super::shell::{Identity, Leaving, Partition};
use crate::config::{BrokerConfig, TopicConfig};
use crate::log::{DirHandle, LogConfig};
use crate::metadata::{Delta, Image, MetadataHandle, Resource, Topic, Update};

/// How often partitions forget what is old.
const TICK: Duration = Duration::from_secs(600);

/// Why a partition cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    /// No topic has this name, as far as this broker knows. Retriable after a refresh.
    #[error("topic {0} is not known")]
    UnknownTopic(Arc<str>),
    /// No topic has this id, as far as this broker knows. Retriable after a refresh. KIP-516.
    #[error("topic id {0} is not known")]
    UnknownTopicId(TopicId),
    /// The topic has no such partition, as far as this broker knows.
    #[error("partition {0} is not known")]
    UnknownPartition(TopicPartition),
    /// Another broker leads it, or none. Retriable after a refresh.
    #[error("partition {0} is not led by this broker")]
    NotLeader(TopicPartition),
}

impl LookupError {
    /// Kafka's code for it.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::UnknownTopic(_) | Self::UnknownPartition(_) => ErrorCode::UnknownTopicOrPartition,
            Self::UnknownTopicId(_) => ErrorCode::UnknownTopicId,
            Self::NotLeader(_) => ErrorCode::NotLeaderOrFollower,
        }
    }
}

/// The partitions that this broker leads. Clones are the same.
#[derive(Clone, Debug)]
pub struct Partitions {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    own: BrokerId,
    /// What this broker was started with.
    start: Arc<BrokerConfig>,
    /// What holds now. A lock, as one task changes it and lookups of settings read it; held for
    /// the copy of a pointer.
    config: RwLock<Arc<BrokerConfig>>,
    metadata: MetadataHandle,
    dir: DirHandle,
    clock: Clock,
    /// A lock, as every request looks partitions up and one task changes them; held for a look-up
    /// or a change of the map, never while waiting.
    led: RwLock<Led>,
}

#[derive(Debug, Default)]
struct Led {
    topics: BTreeMap<Arc<str>, LedTopic>,
    names: BTreeMap<TopicId, Arc<str>>,
}

#[derive(Debug)]
struct LedTopic {
    id: TopicId,
    config: Arc<TopicConfig>,
    partitions: BTreeMap<PartitionIndex, PartitionHandle>,
}

impl Shared {
    fn config(&self) -> Arc<BrokerConfig> {
        self.config.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Partitions {
    /// Starts to follow the Image of `metadata`. What it leads now is known when this returns.
    ///
    /// Those logs of `strays` that no topic of the Image owns are deleted first, so that they are
    /// not in the way of a newer topic of their name.
    pub async fn start(
        config: Arc<BrokerConfig>,
        metadata: MetadataHandle,
        dir: DirHandle,
        strays: Vec<(TopicPartition, Option<TopicId>)>,
        clock: Clock,
    ) -> Self {
        let own = BrokerId(config.node_id);
        delete_strays(&metadata.image(), &dir, strays).await;
        let mut updates = metadata.subscribe().await;
        let (start, config) = (config.clone(), RwLock::new(config));
        let shared = Shared { own, start, config, metadata, dir, clock, led: RwLock::default() };
        let this = Self { shared: Arc::new(shared) };
        if let Some(update) = updates.recv().await {
            this.follow(update).await;
        }
        tokio::spawn(this.clone().run(updates));
        this
    }

    /// The partition `index` of the topic of this name.
    ///
    /// # Errors
    /// See [`LookupError`].
    pub fn get(&self, topic: &str, index: PartitionIndex) -> Result<PartitionHandle, LookupError> {
        let led = self.shared.led.read().unwrap_or_else(PoisonError::into_inner);
        let found = led.topics.get(topic).and_then(|topic| topic.partitions.get(&index));
        if let Some(found) = found {
            return Ok(found.clone());
        }
        drop(led);
        let image = self.shared.metadata.image();
        match image.topic(topic) {
            Some(topic) => Err(missing(topic, index)),
            None => Err(LookupError::UnknownTopic(topic.into())),
        }
    }

    /// The partition `index` of the topic of this id.
    ///
    /// # Errors
    /// See [`LookupError`].
    pub fn get_by_id(
        &self,
        topic: TopicId,
        index: PartitionIndex,
    ) -> Result<PartitionHandle, LookupError> {
        let led = self.shared.led.read().unwrap_or_else(PoisonError::into_inner);
        let known = led.names.get(&topic).and_then(|name| led.topics.get(name));
        if let Some(found) = known.and_then(|topic| topic.partitions.get(&index)) {
            return Ok(found.clone());
        }
        drop(led);
        let image = self.shared.metadata.image();
        match image.topic_by_id(topic) {
            Some(topic) => Err(missing(topic, index)),
            None => Err(LookupError::UnknownTopicId(topic)),
        }
    }

    /// The broker's settings as they are now.
    pub(super) fn broker_config(&self) -> Arc<BrokerConfig> {
        self.shared.config()
    }

    /// All partitions led here, by topic and index.
    #[must_use]
    pub fn all(&self) -> Vec<PartitionHandle> {
        let led = self.shared.led.read().unwrap_or_else(PoisonError::into_inner);
        led.topics.values().flat_map(|topic| topic.partitions.values().cloned()).collect()
    }

    /// Stops all partitions, their logs closed in good order. Requests are refused from then on.
    pub async fn stop(&self) {
        let led = {
            let mut led = self.shared.led.write().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *led)
        };
        let partitions: Vec<_> =
            led.topics.into_values().flat_map(|topic| topic.partitions.into_values()).collect();
        // All are asked before the first is waited for: their logs close side by side.
        let leaving: Vec<_> =
            partitions.iter().map(|partition| partition.0.leave(Leaving::Close)).collect();
        for left in leaving {
            left.await;
        }
    }

    async fn run(self, mut updates: mpsc::Receiver<Update>) {
        let opener = tokio::spawn(self.clone().open_all());
        let mut tick = tokio::time::interval(TICK);
        let mut retention = tokio::time::interval(self.shared.start.log_retention_check_interval);
        // The logs are about to be opened: there is nothing to look at yet.
        retention.reset();
        loop {
            tokio::select! {
                biased;
                update = updates.recv() => match update {
                    Some(update) => self.follow(update).await,
                    None => break,
                },
                _ = tick.tick() => self.tick(),
                _ = retention.tick() => self.all().iter().for_each(|it| it.0.retain()),
            }
        }
        opener.abort();
    }

    /// Opens what nobody has asked for yet, one log at a time.
    async fn open_all(self) {
        for partition in self.all() {
            if let Err(error) = partition.0.reader().await {
                warn!(%error, "the log could not be opened");
            }
        }
        debug!("all logs are open");
    }

    fn tick(&self) {
        let producer_expiration = self.shared.config().producer_id_expiration;
        for partition in self.all() {
            partition.0.tell_if_open(Event::Tick { producer_expiration });
        }
    }

    async fn follow(&self, (image, delta): Update) {
        if delta.configs.iter().any(|it| matches!(it, Resource::Broker(_))) {
            let config = Arc::new(image.broker_config(&self.shared.start).into_owned());
            *self.shared.config.write().unwrap_or_else(PoisonError::into_inner) = config;
        }
        for topic in delta.removed.values() {
            self.remove(topic).await;
        }
        for (id, index) in &delta.partitions {
            if let Some(topic) = image.topic_by_id(*id) {
                self.place(&image, topic, *index).await;
            }
        }
        self.reconfigure(&image, &delta);
    }

    /// Starts, changes or stops one partition as the Image says.
    async fn place(&self, image: &Image, topic: &Topic, index: PartitionIndex) {
        let known = self.known(topic, index);
        let config = self.config_of(image, topic);
        let Some(leadership) = self.leadership(&config, topic, index) else {
            if let Some(partition) = known {
                self.forget(topic, index);
                info!(partition = %partition.partition(), "leads no more");
                partition.0.leave(Leaving::Close).await;
            }
            return;
        };
        match known {
            Some(partition) => partition.0.lead(leadership, config),
            None => self.start_partition(config, topic, index, leadership),
        }
    }

    fn start_partition(
        &self,
        config: Arc<TopicConfig>,
        topic: &Topic,
        index: PartitionIndex,
        leadership: Leadership,
    ) {
        let shared = &self.shared;
        let partition = TopicPartition { topic: topic.name.clone(), partition: index };
        let mut led = shared.led.write().unwrap_or_else(PoisonError::into_inner);
        let led_topic = led.topics.entry(topic.name.clone()).or_insert_with(|| LedTopic {
            id: topic.id,
            config,
            partitions: BTreeMap::new(),
        });
        assert_eq!(led_topic.id, topic.id, "a topic is removed before another takes its name");
        let identity = Identity { partition, topic_id: topic.id };
        let config = led_topic.config.clone();
        let (dir, clock) = (shared.dir.clone(), shared.clock.clone());
        let partition = Partition::new(identity, leadership, config, dir, clock);
        led_topic.partitions.insert(index, PartitionHandle(partition));
        led.names.insert(topic.id, topic.name.clone());
    }

    /// What holds for a topic: what its partitions know, as long as it has not changed.
    fn config_of(&self, image: &Image, topic: &Topic) -> Arc<TopicConfig> {
        let led = self.shared.led.read().unwrap_or_else(PoisonError::into_inner);
        match led.topics.get(&topic.name) {
            Some(led_topic) => led_topic.config.clone(),
            None => Arc::new(topic_config(&self.shared.config(), image, &topic.name)),
        }
    }

    fn known(&self, topic: &Topic, index: PartitionIndex) -> Option<PartitionHandle> {
        let led = self.shared.led.read().unwrap_or_else(PoisonError::into_inner);
        led.topics.get(&topic.name)?.partitions.get(&index).cloned()
    }

    fn forget(&self, topic: &Topic, index: PartitionIndex) {
        let mut led = self.shared.led.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(topic) = led.topics.get_mut(&topic.name) {
            topic.partitions.remove(&index);
        }
    }

    async fn remove(&self, topic: &Topic) {
        let removed = {
            let mut led = self.shared.led.write().unwrap_or_else(PoisonError::into_inner);
            led.names.remove(&topic.id);
            led.topics.remove(&topic.name)
        };
        let partitions = removed.into_iter().flat_map(|it| it.partitions.into_values());
        let leaving: Vec<_> = partitions.map(|it| it.0.leave(Leaving::Delete)).collect();
        for left in leaving {
            left.await;
        }
        info!(topic = %topic.name, id = %topic.id, "deleted");
    }

    /// What the Image says of a partition of these settings, if this broker leads it.
    fn leadership(
        &self,
        config: &TopicConfig,
        topic: &Topic,
        index: PartitionIndex,
    ) -> Option<Leadership> {
        let partition = topic.partition(index).filter(|it| it.leader == self.shared.own)?;
        let jitter_seed = jitter_seed(topic.id, index);
        Some(Leadership {
            leader_epoch: partition.leader_epoch,
            own: self.shared.own,
            isr: partition.isr.clone(),
            replica_count: partition.replicas.len(),
            min_insync_replicas: usize::try_from(config.min_insync_replicas).unwrap_or(1),
            flush_mode: config.flush_mode,
            flush_records: u64::try_from(config.flush_messages).unwrap_or(u64::MAX),
            flush_interval: Duration::from_millis(u64::try_from(config.flush_ms).unwrap_or(0)),
            log: LogConfig { jitter_seed, ..LogConfig::of(config) },
        })
    }

    /// Tells partitions of the settings that changed.
    fn reconfigure(&self, image: &Image, delta: &Delta) {
        let all_changed = delta.configs.iter().any(|it| matches!(it, Resource::Broker(_)));
        let changed = |topic: &Arc<str>| {
            all_changed || delta.configs.contains(&Resource::Topic(topic.clone()))
        };
        let mut led = self.shared.led.write().unwrap_or_else(PoisonError::into_inner);
        for (name, led_topic) in led.topics.iter_mut().filter(|(name, _)| changed(name)) {
            let Some(topic) = image.topic(name) else { continue };
            led_topic.config = Arc::new(topic_config(&self.shared.config(), image, name));
            for (index, partition) in &led_topic.partitions {
                if let Some(leadership) = self.leadership(&led_topic.config, topic, *index) {
                    partition.0.lead(leadership, led_topic.config.clone());
                }
            }
        }
    }
}

/// Deletes those logs of `found` that no topic of the Image owns: their topics were deleted while
/// this broker was away.
async fn delete_strays(
    image: &Image,
    dir: &DirHandle,
    found: Vec<(TopicPartition, Option<TopicId>)>,
) {
    for (partition, topic_id) in found {
        let owner = topic_id.and_then(|id| image.topic_by_id(id));
        if owner.is_some_and(|topic| topic.partition(partition.partition).is_some()) {
            continue;
        }
        let topic_id = topic_id.unwrap_or_default();
        let deleted = async {
            let opened = dir.open(partition.clone(), topic_id, LogConfig::default()).await?;
            dir.delete(opened.id).await
        };
        match deleted.await {
            Ok(()) => info!(%partition, %topic_id, "deleted the log of a topic that is gone"),
            Err(error) => warn!(%partition, %topic_id, %error, "a stray log stays"),
        }
    }
}

/// What tells the rolling of one partition's segments from that of others.
fn jitter_seed(topic: TopicId, index: PartitionIndex) -> u64 {
    let id = topic.0.first_chunk().map_or(0, |head| u64::from_be_bytes(*head));
    id.wrapping_add(u64::try_from(index.0).unwrap_or(0))
}

fn missing(topic: &Topic, index: PartitionIndex) -> LookupError {
    let partition = TopicPartition { topic: topic.name.clone(), partition: index };
    match topic.partition(index) {
        Some(_) => LookupError::NotLeader(partition),
        None => LookupError::UnknownPartition(partition),
    }
}

/// What holds for the topic of this name. Its settings were checked when they were committed; one
/// that a newer broker committed and this one refuses leaves the defaults in force.
fn topic_config(broker: &BrokerConfig, image: &Image, topic: &str) -> TopicConfig {
    TopicConfig::of(broker, image.topic_configs(topic)).unwrap_or_else(|error| {
        error!(topic, %error, "settings are not valid here; the defaults hold");
        TopicConfig::of(broker, []).expect("the broker's own settings are valid for topics")
    })
}
