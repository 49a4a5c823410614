//! An implementation that is not ours reads what we write, and we read what it writes. Pure.

use super::*;
use kafka_protocol::indexmap::IndexMap;
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::records::{
    Compression, Record as TheirRecord, RecordBatchDecoder, RecordBatchEncoder,
    RecordEncodeOptions, TimestampType as TheirTimestampType,
};

fn theirs(codec: Codec) -> Compression {
    match codec {
        Codec::None => Compression::None,
        Codec::Gzip => Compression::Gzip,
        Codec::Snappy => Compression::Snappy,
        Codec::Lz4 => Compression::Lz4,
        Codec::Zstd => Compression::Zstd,
    }
}

/// The oracle's maps cannot hold a header key twice, so keys are made unique; its base timestamp is
/// the lowest, so the first record is made that.
fn tamed(mut records: Vec<Parts>) -> Vec<Parts> {
    for (timestamp, _, _, headers) in &mut records {
        *timestamp = (*timestamp >> 2).max(0);
        for (index, (key, _)) in headers.iter_mut().enumerate() {
            key.push_str(&index.to_string());
        }
    }
    records[0].0 = 0;
    records
}

fn their_records(records: &[Parts]) -> Vec<TheirRecord> {
    (0..)
        .zip(records)
        .map(|(index, (timestamp, key, value, headers))| TheirRecord {
            transactional: true,
            control: false,
            delete_horizon: false,
            partition_leader_epoch: -1,
            producer_id: 77,
            producer_epoch: 5,
            timestamp_type: TheirTimestampType::Creation,
            offset: index,
            sequence: i32::try_from(index).unwrap(),
            timestamp: *timestamp,
            key: key.clone().map(Bytes::from),
            value: value.clone().map(Bytes::from),
            headers: headers
                .iter()
                .map(|(key, value)| {
                    (StrBytes::from_string(key.clone()), value.clone().map(Bytes::from))
                })
                .collect::<IndexMap<_, _>>(),
        })
        .collect()
}

fn our_batch(codec: Codec, records: &[Parts]) -> RecordBatch {
    builder_of(codec, records).finish(ProducerId(77), ProducerEpoch(5), Sequence(0), true)
}

fn their_batch(codec: Codec, records: &[TheirRecord]) -> Bytes {
    let options = RecordEncodeOptions { version: 2, compression: theirs(codec) };
    let mut bytes = bytes::BytesMut::new();
    RecordBatchEncoder::encode(&mut bytes, records, &options).unwrap();
    bytes.freeze()
}

proptest! {
    #[test]
    fn the_oracle_reads_what_we_write(records in any_records(), codec in any_codec()) {
        let records = tamed(records);
        let mut bytes = our_batch(codec, &records).into_bytes();
        let read = RecordBatchDecoder::decode(&mut bytes).unwrap();
        prop_assert_eq!(read.compression, theirs(codec));
        prop_assert_eq!(read.records, their_records(&records));
    }

    #[test]
    fn we_read_what_the_oracle_writes(records in any_records(), codec in any_codec()) {
        let records = tamed(records);
        let batch = RecordBatch::parse(their_batch(codec, &their_records(&records))).unwrap();
        prop_assert_eq!(batch.validate_produce(usize::MAX, true), Ok(()));
        let ours = our_batch(codec, &records);
        prop_assert_eq!(records_of(&batch), records_of(&ours));
        // Compressors may differ in what they find; without one there is one encoding alone.
        if codec == Codec::None {
            prop_assert_eq!(batch, ours);
        }
    }
}
