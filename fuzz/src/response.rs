//! A response of every API and version, as a client reads it: what decodes can be written, and then
//! decodes to the same; what is built from it stays within the budget of its frame.
//!
//! Input: a byte for the API, one for the version, then the body. Pure.

use bytes::Bytes;
use protocol::api::{AnyResponse, decode_response, encode_response};
use protocol::api_key::ApiKey;
use protocol::frame::PREFIX_BYTES;
use protocol::limits::decode_budget;
use protocol::primitive::Writer;
use protocol::rng::Rng;

use crate::input::Input;
use crate::memory::peak_of;
use crate::request::{UNACCOUNTED_BYTES, has_fractions, kind, prefix};

/// Tries one input.
///
/// # Panics
/// When a law is broken.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let (key, version) = kind(&mut input);
    let body = Bytes::copy_from_slice(input.rest());
    let body_bytes = body.len();
    let (decoded, peak) = peak_of(|| AnyResponse::decode(key, version, body));
    let allowed = decode_budget(body_bytes) + UNACCOUNTED_BYTES;
    assert!(peak <= allowed, "{key} v{version}: {peak} bytes for {body_bytes}");
    let Ok(response) = decoded else { return };
    response.each_error(&mut |_| {});
    let frame = encode_response(&response, version, 7);
    let frame = frame.expect("what was decoded can be written").into_bytes();
    let decoded = decode_response(key, version, frame.slice(PREFIX_BYTES..));
    let (header, mut again) = decoded.expect("our own response");
    assert_eq!(header.correlation_id, 7);
    assert!(again == response || has_fractions(key), "{response:?} became {again:?}");
    let frame_again = encode_response(&again, version, 7).expect("as before").into_bytes();
    assert_eq!(frame_again, frame);
    let told = again.throttle_time_ms();
    again.set_throttle_time_ms(5);
    assert!(again.throttle_time_ms() == 5 || again.throttle_time_ms() == told);
}

/// Two of every version of every API.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let mut rng = Rng::new(3);
    let mut seeds = Vec::new();
    for &key in ApiKey::ALL {
        for version in key.versions() {
            for _ in 0..2 {
                let mut writer = Writer::new();
                let response = AnyResponse::sample(key, version, &mut rng);
                response.encode(version, &mut writer).expect("a sample fits its version");
                let body = writer.finish().into_bytes();
                seeds.push([&prefix(key, version), &body[..]].concat());
            }
        }
    }
    seeds
}
