//! What partitions there are, where they begin and end, and which offset a time has: asked when
//! the caller asks, and without any effect on what is consumed. Shell.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use protocol::api_key::ApiKey;
use protocol::error_code::ErrorCode;
use protocol::ids::{Offset, TopicPartition};
use protocol::time::Timestamp;

use super::{Consumer, OffsetSpec};
use crate::config::IsolationLevel;
use crate::error::RequestError;
use crate::offsets::{self, ListedOffset};
use crate::router::Topics;

impl Consumer {
    /// The log start offsets.
    ///
    /// # Errors
    /// When a leader does not answer within `default.api.timeout.ms`, or refuses.
    pub async fn beginning_offsets(
        &self,
        partitions: impl IntoIterator<Item = TopicPartition>,
    ) -> Result<BTreeMap<TopicPartition, Offset>, RequestError> {
        let isolation = self.shared.config.isolation_level;
        self.ends(partitions, OffsetSpec::Earliest, isolation).await
    }

    /// Where the partitions end: their high watermarks, or last stable offsets for
    /// `read_committed`.
    ///
    /// # Errors
    /// As [`beginning_offsets`](Self::beginning_offsets).
    pub async fn end_offsets(
        &self,
        partitions: impl IntoIterator<Item = TopicPartition>,
        isolation: IsolationLevel,
    ) -> Result<BTreeMap<TopicPartition, Offset>, RequestError> {
        self.ends(partitions, OffsetSpec::Latest, isolation).await
    }

    async fn ends(
        &self,
        partitions: impl IntoIterator<Item = TopicPartition>,
        spec: OffsetSpec,
        isolation: IsolationLevel,
    ) -> Result<BTreeMap<TopicPartition, Offset>, RequestError> {
        let wanted = partitions.into_iter().map(|it| (it, spec)).collect();
        let listed = self.list(isolation, wanted).await?;
        Ok(listed.into_iter().map(|(it, at)| (it, at.offset.unwrap_or_default())).collect())
    }

    /// For each partition the first record with at least its timestamp, if there is one.
    ///
    /// # Errors
    /// As [`beginning_offsets`](Self::beginning_offsets).
    pub async fn offsets_for_times(
        &self,
        times: BTreeMap<TopicPartition, Timestamp>,
    ) -> Result<BTreeMap<TopicPartition, ListedOffset>, RequestError> {
        let wanted = times.into_iter().map(|(it, time)| (it, OffsetSpec::AtOrAfter(time)));
        let isolation = self.shared.config.isolation_level;
        self.list(isolation, wanted.collect()).await
    }

    async fn list(
        &self,
        isolation: IsolationLevel,
        wanted: BTreeMap<TopicPartition, OffsetSpec>,
    ) -> Result<BTreeMap<TopicPartition, ListedOffset>, RequestError> {
        let timeout = self.shared.config.default_api_timeout;
        offsets::list(&self.shared.router, timeout, isolation, &wanted).await
    }

    /// The partitions of a topic, as of now.
    ///
    /// # Errors
    /// When nobody tells within `default.api.timeout.ms`, or there is no such topic by then.
    pub async fn partitions_of(
        &self,
        topic: &str,
    ) -> Result<BTreeSet<TopicPartition>, RequestError> {
        let name: Arc<str> = topic.into();
        let attempt = || async {
            let router = &self.shared.router;
            let told = router.refresh(Topics::These([Arc::clone(&name)].into()), false).await?;
            let told = told.topics.into_iter().find(|it| it.name.as_deref() == Some(topic));
            let api = ApiKey::Metadata;
            let subject = topic.to_owned();
            let told = told.ok_or(RequestError::Missing { api, subject: subject.clone() })?;
            let refuse = |code| RequestError::code(api, subject, code, None);
            ErrorCode::from_wire(told.error_code).ok().map_err(refuse)?;
            let indexes = told.partitions.iter().map(|it| it.partition_index);
            Ok(indexes.map(|it| TopicPartition::new(Arc::clone(&name), it)).collect())
        };
        let timeout = self.shared.config.default_api_timeout;
        self.shared.router.retry(timeout, "describe a topic", attempt).await
    }
}
