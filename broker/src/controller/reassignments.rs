//! Partitions move to other brokers, as far as that takes no copying.
//!
//! Records are not copied between brokers, so that a partition stays where its replicas are: an
//! assignment to the brokers that hold it already is carried out at once, in whatever order; one to
//! others is refused instead of never ending. KIP-455. Pure.

use std::collections::BTreeSet;

use protocol::error_code::ErrorCode;
use protocol::ids::{BrokerId, PartitionIndex};
use thiserror::Error;

use super::Outcome;
use super::core::Core;
use crate::metadata::{Image, PartitionChangeRecord, Record};

/// Where a partition is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reassignment {
    /// Its topic.
    pub topic: String,
    /// Which partition.
    pub partition: PartitionIndex,
    /// The brokers, preferred leader first. `None`: end the reassignment that is under way.
    pub replicas: Option<Vec<BrokerId>>,
}

/// Why a partition stays where it is. No retry helps.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ReassignmentError {
    /// There is no such topic.
    #[error("topic {0} does not exist")]
    UnknownTopic(String),
    /// There is no such partition.
    #[error("partition {0}-{1} does not exist")]
    UnknownPartition(String, PartitionIndex),
    /// There is nothing to end.
    #[error("partition {0}-{1}: no reassignment is under way")]
    NotUnderWay(String, PartitionIndex),
    /// The number of replicas may not change.
    #[error("partition {topic}-{partition}: {now} replicas may not become {wanted}")]
    Factor {
        /// The topic.
        topic: String,
        /// The partition.
        partition: PartitionIndex,
        /// How many there are.
        now: usize,
        /// How many were asked for.
        wanted: usize,
    },
    /// The brokers are not possible.
    #[error("partition {topic}-{partition}: {reason}")]
    Replicas {
        /// The topic.
        topic: String,
        /// The partition.
        partition: PartitionIndex,
        /// Why not.
        reason: String,
    },
}

impl ReassignmentError {
    /// The code on the wire.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::UnknownTopic(_) | Self::UnknownPartition(..) => {
                ErrorCode::UnknownTopicOrPartition
            }
            Self::NotUnderWay(..) => ErrorCode::NoReassignmentInProgress,
            Self::Factor { .. } => ErrorCode::InvalidReplicationFactor,
            Self::Replicas { .. } => ErrorCode::InvalidReplicaAssignment,
        }
    }
}

impl Core {
    /// Reassigns partitions; each succeeds or fails alone.
    pub(crate) fn reassign(
        &self,
        image: &Image,
        asked: &[Reassignment],
        may_change_factor: bool,
    ) -> Outcome<Vec<Result<(), ReassignmentError>>> {
        let mut records = Vec::new();
        let mut reply = Vec::new();
        for reassignment in asked {
            let decided = decide(image, reassignment, may_change_factor);
            reply.push(decided.map(|change| records.extend(change)));
        }
        Outcome { records, reply }
    }
}

/// The change of the partition; `None`: it is as asked for already.
fn decide(
    image: &Image,
    asked: &Reassignment,
    may_change_factor: bool,
) -> Result<Option<Record>, ReassignmentError> {
    let Reassignment { topic: name, partition: index, replicas } = asked;
    let topic = image.topic(name).ok_or_else(|| ReassignmentError::UnknownTopic(name.clone()))?;
    let partition = topic
        .partition(*index)
        .ok_or_else(|| ReassignmentError::UnknownPartition(name.clone(), *index))?;
    // None ever begins, so there is none to end.
    let not_under_way = || ReassignmentError::NotUnderWay(name.clone(), *index);
    let wanted = replicas.as_ref().ok_or_else(not_under_way)?;
    let refuse =
        |reason| ReassignmentError::Replicas { topic: name.clone(), partition: *index, reason };
    check(image, wanted).map_err(refuse)?;
    let now = &partition.replicas;
    if !may_change_factor && wanted.len() != now.len() {
        let (now, wanted) = (now.len(), wanted.len());
        return Err(ReassignmentError::Factor {
            topic: name.clone(),
            partition: *index,
            now,
            wanted,
        });
    }
    if wanted == now {
        return Ok(None);
    }
    if wanted.iter().collect::<BTreeSet<_>>() != now.iter().collect() {
        return Err(refuse("records are not copied between brokers".to_owned()));
    }
    let change = PartitionChangeRecord {
        partition_id: index.0,
        topic_id: topic.id,
        replicas: Some(wanted.iter().map(|id| id.0).collect()),
        ..PartitionChangeRecord::default()
    };
    Ok(Some(change.into()))
}

/// Whether these are brokers, each named once.
fn check(image: &Image, replicas: &[BrokerId]) -> Result<(), String> {
    if replicas.is_empty() {
        return Err("an assignment needs at least one broker".to_owned());
    }
    let mut named = BTreeSet::new();
    for id in replicas {
        if image.broker(*id).is_none() {
            return Err(format!("broker {id} is not registered"));
        }
        if !named.insert(*id) {
            return Err(format!("broker {id} is named twice"));
        }
    }
    Ok(())
}
