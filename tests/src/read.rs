//! Reads whole topics, for checkers.
//!
//! Shell.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, ensure};
use client::bootstrap::Bootstrap;
use client::config::{ConsumerConfig, IsolationLevel, OffsetReset};
use client::consumer::{Consumer, Polled};
use protocol::ids::{Offset, TopicPartition};

/// How long to wait for the end of a topic.
const PATIENCE: Duration = Duration::from_secs(300);

/// The values of all records of `topic`, by partition, in the order of their offsets; of committed
/// ones alone when asked for. Waits for what is not decided yet: a transaction's end is answered before its
/// markers are everywhere.
///
/// # Errors
/// When the end is not reached in time, or a record is no text.
pub async fn read_all(
    bootstrap: Bootstrap,
    topic: &str,
    is_committed: bool,
) -> anyhow::Result<Vec<Vec<String>>> {
    let isolation =
        if is_committed { IsolationLevel::ReadCommitted } else { IsolationLevel::ReadUncommitted };
    let config = ConsumerConfig {
        isolation_level: isolation,
        auto_offset_reset: OffsetReset::Earliest,
        enable_auto_commit: false,
        ..ConsumerConfig::default()
    };
    let mut consumer = Consumer::connect(bootstrap, config).await.context("connect a reader")?;
    let partitions = consumer.partitions_of(topic).await.context("its partitions")?;
    let all = IsolationLevel::ReadUncommitted;
    let ends = consumer.end_offsets(partitions.iter().cloned(), all).await.context("its ends")?;
    consumer.assign(partitions.iter().cloned());
    let mut read = vec![Vec::new(); partitions.len()];
    let begun = consumer.now().monotonic;
    let behind = |consumer: &Consumer| {
        ends.iter().any(|(at, end)| consumer.position(at).unwrap_or(Offset::ZERO) < *end)
    };
    while behind(&consumer) {
        ensure!(consumer.now().monotonic < begun + PATIENCE, "the end was not reached");
        let Polled::Batches(batches) = consumer.poll(Duration::from_secs(1)).await? else {
            continue;
        };
        for batch in batches {
            let place = partitions.iter().position(|it| *it == batch.tp);
            let values = &mut read[place.context("a partition that was asked for")?];
            for record in batch.records() {
                let value = record?.value.unwrap_or_default().to_vec();
                values.push(String::from_utf8(value).context("a text")?);
            }
        }
    }
    consumer.close().await?;
    Ok(read)
}

/// Where the partitions of `topic` end for readers of committed records.
///
/// # Errors
/// When the cluster does not answer.
pub async fn ends_of(
    bootstrap: Bootstrap,
    topic: &str,
) -> anyhow::Result<BTreeMap<TopicPartition, Offset>> {
    let config = ConsumerConfig::default();
    let consumer = Consumer::connect(bootstrap, config).await.context("connect a reader")?;
    let partitions = consumer.partitions_of(topic).await.context("its partitions")?;
    Ok(consumer.end_offsets(partitions, IsolationLevel::ReadCommitted).await?)
}
