//! Ceilings of the wire: what a peer may make us hold, related to one another at compile time.
//!
//! A frame is refused by its length prefix before a byte of it is stored; a decoder may build at
//! most [`decode_budget`] bytes of structures from a frame, whatever counts the frame claims.
//!
//! Pure.

/// 100 MiB: the largest frame a broker accepts by default (Kafka's `socket.request.max.bytes`).
pub const FRAME_BYTES_MAX: usize = 100 * 1024 * 1024;

/// 2^31 - 1: the largest frame whose length the prefix can state.
pub const FRAME_BYTES_CEILING: usize = 0x7fff_ffff;

/// 2^15 - 1: the longest string of the wire, in bytes, in every version (its length was an `i16`).
pub const STRING_BYTES_MAX: usize = 0x7fff;

/// 2^31 - 1: the longest byte field and the longest array (their length was an `i32`).
pub const LENGTH_MAX: usize = 0x7fff_ffff;

/// 64: bytes of structures that one byte of a frame may become. The densest of Kafka's messages
/// is an array of empty strings, 24 bytes of memory for 1 of the wire; growing by doubling may
/// hold half as much again. Asserted over all messages by a test.
pub const DECODED_BYTES_PER_FRAME_BYTE: usize = 64;

/// 4 KiB: what any frame may become, however short.
pub const DECODED_BYTES_FLOOR: usize = 4 * 1024;

/// 256 MiB: what no frame may become. A large frame is mostly record batches, which are slices of
/// it and cost nothing; metadata of a million partitions stays below.
pub const DECODED_BYTES_MAX: usize = 256 * 1024 * 1024;

/// 1 KiB: byte fields at least this long are sent from where they lie instead of being copied.
/// Below it a copy is cheaper than another entry of a vectored write.
pub const SPLICE_BYTES_MIN: usize = 1024;

/// How many bytes of structures may be built from a frame of `frame_bytes`.
#[must_use]
pub const fn decode_budget(frame_bytes: usize) -> usize {
    let budget = frame_bytes
        .saturating_mul(DECODED_BYTES_PER_FRAME_BYTE)
        .saturating_add(DECODED_BYTES_FLOOR);
    if budget < DECODED_BYTES_MAX { budget } else { DECODED_BYTES_MAX }
}

const _: () = assert!(FRAME_BYTES_MAX <= FRAME_BYTES_CEILING);
const _: () = assert!(STRING_BYTES_MAX < FRAME_BYTES_MAX);
const _: () = assert!(LENGTH_MAX <= FRAME_BYTES_CEILING);
const _: () = assert!(DECODED_BYTES_FLOOR < DECODED_BYTES_MAX);
const _: () = assert!(SPLICE_BYTES_MIN < FRAME_BYTES_MAX);
const _: () = assert!(decode_budget(0) == DECODED_BYTES_FLOOR);
const _: () = assert!(decode_budget(usize::MAX) == DECODED_BYTES_MAX);
