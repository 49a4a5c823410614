//! Which partition of an internal topic holds a key.
//!
//! The same choice as Kafka's: the absolute value of Java's `String.hashCode` (0 for the smallest
//! integer, which has none), modulo the number of partitions. Tools rely on it.
//!
//! Pure.

use protocol::ids::PartitionIndex;

/// The partition, of `partition_count`, that holds `key`.
///
/// # Panics
/// When `partition_count` is not positive: a topic has at least one partition.
#[must_use]
pub fn partition_of(key: &str, partition_count: i32) -> PartitionIndex {
    assert!(partition_count > 0);
    PartitionIndex(java_hash(key).checked_abs().unwrap_or(0) % partition_count)
}

/// Java's `String.hashCode`: over UTF-16 units.
fn java_hash(text: &str) -> i32 {
    text.encode_utf16().fold(0, |hash: i32, unit| hash.wrapping_mul(31).wrapping_add(unit.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_javas() {
        for (text, want) in [("", 0), ("a", 97), ("hello", 99_162_322), ("😀", 1_772_899)] {
            assert_eq!(java_hash(text), want, "{text}");
        }
        assert_eq!(java_hash("my-transactional-id-of-some-length"), {
            let mut hash = 0_i32;
            for byte in "my-transactional-id-of-some-length".bytes() {
                hash = hash.wrapping_mul(31).wrapping_add(i32::from(byte));
            }
            hash
        });
    }

    #[test]
    fn a_key_whose_hash_is_negative_still_has_a_partition() {
        // "polygenelubricants" hashes to the smallest integer.
        assert_eq!(java_hash("polygenelubricants"), i32::MIN);
        assert_eq!(partition_of("polygenelubricants", 50), PartitionIndex(0));
    }
}
