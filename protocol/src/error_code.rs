//! Kafka's error codes: number, name, meaning, and whether trying again can help.
//!
//! The numbers are the wire's and never change. `ErrorCode` is what each operation's own error
//! enum maps to at the edge; inside, errors are typed per operation.
//!
//! Pure.

use std::fmt;

macro_rules! error_codes {
    ($($number:literal $name:ident $retriable:ident $meaning:literal,)*) => {
        /// An error code of the wire.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(i16)]
        pub enum ErrorCode {
            $(
                #[doc = $meaning]
                $name = $number,
            )*
        }

        impl ErrorCode {
            /// Every code, in ascending order.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The code of this number; `UnknownServerError` for a number that we do not know.
            #[must_use]
            pub fn from_wire(number: i16) -> Self {
                match number {
                    $($number => Self::$name,)*
                    _ => Self::UnknownServerError,
                }
            }

            /// The number on the wire.
            #[must_use]
            pub fn to_wire(self) -> i16 {
                match self {
                    $(Self::$name => $number,)*
                }
            }

            /// What it means, in a sentence for people.
            #[must_use]
            pub fn meaning(self) -> &'static str {
                match self {
                    $(Self::$name => $meaning,)*
                }
            }

            /// True when the same request may succeed later.
            #[must_use]
            pub fn is_retriable(self) -> bool {
                match self {
                    $(Self::$name => $retriable,)*
                }
            }
        }
    };
}

/// Trying again may help.
const RETRY: bool = true;
/// Trying again cannot help.
const FINAL: bool = false;

error_codes! {
    -1 UnknownServerError FINAL "The server met an error it did not expect",
    0 None FINAL "No error",
    1 OffsetOutOfRange FINAL "The offset is not within the range of offsets that the partition has",
    2 CorruptMessage RETRY "The batch fails its checksum, or is malformed",
    3 UnknownTopicOrPartition RETRY "This broker does not host the topic or partition",
    4 InvalidFetchSize FINAL "The requested fetch size is invalid",
    5 LeaderNotAvailable RETRY "There is no leader for the partition at the moment",
    6 NotLeaderOrFollower RETRY "This broker is not the leader, or not a replica, of the partition",
    7 RequestTimedOut RETRY "The request timed out",
    8 BrokerNotAvailable FINAL "The broker is not available",
    9 ReplicaNotAvailable RETRY "The replica is not available",
    10 MessageTooLarge FINAL "The batch is larger than the broker accepts",
    11 StaleControllerEpoch FINAL "The controller moved to another broker",
    12 OffsetMetadataTooLarge FINAL "The metadata of the committed offset is too long",
    13 NetworkException RETRY "The server disconnected before answering",
    14 CoordinatorLoadInProgress RETRY "The coordinator is loading its partition",
    15 CoordinatorNotAvailable RETRY "The coordinator is not available",
    16 NotCoordinator RETRY "This broker is not the coordinator",
    17 InvalidTopicException FINAL "The topic's name is not valid",
    18 RecordListTooLarge FINAL "The request held a batch larger than a segment",
    19 NotEnoughReplicas RETRY "Fewer replicas are in sync than the topic requires",
    20 NotEnoughReplicasAfterAppend RETRY "Appended, but to fewer in-sync replicas than required",
    21 InvalidRequiredAcks FINAL "acks must be -1, 0 or 1",
    22 IllegalGeneration FINAL "The group's generation is another",
    23 InconsistentGroupProtocol FINAL "The member's protocols do not match the group's",
    24 InvalidGroupId FINAL "The group id is not valid",
    25 UnknownMemberId FINAL "The coordinator does not know the member",
    26 InvalidSessionTimeout FINAL "The session timeout is outside the allowed range",
    27 RebalanceInProgress FINAL "The group is rebalancing: the member must rejoin",
    28 InvalidCommitOffsetSize FINAL "The committed offset's record would be too large",
    29 TopicAuthorizationFailed FINAL "Not authorised for the topic",
    30 GroupAuthorizationFailed FINAL "Not authorised for the group",
    31 ClusterAuthorizationFailed FINAL "Not authorised for the cluster",
    32 InvalidTimestamp FINAL "The record's timestamp is out of the accepted range",
    33 UnsupportedSaslMechanism FINAL "The broker does not offer the SASL mechanism",
    34 IllegalSaslState FINAL "The request is not valid in this SASL state",
    35 UnsupportedVersion FINAL "The version of the API is not supported",
    36 TopicAlreadyExists FINAL "The topic exists already",
    37 InvalidPartitions FINAL "The number of partitions is not valid",
    38 InvalidReplicationFactor FINAL "The replication factor is not valid",
    39 InvalidReplicaAssignment FINAL "The replica assignment is not valid",
    40 InvalidConfig FINAL "The configuration is not valid",
    41 NotController RETRY "This is not the controller",
    42 InvalidRequest FINAL "The request is malformed, or breaks a rule of its API",
    43 UnsupportedForMessageFormat FINAL "The message format does not support the operation",
    44 PolicyViolation FINAL "A policy refuses the request",
    45 OutOfOrderSequenceNumber FINAL "The batch's sequence does not follow the last one",
    46 DuplicateSequenceNumber FINAL "The batch's sequence was appended already",
    47 InvalidProducerEpoch FINAL "A newer epoch of the producer exists",
    48 InvalidTxnState FINAL "The transaction's state does not allow the operation",
    49 InvalidProducerIdMapping FINAL "The producer id is not the one of the transactional id",
    50 InvalidTransactionTimeout FINAL "The transaction timeout is larger than the broker allows",
    51 ConcurrentTransactions RETRY "Another operation on the transaction is still under way",
    52 TransactionCoordinatorFenced FINAL "A newer coordinator of the transaction exists",
    53 TransactionalIdAuthorizationFailed FINAL "Not authorised for the transactional id",
    54 SecurityDisabled FINAL "Security features are switched off",
    55 OperationNotAttempted FINAL "The operation was not attempted",
    56 KafkaStorageError RETRY "The disk failed: the log directory is offline, or full",
    57 LogDirNotFound FINAL "The log directory does not exist",
    58 SaslAuthenticationFailed FINAL "SASL authentication failed",
    59 UnknownProducerId FINAL "The partition knows nothing of the producer id",
    60 ReassignmentInProgress FINAL "The partition is being reassigned",
    61 DelegationTokenAuthDisabled FINAL "Delegation tokens are switched off",
    62 DelegationTokenNotFound FINAL "The delegation token does not exist",
    63 DelegationTokenOwnerMismatch FINAL "The principal does not own the token",
    64 DelegationTokenRequestNotAllowed FINAL "Tokens are not given on this connection",
    65 DelegationTokenAuthorizationFailed FINAL "Not authorised for the token",
    66 DelegationTokenExpired FINAL "The delegation token has expired",
    67 InvalidPrincipalType FINAL "The principal type is not supported",
    68 NonEmptyGroup FINAL "The group still has members",
    69 GroupIdNotFound FINAL "The group does not exist",
    70 FetchSessionIdNotFound RETRY "The fetch session does not exist",
    71 InvalidFetchSessionEpoch RETRY "The fetch session's epoch is not the expected one",
    72 ListenerNotFound RETRY "The leader has no listener of this name",
    73 TopicDeletionDisabled FINAL "Deleting topics is switched off",
    74 FencedLeaderEpoch RETRY "The leader epoch is older than the broker's",
    75 UnknownLeaderEpoch RETRY "The leader epoch is newer than the broker's",
    76 UnsupportedCompressionType FINAL "The version of the API does not allow this codec",
    77 StaleBrokerEpoch FINAL "The broker epoch is stale",
    78 OffsetNotAvailable RETRY "The leader's high watermark has not caught up with its election",
    79 MemberIdRequired FINAL "The member must join again with the member id just given",
    80 PreferredLeaderNotAvailable RETRY "The preferred leader is not available",
    81 GroupMaxSizeReached FINAL "The group is full",
    82 FencedInstanceId FINAL "Another member took over this group instance id",
    83 EligibleLeadersNotAvailable RETRY "No eligible leader is available",
    84 ElectionNotNeeded RETRY "The election is not needed",
    85 NoReassignmentInProgress FINAL "No reassignment is under way",
    86 GroupSubscribedToTopic FINAL "The group is subscribed to the topic",
    87 InvalidRecord FINAL "A record breaks a rule of the topic",
    88 UnstableOffsetCommit RETRY "Offsets of an open transaction are pending",
    89 ThrottlingQuotaExceeded RETRY "The quota is used up",
    90 ProducerFenced FINAL "A newer producer with this transactional id exists",
    91 ResourceNotFound FINAL "The resource does not exist",
    92 DuplicateResource FINAL "The resource exists already",
    93 UnacceptableCredential FINAL "The credential is not acceptable",
    94 InconsistentVoterSet FINAL "The voter sets do not agree",
    95 InvalidUpdateVersion FINAL "The feature's version is not valid",
    96 FeatureUpdateFailed FINAL "The feature could not be updated",
    97 PrincipalDeserializationFailure FINAL "The forwarded principal could not be read",
    98 SnapshotNotFound FINAL "The snapshot does not exist",
    99 PositionOutOfRange FINAL "The position is outside the snapshot",
    100 UnknownTopicId RETRY "This broker does not know the topic id",
    101 DuplicateBrokerRegistration FINAL "The broker id is registered already",
    102 BrokerIdNotRegistered FINAL "The broker id is not registered",
    103 InconsistentTopicId RETRY "The topic id is not the one of the log",
    104 InconsistentClusterId FINAL "The cluster id is not this cluster's",
    105 TransactionalIdNotFound FINAL "The transactional id does not exist",
    106 FetchSessionTopicIdError RETRY "The fetch session mixes topic ids and names",
    107 IneligibleReplica FINAL "The replica is not eligible to join the in-sync set",
    108 NewLeaderElected FINAL "The change made another replica the leader",
    109 OffsetMovedToTieredStorage FINAL "The offset has moved to tiered storage",
    110 FencedMemberEpoch FINAL "The member epoch is stale",
    111 UnreleasedInstanceId FINAL "The instance id is still in use",
    112 UnsupportedAssignor FINAL "The assignor is not supported",
    113 StaleMemberEpoch FINAL "The member epoch is stale: retry with the newest",
    114 MismatchedEndpointType FINAL "The endpoint is of another type",
    115 UnsupportedEndpointType FINAL "The endpoint type is not supported",
    116 UnknownControllerId FINAL "The controller id is not known",
    117 UnknownSubscriptionId FINAL "The telemetry subscription is not known",
    118 TelemetryTooLarge FINAL "The telemetry is too large",
    119 InvalidRegistration FINAL "The registration is not valid",
    120 TransactionAbortable FINAL "The transaction must be aborted; the producer lives on",
    121 InvalidRecordState FINAL "The record's state does not allow the acknowledgement",
    122 ShareSessionNotFound RETRY "The share session does not exist",
    123 InvalidShareSessionEpoch RETRY "The share session's epoch is not the expected one",
    124 FencedStateEpoch FINAL "The share state epoch is stale",
    125 InvalidVoterKey FINAL "The voter key is not valid",
    126 DuplicateVoter FINAL "The voter exists already",
    127 VoterNotFound FINAL "The voter does not exist",
    128 InvalidRegularExpression FINAL "The regular expression is not valid",
    129 RebootstrapRequired FINAL "The client must start again from its bootstrap servers",
    130 StreamsInvalidTopology FINAL "The topology is not valid",
    131 StreamsInvalidTopologyEpoch FINAL "The topology epoch is not valid",
    132 StreamsTopologyFenced FINAL "The topology epoch is stale",
    133 ShareSessionLimitReached RETRY "The broker holds as many share sessions as it may",
}

const _: () = assert!(RETRY != FINAL);

impl ErrorCode {
    /// True for `None`.
    #[must_use]
    pub fn is_ok(self) -> bool {
        self == Self::None
    }

    /// `Ok` for `None`, the code itself otherwise.
    ///
    /// # Errors
    /// This code, when it is one.
    pub fn ok(self) -> Result<(), Self> {
        if self.is_ok() { Ok(()) } else { Err(self) }
    }
}

impl Default for ErrorCode {
    /// `None`: no error.
    fn default() -> Self {
        Self::None
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?} ({}): {}", self.to_wire(), self.meaning())
    }
}

impl std::error::Error for ErrorCode {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_survives_the_wire_and_unknown_numbers_are_server_errors() {
        for &code in ErrorCode::ALL {
            assert_eq!(ErrorCode::from_wire(code.to_wire()), code);
        }
        assert_eq!(ErrorCode::from_wire(31_000), ErrorCode::UnknownServerError);
    }
}
