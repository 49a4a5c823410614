//! Random messages, and what they weigh: the raw material of proofs about the codec.
//!
//! Present in tests and under the feature `check` alone. A sample holds whatever its version can
//! express: nulls, empty arrays, extreme numbers, tagged fields set and unset; fields that the
//! version lacks hold their defaults, so that a sample survives the wire unchanged. Pure.

use bytes::Bytes;

use crate::ids::TopicId;
use crate::primitive::{Context, Wire, Writer};
use crate::rng::Rng;

/// A type of the wire of which random values can be made.
pub trait Sample: Wire {
    /// A random value that `cx` can express.
    fn sample(rng: &mut Rng, cx: Context) -> Self;

    /// How many bytes it holds on the heap; slices of a frame do not count.
    fn heap_bytes(&self) -> usize;

    /// How many bytes of memory a byte of the wire may at most become, rounded up.
    #[must_use]
    fn density(_: Context) -> usize {
        1
    }
}

/// Elements of one array at most.
const ELEMENTS_MAX: u64 = 3;

/// Bytes of a byte field: mostly few, now and then enough to be spliced instead of copied.
fn sample_length(rng: &mut Rng) -> usize {
    let bound = if rng.chance(16) { 3000 } else { 12 };
    usize::try_from(rng.below(bound)).expect("a small number")
}

macro_rules! numbers {
    ($($number:ty: $from:expr;)*) => {$(
        impl Sample for $number {
            fn sample(rng: &mut Rng, _: Context) -> Self {
                match rng.below(6) {
                    0 => <$number>::MAX,
                    1 => <$number>::MIN,
                    2 => <$number>::default(),
                    _ => $from(rng.next_u64()),
                }
            }

            fn heap_bytes(&self) -> usize {
                0
            }
        }
    )*};
}

/// The first `N` bytes of `bits`.
fn low<const N: usize>(bits: u64) -> [u8; N] {
    *bits.to_le_bytes().first_chunk().expect("no number is longer than 8 bytes")
}

numbers! {
    i8: |bits| i8::from_le_bytes(low(bits));
    i16: |bits| i16::from_le_bytes(low(bits));
    i32: |bits| i32::from_le_bytes(low(bits));
    i64: |bits| i64::from_le_bytes(low(bits));
    u16: |bits| u16::from_le_bytes(low(bits));
    f64: |bits: u64| f64::from(u32::from_le_bytes(low(bits))) / 7.0;
}

impl Sample for bool {
    fn sample(rng: &mut Rng, _: Context) -> Self {
        rng.chance(2)
    }

    fn heap_bytes(&self) -> usize {
        0
    }
}

impl Sample for TopicId {
    fn sample(rng: &mut Rng, _: Context) -> Self {
        if rng.chance(4) { Self::ZERO } else { Self(rng.next_id()) }
    }

    fn heap_bytes(&self) -> usize {
        0
    }
}

impl Sample for String {
    fn sample(rng: &mut Rng, _: Context) -> Self {
        let length = if rng.chance(64) { 200 } else { rng.below(9) };
        (0..length)
            .map(|_| match rng.below(12) {
                0 => 'ß',
                1 => '水',
                _ => char::from(low::<1>(rng.below(26))[0] + b'a'),
            })
            .collect()
    }

    fn heap_bytes(&self) -> usize {
        self.capacity()
    }
}

impl Sample for Bytes {
    fn sample(rng: &mut Rng, _: Context) -> Self {
        let length = sample_length(rng);
        (0..length).map(|_| low::<1>(rng.next_u64())[0]).collect()
    }

    fn heap_bytes(&self) -> usize {
        0
    }
}

impl<T: Sample + Default> Sample for Vec<T> {
    fn sample(rng: &mut Rng, cx: Context) -> Self {
        (0..rng.below(ELEMENTS_MAX + 1)).map(|_| T::sample(rng, cx)).collect()
    }

    fn heap_bytes(&self) -> usize {
        let elements: usize = self.iter().map(T::heap_bytes).sum();
        self.capacity() * size_of::<T>() + elements
    }

    fn density(cx: Context) -> usize {
        let mut writer = Writer::new();
        T::default().encode(&mut writer, cx).expect("a default fits every version");
        size_of::<T>().div_ceil(writer.len()).max(T::density(cx))
    }
}

impl<T: Sample> Sample for Option<T>
where
    Self: Wire,
{
    fn sample(rng: &mut Rng, cx: Context) -> Self {
        if rng.chance(4) { None } else { Some(T::sample(rng, cx)) }
    }

    fn heap_bytes(&self) -> usize {
        self.as_ref().map_or(0, T::heap_bytes)
    }

    fn density(cx: Context) -> usize {
        T::density(cx)
    }
}

/// Implements [`Sample`] for the structs of [`wire!`](crate::wire).
#[doc(hidden)]
#[macro_export]
macro_rules! wire_sample {
    ($name:ident {$(
        $field:ident: $type:ty, $default:tt $range:tt $nullable:tt $tag:tt;
    )*}) => {
        #[allow(unused_variables)]
        impl $crate::sample::Sample for $name {
            fn sample(rng: &mut $crate::rng::Rng, cx: $crate::primitive::Context) -> Self {
                Self {$(
                    $field: $crate::wire_sample!(@field rng, cx, $default $range $nullable),
                )*}
            }

            fn heap_bytes(&self) -> usize {
                0 $(+ $crate::sample::Sample::heap_bytes(&self.$field))*
            }

            fn density(cx: $crate::primitive::Context) -> usize {
                let mut density = 1;
                $(
                    if $crate::wire_sample!(@present cx, $range) {
                        density = density.max(<$type as $crate::sample::Sample>::density(cx));
                    }
                )*
                density
            }
        }
    };

    (@present $cx:ident, []) => { true };
    (@present $cx:ident, [$range:expr]) => { $crate::message::present($range, $cx.version) };

    (@field $rng:ident, $cx:ident, $default:tt [] []) => {
        if $rng.chance(5) {
            $crate::wire!(@default $default)
        } else {
            $crate::sample::Sample::sample($rng, $cx)
        }
    };
    (@field $rng:ident, $cx:ident, $default:tt [] [$nullable:expr]) => {{
        let mut value = $crate::wire_sample!(@field $rng, $cx, $default [] []);
        while value.is_none() && !$crate::message::present($nullable, $cx.version) {
            value = $crate::sample::Sample::sample($rng, $cx);
        }
        value
    }};
    (@field $rng:ident, $cx:ident, $default:tt [$range:expr] $nullable:tt) => {
        if $crate::message::present($range, $cx.version) {
            $crate::wire_sample!(@field $rng, $cx, $default [] $nullable)
        } else {
            $crate::wire!(@default $default)
        }
    };
}

/// `bytes` with some damage: flipped, overwritten, cut, doubled or extended.
#[must_use]
pub fn damage(bytes: &[u8], rng: &mut Rng) -> Bytes {
    /// Bytes at which lengths, counts and tags go wrong.
    const EDGES: [u8; 6] = [0x00, 0x01, 0x7f, 0x80, 0xfe, 0xff];
    let mut damaged = bytes.to_vec();
    for _ in 0..=rng.below(3) {
        let at = index(rng, damaged.len());
        let byte = if rng.chance(2) { EDGES[index(rng, EDGES.len())] } else { low_byte(rng) };
        match rng.below(6) {
            0 => damaged.truncate(at),
            1 => damaged.push(byte),
            2 => damaged.extend_from_within(at..),
            3 => damaged.insert(at, byte),
            _ if damaged.is_empty() => {}
            4 => damaged[at] ^= 1 << rng.below(8),
            _ => damaged[at] = byte,
        }
    }
    damaged.into()
}

/// Below `length`; 0 when that is 0.
fn index(rng: &mut Rng, length: usize) -> usize {
    let bound = u64::try_from(length).expect("lengths fit 64 bits");
    usize::try_from(rng.below(bound)).expect("below a length")
}

fn low_byte(rng: &mut Rng) -> u8 {
    let [byte] = low(rng.next_u64());
    byte
}
