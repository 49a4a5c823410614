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
