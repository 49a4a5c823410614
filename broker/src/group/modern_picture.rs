//! A consumer group as others see it: described for people.
//!
//! Topics are named as the metadata name them now; one that was deleted has no name and is left out.
//!
//! Pure.

use std::collections::BTreeSet;
use std::sync::Arc;

use protocol::ids::{PartitionIndex, TopicId};

use super::assignor::Assignment;
use super::beat::ConsumerSettings;
use super::heartbeat::preferred;
use super::modern::{ConsumerGroup, Epoch, Member, Subscriber};
use crate::metadata::Image;

/// Partitions of topics, with their names.
pub type NamedAssignment = Vec<(TopicId, Arc<str>, BTreeSet<PartitionIndex>)>;

/// What is known of a consumer group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerDescription {
    /// The state's name, as Kafka spells it.
    pub state: &'static str,
    /// The group's epoch.
    pub epoch: Epoch,
    /// The epoch of its target.
    pub target_epoch: Epoch,
    /// The assignor that makes the target.
    pub assignor: &'static str,
    /// The members.
    pub members: Vec<ConsumerMember>,
}

/// A member, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerMember {
    /// Its member id.
    pub member_id: Arc<str>,
    /// What it told of itself.
    pub subscriber: Arc<Subscriber>,
    /// Its epoch.
    pub epoch: Epoch,
    /// What it may read.
    pub assignment: NamedAssignment,
    /// What it should read in the end.
    pub target: NamedAssignment,
}

impl ConsumerGroup {
    /// The group, for people.
    #[must_use]
    pub fn describe(&self, settings: &ConsumerSettings, image: &Image) -> ConsumerDescription {
        let named = |assignment: &Assignment| -> NamedAssignment {
            let topics = assignment.iter().filter_map(|(id, indices)| {
                let topic = image.topic_by_id(*id)?;
                Some((*id, Arc::clone(&topic.name), indices.clone()))
            });
            topics.collect()
        };
        let member =
            |(id, member, subscriber): (&Arc<str>, &Member, &Arc<Subscriber>)| ConsumerMember {
                member_id: Arc::clone(id),
                subscriber: Arc::clone(subscriber),
                epoch: member.current.epoch,
                assignment: named(&member.current.assigned),
                target: named(&member.target),
            };
        ConsumerDescription {
            state: self.state_name(),
            epoch: self.epoch,
            target_epoch: self.target_epoch,
            assignor: preferred(self, settings).name(),
            members: self.subscribers().map(member).collect(),
        }
    }
}
