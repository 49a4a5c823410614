//! What changed between two Images.
//!
//! A Delta accumulates while records are applied and is handed out with the Image they led to.
//! What was created and removed in between leaves no trace: nobody saw it. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use protocol::ids::{BrokerId, PartitionIndex, TopicId};

use super::image::{Image, Topic};
use super::resource::Resource;

/// What changed between two Images.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Delta {
    /// Topics that are new, with their names.
    pub created: BTreeMap<TopicId, Arc<str>>,
    /// Topics that are gone, as they last were.
    pub removed: BTreeMap<TopicId, Arc<Topic>>,
    /// Partitions that are new or changed, those of created topics among them.
    pub partitions: BTreeSet<(TopicId, PartitionIndex)>,
    /// Resources whose settings changed.
    pub configs: BTreeSet<Resource>,
    /// Brokers that came, changed or left.
    pub brokers: BTreeSet<BrokerId>,
    /// True when a quota of clients changed.
    pub quotas: bool,
    /// True when it changed who may do what.
    pub acls: bool,
}

impl Delta {
    /// What changed between nothing and `image`: the first thing a new subscriber sees.
    #[must_use]
    pub fn all_of(image: &Image) -> Self {
        let mut delta = Self::default();
        for topic in image.topics() {
            delta.created.insert(topic.id, topic.name.clone());
            let partitions = topic.indices().map(|partition| (topic.id, partition));
            delta.partitions.extend(partitions);
        }
        delta.configs.extend(image.configured().cloned());
        delta.brokers.extend(image.brokers().map(|broker| broker.id));
        delta.quotas = !image.quotas().is_empty();
        delta.acls = !image.acls().is_empty();
        delta
    }

    /// What changed between `old` and `new`, both fold of the same log. Used where the records
    /// in between are not to be had: after a snapshot was installed.
    #[must_use]
    pub fn between(old: &Image, new: &Image) -> Self {
        let mut delta = Self::default();
        for topic in old.topics().filter(|topic| new.topic_by_id(topic.id).is_none()) {
            delta.removed.insert(topic.id, topic.clone());
        }
        for topic in new.topics() {
            let before = old.topic_by_id(topic.id);
            if before.is_none() {
                delta.created.insert(topic.id, topic.name.clone());
            }
            let differs = |index: &PartitionIndex| {
                before.and_then(|topic| topic.partition(*index)) != topic.partition(*index)
            };
            let partitions = topic.indices().filter(differs);
            delta.partitions.extend(partitions.map(|partition| (topic.id, partition)));
        }
        let resources = old.configured().chain(new.configured());
        let differs = |resource: &&Resource| !old.configs(resource).eq(new.configs(resource));
        delta.configs.extend(resources.filter(differs).cloned());
        let brokers = old.brokers().chain(new.brokers()).map(|broker| broker.id);
        delta.brokers.extend(brokers.filter(|&id| old.broker(id) != new.broker(id)));
        delta.quotas = old.quotas() != new.quotas();
        delta.acls = old.acls() != new.acls();
        delta
    }

    /// True when nothing that a subscriber could see has changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    pub(super) fn topic_removed(&mut self, topic: &Arc<Topic>) {
        self.partitions.retain(|&(id, _)| id != topic.id);
        if self.created.remove(&topic.id).is_none() {
            self.removed.insert(topic.id, topic.clone());
        }
    }
}
