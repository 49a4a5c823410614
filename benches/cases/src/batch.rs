//! Record batches built, checked and taken apart.
//!
//! A batch of 100 records of 100 bytes, as a producer with defaults sends it. Pure.

use std::hint::black_box;

use bytes::Bytes;
use protocol::ids::{ProducerEpoch, ProducerId, Sequence};
use protocol::record::{BatchBuilder, BatchOptions, Codec, DECOMPRESSED_BYTES_MAX, RecordBatch};
use protocol::time::Timestamp;

use crate::{Case, Work};

/// All of this file.
pub const CASES: [Case; 4] = [
    Case { name: "batch: build 100 records", prepare: build },
    Case { name: "batch: split off and verify 16 KiB", prepare: verify },
    Case { name: "batch: walk 100 records", prepare: walk },
    Case { name: "batch: decode 100 records of lz4", prepare: decode },
];

/// A batch of `count` records of `bytes` bytes each.
pub(crate) fn batch(count: i64, bytes: usize, codec: Codec) -> RecordBatch {
    let value: Vec<u8> = (0..bytes).map(|at| b"millstream"[at % 10]).collect();
    let mut builder = BatchBuilder::new(BatchOptions { codec, ..BatchOptions::default() });
    for at in 0..count {
        let timestamp = Timestamp(1_700_000_000_000 + at);
        builder.append(timestamp, Some(b"key"), Some(&value), &[]).expect("there is room");
    }
    builder.finish(ProducerId::NONE, ProducerEpoch::NONE, Sequence::NONE, false)
}

fn build() -> Work {
    Box::new(|| {
        black_box(batch(100, 100, Codec::None));
    })
}

fn verify() -> Work {
    let bytes = batch(16, 1000, Codec::None).into_bytes();
    Box::new(move || {
        let mut rest: Bytes = black_box(bytes.clone());
        let first = RecordBatch::split_first(&mut rest).expect("it is sound").expect("it is whole");
        black_box(first.verify_crc()).expect("it is undamaged");
    })
}

fn walk() -> Work {
    let batch = batch(100, 100, Codec::None);
    Box::new(move || {
        let values = black_box(&batch).records().map(|record| record.expect("it is sound").offset);
        black_box(values.count());
    })
}

fn decode() -> Work {
    let batch = batch(100, 100, Codec::Lz4);
    Box::new(move || {
        let decoded = black_box(&batch).decode(DECOMPRESSED_BYTES_MAX).expect("it is sound");
        black_box(decoded.into_iter().count());
    })
}
