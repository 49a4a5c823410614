//! ApiVersions: which APIs and versions the other end speaks.
//!
//! The first request of a connection, and the only one whose version a client must guess: a broker
//! that does not know it answers in version 0 (KIP-511). In answers up to version 3, leave out
//! features whose lowest version is 0; version 4 has them (KAFKA-17011). Pure.

use crate::wire;

wire! {
    /// Asks what the broker speaks. v3: names the client (KIP-511); v5: names the broker the client
    /// means to talk to (KIP-1242).
    pub struct ApiVersionsRequest {
        /// The client library's name.
        client_software_name: String, in 3.., ignorable;
        /// The client library's version.
        client_software_version: String, in 3.., ignorable;
        /// The cluster meant. `None`: any.
        cluster_id: Option<String>, in 5.., ignorable;
        /// The broker meant. -1: any.
        node_id: i32 = -1, in 5.., ignorable;
    }

    /// Says what the broker speaks. v3: features (KIP-584).
    pub struct ApiVersionsResponse {
        /// An error code of the wire; 0: success.
        error_code: i16;
        /// The APIs.
        api_keys: Vec<ApiVersion>;
        /// How long the client should stay silent because of a quota, in milliseconds.
        throttle_time_ms: i32, in 1.., ignorable;
        /// The features that the broker could run.
        supported_features: Vec<SupportedFeatureKey>, in 3.., tag 0, ignorable;
        /// Raised by every change of `finalized_features`. -1: unknown.
        finalized_features_epoch: i64 = -1, in 3.., tag 1, ignorable;
        /// The features that the cluster has agreed on, valid as of `finalized_features_epoch`.
        finalized_features: Vec<FinalizedFeatureKey>, in 3.., tag 2, ignorable;
        /// A controller's word on migration from ZooKeeper.
        zk_migration_ready: bool, in 3.., tag 3, ignorable;
    }

    /// The versions of one API.
    pub struct ApiVersion {
        /// The key of the API.
        api_key: i16;
        /// The lowest version, inclusive.
        min_version: i16;
        /// The highest version, inclusive.
        max_version: i16;
    }

    /// The levels of a feature that the broker could run at.
    pub struct SupportedFeatureKey {
        /// The feature.
        name: String;
        /// The lowest level, inclusive.
        min_version: i16;
        /// The highest level, inclusive.
        max_version: i16;
    }

    /// The levels of a feature that the cluster has agreed on.
    pub struct FinalizedFeatureKey {
        /// The feature.
        name: String;
        /// The highest level, inclusive.
        max_version_level: i16;
        /// The lowest level, inclusive.
        min_version_level: i16;
    }
}
