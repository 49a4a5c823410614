//! The four codecs, framed as Kafka's clients frame them, and none of them a bomb.
//!
//! | codec | written | read |
//! |---|---|---|
//! | gzip | one member | any number of members |
//! | snappy | Xerial's stream of 32 KiB blocks | the same, or one raw snappy block |
//! | lz4 | one frame, independent 64 KiB blocks, no checksums | any frames of version 1, see `lz4` |
//! | zstd | one frame that tells its size | any frames |
//!
//! Decompression stops with an error at a limit given by the caller. Memory grows with what was
//! really decompressed, at most fourfold ahead of it, and never to a size that the input merely
//! declares; beyond 8 MiB room is set aside for all that is allowed, of which pages that nothing is
//! written to cost nothing. Pure.

use super::{DECOMPRESSED_BYTES_MAX, lz4};
use crate::error_code::ErrorCode;
use bytes::Bytes;
use flate2::bufread::MultiGzDecoder;
use flate2::write::GzEncoder;
use std::cell::RefCell;
use std::fmt;
use std::io::{Read, Write};
use zstd::zstd_safe;

/// How the records of a batch are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Codec {
    /// Not at all.
    #[default]
    None,
    /// RFC 1952.
    Gzip,
    /// Snappy.
    Snappy,
    /// LZ4 frames.
    Lz4,
    /// Zstandard. KIP-110.
    Zstd,
}

/// Why records do not decompress.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompressionError {
    /// There is more than the caller allows.
    #[error("{codec}: more than {limit_bytes} bytes when decompressed")]
    TooLarge {
        /// The codec.
        codec: Codec,
        /// The caller's limit.
        limit_bytes: usize,
    },
    /// The input is not of this codec, is cut off, or fails the codec's own checks.
    #[error("{codec}: malformed")]
    Malformed {
        /// The codec.
        codec: Codec,
    },
}

impl CompressionError {
    /// What a producer of the batch is told. Trying again cannot help: the checksum held.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::TooLarge { .. } => ErrorCode::MessageTooLarge,
            Self::Malformed { .. } => ErrorCode::InvalidRecord,
        }
    }
}

impl Codec {
    /// Every codec, in the order of their numbers.
    pub const ALL: [Self; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    /// The codec of this number in a batch's attributes; `None` when there is none.
    #[must_use]
    pub fn from_wire(number: i16) -> Option<Self> {
        Self::ALL.into_iter().find(|codec| codec.to_wire() == number)
    }

    /// Its number in a batch's attributes.
    #[must_use]
    pub fn to_wire(self) -> i16 {
        match self {
            Self::None => 0,
            Self::Gzip => 1,
            Self::Snappy => 2,
            Self::Lz4 => 3,
            Self::Zstd => 4,
        }
    }

    /// Its name in settings; `None` when there is no such codec.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|codec| codec.name() == name)
    }

    /// Its name in settings.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }

    /// True for all but [`Codec::None`].
    #[must_use]
    pub fn compresses(self) -> bool {
        self != Self::None
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Appends `input`, compressed, to `output`. `level` is the codec's own scale, clamped to it;
/// `None`: Kafka's default. Snappy and lz4 have one level.
pub(super) fn compress(codec: Codec, level: Option<i32>, input: &[u8], output: &mut Vec<u8>) {
    match codec {
        Codec::None => output.extend_from_slice(input),
        Codec::Gzip => compress_gzip(level, input, output),
        Codec::Snappy => compress_snappy(input, output),
        Codec::Lz4 => lz4::compress(input, output),
        Codec::Zstd => compress_zstd(level, input, output),
    }
}

/// The bytes of which `input` is the compressed form; `input` itself, shared, without compression.
pub(super) fn decompress(
    codec: Codec,
    input: Bytes,
    limit_bytes: usize,
) -> Result<Bytes, CompressionError> {
    let decompressed = match codec {
        Codec::None => return Ok(input),
        Codec::Gzip => decompress_gzip(&input, limit_bytes),
        Codec::Snappy => decompress_snappy(&input, limit_bytes),
        Codec::Lz4 => lz4::decompress(&input, limit_bytes),
        Codec::Zstd => decompress_zstd(&input, limit_bytes),
    };
    let mut output = decompressed.map_err(|failure| failure.of(codec, limit_bytes))?;
    assert!(output.len() <= limit_bytes);
    // Records keep the whole buffer alive: let them not hold much more than they use. Of one for all
    // that is allowed they hold the pages that they use.
    if output.capacity() / 2 > output.len() && output.capacity() < ROOM_WHOLE_MIN {
        output.shrink_to_fit();
    }
    Ok(output.into())
}

/// Why one codec stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    TooLarge,
    Malformed,
}

impl Failure {
    fn of(self, codec: Codec, limit_bytes: usize) -> CompressionError {
        match self {
            Self::TooLarge => CompressionError::TooLarge { codec, limit_bytes },
            Self::Malformed => CompressionError::Malformed { codec },
        }
    }
}

/// 32 KiB: what a first guess at the size of the output is at least.
pub(super) const GUESS_BYTES_MIN: usize = 32 << 10;
/// How many times its size an input is first guessed to grow to. JSON grows four to ten times.
const GUESS_RATIO: usize = 8;

fn first_guess(input: &[u8], limit_bytes: usize) -> usize {
    input.len().saturating_mul(GUESS_RATIO).max(GUESS_BYTES_MIN).min(limit_bytes)
}

/// 8 MiB: what a batch of 1 MiB unfolds into as a rule. Beyond it room is made once, for all that is allowed.
///
/// To grow step by step would be dear: when a piece of up to 32 MiB that it had of the kernel is freed, glibc
/// serves pieces of that size from its own heaps from then on, of which there are many and which give
/// little back.
pub(super) const ROOM_STEP_MAX: usize = 8 << 20;
/// 33 MiB: what allocators have of the kernel, and give back as soon as it is freed.
pub(super) const ROOM_WHOLE_MIN: usize = 33 << 20;

/// How much room to make next where `room` did not do, and no more than `room_max` is used.
pub(super) fn next_room(room: usize, factor: usize, room_max: usize) -> usize {
    let next = room.max(1).saturating_mul(factor).min(room_max);
    let is_step = next <= ROOM_STEP_MAX || room_max > DECOMPRESSED_BYTES_MAX + 1;
    if is_step { next } else { room_max.max(ROOM_WHOLE_MIN) }
}

fn compress_gzip(level: Option<i32>, input: &[u8], output: &mut Vec<u8>) {
    let level = level.and_then(|level| u32::try_from(level.clamp(0, 9)).ok());
    let level = level.map_or(flate2::Compression::default(), flate2::Compression::new);
    let mut encoder = GzEncoder::new(output, level);
    encoder.write_all(input).expect("a vector takes every write");
    encoder.finish().expect("a vector takes every write");
}

fn decompress_gzip(input: &[u8], limit_bytes: usize) -> Result<Vec<u8>, Failure> {
    let mut decoder = MultiGzDecoder::new(input);
    let mut output = vec![0; first_guess(input, limit_bytes)];
    // One byte beyond the limit tells an output that ends there from one that goes on.
    let most = limit_bytes.saturating_add(1);
    let mut filled = 0;
    loop {
        let mut end = output.len().min(most);
        if filled == end {
            if end == most {
                return Err(Failure::TooLarge);
            }
            let mut roomier = vec![0; next_room(end, 2, most)];
            roomier[..filled].copy_from_slice(&output);
            output = roomier;
            end = output.len().min(most);
        }
        match decoder.read(&mut output[filled..end]).map_err(|_| Failure::Malformed)? {
            0 => break,
            count => filled += count,
        }
    }
    if filled > limit_bytes {
        return Err(Failure::TooLarge);
    }
    output.truncate(filled);
    Ok(output)
}

/// What Xerial's stream begins with.
const XERIAL_MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
/// Its version, and the lowest version of a reader that understands it: both 1.
const XERIAL_VERSIONS: [u8; 8] = [0, 0, 0, 1, 0, 0, 0, 1];
/// 32 KiB: uncompressed bytes per block, as snappy-java cuts them.
const XERIAL_BLOCK_BYTES: usize = 32 << 10;
/// Snappy's densest element makes 64 bytes of three: what declares more than this many times its
/// size cannot be true.
const SNAPPY_RATIO_MAX: usize = 22;

fn compress_snappy(input: &[u8], output: &mut Vec<u8>) {
    output.extend_from_slice(&XERIAL_MAGIC);
    output.extend_from_slice(&XERIAL_VERSIONS);
    let mut encoder = snap::raw::Encoder::new();
    for block in input.chunks(XERIAL_BLOCK_BYTES) {
        let start = output.len();
        let body = start + 4;
        output.resize(body + snap::raw::max_compress_len(block.len()), 0);
        let count = encoder
            .compress(block, &mut output[body..])
            .expect("the output has room for the worst case of a block");
        let length = u32::try_from(count).expect("a block of 32 KiB stays small");
        output[start..body].copy_from_slice(&length.to_be_bytes());
        output.truncate(body + count);
    }
}

fn decompress_snappy(input: &[u8], limit_bytes: usize) -> Result<Vec<u8>, Failure> {
    let mut output = Vec::new();
    let Some(stream) = input.strip_prefix(&XERIAL_MAGIC) else {
        decompress_snappy_block(input, &mut output, limit_bytes)?;
        return Ok(output);
    };
    // Writers disagree about the versions' byte order and nobody reads them.
    let mut rest = stream.get(XERIAL_VERSIONS.len()..).ok_or(Failure::Malformed)?;
    while let Some((length, blocks)) = rest.split_first_chunk::<4>() {
        let length =
            usize::try_from(u32::from_be_bytes(*length)).map_err(|_| Failure::Malformed)?;
        let (block, others) = blocks.split_at_checked(length).ok_or(Failure::Malformed)?;
        decompress_snappy_block(block, &mut output, limit_bytes)?;
        rest = others;
    }
    if rest.is_empty() { Ok(output) } else { Err(Failure::Malformed) }
}

fn decompress_snappy_block(
    block: &[u8],
    output: &mut Vec<u8>,
    limit_bytes: usize,
) -> Result<(), Failure> {
    let declared = snap::raw::decompress_len(block).map_err(|_| Failure::Malformed)?;
    if declared > block.len().saturating_mul(SNAPPY_RATIO_MAX) {
        return Err(Failure::Malformed);
    }
    let start = output.len();
    let end = start.saturating_add(declared);
    if end > limit_bytes {
        return Err(Failure::TooLarge);
    }
    output.resize(end, 0);
    let count = snap::raw::Decoder::new()
        .decompress(block, &mut output[start..])
        .map_err(|_| Failure::Malformed)?;
    if count == declared { Ok(()) } else { Err(Failure::Malformed) }
}

thread_local! {
    // A context is some hundred kilobytes that zstd sets up once; the output does not depend on
    // what it was used for before. One thread runs one compression at a time, so nothing is shared.
    static ZSTD_COMPRESSOR: RefCell<zstd_safe::CCtx<'static>> =
        RefCell::new(zstd_safe::CCtx::create());
    static ZSTD_DECOMPRESSOR: RefCell<zstd_safe::DCtx<'static>> =
        RefCell::new(zstd_safe::DCtx::create());
}

fn compress_zstd(level: Option<i32>, input: &[u8], output: &mut Vec<u8>) {
    let level = level.unwrap_or(zstd::DEFAULT_COMPRESSION_LEVEL);
    let mut compressed = Vec::with_capacity(zstd_safe::compress_bound(input.len()));
    ZSTD_COMPRESSOR
        .with_borrow_mut(|context| context.compress(&mut compressed, input, level))
        .expect("the output has room for the worst case, and zstd clamps levels");
    output.extend_from_slice(&compressed);
}

/// zstd's "destination buffer is too small", stable since its version 1.3.1.
const ZSTD_OUTPUT_FULL: usize = 0_usize.wrapping_sub(70);

fn decompress_zstd(input: &[u8], limit_bytes: usize) -> Result<Vec<u8>, Failure> {
    // Decompressing in one go into the output needs no window: a streaming decoder would set
    // aside as much as the frame declares. Producers that stream do not tell the size, so the room
    // is guessed and on failure quadrupled, which at worst repeats a third of the work; where it is
    // told, a frame that wants more lies, and would have it up to the limit.
    let declared = declared_zstd(input)?;
    if declared.is_some_and(|size| size > limit_bytes) {
        return Err(Failure::TooLarge);
    }
    let room_max = declared.unwrap_or(limit_bytes);
    let guess = first_guess(input, limit_bytes);
    let mut room = next_room(guess, if declared.is_some() { 4 } else { 1 }, room_max);
    loop {
        let mut output = Vec::with_capacity(room);
        let result =
            ZSTD_DECOMPRESSOR.with_borrow_mut(|context| context.decompress(&mut output, input));
        match result {
            Ok(_) if output.len() > limit_bytes => return Err(Failure::TooLarge),
            Ok(_) => return Ok(output),
            Err(ZSTD_OUTPUT_FULL) if output.capacity() >= room_max => {
                let is_lie = declared.is_some();
                return Err(if is_lie { Failure::Malformed } else { Failure::TooLarge });
            }
            Err(ZSTD_OUTPUT_FULL) => room = next_room(room, 4, room_max),
            Err(_) => return Err(Failure::Malformed),
        }
    }
}

/// What all frames of `input` together say that they decompress to. `None`: some do not say.
fn declared_zstd(input: &[u8]) -> Result<Option<usize>, Failure> {
    let mut rest = input;
    let mut declared = Some(0_usize);
    while !rest.is_empty() {
        let size = zstd_safe::get_frame_content_size(rest).map_err(|_| Failure::Malformed)?;
        let size = size.map(|size| usize::try_from(size).unwrap_or(usize::MAX));
        let length = zstd_safe::find_frame_compressed_size(rest).map_err(|_| Failure::Malformed)?;
        rest = rest.get(length..).ok_or(Failure::Malformed)?;
        declared = declared.zip(size).map(|(before, size)| before.saturating_add(size));
    }
    Ok(declared)
}
