//! All that the cluster knows, as one immutable picture.
//!
//! An Image is the fold of the metadata log up to its [`Image::end`]. Parts are shared, so a clone
//! costs a few counters, and applying a record copies only the map that it touches. Invariants,
//! asserted by [`Image::check`]: each name has one topic and each id one name; the partitions of a
//! topic are numbered from 0 without a gap; a leader is in the in-sync set, and that among the
//! replicas. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use protocol::ids::{
    BrokerEpoch, BrokerId, LeaderEpoch, Offset, PartitionEpoch, PartitionIndex, ProducerId, TopicId,
};

use super::acls::{Acl, Acls};
use super::delta::Delta;
use super::error::ApplyError;
use super::is_internal;
use super::quotas::Quotas;
use super::record::{
    BrokerEndpoint, BrokerFeature, ConfigRecord, FeatureLevelRecord, PartitionChangeRecord,
    PartitionRecord, ProducerIdsRecord, Record, RegisterBrokerRecord, RemoveTopicRecord,
    TopicRecord, UNCHANGED_LEADER, UnregisterBrokerRecord,
};
use super::resource::Resource;
use super::scram::ScramUsers;
use crate::config::Endpoint;

/// A broker of the cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct Broker {
    /// Its id.
    pub id: BrokerId,
    /// Which registration of it.
    pub epoch: BrokerEpoch,
    /// Which run of its process.
    pub incarnation_id: TopicId,
    /// Where clients reach it, one per listener.
    pub endpoints: Vec<Endpoint>,
    /// Which levels of which features it can run.
    pub features: Vec<BrokerFeature>,
    /// Where it stands.
    pub rack: Option<String>,
    /// True while it may lead nothing.
    pub is_fenced: bool,
    /// True while it hands over its leaderships.
    pub in_controlled_shutdown: bool,
}

impl Broker {
    /// Where clients of `listener` reach this broker.
    #[must_use]
    pub fn endpoint(&self, listener: &str) -> Option<&Endpoint> {
        self.endpoints.iter().find(|endpoint| endpoint.listener == listener)
    }
}

/// A topic with its partitions.
#[derive(Clone, Debug, PartialEq)]
pub struct Topic {
    /// Its name.
    pub name: Arc<str>,
    /// What tells it from others of the same name. KIP-516.
    pub id: TopicId,
    /// Its partitions, by index from 0.
    pub partitions: Vec<Partition>,
}

impl Topic {
    /// The partition of this index.
    #[must_use]
    pub fn partition(&self, index: PartitionIndex) -> Option<&Partition> {
        self.partitions.get(usize::try_from(index.0).ok()?)
    }

    /// The indices of all partitions, ascending.
    pub fn indices(&self) -> impl Iterator<Item = PartitionIndex> + use<> {
        (0..self.partition_count()).map(PartitionIndex)
    }

    /// How many partitions there are.
    #[must_use]
    pub fn partition_count(&self) -> i32 {
        i32::try_from(self.partitions.len()).expect("a topic's partitions fit 32 bits")
    }

    /// True for topics that the cluster keeps for itself.
    #[must_use]
    pub fn is_internal(&self) -> bool {
        is_internal(&self.name)
    }
}

/// What the controller decided about one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Partition {
    /// Its leader; [`BrokerId::NONE`] while there is none.
    pub leader: BrokerId,
    /// Raised at every change of the leader.
    pub leader_epoch: LeaderEpoch,
    /// Raised at every change.
    pub partition_epoch: PartitionEpoch,
    /// The brokers that hold it, the preferred leader first.
    pub replicas: Vec<BrokerId>,
    /// Those of them that are in sync.
    pub isr: Vec<BrokerId>,
    /// Replicas about to come.
    pub adding_replicas: Vec<BrokerId>,
    /// Replicas about to go.
    pub removing_replicas: Vec<BrokerId>,
    /// True while the leader recovers from an unclean election.
    pub is_recovering: bool,
}

type Configs = BTreeMap<Arc<str>, Arc<str>>;

/// All that the cluster knows.
#[derive(Clone, Debug, PartialEq)]
pub struct Image {
    /// The cluster's id.
    pub cluster_id: Arc<str>,
    /// The end of the metadata log that this is the fold of.
    pub end: Offset,
    /// The first producer id that was never given away. KIP-730.
    pub next_producer_id: ProducerId,
    brokers: Arc<BTreeMap<BrokerId, Broker>>,
    topics: Arc<BTreeMap<Arc<str>, Arc<Topic>>>,
    names: Arc<BTreeMap<TopicId, Arc<str>>>,
    configs: Arc<BTreeMap<Resource, Configs>>,
    features: Arc<BTreeMap<Arc<str>, i16>>,
    quotas: Arc<Quotas>,
    scram: Arc<ScramUsers>,
    acls: Arc<Acls>,
}

impl Image {
    /// The Image of an empty log.
    #[must_use]
    pub fn empty(cluster_id: impl Into<Arc<str>>) -> Self {
        Self {
            cluster_id: cluster_id.into(),
            end: Offset::ZERO,
            next_producer_id: ProducerId(0),
            brokers: Arc::default(),
            topics: Arc::default(),
            names: Arc::default(),
            configs: Arc::default(),
            features: Arc::default(),
            quotas: Arc::default(),
            scram: Arc::default(),
            acls: Arc::default(),
        }
    }

    /// The topic of this name.
    #[must_use]
    pub fn topic(&self, name: &str) -> Option<&Arc<Topic>> {
        self.topics.get(name)
    }

    /// The topic of this id.
    #[must_use]
    pub fn topic_by_id(&self, id: TopicId) -> Option<&Arc<Topic>> {
        self.topics.get(self.names.get(&id)?)
    }

    /// All topics, by name.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<Topic>> {
        self.topics.values()
    }

    /// True when no topic has changed between the two, cheaply told: false may be wrong.
    #[must_use]
    pub fn shares_topics(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.topics, &other.topics)
    }

    /// The partition `partition` of the topic of this name.
    #[must_use]
    pub fn partition(&self, topic: &str, partition: PartitionIndex) -> Option<&Partition> {
        self.topic(topic)?.partition(partition)
    }

    /// The broker of this id.
    #[must_use]
    pub fn broker(&self, id: BrokerId) -> Option<&Broker> {
        self.brokers.get(&id)
    }

    /// All brokers, by id, fenced ones among them.
    pub fn brokers(&self) -> impl Iterator<Item = &Broker> {
        self.brokers.values()
    }

    /// The brokers that may hold and lead partitions, by id.
    pub fn active_brokers(&self) -> impl Iterator<Item = &Broker> {
        let is_active = |broker: &&Broker| !broker.is_fenced && !broker.in_controlled_shutdown;
        self.brokers.values().filter(is_active)
    }

    /// The settings of `resource` that were set, by name.
    pub fn configs<'a>(
        &'a self,
        resource: &Resource,
    ) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        let configs = self.configs.get(resource).into_iter().flatten();
        configs.map(|(name, value)| (&**name, &**value))
    }

    /// The settings of the topic of this name that were set, by name.
    pub fn topic_configs<'a>(
        &'a self,
        topic: &str,
    ) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        self.configs(&Resource::Topic(topic.into()))
    }

    /// The resources that have settings.
    pub fn configured(&self) -> impl Iterator<Item = &Resource> {
        self.configs.keys()
    }

    /// The levels of features that are final, by name; not those that were given up.
    pub fn features(&self) -> impl Iterator<Item = (&str, i16)> {
        let all = self.features.iter().map(|(name, &level)| (&**name, level));
        all.filter(|(_, level)| *level != 0)
    }

    /// The level of a feature; 0 when it was given up, `None` when it never was decided on.
    #[must_use]
    pub fn feature(&self, name: &str) -> Option<i16> {
        self.features.get(name).copied()
    }

    /// The quotas of clients.
    #[must_use]
    pub fn quotas(&self) -> &Arc<Quotas> {
        &self.quotas
    }

    /// Who may authenticate by SCRAM.
    pub(super) fn scram_users(&self) -> &ScramUsers {
        &self.scram
    }

    /// Who may do what.
    #[must_use]
    pub fn acls(&self) -> &Acls {
        &self.acls
    }

    /// Changes this Image by `record` and notes in `delta` what changed.
    ///
    /// # Errors
    /// When the record contradicts the Image, which is then unchanged.
    pub fn apply(&mut self, record: &Record, delta: &mut Delta) -> Result<(), ApplyError> {
        match record {
            Record::RegisterBroker(record) => self.register_broker(record, delta),
            Record::UnregisterBroker(record) => self.unregister_broker(record, delta),
            Record::Topic(record) => return self.create_topic(record, delta),
            Record::Partition(record) => return self.create_partition(record, delta),
            Record::PartitionChange(record) => return self.change_partition(record, delta),
            Record::RemoveTopic(record) => return self.remove_topic(record, delta),
            Record::Config(record) => return self.configure(record, delta),
            Record::ProducerIds(record) => {
                self.next_producer_id = ProducerId(record.next_producer_id);
            }
            Record::ClientQuota(record) => {
                let entity = Quotas::entity(record)?;
                Arc::make_mut(&mut self.quotas).change(entity, record);
                delta.quotas = true;
            }
            Record::AccessControlEntry(record) => {
                let acl = Acl::from_record(record).ok_or(ApplyError::Acl(record.id))?;
                if !record.id.is_some() || !Arc::make_mut(&mut self.acls).add(record.id, acl) {
                    return Err(ApplyError::Acl(record.id));
                }
                delta.acls = true;
            }
            Record::RemoveAccessControlEntry(record) => {
                if !Arc::make_mut(&mut self.acls).remove(record.id) {
                    return Err(ApplyError::Acl(record.id));
                }
                delta.acls = true;
            }
            Record::FeatureLevel(record) => self.set_feature(record),
            Record::UserScramCredential(record) => {
                return Arc::make_mut(&mut self.scram).set(record);
            }
            Record::RemoveUserScramCredential(record) => {
                return Arc::make_mut(&mut self.scram).remove(record);
            }
            Record::NoOp(_) => {}
        }
        Ok(())
    }

    /// The shortest sequence of records whose fold is this Image; the snapshot.
    #[must_use]
    pub fn to_records(&self) -> Vec<Record> {
        let features = self.features.iter().map(|(name, &level)| {
            FeatureLevelRecord { name: name.to_string(), feature_level: level }.into()
        });
        let brokers = self.brokers().map(|broker| broker.to_record().into());
        let topics = self.topics().flat_map(|topic| topic.to_records());
        let configs = self.configs.iter().flat_map(|(resource, configs)| {
            let (resource_type, resource_name) = resource.to_wire();
            configs.iter().map(move |(name, value)| {
                let resource_name = resource_name.clone();
                let (name, value) = (name.to_string(), Some(value.to_string()));
                ConfigRecord { resource_type, resource_name, name, value }.into()
            })
        });
        let next_producer_id = self.next_producer_id.0;
        let ids = ProducerIdsRecord { next_producer_id, broker_id: -1, broker_epoch: -1 };
        let ids = (next_producer_id != 0).then(|| ids.into());
        let quotas = self.quotas.to_records();
        let users = self.scram.to_records();
        let acls = self.acls.to_records();
        let records = features.chain(brokers).chain(topics).chain(configs);
        records.chain(quotas).chain(users).chain(acls).chain(ids).collect()
    }

    /// Asserts every invariant.
    #[cfg(any(test, feature = "check"))]
    pub fn check(&self) {
        assert_eq!(self.topics.len(), self.names.len());
        for (name, topic) in &*self.topics {
            assert_eq!(*name, topic.name);
            assert_eq!(self.names.get(&topic.id), Some(name));
            assert!(topic.id.is_some());
            for partition in &topic.partitions {
                let Partition { leader, isr, replicas, .. } = partition;
                assert!(*leader == BrokerId::NONE || isr.contains(leader));
                assert!(isr.iter().all(|id| replicas.contains(id)));
            }
        }
        assert!(self.configs.values().all(|configs| !configs.is_empty()));
    }

    fn register_broker(&mut self, record: &RegisterBrokerRecord, delta: &mut Delta) {
        let broker = Broker::from_record(record);
        delta.brokers.insert(broker.id);
        Arc::make_mut(&mut self.brokers).insert(broker.id, broker);
    }

    fn unregister_broker(&mut self, record: &UnregisterBrokerRecord, delta: &mut Delta) {
        let id = BrokerId(record.broker_id);
        let is_it = |broker: &Broker| broker.epoch == BrokerEpoch(record.broker_epoch);
        if self.brokers.get(&id).is_some_and(is_it) {
            Arc::make_mut(&mut self.brokers).remove(&id);
            delta.brokers.insert(id);
        }
    }

    fn create_topic(&mut self, record: &TopicRecord, delta: &mut Delta) -> Result<(), ApplyError> {
        let name: Arc<str> = record.name.as_str().into();
        let id = record.topic_id;
        if self.topics.contains_key(&name) || self.names.contains_key(&id) || !id.is_some() {
            return Err(ApplyError::TopicExists { name: record.name.clone(), id });
        }
        let topic = Topic { name: name.clone(), id, partitions: Vec::new() };
        delta.created.insert(id, name.clone());
        Arc::make_mut(&mut self.names).insert(id, name.clone());
        Arc::make_mut(&mut self.topics).insert(name, Arc::new(topic));
        Ok(())
    }

    fn create_partition(
        &mut self,
        record: &PartitionRecord,
        delta: &mut Delta,
    ) -> Result<(), ApplyError> {
        let index = PartitionIndex(record.partition_id);
        let topic = self.topic_mut(record.topic_id)?;
        if topic.partition_count() != index.0 {
            return Err(topic.refuse(index));
        }
        topic.partitions.push(Partition {
            leader: BrokerId(record.leader),
            leader_epoch: LeaderEpoch(record.leader_epoch),
            partition_epoch: PartitionEpoch(record.partition_epoch),
            replicas: broker_ids(&record.replicas),
            isr: broker_ids(&record.isr),
            adding_replicas: broker_ids(&record.adding_replicas),
            removing_replicas: broker_ids(&record.removing_replicas),
            is_recovering: record.leader_recovery_state == 1,
        });
        delta.partitions.insert((record.topic_id, index));
        Ok(())
    }

    fn change_partition(
        &mut self,
        record: &PartitionChangeRecord,
        delta: &mut Delta,
    ) -> Result<(), ApplyError> {
        let index = PartitionIndex(record.partition_id);
        let topic = self.topic_mut(record.topic_id)?;
        if topic.partition(index).is_none() {
            return Err(topic.refuse(index));
        }
        let at = usize::try_from(index.0).expect("a partition was found there");
        topic.partitions[at].change(record);
        delta.partitions.insert((record.topic_id, index));
        Ok(())
    }

    fn remove_topic(
        &mut self,
        record: &RemoveTopicRecord,
        delta: &mut Delta,
    ) -> Result<(), ApplyError> {
        let id = record.topic_id;
        let topic = self.topic_by_id(id).ok_or(ApplyError::UnknownTopic(id))?.clone();
        delta.topic_removed(&topic);
        Arc::make_mut(&mut self.names).remove(&id);
        Arc::make_mut(&mut self.topics).remove(&topic.name);
        let resource = Resource::Topic(topic.name.clone());
        if self.configs.contains_key(&resource) {
            Arc::make_mut(&mut self.configs).remove(&resource);
            delta.configs.insert(resource);
        }
        Ok(())
    }

    fn configure(&mut self, record: &ConfigRecord, delta: &mut Delta) -> Result<(), ApplyError> {
        let ConfigRecord { resource_type: kind, resource_name, name, value } = record;
        let Some(resource) = Resource::from_wire(*kind, resource_name) else {
            return Err(ApplyError::UnknownResource { kind: *kind, name: resource_name.clone() });
        };
        let all = Arc::make_mut(&mut self.configs);
        let configs = all.entry(resource.clone()).or_default();
        match value {
            Some(value) => drop(configs.insert(name.as_str().into(), value.as_str().into())),
            None => drop(configs.remove(name.as_str())),
        }
        if configs.is_empty() {
            all.remove(&resource);
        }
        delta.configs.insert(resource);
        Ok(())
    }

    fn set_feature(&mut self, record: &FeatureLevelRecord) {
        let features = Arc::make_mut(&mut self.features);
        features.insert(record.name.as_str().into(), record.feature_level);
    }

    fn topic_mut(&mut self, id: TopicId) -> Result<&mut Topic, ApplyError> {
        let name = self.names.get(&id).ok_or(ApplyError::UnknownTopic(id))?;
        let topic = Arc::make_mut(&mut self.topics).get_mut(name);
        Ok(Arc::make_mut(topic.expect("a name known by its id has its topic")))
    }
}

impl Topic {
    fn to_records(&self) -> Vec<Record> {
        let record = TopicRecord { name: self.name.to_string(), topic_id: self.id };
        let partitions = self.indices().zip(&self.partitions);
        let partitions = partitions.map(|(index, it)| it.to_record(self.id, index).into());
        std::iter::once(record.into()).chain(partitions).collect()
    }

    fn refuse(&self, partition: PartitionIndex) -> ApplyError {
        ApplyError::Partition { topic: self.name.clone(), partition, count: self.partition_count() }
    }
}

impl Partition {
    fn change(&mut self, record: &PartitionChangeRecord) {
        if record.leader != UNCHANGED_LEADER {
            self.leader = BrokerId(record.leader);
            // Every change of leader, to the same broker too, opens a new epoch: what the old one
            // still sends must be told apart from what the new one says.
            self.leader_epoch = LeaderEpoch(self.leader_epoch.0.saturating_add(1));
        }
        let sets = [
            (&mut self.isr, &record.isr),
            (&mut self.replicas, &record.replicas),
            (&mut self.removing_replicas, &record.removing_replicas),
            (&mut self.adding_replicas, &record.adding_replicas),
        ];
        for (set, change) in sets {
            if let Some(change) = change {
                *set = broker_ids(change);
            }
        }
        if record.leader_recovery_state != -1 {
            self.is_recovering = record.leader_recovery_state == 1;
        }
        self.partition_epoch = PartitionEpoch(self.partition_epoch.0.saturating_add(1));
    }

    /// The record that creates this partition.
    #[must_use]
    pub fn to_record(&self, topic_id: TopicId, index: PartitionIndex) -> PartitionRecord {
        let raw = |ids: &[BrokerId]| ids.iter().map(|id| id.0).collect::<Vec<_>>();
        PartitionRecord {
            partition_id: index.0,
            topic_id,
            replicas: raw(&self.replicas),
            isr: raw(&self.isr),
            removing_replicas: raw(&self.removing_replicas),
            adding_replicas: raw(&self.adding_replicas),
            leader: self.leader.0,
            leader_recovery_state: i8::from(self.is_recovering),
            leader_epoch: self.leader_epoch.0,
            partition_epoch: self.partition_epoch.0,
        }
    }
}

impl Broker {
    fn from_record(record: &RegisterBrokerRecord) -> Self {
        let endpoint = |endpoint: &BrokerEndpoint| Endpoint {
            listener: endpoint.name.clone(),
            host: endpoint.host.clone(),
            port: endpoint.port,
        };
        Self {
            id: BrokerId(record.broker_id),
            epoch: BrokerEpoch(record.broker_epoch),
            incarnation_id: record.incarnation_id,
            endpoints: record.end_points.iter().map(endpoint).collect(),
            features: record.features.clone(),
            rack: record.rack.clone(),
            is_fenced: record.fenced,
            in_controlled_shutdown: record.in_controlled_shutdown,
        }
    }

    /// The record that registers this broker.
    #[must_use]
    pub fn to_record(&self) -> RegisterBrokerRecord {
        let end_point = |endpoint: &Endpoint| BrokerEndpoint {
            name: endpoint.listener.clone(),
            host: endpoint.host.clone(),
            port: endpoint.port,
            security_protocol: 0,
        };
        RegisterBrokerRecord {
            broker_id: self.id.0,
            incarnation_id: self.incarnation_id,
            broker_epoch: self.epoch.0,
            end_points: self.endpoints.iter().map(end_point).collect(),
            features: self.features.clone(),
            rack: self.rack.clone(),
            fenced: self.is_fenced,
            in_controlled_shutdown: self.in_controlled_shutdown,
        }
    }
}

fn broker_ids(raw: &[i32]) -> Vec<BrokerId> {
    raw.iter().map(|&id| BrokerId(id)).collect()
}
