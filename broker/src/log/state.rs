//! All that a partition's leader or follower must know of its log to decide the next append.
//!
//! The log start and end offsets, the leader epochs, the producers and the size of the segment
//! being written, without the bytes. Whoever owns the partition asks it, places batches with it and
//! hands the resulting [`Write`]s to the log directory's writer; recovery rebuilds it by replaying
//! the very same `apply` over what it finds on disk. So the two cannot disagree.
//!
//! Invariant: it is as far as the last `admit`, which may be further than the disk. When a write
//! fails, the writer hands back the state as it is on disk. Pure.

use std::time::Duration;

use bytes::Bytes;
use protocol::error_code::ErrorCode;
use protocol::ids::{LeaderEpoch, Offset, ProducerEpoch, ProducerId};
use protocol::record::{BatchHeader, ControlError, ControlRecord, RecordBatch, Stamped};
use protocol::rng::Rng;
use protocol::time::Timestamp;

use super::epochs::Epochs;
use super::index;
use super::producers::{
    AbortedTxn, Checked, EndTxn, MarkerChecked, Origin, Producers, SequenceError,
};
use super::snapshot;
use super::space::SPACE_BYTES_MAX;
use super::zeros::ZEROS_BYTES_MAX;
use crate::config::TopicConfig;

/// 32 MiB: walked through in some milliseconds; a snapshot is some 200 bytes per producer.
const SNAPSHOT_INTERVAL_BYTES: u64 = 32 << 20;

/// What a log must know of its topic's settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// `segment.bytes`: how much a segment holds; a larger batch has a segment of its own.
    pub segment_bytes: u32,
    /// `segment.ms`: how far apart in time the first and the newest record of a segment may be.
    pub segment_roll: Duration,
    /// `segment.jitter.ms`: by how much at most some segments end earlier, so that not all logs begin
    /// new ones at the same time.
    pub segment_jitter: Duration,
    /// What tells this log's jitter from that of others.
    pub jitter_seed: u64,
    /// `segment.index.bytes`: how large a segment's index may become.
    pub segment_index_bytes: u32,
    /// `index.interval.bytes`: how much log lies between two entries of its index.
    pub index_interval_bytes: u32,
    /// How much log may follow a snapshot before the next, and so how much recovery has to walk
    /// through, header by header. Not a setting of Kafka's.
    pub snapshot_interval_bytes: u64,
    /// How many zeros at most are written ahead of small appends that are synced one by one. Not a
    /// setting of Kafka's.
    pub zeros_bytes_max: u64,
    /// How much space on the disk is set aside at most for what will be written. Not a setting of Kafka's.
    pub space_bytes_max: u64,
}

impl LogConfig {
    /// The settings of a topic that concern its logs.
    #[must_use]
    pub fn of(topic: &TopicConfig) -> Self {
        Self {
            segment_bytes: topic.segment_bytes,
            segment_roll: match topic.is_compacted() {
                // What is being written is not compacted: it must not wait for longer.
                true => topic.segment_roll.min(topic.max_compaction_lag),
                false => topic.segment_roll,
            },
            segment_jitter: topic.segment_jitter,
            jitter_seed: 0,
            segment_index_bytes: topic.segment_index_bytes,
            index_interval_bytes: topic.index_interval_bytes,
            snapshot_interval_bytes: SNAPSHOT_INTERVAL_BYTES,
            zeros_bytes_max: ZEROS_BYTES_MAX,
            space_bytes_max: SPACE_BYTES_MAX,
        }
    }

    /// How far apart in time the records of the segment that begins at `base` may be.
    fn roll_of(&self, base: Offset) -> Duration {
        let jitter = self.segment_jitter.min(self.segment_roll);
        let most = u64::try_from(jitter.as_millis()).unwrap_or(u64::MAX);
        let place = u64::from_be_bytes(base.0.to_be_bytes());
        let less = Rng::new(self.jitter_seed ^ place).below(most);
        self.segment_roll.saturating_sub(Duration::from_millis(less))
    }
}

impl Default for LogConfig {
    fn default() -> Self {
        Self::of(&TopicConfig::default())
    }
}

/// A batch with its place in the log.
#[derive(Clone, Debug)]
pub struct Placed {
    /// Its bytes, with that offset and leader epoch.
    pub bytes: Stamped,
    /// Its header, likewise.
    pub header: BatchHeader,
    /// What it says, if it is a control batch that we understand.
    pub control: Option<ControlRecord>,
}

impl Placed {
    /// `batch` at `base_offset`, as the leader of `leader_epoch` writes it. Shares its bytes.
    ///
    /// # Errors
    /// When it is a control batch that cannot be read.
    pub fn new(
        batch: &RecordBatch,
        base_offset: Offset,
        leader_epoch: LeaderEpoch,
    ) -> Result<Self, ControlError> {
        let control = match ControlRecord::of(batch) {
            // Compaction may leave a control batch without its record; it ends nothing then.
            Err(ControlError::Empty(_)) => None,
            other => other?,
        };
        let header = BatchHeader { base_offset, leader_epoch, ..*batch.header() };
        Ok(Self { bytes: batch.stamped(base_offset, leader_epoch), header, control })
    }

    /// `batch` where the leader put it already. Shares its bytes.
    ///
    /// # Errors
    /// When it is a control batch that cannot be read.
    pub fn in_place(batch: &RecordBatch) -> Result<Self, ControlError> {
        let header = batch.header();
        Self::new(batch, header.base_offset, header.leader_epoch)
    }
}

/// What happens just before the first batch of a [`Write`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mark {
    /// Nothing.
    None,
    /// The state so far is stored, so that recovery can begin from there.
    Snapshot(Bytes),
    /// Likewise, and a new segment begins.
    Roll(Bytes),
}

/// What the log directory's writer is to append to one log. Made by [`LogState::admit`].
#[derive(Clone, Debug)]
pub struct Write {
    /// The log end offset before it: the writer refuses it if an earlier write failed.
    pub from: Offset,
    /// What comes first.
    pub mark: Mark,
    /// Batches in order of offsets; none, if only the mark is wanted.
    pub batches: Vec<Placed>,
    /// Transactions that markers among them abort.
    pub aborted: Vec<AbortedTxn>,
    /// How much log lies between two entries of its index.
    pub index_interval_bytes: u32,
    /// Whether someone waits until it is durable.
    pub sync: bool,
}

impl Write {
    pub(super) fn size_bytes(&self) -> u64 {
        self.batches
            .iter()
            .map(|batch| u64::try_from(batch.bytes.size_bytes()).unwrap_or(u64::MAX))
            .sum()
    }

    /// True when to carry them out takes no longer than to write so many bytes.
    pub(super) fn are_quick(writes: &[Self], bytes_max: u64) -> bool {
        let mut bytes = 0_u64;
        for write in writes {
            let marked = match &write.mark {
                Mark::None => 0,
                Mark::Snapshot(state) => u64::try_from(state.len()).unwrap_or(u64::MAX),
                Mark::Roll(_) => return false,
            };
            bytes = bytes.saturating_add(marked).saturating_add(write.size_bytes());
            if write.sync || bytes > bytes_max {
                return false;
            }
        }
        true
    }
}

/// Why batches that a leader sent cannot follow what a replica has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlaceError {
    /// They overlap what is there.
    #[error("batch at offset {got} cannot follow log end offset {log_end}")]
    Overlaps {
        /// Where the log, with the batches before, ends.
        log_end: Offset,
        /// Base offset of the batch.
        got: Offset,
    },
    /// A leader epoch after a newer one.
    #[error("batch at offset {base_offset}: leader epoch {got} after {newest}")]
    EpochWentBack {
        /// Of the batch.
        base_offset: Offset,
        /// The newest epoch before it.
        newest: LeaderEpoch,
        /// Its epoch.
        got: LeaderEpoch,
    },
    /// The offsets end here.
    #[error("batch at offset {base_offset} reaches beyond the largest offset")]
    TooFar {
        /// Of the batch.
        base_offset: Offset,
    },
}

impl PlaceError {
    /// The wire's word for it.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Overlaps { .. } | Self::EpochWentBack { .. } | Self::TooFar { .. } => {
                ErrorCode::CorruptMessage
            }
        }
    }
}

/// The segment being written, as far as the decision to begin another depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActiveSegment {
    /// Its first offset; while it is empty, an offset not above that.
    pub base: Offset,
    /// Bytes in it.
    pub bytes: u64,
    /// Max timestamp of its first batch; none while it is empty.
    pub first_timestamp: Timestamp,
}

impl ActiveSegment {
    /// A segment that begins at `base`.
    #[must_use]
    pub fn empty(base: Offset) -> Self {
        Self { base, bytes: 0, first_timestamp: Timestamp::NONE }
    }

    /// Whether a batch must go to a new segment: this one would grow beyond its size or its
    /// index, holds records from too long before, or cannot express the distance from its base.
    /// Never for an empty segment.
    #[must_use]
    pub fn must_roll_before(&self, header: &BatchHeader, config: &LogConfig) -> bool {
        if self.bytes == 0 {
            return false;
        }
        let size = u64::try_from(header.size_bytes()).unwrap_or(u64::MAX);
        let entries =
            self.bytes / u64::from(config.index_interval_bytes.max(index::BATCH_BYTES_MIN));
        let is_old = self.first_timestamp != Timestamp::NONE
            && header.max_timestamp >= self.first_timestamp.plus(config.roll_of(self.base));
        self.bytes.saturating_add(size) > u64::from(config.segment_bytes)
            || entries >= index::entries_max(config.segment_index_bytes)
            || is_old
            || header.last_offset().0 - self.base.0 > i64::from(i32::MAX)
    }

    /// Counts a batch that was appended.
    pub fn apply(&mut self, header: &BatchHeader) {
        if self.bytes == 0 {
            self.base = header.base_offset;
            self.first_timestamp = header.max_timestamp;
        }
        let size = u64::try_from(header.size_bytes()).expect("a batch is smaller than 2^64");
        self.bytes = self.bytes.checked_add(size).expect("a segment is smaller than 2^64");
    }
}

/// The log without its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogState {
    pub(super) log_start: Offset,
    pub(super) log_end: Offset,
    pub(super) epochs: Epochs,
    pub(super) producers: Producers,
    pub(super) active: ActiveSegment,
    /// Bytes appended since the last snapshot.
    pub(super) unsnapped_bytes: u64,
}

impl LogState {
    /// A log without records, the next of which goes to `at`.
    #[must_use]
    pub fn empty(at: Offset) -> Self {
        Self {
            log_start: at,
            log_end: at,
            epochs: Epochs::default(),
            producers: Producers::default(),
            active: ActiveSegment::empty(at),
            unsnapped_bytes: 0,
        }
    }

    /// The first offset that can be read.
    #[must_use]
    pub fn log_start(&self) -> Offset {
        self.log_start
    }

    /// Where the next record goes.
    #[must_use]
    pub fn log_end(&self) -> Offset {
        self.log_end
    }

    /// Which leader wrote which part.
    #[must_use]
    pub fn epochs(&self) -> &Epochs {
        &self.epochs
    }

    /// What is known of the producers.
    #[must_use]
    pub fn producers(&self) -> &Producers {
        &self.producers
    }

    /// The segment being written.
    #[must_use]
    pub fn active(&self) -> &ActiveSegment {
        &self.active
    }

    /// Whether a producer's or coordinator's batch may be appended; not a control batch.
    ///
    /// # Errors
    /// See [`SequenceError`].
    pub fn check_append(
        &self,
        header: &BatchHeader,
        origin: Origin,
    ) -> Result<Checked, SequenceError> {
        self.producers.check(header, origin)
    }

    /// Whether the end of a transaction may be written.
    ///
    /// # Errors
    /// See [`SequenceError`].
    pub fn check_marker(&self, marker: &EndTxn) -> Result<MarkerChecked, SequenceError> {
        self.producers.check_marker(marker)
    }

    /// Whether a batch can stand in this log where its header says: at or after the end, there may
    /// be a gap where compaction was; and not of an older leader than what is before it. To be
    /// asked for each batch of a leader just before it is admitted.
    ///
    /// # Errors
    /// See [`PlaceError`].
    pub fn check_place(&self, header: &BatchHeader) -> Result<(), PlaceError> {
        let BatchHeader { base_offset, leader_epoch, .. } = *header;
        if base_offset < self.log_end {
            return Err(PlaceError::Overlaps { log_end: self.log_end, got: base_offset });
        }
        // Saturation would make the next offset equal the last.
        if header.next_offset() <= header.last_offset() {
            return Err(PlaceError::TooFar { base_offset });
        }
        match self.epochs.newest() {
            Some((newest, _)) if leader_epoch < newest => {
                Err(PlaceError::EpochWentBack { base_offset, newest, got: leader_epoch })
            }
            _ => Ok(()),
        }
    }

    /// Takes `batches`, each placed at the end of what is before it, into the log, and appends to
    /// `writes` what its writer must now do: usually one write, one more for every segment or
    /// snapshot that begins on the way.
    ///
    /// # Panics
    /// When a batch overlaps what is there, or its leader epoch went back: the caller has asked
    /// `check_place`, or placed it at `log_end` with its own epoch.
    pub fn admit(
        &mut self,
        batches: impl IntoIterator<Item = Placed>,
        config: &LogConfig,
        sync: bool,
        writes: &mut Vec<Write>,
    ) {
        let mut current: Option<Write> = None;
        for batch in batches {
            let from = self.log_end;
            let mark = self.mark_before(&batch.header, config);
            if mark != Mark::None {
                writes.extend(current.take());
            }
            let write = current.get_or_insert_with(|| Write {
                from,
                mark,
                batches: Vec::new(),
                aborted: Vec::new(),
                index_interval_bytes: config.index_interval_bytes,
                sync,
            });
            write.aborted.extend(self.apply(&batch.header, batch.control));
            write.batches.push(batch);
        }
        writes.extend(current);
    }

    /// The write that ends the active segment, so that it may be deleted; `None` if it is empty.
    pub fn roll(&mut self) -> Option<Write> {
        (self.active.bytes > 0).then(|| Write {
            from: self.log_end,
            mark: self.begin_segment(),
            batches: Vec::new(),
            aborted: Vec::new(),
            index_interval_bytes: 0,
            sync: true,
        })
    }

    /// Takes note of a batch in the log. Yields the transaction that it aborts. For recovery;
    /// appends go through `admit`.
    ///
    /// # Panics
    /// As `admit`.
    pub fn apply(
        &mut self,
        header: &BatchHeader,
        control: Option<ControlRecord>,
    ) -> Option<AbortedTxn> {
        assert!(header.base_offset >= self.log_end, "batches come in order of offsets");
        self.epochs.assign(header.leader_epoch, header.base_offset);
        let aborted = if header.attributes.is_control() {
            control.and_then(|control| self.producers.complete(header, control))
        } else {
            self.producers.apply(header);
            None
        };
        self.active.apply(header);
        let size = u64::try_from(header.size_bytes()).expect("a batch is smaller than 2^64");
        self.unsnapped_bytes = self.unsnapped_bytes.saturating_add(size);
        self.log_end = header.next_offset();
        aborted
    }

    /// The log start offset moves up to `offset`, or to the log end if that is lower. Yields it.
    pub fn delete_before(&mut self, offset: Offset) -> Offset {
        let log_start = offset.min(self.log_end);
        if log_start > self.log_start {
            self.log_start = log_start;
            self.epochs.delete_before(log_start);
        }
        self.log_start
    }

    /// The bound for those who read committed records: the high watermark, or where the oldest
    /// transaction begins that is open, or whose marker is not below the high watermark.
    #[must_use]
    pub fn last_stable_offset(&self, high_watermark: Offset) -> Offset {
        let stable = self.producers.first_unstable(high_watermark).unwrap_or(high_watermark);
        // The beginning of a transaction may have been deleted while it is open.
        stable.max(self.log_start).min(high_watermark)
    }

    /// The high watermark moved: transactions ended below it need no more thought.
    pub fn settle(&mut self, high_watermark: Offset) {
        self.producers.settle(high_watermark);
    }

    /// Forgets silent producers; see [`Producers::expire`].
    pub fn expire_producers(&mut self, now: Timestamp, expiration: Duration) -> usize {
        self.producers.expire(now, expiration)
    }

    /// First offset of the transaction that `producer_id` has open under this epoch. One that is
    /// open under an older epoch waits for its marker, and is not what the newer epoch writes to.
    #[must_use]
    pub fn open_transaction(
        &self,
        producer_id: ProducerId,
        producer_epoch: ProducerEpoch,
    ) -> Option<Offset> {
        let known = self.producers.known(producer_id)?;
        known.open_from().filter(|_| known.epoch() == producer_epoch)
    }

    /// All that follows from the batches, as bytes, for a clean shutdown.
    #[must_use]
    pub fn snapshot(&self) -> Bytes {
        snapshot::encode(self)
    }

    fn mark_before(&mut self, header: &BatchHeader, config: &LogConfig) -> Mark {
        if self.active.must_roll_before(header, config) {
            return self.begin_segment();
        }
        if self.unsnapped_bytes >= config.snapshot_interval_bytes {
            self.unsnapped_bytes = 0;
            return Mark::Snapshot(self.snapshot());
        }
        Mark::None
    }

    fn begin_segment(&mut self) -> Mark {
        self.active = ActiveSegment::empty(self.log_end);
        self.unsnapped_bytes = 0;
        Mark::Roll(self.snapshot())
    }

    /// Asserts every invariant of this struct.
    #[cfg(any(test, feature = "check"))]
    pub fn check(&self) {
        assert!(self.log_start <= self.log_end);
        assert!(self.active.base <= self.log_end);
        self.producers.check_invariants();
    }
}
