//! A consumer as a stream of records, for those who want one after the other.
//!
//! Rebalances are acknowledged as they come, and each record is a handful of slices: for
//! throughput, or to commit by hand, `poll` instead. Shell.

use std::collections::VecDeque;
use std::time::Duration;

use async_stream::try_stream;
use futures::Stream;
use protocol::ids::TopicPartition;
use protocol::record::Record;

use super::error::ConsumeError;
use super::fetched::FetchedBatch;
use super::{Consumer, Polled};

/// A record and whence it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerRecord {
    /// The partition.
    pub partition: TopicPartition,
    /// The record.
    pub record: Record,
}

/// How long one `poll` of a stream waits; then it polls again.
const POLL_TIMEOUT: Duration = Duration::from_secs(1);

/// Batches that the stream has yet to yield. If it is dropped before, the consumer's positions go
/// back to the first record that was not yielded.
struct Unread<'a> {
    consumer: &'a mut Consumer,
    batches: VecDeque<FetchedBatch>,
}

impl Drop for Unread<'_> {
    fn drop(&mut self) {
        // From the last batch to the first, so that of one partition the first counts.
        for batch in self.batches.iter().rev() {
            // What was revoked in the meantime has no position to go back to.
            drop(self.consumer.seek(&batch.tp, batch.first_offset));
        }
    }
}

impl Consumer {
    /// The records of all partitions, as they come; it never ends by itself. With
    /// `enable.auto.commit`, what was yielded before the record that is waited for is committed in
    /// time. Dropping the stream loses nothing: the consumer goes on after the last record that
    /// was yielded.
    ///
    /// ```no_run
    /// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
    /// use client::{bootstrap::Bootstrap, config::ConsumerConfig, consumer::Consumer};
    /// use futures::StreamExt;
    ///
    /// let config = ConsumerConfig::parse([("group.id", "billing"), ("enable.auto.commit", "true")])?;
    /// let mut consumer = Consumer::connect(Bootstrap::tcp("localhost:9092")?, config).await?;
    /// consumer.subscribe(["orders"]);
    /// let mut records = std::pin::pin!(consumer.stream());
    /// while let Some(order) = records.next().await {
    ///     println!("{:?}", order?.record.value);
    /// }
    /// # Ok(()) }
    /// ```
    pub fn stream(&mut self) -> impl Stream<Item = Result<ConsumerRecord, ConsumeError>> {
        try_stream! {
            let mut unread = Unread { consumer: self, batches: VecDeque::new() };
            loop {
                let Some(batch) = unread.batches.front() else {
                    if let Polled::Batches(batches) = unread.consumer.poll(POLL_TIMEOUT).await? {
                        unread.batches = batches.into();
                    }
                    continue;
                };
                let partition = batch.tp.clone();
                for record in batch.clone().into_records() {
                    let record = record.map_err(|source| {
                        let offset = unread.batches[0].first_offset;
                        ConsumeError::Damaged { partition: partition.clone(), offset, source }
                    })?;
                    unread.batches[0].first_offset = record.offset.plus(1);
                    yield ConsumerRecord { partition: partition.clone(), record };
                }
                unread.batches.pop_front();
            }
        }
    }
}
