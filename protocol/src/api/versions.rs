//! x. Pure.

use crate::wire;

wire! {
    /// ApiVersionsRequest.
    pub struct ApiVersionsRequest {
        /// ClientSoftwareName.
        client_software_name: String, in 3.., ignorable;
        /// ClientSoftwareVersion.
        client_software_version: String, in 3.., ignorable;
        /// ClusterId.
        cluster_id: Option<String>, in 5.., ignorable;
        /// NodeId.
        node_id: i32 = -1, in 5.., ignorable;
    }

    /// ApiVersionsResponse.
    pub struct ApiVersionsResponse {
        /// ErrorCode.
        error_code: i16;
        /// ApiKeys.
        api_keys: Vec<ApiVersion>;
        /// ThrottleTimeMs.
        throttle_time_ms: i32, in 1.., ignorable;
        /// SupportedFeatures.
        supported_features: Vec<SupportedFeatureKey>, in 3.., tag 0, ignorable;
        /// FinalizedFeaturesEpoch.
        finalized_features_epoch: i64 = -1, in 3.., tag 1, ignorable;
        /// FinalizedFeatures.
        finalized_features: Vec<FinalizedFeatureKey>, in 3.., tag 2, ignorable;
        /// ZkMigrationReady.
        zk_migration_ready: bool, in 3.., tag 3, ignorable;
    }

    /// ApiVersion.
    pub struct ApiVersion {
        /// ApiKey.
        api_key: i16;
        /// MinVersion.
        min_version: i16;
        /// MaxVersion.
        max_version: i16;
    }

    /// SupportedFeatureKey.
    pub struct SupportedFeatureKey {
        /// Name.
        name: String;
        /// MinVersion.
        min_version: i16;
        /// MaxVersion.
        max_version: i16;
    }

    /// FinalizedFeatureKey.
    pub struct FinalizedFeatureKey {
        /// Name.
        name: String;
        /// MaxVersionLevel.
        max_version_level: i16;
        /// MinVersionLevel.
        min_version_level: i16;
    }
}
