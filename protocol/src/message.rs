//! The `wire!` macro: declare a message once, get both directions for every version.
//!
//! A declaration states, field by field, what Kafka's schema states: type, default, the versions
//! that have the field, those in which it may be null, its tag, and whether its value may be
//! dropped silently where a version lacks it. Encoding a value that a version cannot carry is a
//! typed error unless the field is `ignorable`; decoding fills absent fields with their defaults.
//!
//! Messages that live in a log instead of a request carry their version in front of their fields:
//! [`encode_record`], [`decode_record`]. Pure.

use std::ops::{RangeBounds, RangeInclusive};

use bytes::Bytes;

use crate::primitive::{Context, DecodeError, EncodeError, Reader, Wire, Writer};

/// A message that stands alone: a request, a response, or the value of a record.
pub trait Versioned: Wire {
    /// The name, as Kafka's schema has it.
    const NAME: &'static str;
    /// The versions that we read and write, both ends inclusive.
    const VERSIONS: RangeInclusive<i16>;

    /// True when `version` has compact lengths and tagged fields.
    fn is_flexible(version: i16) -> bool;
}

/// Appends `message` in `version`.
///
/// # Errors
/// When the version is not supported, or cannot express the message.
pub fn encode_message<T: Versioned>(
    version: i16,
    message: &T,
    writer: &mut Writer,
) -> Result<(), EncodeError> {
    if !T::VERSIONS.contains(&version) {
        return Err(EncodeError::Version { name: T::NAME, version });
    }
    message.encode(writer, Context { version, flexible: T::is_flexible(version) })
}

/// Reads `body`, all of it, as a message of `version`.
///
/// # Errors
/// When the version is not supported, or the bytes are not such a message.
pub fn decode_message<T: Versioned>(version: i16, body: Bytes) -> Result<T, DecodeError> {
    let mut reader = Reader::new(body);
    let message = read_message(version, &mut reader)?;
    reader.finish()?;
    Ok(message)
}

/// Reads the message of `version` that `body` begins with, and passes over what follows it.
///
/// # Errors
/// When the version is not supported, or the bytes do not begin with such a message.
pub fn decode_leading_message<T: Versioned>(version: i16, body: Bytes) -> Result<T, DecodeError> {
    read_message(version, &mut Reader::new(body))
}

fn read_message<T: Versioned>(version: i16, reader: &mut Reader) -> Result<T, DecodeError> {
    if !T::VERSIONS.contains(&version) {
        return Err(DecodeError::Version { name: T::NAME, version });
    }
    T::decode(reader, Context { version, flexible: T::is_flexible(version) })
}

/// Writes the key or value of a log's record: `version` as an `i16`, then the fields.
///
/// # Errors
/// When the version is not supported, or cannot express the message.
pub fn encode_record<T: Versioned>(version: i16, message: &T) -> Result<Bytes, EncodeError> {
    let mut writer = Writer::new();
    writer.put_slice(&version.to_be_bytes());
    encode_message(version, message, &mut writer)?;
    Ok(writer.finish().into_bytes())
}

/// Reads the key or value of a log's record, all of it: its version and its fields.
///
/// # Errors
/// When the version is not supported, or the bytes are not such a message.
pub fn decode_record<T: Versioned>(record: Bytes) -> Result<(i16, T), DecodeError> {
    let mut reader = Reader::new(record);
    let version = i16::from_be_bytes(reader.array()?);
    let message = read_message(version, &mut reader)?;
    reader.finish()?;
    Ok((version, message))
}

/// True when `versions` has `version`. Used by [`wire!`](crate::wire).
#[must_use]
pub fn present(versions: impl RangeBounds<i16>, version: i16) -> bool {
    versions.contains(&version)
}

/// True when `value` is not `default`. Used by [`wire!`](crate::wire).
pub fn differ<T: PartialEq>(value: &T, default: &T) -> bool {
    value != default
}

/// Declares structs of the wire.
///
/// ```
/// protocol::wire! {
///     /// A value of some log; flexible from version 1.
///     pub struct Milestone (versions 0..=2, flexible 1..) {
///         /// Where it stands.
///         name: String;
///         /// In force until then, in milliseconds; -1: for ever.
///         expires_ms: i64 = -1, in 1.., ignorable;
///         /// Who set it; never null before version 2.
///         owner: Option<String> = Some(String::new()), nullable 2..;
///         /// How often it was passed.
///         passages: i32, in 2.., tag 0;
///     }
/// }
/// let written = Milestone { name: "seven".into(), passages: 3, ..Milestone::default() };
/// let bytes = protocol::message::encode_record(2, &written).unwrap();
/// assert_eq!(protocol::message::decode_record(bytes).unwrap(), (2, written));
/// ```
///
/// After the type, in this order and each optional: `= default` (else the type's own), `in` the
/// versions that have it (else all), `nullable` the versions in which it may be null (else all,
/// for an `Option`), its `tag`, and `ignorable`.
///
/// Each struct is `Clone`, `Debug`, `PartialEq`, [`Wire`](crate::primitive::Wire), and `Default`
/// with the defaults of its fields. One that states its versions stands alone and is
/// [`Versioned`](crate::message::Versioned). Fields have the types of
/// [`primitive`](crate::primitive), or are structs declared here, or lists of them: samples are
/// made of these alone.
#[macro_export]
macro_rules! wire {
    ($(
        $(#[$meta:meta])*
        $vis:vis struct $name:ident $((versions $versions:expr $(, flexible $flexible:expr)?))? {$(
            $(#[$field_meta:meta])*
            $field:ident : $type:ty $(= $default:expr)? $(, in $range:expr)?
            $(, nullable $nullable:expr)? $(, tag $tag:literal)? $(, ignorable $(<$never:tt>)?)?;
        )*}
    )*) => {$(
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq)]
        $vis struct $name {$(
            $(#[$field_meta])*
            pub $field: $type,
        )*}

        impl Default for $name {
            fn default() -> Self {
                Self {$(
                    $field: $crate::wire!(@default [$($default)?]),
                )*}
            }
        }

        #[allow(unused_variables, unused_mut, unreachable_code)]
        impl $crate::primitive::Wire for $name {
            fn encode(
                &self,
                writer: &mut $crate::primitive::Writer,
                cx: $crate::primitive::Context,
            ) -> Result<(), $crate::primitive::EncodeError> {
                let mut tagged = $crate::primitive::TaggedFields::default();
                $(
                    $crate::wire!(
                        @encode self.$field, concat!(stringify!($name), ".", stringify!($field)),
                        writer, tagged, cx, [$($default)?] [$($range)?] [$($nullable)?] [$($tag)?]
                        [$(ignorable $($never)?)?]
                    );
                )*
                if cx.flexible {
                    tagged.finish(writer);
                }
                Ok(())
            }

            fn decode(
                reader: &mut $crate::primitive::Reader,
                cx: $crate::primitive::Context,
            ) -> Result<Self, $crate::primitive::DecodeError> {
                let mut message = Self::default();
                $(
                    $crate::wire!(
                        @decode message.$field, reader, cx, [$($range)?] [$($nullable)?] [$($tag)?]
                    );
                )*
                if cx.flexible {
                    reader.tagged_fields(&mut |tag, reader| {
                        $(
                            $crate::wire!(
                                @tagged message.$field, tag, reader, cx, [$($range)?] [$($tag)?]
                            );
                        )*
                        Ok(false)
                    })?;
                }
                Ok(message)
            }

            fn each_error(&self, visit: &mut dyn FnMut(i16)) {
                $($crate::wire!(@error self.$field, $field, visit);)*
            }

            fn throttle_time_ms(&self) -> i32 {
                $($crate::wire!(@throttled self.$field, $field);)*
                0
            }

            fn set_throttle_time_ms(&mut self, ms: i32) {
                $($crate::wire!(@throttle self.$field, $field, ms);)*
            }
        }

        impl $crate::primitive::Part for $name {}

        $(
            #[allow(unused_variables)]
            impl $crate::message::Versioned for $name {
                const NAME: &'static str = stringify!($name);
                const VERSIONS: std::ops::RangeInclusive<i16> = $versions;

                fn is_flexible(version: i16) -> bool {
                    false $(|| $crate::message::present($flexible, version))?
                }
            }
        )?

        $crate::wire_sample! {
            $name {$(
                $field: $type, [$($default)?] [$($range)?] [$($nullable)?] [$($tag)?];
            )*}
        }
    )*};

    (@error $value:expr, error_code, $visit:ident) => { $visit($value); };
    (@error $value:expr, $field:ident, $visit:ident) => {
        $crate::primitive::Wire::each_error(&$value, $visit);
    };

    (@throttled $value:expr, throttle_time_ms) => { return $value; };
    (@throttled $value:expr, $field:ident) => {};

    (@throttle $value:expr, throttle_time_ms, $ms:ident) => { $value = $ms; };
    (@throttle $value:expr, $field:ident, $ms:ident) => {};

    (@default []) => { Default::default() };
    (@default [$default:expr]) => { $default };

    (@encode $value:expr, $label:expr, $writer:ident, $tagged:ident, $cx:ident,
        $default:tt [] $nullable:tt $tag:tt $ignorable:tt) => {
        $crate::wire!(@put $value, $label, $writer, $tagged, $cx, $default $nullable $tag);
    };
    (@encode $value:expr, $label:expr, $writer:ident, $tagged:ident, $cx:ident,
        $default:tt [$range:expr] $nullable:tt $tag:tt $ignorable:tt) => {
        if $crate::message::present($range, $cx.version) {
            $crate::wire!(@put $value, $label, $writer, $tagged, $cx, $default $nullable $tag);
        } else {
            $crate::wire!(@absent $value, $label, $cx, $default $ignorable);
        }
    };

    (@put $value:expr, $label:expr, $writer:ident, $tagged:ident, $cx:ident,
        $default:tt [] []) => {
        $crate::primitive::Wire::encode(&$value, $writer, $cx)?;
    };
    (@put $value:expr, $label:expr, $writer:ident, $tagged:ident, $cx:ident,
        $default:tt [$nullable:expr] []) => {
        if $value.is_none() && !$crate::message::present($nullable, $cx.version) {
            return Err($crate::primitive::EncodeError::Null {
                field: $label,
                version: $cx.version,
            });
        }
        $crate::primitive::Wire::encode(&$value, $writer, $cx)?;
    };
    (@put $value:expr, $label:expr, $writer:ident, $tagged:ident, $cx:ident,
        $default:tt [] [$tag:literal]) => {
        if $crate::message::differ(&$value, &$crate::wire!(@default $default)) {
            $tagged.put($tag, &$value, $cx)?;
        }
    };

    (@absent $value:expr, $label:expr, $cx:ident, $default:tt [ignorable]) => {};
    (@absent $value:expr, $label:expr, $cx:ident, $default:tt []) => {
        if $crate::message::differ(&$value, &$crate::wire!(@default $default)) {
            return Err($crate::primitive::EncodeError::FieldNotInVersion {
                field: $label,
                version: $cx.version,
            });
        }
    };

    (@decode $value:expr, $reader:ident, $cx:ident, $range:tt $nullable:tt [$tag:literal]) => {};
    (@decode $value:expr, $reader:ident, $cx:ident, [] [] []) => {
        $value = $crate::primitive::Wire::decode($reader, $cx)?;
    };
    (@decode $value:expr, $reader:ident, $cx:ident, [] [$nullable:expr] []) => {
        $value = $crate::primitive::Wire::decode($reader, $cx)?;
        if $value.is_none() && !$crate::message::present($nullable, $cx.version) {
            return Err($crate::primitive::DecodeError::Null { at: $reader.position() });
        }
    };
    (@decode $value:expr, $reader:ident, $cx:ident, [$range:expr] $nullable:tt []) => {
        if $crate::message::present($range, $cx.version) {
            $crate::wire!(@decode $value, $reader, $cx, [] $nullable []);
        }
    };

    (@tagged $value:expr, $is:ident, $reader:ident, $cx:ident, $range:tt []) => {};
    (@tagged $value:expr, $is:ident, $reader:ident, $cx:ident, [] [$tag:literal]) => {
        if $is == $tag {
            $value = $crate::primitive::Wire::decode($reader, $cx)?;
            return Ok(true);
        }
    };
    (@tagged $value:expr, $is:ident, $reader:ident, $cx:ident, [$range:expr] $tag:tt) => {
        if $crate::message::present($range, $cx.version) {
            $crate::wire!(@tagged $value, $is, $reader, $cx, [] $tag);
        }
    };
}

/// Random values are for proofs: see `sample.rs`.
#[cfg(not(any(test, feature = "check")))]
#[doc(hidden)]
#[macro_export]
macro_rules! wire_sample {
    ($($declaration:tt)*) => {};
}

#[cfg(test)]
mod tests {
    use super::*;

    wire! {
        /// A record's value with a field of each kind.
        struct Sighting (versions 0..=3, flexible 2..) {
            /// In every version, with a default of its own.
            place: i32 = -1;
            /// Lost silently where it does not exist.
            remark: String, in 1.., ignorable;
            /// Never lost silently.
            witness: Option<String>, in 1..;
            /// Null from version 2 on alone.
            bird: Option<String> = Some(String::new()), nullable 2..;
            /// Only ever tagged.
            ring: i64, in 3.., tag 0;
            /// Gone after version 2.
            weather: i8 = 4, in ..=2, ignorable;
        }

        /// Without versions: a part of others.
        struct Nested {
            /// What it holds.
            sightings: Vec<Sighting>;
        }
    }

    fn sighting() -> Sighting {
        Sighting { place: 7, bird: Some("owl".to_owned()), ..Sighting::default() }
    }

    #[test]
    fn defaults_are_those_of_the_declaration() {
        let default = Sighting::default();
        assert_eq!((default.place, default.weather), (-1, 4));
        assert_eq!((default.bird.as_deref(), default.witness), (Some(""), None));
        assert!(Nested::default().sightings.is_empty());
    }

    #[test]
    fn each_version_has_its_own_bytes() {
        let written = |version| encode_record(version, &sighting()).unwrap();
        assert_eq!(written(0), &b"\0\0\0\0\0\x07\0\x03owl\x04"[..]);
        assert_eq!(written(1), &b"\0\x01\0\0\0\x07\0\0\xff\xff\0\x03owl\x04"[..]);
        assert_eq!(written(2), &b"\0\x02\0\0\0\x07\x01\0\x04owl\x04\0"[..]);
        assert_eq!(written(3), &b"\0\x03\0\0\0\x07\x01\0\x04owl\0"[..]);
        for version in Sighting::VERSIONS {
            assert_eq!(decode_record(written(version)), Ok((version, sighting())));
        }
    }

    #[test]
    fn an_ignorable_value_is_dropped_where_it_does_not_exist() {
        let written = Sighting { remark: "late".to_owned(), weather: 9, ..sighting() };
        let read = |version| {
            let bytes = encode_record(version, &written).unwrap();
            decode_record::<Sighting>(bytes).unwrap().1
        };
        assert_eq!(read(0), Sighting { weather: 9, ..sighting() });
        assert_eq!(read(1), written);
        assert_eq!(read(3), Sighting { remark: "late".to_owned(), ..sighting() });
    }

    #[test]
    fn another_value_is_an_error_that_names_its_field() {
        let witnessed = Sighting { witness: Some("Ann".to_owned()), ..sighting() };
        let refused = encode_record(0, &witnessed).unwrap_err();
        let field = "Sighting.witness";
        assert_eq!(refused, EncodeError::FieldNotInVersion { field, version: 0 });
        assert!(encode_record(1, &witnessed).is_ok());

        let ringed = Sighting { ring: 1, ..sighting() };
        let refused = encode_record(2, &ringed).unwrap_err();
        let field = "Sighting.ring";
        assert_eq!(refused, EncodeError::FieldNotInVersion { field, version: 2 });
        assert!(encode_record(3, &ringed).is_ok());
    }

    #[test]
    fn a_null_is_an_error_where_the_version_has_none() {
        let unknown = Sighting { bird: None, ..sighting() };
        let refused = encode_record(1, &unknown).unwrap_err();
        assert_eq!(refused, EncodeError::Null { field: "Sighting.bird", version: 1 });
        let bytes = encode_record(2, &unknown).unwrap();
        assert_eq!(decode_record(bytes), Ok((2, unknown)));

        let null = Bytes::from_static(b"\0\0\0\0\0\x07\xff\xff\x04");
        assert_eq!(decode_record::<Sighting>(null), Err(DecodeError::Null { at: 8 }));
    }

    #[test]
    fn versions_outside_the_declared_ones_are_refused() {
        for version in [-1, 4] {
            let refused = encode_record(version, &sighting()).unwrap_err();
            assert_eq!(refused, EncodeError::Version { name: "Sighting", version });
        }
        let refused = decode_record::<Sighting>(Bytes::from_static(b"\0\x04\0\0\0\x07"));
        assert_eq!(refused, Err(DecodeError::Version { name: "Sighting", version: 4 }));
    }

    #[test]
    fn bytes_left_over_after_a_record_are_an_error() {
        let mut bytes = encode_record(2, &sighting()).unwrap().to_vec();
        bytes.push(0);
        let refused = decode_record::<Sighting>(bytes.into());
        assert!(matches!(refused, Err(DecodeError::Trailing { bytes: 1, .. })), "{refused:?}");
    }
}
