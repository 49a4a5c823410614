//! The quorum that keeps the metadata log, and the features that the cluster agrees on. KIP-595,
//! KIP-584. Shell.

use std::collections::BTreeMap;

use protocol::api::features::{FeatureUpdateKey, UpdateFeaturesRequest};
use protocol::api::quorum::{
    DescribeQuorumRequest, DescribeQuorumRequestPartition, DescribeQuorumRequestTopic,
    DescribeQuorumResponse, QuorumReplicaState,
};
use protocol::api::versions::{ApiVersionsRequest, ApiVersionsResponse};
use protocol::api_key::ApiKey;
use protocol::ids::{BrokerId, LeaderEpoch, Offset, TopicId};
use protocol::time::Timestamp;

use super::topics::verdict;
use super::{Admin, wire_ms};
use crate::error::RequestError;
use crate::net::Endpoint;

/// The topic of the metadata log, whose only partition is 0.
const METADATA_TOPIC: &str = "__cluster_metadata";

/// The quorum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuorumDescription {
    /// Who leads; `None`: nobody is known to.
    pub leader: Option<BrokerId>,
    /// The leader's epoch.
    pub leader_epoch: LeaderEpoch,
    /// The end of what is committed.
    pub high_watermark: Offset,
    /// Those who vote.
    pub voters: Vec<QuorumReplica>,
    /// Those who follow without a vote.
    pub observers: Vec<QuorumReplica>,
    /// Where each node listens, by listener; empty from brokers that do not tell.
    pub nodes: BTreeMap<BrokerId, Vec<(String, Endpoint)>>,
}

/// A replica of the metadata log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuorumReplica {
    /// Whose it is.
    pub id: BrokerId,
    /// The id of the directory that it lies in; zero where brokers do not tell. KIP-853.
    pub directory_id: TopicId,
    /// Where its log ends; [`Offset::NONE`]: not known.
    pub log_end_offset: Offset,
    /// When it last fetched; `NONE` for the leader, and when not known.
    pub last_fetch: Timestamp,
    /// When it last had everything; `NONE` when not known.
    pub last_caught_up: Timestamp,
}

/// The features of a cluster. KIP-584.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FeatureDescription {
    /// The lowest and highest level that the broker knows, both inclusive, by name.
    pub supported: BTreeMap<String, (i16, i16)>,
    /// The levels that the cluster has agreed to use, by name.
    pub finalized: BTreeMap<String, i16>,
    /// Which version of these agreements it is; `None`: not known.
    pub epoch: Option<i64>,
}

/// Which way a feature's level may go. KIP-584.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeatureUpdate {
    /// Up to this level.
    Upgrade(i16),
    /// Down to this level, if nothing is lost by it; 0 removes the feature.
    SafeDowngrade(i16),
    /// Down to this level, even if something is lost by it; 0 removes the feature.
    UnsafeDowngrade(i16),
}

impl FeatureUpdate {
    fn level(self) -> i16 {
        match self {
            Self::Upgrade(level) | Self::SafeDowngrade(level) | Self::UnsafeDowngrade(level) => {
                level
            }
        }
    }

    fn upgrade_type(self) -> i8 {
        match self {
            Self::Upgrade(_) => 1,
            Self::SafeDowngrade(_) => 2,
            Self::UnsafeDowngrade(_) => 3,
        }
    }
}

/// The versions of one API: its number, our name of it if we speak it, and lowest and highest
/// version of the broker, both inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ApiVersionRange {
    /// Its number.
    pub key: i16,
    /// `None`: we do not speak it.
    pub api: Option<ApiKey>,
    /// The lowest version.
    pub min: i16,
    /// The highest version.
    pub max: i16,
}

impl Admin {
    /// Describes the quorum of the metadata log. KIP-595.
    ///
    /// # Errors
    /// When it is refused or no answer came; `Unsupported` from clusters that have none.
    pub async fn describe_quorum(&self) -> Result<QuorumDescription, RequestError> {
        let attempt = || async {
            let partition = DescribeQuorumRequestPartition { partition_index: 0 };
            let topic = DescribeQuorumRequestTopic {
                topic_name: METADATA_TOPIC.to_owned(),
                partitions: vec![partition],
            };
            let request = DescribeQuorumRequest { topics: vec![topic] };
            let response = self.router.ask_controller(move |_| request).await?;
            self.heed_controller(quorum(response))
        };
        self.router.retry(self.timeout, "describe the quorum", attempt).await
    }

    /// The features of the cluster, asked of one broker. KIP-584.
    ///
    /// # Errors
    /// When no answer came.
    pub async fn describe_features(&self) -> Result<FeatureDescription, RequestError> {
        let response = self.api_versions_response().await?;
        let supported = response.supported_features.into_iter();
        let finalized = response.finalized_features.into_iter();
        Ok(FeatureDescription {
            supported: supported.map(|it| (it.name, (it.min_version, it.max_version))).collect(),
            finalized: finalized.map(|it| (it.name, it.max_version_level)).collect(),
            epoch: Some(response.finalized_features_epoch).filter(|it| *it >= 0),
        })
    }

    /// The APIs and versions of one broker. KIP-35.
    ///
    /// # Errors
    /// When no answer came.
    pub async fn api_versions(&self) -> Result<Vec<ApiVersionRange>, RequestError> {
        let response = self.api_versions_response().await?;
        let mut ranges: Vec<_> = response
            .api_keys
            .into_iter()
            .map(|it| ApiVersionRange {
                key: it.api_key,
                api: ApiKey::from_wire(it.api_key),
                min: it.min_version,
                max: it.max_version,
            })
            .collect();
        ranges.sort();
        Ok(ranges)
    }

    async fn api_versions_response(&self) -> Result<ApiVersionsResponse, RequestError> {
        let attempt = || async {
            let build = |_| ApiVersionsRequest {
                client_software_name: "millstream".to_owned(),
                client_software_version: env!("CARGO_PKG_VERSION").to_owned(),
                ..ApiVersionsRequest::default()
            };
            let response = self.router.ask_any(build).await?;
            verdict(ApiKey::ApiVersions, "versions".to_owned(), response.error_code, None)?;
            Ok(response)
        };
        self.router.retry(self.timeout, "ask for versions", attempt).await
    }

    /// Changes the levels of features; all of them or none. With `validate_only` it says what it
    /// would, and changes nothing. KIP-584.
    ///
    /// # Errors
    /// When it is refused or no answer came.
    pub async fn update_features(
        &self,
        updates: &BTreeMap<String, FeatureUpdate>,
        validate_only: bool,
    ) -> Result<(), RequestError> {
        let timeout_ms = wire_ms(self.router.patience().request_timeout);
        let attempt = || async {
            let updates = updates.clone();
            let build = move |version| {
                let update = |(feature, update): (String, FeatureUpdate)| FeatureUpdateKey {
                    feature,
                    max_version_level: update.level(),
                    allow_downgrade: version == 0 && update.upgrade_type() != 1,
                    upgrade_type: if version == 0 { 1 } else { update.upgrade_type() },
                };
                let feature_updates = updates.into_iter().map(update).collect();
                UpdateFeaturesRequest { timeout_ms, feature_updates, validate_only }
            };
            let response = self.router.ask_controller(build).await?;
            let api = ApiKey::UpdateFeatures;
            let (code, message) = (response.error_code, response.error_message);
            self.heed_controller(verdict(api, "features".to_owned(), code, message))?;
            response.results.into_iter().try_for_each(|it| {
                let subject = format!("feature {}", it.feature);
                verdict(api, subject, it.error_code, it.error_message)
            })
        };
        self.router.retry(self.timeout, "update features", attempt).await
    }
}

fn quorum(response: DescribeQuorumResponse) -> Result<QuorumDescription, RequestError> {
    let api = ApiKey::DescribeQuorum;
    let subject = || METADATA_TOPIC.to_owned();
    verdict(api, subject(), response.error_code, response.error_message)?;
    let partition = response.topics.into_iter().flat_map(|it| it.partitions).next();
    let partition = partition.ok_or_else(|| RequestError::Missing { api, subject: subject() })?;
    verdict(api, subject(), partition.error_code, partition.error_message)?;
    let nodes = response.nodes.into_iter().map(|node| {
        let listeners = node.listeners.into_iter();
        let listeners = listeners.map(|it| (it.name, Endpoint::new(it.host, it.port))).collect();
        (BrokerId(node.node_id), listeners)
    });
    Ok(QuorumDescription {
        leader: Some(BrokerId(partition.leader_id)).filter(|it| it.0 >= 0),
        leader_epoch: LeaderEpoch(partition.leader_epoch),
        high_watermark: Offset(partition.high_watermark),
        voters: partition.current_voters.into_iter().map(replica).collect(),
        observers: partition.observers.into_iter().map(replica).collect(),
        nodes: nodes.collect(),
    })
}

fn replica(state: QuorumReplicaState) -> QuorumReplica {
    QuorumReplica {
        id: BrokerId(state.replica_id),
        directory_id: state.replica_directory_id,
        log_end_offset: Offset(state.log_end_offset),
        last_fetch: Timestamp(state.last_fetch_timestamp),
        last_caught_up: Timestamp(state.last_caught_up_timestamp),
    }
}
