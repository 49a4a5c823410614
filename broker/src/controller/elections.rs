//! Another replica takes the lead because an operator says so.
//!
//! A preferred election gives a partition back to the first of its replicas, if that is alive and
//! in sync. An unclean one gives a partition that nobody leads to any replica that is alive, in
//! sync or not: what only the others hold is lost. KIP-460. Pure.

use std::collections::BTreeSet;
use std::sync::Arc;

use protocol::error_code::ErrorCode;
use protocol::ids::{BrokerId, PartitionIndex};
use thiserror::Error;

use super::Outcome;
use super::core::Core;
use crate::metadata::{Image, Partition, PartitionChangeRecord, Topic};

/// Who may win an election.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Election {
    /// The first replica alone.
    Preferred,
    /// Where nobody leads, the first replica that is alive; those in sync before the others.
    Unclean,
}

/// Partitions of one topic that are to be led anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ElectionTopic {
    /// The topic.
    pub name: Arc<str>,
    /// Its partitions.
    pub partitions: Vec<PartitionIndex>,
}

/// What became of the elections in one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ElectedTopic {
    /// The topic.
    pub name: Arc<str>,
    /// What became of each.
    pub partitions: Vec<(PartitionIndex, Result<(), ElectionError>)>,
}

/// Why a partition's leader stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ElectionError {
    /// There is no such partition.
    #[error("no such topic or partition")]
    Unknown,
    /// The partition is led as asked for already.
    #[error("the partition is led as asked for already")]
    NotNeeded,
    /// The first replica is not alive, or not in sync. Retriable.
    #[error("the preferred replica is not alive and in sync")]
    PreferredNotAvailable,
    /// No replica is alive. Retriable.
    #[error("no replica is alive")]
    NoneAvailable,
}

impl ElectionError {
    /// The code on the wire.
    #[must_use]
    pub fn code(self) -> ErrorCode {
        match self {
            Self::Unknown => ErrorCode::UnknownTopicOrPartition,
            Self::NotNeeded => ErrorCode::ElectionNotNeeded,
            Self::PreferredNotAvailable => ErrorCode::PreferredLeaderNotAvailable,
            Self::NoneAvailable => ErrorCode::EligibleLeadersNotAvailable,
        }
    }
}

impl Core {
    /// Elects leaders of `asked`, or of every partition; then those that are led as asked for
    /// already are left out of the answer.
    pub(crate) fn elect_leaders(
        &self,
        image: &Image,
        election: Election,
        asked: Option<&[ElectionTopic]>,
    ) -> Outcome<Vec<ElectedTopic>> {
        let mut records = Vec::new();
        // One decision for each, however often it is named: the next would not see the first.
        let mut decided = BTreeSet::new();
        let mut decide = |name: &Arc<str>, index: PartitionIndex| {
            let topic = image.topic(name).ok_or(ElectionError::Unknown)?;
            let partition = topic.partition(index).ok_or(ElectionError::Unknown)?;
            if !decided.insert((name.clone(), index)) {
                return Err(ElectionError::NotNeeded);
            }
            records.push(elect(image, election, topic, index, partition)?.into());
            Ok(())
        };
        let mut elected = |name: &Arc<str>, indices: &mut dyn Iterator<Item = PartitionIndex>| {
            let partitions = indices.map(|index| (index, decide(name, index))).collect();
            ElectedTopic { name: name.clone(), partitions }
        };
        let reply = match asked {
            Some(asked) => asked
                .iter()
                .map(|topic| elected(&topic.name, &mut topic.partitions.iter().copied()))
                .collect(),
            None => {
                let all = image.topics().map(|topic| elected(&topic.name, &mut topic.indices()));
                let mut all: Vec<ElectedTopic> = all.collect();
                for topic in &mut all {
                    topic.partitions.retain(|(_, done)| *done != Err(ElectionError::NotNeeded));
                }
                all
            }
        };
        Outcome { records, reply }
    }
}

fn elect(
    image: &Image,
    election: Election,
    topic: &Topic,
    index: PartitionIndex,
    partition: &Partition,
) -> Result<PartitionChangeRecord, ElectionError> {
    let Partition { leader, replicas, isr, .. } = partition;
    let is_alive = |id: &BrokerId| image.active_brokers().any(|broker| broker.id == *id);
    let change = PartitionChangeRecord {
        partition_id: index.0,
        topic_id: topic.id,
        ..PartitionChangeRecord::default()
    };
    match election {
        Election::Preferred => {
            let preferred = replicas.first().copied().unwrap_or(BrokerId::NONE);
            if *leader == preferred {
                return Err(ElectionError::NotNeeded);
            }
            if !is_alive(&preferred) || !isr.contains(&preferred) {
                return Err(ElectionError::PreferredNotAvailable);
            }
            Ok(PartitionChangeRecord { leader: preferred.0, ..change })
        }
        Election::Unclean => {
            if *leader != BrokerId::NONE {
                return Err(ElectionError::NotNeeded);
            }
            let in_sync = replicas.iter().find(|id| isr.contains(id) && is_alive(id));
            if let Some(next) = in_sync {
                return Ok(PartitionChangeRecord { leader: next.0, ..change });
            }
            let next = replicas.iter().find(|id| is_alive(id));
            let next = next.ok_or(ElectionError::NoneAvailable)?;
            // The others follow it from now on: none of them is in sync with what it has.
            Ok(PartitionChangeRecord { leader: next.0, isr: Some(vec![next.0]), ..change })
        }
    }
}
