//! UpdateFeatures: to the controller and back; and what a feature that was given up means to those
//! who ask for it. KIP-584. Shell.

use protocol::api::consumer_group::{
    ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, ConsumerGroupHeartbeatResponse,
    DescribedConsumerGroup,
};
use protocol::api::features::{
    FeatureUpdateKey, UpdatableFeatureResult, UpdateFeaturesRequest, UpdateFeaturesResponse,
};
use protocol::error_code::ErrorCode;

use super::topics::wait;
use crate::controller::{ControllerHandle, FeatureChange, FeatureUpdate};
use crate::metadata::Image;

/// The first version that names the kind of the change; before, a flag allows downgrades.
const NAMES_CHANGE: i16 = 1;
/// The first version that answers for all features at once.
const ANSWERS_ONCE: i16 = 2;

pub(super) async fn update_features(
    controller: &ControllerHandle,
    version: i16,
    request: UpdateFeaturesRequest,
) -> UpdateFeaturesResponse {
    let UpdateFeaturesRequest { timeout_ms, feature_updates, validate_only } = request;
    let features: Vec<_> = feature_updates.iter().map(|it| it.feature.clone()).collect();
    let updates = feature_updates.into_iter().map(|key| FeatureUpdate {
        level: key.max_version_level,
        change: change(version, &key),
        feature: key.feature,
    });
    let updated =
        controller.update_features(updates.collect(), validate_only, wait(timeout_ms)).await;
    let refused = match updated {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some((
            error.code(),
            format!(
                "The update failed for all features since the following feature had an error: \
                 {error}"
            ),
        )),
        Err(error) => Some((error.code(), error.to_string())),
    };
    // Up to version 1 each feature that was changed has a result; a failure is all features'.
    let answers_each = version < ANSWERS_ONCE && refused.is_none();
    let results = features.into_iter().filter(|_| answers_each).map(|feature| {
        let error_code = ErrorCode::None.to_wire();
        UpdatableFeatureResult { feature, error_code, error_message: None }
    });
    let results = results.collect();
    let (code, message) = refused.map_or((ErrorCode::None, None), |(code, it)| (code, Some(it)));
    UpdateFeaturesResponse {
        throttle_time_ms: 0,
        error_code: code.to_wire(),
        error_message: message,
        results,
    }
}

fn change(version: i16, key: &FeatureUpdateKey) -> Option<FeatureChange> {
    if version < NAMES_CHANGE {
        let falls = FeatureChange::SafeDowngrade;
        return Some(if key.allow_downgrade { falls } else { FeatureChange::Upgrade });
    }
    match key.upgrade_type {
        1 => Some(FeatureChange::Upgrade),
        2 => Some(FeatureChange::SafeDowngrade),
        3 => Some(FeatureChange::UnsafeDowngrade),
        _ => None,
    }
}

/// True unless the cluster has given up groups whose coordinator assigns. KIP-848.
pub(super) fn has_consumer_groups(image: &Image) -> bool {
    image.feature("group.version") != Some(0)
}

/// To the member of a group that the cluster has given up.
pub(super) fn heartbeat_refused() -> ConsumerGroupHeartbeatResponse {
    ConsumerGroupHeartbeatResponse {
        error_code: ErrorCode::UnsupportedVersion.to_wire(),
        ..ConsumerGroupHeartbeatResponse::default()
    }
}

/// To whoever asks for groups that the cluster has given up.
pub(super) fn description_refused(
    request: ConsumerGroupDescribeRequest,
) -> ConsumerGroupDescribeResponse {
    let groups = request.group_ids.into_iter().map(|group_id| DescribedConsumerGroup {
        error_code: ErrorCode::UnsupportedVersion.to_wire(),
        group_id,
        ..DescribedConsumerGroup::default()
    });
    ConsumerGroupDescribeResponse { groups: groups.collect(), ..Default::default() }
}
