//! Record batches: whatever bytes come, both ways of reading records agree, what a leader accepts can
//! be read, and what is built or compacted from what was read says the same.
//!
//! Input: a byte of switches, then bytes that begin with a batch. A switch makes the length or the
//! checksum of each batch true, so that the search is not stopped by them. Pure.

use bytes::Bytes;
use protocol::ids::{CoordinatorEpoch, LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence};
use protocol::record::{
    BatchBuilder, BatchError, BatchOptions, Codec, ControlRecord,
    DECOMPRESSED_BYTES_MAX as LIMIT_BYTES, HEADER_BYTES, Record, RecordBatch, TimestampType,
};
use protocol::time::Timestamp;

use crate::input::Input;
use crate::memory::in_proportion;

/// 64 KiB: what batches may decompress to here; codecs have a target of their own.
const DECOMPRESSED_BYTES_MAX: usize = 64 << 10;
/// Batches that are looked at, of one input.
const BATCHES_MAX: usize = 8;

const FIX_LENGTH: u8 = 1;
const FIX_CHECKSUM: u8 = 2;
const BUILD_ANEW: u8 = 4;

/// Makes the length before, and the checksum within, the batch that `bytes` begin with true, as
/// `switches` say. Yields how long it is.
pub(crate) fn mend(bytes: &mut [u8], switches: u8) -> Option<usize> {
    if bytes.len() < HEADER_BYTES {
        return None;
    }
    if switches & FIX_LENGTH != 0 {
        let length = i32::try_from(bytes.len() - 12).ok()?;
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
        bytes[16] = 2;
    }
    let length = i32::from_be_bytes(*bytes[8..12].first_chunk()?);
    let size = usize::try_from(length).ok()?.checked_add(12)?;
    let batch = bytes.get_mut(..size).filter(|batch| batch.len() >= HEADER_BYTES)?;
    if switches & FIX_CHECKSUM != 0 {
        let crc = crc_fast::crc32_iscsi(&batch[21..]);
        batch[17..21].copy_from_slice(&crc.to_be_bytes());
    }
    Some(size)
}

/// Tries one input.
///
/// # Panics
/// When a law is broken.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let switches = input.byte();
    let mut bytes = input.rest().to_vec();
    let mut at = 0;
    while let Some(size) = bytes.get_mut(at..).and_then(|rest| mend(rest, switches)) {
        at += size;
    }
    let size = bytes.len();
    let mut rest = Bytes::from(bytes);
    // A leader lets a batch become as large as any may.
    in_proportion(size, 2 * LIMIT_BYTES, || {
        for _ in 0..BATCHES_MAX {
            let before = rest.len();
            match RecordBatch::split_first(&mut rest) {
                Ok(Some(batch)) => {
                    assert_eq!(before, rest.len() + batch.bytes().len());
                    check(&batch, switches & BUILD_ANEW != 0);
                }
                Ok(None) | Err(_) => {
                    assert_eq!(before, rest.len());
                    break;
                }
            }
        }
    });
}

fn check(batch: &RecordBatch, builds: bool) {
    assert_eq!(RecordBatch::parse(batch.bytes().clone()).as_ref(), Ok(batch));
    check_stamp(batch);
    let _ = ControlRecord::of(batch);
    let bytes = batch.bytes().len();
    let records = in_proportion(bytes, 4 * DECOMPRESSED_BYTES_MAX, || read(batch));
    let accepted = batch.validate_produce(1 << 20, true);
    if accepted.is_ok() {
        let header = batch.header();
        // A batch that decompresses to more than this target allows is accepted all the same.
        if let Ok(records) = &records {
            assert_eq!(i32::try_from(records.len()), Ok(header.record_count));
            for (record, offset) in records.iter().zip(0..) {
                assert_eq!(record.offset, Offset(offset));
            }
        }
    }
    let Ok(records) = records else { return };
    if builds {
        check_retained(batch, &records);
        check_built(batch.header().attributes.codec(), &records);
    }
}

/// All records, read in each of the ways there are.
fn read(batch: &RecordBatch) -> Result<Vec<Record>, BatchError> {
    let decoded = batch.decode(DECOMPRESSED_BYTES_MAX)?;
    let borrowed: Vec<_> = decoded.iter().collect();
    if !batch.header().attributes.codec().compresses() {
        assert!(batch.records().eq(borrowed.iter().cloned()));
    }
    let owned: Vec<_> = decoded.clone().into_iter().collect();
    assert_eq!(borrowed.len(), owned.len());
    for (borrowed, owned) in borrowed.iter().zip(&owned) {
        match (borrowed, owned) {
            (Ok(borrowed), Ok(owned)) => {
                assert_eq!((borrowed.offset, borrowed.timestamp), (owned.offset, owned.timestamp));
                assert_eq!(borrowed.key, owned.key.as_deref());
                assert_eq!(borrowed.value, owned.value.as_deref());
                assert!(borrowed.headers.iter().eq(owned.headers.iter()));
                assert_eq!(borrowed.headers.iter().count(), borrowed.headers.len());
                assert!(borrowed.offset >= batch.header().base_offset);
                assert!(borrowed.offset <= batch.header().last_offset());
            }
            (borrowed, owned) => assert_eq!(borrowed.as_ref().err(), owned.as_ref().err()),
        }
    }
    owned.into_iter().collect()
}

fn check_stamp(batch: &RecordBatch) {
    let stamped = batch.stamped(Offset(1000), LeaderEpoch(3)).into_batch();
    assert_eq!(stamped.verify_crc().is_ok(), batch.verify_crc().is_ok());
    assert_eq!(stamped.header().base_offset, Offset(1000));
    assert_eq!(stamped.bytes()[16..], batch.bytes()[16..]);
    assert_eq!(stamped.bytes()[8..12], batch.bytes()[8..12]);
}

fn check_retained(batch: &RecordBatch, records: &[Record]) {
    let all = batch.retain(DECOMPRESSED_BYTES_MAX, None, |_| true);
    assert_eq!(all.as_ref(), Ok(batch), "who keeps all changes nothing");
    // Near the largest offset several records have the same.
    if batch.header().last_offset().0 == i64::MAX {
        return;
    }
    let keeps = |offset: Offset| offset.0 % 2 == 0;
    let half = batch.retain(DECOMPRESSED_BYTES_MAX, None, |record| keeps(record.offset));
    let half = half.expect("all records were read before");
    let left = read(&half).expect("what compaction leaves can be read");
    let want: Vec<_> = records.iter().filter(|it| keeps(it.offset)).cloned().collect();
    assert_eq!(left.len(), want.len());
    for (left, want) in left.iter().zip(&want) {
        assert_eq!((left.offset, left.timestamp), (want.offset, want.timestamp));
        assert_eq!((&left.key, &left.value), (&want.key, &want.value));
        assert!(left.headers.iter().eq(want.headers.iter()));
    }
    if half != *batch {
        assert_eq!(half.verify_crc(), Ok(()));
    }
}

fn check_built(codec: Codec, records: &[Record]) {
    if records.is_empty() {
        return;
    }
    let mut builder = BatchBuilder::new(BatchOptions { codec, ..BatchOptions::default() });
    for record in records {
        let headers = record.headers.to_vec();
        let headers: Vec<_> = headers.iter().map(|(k, v)| (k.as_str(), v.as_deref())).collect();
        let (key, value) = (record.key.as_deref(), record.value.as_deref());
        builder.append(record.timestamp, key, value, &headers).expect("it fitted before");
    }
    let (none, epoch) = (ProducerId::NONE, ProducerEpoch(-1));
    let built = builder.finish(none, epoch, Sequence(-1), false);
    assert_eq!(built.validate_produce(usize::MAX, true), Ok(()));
    let again: Result<Vec<_>, _> =
        built.decode(4 * DECOMPRESSED_BYTES_MAX).expect("our own").into_iter().collect();
    let again = again.expect("our own records");
    assert_eq!(again.len(), records.len());
    for (again, record) in again.iter().zip(records) {
        assert_eq!(again.timestamp, record.timestamp);
        assert_eq!((&again.key, &again.value), (&record.key, &record.value));
        assert!(again.headers.iter().eq(record.headers.iter()));
    }
}

/// Batches of every codec, of a transaction, control batches, and several in a row.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let mut batches = Vec::new();
    for codec in Codec::ALL {
        for count in [1, 3] {
            batches.push(sample(codec, count, 0, false));
        }
        batches.push(sample(codec, 2, 1, true));
    }
    let coordinator_epoch = CoordinatorEpoch(2);
    for marker in
        [ControlRecord::Commit { coordinator_epoch }, ControlRecord::Abort { coordinator_epoch }]
    {
        batches.push(marker.end_txn_marker(ProducerId(5), ProducerEpoch(1), Timestamp(9)));
    }
    let dated = sample(Codec::None, 2, 2, false).with_log_append_time(Timestamp(77));
    batches.push(dated);
    let some = sample(Codec::Lz4, 4, 3, false);
    let kept = some.retain(1 << 20, Some(Timestamp(5)), |record| record.offset.0 == 2);
    batches.push(kept.expect("our own batch"));
    let mut seeds = Vec::new();
    for (number, batch) in batches.iter().enumerate() {
        let switches = [FIX_LENGTH | FIX_CHECKSUM, FIX_CHECKSUM | BUILD_ANEW, 0][number % 3];
        seeds.push([&[switches], &batch.bytes()[..]].concat());
        seeds.push([&[FIX_LENGTH | FIX_CHECKSUM | BUILD_ANEW], &batch.bytes()[..]].concat());
    }
    let row: Vec<u8> = batches.iter().take(4).flat_map(|it| it.bytes().to_vec()).collect();
    seeds.push([&[FIX_CHECKSUM | BUILD_ANEW], &row[..]].concat());
    seeds
}

/// A batch of `count` records.
pub(crate) fn sample(codec: Codec, count: i64, shape: u8, is_transactional: bool) -> RecordBatch {
    let timestamp_type = TimestampType::default();
    let mut builder =
        BatchBuilder::new(BatchOptions { codec, timestamp_type, ..BatchOptions::default() });
    for number in 0..count {
        let value = vec![b'v'; usize::try_from(3 + 9 * number).expect("small")];
        let key = (number % 2 == 0).then_some(&b"key"[..]);
        let value = (shape != 2 || number % 2 == 0).then_some(&value[..]);
        let headers: &[(&str, Option<&[u8]>)] =
            if shape == 1 { &[("h", Some(b"x")), ("h", None)] } else { &[] };
        let timestamp = Timestamp(1_800_000_000_000 + number * 10);
        builder.append(timestamp, key, value, headers).expect("a small record");
    }
    let (id, epoch, sequence) = if is_transactional { (7, 1, 3) } else { (-1, -1, -1) };
    builder.finish(ProducerId(id), ProducerEpoch(epoch), Sequence(sequence), is_transactional)
}
