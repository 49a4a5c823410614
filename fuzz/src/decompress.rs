//! Each codec on whatever bytes come: never more than the limit, never much more memory than what
//! was really decompressed, and the limit is exact: what decompresses to `n` bytes does so within
//! `n`, and not within `n - 1`.
//!
//! Input: a byte for the codec, one for the limit, then the compressed bytes. Pure.

use bytes::Bytes;
use protocol::ids::{ProducerEpoch, ProducerId, Sequence};
use protocol::record::{
    BatchBuilder, BatchError, BatchOptions, Codec, CompressionError, HEADER_BYTES, RecordBatch,
};
use protocol::rng::Rng;
use protocol::time::Timestamp;

use crate::input::Input;
use crate::memory::{in_proportion, peak_of};

/// What may come out at most.
const LIMITS: [usize; 5] = [0, 100, 4 << 10, 64 << 10, 1 << 20];
/// What is compressed again, at most.
const AGAIN_BYTES_MAX: usize = 16 << 10;

/// A batch whose records are `payload`, as `codec` compressed them.
fn batch(codec: Codec, payload: &[u8]) -> RecordBatch {
    let mut bytes = vec![0; HEADER_BYTES];
    bytes.extend_from_slice(payload);
    let length = i32::try_from(bytes.len() - 12).expect("a small input");
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    bytes[16] = 2;
    bytes[21..23].copy_from_slice(&codec.to_wire().to_be_bytes());
    RecordBatch::parse(bytes.into()).expect("a sound header")
}

/// How many bytes come out, within `limit`.
fn size(batch: &RecordBatch, limit: usize) -> Result<usize, CompressionError> {
    match batch.decode(limit) {
        Ok(decoded) => Ok(decoded.size_bytes()),
        Err(BatchError::Compression { source, .. }) => Err(source),
        Err(other) => panic!("{other}"),
    }
}

/// Tries one input.
///
/// # Panics
/// When a law is broken.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let codec = *input.pick(&Codec::ALL[1..]);
    let limit = *input.pick(&LIMITS);
    let payload = input.rest();
    if payload.is_empty() {
        return;
    }
    let batch = batch(codec, payload);
    let (outcome, peak) =
        in_proportion(payload.len(), 2 * limit, || peak_of(|| size(&batch, limit)));
    let Ok(count) = outcome else { return };
    assert!(count <= limit);
    let allowed = payload.len() * 64 + (1 << 20) + 4 * count;
    assert!(peak <= allowed, "{codec}: {peak} bytes held for {count}");
    assert_eq!(size(&batch, count), Ok(count), "{codec}: within its own size");
    if let Some(less) = count.checked_sub(1) {
        let refused = size(&batch, less);
        assert_eq!(refused, Err(CompressionError::TooLarge { codec, limit_bytes: less }));
    }
    if count <= AGAIN_BYTES_MAX && payload.first().is_some_and(|byte| byte % 4 == 0) {
        check_again(codec, payload);
    }
}

/// Whatever is compressed comes out again.
fn check_again(codec: Codec, value: &[u8]) {
    let mut builder = BatchBuilder::new(BatchOptions { codec, ..BatchOptions::default() });
    builder.append(Timestamp(0), None, Some(value), &[]).expect("a small record");
    let built = builder.finish(ProducerId(-1), ProducerEpoch(-1), Sequence(-1), false);
    let decoded = built.decode(value.len() + 100).expect("our own compression");
    let mut records = decoded.into_iter();
    let record = records.next().expect("one record").expect("a sound one");
    assert_eq!(record.value.as_deref(), Some(value));
}

/// Texts and noise of several sizes, by each codec; some cut, some twice.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let mut rng = Rng::new(4);
    let text = b"the quick brown fox jumps over the lazy dog; ".repeat(40);
    let noise: Vec<u8> = (0..40).flat_map(|_| rng.next_id()).collect();
    let plains = [&b"a"[..], &text[..60], &text, &noise, &[0; 3000]];
    let mut seeds = Vec::new();
    for (number, codec) in (0_u8..).zip(&Codec::ALL[1..]) {
        for plain in plains {
            let mut builder =
                BatchBuilder::new(BatchOptions { codec: *codec, ..BatchOptions::default() });
            builder.append(Timestamp(0), None, Some(plain), &[]).expect("a small record");
            let built = builder.finish(ProducerId(-1), ProducerEpoch(-1), Sequence(-1), false);
            let payload = Bytes::copy_from_slice(&built.bytes()[HEADER_BYTES..]);
            seeds.push([&[number, 3], &payload[..]].concat());
            seeds.push([&[number, 2], &payload[..payload.len() / 2]].concat());
            seeds.push([&[number, 4], &payload[..], &payload[..]].concat());
        }
    }
    // One raw block of snappy.
    seeds.push(b"\x01\x02\x05\x10hello".to_vec());
    seeds
}
