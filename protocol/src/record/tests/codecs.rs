//! The codecs: foreign frames are read, ours are read by foreign readers, bombs are not. Pure.

use super::super::compression::{
    GUESS_BYTES_MIN, ROOM_STEP_MAX, ROOM_WHOLE_MIN, compress, decompress, next_room,
};
use super::*;
use std::io::{Read, Write};

/// 70000 bytes: more than a block of lz4, so that linked blocks refer back.
fn text() -> Vec<u8> {
    b"abcdefghij".repeat(7000)
}

fn check(codec: Codec, frame: &[u8], want: &[u8]) {
    let frame = Bytes::copy_from_slice(frame);
    assert_eq!(decompress(codec, frame.clone(), want.len()), Ok(Bytes::copy_from_slice(want)));
    if let Some(less) = want.len().checked_sub(1) {
        let error = CompressionError::TooLarge { codec, limit_bytes: less };
        assert_eq!(decompress(codec, frame, less), Err(error));
    }
}

fn frame_of(codec: Codec, input: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    compress(codec, None, input, &mut frame);
    frame
}

/// Bytes that no codec can make smaller.
fn noise(count: usize) -> Vec<u8> {
    let mut rng = crate::rng::Rng::new(1);
    (0..count).map(|_| u8::try_from(rng.below(256)).unwrap()).collect()
}

#[test]
fn every_codec_returns_what_it_was_given_and_stops_one_byte_short() {
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        for size in [0, 1, 65_534, 65_535, 65_536, 65_537, 300_000] {
            check(codec, &frame_of(codec, &noise(size)), &noise(size));
            let zeros = vec![0; size];
            check(codec, &frame_of(codec, &zeros), &zeros);
        }
        check(codec, &frame_of(codec, &text()), &text());
    }
}

#[test]
fn levels_are_clamped_to_the_codecs_own() {
    for codec in [Codec::Gzip, Codec::Zstd] {
        for level in [i32::MIN, -1, 0, 1, 9, 22, i32::MAX] {
            let mut frame = Vec::new();
            compress(codec, Some(level), &text()[..1000], &mut frame);
            check(codec, &frame, &text()[..1000]);
        }
    }
}

#[test]
fn an_lz4_frame_has_independent_blocks_of_64_kib_without_checksums() {
    let frame = frame_of(Codec::Lz4, b"abc");
    let golden =
        [4, 0x22, 0x4d, 0x18, 0x60, 0x40, 0x82, 3, 0, 0, 0x80, b'a', b'b', b'c', 0, 0, 0, 0];
    assert_eq!(frame, golden);
}

#[test]
fn an_lz4_frame_is_read_by_another_reader() {
    for input in [text(), noise(200_000), Vec::new()] {
        let frame = frame_of(Codec::Lz4, &input);
        let mut read = Vec::new();
        lz4_flex::frame::FrameDecoder::new(&frame[..]).read_to_end(&mut read).unwrap();
        assert_eq!(read, input);
    }
}

#[test]
fn lz4_frames_with_linked_blocks_checksums_and_sizes_are_read() {
    let ff = |count| "ff".repeat(count);
    // By the reference implementation: linked 64 KiB blocks with checksums of blocks and content.
    let linked = [
        "04224d185440ae14010000af6162636465666768696a0a00",
        &ff(256),
        "de5062636465667f357dcf1b0000000f0a00",
        &ff(17),
        "6950666768696a10c859f20000000048425123",
    ]
    .concat();
    check(Codec::Lz4, &unhex(&linked), &text());
    // By the same: one 4 MiB block, with content size and checksum.
    let sized = [
        "04224d186c507011010000000000d426010000af6162636465666768696a0a00",
        &ff(274),
        "6050666768696a0000000048425123",
    ]
    .concat();
    check(Codec::Lz4, &unhex(&sized), &text());
}

#[test]
fn lz4_frames_follow_one_another_and_skippable_ones_are_skipped() {
    let mut frames = frame_of(Codec::Lz4, b"abc");
    frames.extend_from_slice(&[0x53, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 9, 9]);
    frames.extend_from_slice(&frame_of(Codec::Lz4, b"def"));
    check(Codec::Lz4, &frames, b"abcdef");
}

#[test]
fn linked_lz4_blocks_of_every_size_are_read() {
    use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
    let mut input = noise(90_000);
    input.extend_from_within(30_000..);
    input.extend_from_slice(&text());
    for size in [BlockSize::Max64KB, BlockSize::Max256KB, BlockSize::Max1MB, BlockSize::Max4MB] {
        for mode in [BlockMode::Linked, BlockMode::Independent] {
            let info = FrameInfo::new().block_size(size).block_mode(mode).content_checksum(true);
            let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
            encoder.write_all(&input).unwrap();
            check(Codec::Lz4, &encoder.finish().unwrap(), &input);
        }
    }
}

#[test]
fn snappy_is_written_as_xerials_stream() {
    let frame = frame_of(Codec::Snappy, b"abc");
    let golden = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01\0\0\0\x05\x03\x08abc";
    assert_eq!(frame, golden);
}

#[test]
fn raw_snappy_is_read() {
    let raw = snap::raw::Encoder::new().compress_vec(&text()).unwrap();
    check(Codec::Snappy, &raw, &text());
}

#[test]
fn gzip_members_follow_one_another() {
    let mut members = frame_of(Codec::Gzip, b"abc");
    members.extend_from_slice(&frame_of(Codec::Gzip, b"def"));
    check(Codec::Gzip, &members, b"abcdef");
}

#[test]
fn zstd_frames_without_a_size_are_read_whatever_window_they_ask_for() {
    // By the reference implementation, streaming: a window of 2 MiB, then one of 128 MiB.
    let frames = [
        "28b52ffd0458950000506162636465666768696a01006311cd0b12df9b9841",
        "28b52ffd0488950000506162636465666768696a01006311cd0b12df9b9841",
    ];
    for frame in frames {
        check(Codec::Zstd, &unhex(frame), &text());
    }
}

#[test]
fn a_cut_frame_is_malformed() {
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let frame = frame_of(codec, &text());
        for cut in [1, 3, frame.len() / 2, frame.len() - 1] {
            let result = decompress(codec, Bytes::copy_from_slice(&frame[..cut]), 1 << 20);
            assert_eq!(result, Err(CompressionError::Malformed { codec }), "{codec} cut at {cut}");
        }
    }
}

#[test]
fn a_bomb_stops_at_the_limit() {
    let zeros = vec![0; 64 << 20];
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let bomb = frame_of(codec, &zeros);
        let result = decompress(codec, bomb.into(), 1 << 20);
        let error = CompressionError::TooLarge { codec, limit_bytes: 1 << 20 };
        assert_eq!(result, Err(error));
    }
}

#[test]
fn what_unfolds_into_much_unfolds_as_far_as_is_allowed_and_no_further() {
    for size in [ROOM_STEP_MAX - 1, ROOM_STEP_MAX, ROOM_STEP_MAX + 1, 20 << 20] {
        let zeros = vec![7; size];
        for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
            let bomb = Bytes::from(frame_of(codec, &zeros));
            for limit_bytes in [size, size + 1, DECOMPRESSED_BYTES_MAX, usize::MAX] {
                let result = decompress(codec, bomb.clone(), limit_bytes);
                assert!(result.is_ok_and(|it| it == zeros), "{codec} {size} of {limit_bytes}");
            }
            let limit_bytes = size - 1;
            let error = CompressionError::TooLarge { codec, limit_bytes };
            assert_eq!(decompress(codec, bomb, limit_bytes), Err(error), "{size}");
        }
    }
}

#[test]
fn room_for_much_is_made_once_and_is_not_kept_by_allocators() {
    let most = DECOMPRESSED_BYTES_MAX + 1;
    for room_max in [9 << 20, 20 << 20, most] {
        let mut room = GUESS_BYTES_MIN;
        while room < room_max {
            room = next_room(room, 2, room_max);
            assert!(room <= ROOM_STEP_MAX || room >= ROOM_WHOLE_MIN, "{room} of {room_max}");
        }
    }
}

#[test]
fn a_declared_size_is_not_believed() {
    // Raw snappy that declares 4 GiB less one; zstd that declares 16 EiB less one, both empty.
    let snappy = Bytes::from_static(&[0xff, 0xff, 0xff, 0xff, 0x0f]);
    let malformed = CompressionError::Malformed { codec: Codec::Snappy };
    assert_eq!(decompress(Codec::Snappy, snappy, usize::MAX), Err(malformed));
    let mut zstd = vec![0x28, 0xb5, 0x2f, 0xfd, 0xe0];
    zstd.extend_from_slice(&(u64::MAX - 2).to_le_bytes());
    zstd.extend_from_slice(&[1, 0, 0]);
    assert!(decompress(Codec::Zstd, zstd.into(), usize::MAX).is_err());
}
