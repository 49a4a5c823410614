//! What we know of the cluster: brokers, topics, who leads what.
//!
//! Built from Metadata answers and from hints in other answers. Knowledge of a partition never
//! goes back in leader epochs while its topic is the same (KIP-320), but a topic with another id
//! is another topic, whose epochs start anew (KIP-516). What failed at a leader is marked stale, so
//! that the next look asks first. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use protocol::api::metadata::{MetadataResponse, MetadataResponseTopic};
use protocol::error_code::ErrorCode;
use protocol::ids::{BrokerId, LeaderEpoch, PartitionIndex, TopicId, TopicPartition};

use crate::net::Endpoint;

/// The cluster as last heard of.
#[derive(Clone, Debug, Default)]
pub struct Cluster {
    cluster_id: Option<String>,
    controller: Option<BrokerId>,
    brokers: BTreeMap<BrokerId, Endpoint>,
    topics: BTreeMap<Arc<str>, Topic>,
    /// When all of it was last asked for.
    updated_at: Option<Duration>,
    is_stale: bool,
}

/// A topic as last heard of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// What tells it from a later one of the same name; zero from brokers before 2.8.
    pub id: TopicId,
    /// Why nothing is known of its partitions; `None` when all is well.
    pub error: ErrorCode,
    /// True for topics of the brokers themselves.
    pub is_internal: bool,
    /// Its partitions.
    pub partitions: BTreeMap<PartitionIndex, Partition>,
}

/// A partition as last heard of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partition {
    /// `None`: there is none at present.
    pub leader: Option<BrokerId>,
    /// The leader's epoch.
    pub leader_epoch: LeaderEpoch,
}

/// The leader of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leader {
    /// Which broker.
    pub broker: BrokerId,
    /// Since when, so to speak.
    pub leader_epoch: LeaderEpoch,
}

impl Topic {
    /// How many partitions it has; 0 while that is not known.
    #[must_use]
    pub fn partition_count(&self) -> u32 {
        u32::try_from(self.partitions.len()).expect("a frame describes fewer partitions")
    }
}

impl Cluster {
    /// Takes in an answer to Metadata, asked for at `now`.
    pub fn update(&mut self, now: Duration, response: &MetadataResponse) {
        self.updated_at = Some(now);
        self.is_stale = false;
        self.cluster_id.clone_from(&response.cluster_id);
        self.brokers.clear();
        for broker in &response.brokers {
            // A broker with an impossible port cannot be reached; it is as if unknown.
            if let Ok(port) = u16::try_from(broker.port) {
                let endpoint = Endpoint::new(broker.host.as_str(), port);
                self.brokers.insert(BrokerId(broker.node_id), endpoint);
            }
        }
        let controller = BrokerId(response.controller_id);
        self.controller = self.brokers.contains_key(&controller).then_some(controller);
        for topic in &response.topics {
            if let Some(name) = &topic.name {
                self.update_topic(name, topic);
            }
        }
    }

    fn update_topic(&mut self, name: &str, told: &MetadataResponseTopic) {
        let known = self.topics.get(name);
        let same = known.filter(|it| it.id == told.topic_id);
        let partitions = told.partitions.iter().map(|told| {
            let index = PartitionIndex(told.partition_index);
            let new = Partition {
                leader: Some(BrokerId(told.leader_id)).filter(|it| it.0 >= 0),
                leader_epoch: LeaderEpoch(told.leader_epoch),
            };
            let known = same.and_then(|it| it.partitions.get(&index)).copied();
            (index, known.filter(|it| it.leader_epoch > new.leader_epoch).unwrap_or(new))
        });
        let topic = Topic {
            id: told.topic_id,
            error: ErrorCode::from_wire(told.error_code),
            is_internal: told.is_internal,
            partitions: partitions.collect(),
        };
        let name = self.topics.get_key_value(name).map_or_else(|| name.into(), |it| it.0.clone());
        self.topics.insert(name, topic);
    }

    /// Takes in what another answer said of a partition's leader. False: it was no news.
    pub fn update_leader(&mut self, partition: &TopicPartition, leader: Leader) -> bool {
        let topic = self.topics.get_mut(&partition.topic);
        let known = topic.and_then(|it| it.partitions.get_mut(&partition.partition));
        let Some(known) = known.filter(|it| it.leader_epoch < leader.leader_epoch) else {
            return false;
        };
        *known = Partition { leader: Some(leader.broker), leader_epoch: leader.leader_epoch };
        true
    }

    /// Forgets all brokers: the cluster says that they are not the ones to ask any more.
    pub fn forget_brokers(&mut self) {
        self.brokers.clear();
        self.controller = None;
        self.is_stale = true;
    }

    /// Takes in that a broker is reached elsewhere than we knew, or that there is a new one.
    pub fn update_broker(&mut self, broker: BrokerId, endpoint: Endpoint) {
        self.brokers.insert(broker, endpoint);
    }

    /// Something failed in a way that better knowledge may mend.
    pub fn mark_stale(&mut self) {
        self.is_stale = true;
    }

    /// True when Metadata must be asked for: never asked, marked stale, too old at `now`, or
    /// silent about one of `topics`.
    #[must_use]
    pub fn needs_update<'a>(
        &self,
        now: Duration,
        max_age: Duration,
        topics: impl IntoIterator<Item = &'a Arc<str>>,
    ) -> bool {
        let is_old = self.updated_at.is_none_or(|at| now.saturating_sub(at) >= max_age);
        is_old || self.is_stale || topics.into_iter().any(|it| !self.topics.contains_key(it))
    }

    /// The topic of this name. `None`: not asked for yet.
    #[must_use]
    pub fn topic(&self, name: &str) -> Option<&Topic> {
        self.topics.get(name)
    }

    /// What the topic with this id is called. `None`: not heard of.
    #[must_use]
    pub fn name_of(&self, id: TopicId) -> Option<&Arc<str>> {
        let of = |(name, topic): (_, &Topic)| (topic.id == id).then_some(name);
        self.topics.iter().find_map(of).filter(|_| id.is_some())
    }

    /// Who leads `partition`. `None`: nobody, or we do not know.
    #[must_use]
    pub fn leader(&self, partition: &TopicPartition) -> Option<Leader> {
        let known = self.topics.get(&partition.topic)?.partitions.get(&partition.partition)?;
        known.leader.map(|broker| Leader { broker, leader_epoch: known.leader_epoch })
    }

    /// Where a broker listens. `None`: it is not among the living.
    #[must_use]
    pub fn endpoint(&self, broker: BrokerId) -> Option<&Endpoint> {
        self.brokers.get(&broker)
    }

    /// The living brokers, by id.
    pub fn brokers(&self) -> impl Iterator<Item = (BrokerId, &Endpoint)> {
        self.brokers.iter().map(|(&id, endpoint)| (id, endpoint))
    }

    /// The controller, or a broker that passes requests on to it.
    #[must_use]
    pub fn controller(&self) -> Option<BrokerId> {
        self.controller
    }

    /// The cluster's id. `None`: not asked yet, or a broker that does not say.
    #[must_use]
    pub fn cluster_id(&self) -> Option<&str> {
        self.cluster_id.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use protocol::api::metadata::{MetadataResponseBroker, MetadataResponsePartition};

    use super::*;

    const ID: TopicId = TopicId([1; 16]);
    const OTHER_ID: TopicId = TopicId([2; 16]);

    fn told(topic_id: TopicId, leader_id: i32, leader_epoch: i32) -> MetadataResponse {
        let broker = |node_id| MetadataResponseBroker {
            node_id,
            host: format!("broker-{node_id}"),
            port: 9092,
            ..MetadataResponseBroker::default()
        };
        MetadataResponse {
            brokers: vec![broker(1), broker(2)],
            controller_id: 2,
            topics: vec![MetadataResponseTopic {
                name: Some("orders".to_owned()),
                topic_id,
                partitions: vec![MetadataResponsePartition {
                    leader_id,
                    leader_epoch,
                    ..MetadataResponsePartition::default()
                }],
                ..MetadataResponseTopic::default()
            }],
            ..MetadataResponse::default()
        }
    }

    /// The leader after both answers, the first with epoch 5 at broker 1.
    fn check(second: &MetadataResponse, want: Option<(i32, i32)>) {
        let mut cluster = Cluster::default();
        cluster.update(Duration::ZERO, &told(ID, 1, 5));
        cluster.update(Duration::ZERO, second);
        let got = cluster.leader(&TopicPartition::new("orders", 0));
        assert_eq!(got.map(|it| (it.broker.0, it.leader_epoch.0)), want);
    }

    #[test]
    fn an_older_epoch_of_the_same_topic_is_no_news() {
        check(&told(ID, 2, 6), Some((2, 6)));
        check(&told(ID, 2, 4), Some((1, 5)));
        check(&told(ID, -1, 6), None);
    }

    #[test]
    fn a_recreated_topic_starts_its_epochs_anew() {
        check(&told(OTHER_ID, 2, 0), Some((2, 0)));
    }

    #[test]
    fn an_older_broker_does_not_tell_epochs_and_its_last_word_counts() {
        let mut cluster = Cluster::default();
        cluster.update(Duration::ZERO, &told(TopicId::ZERO, 1, -1));
        cluster.update(Duration::ZERO, &told(TopicId::ZERO, 2, -1));
        let leader = cluster.leader(&TopicPartition::new("orders", 0));
        assert_eq!(leader.map(|it| it.broker), Some(BrokerId(2)));
    }

    #[test]
    fn a_hint_counts_only_when_its_epoch_is_newer() {
        let mut cluster = Cluster::default();
        cluster.update(Duration::ZERO, &told(ID, 1, 5));
        let partition = TopicPartition::new("orders", 0);
        let hint = |epoch| Leader { broker: BrokerId(2), leader_epoch: LeaderEpoch(epoch) };
        assert!(!cluster.update_leader(&partition, hint(5)));
        assert!(cluster.update_leader(&partition, hint(6)));
        assert_eq!(cluster.leader(&partition), Some(hint(6)));
        assert!(!cluster.update_leader(&TopicPartition::new("unknown", 0), hint(9)));
    }

    #[test]
    fn knowledge_is_renewed_when_old_or_stale_or_silent_about_a_topic() {
        let (orders, other): (Arc<str>, Arc<str>) = ("orders".into(), "other".into());
        let (at, age) = (Duration::from_secs(10), Duration::from_secs(5));
        let mut cluster = Cluster::default();
        assert!(cluster.needs_update(at, age, [&orders]));
        cluster.update(at, &told(ID, 1, 5));
        assert!(!cluster.needs_update(at, age, [&orders]));
        assert!(cluster.needs_update(at, age, [&orders, &other]));
        assert!(cluster.needs_update(at + age, age, [&orders]));
        cluster.mark_stale();
        assert!(cluster.needs_update(at, age, [&orders]));
        assert_eq!(cluster.controller(), Some(BrokerId(2)));
        assert_eq!(cluster.endpoint(BrokerId(1)), Some(&Endpoint::new("broker-1", 9092)));
    }
}
