//! Kafka's hash of record keys.
//!
//! The 32-bit murmur2 with Kafka's seed. Every client that agrees on it sends a key to the same
//! partition, and Streams finds a key's partition without asking. It must therefore never change:
//! the vectors in the tests are those of Kafka's own clients. Pure.

use crate::ids::PartitionIndex;

/// Kafka's seed.
const SEED: u32 = 0x9747_b28c;
const MULTIPLIER: u32 = 0x5bd1_e995;
const SHIFT: u32 = 24;

/// The murmur2 hash of `bytes`, as Kafka's clients compute it.
#[must_use]
pub fn murmur2(bytes: &[u8]) -> i32 {
    // Kafka's length is a 32-bit integer; longer keys cannot be written at all.
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    let mut hash = SEED ^ length;
    let (words, tail) = bytes.as_chunks::<4>();
    for &word in words {
        let mut k = u32::from_le_bytes(word).wrapping_mul(MULTIPLIER);
        k ^= k >> SHIFT;
        hash = hash.wrapping_mul(MULTIPLIER) ^ k.wrapping_mul(MULTIPLIER);
    }
    if !tail.is_empty() {
        let mut last = [0; 4];
        last[..tail.len()].copy_from_slice(tail);
        hash = (hash ^ u32::from_le_bytes(last)).wrapping_mul(MULTIPLIER);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(MULTIPLIER);
    hash ^= hash >> 15;
    hash.cast_signed()
}

/// The partition of `key` among `partition_count`: the hash without its sign, modulo the count.
///
/// `None` when there is no partition.
#[must_use]
pub fn partition_of_key(key: &[u8], partition_count: i32) -> Option<PartitionIndex> {
    // Kafka clears the sign bit rather than taking the absolute value.
    (partition_count > 0).then(|| PartitionIndex((murmur2(key) & i32::MAX) % partition_count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_that_of_kafkas_clients() {
        let vectors: [(&str, i32); 6] = [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ];
        for (key, want) in vectors {
            assert_eq!(murmur2(key.as_bytes()), want, "{key}");
        }
    }

    #[test]
    fn a_negative_hash_still_names_a_partition() {
        assert!(murmur2(b"foobar") < 0);
        let want = (-790_332_482_i32 & i32::MAX) % 10;
        assert_eq!(partition_of_key(b"foobar", 10), Some(PartitionIndex(want)));
        assert_eq!(partition_of_key(b"foobar", 0), None);
    }
}
