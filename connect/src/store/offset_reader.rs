//! Reads the source offsets of one connector from the offsets topic.
//!
//! All that was written before the call counts, if it is committed: reading goes on to the high watermark, beyond
//! transactions that are still open at the call. The caller has settled its own. Shell.

use std::collections::BTreeMap;
use std::time::Duration;

use client::bootstrap::Bootstrap;
use client::config::{ConsumerConfig, IsolationLevel, OffsetReset};
use client::consumer::{Consumer, Polled};
use protocol::ids::{Offset, TopicPartition};

use super::offsets::Offsets;
use crate::sdk::{SourceOffset, TaskError};
use crate::worker::failed;

/// How long transactions of others may hold the end back: longer than any may stay open.
const PATIENCE: Duration = Duration::from_secs(180);
/// How long to wait for the next batch before looking at the clock.
const POLL: Duration = Duration::from_millis(500);

/// The newest offsets of `connector` in `topic`, by source partition.
///
/// Retriable: the cluster does not answer, or others hold the end back.
pub(crate) async fn read(
    bootstrap: Bootstrap,
    topic: &str,
    connector: &str,
) -> Result<Vec<SourceOffset>, TaskError> {
    let thing = format!("offsets topic {topic}");
    let clock = bootstrap.clock.clone();
    let config = ConsumerConfig {
        isolation_level: IsolationLevel::ReadCommitted,
        auto_offset_reset: OffsetReset::Earliest,
        ..ConsumerConfig::default()
    };
    let mut consumer = Consumer::connect(bootstrap, config).await.map_err(failed(&thing))?;
    let partitions = consumer.partitions_of(topic).await.map_err(failed(&thing))?;
    let ends = consumer
        .end_offsets(partitions.clone(), IsolationLevel::ReadUncommitted)
        .await
        .map_err(failed(&thing))?;
    consumer.assign(partitions);
    let mut offsets = Offsets::new(connector);
    let deadline = clock.now().monotonic + PATIENCE;
    while let Some(waiting) = behind(&consumer, &ends) {
        if deadline <= clock.now().monotonic {
            let reason = format!(
                "not read to its end within {PATIENCE:?}: an open transaction holds it back"
            );
            return Err(TaskError::retriable(format!("partition {waiting}"), reason));
        }
        if let Polled::Batches(batches) = consumer.poll(POLL).await.map_err(failed(&thing))? {
            for batch in &batches {
                for record in batch.records() {
                    let record = record.map_err(failed(&thing))?;
                    offsets.apply(record.key, record.value);
                }
            }
        }
    }
    Ok(offsets.into_vec())
}

/// A partition that is not read to its end.
fn behind(consumer: &Consumer, ends: &BTreeMap<TopicPartition, Offset>) -> Option<TopicPartition> {
    let is_read = |(at, end): &(&TopicPartition, &Offset)| {
        **end == Offset::ZERO || consumer.position(at).is_some_and(|position| position >= **end)
    };
    ends.iter().find(|it| !is_read(it)).map(|(at, _)| at.clone())
}
