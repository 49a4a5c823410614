//! LZ4 frames, version 1, written and read around the block codec.
//!
//! Written as Kafka's clients do: independent blocks of 64 KiB, no checksums, no content size, so
//! the descriptor is always the same seven bytes. Read: blocks of any allowed size, independent or
//! linked (a linked block may refer to the 64 KiB before it), several frames one after another,
//! skippable frames. The frame's own checksums are passed over: the batch's CRC-32C covers the
//! same bytes. Output grows block by block, at most one block ahead of what the input yields.
//! Pure.

use super::compression::{Failure, next_room};
use lz4_flex::block::{
    CompressTable, compress_into_with_table, decompress_into_with_dict, get_maximum_output_size,
};

const MAGIC: u32 = 0x184d_2204;
/// Frames of these sixteen magics hold nothing for us.
const SKIPPABLE_MAGIC: u32 = 0x184d_2a50;
/// Magic; version 1 with independent blocks; blocks of 64 KiB; the descriptor's checksum.
const FRAME_START: [u8; 7] = [0x04, 0x22, 0x4d, 0x18, 0x60, 0x40, 0x82];
/// 64 KiB: what a block holds before compression; also how far back a linked block refers.
const BLOCK_BYTES: usize = 64 << 10;
/// In a block's length: the block is stored as it was.
const STORED_BIT: u32 = 1 << 31;
/// LZ4's densest sequence makes 255 bytes of each further length byte.
const RATIO_MAX: usize = 255;

const VERSION_BITS: u8 = 0b1100_0000;
const VERSION_1: u8 = 0b0100_0000;
const INDEPENDENT_BIT: u8 = 1 << 5;
const BLOCK_CHECKSUM_BIT: u8 = 1 << 4;
const CONTENT_SIZE_BIT: u8 = 1 << 3;
const CONTENT_CHECKSUM_BIT: u8 = 1 << 2;
const RESERVED_BIT: u8 = 1 << 1;
const DICTIONARY_BIT: u8 = 1;

/// Appends `input` as one frame to `output`.
pub(super) fn compress(input: &[u8], output: &mut Vec<u8>) {
    output.extend_from_slice(&FRAME_START);
    // The small table, half the memory, serves blocks below 65535 bytes.
    let mut table =
        if input.len() < 65_535 { CompressTable::small() } else { CompressTable::large() };
    for block in input.chunks(BLOCK_BYTES) {
        let start = output.len();
        let body = start + 4;
        output.resize(body + get_maximum_output_size(block.len()), 0);
        let count = compress_into_with_table(block, &mut output[body..], &mut table)
            .expect("the output has room for the worst case of a block");
        output.truncate(body + count);
        let mut length = u32::try_from(count).expect("a block of 64 KiB stays small");
        if count >= block.len() {
            output.truncate(body);
            output.extend_from_slice(block);
            length = u32::try_from(block.len()).expect("a block is at most 64 KiB") | STORED_BIT;
        }
        output[start..body].copy_from_slice(&length.to_le_bytes());
    }
    output.extend_from_slice(&[0; 4]);
}

/// What the frames of `input` hold, at most `limit_bytes`.
pub(super) fn decompress(mut input: &[u8], limit_bytes: usize) -> Result<Vec<u8>, Failure> {
    let mut output = Vec::new();
    if input.is_empty() {
        return Err(Failure::Malformed);
    }
    while !input.is_empty() {
        let magic = take_u32(&mut input)?;
        if magic == MAGIC {
            frame(&mut input, &mut output, limit_bytes)?;
        } else if magic & !0xf == SKIPPABLE_MAGIC {
            let length = take_u32(&mut input)?;
            take(&mut input, usize::try_from(length).map_err(|_| Failure::Malformed)?)?;
        } else {
            return Err(Failure::Malformed);
        }
    }
    Ok(output)
}

/// What a frame says of its blocks.
struct Descriptor {
    flags: u8,
    block_bytes_max: usize,
}

fn descriptor(input: &mut &[u8]) -> Result<Descriptor, Failure> {
    let &[flags, sizes] = take(input, 2)? else { return Err(Failure::Malformed) };
    if flags & VERSION_BITS != VERSION_1 || flags & (RESERVED_BIT | DICTIONARY_BIT) != 0 {
        return Err(Failure::Malformed);
    }
    let block_bytes_max = match sizes >> 4 {
        4 => 64 << 10,
        5 => 256 << 10,
        6 => 1 << 20,
        7 => 4 << 20,
        _ => return Err(Failure::Malformed),
    };
    if flags & CONTENT_SIZE_BIT != 0 {
        take(input, 8)?;
    }
    take(input, 1)?;
    Ok(Descriptor { flags, block_bytes_max })
}

fn frame(input: &mut &[u8], output: &mut Vec<u8>, limit_bytes: usize) -> Result<(), Failure> {
    let Descriptor { flags, block_bytes_max } = descriptor(input)?;
    let frame_start = output.len();
    loop {
        let word = take_u32(input)?;
        if word == 0 {
            break;
        }
        let length = usize::try_from(word & !STORED_BIT).map_err(|_| Failure::Malformed)?;
        if length > block_bytes_max {
            return Err(Failure::Malformed);
        }
        let body = take(input, length)?;
        if word & STORED_BIT != 0 {
            if output.len().saturating_add(length) > limit_bytes {
                return Err(Failure::TooLarge);
            }
            make_room(output, length, limit_bytes);
            output.extend_from_slice(body);
        } else {
            let is_linked = flags & INDEPENDENT_BIT == 0;
            let history = if is_linked { frame_start } else { output.len() };
            block(body, output, history, block_bytes_max, limit_bytes)?;
        }
        if flags & BLOCK_CHECKSUM_BIT != 0 {
            take(input, 4)?;
        }
    }
    if flags & CONTENT_CHECKSUM_BIT != 0 {
        take(input, 4)?;
    }
    Ok(())
}

/// Decompresses one block, which may refer to what `output` holds from `history` on.
fn block(
    body: &[u8],
    output: &mut Vec<u8>,
    history: usize,
    block_bytes_max: usize,
    limit_bytes: usize,
) -> Result<(), Failure> {
    let start = output.len();
    let room = block_bytes_max.min(body.len().saturating_mul(RATIO_MAX));
    let allowed = room.min(limit_bytes.saturating_sub(start));
    make_room(output, allowed, limit_bytes);
    output.resize(start + allowed, 0);
    let (done, target) = output.split_at_mut(start);
    let history = &done[history.max(start.saturating_sub(BLOCK_BYTES))..];
    let result = decompress_into_with_dict(body, target, history);
    match result {
        Ok(count) => {
            output.truncate(start + count);
            Ok(())
        }
        // Without room for a whole block, running out of it means the limit.
        Err(lz4_flex::block::DecompressError::OutputTooSmall { .. }) if allowed < room => {
            Err(Failure::TooLarge)
        }
        Err(_) => Err(Failure::Malformed),
    }
}

/// Makes room for `count` more bytes, all within the limit.
fn make_room(output: &mut Vec<u8>, count: usize, limit_bytes: usize) {
    let needed = output.len() + count;
    if needed > output.capacity() {
        let doubled = output.capacity().saturating_mul(2).min(limit_bytes);
        output.reserve_exact(next_room(needed.max(doubled), 1, limit_bytes) - output.len());
    }
}

fn take<'a>(input: &mut &'a [u8], count: usize) -> Result<&'a [u8], Failure> {
    let (taken, rest) = input.split_at_checked(count).ok_or(Failure::Malformed)?;
    *input = rest;
    Ok(taken)
}

fn take_u32(input: &mut &[u8]) -> Result<u32, Failure> {
    let (word, rest) = input.split_first_chunk::<4>().ok_or(Failure::Malformed)?;
    *input = rest;
    Ok(u32::from_le_bytes(*word))
}
