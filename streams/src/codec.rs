//! How values become bytes, and the typed names of topics and stores.
//!
//! A [`Codec`] turns one Rust type into bytes and back. A [`Topic`] is a name with two codecs, a
//! [`Store`] likewise; both are plain values, made once and used wherever the topic or store is
//! meant, so a wrong pairing of types is a compile error and not a surprise at run time.
//!
//! Each codec here is for one type, so that naming the codec is naming the type.
//!
//! Kafka's null is explicit. A plain codec refuses null; [`Nullable`] turns `T` into `Option<T>`.
//! State can therefore never meet a null key: the types say so before the topology is built. Pure.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use protocol::time::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::ErrorPolicy;

/// Any error of user code.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Turns values of `T` into bytes and back. `decode(encode(v))` must give `v`.
pub trait Codec<T>: Send + Sync {
    /// Appends the bytes of `value` to `out`.
    ///
    /// # Errors
    /// When the value has no such form; the record then fails.
    fn encode(&self, value: &T, out: &mut Vec<u8>) -> Result<(), BoxError>;

    /// Reads a value from the whole of `bytes`; may keep slices of them without copying.
    ///
    /// # Errors
    /// When the bytes are not of this form; the error policy of the source decides what follows.
    fn decode(&self, bytes: &Bytes) -> Result<T, BoxError>;

    /// Whether `value` is written as Kafka's null instead of bytes.
    fn is_null(&self, value: &T) -> bool {
        let _ = value;
        false
    }

    /// The value that a null stands for.
    ///
    /// # Errors
    /// Always, unless the codec has such a value.
    fn decode_null(&self) -> Result<T, BoxError> {
        Err(UnexpectedNull.into())
    }

    /// Whether a null can be read at all.
    fn accepts_null(&self) -> bool {
        false
    }
}

/// A null where the codec has no value for it.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("null where a value is expected: wrap the codec in `Nullable` to read it as `None`")]
pub struct UnexpectedNull;

/// A value of fixed length arrived with another.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("{got} bytes where {want} are expected")]
pub struct WrongLength {
    /// The length that the codec writes.
    pub want: usize,
    /// The length that arrived.
    pub got: usize,
}

/// Text as UTF-8.
#[derive(Debug, Clone, Copy, Default)]
pub struct Utf8;

impl Codec<String> for Utf8 {
    fn encode(&self, value: &String, out: &mut Vec<u8>) -> Result<(), BoxError> {
        out.extend_from_slice(value.as_bytes());
        Ok(())
    }

    fn decode(&self, bytes: &Bytes) -> Result<String, BoxError> {
        Ok(std::str::from_utf8(bytes)?.to_owned())
    }
}

/// A 64-bit integer, eight bytes, big endian: as Kafka's `LongSerializer` writes it.
#[derive(Debug, Clone, Copy, Default)]
pub struct I64;

impl Codec<i64> for I64 {
    fn encode(&self, value: &i64, out: &mut Vec<u8>) -> Result<(), BoxError> {
        out.extend_from_slice(&value.to_be_bytes());
        Ok(())
    }

    fn decode(&self, bytes: &Bytes) -> Result<i64, BoxError> {
        match <[u8; 8]>::try_from(bytes.as_ref()) {
            Ok(raw) => Ok(i64::from_be_bytes(raw)),
            Err(_) => Err(WrongLength { want: 8, got: bytes.len() }.into()),
        }
    }
}

/// The bytes themselves, shared with the fetched batch: nothing is copied on the way in.
#[derive(Debug, Clone, Copy, Default)]
pub struct Raw;

impl Codec<Bytes> for Raw {
    fn encode(&self, value: &Bytes, out: &mut Vec<u8>) -> Result<(), BoxError> {
        out.extend_from_slice(value);
        Ok(())
    }

    fn decode(&self, bytes: &Bytes) -> Result<Bytes, BoxError> {
        Ok(bytes.clone())
    }
}

/// Nothing: written as null, and whatever is read is ignored. For topics without keys.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unit;

impl Codec<()> for Unit {
    fn encode(&self, _: &(), _: &mut Vec<u8>) -> Result<(), BoxError> {
        Ok(())
    }

    fn decode(&self, _: &Bytes) -> Result<(), BoxError> {
        Ok(())
    }

    fn is_null(&self, _: &()) -> bool {
        true
    }

    fn decode_null(&self) -> Result<(), BoxError> {
        Ok(())
    }

    fn accepts_null(&self) -> bool {
        true
    }
}

/// JSON by serde.
pub struct Json<T>(PhantomData<fn() -> T>);

impl<T> Json<T> {
    /// The codec for `T`.
    #[must_use]
    pub const fn new() -> Self {
        Self(PhantomData)
    }
}

impl<T> Default for Json<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Clone for Json<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Json<T> {}

impl<T> fmt::Debug for Json<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Json")
    }
}

impl<T: Serialize + DeserializeOwned + 'static> Codec<T> for Json<T> {
    fn encode(&self, value: &T, out: &mut Vec<u8>) -> Result<(), BoxError> {
        Ok(serde_json::to_writer(out, value)?)
    }

    fn decode(&self, bytes: &Bytes) -> Result<T, BoxError> {
        Ok(serde_json::from_slice(bytes)?)
    }
}

/// The same codec where null stands for `None`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Nullable<C>(pub C);

impl<T, C: Codec<T>> Codec<Option<T>> for Nullable<C> {
    fn encode(&self, value: &Option<T>, out: &mut Vec<u8>) -> Result<(), BoxError> {
        match value {
            Some(value) => self.0.encode(value, out),
            None => Ok(()),
        }
    }

    fn decode(&self, bytes: &Bytes) -> Result<Option<T>, BoxError> {
        self.0.decode(bytes).map(Some)
    }

    fn is_null(&self, value: &Option<T>) -> bool {
        value.as_ref().is_none_or(|value| self.0.is_null(value))
    }

    fn decode_null(&self) -> Result<Option<T>, BoxError> {
        Ok(None)
    }

    fn accepts_null(&self) -> bool {
        true
    }
}

/// A codec whose own type is forgotten, so that handles carry only the types of the data.
pub(crate) type AnyCodec<T> = Arc<dyn Codec<T>>;

/// Reads a value that may be null.
pub(crate) fn decode_option<T>(codec: &dyn Codec<T>, bytes: Option<&Bytes>) -> Result<T, BoxError> {
    match bytes {
        Some(bytes) => codec.decode(bytes),
        None => codec.decode_null(),
    }
}

type TimestampOf<K, V> = Arc<dyn Fn(&K, &V, Timestamp) -> Timestamp + Send + Sync>;

/// A topic by its name, with the types of its records.
pub struct Topic<K, V> {
    pub(crate) name: Arc<str>,
    pub(crate) key: AnyCodec<K>,
    pub(crate) value: AnyCodec<V>,
    pub(crate) timestamp: Option<TimestampOf<K, V>>,
    pub(crate) policy: Option<ErrorPolicy>,
}

impl<K, V> Topic<K, V> {
    /// The topic `name` whose keys and values these codecs read and write.
    pub fn new(
        name: impl Into<Arc<str>>,
        key: impl Codec<K> + 'static,
        value: impl Codec<V> + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            key: Arc::new(key),
            value: Arc::new(value),
            timestamp: None,
            policy: None,
        }
    }

    /// Takes event time from the record's content instead of its own timestamp, the third argument.
    #[must_use]
    pub fn timestamp(
        mut self,
        of: impl Fn(&K, &V, Timestamp) -> Timestamp + Send + Sync + 'static,
    ) -> Self {
        self.timestamp = Some(Arc::new(of));
        self
    }

    /// What to do with records that cannot be decoded, whatever the operators below do with theirs.
    #[must_use]
    pub fn on_decode_error(mut self, policy: ErrorPolicy) -> Self {
        self.policy = Some(policy);
        self
    }

    /// The topic's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl<K, V> Clone for Topic<K, V> {
    fn clone(&self) -> Self {
        Self {
            name: self.name.clone(),
            key: self.key.clone(),
            value: self.value.clone(),
            timestamp: self.timestamp.clone(),
            policy: self.policy.clone(),
        }
    }
}

impl<K, V> fmt::Debug for Topic<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Topic({})", self.name)
    }
}

/// A key-value store by its name, with the types it holds. Its changelog is `<app>-<name>-changelog`.
pub struct Store<K, V> {
    pub(crate) name: Arc<str>,
    pub(crate) key: AnyCodec<K>,
    pub(crate) value: AnyCodec<V>,
}

impl<K, V> Store<K, V> {
    /// The key-value store `name`.
    pub fn kv(
        name: impl Into<Arc<str>>,
        key: impl Codec<K> + 'static,
        value: impl Codec<V> + 'static,
    ) -> Self {
        Self { name: name.into(), key: Arc::new(key), value: Arc::new(value) }
    }

    /// The store's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl<K, V> Clone for Store<K, V> {
    fn clone(&self) -> Self {
        Self { name: self.name.clone(), key: self.key.clone(), value: self.value.clone() }
    }
}

impl<K, V> fmt::Debug for Store<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Store({})", self.name)
    }
}

/// A window store by its name: one value per key and window.
///
/// A window leaves the store at the first commit after it closed, that is when stream time has
/// reached its end plus the grace period, plus what [`WindowStore::keep`] adds.
pub struct WindowStore<K, V> {
    pub(crate) name: Arc<str>,
    pub(crate) key: AnyCodec<K>,
    pub(crate) value: AnyCodec<V>,
    pub(crate) keep: Duration,
}

impl<K, V> WindowStore<K, V> {
    /// The window store `name`.
    pub fn new(
        name: impl Into<Arc<str>>,
        key: impl Codec<K> + 'static,
        value: impl Codec<V> + 'static,
    ) -> Self {
        Self { name: name.into(), key: Arc::new(key), value: Arc::new(value), keep: Duration::ZERO }
    }

    /// Keeps closed windows this much longer, in stream time, for those who read the store.
    #[must_use]
    pub fn keep(mut self, longer: Duration) -> Self {
        self.keep = longer;
        self
    }

    /// The store's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl<K, V> Clone for WindowStore<K, V> {
    fn clone(&self) -> Self {
        Self {
            name: self.name.clone(),
            key: self.key.clone(),
            value: self.value.clone(),
            keep: self.keep,
        }
    }
}

impl<K, V> fmt::Debug for WindowStore<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WindowStore({})", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<T: PartialEq + fmt::Debug>(codec: impl Codec<T>, value: T, want: Option<&[u8]>) {
        let mut out = Vec::new();
        codec.encode(&value, &mut out).unwrap();
        let bytes = (!codec.is_null(&value)).then(|| Bytes::from(out));
        assert_eq!(bytes.as_deref(), want);
        assert_eq!(decode_option(&codec, bytes.as_ref()).unwrap(), value);
    }

    #[test]
    fn what_was_encoded_decodes_to_itself() {
        check(Utf8, "héllo".to_owned(), Some("héllo".as_bytes()));
        check(I64, -2_i64, Some(&[255, 255, 255, 255, 255, 255, 255, 254]));
        check(Raw, Bytes::from_static(b"\0\xff"), Some(b"\0\xff"));
        check(Unit, (), None);
        check(Json::<Vec<u8>>::new(), vec![1, 2], Some(b"[1,2]"));
        check(Nullable(Utf8), Some(String::new()), Some(b""));
        check(Nullable(Utf8), None::<String>, None);
    }

    #[test]
    fn a_plain_codec_refuses_null_and_wrong_lengths() {
        assert!(decode_option::<String>(&Utf8, None).is_err());
        assert!(I64.decode(&Bytes::from_static(b"seven..")).is_err());
        assert!(Codec::<String>::decode(&Utf8, &Bytes::from_static(b"\xff")).is_err());
    }
}
