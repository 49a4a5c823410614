//! What a store writes into its changelog, byte for byte.
//!
//! | record | key | value |
//! |---|---|---|
//! | key-value store | the key | version, event time (8 bytes), the value |
//! | window store | the key, then the window's start (8 bytes) | the same |
//! | deletion, closed window | the same key | null |
//!
//! The version is 1, or 2 for a value whose codec writes null. Integers are big endian. Pure.

use bytes::Bytes;
use protocol::time::Timestamp;

use super::overlay::Entry;
use crate::codec::{BoxError, Codec};

const PRESENT: u8 = 1;
const NULL: u8 = 2;
/// Version and event time.
const PREFIX_BYTES: usize = 1 + 8;
/// A window's start.
const START_BYTES: usize = 8;

/// A changelog record that this version did not write.
#[derive(Debug, thiserror::Error)]
pub enum ChangelogError {
    /// Cut short, or of a later version.
    #[error("a changelog value of {length} bytes with version {version:?} is not known here")]
    BadValue {
        /// All its bytes.
        length: usize,
        /// The first of them.
        version: Option<u8>,
    },
    /// The key of a window store has no room for a start.
    #[error("a changelog key of {0} bytes holds no window start")]
    BadKey(usize),
}

/// Appends the value of a changelog record.
pub(crate) fn encode_value<V>(
    codec: &dyn Codec<V>,
    entry: &Entry<V>,
    out: &mut Vec<u8>,
) -> Result<(), BoxError> {
    let null = codec.is_null(&entry.value);
    out.push(if null { NULL } else { PRESENT });
    out.extend_from_slice(&entry.timestamp.0.to_be_bytes());
    if null { Ok(()) } else { codec.encode(&entry.value, out) }
}

/// Reads the value of a changelog record.
pub(crate) fn decode_value<V>(codec: &dyn Codec<V>, bytes: &Bytes) -> Result<Entry<V>, BoxError> {
    let bad = || ChangelogError::BadValue { length: bytes.len(), version: bytes.first().copied() };
    let (prefix, _) = bytes.split_first_chunk::<PREFIX_BYTES>().ok_or_else(bad)?;
    let [version, time @ ..] = *prefix;
    let value = match version {
        PRESENT => codec.decode(&bytes.slice(PREFIX_BYTES..))?,
        NULL if bytes.len() == PREFIX_BYTES => codec.decode_null()?,
        _ => return Err(bad().into()),
    };
    Ok(Entry { value, timestamp: Timestamp(i64::from_be_bytes(time)) })
}

/// Appends the key of a window store's changelog record.
pub(crate) fn encode_window_key<K>(
    codec: &dyn Codec<K>,
    key: &K,
    start: Timestamp,
    out: &mut Vec<u8>,
) -> Result<(), BoxError> {
    codec.encode(key, out)?;
    out.extend_from_slice(&start.0.to_be_bytes());
    Ok(())
}

/// Reads the key of a window store's changelog record.
pub(crate) fn decode_window_key<K>(
    codec: &dyn Codec<K>,
    bytes: &Bytes,
) -> Result<(K, Timestamp), BoxError> {
    let Some((key, start)) = bytes.split_last_chunk::<START_BYTES>() else {
        return Err(ChangelogError::BadKey(bytes.len()).into());
    };
    let key = codec.decode(&bytes.slice(..key.len()))?;
    Ok((key, Timestamp(i64::from_be_bytes(*start))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{I64, Nullable, Utf8};

    #[test]
    fn a_value_carries_its_event_time_and_its_nullness() {
        let entry = Entry { value: Some(7_i64), timestamp: Timestamp(258) };
        let mut out = Vec::new();
        encode_value(&Nullable(I64), &entry, &mut out).unwrap();
        assert_eq!(out, [1, 0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0, 0, 7]);
        assert_eq!(decode_value(&Nullable(I64), &out.into()).unwrap(), entry);

        let entry = Entry { value: None, timestamp: Timestamp(-1) };
        let mut out = Vec::new();
        encode_value(&Nullable(I64), &entry, &mut out).unwrap();
        assert_eq!(out, [2, 255, 255, 255, 255, 255, 255, 255, 255]);
        assert_eq!(decode_value(&Nullable(I64), &out.into()).unwrap(), entry);
    }

    #[test]
    fn a_window_key_is_the_key_and_then_the_start() {
        let mut out = Vec::new();
        encode_window_key(&Utf8, &"k".to_owned(), Timestamp(10), &mut out).unwrap();
        assert_eq!(out, b"k\0\0\0\0\0\0\0\x0a");
        let (key, start): (String, _) = decode_window_key(&Utf8, &out.into()).unwrap();
        assert_eq!((key.as_str(), start), ("k", Timestamp(10)));
    }

    #[test]
    fn what_we_did_not_write_is_refused() {
        for bytes in [&b""[..], b"\x01short", b"\x03\0\0\0\0\0\0\0\0x", b"\x02\0\0\0\0\0\0\0\0x"] {
            let bytes = Bytes::copy_from_slice(bytes);
            assert!(decode_value::<Option<i64>>(&Nullable(I64), &bytes).is_err());
        }
        assert!(decode_window_key::<String>(&Utf8, &Bytes::from_static(b"1234567")).is_err());
    }
}
