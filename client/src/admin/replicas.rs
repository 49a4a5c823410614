//! Who leads and who follows: elections, reassignments, and brokers that are gone for good. Shell.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use protocol::api::brokers::UnregisterBrokerRequest;
use protocol::api::elections::{ElectLeadersRequest, ElectLeadersRequestTopic};
use protocol::api::reassignments::{
    AlterPartitionReassignmentsRequest, ListPartitionReassignmentsRequest,
    ListPartitionReassignmentsTopic, ReassignablePartition, ReassignableTopic,
};
use protocol::api_key::ApiKey;
use protocol::error_code::ErrorCode;
use protocol::ids::{BrokerId, TopicPartition};

use super::topics::verdict;
use super::{Admin, PerPartition, wire_ms};
use crate::cluster::Cluster;
use crate::error::RequestError;
use crate::group_offsets::by_topic;

/// Who may be elected. KIP-460.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ElectionType {
    /// The first of the assigned replicas, if it is in sync.
    Preferred,
    /// A living replica although it is not in sync, where none is: records are lost.
    Unclean,
}

impl ElectionType {
    fn to_wire(self) -> i8 {
        match self {
            Self::Preferred => 0,
            Self::Unclean => 1,
        }
    }
}

/// A reassignment under way. KIP-455.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reassignment {
    /// All replicas at present, those that come and those that go included.
    pub replicas: Vec<BrokerId>,
    /// Those that come.
    pub adding: Vec<BrokerId>,
    /// Those that go.
    pub removing: Vec<BrokerId>,
}

impl Admin {
    /// Elects leaders of `partitions`, or of all partitions that need one when it is `None`; then
    /// those are told for which an election was held. `ElectionNotNeeded`: the leader is the one
    /// wanted already. KIP-460.
    ///
    /// # Errors
    /// When it is refused as a whole or no answer came.
    pub async fn elect_leaders(
        &self,
        election: ElectionType,
        partitions: Option<&BTreeSet<TopicPartition>>,
    ) -> Result<PerPartition<()>, RequestError> {
        let attempt = || async {
            let request = ElectLeadersRequest {
                election_type: election.to_wire(),
                topic_partitions: partitions.map(|it| {
                    topics(it, |topic, partitions| ElectLeadersRequestTopic { topic, partitions })
                }),
                timeout_ms: wire_ms(self.router.patience().request_timeout),
            };
            let response = self.router.ask_controller(move |_| request).await?;
            let api = ApiKey::ElectLeaders;
            self.heed_controller(verdict(api, "leaders".to_owned(), response.error_code, None))?;
            let mut results = PerPartition::new();
            for topic in response.replica_election_results {
                let name: Arc<str> = topic.topic.into();
                for it in topic.partition_result {
                    let partition = TopicPartition::new(Arc::clone(&name), it.partition_id);
                    let subject = partition.to_string();
                    let verdict = verdict(api, subject, it.error_code, it.error_message);
                    results.insert(partition, verdict);
                }
            }
            Ok(results)
        };
        self.router.retry(self.timeout, "elect leaders", attempt).await
    }

    /// Moves partitions to other replicas (`Some`), or cancels their moving (`None`). Each
    /// partition is accepted or refused by itself; what is accepted goes on by itself:
    /// [`list_reassignments`](Self::list_reassignments) tells what is not done. KIP-455.
    ///
    /// # Errors
    /// When it is refused as a whole or no answer came.
    pub async fn alter_reassignments(
        &self,
        targets: &BTreeMap<TopicPartition, Option<Vec<BrokerId>>>,
    ) -> Result<PerPartition<()>, RequestError> {
        let attempt = || async {
            let ids = |ids: &Vec<BrokerId>| ids.iter().map(|it| it.0).collect();
            let partition = |(partition_index, target): (i32, &Option<Vec<BrokerId>>)| {
                ReassignablePartition { partition_index, replicas: target.as_ref().map(ids) }
            };
            let topics = by_topic(targets).into_iter().map(|(name, of)| ReassignableTopic {
                name,
                partitions: of.into_iter().map(partition).collect(),
            });
            let request = AlterPartitionReassignmentsRequest {
                timeout_ms: wire_ms(self.router.patience().request_timeout),
                topics: topics.collect(),
                ..AlterPartitionReassignmentsRequest::default()
            };
            let response = self.router.ask_controller(move |_| request).await?;
            let api = ApiKey::AlterPartitionReassignments;
            let (code, message) = (response.error_code, response.error_message);
            self.heed_controller(verdict(api, "reassignments".to_owned(), code, message))?;
            let mut results = PerPartition::new();
            for topic in response.responses {
                let name: Arc<str> = topic.name.into();
                for it in topic.partitions {
                    let partition = TopicPartition::new(Arc::clone(&name), it.partition_index);
                    let subject = partition.to_string();
                    let verdict = verdict(api, subject, it.error_code, it.error_message);
                    results.insert(partition, verdict);
                }
            }
            Ok(results)
        };
        self.router.retry(self.timeout, "alter reassignments", attempt).await
    }

    /// The reassignments under way, of `partitions` or of all when it is `None`. KIP-455.
    ///
    /// # Errors
    /// When it is refused or no answer came.
    pub async fn list_reassignments(
        &self,
        partitions: Option<&BTreeSet<TopicPartition>>,
    ) -> Result<BTreeMap<TopicPartition, Reassignment>, RequestError> {
        let attempt = || async {
            let request = ListPartitionReassignmentsRequest {
                timeout_ms: wire_ms(self.router.patience().request_timeout),
                topics: partitions.map(|it| {
                    topics(it, |name, partition_indexes| ListPartitionReassignmentsTopic {
                        name,
                        partition_indexes,
                    })
                }),
            };
            let response = self.router.ask_controller(move |_| request).await?;
            let api = ApiKey::ListPartitionReassignments;
            let (code, message) = (response.error_code, response.error_message);
            self.heed_controller(verdict(api, "reassignments".to_owned(), code, message))?;
            let ids = |ids: Vec<i32>| ids.into_iter().map(BrokerId).collect();
            let mut found = BTreeMap::new();
            for topic in response.topics {
                let name: Arc<str> = topic.name.into();
                for it in topic.partitions {
                    let reassignment = Reassignment {
                        replicas: ids(it.replicas),
                        adding: ids(it.adding_replicas),
                        removing: ids(it.removing_replicas),
                    };
                    let partition = TopicPartition::new(Arc::clone(&name), it.partition_index);
                    found.insert(partition, reassignment);
                }
            }
            Ok(found)
        };
        self.router.retry(self.timeout, "list reassignments", attempt).await
    }

    /// Makes the controller forget a broker that is gone for good. KIP-631.
    ///
    /// # Errors
    /// When it is refused, as for a broker that lives, or no answer came.
    pub async fn unregister_broker(&self, broker: BrokerId) -> Result<(), RequestError> {
        let attempt = || async {
            let request = UnregisterBrokerRequest { broker_id: broker.0 };
            let response = self.router.ask_controller(move |_| request).await?;
            let (code, message) = (response.error_code, response.error_message);
            let subject = format!("broker {broker}");
            self.heed_controller(verdict(ApiKey::UnregisterBroker, subject, code, message))
        };
        self.router.retry(self.timeout, "unregister a broker", attempt).await
    }

    /// After an error that another controller may not make, asks anew who the controller is.
    pub(super) fn heed_controller<T>(
        &self,
        result: Result<T, RequestError>,
    ) -> Result<T, RequestError> {
        result.inspect_err(|error| {
            if error.error_code() == Some(ErrorCode::NotController) {
                self.router.cluster(Cluster::mark_stale);
                self.router.next_turn();
            }
        })
    }
}

fn topics<T>(
    partitions: &BTreeSet<TopicPartition>,
    topic: impl Fn(String, Vec<i32>) -> T,
) -> Vec<T> {
    let by_topic = by_topic(partitions.iter().map(|it| (it, ()))).into_iter();
    by_topic
        .map(|(name, of)| topic(name, of.into_iter().map(|(index, ())| index).collect()))
        .collect()
}
