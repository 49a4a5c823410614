//! What the members of a classic consumer group tell one another through the coordinator.
//!
//! A subscription rides in each member's JoinGroup metadata, an assignment in SyncGroup. Both carry
//! their version in front and are never flexible. The broker does not look inside. Versions above
//! ours are read as our newest, as Kafka reads them: later ones only append fields. Pure.

use bytes::Bytes;

use crate::message::{Versioned, encode_record};
use crate::primitive::{Context, DecodeError, EncodeError, Reader};
use crate::wire;

wire! {
    /// What a member wants: topics, and what its assignor must know of it.
    /// v1: partitions owned (KIP-429); v2: generation (KIP-792); v3: rack (KIP-881).
    pub struct ConsumerProtocolSubscription (versions 0..=3) {
        /// The topics subscribed to.
        topics: Vec<String>;
        /// The assignor's own words. `None`: it has none.
        user_data: Option<Bytes>;
        /// The partitions that the member still owns.
        owned_partitions: Vec<ConsumerProtocolPartitions>, in 1.., ignorable;
        /// The generation in which it came to own them. -1: none.
        generation_id: i32 = -1, in 2.., ignorable;
        /// Where the member runs. `None`: unknown.
        rack_id: Option<String>, in 3.., ignorable;
    }

    /// What the group's leader gives a member.
    pub struct ConsumerProtocolAssignment (versions 0..=3) {
        /// The partitions to consume.
        assigned_partitions: Vec<ConsumerProtocolPartitions>;
        /// The assignor's own words. `None`: it has none.
        user_data: Option<Bytes>;
    }

    /// Some partitions of one topic.
    pub struct ConsumerProtocolPartitions {
        /// The topic.
        topic: String;
        /// Its partitions.
        partitions: Vec<i32>;
    }
}

/// Writes a subscription or an assignment: its version, then its fields.
///
/// # Errors
/// When the version is not supported, or a topic's name is too long.
pub fn encode<T: Versioned>(version: i16, message: &T) -> Result<Bytes, EncodeError> {
    encode_record(version, message)
}

/// Reads a subscription or an assignment. Fields appended by versions above ours are ignored.
///
/// # Errors
/// When the bytes are no such message, or the version is negative.
pub fn decode<T: Versioned>(bytes: Bytes) -> Result<T, DecodeError> {
    let mut reader = Reader::new(bytes);
    let version = i16::from_be_bytes(reader.array()?);
    if version < *T::VERSIONS.start() {
        return Err(DecodeError::Version { name: T::NAME, version });
    }
    let version = version.min(*T::VERSIONS.end());
    T::decode(&mut reader, Context { version, flexible: T::is_flexible(version) })
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages as kp;
    use kafka_protocol::protocol::{Decodable, Encodable};

    use super::*;
    use crate::rng::Rng;
    use crate::sample::Sample;

    /// `decode` then `encode` again, by the independent codec.
    fn rewritten<T: Decodable + Encodable>(bytes: &Bytes) -> Bytes {
        let mut body = bytes.slice(2..);
        let version = i16::from_be_bytes([bytes[0], bytes[1]]);
        let message = T::decode(&mut body, version).unwrap();
        assert!(body.is_empty());
        let mut again = bytes::BytesMut::from(&bytes[..2]);
        message.encode(&mut again, version).unwrap();
        again.freeze()
    }

    fn check<T, O>()
    where
        T: Versioned + Sample + PartialEq + std::fmt::Debug,
        O: Decodable + Encodable,
    {
        for version in T::VERSIONS {
            for seed in 0..200 {
                let cx = Context { version, flexible: false };
                let message = T::sample(&mut Rng::new(seed), cx);
                let bytes = encode(version, &message).unwrap();
                assert_eq!(decode::<T>(bytes.clone()).as_ref(), Ok(&message));
                assert_eq!(rewritten::<O>(&bytes), bytes);
            }
        }
    }

    #[test]
    fn an_independent_codec_reads_and_writes_the_same_bytes() {
        check::<ConsumerProtocolSubscription, kp::ConsumerProtocolSubscription>();
        check::<ConsumerProtocolAssignment, kp::ConsumerProtocolAssignment>();
    }

    #[test]
    fn a_version_above_ours_is_read_as_our_newest() {
        let written = ConsumerProtocolSubscription {
            topics: vec!["orders".to_owned()],
            rack_id: Some("r1".to_owned()),
            ..ConsumerProtocolSubscription::default()
        };
        let mut bytes = encode(3, &written).unwrap().to_vec();
        bytes[1] = 9;
        bytes.extend(b"fields of a later version");
        assert_eq!(decode(bytes.into()), Ok(written));
    }

    #[test]
    fn a_negative_version_is_refused() {
        let refused = decode::<ConsumerProtocolAssignment>(Bytes::from_static(b"\xff\xff\0\0\0\0"));
        assert!(matches!(refused, Err(DecodeError::Version { version: -1, .. })));
    }
}
