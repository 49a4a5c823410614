//! Laws of every message, and agreement with two independent codecs.
//!
//! `kafka-wire` follows Kafka's trunk after 4.3, `kafka-protocol` Kafka 4.1; each is asked about
//! the versions that it knows. What one accepts that was made by chance from damaged messages
//! shows what neither our samples nor our declarations would think of.

use std::fmt::Debug;

use bytes::Bytes;
use kafka_protocol::protocol as kp;
use kafka_wire::KafkaMessage;
use kafka_wire_core::{ApiVersion, DecodeLimits};

use super::*;
use crate::primitive::Context;
use crate::rng::Rng;
use crate::sample::{Sample, damage};

/// How many random messages of each kind and version.
const SAMPLES: u64 = 40;
/// How many damaged copies of each.
const DAMAGED: u64 = 10;

fn written<T: Versioned>(version: i16, message: &T) -> Bytes {
    let mut writer = Writer::new();
    encode_message(version, message, &mut writer).unwrap();
    writer.finish().into_bytes()
}

/// An independent codec's view of one message.
trait Oracle {
    fn knows(version: i16) -> bool;
    /// Its default, written. `None`: the version cannot express it.
    fn default_bytes(version: i16) -> Option<Bytes>;
    /// What it reads, written again. `None`: it refuses the bytes.
    fn rewritten(version: i16, bytes: Bytes) -> Option<Bytes>;
}

struct KafkaWire<T>(T);

impl<T: KafkaMessage + Default> Oracle for KafkaWire<T> {
    fn knows(version: i16) -> bool {
        T::supports(ApiVersion::new(version))
    }

    fn default_bytes(version: i16) -> Option<Bytes> {
        T::default().encode_to_bytes(ApiVersion::new(version)).ok()
    }

    fn rewritten(version: i16, bytes: Bytes) -> Option<Bytes> {
        let version = ApiVersion::new(version);
        let message = T::decode_from_bytes(bytes, version, DecodeLimits::default()).ok()?;
        Some(message.encode_to_bytes(version).unwrap())
    }
}

struct KafkaProtocol<T>(T);

impl<T: kp::Message + kp::Encodable + kp::Decodable + Default> Oracle for KafkaProtocol<T> {
    fn knows(version: i16) -> bool {
        (T::VERSIONS.min..=T::VERSIONS.max).contains(&version)
    }

    fn default_bytes(version: i16) -> Option<Bytes> {
        let mut bytes = bytes::BytesMut::new();
        T::default().encode(&mut bytes, version).ok()?;
        Some(bytes.freeze())
    }

    fn rewritten(version: i16, mut bytes: Bytes) -> Option<Bytes> {
        let message = T::decode(&mut bytes, version).ok().filter(|_| bytes.is_empty())?;
        let mut again = bytes::BytesMut::new();
        message.encode(&mut again, version).unwrap();
        Some(again.freeze())
    }
}

/// Calls `visit` with random messages of every version.
fn for_samples<T: Versioned + Sample>(mut visit: impl FnMut(i16, u64, T)) {
    for version in T::VERSIONS {
        let cx = Context { version, flexible: T::is_flexible(version) };
        for seed in 0..SAMPLES {
            visit(version, seed, T::sample(&mut Rng::new(seed), cx));
        }
    }
}

fn check_round_trip<T: Versioned + Sample + PartialEq + Debug>() {
    for_samples(|version, seed, message: T| {
        let decoded: T = decode_message(version, written(version, &message))
            .unwrap_or_else(|e| panic!("{} v{version} seed {seed}: {e}: {message:?}", T::NAME));
        assert_eq!(decoded, message, "{} v{version} seed {seed}", T::NAME);
    });
}

/// How many versions were compared.
fn check_oracle<T: Versioned + Sample + Default + Debug, O: Oracle>() -> usize {
    for_samples(|version, seed, message: T| {
        if O::knows(version) {
            let ours = written(version, &message);
            let theirs = O::rewritten(version, ours.clone());
            assert_eq!(theirs, Some(ours), "{} v{version} seed {seed}: {message:?}", T::NAME);
        }
    });
    let known: Vec<i16> = T::VERSIONS.filter(|&version| O::knows(version)).collect();
    for &version in &known {
        let theirs = O::default_bytes(version).expect("a default fits every version");
        let message: T = decode_message(version, theirs.clone())
            .unwrap_or_else(|e| panic!("{} v{version}: their default: {e}", T::NAME));
        assert_eq!(written(version, &message), theirs, "{} v{version}: their default", T::NAME);
        let ours = written(version, &T::default());
        assert_eq!(ours, theirs, "{} v{version}: our default", T::NAME);
    }
    known.len()
}

/// Where an oracle accepts damaged bytes, so must we, and understand the same.
fn check_damaged<T: Versioned + Sample + Debug, O: Oracle>() -> usize {
    let mut accepted = 0;
    for_samples(|version, seed, message: T| {
        if !O::knows(version) {
            return;
        }
        let mut rng = Rng::new(seed);
        let bytes = written(version, &message);
        for _ in 0..DAMAGED {
            let damaged = damage(&bytes, &mut rng);
            let Some(theirs) = O::rewritten(version, damaged.clone()) else { continue };
            let ours = match decode_message::<T>(version, damaged.clone()) {
                Ok(ours) => ours,
                Err(e) => panic!("{} v{version}: {e}: {damaged:x?}", T::NAME),
            };
            let ours = written(version, &ours);
            // They keep tags that they do not know, we do not: ours may only be shorter.
            if ours.len() >= theirs.len() {
                assert_eq!(ours, theirs, "{} v{version}", T::NAME);
            }
            accepted += 1;
        }
    });
    accepted
}

macro_rules! proofs {
    ($($name:ident: $request:ident => $response:ident;)*) => {
        #[test]
        fn every_message_survives_the_wire_in_every_version() {
            $(
                check_round_trip::<$request>();
                check_round_trip::<$response>();
            )*
        }

        #[test]
        fn kafka_wire_reads_and_writes_the_same_bytes() {
            $(
                let requests = check_oracle::<$request, KafkaWire<kafka_wire::$request>>();
                let responses = check_oracle::<$response, KafkaWire<kafka_wire::$response>>();
                assert_eq!(requests, <$request>::VERSIONS.count(), "{}", ApiKey::$name);
                assert_eq!(responses, <$request>::VERSIONS.count(), "{}", ApiKey::$name);
            )*
        }

        #[test]
        fn kafka_protocol_reads_and_writes_the_same_bytes() {
            use kafka_protocol::messages;
            $(
                let requests = check_oracle::<$request, KafkaProtocol<messages::$request>>();
                let responses = check_oracle::<$response, KafkaProtocol<messages::$response>>();
                assert!(requests > 0, "{}", ApiKey::$name);
                assert!(responses > 0, "{}", ApiKey::$name);
            )*
        }

        #[test]
        fn damaged_messages_that_kafka_wire_accepts_mean_the_same_to_us() {
            let mut accepted = 0;
            $(
                accepted += check_damaged::<$request, KafkaWire<kafka_wire::$request>>();
                accepted += check_damaged::<$response, KafkaWire<kafka_wire::$response>>();
            )*
            assert!(accepted > 1000, "only {accepted} damaged messages were comparable");
        }
    };
}

each_message!(proofs);
