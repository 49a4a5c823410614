//! Whether a topic takes a produced batch, and in what form it is stored.
//!
//! A batch is looked at record by record once: what is wrong with some records is told with their
//! places (KIP-467). It is stored with the bytes that came, unless the topic wants another codec or
//! dates records itself, or the header is untrue about the newest timestamp, by which segments are
//! searched and retained. Pure.

use std::time::Duration;

use protocol::error_code::ErrorCode;
use protocol::record::{
    BatchBuilder, BatchError, BatchOptions, Codec, CompressionError, DECOMPRESSED_BYTES_MAX,
    DecodedBatch, InvalidBatch, RecordBatch,
};
use protocol::time::Timestamp;

use crate::config::{CompressionType, TimestampType, TopicConfig};
use crate::limits::UNFOLDED_PER_BYTE_MAX;

/// The first version of Produce that knows zstd. KIP-110.
const KNOWS_ZSTD: i16 = 7;

/// Why a topic does not take a batch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error(transparent)]
    Batch(#[from] InvalidBatch),
    #[error("it unfolds into more than is unfolded here")]
    Large,
    #[error("its request has unfolded into as many bytes as it may")]
    Unfolded,
    #[error("as many large batches are unfolded, and wait for it, as may")]
    Busy,
    #[error("zstd needs version {KNOWS_ZSTD}")]
    Zstd,
    #[error(
        "{} records are not dated within {before_max:?} before and {after_max:?} after {now}",
        records.len()
    )]
    Timestamps {
        /// Which records of the batch.
        records: Vec<i32>,
        now: Timestamp,
        before_max: Duration,
        after_max: Duration,
    },
    #[error("{} records have no key, which a compacted topic requires", records.len())]
    KeysMissing {
        /// Which records of the batch.
        records: Vec<i32>,
    },
}

impl Refusal {
    /// Kafka's code for it.
    pub(super) fn code(&self) -> ErrorCode {
        match self {
            Self::Batch(error) => error.code(),
            // Nothing was written, and it may come again in another request.
            Self::Large | Self::Unfolded | Self::Busy => ErrorCode::NotEnoughReplicas,
            Self::Zstd => ErrorCode::UnsupportedCompressionType,
            Self::Timestamps { .. } => ErrorCode::InvalidTimestamp,
            Self::KeysMissing { .. } => ErrorCode::InvalidRecord,
        }
    }

    /// Which records of the batch are at fault, all of them, where that is known: the producer
    /// sends the others again. KIP-467.
    pub(super) fn records(&self) -> &[i32] {
        match self {
            Self::Batch(InvalidBatch::Batch(BatchError::MalformedRecord { index, .. })) => {
                std::slice::from_ref(index)
            }
            Self::Batch(_) | Self::Large | Self::Unfolded | Self::Busy | Self::Zstd => &[],
            Self::Timestamps { records, .. } | Self::KeysMissing { records } => records,
        }
    }
}

/// What the batches of one request may still unfold into, in bytes.
///
/// Without it a request of a few hundred kilobytes would keep a thread busy for many seconds: each
/// of hundreds of batches may unfold into thousands of times its size.
#[derive(Debug)]
pub(super) struct Allowance(usize);

impl Allowance {
    /// Of a request with so many bytes of records: any one batch, and beside it many that unfold
    /// into a sensible multiple of their size.
    pub(super) fn of(record_bytes: usize) -> Self {
        let in_proportion = record_bytes.saturating_mul(UNFOLDED_PER_BYTE_MAX);
        Self(in_proportion.saturating_add(DECOMPRESSED_BYTES_MAX))
    }

    fn unfold(
        &mut self,
        batch: &RecordBatch,
        unfolded_max: usize,
    ) -> Result<DecodedBatch, Refusal> {
        let most = self.0.min(unfolded_max);
        let decoded = batch.decode(most);
        let is_too_large = matches!(
            decoded,
            Err(BatchError::Compression { source: CompressionError::TooLarge { .. }, .. })
        );
        if is_too_large && most == unfolded_max && most < DECOMPRESSED_BYTES_MAX {
            return Err(Refusal::Large);
        }
        if batch.header().attributes.codec() != Codec::None {
            // What fails has cost as much as it may have.
            self.0 -= decoded.as_ref().map_or(most, DecodedBatch::size_bytes).min(self.0);
        }
        if is_too_large && most < DECOMPRESSED_BYTES_MAX {
            return Err(Refusal::Unfolded);
        }
        Ok(decoded.map_err(InvalidBatch::Batch)?)
    }
}

/// The batch as a topic of these settings stores it; it came in a Produce request of `version`, of
/// which `allowance` is left. One that unfolds into more than `unfolded_max` is [`Refusal::Large`].
pub(super) fn admit(
    version: i16,
    now: Timestamp,
    config: &TopicConfig,
    batch: RecordBatch,
    (allowance, unfolded_max): (&mut Allowance, usize),
) -> Result<RecordBatch, Refusal> {
    let bytes_max = usize::try_from(config.max_message_bytes).unwrap_or(usize::MAX);
    batch.validate_produce(bytes_max, false)?;
    let codec = batch.header().attributes.codec();
    if codec == Codec::Zstd && version < KNOWS_ZSTD {
        return Err(Refusal::Zstd);
    }
    let decoded = allowance.unfold(&batch, unfolded_max)?;
    let newest = check_records(now, config, &decoded)?;
    let stored = stored_codec(config.compression_type);
    let batch = match stored {
        Some(stored) if stored != codec => recompress(&batch, &decoded, config, stored)?,
        _ => batch,
    };
    let batch = match config.message_timestamp_type {
        TimestampType::LogAppendTime => batch.with_log_append_time(now),
        TimestampType::CreateTime if batch.header().max_timestamp != newest => {
            batch.with_max_timestamp(newest)
        }
        TimestampType::CreateTime => batch,
    };
    let batch_bytes = batch.header().size_bytes();
    if batch_bytes > bytes_max {
        let too_large = InvalidBatch::TooLarge { batch_bytes, max_message_bytes: bytes_max };
        return Err(too_large.into());
    }
    Ok(batch)
}

/// Looks at every record. Yields the newest timestamp.
fn check_records(
    now: Timestamp,
    config: &TopicConfig,
    decoded: &DecodedBatch,
) -> Result<Timestamp, Refusal> {
    let needs_keys = config.is_compacted();
    let needs_dates = config.message_timestamp_type == TimestampType::CreateTime;
    let (before_max, after_max) =
        (config.message_timestamp_before_max, config.message_timestamp_after_max);
    let latest = now.plus(after_max);
    let (mut keyless, mut misdated, mut newest) = (Vec::new(), Vec::new(), Timestamp::NONE);
    for (index, record) in (0..).zip(decoded) {
        let record = record.map_err(InvalidBatch::Batch)?;
        newest = newest.max(record.timestamp);
        if needs_keys && record.key.is_none() {
            keyless.push(index);
        }
        let is_dated = record.timestamp != Timestamp::NONE;
        let is_off = record.timestamp > latest || record.timestamp.plus(before_max) < now;
        if needs_dates && is_dated && is_off {
            misdated.push(index);
        }
    }
    if !misdated.is_empty() {
        return Err(Refusal::Timestamps { records: misdated, now, before_max, after_max });
    }
    if !keyless.is_empty() {
        return Err(Refusal::KeysMissing { records: keyless });
    }
    Ok(newest)
}

/// The codec in which a topic stores its batches. `None`: that of their producers.
fn stored_codec(compression_type: CompressionType) -> Option<Codec> {
    match compression_type {
        CompressionType::Producer => None,
        CompressionType::Uncompressed => Some(Codec::None),
        CompressionType::Gzip => Some(Codec::Gzip),
        CompressionType::Snappy => Some(Codec::Snappy),
        CompressionType::Lz4 => Some(Codec::Lz4),
        CompressionType::Zstd => Some(Codec::Zstd),
    }
}

/// How hard a topic compresses by `codec`; `None`: as the codec does by itself.
fn level(config: &TopicConfig, codec: Codec) -> Option<i32> {
    match codec {
        // -1 is gzip's own word for its default.
        Codec::Gzip => Some(config.compression_gzip_level).filter(|level| *level >= 0),
        Codec::Zstd => Some(config.compression_zstd_level),
        // There is one way to write blocks of LZ4 here, and one of snappy anywhere.
        Codec::Lz4 | Codec::Snappy | Codec::None => None,
    }
}

/// The same records in another codec.
fn recompress(
    batch: &RecordBatch,
    decoded: &DecodedBatch,
    config: &TopicConfig,
    codec: Codec,
) -> Result<RecordBatch, InvalidBatch> {
    let level = level(config, codec);
    let options = BatchOptions { codec, level, ..BatchOptions::default() };
    let mut builder = BatchBuilder::new(options);
    for record in decoded {
        let record = record?;
        let headers: Vec<_> = record.headers.iter().collect();
        let headers: Vec<_> = headers.iter().map(|it| (&*it.key, it.value)).collect();
        builder
            .append(record.timestamp, record.key, record.value, &headers)
            .expect("what decompresses to 64 MiB fits a batch of 1 GiB");
    }
    let header = batch.header();
    Ok(builder.finish(
        header.producer_id,
        header.producer_epoch,
        header.base_sequence,
        header.attributes.is_transactional(),
    ))
}

#[cfg(test)]
mod tests {
    use protocol::ids::{ProducerEpoch, ProducerId, Sequence};
    use protocol::record::TimestampType as Dated;

    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000);

    type Given<'a> = (Option<&'a [u8]>, i64);

    fn batch(codec: Codec, records: &[Given<'_>]) -> RecordBatch {
        let mut builder = BatchBuilder::new(BatchOptions { codec, ..BatchOptions::default() });
        for (key, at) in records {
            let headers: [(&str, Option<&[u8]>); 2] = [("a", None), ("a", Some(b"1"))];
            builder.append(Timestamp(*at), *key, Some(&[b'v'; 200]), &headers).unwrap();
        }
        builder.finish(ProducerId(7), ProducerEpoch(1), Sequence(5), true)
    }

    fn config(settings: &[(&str, &str)]) -> TopicConfig {
        TopicConfig::of(&crate::config::BrokerConfig::default(), settings.iter().copied()).unwrap()
    }

    /// In a request of its own.
    fn admit_alone(
        version: i16,
        config: &TopicConfig,
        batch: RecordBatch,
    ) -> Result<RecordBatch, Refusal> {
        let terms = (&mut Allowance::of(0), DECOMPRESSED_BYTES_MAX);
        admit(version, NOW, config, batch, terms)
    }

    fn check(
        settings: &[(&str, &str)],
        batch: RecordBatch,
    ) -> Result<RecordBatch, (ErrorCode, Vec<i32>)> {
        let admitted = admit_alone(11, &config(settings), batch);
        if let Ok(admitted) = &admitted {
            admitted.verify_crc().unwrap();
        }
        admitted.map_err(|error| (error.code(), error.records().to_vec()))
    }

    fn records(batch: &RecordBatch) -> Vec<protocol::record::Record> {
        batch.decode(1 << 20).unwrap().into_iter().map(Result::unwrap).collect()
    }

    #[test]
    fn what_needs_no_change_is_stored_with_the_bytes_that_came() {
        for codec in Codec::ALL {
            let sent = batch(codec, &[(None, 999_000), (Some(b"k"), 998_000), (None, -1)]);
            let stored = check(&[], sent.clone()).unwrap();
            assert_eq!(stored.bytes().as_ptr(), sent.bytes().as_ptr());
            let same = [("compression.type", codec.name())];
            let same = if codec == Codec::None { &[][..] } else { &same[..] };
            assert_eq!(check(same, sent.clone()).unwrap().bytes().as_ptr(), sent.bytes().as_ptr());
        }
    }

    #[test]
    fn records_that_are_dated_too_early_or_too_late_are_named() {
        let code = ErrorCode::InvalidTimestamp;
        let off = batch(Codec::Lz4, &[(None, 1_000_000), (None, 1_000_011), (None, 989_999)]);
        let bounds = [
            ("message.timestamp.after.max.ms", "10"),
            ("message.timestamp.before.max.ms", "10000"),
        ];
        assert_eq!(check(&bounds, off.clone()), Err((code, vec![1, 2])));
        let late = [("message.timestamp.after.max.ms", "10")];
        assert_eq!(check(&late, off.clone()), Err((code, vec![1])));
        assert!(check(&[], off.clone()).is_ok());
        let dated_here = [bounds[0], bounds[1], ("message.timestamp.type", "LogAppendTime")];
        assert!(check(&dated_here, off).is_ok());
        let edge = batch(Codec::None, &[(None, 1_000_010), (None, 990_000), (None, -1)]);
        assert!(check(&bounds, edge).is_ok());
    }

    #[test]
    fn records_without_a_key_are_named_where_the_topic_is_compacted() {
        let sent = batch(Codec::Zstd, &[(Some(b"k"), 1), (None, 1), (Some(b""), 1), (None, 1)]);
        assert!(check(&[], sent.clone()).is_ok());
        let compacted = [("cleanup.policy", "compact,delete")];
        assert_eq!(check(&compacted, sent), Err((ErrorCode::InvalidRecord, vec![1, 3])));
    }

    #[test]
    fn another_codec_keeps_records_producer_and_transaction() {
        for from in Codec::ALL {
            let sent = batch(from, &[(Some(b"k"), 999_000), (None, 999_500), (None, 998_000)]);
            for to in ["gzip", "snappy", "lz4", "zstd", "uncompressed"] {
                let stored = check(&[("compression.type", to)], sent.clone()).unwrap();
                let codec = Codec::from_name(to).unwrap_or(Codec::None);
                assert_eq!(stored.header().attributes.codec(), codec);
                assert_eq!(records(&stored), records(&sent));
                let mut header = *sent.header();
                header.attributes = header.attributes.with_codec(codec);
                (header.batch_length, header.crc) =
                    (stored.header().batch_length, stored.header().crc);
                assert_eq!(*stored.header(), header);
            }
        }
    }

    #[test]
    fn levels_decide_how_hard_is_compressed() {
        let keys: Vec<Vec<u8>> =
            (0..2000_u32).map(|n| (n * 7919 % 2003).to_string().into_bytes()).collect();
        let given: Vec<Given<'_>> = keys.iter().map(|key| (Some(&key[..]), 1)).collect();
        let sent = batch(Codec::None, &given);
        for (codec, fast, thorough) in [("gzip", "1", "9"), ("zstd", "-7", "19")] {
            let size = |level| {
                let name = format!("compression.{codec}.level");
                let settings = [("compression.type", codec), (name.as_str(), level)];
                check(&settings, sent.clone()).unwrap().bytes().len()
            };
            assert!(size(thorough) < size(fast), "{codec}");
        }
    }

    #[test]
    fn what_is_stored_must_not_be_larger_than_the_topic_takes() {
        let given: [Given<'_>; 20] = [(Some(b"k"), 1); 20];
        let sent = batch(Codec::Zstd, &given);
        let bytes = sent.bytes().len().to_string();
        let large = ("max.message.bytes", bytes.as_str());
        assert!(check(&[large], sent.clone()).is_ok());
        let unfolded = check(&[large, ("compression.type", "uncompressed")], sent.clone());
        assert_eq!(unfolded, Err((ErrorCode::MessageTooLarge, vec![])));
        let small = (sent.bytes().len() - 1).to_string();
        let refused = check(&[("max.message.bytes", small.as_str())], sent);
        assert_eq!(refused, Err((ErrorCode::MessageTooLarge, vec![])));
    }

    #[test]
    fn the_broker_dates_records_where_the_topic_says_so() {
        let sent = batch(Codec::Gzip, &[(None, 5), (None, 6)]);
        let stored = check(&[("message.timestamp.type", "LogAppendTime")], sent).unwrap();
        assert!(stored.header().attributes.is_log_append_time());
        assert_eq!(stored.header().max_timestamp, NOW);
        assert!(records(&stored).iter().all(|record| record.timestamp == NOW));
        let untrue = batch(Codec::None, &[(None, 5)]).with_log_append_time(Timestamp(5));
        assert_eq!(
            untrue.header().attributes.with_timestamp_type(Dated::LogAppend),
            untrue.header().attributes
        );
        assert_eq!(check(&[], untrue), Err((ErrorCode::InvalidTimestamp, vec![])));
    }

    #[test]
    fn a_header_that_is_untrue_about_the_newest_timestamp_is_put_right() {
        let sent = batch(Codec::Snappy, &[(None, 5), (None, 9), (None, 7)]);
        let untrue = sent.with_max_timestamp(Timestamp(i64::MAX));
        let stored = check(&[], untrue).unwrap();
        assert_eq!(stored, sent);
    }

    #[test]
    fn zstd_is_for_those_who_know_it() {
        let sent = batch(Codec::Zstd, &[(None, 1)]);
        assert_eq!(admit_alone(6, &config(&[]), sent.clone()), Err(Refusal::Zstd));
        assert!(admit_alone(7, &config(&[]), sent).is_ok());
    }

    #[test]
    fn the_batches_of_a_request_unfold_into_a_multiple_of_its_size_and_one_batch() {
        let mut builder =
            BatchBuilder::new(BatchOptions { codec: Codec::Zstd, ..BatchOptions::default() });
        builder.append(Timestamp(1), None, Some(&vec![0; 30 << 20]), &[]).unwrap();
        let sent = builder.finish(ProducerId::NONE, ProducerEpoch(-1), Sequence(-1), false);
        let mut allowance = Allowance::of(3 * sent.bytes().len());
        let mut take = |unfolded_max| {
            let terms = (&mut allowance, unfolded_max);
            admit(11, NOW, &config(&[]), sent.clone(), terms).map(|_| ())
        };
        assert_eq!(take(1 << 20), Err(Refusal::Large));
        assert_eq!(take(DECOMPRESSED_BYTES_MAX), Ok(()));
        assert_eq!(take(DECOMPRESSED_BYTES_MAX), Ok(()));
        assert_eq!(take(DECOMPRESSED_BYTES_MAX), Err(Refusal::Unfolded));
        // Nor are the next ones tried again and again.
        assert_eq!(take(1 << 20), Err(Refusal::Unfolded));
        assert_eq!(Refusal::Unfolded.code(), ErrorCode::NotEnoughReplicas);
        let small = batch(Codec::None, &[(None, 1)]);
        let terms = (&mut allowance, DECOMPRESSED_BYTES_MAX);
        assert!(admit(11, NOW, &config(&[]), small, terms).is_ok());
    }
}
