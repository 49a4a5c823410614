//! Administration: topics, records, settings, groups, transactions, quotas, replicas, the cluster.
//!
//! Each call asks whoever can answer it: the controller, a partition's leader, a coordinator, every
//! broker, or anyone. It goes on until it is done, refused, or `timeout` has passed; where a call is
//! about several things, each has its own result, whose
//! [`is_retriable`](RequestError::is_retriable) says whether another call may help. Creating what
//! exists and deleting what does not are errors with their own codes, for the caller to judge: after
//! a timeout the first attempt may have succeeded. Shell.

mod configs;
mod group_description;
mod groups;
mod leaders;
mod log_dirs;
mod quorum;
mod quotas;
mod records;
mod replicas;
mod topics;
mod transactions;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use protocol::api::Request;
use protocol::api::metadata::MetadataResponse;
use protocol::error_code::ErrorCode;
use protocol::ids::{BrokerId, TopicPartition};

use crate::bootstrap::Bootstrap;
use crate::cluster::Cluster;
use crate::config::{ConsumerConfig, IsolationLevel};
use crate::error::RequestError;
use crate::net::Endpoint;
use crate::net::connection::CallOptions;
use crate::net::pool::Purpose;
use crate::offsets::{self, ListedOffset, OffsetSpec};
use crate::router::{Patience, Router, Topics};

pub use configs::{ConfigChange, ConfigEntry, ConfigResource, ConfigSource, ConfigSynonym};
pub use group_description::{GroupDescription, GroupEpochs, GroupMember};
pub use groups::{GroupFilter, GroupListing, MemberToRemove};
pub use leaders::PerPartition;
pub use log_dirs::{LogDirDescription, LogDirs, ReplicaSize};
pub use quorum::{
    ApiVersionRange, FeatureDescription, FeatureUpdate, QuorumDescription, QuorumReplica,
};
pub use quotas::{QuotaChange, QuotaEntity, QuotaMatch, QuotaPart};
pub use replicas::{ElectionType, Reassignment};
pub use topics::{NewTopic, PartitionDescription, TopicDescription};
pub use transactions::{
    AbortSpec, HangingTransaction, ProducerDescription, TransactionDescription, TransactionFilter,
    TransactionListing,
};

/// A client for administration.
#[derive(Clone)]
pub struct Admin {
    router: Arc<Router>,
    timeout: Duration,
}

/// The cluster as its brokers describe it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterDescription {
    /// Its id, where brokers tell.
    pub cluster_id: Option<String>,
    /// The controller, or a broker that passes requests on to it.
    pub controller: Option<BrokerId>,
    /// The living brokers.
    pub brokers: BTreeMap<BrokerId, Endpoint>,
}

impl Admin {
    /// Reaches the cluster, trying for at most `timeout`, which then also bounds each call.
    ///
    /// # Errors
    /// When no broker answers.
    pub async fn connect(bootstrap: Bootstrap, timeout: Duration) -> Result<Self, RequestError> {
        let ConsumerConfig {
            request_timeout,
            retry_backoff,
            retry_backoff_max,
            metadata_max_age,
            ..
        } = ConsumerConfig::default();
        let patience =
            Patience { request_timeout, retry_backoff, retry_backoff_max, metadata_max_age };
        let admin = Self { router: Router::new(&bootstrap, patience), timeout };
        admin.metadata(&Topics::These([].into())).await?;
        Ok(admin)
    }

    async fn metadata(&self, topics: &Topics) -> Result<MetadataResponse, RequestError> {
        let attempt = || self.router.refresh(topics.clone(), false);
        self.router.retry(self.timeout, "describe the cluster", attempt).await
    }

    /// The cluster: its id, controller and brokers.
    ///
    /// # Errors
    /// When no broker answers.
    pub async fn describe_cluster(&self) -> Result<ClusterDescription, RequestError> {
        self.metadata(&Topics::These([].into())).await?;
        Ok(self.router.cluster(|cluster| ClusterDescription {
            cluster_id: cluster.cluster_id().map(str::to_owned),
            controller: cluster.controller(),
            brokers: cluster.brokers().map(|(id, endpoint)| (id, endpoint.clone())).collect(),
        }))
    }

    /// Makes attempts as the router does, but takes the word of whoever says that there is no such
    /// topic: who administers it has mistyped, and waiting does not help.
    async fn retry_known<T, A: Future<Output = Result<T, RequestError>>>(
        &self,
        what: &'static str,
        mut attempt: impl FnMut() -> A,
    ) -> Result<T, RequestError> {
        let mut attempt = || {
            let attempt = attempt();
            async {
                match attempt.await {
                    Err(error)
                        if error.error_code() == Some(ErrorCode::UnknownTopicOrPartition) =>
                    {
                        Ok(Err(error))
                    }
                    attempted => attempted.map(Ok),
                }
            }
        };
        self.router.retry(self.timeout, what, &mut attempt).await?
    }

    /// The living brokers, as of now.
    async fn broker_ids(&self) -> Result<Vec<BrokerId>, RequestError> {
        self.router.retry(self.timeout, "list brokers", || self.broker_ids_once()).await
    }

    async fn broker_ids_once(&self) -> Result<Vec<BrokerId>, RequestError> {
        self.router.refresh(Topics::These([].into()), false).await?;
        Ok(self.router.cluster(|it| it.brokers().map(|(broker, _)| broker).collect()))
    }

    /// Asks one broker, once.
    async fn ask_broker<R: Request>(
        &self,
        broker: BrokerId,
        build: impl FnOnce(i16) -> R + Send + 'static,
    ) -> Result<R::Response, RequestError> {
        let gone = RequestError::UnknownBroker { broker };
        let connection = self.router.broker(broker, Purpose::General).ok_or(gone)?;
        let options = CallOptions::within(self.router.patience().request_timeout);
        let answer = connection.call_with(options, build).await;
        if answer.is_err() {
            self.router.cluster(Cluster::mark_stale);
        }
        Ok(answer?)
    }

    /// Offsets of partitions, from each one's leader: all of them or none.
    ///
    /// # Errors
    /// When one of them has none to tell.
    pub async fn list_offsets(
        &self,
        wanted: &BTreeMap<TopicPartition, OffsetSpec>,
        isolation: IsolationLevel,
    ) -> Result<BTreeMap<TopicPartition, ListedOffset>, RequestError> {
        offsets::list(&self.router, self.timeout, isolation, wanted).await
    }
}

impl std::fmt::Debug for Admin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admin").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

/// The milliseconds of a wait, as the wire has them.
fn wire_ms(timeout: Duration) -> i32 {
    i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests;
