//! Asks each partition's leader about its partitions, and again where that may help.
//!
//! One request per leader and round, all at once. Each partition has its own result; one that may
//! succeed later is asked about again until the time is up, the others are settled. A topic that
//! nobody knows is settled at once: whoever administers it wants to hear of the slip. Shell.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::future::join_all;
use protocol::api::Request;
use protocol::error_code::ErrorCode;
use protocol::ids::{BrokerId, LeaderEpoch, TopicPartition};
use tokio::time::{sleep, timeout_at};

use super::Admin;
use crate::error::RequestError;
use crate::net::connection::CallOptions;
use crate::net::pool::Purpose;
use crate::router::Topics;
use crate::time::deadline_after;

/// What became of each partition that was asked about.
pub type PerPartition<T> = BTreeMap<TopicPartition, Result<T, RequestError>>;

/// A partition with the epoch of the leader that is asked.
pub(super) type Led = (TopicPartition, LeaderEpoch);

impl Admin {
    /// Asks the leaders of `partitions`: `request` makes what one leader is asked, for the version
    /// agreed on, and `answers` takes its answer apart.
    pub(super) async fn ask_leaders<R, B, T>(
        &self,
        what: &'static str,
        partitions: impl IntoIterator<Item = TopicPartition>,
        request: impl Fn(Vec<Led>) -> B,
        answers: impl Fn(R::Response) -> PerPartition<T>,
    ) -> PerPartition<T>
    where
        R: Request,
        B: FnOnce(i16) -> R + Send + 'static,
    {
        let deadline = deadline_after(self.timeout);
        let mut backoff = self.router.backoff();
        let mut pending: BTreeSet<TopicPartition> = partitions.into_iter().collect();
        let mut settled = PerPartition::new();
        let mut last: BTreeMap<TopicPartition, RequestError> = BTreeMap::new();
        while !pending.is_empty() {
            let round = self.ask_leaders_once(&pending, &request, &answers);
            let Ok(results) = timeout_at(deadline, round).await else { break };
            for (partition, result) in results {
                if !pending.contains(&partition) {
                    continue;
                }
                match result {
                    Err(error) if may_succeed_later(&error) => {
                        last.insert(partition, error);
                    }
                    result => {
                        pending.remove(&partition);
                        settled.insert(partition, result);
                    }
                }
            }
            let is_over = pending.is_empty();
            if is_over || timeout_at(deadline, sleep(backoff.next_wait())).await.is_err() {
                break;
            }
        }
        for partition in pending {
            let last = last.remove(&partition).map(Box::new);
            let late = RequestError::TimedOut { what, timeout: self.timeout, last };
            settled.insert(partition, Err(late));
        }
        settled
    }

    async fn ask_leaders_once<R, B, T>(
        &self,
        partitions: &BTreeSet<TopicPartition>,
        request: &impl Fn(Vec<Led>) -> B,
        answers: &impl Fn(R::Response) -> PerPartition<T>,
    ) -> PerPartition<T>
    where
        R: Request,
        B: FnOnce(i16) -> R + Send + 'static,
    {
        let mut results = match self.refresh_topics_of(partitions).await {
            Ok(unknown) => unknown,
            Err(error) => {
                return partitions.iter().map(|it| (it.clone(), Err(error.clone()))).collect();
            }
        };
        let mut by_leader: BTreeMap<BrokerId, Vec<Led>> = BTreeMap::new();
        for partition in partitions {
            if results.contains_key(partition) {
                continue;
            }
            match self.router.cluster(|it| it.leader(partition)) {
                Some(leader) => {
                    let led = (partition.clone(), leader.leader_epoch);
                    by_leader.entry(leader.broker).or_default().push(led);
                }
                None => {
                    let error = RequestError::NoLeader { subject: partition.to_string() };
                    results.insert(partition.clone(), Err(error));
                }
            }
        }
        let asks = by_leader.into_iter().map(|(broker, led)| async move {
            let asked: Vec<_> = led.iter().map(|(it, _)| it.clone()).collect();
            let mut answered = match self.ask_leader(broker, request(led)).await {
                Ok(response) => answers(response),
                Err(error) => asked.iter().map(|it| (it.clone(), Err(error.clone()))).collect(),
            };
            for partition in asked {
                let missing = RequestError::Missing { api: R::KEY, subject: partition.to_string() };
                answered.entry(partition).or_insert(Err(missing));
            }
            answered
        });
        for mut answered in join_all(asks).await {
            results.append(&mut answered);
        }
        results
    }

    async fn ask_leader<R: Request>(
        &self,
        broker: BrokerId,
        build: impl FnOnce(i16) -> R + Send + 'static,
    ) -> Result<R::Response, RequestError> {
        let gone = || RequestError::NoLeader { subject: format!("broker {broker}") };
        let connection = self.router.broker(broker, Purpose::General).ok_or_else(gone)?;
        let options = CallOptions::within(self.router.patience().request_timeout);
        Ok(connection.call_with(options, build).await?)
    }

    /// Asks anew who leads what; tells the partitions that do not exist.
    async fn refresh_topics_of<T>(
        &self,
        partitions: &BTreeSet<TopicPartition>,
    ) -> Result<PerPartition<T>, RequestError> {
        let topics: BTreeSet<Arc<str>> =
            partitions.iter().map(|it| Arc::clone(&it.topic)).collect();
        let response = self.router.refresh(Topics::These(topics), false).await?;
        let mut unknown = PerPartition::new();
        for topic in response.topics {
            let code = ErrorCode::from_wire(topic.error_code);
            let told = |index| topic.partitions.iter().any(|it| it.partition_index == index);
            let of_topic = partitions.iter().filter(|it| Some(&*it.topic) == topic.name.as_deref());
            for partition in of_topic.filter(|it| !code.is_ok() || !told(it.partition.0)) {
                let code = if code.is_ok() { ErrorCode::UnknownTopicOrPartition } else { code };
                let api = protocol::api_key::ApiKey::Metadata;
                let error = RequestError::code(api, partition.to_string(), code, None);
                unknown.insert(partition.clone(), Err(error));
            }
        }
        Ok(unknown)
    }
}

fn may_succeed_later(error: &RequestError) -> bool {
    error.is_retriable() && error.error_code() != Some(ErrorCode::UnknownTopicOrPartition)
}
