//! The records of the metadata log, byte for byte as Kafka's KRaft writes them.
//!
//! A record is framed by three unsigned varints: the frame's version (1), the record's key, the
//! record's version; then come its fields. We write the lowest versions that hold what we know; a
//! record that we do not know, or of a version that we do not know, was written by a newer release
//! and is refused, never skipped: an Image that lacks it would be wrong. KIP-631. Pure.

use bytes::Bytes;
use protocol::ids::TopicId;
use protocol::message::{Versioned, decode_message, encode_message};
use protocol::primitive::{DecodeError, Reader, Writer};
use protocol::wire;
use thiserror::Error;

/// The version of the frame around each record.
const FRAME_VERSION: u32 = 1;
/// `PartitionChangeRecord::leader` when the leader stays; -1 would mean that there is none.
pub const UNCHANGED_LEADER: i32 = -2;

wire! {
    /// A broker joins the cluster, or joins again. KIP-631.
    pub struct RegisterBrokerRecord (versions 0..=1, flexible 0..) {
        /// The broker.
        broker_id: i32;
        /// Which run of the broker's process.
        incarnation_id: TopicId;
        /// Which registration: larger than all before.
        broker_epoch: i64;
        /// Where it listens.
        end_points: Vec<BrokerEndpoint>;
        /// Which levels of which features it can run.
        features: Vec<BrokerFeature>;
        /// Where it stands.
        rack: Option<String> = Some(String::new());
        /// True while it may lead nothing.
        fenced: bool = true;
        /// True while it hands over its leaderships.
        in_controlled_shutdown: bool, in 1..;
    }

    /// A listener of a broker, as clients are told.
    pub struct BrokerEndpoint {
        /// The listener's name.
        name: String;
        /// Host name or address.
        host: String;
        /// The port.
        port: u16;
        /// How connections are secured. 0: not at all.
        security_protocol: i16;
    }

    /// A feature that a broker can run.
    pub struct BrokerFeature {
        /// The feature's name.
        name: String;
        /// The lowest level.
        min_supported_version: i16;
        /// The highest level.
        max_supported_version: i16;
    }

    /// A broker leaves the cluster for good.
    pub struct UnregisterBrokerRecord (versions 0..=0, flexible 0..) {
        /// The broker.
        broker_id: i32;
        /// Which registration ends.
        broker_epoch: i64;
    }

    /// A topic is created; its partitions follow.
    pub struct TopicRecord (versions 0..=0, flexible 0..) {
        /// Its name.
        name: String;
        /// Its id, never used before. KIP-516.
        topic_id: TopicId;
    }

    /// A partition is created.
    pub struct PartitionRecord (versions 0..=0, flexible 0..) {
        /// Which partition of the topic.
        partition_id: i32 = -1;
        /// The topic.
        topic_id: TopicId;
        /// The brokers that hold it, the preferred leader first.
        replicas: Vec<i32>;
        /// Those of them that are in sync.
        isr: Vec<i32>;
        /// Replicas about to go.
        removing_replicas: Vec<i32>;
        /// Replicas about to come.
        adding_replicas: Vec<i32>;
        /// Its leader. -1: none.
        leader: i32 = -1;
        /// 1 while it recovers from an unclean election.
        leader_recovery_state: i8, tag 0;
        /// Raised at every change of the leader.
        leader_epoch: i32 = -1;
        /// Raised at every change.
        partition_epoch: i32 = -1;
    }

    /// A partition changes; what is null stays as it was.
    pub struct PartitionChangeRecord (versions 0..=0, flexible 0..) {
        /// Which partition of the topic.
        partition_id: i32 = -1;
        /// The topic.
        topic_id: TopicId;
        /// The new in-sync set.
        isr: Option<Vec<i32>>, tag 0;
        /// The new leader. -1: none; -2: as before.
        leader: i32 = UNCHANGED_LEADER, tag 1;
        /// The new replicas.
        replicas: Option<Vec<i32>>, tag 2;
        /// The new set of replicas about to go.
        removing_replicas: Option<Vec<i32>>, tag 3;
        /// The new set of replicas about to come.
        adding_replicas: Option<Vec<i32>>, tag 4;
        /// 0: recovered; 1: recovering from an unclean election; -1: as before.
        leader_recovery_state: i8 = -1, tag 5;
    }

    /// A topic is deleted with its partitions and settings.
    pub struct RemoveTopicRecord (versions 0..=0, flexible 0..) {
        /// The topic.
        topic_id: TopicId;
    }

    /// A setting is set, or removed.
    pub struct ConfigRecord (versions 0..=0, flexible 0..) {
        /// What kind of resource the setting belongs to.
        resource_type: i8;
        /// Which resource.
        resource_name: String;
        /// The setting.
        name: String;
        /// Its value. Null: removed.
        value: Option<String> = Some(String::new());
    }

    /// A quota is set, or removed. KIP-546.
    pub struct ClientQuotaRecord (versions 0..=0, flexible 0..) {
        /// The parts of whom it is for.
        entity: Vec<ClientQuotaEntity>;
        /// Which quota.
        key: String;
        /// How much. Without meaning when it is removed.
        value: f64;
        /// Whether it is removed instead of set.
        remove: bool;
    }

    /// A part of whom a quota is for.
    pub struct ClientQuotaEntity {
        /// The part: `user`, `client-id`, `ip`.
        entity_type: String;
        /// Its name. Null: the default.
        entity_name: Option<String> = Some(String::new());
    }

    /// A user may authenticate by SCRAM. KIP-554.
    pub struct UserScramCredentialRecord (versions 0..=0, flexible 0..) {
        /// The user.
        name: String;
        /// The mechanism: 1 for SCRAM-SHA-256, 2 for SCRAM-SHA-512.
        mechanism: i8;
        /// What the password was salted with.
        salt: Bytes;
        /// By which the user is verified.
        stored_key: Bytes;
        /// By which the broker proves itself.
        server_key: Bytes;
        /// How often the password was hashed.
        iterations: i32;
    }

    /// A user may no longer authenticate by SCRAM. KIP-554.
    pub struct RemoveUserScramCredentialRecord (versions 0..=0, flexible 0..) {
        /// The user.
        name: String;
        /// The mechanism.
        mechanism: i8;
    }

    /// Somebody may, or may not, do something. KIP-11.
    pub struct AccessControlEntryRecord (versions 0..=0, flexible 0..) {
        /// The entry's id, never used before.
        id: TopicId;
        /// The type of resource.
        resource_type: i8;
        /// Its name.
        resource_name: String;
        /// How the name is to be taken.
        pattern_type: i8;
        /// Whom it is for.
        principal: String;
        /// Which host they come from.
        host: String;
        /// What they do.
        operation: i8;
        /// Whether they may.
        permission_type: i8;
    }

    /// An entry holds no more.
    pub struct RemoveAccessControlEntryRecord (versions 0..=0, flexible 0..) {
        /// The entry.
        id: TopicId;
    }

    /// A block of producer ids is given away. KIP-730.
    pub struct ProducerIdsRecord (versions 0..=0, flexible 0..) {
        /// Who asked.
        broker_id: i32;
        /// Which registration of it.
        broker_epoch: i64 = -1;
        /// The first id of the next block.
        next_producer_id: i64;
    }

    /// The level of a feature becomes final.
    pub struct FeatureLevelRecord (versions 0..=0, flexible 0..) {
        /// The feature.
        name: String;
        /// Its level. 0: not supported.
        feature_level: i16;
    }

    /// Nothing changes.
    pub struct NoOpRecord (versions 0..=0, flexible 0..) {
    }
}

/// Why bytes are not a record of the metadata log. Never worth a retry.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RecordError {
    /// The frame is of a version that a newer release writes.
    #[error("metadata record: unknown frame version {0}")]
    FrameVersion(u32),
    /// The record is one that a newer release writes.
    #[error("metadata record: unknown key {0}")]
    UnknownKey(u32),
    /// The record's version is one that a newer release writes.
    #[error("metadata record of key {key}: unknown version {version}")]
    UnknownVersion {
        /// The record's key.
        key: u32,
        /// Its version.
        version: u32,
    },
    /// The bytes are damaged.
    #[error("metadata record: {0}")]
    Malformed(#[from] DecodeError),
}

macro_rules! records {
    ($($key:literal $version:literal $name:ident($message:ident) $doc:literal,)*) => {
        /// A record of the metadata log.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Record {
            $(
                #[doc = $doc]
                $name($message),
            )*
        }

        $(
            impl From<$message> for Record {
                fn from(message: $message) -> Self {
                    Self::$name(message)
                }
            }
        )*

        impl Record {
            /// The record's bytes, as they stand in the log.
            #[must_use]
            pub fn encode(&self) -> Bytes {
                match self {
                    $(Self::$name(message) => framed($key, $version, message),)*
                }
            }

            /// Reads one record, all of `bytes`.
            ///
            /// # Errors
            /// When the bytes are damaged, or were written by a newer release.
            pub fn decode(bytes: Bytes) -> Result<Self, RecordError> {
                let mut reader = Reader::new(bytes);
                let frame_version = reader.unsigned_varint()?;
                if frame_version != FRAME_VERSION {
                    return Err(RecordError::FrameVersion(frame_version));
                }
                let key = reader.unsigned_varint()?;
                let version = reader.unsigned_varint()?;
                match key {
                    $($key => unframed::<$message>(key, version, reader.rest()).map(Self::from),)*
                    _ => Err(RecordError::UnknownKey(key)),
                }
            }
        }
    };
}

records! {
    0 1 RegisterBroker(RegisterBrokerRecord) "A broker joins.",
    1 0 UnregisterBroker(UnregisterBrokerRecord) "A broker leaves.",
    2 0 Topic(TopicRecord) "A topic is created.",
    3 0 Partition(PartitionRecord) "A partition is created.",
    4 0 Config(ConfigRecord) "A setting changes.",
    5 0 PartitionChange(PartitionChangeRecord) "A partition changes.",
    9 0 RemoveTopic(RemoveTopicRecord) "A topic is deleted.",
    11 0 UserScramCredential(UserScramCredentialRecord) "A user may authenticate.",
    12 0 FeatureLevel(FeatureLevelRecord) "A feature's level becomes final.",
    14 0 ClientQuota(ClientQuotaRecord) "A quota changes.",
    15 0 ProducerIds(ProducerIdsRecord) "A block of producer ids is given away.",
    18 0 AccessControlEntry(AccessControlEntryRecord) "Somebody may, or may not, do something.",
    19 0 RemoveAccessControlEntry(RemoveAccessControlEntryRecord) "An entry holds no more.",
    20 0 NoOp(NoOpRecord) "Nothing changes.",
    22 0 RemoveUserScramCredential(RemoveUserScramCredentialRecord) "A user may no longer authenticate.",
}

fn framed(key: u32, version: u32, message: &impl Versioned) -> Bytes {
    let mut writer = Writer::new();
    writer.put_unsigned_varint(FRAME_VERSION);
    writer.put_unsigned_varint(key);
    writer.put_unsigned_varint(version);
    let version = i16::try_from(version).expect("the table above holds small versions");
    encode_message(version, message, &mut writer).expect("the version holds all of our fields");
    writer.finish().into_bytes()
}

fn unframed<T: Versioned>(key: u32, version: u32, body: Bytes) -> Result<T, RecordError> {
    let known = i16::try_from(version).ok().filter(|version| T::VERSIONS.contains(version));
    let Some(version) = known else {
        return Err(RecordError::UnknownVersion { key, version });
    };
    Ok(decode_message(version, body)?)
}
