//! How other rooms speak to a partition.
//!
//! A request is in the partition's mailbox when the call returns: requests of one caller are served
//! in the order of its calls, whatever becomes of the futures, which only wait for the answers.
//! Dropping a future drops the answer, never the request. Shell.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use protocol::ids::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, TopicId, TopicPartition};
use protocol::time::Timestamp;
use tokio::sync::{Notify, oneshot, watch};
use tracing::error;

use super::core::{Event, Wish};
use super::shell::{Full, Mail, Partition};
use super::{
    AbortedTransaction, Acks, ActiveProducer, Append, AppendError, Appended, EndTxnMarker,
    FetchFrom, Fetched, FoundOffset, Isolation, OffsetSpec, ReadError, Standing, Watermarks,
};
use crate::config::TopicConfig;
use crate::log::{Located, ReadError as LogReadError, Reader};

/// A partition that this broker leads, or led. Clones are the same partition.
#[derive(Clone)]
pub struct PartitionHandle(pub(super) Arc<Partition>);

impl fmt::Debug for PartitionHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PartitionHandle({})", self.partition())
    }
}

impl PartitionHandle {
    /// Which partition.
    #[must_use]
    pub fn partition(&self) -> &TopicPartition {
        self.0.partition()
    }

    /// The id of its topic.
    #[must_use]
    pub fn topic_id(&self) -> TopicId {
        self.0.identity().topic_id
    }

    /// What holds for its topic.
    #[must_use]
    pub fn config(&self) -> Arc<TopicConfig> {
        self.0.config()
    }

    /// Puts batches at the end of the log. They are in the mailbox when this returns.
    ///
    /// What is true once it resolves is said at [`Acks`](super::Acks). It may take long: whoever
    /// has a time limit drops the future then; the batches stay.
    ///
    /// # Errors
    /// See [`AppendError`], which says of each whether the records are in the log.
    pub fn append(
        &self,
        append: Append,
    ) -> impl Future<Output = Result<Appended, AppendError>> + Send + use<> {
        let (reply, answer) = oneshot::channel();
        let posted = self.0.post(Mail::Append(append, reply));
        let this = self.clone();
        async move { this.appended(posted, answer).await }
    }

    /// Ends a transaction in this partition. Resolves, with the offset after the marker, once the
    /// marker is committed. Writing the same marker again is harmless.
    ///
    /// # Errors
    /// See [`AppendError`]; a `Producer` one is final, the others may be retried.
    pub fn write_marker(
        &self,
        marker: EndTxnMarker,
    ) -> impl Future<Output = Result<Offset, AppendError>> + Send + use<> {
        self.marker(marker, Acks::Committed)
    }

    /// As [`write_marker`](Self::write_marker), but resolves once the marker's offset is assigned.
    /// It may still be lost: for coordinators, who hold back what follows from it.
    ///
    /// # Errors
    /// See [`write_marker`](Self::write_marker).
    pub fn accept_marker(
        &self,
        marker: EndTxnMarker,
    ) -> impl Future<Output = Result<Offset, AppendError>> + Send + use<> {
        self.marker(marker, Acks::Accepted)
    }

    fn marker(
        &self,
        marker: EndTxnMarker,
        acks: Acks,
    ) -> impl Future<Output = Result<Offset, AppendError>> + Send + use<> {
        let (reply, answer) = oneshot::channel();
        let posted = self.0.post(Mail::Marker(marker, acks, reply));
        let this = self.clone();
        async move { this.appended(posted, answer).await }
    }

    /// The positions as they change. Several changes may be seen as one. Opens the log, if that
    /// was not done yet; until it is open, `online` is false.
    #[must_use]
    pub fn watermarks(&self) -> watch::Receiver<Watermarks> {
        self.0.open();
        self.0.watermarks().subscribe()
    }

    /// Reads what is there, without waiting for more.
    ///
    /// # Errors
    /// See [`ReadError`]; epochs are checked before the offset.
    pub async fn fetch(&self, from: FetchFrom) -> Result<Fetched, ReadError> {
        let (reader, watermarks) = self.open_for(from.leader_epoch).await?;
        if let Some(last) = from.last_fetched_epoch {
            let end = self.end_of_epoch(last, None).await?;
            if let Some((epoch, end)) = end
                && (epoch < last || end < from.offset)
            {
                let nothing = Fetched::nothing(watermarks, from.isolation);
                return Ok(Fetched { diverging: Some((epoch, end)), ..nothing });
            }
        }
        let Watermarks { log_start, log_end, .. } = watermarks;
        if from.offset < log_start || from.offset > log_end {
            let partition = self.partition().clone();
            return Err(ReadError::OutOfRange {
                partition,
                offset: from.offset,
                log_start,
                log_end,
            });
        }
        let upto = watermarks.readable_end(from.isolation);
        if from.offset >= upto || (from.max_bytes == 0 && !from.at_least_one) {
            return Ok(Fetched::nothing(watermarks, from.isolation));
        }
        let fail = |error| self.read_error(error);
        let FetchFrom { offset, max_bytes, at_least_one, .. } = from;
        let lent = if from.by_file {
            reader.lend(offset, upto, max_bytes, at_least_one).map_err(fail)?
        } else {
            None
        };
        let slice = match lent {
            Some(slice) => slice,
            None => {
                let room_bytes = max_bytes.min(from.room_bytes);
                reader.read(offset, upto, room_bytes, at_least_one).map_err(fail)?
            }
        };
        let aborted = (from.isolation == Isolation::ReadCommitted).then(|| {
            let first = slice.first.map_or(from.offset, |first| first.base_offset);
            aborted(reader, first, slice.next_offset)
        });
        let (records, stretch) = (slice.bytes, slice.stretch);
        Ok(Fetched { records, stretch, watermarks, aborted, diverging: None })
    }

    /// Whole batches from the one that contains `from` on, up to the log end offset, about
    /// `max_bytes` of them and at least one. Empty at the log end offset. For coordinators that
    /// load their state.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub async fn read(&self, from: Offset, max_bytes: usize) -> Result<Fetched, ReadError> {
        self.fetch(FetchFrom {
            offset: from,
            leader_epoch: None,
            last_fetched_epoch: None,
            isolation: Isolation::LogEnd,
            max_bytes,
            room_bytes: max_bytes,
            at_least_one: true,
            by_file: false,
        })
        .await
    }

    /// The offset that answers `spec`, among those that `isolation` may see.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub async fn list_offset(
        &self,
        spec: OffsetSpec,
        isolation: Isolation,
        leader_epoch: Option<LeaderEpoch>,
    ) -> Result<FoundOffset, ReadError> {
        let (reader, watermarks) = self.open_for(leader_epoch).await?;
        let upto = watermarks.readable_end(isolation);
        let found = |found: Option<Located>| found.map_or(FoundOffset::NONE, FoundOffset::from);
        let tells_end = watermarks.tells_end(isolation);
        let settled = |found: FoundOffset| {
            // What is below the readable end stays where it is.
            if tells_end || found.offset != Offset::NONE {
                return Ok(found);
            }
            let Watermarks { high_watermark, epoch_start, .. } = watermarks;
            let partition = self.partition().clone();
            Err(ReadError::NotAvailable { partition, high_watermark, epoch_start })
        };
        match spec {
            OffsetSpec::Latest if !tells_end => settled(FoundOffset::NONE),
            OffsetSpec::Latest => Ok(FoundOffset {
                offset: upto,
                timestamp: Timestamp::NONE,
                leader_epoch: watermarks.leader_epoch,
            }),
            OffsetSpec::Earliest => {
                let offset = watermarks.log_start;
                let leader_epoch = self.epoch_at(offset).await?;
                Ok(FoundOffset { offset, timestamp: Timestamp::NONE, leader_epoch })
            }
            OffsetSpec::MaxTimestamp => {
                let newest = reader.max_timestamp(upto).map_err(|error| self.read_error(error))?;
                settled(found(newest))
            }
            OffsetSpec::At(timestamp) => {
                let first = reader.offset_for_timestamp(timestamp, upto);
                settled(found(first.map_err(|error| self.read_error(error))?))
            }
        }
    }

    /// The largest leader epoch not above `asked`, and where it ended (exclusive). `None`: `asked`
    /// is newer than all. KIP-101, KIP-279.
    ///
    /// # Errors
    /// See [`ReadError`]; `leader_epoch` is the one that the asker believes in.
    pub async fn end_of_epoch(
        &self,
        asked: LeaderEpoch,
        leader_epoch: Option<LeaderEpoch>,
    ) -> Result<Option<(LeaderEpoch, Offset)>, ReadError> {
        self.open_for(leader_epoch).await?;
        self.ask(|reply| Mail::EndOfEpoch(asked, reply)).await
    }

    /// Moves the log start offset to `offset`, or to the high watermark for [`Offset::NONE`], and
    /// answers with it once it is durable. A lower one than the present changes nothing. KIP-107.
    ///
    /// # Errors
    /// `OutOfRange` beyond the high watermark; see [`ReadError`].
    pub async fn delete_before(&self, offset: Offset) -> Result<Offset, ReadError> {
        self.ask(|reply| Mail::DeleteBefore(offset, reply)).await?
    }

    /// Rings `bell` once the readable end passes `beyond`, or the partition stops being readable,
    /// at once if that is so already. Dropping the guard takes the wish back.
    ///
    /// When too many wait for this partition the bell rings at once: the fetch is answered with
    /// what there is.
    #[must_use]
    pub fn wait(&self, isolation: Isolation, beyond: Offset, bell: Arc<Notify>) -> Waiting {
        let wish = Wish { number: self.0.next_wish(), isolation, beyond };
        if let Err(Full) = self.0.post(Mail::Wait(wish, bell.clone())) {
            bell.notify_one();
        }
        Waiting { partition: self.0.clone(), wish }
    }

    /// Where the transaction that `producer_id` has open in this partition under this epoch
    /// begins; `None`: it has none. All that was put in the mailbox before counts.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub async fn open_transaction(
        &self,
        producer_id: ProducerId,
        producer_epoch: ProducerEpoch,
    ) -> Result<Standing, ReadError> {
        self.ask(|reply| Mail::OpenTransaction(producer_id, producer_epoch, reply)).await
    }

    /// Every producer that the partition remembers, by id. KIP-664.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub async fn producers(&self) -> Result<Vec<ActiveProducer>, ReadError> {
        self.open_for(None).await?;
        self.ask(Mail::Producers).await
    }

    /// Bytes of all batches in the log.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub async fn size_bytes(&self) -> Result<u64, ReadError> {
        Ok(self.open_for(None).await?.0.size_bytes())
    }

    async fn epoch_at(&self, offset: Offset) -> Result<LeaderEpoch, ReadError> {
        self.ask(|reply| Mail::EpochAt(offset, reply)).await
    }

    /// The log's reader and the positions, once the log is open and the asker's epoch is ours.
    async fn open_for(
        &self,
        asked: Option<LeaderEpoch>,
    ) -> Result<(&Reader, Watermarks), ReadError> {
        let reader = self.0.reader().await?;
        let watermarks = *self.0.watermarks().borrow();
        if let Some(closed) = self.0.closed() {
            return Err(closed.read_error(self.partition()));
        }
        let current = watermarks.leader_epoch;
        let partition = || self.partition().clone();
        match asked {
            Some(asked) if asked < current => {
                Err(ReadError::FencedLeaderEpoch { partition: partition(), asked, current })
            }
            Some(asked) if asked > current => {
                Err(ReadError::UnknownLeaderEpoch { partition: partition(), asked, current })
            }
            _ => Ok((reader, watermarks)),
        }
    }

    async fn ask<T>(&self, mail: impl FnOnce(oneshot::Sender<T>) -> Mail) -> Result<T, ReadError> {
        let (reply, answer) = oneshot::channel();
        let partition = || self.partition().clone();
        self.0
            .post(mail(reply))
            .map_err(|Full| ReadError::Overloaded { partition: partition() })?;
        answer.await.map_err(|_| ReadError::NotLeader { partition: partition() })
    }

    async fn appended<T>(
        &self,
        posted: Result<(), Full>,
        answer: oneshot::Receiver<Result<T, AppendError>>,
    ) -> Result<T, AppendError> {
        let partition = || self.partition().clone();
        posted.map_err(|Full| AppendError::Overloaded { partition: partition() })?;
        answer.await.unwrap_or_else(|_| Err(AppendError::NotLeader { partition: partition() }))
    }

    fn read_error(&self, error: LogReadError) -> ReadError {
        let partition = self.partition().clone();
        match error {
            LogReadError::OutOfRange { from, log_start, log_end, .. } => {
                ReadError::OutOfRange { partition, offset: from, log_start, log_end }
            }
            LogReadError::Records { .. } | LogReadError::Log(_) => {
                error!(%partition, %error, "the log cannot be read");
                let reason = error.to_string().into();
                if let LogReadError::Log(error) = error {
                    self.0.report(error);
                }
                ReadError::Storage { partition, reason }
            }
        }
    }
}

impl Fetched {
    /// How much memory the records take.
    #[must_use]
    pub fn room_bytes(&self) -> usize {
        if self.stretch.is_some() { 0 } else { self.records.len() }
    }

    fn nothing(watermarks: Watermarks, isolation: Isolation) -> Self {
        let aborted = (isolation == Isolation::ReadCommitted).then(Vec::new);
        let records = bytes::Bytes::new();
        Self { records, stretch: None, watermarks, aborted, diverging: None }
    }
}

impl From<Located> for FoundOffset {
    fn from(located: Located) -> Self {
        let Located { offset, timestamp, leader_epoch } = located;
        Self { offset, timestamp, leader_epoch }
    }
}

fn aborted(reader: &Reader, from: Offset, upto: Offset) -> Vec<AbortedTransaction> {
    let entry = |txn: crate::log::AbortedTxn| AbortedTransaction {
        producer_id: txn.producer_id,
        first_offset: txn.first_offset,
    };
    reader.aborted(from, upto).into_iter().map(entry).collect()
}

/// A fetch's wish to be woken. Dropping it takes the wish back.
#[derive(Debug)]
pub struct Waiting {
    partition: Arc<Partition>,
    wish: Wish,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.partition.tell(Event::WaitNoMore(self.wish));
    }
}

impl fmt::Debug for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Partition({})", self.partition())
    }
}
