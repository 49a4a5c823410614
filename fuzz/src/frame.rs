//! A stream of bytes is cut into the same frames however it arrives, and a header that was read
//! says the same when it is written.
//!
//! Input: a byte for the largest frame, one for the size of the pieces, then the stream. Pure.

use bytes::{Bytes, BytesMut};
use protocol::api::{encode_request, split_request};
use protocol::api_key::ApiKey;
use protocol::frame::{FrameError, Framer, PREFIX_BYTES};
use protocol::header::RequestHeader;
use protocol::primitive::{Reader, Writer};
use protocol::rng::Rng;

use crate::input::Input;
use crate::memory::in_proportion;

/// Tries one input.
///
/// # Panics
/// When a law is broken.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let framer = Framer::new(1 << (input.byte() % 24));
    let piece_bytes = usize::from(input.byte()).max(1);
    let stream = input.rest();
    in_proportion(stream.len(), 0, || {
        let at_once = frames(framer, stream, stream.len().max(1));
        let in_pieces = frames(framer, stream, piece_bytes);
        assert_eq!(at_once, in_pieces);
        for frame in at_once.0 {
            check_header(frame);
        }
    });
}

fn frames(framer: Framer, stream: &[u8], piece_bytes: usize) -> (Vec<Bytes>, Option<FrameError>) {
    let (mut buffer, mut frames) = (BytesMut::new(), Vec::new());
    for piece in stream.chunks(piece_bytes) {
        buffer.extend_from_slice(piece);
        loop {
            let missing = framer.missing(&buffer);
            match framer.next(&mut buffer) {
                Ok(Some(frame)) => {
                    assert_eq!(missing, Ok(0));
                    frames.push(frame);
                }
                Ok(None) => {
                    assert!(missing.expect("no error yet") > 0);
                    break;
                }
                Err(error) => {
                    assert_eq!(missing, Err(error));
                    return (frames, Some(error));
                }
            }
        }
    }
    (frames, None)
}

fn check_header(frame: Bytes) {
    let Ok((header, body)) = split_request(frame.clone()) else { return };
    assert!(frame.ends_with(&body));
    let mut writer = Writer::new();
    header.encode(&mut writer).expect("what was read can be written");
    let written = writer.finish().into_bytes();
    // Of a request that we do not know the first eight bytes are all that was read.
    if header.known().is_none() {
        assert_eq!(written[..8], frame[..8]);
        return;
    }
    let mut reader = Reader::new(written);
    assert_eq!(RequestHeader::decode(&mut reader).as_ref(), Ok(&header));
    assert_eq!(reader.finish(), Ok(()));
}

/// Streams of a few frames, one of them of each API.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let mut rng = Rng::new(1);
    let mut seeds = Vec::new();
    for (number, keys) in ApiKey::ALL.chunks(3).enumerate() {
        let mut seed = vec![20, u8::try_from(number).expect("few APIs") * 7];
        for &key in keys {
            let version = *key.versions().end();
            let request = protocol::api::AnyRequest::sample(key, version, &mut rng);
            let client = [None, Some(""), Some("client-1")][number % 3];
            let frame = encode_request(&request, version, 7, client).expect("a sample");
            let frame = frame.into_bytes();
            // The body is another target's.
            let header = &frame[PREFIX_BYTES..frame.len().min(PREFIX_BYTES + 40)];
            seed.extend(u32::try_from(header.len()).expect("cut above").to_be_bytes());
            seed.extend_from_slice(header);
        }
        seeds.push(seed);
    }
    seeds.push(b"\x14\x01GET / HTTP/1.1\r\n\r\n".to_vec());
    seeds.push(b"\x14\x05\x16\x03\x01\x02\0\x01\0".to_vec());
    seeds
}
