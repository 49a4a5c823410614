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

use super::produce::{PartitionProduceData, TopicProduceData};
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

impl<T: KafkaMessage> KafkaWire<T> {
    /// What it reads, written in another version. `None`: that one cannot express it.
    fn converted(source: i16, bytes: Bytes, target: i16) -> Option<Bytes> {
        let source = ApiVersion::new(source);
        let message = T::decode_from_bytes(bytes, source, DecodeLimits::default()).unwrap();
        message.encode_to_bytes(ApiVersion::new(target)).ok()
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

/// What one version holds is expressed in the others, lost or refused as kafka-wire does it: this
/// shows the defaults of absent fields, and which values may be dropped. kafka-protocol drops tags
/// of later versions even where Kafka refuses.
fn check_conversion<T: Versioned + Sample + Debug, O: KafkaMessage + Default>() {
    for_samples(|source, seed, message: T| {
        let bytes = written(source, &message);
        for target in T::VERSIONS {
            let mut writer = Writer::new();
            let ours = encode_message(target, &message, &mut writer);
            let ours = ours.is_ok().then(|| writer.finish().into_bytes());
            let theirs = KafkaWire::<O>::converted(source, bytes.clone(), target);
            let name = T::NAME;
            assert_eq!(ours, theirs, "{name} v{source} to v{target} seed {seed}: {message:?}");
        }
    });
}

/// What decoding charges is what the message then holds.
fn check_accounts<T: Versioned + Sample>() {
    for_samples(|version, seed, message: T| {
        let cx = Context { version, flexible: T::is_flexible(version) };
        let mut reader = Reader::new(written(version, &message));
        let decoded = T::decode(&mut reader, cx).unwrap();
        assert_eq!(reader.charged(), decoded.heap_bytes(), "{} v{version} seed {seed}", T::NAME);
    });
}

/// The densest of all versions.
fn density<T: Versioned + Sample>() -> usize {
    let contexts = T::VERSIONS.map(|version| (version, T::is_flexible(version)));
    contexts.map(|(version, flexible)| T::density(Context { version, flexible })).max().unwrap()
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
        fn the_reader_charges_exactly_what_the_message_holds() {
            $(
                check_accounts::<$request>();
                check_accounts::<$response>();
            )*
        }

        #[test]
        fn no_message_however_dense_exceeds_the_budget_of_its_frame() {
            let mut densest = 0;
            $(
                densest = densest.max(density::<$request>()).max(density::<$response>());
            )*
            assert!(densest <= crate::limits::DECODED_BYTES_PER_FRAME_BYTE, "{densest}");
            assert!(densest >= 24, "an array of empty strings alone is denser than {densest}");
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
        fn kafka_wire_expresses_one_version_in_another_alike() {
            $(
                check_conversion::<$request, kafka_wire::$request>();
                check_conversion::<$response, kafka_wire::$response>();
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

#[test]
fn the_unstable_version_of_init_producer_id_is_understood_though_not_offered() {
    fn check<T: Sample + Debug, O: Oracle>() {
        let cx = Context { version: 6, flexible: true };
        for seed in 0..SAMPLES {
            let mut writer = Writer::new();
            let message = T::sample(&mut Rng::new(seed), cx);
            message.encode(&mut writer, cx).unwrap();
            let ours = writer.finish().into_bytes();
            assert_eq!(O::rewritten(6, ours.clone()), Some(ours), "{message:?}");
        }
    }
    check::<InitProducerIdRequest, KafkaWire<kafka_wire::InitProducerIdRequest>>();
    check::<InitProducerIdResponse, KafkaWire<kafka_wire::InitProducerIdResponse>>();
    let refused = AnyRequest::decode(ApiKey::InitProducerId, 6, Bytes::new());
    assert!(matches!(refused, Err(DecodeError::Version { version: 6, .. })));
}

#[test]
fn a_request_and_its_response_travel_in_frames() {
    let mut rng = Rng::new(1);
    for &key in ApiKey::ALL {
        for version in key.versions() {
            let request = AnyRequest::sample(key, version, &mut rng);
            let frame = encode_request(&request, version, 7, Some("me")).unwrap().into_bytes();
            assert_eq!(frame[..4], i32::to_be_bytes((frame.len() - 4).try_into().unwrap()));
            let (header, body) = split_request(frame.slice(4..)).unwrap();
            assert_eq!(header.known(), Some(key));
            assert_eq!((header.api_version, header.correlation_id), (version, 7));
            assert_eq!(AnyRequest::decode(key, version, body), Ok(request));

            let response = AnyResponse::sample(key, version, &mut rng);
            let frame = encode_response(&response, version, 7).unwrap().into_bytes();
            let decoded = decode_response(key, version, frame.slice(4..));
            assert_eq!(decoded, Ok((ResponseHeader { correlation_id: 7 }, response)));
        }
    }
}

#[test]
fn bytes_left_over_are_passed_over_after_a_request_and_an_error_after_a_response() {
    let mut rng = Rng::new(1);
    for &key in ApiKey::ALL {
        for version in key.versions() {
            let request = AnyRequest::sample(key, version, &mut rng);
            let mut writer = Writer::new();
            request.encode(version, &mut writer).unwrap();
            writer.put_slice(&[0]);
            let decoded = AnyRequest::decode(key, version, writer.finish().into_bytes());
            assert_eq!(decoded, Ok(request), "{key}");

            let response = AnyResponse::sample(key, version, &mut rng);
            let mut writer = Writer::new();
            response.encode(version, &mut writer).unwrap();
            writer.put_slice(&[0]);
            let refused = AnyResponse::decode(key, version, writer.finish().into_bytes());
            assert!(matches!(refused, Err(DecodeError::Trailing { bytes: 1, .. })), "{key}");
        }
    }
}

#[test]
fn a_response_of_another_api_is_named() {
    let heartbeat = AnyResponse::from(HeartbeatResponse::default());
    let refused = ProduceResponse::try_from(heartbeat).unwrap_err();
    assert_eq!(refused.to_string(), "response of Heartbeat where one of Produce belongs");
}

#[test]
fn every_error_of_a_response_is_seen_and_its_throttle_time_can_be_set() {
    use super::produce::{PartitionProduceResponse, TopicProduceResponse};
    let of = |error_code| PartitionProduceResponse { error_code, ..Default::default() };
    let topic = |codes: &[i16]| TopicProduceResponse {
        partition_responses: codes.iter().copied().map(of).collect(),
        ..Default::default()
    };
    let responses = vec![topic(&[0, 3]), topic(&[]), topic(&[7])];
    let mut response = AnyResponse::from(ProduceResponse { responses, ..Default::default() });
    let mut seen = Vec::new();
    response.each_error(&mut |code| seen.push(code));
    assert_eq!(seen, [0, 3, 7]);
    response.set_throttle_time_ms(5);
    assert_eq!(response.throttle_time_ms(), 5);
    let mut without = AnyResponse::from(SaslHandshakeResponse::default());
    without.set_throttle_time_ms(5);
    assert_eq!(without.throttle_time_ms(), 0);
}

#[test]
fn records_are_slices_of_the_frame_and_are_sent_from_where_they_lie() {
    let records = Bytes::from(vec![7; 5000]);
    let partition = PartitionProduceData { records: Some(records.clone()), index: 0 };
    let topic = TopicProduceData { partition_data: vec![partition], ..Default::default() };
    let request = ProduceRequest { topic_data: vec![topic], ..Default::default() };
    let chunks = encode_request(&request.into(), 11, 7, None).unwrap();
    let sent = chunks.parts().iter().find(|part| part.len() == 5000).unwrap();
    assert_eq!(sent.as_ptr(), records.as_ptr());

    let frame = chunks.into_bytes();
    let (_, body) = split_request(frame.slice(4..)).unwrap();
    let AnyRequest::Produce(decoded) = AnyRequest::decode(ApiKey::Produce, 11, body).unwrap()
    else {
        panic!("another API")
    };
    let received = decoded.topic_data[0].partition_data[0].records.clone().unwrap();
    assert_eq!(received, records);
    assert!(frame.as_ptr_range().contains(&received.as_ptr()));
}
