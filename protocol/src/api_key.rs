//! The table of APIs: key, name, versions, first flexible version. One source for both ends.
//!
//! It lists what this project reads and writes, not what a broker offers: a broker advertises no
//! more than it dispatches. Where Kafka must advertise a lower version than it serves, the table
//! says so. Ranges are those of Kafka 4.3, without versions that it calls unstable. Pure.

use std::fmt;
use std::ops::RangeInclusive;

macro_rules! api_keys {
    ($(
        $number:literal $name:ident $versions:expr $(, flexible $flexible:literal)?
        $(, advertised $advertised:literal)?;
    )*) => {
        /// An API of Kafka's protocol.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum ApiKey {
            $(
                #[doc = concat!("Key ", $number, ".")]
                $name,
            )*
        }

        impl ApiKey {
            /// Every API, by ascending key.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The API of this key. `None` for one that we do not speak.
            #[must_use]
            pub const fn from_wire(key: i16) -> Option<Self> {
                match key {
                    $($number => Some(Self::$name),)*
                    _ => None,
                }
            }

            /// The key on the wire.
            #[must_use]
            pub const fn to_wire(self) -> i16 {
                match self {
                    $(Self::$name => $number,)*
                }
            }

            /// The name in Kafka's words.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }

            /// The versions that we read and write, both ends inclusive.
            #[must_use]
            pub const fn versions(self) -> RangeInclusive<i16> {
                match self {
                    $(Self::$name => $versions,)*
                }
            }

            /// The first version with compact lengths and tagged fields. KIP-482.
            #[must_use]
            pub const fn first_flexible(self) -> Option<i16> {
                match self {
                    $(Self::$name => api_keys!(@first $($flexible)?),)*
                }
            }

            /// The lowest version to name in an ApiVersions response.
            ///
            /// For Produce it is 0, though requests below 3 are refused: librdkafka takes a higher
            /// minimum to mean that the broker knows no compression (KAFKA-18659).
            #[must_use]
            pub const fn advertised_min(self) -> i16 {
                match self {
                    $(Self::$name => api_keys!(@min $versions $(, $advertised)?),)*
                }
            }
        }
    };
    (@first) => { None };
    (@first $flexible:literal) => { Some($flexible) };
    (@min $versions:expr) => { *($versions).start() };
    (@min $versions:expr, $advertised:literal) => { $advertised };
}

// Key, name, supported versions, first flexible version if there is one, and the lowest version to
// advertise where it is not the lowest supported.
api_keys! {
    0 Produce 3..=13, flexible 9, advertised 0;
    1 Fetch 4..=18, flexible 12;
    2 ListOffsets 1..=11, flexible 6;
    3 Metadata 0..=13, flexible 9;
    8 OffsetCommit 2..=10, flexible 8;
    9 OffsetFetch 1..=10, flexible 6;
    10 FindCoordinator 0..=6, flexible 3;
    11 JoinGroup 0..=9, flexible 6;
    12 Heartbeat 0..=4, flexible 4;
    13 LeaveGroup 0..=5, flexible 4;
    14 SyncGroup 0..=5, flexible 4;
    15 DescribeGroups 0..=6, flexible 5;
    16 ListGroups 0..=5, flexible 3;
    17 SaslHandshake 0..=1;
    18 ApiVersions 0..=5, flexible 3;
    19 CreateTopics 2..=7, flexible 5;
    20 DeleteTopics 1..=6, flexible 4;
    21 DeleteRecords 0..=2, flexible 2;
    22 InitProducerId 0..=5, flexible 2;
    23 OffsetForLeaderEpoch 2..=4, flexible 4;
    24 AddPartitionsToTxn 0..=5, flexible 3;
    25 AddOffsetsToTxn 0..=4, flexible 3;
    26 EndTxn 0..=5, flexible 3;
    27 WriteTxnMarkers 1..=2, flexible 1;
    28 TxnOffsetCommit 0..=5, flexible 3;
    29 DescribeAcls 1..=3, flexible 2;
    30 CreateAcls 1..=3, flexible 2;
    31 DeleteAcls 1..=3, flexible 2;
    32 DescribeConfigs 1..=4, flexible 4;
    33 AlterConfigs 0..=2, flexible 2;
    34 AlterReplicaLogDirs 1..=2, flexible 2;
    35 DescribeLogDirs 1..=5, flexible 2;
    36 SaslAuthenticate 0..=2, flexible 2;
    37 CreatePartitions 0..=3, flexible 2;
    42 DeleteGroups 0..=2, flexible 2;
    43 ElectLeaders 0..=2, flexible 2;
    44 IncrementalAlterConfigs 0..=1, flexible 1;
    45 AlterPartitionReassignments 0..=1, flexible 0;
    46 ListPartitionReassignments 0..=0, flexible 0;
    47 OffsetDelete 0..=0;
    48 DescribeClientQuotas 0..=1, flexible 1;
    49 AlterClientQuotas 0..=1, flexible 1;
    50 DescribeUserScramCredentials 0..=0, flexible 0;
    51 AlterUserScramCredentials 0..=0, flexible 0;
    55 DescribeQuorum 0..=2, flexible 0;
    57 UpdateFeatures 0..=2, flexible 0;
    60 DescribeCluster 0..=2, flexible 0;
    61 DescribeProducers 0..=0, flexible 0;
    64 UnregisterBroker 0..=0, flexible 0;
    65 DescribeTransactions 0..=0, flexible 0;
    66 ListTransactions 0..=2, flexible 0;
    68 ConsumerGroupHeartbeat 0..=1, flexible 0;
    69 ConsumerGroupDescribe 0..=1, flexible 0;
    74 ListConfigResources 0..=1, flexible 0;
    75 DescribeTopicPartitions 0..=0, flexible 0;
}

impl ApiKey {
    /// True when `version` of this API has compact lengths and tagged fields. KIP-482.
    #[must_use]
    pub const fn is_flexible(self, version: i16) -> bool {
        match self.first_flexible() {
            Some(first) => version >= first,
            None => false,
        }
    }

    /// The version of the header before a request of `version`.
    #[must_use]
    pub const fn request_header_version(self, version: i16) -> i16 {
        if self.is_flexible(version) { 2 } else { 1 }
    }

    /// The version of the header before a response of `version`.
    ///
    /// Always 0 for ApiVersions: a client that asked in too new a version must still find the
    /// error code where it always was. KIP-511.
    #[must_use]
    pub const fn response_header_version(self, version: i16) -> i16 {
        match self {
            Self::ApiVersions => 0,
            _ if self.is_flexible(version) => 1,
            _ => 0,
        }
    }
}

impl fmt::Display for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_agrees_with_the_descriptors_of_an_independent_codec() {
        /// APIs that the oracle knows in versions after Kafka 4.3, and the last of 4.3.
        const GREW_SINCE: [(ApiKey, i16); 2] =
            [(ApiKey::TxnOffsetCommit, 5), (ApiKey::DeleteGroups, 2)];
        for &api in ApiKey::ALL {
            let theirs = kafka_wire::API_DESCRIPTORS
                .iter()
                .find(|theirs| theirs.api_key.value() == api.to_wire())
                .unwrap_or_else(|| panic!("{api} is unknown to the oracle"));
            assert_eq!(format!("{api}Request"), theirs.request.name);
            assert_eq!(*api.versions().start(), theirs.supported_versions.min().value(), "{api}");
            let newest = theirs.latest_stable_version().expect("a version").value();
            let grew = GREW_SINCE.iter().find(|&&(grown, _)| grown == api);
            let newest = grew.map_or(newest, |&(_, last)| {
                assert!(last < newest, "{api} did not grow");
                last
            });
            assert_eq!(*api.versions().end(), newest, "{api}");
            let flexible = theirs.flexible_versions.map(|versions| versions.min().value());
            assert_eq!(api.first_flexible(), flexible, "{api}");
        }
    }

    #[test]
    fn keys_ascend_and_survive_the_wire() {
        assert!(ApiKey::ALL.windows(2).all(|pair| pair[0].to_wire() < pair[1].to_wire()));
        for &api in ApiKey::ALL {
            assert_eq!(ApiKey::from_wire(api.to_wire()), Some(api));
        }
        assert_eq!(ApiKey::from_wire(4), None);
        assert_eq!(ApiKey::from_wire(-1), None);
    }

    #[test]
    fn produce_alone_is_advertised_below_what_it_serves() {
        for &api in ApiKey::ALL {
            let served = *api.versions().start();
            let advertised = if api == ApiKey::Produce { 0 } else { served };
            assert_eq!(api.advertised_min(), advertised, "{api}");
            assert!(api.advertised_min() <= served, "{api}");
        }
        assert_eq!(ApiKey::Produce.versions(), 3..=13);
    }

    #[test]
    fn an_unstable_version_is_not_offered() {
        assert_eq!(ApiKey::InitProducerId.versions(), 0..=5);
    }

    #[test]
    fn the_response_header_of_api_versions_is_never_flexible() {
        for version in 0..=99 {
            assert_eq!(ApiKey::ApiVersions.response_header_version(version), 0);
        }
        assert_eq!(ApiKey::ApiVersions.request_header_version(2), 1);
        assert_eq!(ApiKey::ApiVersions.request_header_version(3), 2);
        assert_eq!(ApiKey::Metadata.response_header_version(8), 0);
        assert_eq!(ApiKey::Metadata.response_header_version(9), 1);
        assert_eq!(ApiKey::SaslHandshake.request_header_version(1), 1);
    }
}
