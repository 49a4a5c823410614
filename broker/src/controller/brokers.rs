//! Brokers come back, or never will: registration, its end, and what follows from both.
//!
//! A registration gets an epoch larger than any before, the place in the metadata log at which it
//! was decided on. The broker's partitions get a new leader epoch with it: its logs may have lost
//! an unacknowledged tail, and offsets that are written a second time must be told apart from what
//! some consumer may have seen the first time (KIP-101, KIP-320). KIP-631. Pure.

use protocol::error_code::ErrorCode;
use protocol::ids::{BrokerEpoch, BrokerId, TopicId};
use thiserror::Error;

use super::Outcome;
use super::core::Core;
use crate::config::Endpoint;
use crate::metadata::{
    Broker, BrokerFeature, FeatureLevelRecord, Image, Partition, PartitionChangeRecord, Record,
    UnregisterBrokerRecord,
};

/// The level of Kafka's metadata that our clusters finalise: that of Kafka 4.3.
pub const METADATA_VERSION: i16 = 30;
/// The level of Kafka's transactions that our clusters finalise: epochs are raised at the end of
/// every transaction. KIP-890.
pub const TRANSACTION_VERSION: i16 = 2;

/// The level of Kafka's groups that our clusters finalise: members may be assigned by their
/// coordinator. KIP-848.
pub const GROUP_VERSION: i16 = 1;

/// The features that a broker of this release can run: name, lowest and highest level.
#[must_use]
pub fn supported_features() -> [(&'static str, i16, i16); 3] {
    // Kafka 3.3, the first that could run without ZooKeeper, is level 7.
    [
        ("group.version", 0, GROUP_VERSION),
        ("metadata.version", 7, METADATA_VERSION),
        ("transaction.version", 0, TRANSACTION_VERSION),
    ]
}

/// Why a broker stays registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum UnregisterError {
    /// No such broker is registered.
    #[error("broker {0} is not registered")]
    Unknown(BrokerId),
    /// The broker runs. A broker registers when it starts, and not again.
    #[error("broker {0} is running: stop it first")]
    Running(BrokerId),
}

impl UnregisterError {
    /// The code on the wire.
    #[must_use]
    pub fn code(self) -> ErrorCode {
        match self {
            Self::Unknown(_) => ErrorCode::BrokerIdNotRegistered,
            Self::Running(_) => ErrorCode::InvalidRequest,
        }
    }
}

/// A broker that wants to take part.
#[derive(Clone, Debug, PartialEq)]
pub struct Registration {
    /// Its id.
    pub id: BrokerId,
    /// This run of its process.
    pub incarnation_id: TopicId,
    /// Where clients reach it, one per listener.
    pub endpoints: Vec<Endpoint>,
    /// Where it stands.
    pub rack: Option<String>,
}

impl Core {
    /// Registers a broker, which may lead from then on, and finalises the cluster's features at
    /// its first registration. A registration of the same broker ends the one before: the lock on
    /// its data directory keeps two of its processes apart.
    pub(crate) fn register_broker(
        &self,
        image: &Image,
        registration: Registration,
    ) -> Outcome<BrokerEpoch> {
        let Registration { id, incarnation_id, endpoints, rack } = registration;
        let epoch = BrokerEpoch(image.end.0.saturating_add(1));
        assert!(image.broker(id).is_none_or(|before| before.epoch < epoch));
        let feature = |(name, min_supported_version, max_supported_version)| BrokerFeature {
            name: String::from(name),
            min_supported_version,
            max_supported_version,
        };
        let features = supported_features().into_iter().map(feature).collect();
        let (is_fenced, in_controlled_shutdown) = (false, false);
        let broker = Broker {
            id,
            epoch,
            incarnation_id,
            endpoints,
            features,
            rack,
            is_fenced,
            in_controlled_shutdown,
        };
        let mut records = unfinalised(image);
        records.push(broker.to_record().into());
        records.extend(elections(image, id));
        Outcome { records, reply: epoch }
    }

    /// Forgets a broker that is gone for good. What it held is not in sync any more; where it held
    /// the only copy, it stays the one that could lead. KIP-631.
    pub(crate) fn unregister_broker(
        &self,
        image: &Image,
        id: BrokerId,
    ) -> Outcome<Result<(), UnregisterError>> {
        let refuse = |error| Outcome { records: Vec::new(), reply: Err(error) };
        let Some(broker) = image.broker(id) else { return refuse(UnregisterError::Unknown(id)) };
        if !broker.is_fenced {
            return refuse(UnregisterError::Running(id));
        }
        let mut records: Vec<Record> = departures(image, id).collect();
        let broker_epoch = broker.epoch.0;
        records.push(UnregisterBrokerRecord { broker_id: id.0, broker_epoch }.into());
        Outcome { records, reply: Ok(()) }
    }
}

/// What changes for each partition that `id` leads or is in sync with.
fn departures(image: &Image, id: BrokerId) -> impl Iterator<Item = Record> {
    let is_active =
        move |it: &BrokerId| *it != id && image.active_brokers().any(|broker| broker.id == *it);
    image.topics().flat_map(move |topic| {
        let held = topic.indices().zip(&topic.partitions);
        let held = held.filter(move |(_, it)| it.leader == id || it.isr.contains(&id));
        held.map(move |(index, partition)| {
            let isr: Vec<_> = partition.isr.iter().filter(|it| **it != id).map(|it| it.0).collect();
            let mut change = PartitionChangeRecord {
                partition_id: index.0,
                topic_id: topic.id,
                ..PartitionChangeRecord::default()
            };
            if partition.leader == id {
                let next = partition.isr.iter().copied().find(is_active);
                change.leader = next.unwrap_or(BrokerId::NONE).0;
            }
            // The last in-sync replica is the only one that has everything: it stays in the set.
            change.isr = (!isr.is_empty()).then_some(isr);
            change.into()
        })
    })
}

/// The features that the cluster has not finalised yet.
fn unfinalised(image: &Image) -> Vec<Record> {
    // One that was given up stays so: its level is known to be 0.
    let is_missing = |name: &str| image.feature(name).is_none();
    let missing = supported_features().into_iter().filter(|(name, _, _)| is_missing(name));
    missing
        .map(|(name, _, feature_level)| {
            FeatureLevelRecord { name: name.into(), feature_level }.into()
        })
        .collect()
}

/// A new leader epoch for each partition that `id` leads, or may lead while nobody does.
fn elections(image: &Image, id: BrokerId) -> impl Iterator<Item = Record> {
    let elects = move |partition: &Partition| {
        let is_free = partition.leader == BrokerId::NONE && partition.isr.contains(&id);
        partition.leader == id || is_free
    };
    image.topics().flat_map(move |topic| {
        let partitions = topic.indices().zip(&topic.partitions);
        let elected = partitions.filter(move |(_, partition)| elects(partition));
        elected.map(move |(index, _)| {
            let rest = PartitionChangeRecord::default();
            let (partition_id, topic_id) = (index.0, topic.id);
            PartitionChangeRecord { partition_id, topic_id, leader: id.0, ..rest }.into()
        })
    })
}
