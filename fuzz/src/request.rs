//! A request of every API and version: what decodes can be written, and then decodes to the same;
//! what is built from it stays within the budget of its frame.
//!
//! Input: a byte for the API, one for the version, then the body. Pure.

use bytes::Bytes;
use protocol::api::{AnyRequest, encode_request, split_request};
use protocol::api_key::ApiKey;
use protocol::frame::PREFIX_BYTES;
use protocol::limits::decode_budget;
use protocol::primitive::Writer;
use protocol::rng::Rng;

use crate::input::Input;
use crate::memory::peak_of;

/// What decoding may hold beside what the reader accounts for: the bookkeeping of shared bytes.
pub(crate) const UNACCOUNTED_BYTES: usize = 1024;

/// The API and version that the first two bytes name.
pub(crate) fn kind(input: &mut Input<'_>) -> (ApiKey, i16) {
    let key = *input.pick(ApiKey::ALL);
    let count = key.versions().end() - key.versions().start() + 1;
    (key, key.versions().start() + i16::from(input.byte()) % count)
}

/// Those two bytes.
pub(crate) fn prefix(key: ApiKey, version: i16) -> [u8; 2] {
    let index = ApiKey::ALL.iter().position(|it| *it == key).expect("one of all");
    let index = u8::try_from(index).expect("fewer than 256 APIs");
    [index, u8::try_from(version - key.versions().start()).expect("few versions")]
}

/// True for what holds fractions, which may be no number, which equals nothing.
pub(crate) fn has_fractions(key: ApiKey) -> bool {
    matches!(key, ApiKey::DescribeClientQuotas | ApiKey::AlterClientQuotas)
}

/// Tries one input.
///
/// # Panics
/// When a law is broken.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let (key, version) = kind(&mut input);
    let body = Bytes::copy_from_slice(input.rest());
    let body_bytes = body.len();
    let (decoded, peak) = peak_of(|| AnyRequest::decode(key, version, body));
    let allowed = decode_budget(body_bytes) + UNACCOUNTED_BYTES;
    assert!(peak <= allowed, "{key} v{version}: {peak} bytes for {body_bytes}");
    let Ok(request) = decoded else { return };
    let frame = encode_request(&request, version, 7, Some("c"));
    let frame = frame.expect("what was decoded can be written").into_bytes();
    let (header, body) = split_request(frame.slice(PREFIX_BYTES..)).expect("our own header");
    assert_eq!((header.known(), header.api_version), (Some(key), version));
    let again = AnyRequest::decode(key, version, body.clone()).expect("our own request");
    assert!(again == request || has_fractions(key), "{request:?} became {again:?}");
    let mut writer = Writer::new();
    again.encode(version, &mut writer).expect("as before");
    assert_eq!(writer.finish().into_bytes(), body);
}

/// Two of every version of every API.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let mut rng = Rng::new(2);
    let mut seeds = Vec::new();
    for &key in ApiKey::ALL {
        for version in key.versions() {
            for _ in 0..2 {
                let mut writer = Writer::new();
                let request = AnyRequest::sample(key, version, &mut rng);
                request.encode(version, &mut writer).expect("a sample fits its version");
                let body = writer.finish().into_bytes();
                seeds.push([&prefix(key, version), &body[..]].concat());
            }
        }
    }
    seeds
}
