//! Hostile frames: whatever arrives, decoding neither panics nor allocates out of proportion.
//!
//! The allocator of this binary counts. It holds one test alone, so that nothing else is counted.
//! `FUZZ_FRAMES` says how many frames to try, `FUZZ_SEED` which ones.

use std::alloc::System;

use bytes::{Bytes, BytesMut};
use protocol::api::{AnyRequest, AnyResponse, split_request};
use protocol::api_key::ApiKey;
use protocol::frame::Framer;
use protocol::limits::{FRAME_BYTES_MAX, decode_budget};
use protocol::primitive::Writer;
use protocol::record::{Codec, DECOMPRESSED_BYTES_MAX, HEADER_BYTES, RecordBatch};
use protocol::rng::Rng;
use protocol::sample::damage;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// What decoding may allocate beside what the reader accounts for: the bookkeeping of shared
/// bytes, and defaults that are replaced.
const UNACCOUNTED_BYTES: usize = 256;

/// Sound messages of every version, to be damaged.
struct Sound {
    key: ApiKey,
    version: i16,
    is_request: bool,
    body: Bytes,
}

fn sound_messages(rng: &mut Rng) -> Vec<Sound> {
    /// Enough that each field is seen set, unset, empty and null.
    const PER_VERSION: usize = 8;
    let mut messages = Vec::new();
    for &key in ApiKey::ALL {
        for version in key.versions() {
            for _ in 0..PER_VERSION {
                for is_request in [true, false] {
                    let mut writer = Writer::new();
                    let written = if is_request {
                        AnyRequest::sample(key, version, rng).encode(version, &mut writer)
                    } else {
                        AnyResponse::sample(key, version, rng).encode(version, &mut writer)
                    };
                    written.expect("a sample fits its version");
                    let body = writer.finish().into_bytes();
                    messages.push(Sound { key, version, is_request, body });
                }
            }
        }
    }
    messages
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |value| value.parse().expect("a number"))
}

/// Below `bound`; 0 when that is 0.
fn below(bound: usize, rng: &mut Rng) -> usize {
    let bound = u64::try_from(bound).expect("sizes fit 64 bits");
    usize::try_from(rng.below(bound)).expect("below a size")
}

fn pick<'a, T>(items: &'a [T], rng: &mut Rng) -> &'a T {
    &items[below(items.len(), rng)]
}

/// A sound beginning, then an array of as many elements as will fit, each as short as can be.
fn dense(sound: &Sound, rng: &mut Rng) -> Bytes {
    let filler = below(16 * 1024, rng);
    let count =
        u32::try_from(filler).expect("16 Ki at most") / pick(&[1, 2, 3, 4, 6, 8, 12, 16], rng);
    let start = below(8, rng).min(sound.body.len());
    let mut writer = Writer::new();
    writer.put_slice(&sound.body[..start]);
    if sound.key.is_flexible(sound.version) {
        writer.put_unsigned_varint(count);
    } else {
        writer.put_slice(&count.to_be_bytes());
    }
    let length = writer.len() + filler;
    let mut body = BytesMut::from(&writer.finish().into_bytes()[..]);
    body.resize(length, *pick(&[0x00, 0x01], rng));
    body.freeze()
}

/// A frame that no one in their right mind would send.
fn hostile(sound: &Sound, rng: &mut Rng) -> Bytes {
    match rng.below(16) {
        0 => (0..rng.below(64)).map(|_| rng.next_id()[0]).collect(),
        // A count or length of the most, in the middle of something sound.
        1 => {
            let mut body = sound.body.to_vec();
            let at = below(body.len() + 1, rng);
            body.splice(at..at, [0x7f, 0xff, 0xff, 0xff, 0xff, 0x0f].into_iter().take(4));
            body.into()
        }
        // As many elements as will fit, each as short as can be.
        2 if rng.chance(8) => dense(sound, rng),
        _ => damage(&sound.body, rng),
    }
}

/// A frame of zstd that says that it holds 46 bytes, and whose block wants more and more room.
const LIE: &[u8] = b"(\xb5/\xfd .U\x01\x004\x02&\0\0\0\x06key\x06vvv\x04\
    \x02h\x02x\x02h\x012\0\x14\x02\x01\x18v\x04\x02h\x02x\x02h\x01\x01\0\
    \x1b`\xfd\xfd\xfd\xfd\xfd\xfd\xfd\xfd\xfd\xfd\xfd\xfd\xfd\xfd\xfd\xfd\xfd\xfd\xfd\xfd\xfd\xfd\
    \xfd\xfd\xfd\xfd\xfd\xfd\xfd\xfd\xfd\xfd\xfd\xfd\xfd\xfd\xfd\xfd\xfd\xfd\xfd\xfd\xfd\xfd\x0c";

/// What a compressed batch says that it holds is all that is set aside for it.
fn check_lie() {
    let mut batch = vec![0; HEADER_BYTES];
    batch.extend_from_slice(LIE);
    let length = i32::try_from(batch.len() - 12).expect("a short batch");
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    batch[16] = 2;
    batch[21..23].copy_from_slice(&Codec::Zstd.to_wire().to_be_bytes());
    let batch = RecordBatch::parse(batch.into()).expect("a sound header");
    let region = Region::new(ALLOCATOR);
    assert!(batch.decode(DECOMPRESSED_BYTES_MAX).is_err());
    let allocated = region.change().bytes_allocated;
    assert!(allocated < 64 * 1024, "{allocated} bytes for {}", LIE.len());
}

#[test]
fn hostile_frames_neither_panic_nor_allocate_out_of_proportion() {
    let frames = number("FUZZ_FRAMES", 200_000);
    let seed = number("FUZZ_SEED", 1);
    let rng = &mut Rng::new(seed);
    let messages = sound_messages(rng);
    let framer = Framer::new(FRAME_BYTES_MAX);
    let (mut accepted, mut most, mut densest) = (0u64, 0, 0);
    for index in 0..frames {
        let sound = pick(&messages, rng);
        let frame = hostile(sound, rng);
        // Mostly read as what it was, now and then as something else.
        let other = if rng.chance(10) { pick(&messages, rng) } else { sound };
        let mut stream = BytesMut::from(&frame[..]);
        let length = frame.len();
        let region = Region::new(ALLOCATOR);
        let is_accepted = if other.is_request {
            AnyRequest::decode(other.key, other.version, frame.clone()).is_ok()
        } else {
            AnyResponse::decode(other.key, other.version, frame.clone()).is_ok()
        };
        let allocated = region.change().bytes_allocated;
        assert!(
            allocated <= decode_budget(length) + UNACCOUNTED_BYTES,
            "seed {seed}, frame {index}: {allocated} bytes for {} v{} from {frame:x?}",
            other.key,
            other.version,
        );
        accepted += u64::from(is_accepted);
        most = most.max(allocated);
        densest = densest.max(if length < 1024 { 0 } else { allocated.div_ceil(length) });

        let region = Region::new(ALLOCATOR);
        let _ = split_request(frame);
        let _ = framer.next(&mut stream);
        let allocated = region.change().bytes_allocated;
        assert!(allocated <= length + UNACCOUNTED_BYTES, "seed {seed}, frame {index}: header");
    }
    println!("{frames} frames, {accepted} accepted; for one at most {most} bytes allocated;");
    println!("of those above 1 KiB at most {densest} for each of its bytes");
    assert!(accepted > frames / 100, "damage so heavy shows only the first check");
    assert!(accepted < frames, "some damage must be noticed");
    check_lie();
}
