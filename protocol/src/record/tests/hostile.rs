//! Bytes from a peer that errs or lies: they are refused, and cost no more than they weigh. Pure.

use super::*;

/// The most that a hostile batch may decompress to here.
const LIMIT_BYTES: usize = 64 << 10;

/// Does everything with `bytes` that a broker or client might.
fn handle(bytes: Bytes) {
    let mut rest = bytes.clone();
    while let Ok(Some(batch)) = RecordBatch::split_first(&mut rest) {
        handle_batch(&batch);
    }
    let _ = RecordBatch::parse(bytes).map(|batch| handle_batch(&batch));
}

fn handle_batch(batch: &RecordBatch) {
    let _ = batch.verify_crc();
    let _ = batch.validate_produce(LIMIT_BYTES, false);
    let _ = ControlRecord::of(batch);
    assert!(batch.header().next_offset() >= batch.header().base_offset);
    walk(batch.records());
    if let Ok(decoded) = batch.decode(LIMIT_BYTES) {
        let is_shared = batch.header().attributes.codec() == Codec::None;
        assert!(is_shared || decoded.size_bytes() <= LIMIT_BYTES);
        walk(decoded.iter());
        let borrowed = decoded.iter().filter_map(Result::ok).count();
        assert_eq!(decoded.into_iter().filter_map(Result::ok).count(), borrowed);
    }
}

fn walk(mut records: Records<'_>) {
    let mut previous = None;
    while let Some(Ok(record)) = records.next() {
        assert!(previous.is_none_or(|previous| previous <= record.offset));
        previous = Some(record.offset);
        assert_eq!(record.headers.iter().count(), record.headers.len());
    }
    assert!(records.next().is_none(), "nothing follows a failure or the end");
}

/// Bytes changed at random places, or cut.
#[derive(Clone, Debug)]
struct Damage {
    changes: Vec<(prop::sample::Index, u8)>,
    cut: Option<prop::sample::Index>,
}

fn any_damage() -> impl Strategy<Value = Damage> {
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6);
    let cut = prop::option::weighted(0.2, any::<prop::sample::Index>());
    (changes, cut).prop_map(|(changes, cut)| Damage { changes, cut })
}

impl Damage {
    /// Damages `bytes` from `start` on.
    fn apply(&self, bytes: &mut Vec<u8>, start: usize) {
        for (place, byte) in &self.changes {
            let at = start + place.index(bytes.len() - start);
            bytes[at] = *byte;
        }
        if let Some(place) = self.cut {
            bytes.truncate(start + place.index(bytes.len() - start));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        handle(bytes.into());
    }

    #[test]
    fn a_damaged_batch_never_panics(
        records in any_records(),
        codec in any_codec(),
        damage in any_damage(),
    ) {
        let mut bytes = batch_of(codec, &records).bytes().to_vec();
        damage.apply(&mut bytes, 0);
        handle(bytes.into());
    }

    #[test]
    fn a_damaged_payload_under_a_right_header_never_panics(
        records in any_records(),
        codec in any_codec(),
        damage in any_damage(),
    ) {
        let forged = forged(&batch_of(codec, &records), |bytes| {
            damage.apply(bytes, HEADER_BYTES);
            let length = i32::try_from(bytes.len() - 12).unwrap();
            bytes[8..12].copy_from_slice(&length.to_be_bytes());
        });
        handle_batch(&forged.unwrap());
    }

    #[test]
    fn garbage_records_of_any_codec_never_panic(
        codec in any_codec(),
        garbage in prop::collection::vec(any::<u8>(), 0..300),
        count in 0..100_i32,
    ) {
        let forged = forged(&batch_of(codec, &plain(1)), |bytes| {
            bytes.truncate(HEADER_BYTES);
            bytes.extend_from_slice(&garbage);
            let length = i32::try_from(bytes.len() - 12).unwrap();
            bytes[8..12].copy_from_slice(&length.to_be_bytes());
            bytes[23..27].copy_from_slice(&count.to_be_bytes());
            bytes[57..61].copy_from_slice(&count.to_be_bytes());
        });
        handle_batch(&forged.unwrap());
    }

    #[test]
    fn no_flipped_bit_escapes_the_checksum(
        records in any_records(),
        codec in any_codec(),
        place: prop::sample::Index,
        bit in 0..8_u8,
    ) {
        let mut bytes = batch_of(codec, &records).bytes().to_vec();
        // From the checksum itself on: what lies before is the leader's to change.
        let at = 17 + place.index(bytes.len() - 17);
        bytes[at] ^= 1 << bit;
        let verdict = RecordBatch::parse(bytes.into()).and_then(|batch| batch.verify_crc());
        prop_assert!(verdict.is_err());
    }
}

#[test]
fn a_count_that_the_bytes_do_not_bear_ends_in_an_error_not_in_an_allocation() {
    let batch = forged(&batch_of(Codec::None, &plain(3)), |raw| {
        raw[23..27].copy_from_slice(&i32::MAX.to_be_bytes());
        raw[57..61].copy_from_slice(&i32::MAX.to_be_bytes());
    })
    .unwrap();
    let items: Vec<_> = batch.records().collect();
    assert_eq!(items.len(), 4);
    assert!(matches!(items[3], Err(BatchError::MalformedRecord { index: 3, .. })));
}

#[test]
fn a_record_with_a_lying_length_is_refused() {
    // length 2, attributes, timestamp delta; then a key longer than the record, and so on.
    let bodies: [&[u8]; 8] = [
        &[0, 0, 0, 20, 1, 0],      // key beyond the record
        &[0, 0, 0, 3, 1, 0],       // key length -2
        &[0, 0, 0, 1, 20, 0],      // value beyond the record
        &[0, 0, 0, 1, 1, 1],       // header count -1
        &[0, 0, 0, 1, 1, 2],       // one header, none there
        &[0, 0, 0, 1, 1, 0, 9],    // a byte after the last field
        &[0, 0, 0, 1, 1, 2, 1, 1], // header key null
        &[0, 0],                   // cut
    ];
    let batch = batch_of(Codec::None, &plain(1));
    for body in bodies {
        let forged = forged(&batch, |raw| {
            raw.truncate(HEADER_BYTES);
            raw.push(u8::try_from(body.len() * 2).unwrap());
            raw.extend_from_slice(body);
            let length = i32::try_from(raw.len() - 12).unwrap();
            raw[8..12].copy_from_slice(&length.to_be_bytes());
        })
        .unwrap();
        let items: Vec<_> = forged.records().collect();
        assert!(
            matches!(items[..], [Err(BatchError::MalformedRecord { index: 0, .. })]),
            "{body:?}"
        );
    }
}
