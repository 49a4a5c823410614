//! The messages of Kafka's protocol, and their dispatch by API and version.
//!
//! Each family of APIs has a module here, and the broker a module of the same name that serves it.
//! [`AnyRequest`] and [`AnyResponse`] are closed: what is not listed in
//! [`ApiKey`] cannot be said. Bytes left over after a response are an error. After a request they
//! are passed over, as Kafka does: librdkafka up to 2.12 asks for all topics with three bytes too
//! many. Pure.

use std::ops::RangeInclusive;

use bytes::Bytes;

use crate::api_key::ApiKey;
use crate::header::{RequestHeader, ResponseHeader};
use crate::message::{Versioned, decode_leading_message, decode_message, encode_message};
#[cfg(any(test, feature = "check"))]
use crate::primitive::Context;
use crate::primitive::{Chunks, DecodeError, EncodeError, Reader, Wire, Writer};

pub mod acls;
pub mod brokers;
pub mod configs;
pub mod consumer_group;
pub mod elections;
pub mod features;
pub mod fetch;
pub mod find_coordinator;
pub mod group;
pub mod group_offsets;
pub mod log_dirs;
pub mod metadata;
pub mod offsets;
pub mod produce;
pub mod producer_id;
pub mod quorum;
pub mod quotas;
pub mod reassignments;
pub mod sasl;
pub mod scram;
pub mod topic_partitions;
pub mod topics;
pub mod transactions;
pub mod txn;
pub mod versions;

use acls::{
    CreateAclsRequest, CreateAclsResponse, DeleteAclsRequest, DeleteAclsResponse,
    DescribeAclsRequest, DescribeAclsResponse,
};
use brokers::{UnregisterBrokerRequest, UnregisterBrokerResponse};
use configs::{
    AlterConfigsRequest, AlterConfigsResponse, DescribeConfigsRequest, DescribeConfigsResponse,
    IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse, ListConfigResourcesRequest,
    ListConfigResourcesResponse,
};
use consumer_group::{
    ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse,
};
use elections::{ElectLeadersRequest, ElectLeadersResponse};
use features::{UpdateFeaturesRequest, UpdateFeaturesResponse};
use fetch::{FetchRequest, FetchResponse};
use find_coordinator::{FindCoordinatorRequest, FindCoordinatorResponse};
use group::{
    DeleteGroupsRequest, DeleteGroupsResponse, DescribeGroupsRequest, DescribeGroupsResponse,
    HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest,
    LeaveGroupResponse, ListGroupsRequest, ListGroupsResponse, SyncGroupRequest, SyncGroupResponse,
};
use group_offsets::{
    OffsetCommitRequest, OffsetCommitResponse, OffsetDeleteRequest, OffsetDeleteResponse,
    OffsetFetchRequest, OffsetFetchResponse,
};
use log_dirs::{
    AlterReplicaLogDirsRequest, AlterReplicaLogDirsResponse, DescribeLogDirsRequest,
    DescribeLogDirsResponse,
};
use metadata::{
    DescribeClusterRequest, DescribeClusterResponse, MetadataRequest, MetadataResponse,
};
use offsets::{
    DeleteRecordsRequest, DeleteRecordsResponse, ListOffsetsRequest, ListOffsetsResponse,
    OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
};
use produce::{ProduceRequest, ProduceResponse};
use producer_id::{InitProducerIdRequest, InitProducerIdResponse};
use quorum::{DescribeQuorumRequest, DescribeQuorumResponse};
use quotas::{
    AlterClientQuotasRequest, AlterClientQuotasResponse, DescribeClientQuotasRequest,
    DescribeClientQuotasResponse,
};
use reassignments::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse,
    ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse,
};
use sasl::{
    SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeRequest, SaslHandshakeResponse,
};
use scram::{
    AlterUserScramCredentialsRequest, AlterUserScramCredentialsResponse,
    DescribeUserScramCredentialsRequest, DescribeUserScramCredentialsResponse,
};
use topic_partitions::{DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse};
use topics::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreateTopicsRequest, CreateTopicsResponse,
    DeleteTopicsRequest, DeleteTopicsResponse,
};
use transactions::{
    DescribeProducersRequest, DescribeProducersResponse, DescribeTransactionsRequest,
    DescribeTransactionsResponse, ListTransactionsRequest, ListTransactionsResponse,
};
use txn::{
    AddOffsetsToTxnRequest, AddOffsetsToTxnResponse, AddPartitionsToTxnRequest,
    AddPartitionsToTxnResponse, EndTxnRequest, EndTxnResponse, TxnOffsetCommitRequest,
    TxnOffsetCommitResponse, WriteTxnMarkersRequest, WriteTxnMarkersResponse,
};
use versions::{ApiVersionsRequest, ApiVersionsResponse};

/// A request, typed by what answers it.
pub trait Request: Versioned + Into<AnyRequest> {
    /// Its API.
    const KEY: ApiKey;
    /// What answers it.
    type Response: Versioned + Into<AnyResponse> + TryFrom<AnyResponse, Error = WrongApi>;
}

/// A response is of another API than the one asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("response of {got} where one of {wanted} belongs")]
pub struct WrongApi {
    /// What was asked for.
    pub wanted: ApiKey,
    /// What it is.
    pub got: ApiKey,
}

macro_rules! any {
    ($(#[$meta:meta])* $any:ident by $decode:ident { $($name:ident($message:ident),)* }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq)]
        pub enum $any {
            $(
                #[doc = concat!("Of the API ", stringify!($name), ".")]
                $name($message),
            )*
        }

        impl $any {
            /// Reads `body` as `version` of the API `key`.
            ///
            /// # Errors
            /// When the version is not supported, or the bytes are not such a message.
            pub fn decode(key: ApiKey, version: i16, body: Bytes) -> Result<Self, DecodeError> {
                match key {
                    $(ApiKey::$name => $decode(version, body).map(Self::$name),)*
                }
            }

            /// Appends the body in `version`.
            ///
            /// # Errors
            /// When the version is not supported, or cannot express the message.
            pub fn encode(&self, version: i16, writer: &mut Writer) -> Result<(), EncodeError> {
                match self {
                    $(Self::$name(message) => encode_message(version, message, writer),)*
                }
            }

            /// A random one of the API `key` that `version` can express.
            #[cfg(any(test, feature = "check"))]
            #[must_use]
            pub fn sample(key: ApiKey, version: i16, rng: &mut crate::rng::Rng) -> Self {
                let cx = Context { version, flexible: key.is_flexible(version) };
                match key {
                    $(ApiKey::$name => Self::$name(crate::sample::Sample::sample(rng, cx)),)*
                }
            }

            /// Its API.
            #[must_use]
            pub fn api_key(&self) -> ApiKey {
                match self {
                    $(Self::$name(_) => ApiKey::$name,)*
                }
            }

            /// Calls `visit` with every error code in it, 0 among them.
            pub fn each_error(&self, visit: &mut dyn FnMut(i16)) {
                match self {
                    $(Self::$name(message) => message.each_error(visit),)*
                }
            }

            /// How long it tells a client to be silent, in milliseconds.
            #[must_use]
            pub fn throttle_time_ms(&self) -> i32 {
                match self {
                    $(Self::$name(message) => message.throttle_time_ms(),)*
                }
            }

            /// Tells a client to be silent for so long, if there is a field for it. KIP-124.
            pub fn set_throttle_time_ms(&mut self, ms: i32) {
                match self {
                    $(Self::$name(message) => message.set_throttle_time_ms(ms),)*
                }
            }
        }

        $(
            impl Versioned for $message {
                const NAME: &'static str = stringify!($message);
                const VERSIONS: RangeInclusive<i16> = ApiKey::$name.versions();

                fn is_flexible(version: i16) -> bool {
                    ApiKey::$name.is_flexible(version)
                }
            }

            impl From<$message> for $any {
                fn from(message: $message) -> Self {
                    Self::$name(message)
                }
            }

            impl TryFrom<$any> for $message {
                type Error = WrongApi;

                fn try_from(any: $any) -> Result<Self, WrongApi> {
                    match any {
                        $any::$name(message) => Ok(message),
                        other => Err(WrongApi { wanted: ApiKey::$name, got: other.api_key() }),
                    }
                }
            }
        )*
    };
}

/// Calls `$callback!` with every API's request and response.
macro_rules! each_message {
    ($callback:ident) => {
        $callback! {
            Produce: ProduceRequest => ProduceResponse;
            Fetch: FetchRequest => FetchResponse;
            ListOffsets: ListOffsetsRequest => ListOffsetsResponse;
            Metadata: MetadataRequest => MetadataResponse;
            OffsetCommit: OffsetCommitRequest => OffsetCommitResponse;
            OffsetFetch: OffsetFetchRequest => OffsetFetchResponse;
            FindCoordinator: FindCoordinatorRequest => FindCoordinatorResponse;
            JoinGroup: JoinGroupRequest => JoinGroupResponse;
            Heartbeat: HeartbeatRequest => HeartbeatResponse;
            LeaveGroup: LeaveGroupRequest => LeaveGroupResponse;
            SyncGroup: SyncGroupRequest => SyncGroupResponse;
            DescribeGroups: DescribeGroupsRequest => DescribeGroupsResponse;
            ListGroups: ListGroupsRequest => ListGroupsResponse;
            SaslHandshake: SaslHandshakeRequest => SaslHandshakeResponse;
            ApiVersions: ApiVersionsRequest => ApiVersionsResponse;
            CreateTopics: CreateTopicsRequest => CreateTopicsResponse;
            DeleteTopics: DeleteTopicsRequest => DeleteTopicsResponse;
            DeleteRecords: DeleteRecordsRequest => DeleteRecordsResponse;
            InitProducerId: InitProducerIdRequest => InitProducerIdResponse;
            OffsetForLeaderEpoch: OffsetForLeaderEpochRequest => OffsetForLeaderEpochResponse;
            AddPartitionsToTxn: AddPartitionsToTxnRequest => AddPartitionsToTxnResponse;
            AddOffsetsToTxn: AddOffsetsToTxnRequest => AddOffsetsToTxnResponse;
            EndTxn: EndTxnRequest => EndTxnResponse;
            WriteTxnMarkers: WriteTxnMarkersRequest => WriteTxnMarkersResponse;
            TxnOffsetCommit: TxnOffsetCommitRequest => TxnOffsetCommitResponse;
            DescribeAcls: DescribeAclsRequest => DescribeAclsResponse;
            CreateAcls: CreateAclsRequest => CreateAclsResponse;
            DeleteAcls: DeleteAclsRequest => DeleteAclsResponse;
            DescribeConfigs: DescribeConfigsRequest => DescribeConfigsResponse;
            AlterConfigs: AlterConfigsRequest => AlterConfigsResponse;
            AlterReplicaLogDirs: AlterReplicaLogDirsRequest => AlterReplicaLogDirsResponse;
            DescribeLogDirs: DescribeLogDirsRequest => DescribeLogDirsResponse;
            SaslAuthenticate: SaslAuthenticateRequest => SaslAuthenticateResponse;
            CreatePartitions: CreatePartitionsRequest => CreatePartitionsResponse;
            DeleteGroups: DeleteGroupsRequest => DeleteGroupsResponse;
            ElectLeaders: ElectLeadersRequest => ElectLeadersResponse;
            IncrementalAlterConfigs: IncrementalAlterConfigsRequest => IncrementalAlterConfigsResponse;
            AlterPartitionReassignments: AlterPartitionReassignmentsRequest => AlterPartitionReassignmentsResponse;
            ListPartitionReassignments: ListPartitionReassignmentsRequest => ListPartitionReassignmentsResponse;
            DescribeClientQuotas: DescribeClientQuotasRequest => DescribeClientQuotasResponse;
            AlterClientQuotas: AlterClientQuotasRequest => AlterClientQuotasResponse;
            DescribeUserScramCredentials: DescribeUserScramCredentialsRequest => DescribeUserScramCredentialsResponse;
            AlterUserScramCredentials: AlterUserScramCredentialsRequest => AlterUserScramCredentialsResponse;
            DescribeQuorum: DescribeQuorumRequest => DescribeQuorumResponse;
            UpdateFeatures: UpdateFeaturesRequest => UpdateFeaturesResponse;
            DescribeCluster: DescribeClusterRequest => DescribeClusterResponse;
            DescribeProducers: DescribeProducersRequest => DescribeProducersResponse;
            UnregisterBroker: UnregisterBrokerRequest => UnregisterBrokerResponse;
            DescribeTransactions: DescribeTransactionsRequest => DescribeTransactionsResponse;
            ListTransactions: ListTransactionsRequest => ListTransactionsResponse;
            ListConfigResources: ListConfigResourcesRequest => ListConfigResourcesResponse;
            DescribeTopicPartitions: DescribeTopicPartitionsRequest => DescribeTopicPartitionsResponse;
            OffsetDelete: OffsetDeleteRequest => OffsetDeleteResponse;
            ConsumerGroupHeartbeat: ConsumerGroupHeartbeatRequest => ConsumerGroupHeartbeatResponse;
            ConsumerGroupDescribe: ConsumerGroupDescribeRequest => ConsumerGroupDescribeResponse;
        }
    };
}

macro_rules! messages {
    ($($name:ident: $request:ident => $response:ident;)*) => {
        any! {
            /// Any request that we speak.
            AnyRequest by decode_leading_message { $($name($request),)* }
        }

        any! {
            /// Any response that we speak.
            AnyResponse by decode_message { $($name($response),)* }
        }

        $(
            impl Request for $request {
                const KEY: ApiKey = ApiKey::$name;
                type Response = $response;
            }
        )*
    };
}

each_message!(messages);

/// The frame of a request: length, header, body. Large byte fields are not copied.
///
/// `version` must be one that the peer supports.
///
/// # Errors
/// When the version is not supported, or cannot express the request.
pub fn encode_request(
    request: &AnyRequest,
    version: i16,
    correlation_id: i32,
    client_id: Option<&str>,
) -> Result<Chunks, EncodeError> {
    let mut writer = Writer::new();
    let header = RequestHeader {
        api_key: request.api_key().to_wire(),
        api_version: version,
        correlation_id,
        client_id: client_id.map(str::to_owned),
    };
    header.encode(&mut writer)?;
    request.encode(version, &mut writer)?;
    writer.finish_frame()
}

/// The frame of a response: length, header, body. Large byte fields are not copied.
///
/// # Errors
/// When the version is not supported, or cannot express the response.
pub fn encode_response(
    response: &AnyResponse,
    version: i16,
    correlation_id: i32,
) -> Result<Chunks, EncodeError> {
    let mut writer = Writer::new();
    let header = ResponseHeader { correlation_id };
    header.encode(response.api_key(), version, &mut writer)?;
    response.encode(version, &mut writer)?;
    writer.finish_frame()
}

/// The header of a request's frame (without its length), and the bytes of its body.
///
/// Of an API or version that we do not speak the header holds what is needed to refuse it:
/// [`RequestHeader::known`] is then `None`, and the body without meaning.
///
/// # Errors
/// When the bytes are no header.
pub fn split_request(frame: Bytes) -> Result<(RequestHeader, Bytes), DecodeError> {
    let mut reader = Reader::new(frame);
    let header = RequestHeader::decode(&mut reader)?;
    Ok((header, reader.rest()))
}

/// The header of a response's frame (without its length), and the response.
///
/// # Errors
/// When the bytes are no header, or no response of `version` of `key`.
pub fn decode_response(
    key: ApiKey,
    version: i16,
    frame: Bytes,
) -> Result<(ResponseHeader, AnyResponse), DecodeError> {
    let mut reader = Reader::new(frame);
    let header = ResponseHeader::decode(key, version, &mut reader)?;
    let response = AnyResponse::decode(key, version, reader.rest())?;
    Ok((header, response))
}

#[cfg(test)]
mod tests;
