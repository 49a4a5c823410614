//! Laws of record batches: byte-exact examples, other implementations as oracles, and what hostile
//! bytes may not do. Pure.
use super::*;
use crate::ids::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence};
use crate::time::Timestamp;

#[test]
fn what_was_built_is_read_back() {
    for codec in Codec::ALL {
        let mut builder = BatchBuilder::new(BatchOptions { codec, ..BatchOptions::default() });
        for i in 0..100_i64 {
            let headers: [(&str, Option<&[u8]>); 2] = [("a", Some(b"1")), ("a", None)];
            builder.append(Timestamp(1000 - i), Some(b"key"), Some(b"value"), &headers).unwrap();
        }
        let batch = builder.finish(ProducerId(1), ProducerEpoch(2), Sequence(3), true);
        let batch = RecordBatch::parse(batch.into_bytes()).unwrap();
        batch.validate_produce(1 << 20, true).unwrap();
        let batch = batch.stamped(Offset(50), LeaderEpoch(9)).into_batch();
        batch.verify_crc().unwrap();
        let records =
            batch.decode(1 << 20).unwrap().into_iter().collect::<Result<Vec<_>, _>>().unwrap();
        assert_eq!(records.len(), 100);
        assert_eq!(records[99].offset, Offset(149));
        assert_eq!(records[99].timestamp, Timestamp(901));
        assert_eq!(records[99].headers.len(), 2);
    }
}
