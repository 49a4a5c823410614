//! Laws of record batches: byte-exact examples, an independent implementation as oracle both ways,
//! and what hostile bytes may not do. Pure.

mod codecs;
mod hostile;
mod oracle;

use super::*;
use crate::error_code::ErrorCode;
use crate::ids::{CoordinatorEpoch, LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence};
use crate::time::Timestamp;
use bytes::Bytes;
use proptest::prelude::*;

/// Some records: timestamp, key, value, headers.
type Parts = (i64, Option<Vec<u8>>, Option<Vec<u8>>, Vec<(String, Option<Vec<u8>>)>);

fn any_records() -> impl Strategy<Value = Vec<Parts>> {
    let bytes = || prop::option::of(prop::collection::vec(any::<u8>(), 0..200));
    let header = (".{0,5}", bytes());
    let record = (any::<i64>(), bytes(), bytes(), prop::collection::vec(header, 0..4));
    prop::collection::vec(record, 1..40)
}

fn any_codec() -> impl Strategy<Value = Codec> {
    prop::sample::select(&Codec::ALL[..])
}

fn builder_of(codec: Codec, records: &[Parts]) -> BatchBuilder {
    let mut builder = BatchBuilder::new(BatchOptions { codec, ..BatchOptions::default() });
    for (index, (timestamp, key, value, headers)) in (0..).zip(records) {
        let headers: Vec<_> =
            headers.iter().map(|(key, value)| (key.as_str(), value.as_deref())).collect();
        let before = builder.estimated_size();
        let bytes_max = BatchBuilder::record_bytes_max(key.as_deref(), value.as_deref(), &headers);
        let delta =
            builder.append(Timestamp(*timestamp), key.as_deref(), value.as_deref(), &headers);
        assert_eq!(delta, Ok(index));
        assert!(builder.estimated_size() - before <= bytes_max);
    }
    builder
}

fn batch_of(codec: Codec, records: &[Parts]) -> RecordBatch {
    let builder = builder_of(codec, records);
    builder.finish(ProducerId::NONE, ProducerEpoch::NONE, Sequence::NONE, false)
}

fn plain(count: u8) -> Vec<Parts> {
    (0..count).map(|i| (i64::from(i), Some(vec![i]), Some(vec![i; 3]), Vec::new())).collect()
}

fn records_of(batch: &RecordBatch) -> Vec<Record> {
    let decoded = batch.decode(DECOMPRESSED_BYTES_MAX).unwrap();
    decoded.into_iter().collect::<Result<_, _>>().unwrap()
}

/// `batch` with `change` made to its bytes and its checksum made to fit.
fn forged(
    batch: &RecordBatch,
    change: impl FnOnce(&mut Vec<u8>),
) -> Result<RecordBatch, BatchError> {
    let mut bytes = batch.bytes().to_vec();
    change(&mut bytes);
    let crc = crc_fast::crc32_iscsi(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    RecordBatch::parse(bytes.into())
}

fn unhex(hex: &str) -> Bytes {
    let nibble = |digit: u8| u8::try_from(char::from(digit).to_digit(16).unwrap()).unwrap();
    let (pairs, rest) = hex.as_bytes().as_chunks::<2>();
    assert!(rest.is_empty());
    pairs.iter().map(|&[high, low]| nibble(high) << 4 | nibble(low)).collect()
}

/// Derived by hand from the format: a transactional batch of producer 4242, epoch 7, sequence 100,
/// with a repeated header, a null and an empty key, a value longer than one length byte, a
/// timestamp before the first and one whose delta takes more than 32 bits.
fn golden() -> Bytes {
    let first = "0000000000000000000000a2ffffffff02bb9db9e40010000000020000018bcfe5680000\
                 00028bcfe568000000000000001092000700000064000000032a000000066b65790a7661\
                 6c756504026802310268019a01000902018c01";
    unhex(&[first, &"78".repeat(70), "00160080808080804004000100"].concat())
}

fn golden_records() -> Vec<Parts> {
    let base = 1_700_000_000_000;
    let headers = vec![("h".into(), Some(b"1".to_vec())), ("h".into(), None)];
    vec![
        (base, Some(b"key".to_vec()), Some(b"value".to_vec()), headers),
        (base - 5, None, Some(vec![b'x'; 70]), Vec::new()),
        (base + (1 << 40), Some(Vec::new()), None, Vec::new()),
    ]
}

#[test]
fn a_batch_has_the_bytes_that_the_format_prescribes() {
    let batch = builder_of(Codec::None, &golden_records()).finish(
        ProducerId(4242),
        ProducerEpoch(7),
        Sequence(100),
        true,
    );
    assert_eq!(batch.bytes(), &golden());
    assert_eq!(RecordBatch::parse(golden()).as_ref(), Ok(&batch));
}

#[test]
fn the_bytes_of_the_format_read_as_the_batch_they_are() {
    let batch = RecordBatch::parse(golden()).unwrap();
    batch.verify_crc().unwrap();
    let header = batch.header();
    assert_eq!(header.size_bytes(), 174);
    assert_eq!(header.leader_epoch, LeaderEpoch::NONE);
    assert_eq!(header.max_timestamp, Timestamp(1_700_000_000_000 + (1 << 40)));
    assert_eq!((header.last_offset(), header.next_offset()), (Offset(2), Offset(3)));
    assert_eq!(header.last_sequence(), Sequence(102));
    assert!(header.is_idempotent());
    assert!(header.attributes.is_transactional());
    assert!(!header.attributes.is_control());

    let records = batch.records().collect::<Result<Vec<_>, _>>().unwrap();
    assert_eq!(records[0].key, Some(&b"key"[..]));
    let headers: Vec<_> =
        records[0].headers.iter().map(|h| (h.key.into_owned(), h.value)).collect();
    assert_eq!(headers, [("h".to_owned(), Some(&b"1"[..])), ("h".to_owned(), None)]);
    assert_eq!(records[0].headers.last("h").unwrap().value, None);
    assert_eq!(records[0].headers.last("g"), None);
    assert_eq!((records[1].key, records[1].timestamp), (None, Timestamp(1_699_999_999_995)));
    assert_eq!((records[2].key, records[2].value), (Some(&b""[..]), None));
    assert_eq!(records[2].timestamp, header.max_timestamp);
}

#[test]
fn a_commit_marker_has_the_bytes_that_the_format_prescribes() {
    let marker = ControlRecord::Commit { coordinator_epoch: CoordinatorEpoch(13) };
    let batch =
        marker.end_txn_marker(ProducerId(4242), ProducerEpoch(7), Timestamp(1_700_000_000_000));
    let golden = "000000000000000000000042ffffffff02ad9e8aea0030000000000000018bcfe568000000018b\
                  cfe5680000000000000010920007ffffffff000000012000000008000000010c00000000000d00";
    assert_eq!(batch.bytes(), &unhex(golden));
    assert_eq!(ControlRecord::of(&batch), Ok(Some(marker)));
    assert_eq!(batch.header().last_sequence(), Sequence::NONE);
}

#[test]
fn a_control_record_of_another_type_is_unknown_and_a_short_one_is_malformed() {
    assert_eq!(ControlRecord::read(&[0, 0, 0, 2], None), Some(ControlRecord::Unknown(2)));
    let abort = ControlRecord::Abort { coordinator_epoch: CoordinatorEpoch(1) };
    // A later version may have more fields than we know.
    assert_eq!(ControlRecord::read(&[0, 1, 0, 0], Some(&[0, 1, 0, 0, 0, 1, 9])), Some(abort));
    assert_eq!(ControlRecord::read(&[0, 0, 0], None), None);
    assert_eq!(ControlRecord::read(&[0, 0, 0, 0], Some(&[0, 0, 0, 0, 0])), None);
    assert_eq!(ControlRecord::read(&[0, 0, 0, 1], None), None);
    assert_eq!(ControlRecord::read(&[255, 255, 0, 1], Some(&[0; 6])), None);
    assert_eq!(ControlRecord::of(&batch_of(Codec::None, &plain(1))), Ok(None));
}

#[test]
fn batches_are_taken_off_one_by_one_and_a_partial_last_one_is_left() {
    let first = batch_of(Codec::None, &plain(3));
    let second = batch_of(Codec::Lz4, &plain(5));
    let whole = [&first.bytes()[..], &second.bytes()[..]].concat();
    for cut in 0..=whole.len() {
        let mut rest = Bytes::from(whole[..cut].to_vec());
        let mut taken = Vec::new();
        while let Some(batch) = RecordBatch::split_first(&mut rest).unwrap() {
            taken.push(batch);
        }
        let sizes = [first.bytes().len(), whole.len()];
        let expected = sizes.iter().filter(|&&size| size <= cut).count();
        assert_eq!(
            taken,
            [&first, &second][..expected].iter().map(|&b| b.clone()).collect::<Vec<_>>()
        );
        let left = cut - taken.iter().map(|batch| batch.bytes().len()).sum::<usize>();
        assert_eq!(rest.len(), left);
    }
}

#[test]
fn parsing_demands_exactly_one_batch() {
    let batch = batch_of(Codec::None, &plain(3));
    let size = batch.bytes().len();
    let mut longer = batch.bytes().to_vec();
    longer.push(0);
    let trailing = RecordBatch::parse(longer.into()).unwrap_err();
    assert_eq!(trailing, BatchError::TrailingBytes { base_offset: Offset(0), count: 1 });
    assert_eq!(trailing.code(), ErrorCode::InvalidRecord);
    for have in [0, 60, 61, size - 1] {
        let need = if have < HEADER_BYTES { HEADER_BYTES } else { size };
        let error = RecordBatch::parse(batch.bytes().slice(..have)).unwrap_err();
        assert_eq!(error, BatchError::Truncated { have, need });
        assert_eq!(error.code(), ErrorCode::InvalidRecord);
    }
    assert_eq!(BatchHeader::peek(&batch.bytes()[..61]), Ok(Some(*batch.header())));
    assert_eq!(BatchHeader::peek(&batch.bytes()[..60]), Ok(None));
}

#[test]
fn an_unsound_header_is_refused() {
    let batch = batch_of(Codec::None, &plain(3));
    let refuse = |at: usize, bytes: &[u8], code: ErrorCode| {
        let error =
            forged(&batch, |raw| raw[at..at + bytes.len()].copy_from_slice(bytes)).unwrap_err();
        assert_eq!(error.code(), code, "{error}");
    };
    refuse(16, &[1], ErrorCode::InvalidRecord);
    refuse(16, &[3], ErrorCode::CorruptMessage);
    refuse(8, &48_i32.to_be_bytes(), ErrorCode::CorruptMessage);
    refuse(8, &(-1_i32).to_be_bytes(), ErrorCode::CorruptMessage);
    refuse(21, &[0, 5], ErrorCode::UnsupportedCompressionType);
    refuse(23, &(-1_i32).to_be_bytes(), ErrorCode::InvalidRecord);
    refuse(57, &(-1_i32).to_be_bytes(), ErrorCode::InvalidRecord);
}

#[test]
fn stamping_changes_sixteen_bytes_shares_the_others_and_keeps_the_checksum() {
    let batch = batch_of(Codec::None, &plain(3));
    let stamped = batch.stamped(Offset(1 << 40), LeaderEpoch(9));
    assert_eq!(stamped.rest.as_ptr(), batch.bytes()[16..].as_ptr());
    assert_eq!(stamped.size_bytes(), batch.bytes().len());
    let again = stamped.into_batch();
    again.verify_crc().unwrap();
    let header = BatchHeader {
        base_offset: Offset(1 << 40),
        leader_epoch: LeaderEpoch(9),
        ..*batch.header()
    };
    assert_eq!(again.header(), &header);
    assert_eq!(records_of(&again)[2].offset, Offset((1 << 40) + 2));
}

#[test]
fn with_log_append_time_every_record_has_the_time_of_the_append() {
    let batch = batch_of(Codec::Zstd, &plain(3)).with_log_append_time(Timestamp(777));
    batch.verify_crc().unwrap();
    assert!(batch.header().attributes.is_log_append_time());
    assert_eq!(batch.header().attributes.codec(), Codec::Zstd);
    assert!(records_of(&batch).iter().all(|record| record.timestamp == Timestamp(777)));
    let error = batch.validate_produce(1 << 20, true).unwrap_err();
    assert_eq!(error.code(), ErrorCode::InvalidTimestamp);
}

#[test]
fn a_batch_sent_by_a_new_incarnation_differs_only_in_its_producer() {
    let batch = batch_of(Codec::Snappy, &plain(3));
    let again = batch.with_producer(ProducerId(5), ProducerEpoch(1), Sequence(i32::MAX));
    again.verify_crc().unwrap();
    assert_eq!(again.header().last_sequence(), Sequence(1));
    assert_eq!(again.bytes()[61..], batch.bytes()[61..]);
    let back = again.with_producer(ProducerId::NONE, ProducerEpoch::NONE, Sequence::NONE);
    assert_eq!(back, batch);
}

#[test]
fn an_empty_batch_that_compaction_left_is_readable_and_keeps_its_offsets() {
    let batch = forged(&batch_of(Codec::None, &plain(3)), |raw| {
        raw.truncate(61);
        raw[8..12].copy_from_slice(&49_i32.to_be_bytes());
        raw[57..61].copy_from_slice(&0_i32.to_be_bytes());
    })
    .unwrap();
    batch.verify_crc().unwrap();
    assert_eq!(batch.records().count(), 0);
    assert_eq!(records_of(&batch), []);
    assert_eq!(batch.header().next_offset(), Offset(3));
}

#[test]
fn an_empty_batch_may_claim_a_codec_without_a_frame() {
    let batch = forged(&batch_of(Codec::Gzip, &plain(3)), |raw| {
        raw.truncate(61);
        raw[8..12].copy_from_slice(&49_i32.to_be_bytes());
        raw[57..61].copy_from_slice(&0_i32.to_be_bytes());
    })
    .unwrap();
    assert_eq!(batch.records().count(), 0);
    assert_eq!(records_of(&batch), []);
}

#[test]
fn compressed_records_must_be_decoded() {
    let batch = batch_of(Codec::Gzip, &plain(3));
    let items: Vec<_> = batch.records().collect();
    let error = BatchError::Compressed { base_offset: Offset(0), codec: Codec::Gzip };
    assert_eq!(items, [Err(error)]);
}

#[test]
fn decoded_records_share_the_buffer() {
    let batch = batch_of(Codec::None, &plain(3));
    let range = batch.bytes().as_ptr_range();
    for record in records_of(&batch) {
        assert!(range.contains(&record.value.unwrap().as_ptr()));
    }
}

#[test]
fn a_header_key_that_is_not_utf8_does_not_hide_its_record() {
    let records: [Parts; 1] = [(0, None, None, vec![("ab".into(), None)])];
    let batch = forged(&batch_of(Codec::None, &records), |raw| {
        let at = raw.windows(2).position(|pair| pair == b"ab").unwrap();
        raw[at] = 0xff;
    })
    .unwrap();
    let records = records_of(&batch);
    assert_eq!(records[0].headers.iter().next().unwrap().key, "\u{fffd}b");
}

/// Whether a batch with a change to its bytes may be produced.
fn produce(change: impl FnOnce(&mut Vec<u8>)) -> Result<(), ErrorCode> {
    let batch = builder_of(Codec::None, &plain(3)).finish(
        ProducerId(1),
        ProducerEpoch(0),
        Sequence(0),
        false,
    );
    forged(&batch, change)
        .map_err(|error| error.code())?
        .validate_produce(1 << 20, true)
        .map_err(|error| error.code())
}

#[test]
fn a_produced_batch_must_keep_every_rule() {
    let invalid = Err(ErrorCode::InvalidRecord);
    assert_eq!(produce(|_| ()), Ok(()));
    assert_eq!(produce(|raw| raw[7] = 9), invalid, "a base offset, which is the leader's to give");
    assert_eq!(produce(|raw| raw[22] = 0x20), invalid, "control");
    assert_eq!(produce(|raw| raw[22] = 0x40), invalid, "delete horizon");
    assert_eq!(produce(|raw| raw[22] = 0x08), Err(ErrorCode::InvalidTimestamp));
    assert_eq!(produce(|raw| raw[26] = 3), invalid, "last offset delta above count");
    assert_eq!(produce(|raw| raw[26] = 1), invalid, "last offset delta below count");
    assert_eq!(produce(|raw| raw[60] = 4), invalid, "count");
    assert_eq!(produce(|raw| raw[57..61].fill(0)), invalid, "no records");
    assert_eq!(produce(|raw| raw[51..53].fill(0xff)), invalid, "no epoch");
    assert_eq!(produce(|raw| raw[53..57].fill(0xff)), invalid, "no sequence");
    // The count says one record less than there are, and so does the last offset delta.
    let fewer = produce(|raw| {
        raw[26] = 1;
        raw[60] = 2;
    });
    assert_eq!(fewer, invalid);
    // The second record's offset delta repeats the first's.
    assert_eq!(produce(|raw| raw[61 + 11 + 3] = 0), invalid);
    assert_eq!(produce(|raw| raw[61 + 11 + 3] = 4), invalid, "offset delta beyond its place");
}

#[test]
fn a_transactional_batch_must_name_its_producer() {
    let builder = builder_of(Codec::None, &plain(1));
    let batch = builder.finish(ProducerId::NONE, ProducerEpoch::NONE, Sequence::NONE, true);
    let error = batch.validate_produce(1 << 20, false).unwrap_err();
    assert_eq!(error.code(), ErrorCode::InvalidRecord);
}

#[test]
fn a_produced_batch_may_be_as_large_as_the_topic_accepts_and_no_larger() {
    let batch = batch_of(Codec::None, &plain(3));
    let size = batch.bytes().len();
    assert_eq!(batch.validate_produce(size, false), Ok(()));
    let error = batch.validate_produce(size - 1, false).unwrap_err();
    assert_eq!(error.code(), ErrorCode::MessageTooLarge);
}

#[test]
fn a_full_batch_refuses_the_record_and_stays_as_it_was() {
    let mut builder = builder_of(Codec::None, &plain(2));
    let size = builder.estimated_size();
    // The same slice again and again: nothing this large is really allocated.
    let value = vec![0; 1 << 20];
    let headers = vec![("h", Some(&value[..])); 1024];
    let refused = builder.append(Timestamp(0), None, None, &headers);
    assert!(
        matches!(refused, Err(BuildError::BatchFull { batch_bytes, .. }) if batch_bytes == size)
    );
    assert_eq!((builder.estimated_size(), builder.record_count()), (size, 2));
}

proptest! {
    #[test]
    fn what_is_built_is_read_back(records in any_records(), codec in any_codec(), base: i64) {
        let batch = batch_of(codec, &records);
        prop_assert_eq!(batch.validate_produce(usize::MAX, true), Ok(()));
        let base = base >> 1;
        let mut bytes = batch.stamped(Offset(base), LeaderEpoch(3)).into_bytes();
        let batch = RecordBatch::split_first(&mut bytes).unwrap().unwrap();
        prop_assert!(bytes.is_empty());
        let read: Vec<Parts> = records_of(&batch)
            .into_iter()
            .zip(base..)
            .map(|(record, offset)| {
                assert_eq!(record.offset, Offset(offset));
                let vec = |bytes: Bytes| bytes.to_vec();
                let headers = record.headers.to_vec();
                let headers = headers.into_iter().map(|(key, value)| (key, value.map(vec)));
                let (key, value) = (record.key.map(vec), record.value.map(vec));
                (record.timestamp.0, key, value, headers.collect())
            })
            .collect();
        prop_assert_eq!(read, records);
    }
}

proptest! {
    #[test]
    fn compaction_keeps_the_chosen_records_and_the_identity_of_the_batch(
        records in any_records(),
        codec in any_codec(),
        keep in prop::collection::vec(any::<bool>(), 40),
        horizon in prop::option::of(any::<i64>().prop_map(Timestamp)),
    ) {
        let builder = builder_of(codec, &records);
        let batch = builder.finish(ProducerId(1), ProducerEpoch(2), Sequence(3), true);
        let batch = batch.stamped(Offset(1000), LeaderEpoch(4)).into_batch();
        let kept = |offset: Offset| keep[usize::try_from(offset.0 - 1000).unwrap()];
        let left = batch
            .retain(DECOMPRESSED_BYTES_MAX, horizon, |record| kept(record.offset))
            .unwrap();
        let left = RecordBatch::parse(left.into_bytes()).unwrap();
        prop_assert_eq!(left.verify_crc(), Ok(()));
        let mut want = records_of(&batch);
        want.retain(|record| kept(record.offset));
        prop_assert_eq!(&records_of(&left), &want);

        let (header, before) = (*left.header(), *batch.header());
        prop_assert_eq!(header.attributes.has_delete_horizon(), horizon.is_some());
        if let Some(horizon) = horizon {
            prop_assert_eq!(header.base_timestamp, horizon);
        }
        let newest = want.iter().map(|record| record.timestamp).max();
        prop_assert_eq!(header.max_timestamp, newest.unwrap_or(before.max_timestamp));
        let identity = BatchHeader {
            batch_length: header.batch_length,
            crc: header.crc,
            attributes: header.attributes,
            base_timestamp: header.base_timestamp,
            max_timestamp: header.max_timestamp,
            record_count: i32::try_from(want.len()).unwrap(),
            ..before
        };
        prop_assert_eq!(header, identity);
        prop_assert_eq!(header.attributes.is_transactional(), true);
    }
}

#[test]
fn the_first_delete_horizon_is_the_one_that_counts() {
    let batch = batch_of(Codec::Lz4, &plain(3));
    let retain = |batch: &RecordBatch, horizon| {
        batch.retain(DECOMPRESSED_BYTES_MAX, Some(Timestamp(horizon)), |_| true).unwrap()
    };
    let first = retain(&batch, 500);
    assert_eq!(first.header().base_timestamp, Timestamp(500));
    assert_eq!(retain(&first, 900), first);
    assert_eq!(records_of(&first), records_of(&batch));
}

#[test]
fn compaction_that_keeps_all_shares_the_batch() {
    let batch = batch_of(Codec::Zstd, &plain(3));
    let left = batch.retain(DECOMPRESSED_BYTES_MAX, None, |_| true).unwrap();
    assert_eq!(left.bytes().as_ptr(), batch.bytes().as_ptr());
}
