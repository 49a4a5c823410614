//! Administration: topics, their settings and offsets, the cluster, groups.
//!
//! Each call goes on until it is done, refused, or `timeout` has passed. Creating what exists and
//! deleting what does not are errors with their own codes, for the caller to judge: after a
//! timeout the first attempt may have succeeded. Shell.

mod groups;
mod topics;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use protocol::api::metadata::MetadataResponse;
use protocol::ids::{BrokerId, TopicPartition};

use crate::bootstrap::Bootstrap;
use crate::config::{ConsumerConfig, IsolationLevel};
use crate::error::RequestError;
use crate::net::Endpoint;
use crate::offsets::{self, ListedOffset, OffsetSpec};
use crate::router::{Patience, Router, Topics};

pub use groups::{GroupDescription, GroupListing, GroupMember};
pub use topics::{ConfigEntry, ConfigResource, NewTopic, PartitionDescription, TopicDescription};

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

    /// Offsets of partitions, from each one's leader.
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
