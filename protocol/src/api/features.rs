//! UpdateFeatures: the levels of features that a cluster agrees on. KIP-584. Pure.

use crate::wire;

wire! {
    /// Asks to change the levels of features. v1: only to try, and unsafe downgrades (KIP-778).
    pub struct UpdateFeaturesRequest {
        /// How long the caller waits, in milliseconds.
        timeout_ms: i32 = 60_000;
        /// The features.
        feature_updates: Vec<FeatureUpdateKey>;
        /// Whether to say what would happen, and change nothing.
        validate_only: bool, in 1..;
    }

    /// A feature's new level.
    pub struct FeatureUpdateKey {
        /// The feature.
        feature: String;
        /// The new level. Below 1: the feature is given up.
        max_version_level: i16;
        /// Whether the level may fall, in version 0.
        allow_downgrade: bool, in ..=0;
        /// 1: it may rise; 2: it may fall if nothing is lost; 3: it may fall.
        upgrade_type: i8 = 1, in 1..;
    }

    /// What became of the change. v2: all or none, without results.
    pub struct UpdateFeaturesResponse {
        /// How long the client should stay silent because of a quota, in milliseconds.
        throttle_time_ms: i32;
        /// An error code of the wire; 0: success.
        error_code: i16;
        /// The error in words for people. `None`: none, or none needed.
        error_message: Option<String> = Some(String::new());
        /// What became of each feature, up to version 1.
        results: Vec<UpdatableFeatureResult>, in ..=1, ignorable;
    }

    /// What became of one feature.
    pub struct UpdatableFeatureResult {
        /// The feature.
        feature: String;
        /// An error code of the wire; 0: success.
        error_code: i16;
        /// The error in words for people. `None`: none, or none needed.
        error_message: Option<String> = Some(String::new());
    }
}
