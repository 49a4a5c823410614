//! ApiVersions: what this broker serves, derived from what its router routes.
//!
//! A request of a version that is not supported is answered in version 0 with error 35 and the
//! list, so that the client can find a common version on the same connection (KIP-511). A client
//! that means another cluster or broker is told to start again from its bootstrap servers (KIP-1242):
//! an address may have been given to someone else. Features
//! whose lowest level is 0 are left out up to version 3 (KAFKA-17011). Empty lists and an unknown
//! epoch are never written: some clients stumble over tagged fields that say nothing. Pure.

use protocol::api::versions::{
    ApiVersion, ApiVersionsRequest, ApiVersionsResponse, FinalizedFeatureKey, SupportedFeatureKey,
};
use protocol::api_key::ApiKey;
use protocol::error_code::ErrorCode;
use protocol::ids::BrokerId;

use crate::metadata::{Broker, Image};

/// The first version whose features may begin at level 0.
const FEATURES_FROM_ZERO: i16 = 4;

/// The answer in `version`, by a broker that serves `routed`. A malformed request is told
/// nothing else.
pub(super) fn answer(
    version: i16,
    request: &ApiVersionsRequest,
    routed: &[ApiKey],
    image: &Image,
    own: BrokerId,
) -> ApiVersionsResponse {
    let refusal = check(version, request, image, own);
    if refusal == ErrorCode::InvalidRequest {
        return ApiVersionsResponse { error_code: refusal.to_wire(), ..Default::default() };
    }
    let supported_features = image.broker(own).map_or_else(Vec::new, |own| supported(version, own));
    let finalized_features: Vec<_> = image
        .features()
        .map(|(name, level)| FinalizedFeatureKey {
            name: name.to_owned(),
            max_version_level: level,
            min_version_level: level,
        })
        .collect();
    let finalized_features_epoch = if finalized_features.is_empty() { -1 } else { image.end.0 };
    ApiVersionsResponse {
        error_code: refusal.to_wire(),
        api_keys: keys(routed),
        supported_features,
        finalized_features_epoch,
        finalized_features,
        ..Default::default()
    }
}

/// The answer, in version 0, to a version that is not supported.
pub(super) fn unsupported(routed: &[ApiKey]) -> ApiVersionsResponse {
    ApiVersionsResponse {
        error_code: ErrorCode::UnsupportedVersion.to_wire(),
        api_keys: keys(routed),
        ..Default::default()
    }
}

fn keys(routed: &[ApiKey]) -> Vec<ApiVersion> {
    let mut routed = routed.to_vec();
    routed.sort_unstable();
    let version = |api: ApiKey| ApiVersion {
        api_key: api.to_wire(),
        min_version: api.advertised_min(),
        max_version: *api.versions().end(),
    };
    routed.into_iter().map(version).collect()
}

fn supported(version: i16, own: &Broker) -> Vec<SupportedFeatureKey> {
    own.features
        .iter()
        .filter(|feature| version >= FEATURES_FROM_ZERO || feature.min_supported_version > 0)
        .map(|feature| SupportedFeatureKey {
            name: feature.name.clone(),
            min_version: feature.min_supported_version,
            max_version: feature.max_supported_version,
        })
        .collect()
}

/// From version 3 on a client says who it is; something that no name looks like is refused. From
/// version 5 on it may say whom it means.
fn check(version: i16, request: &ApiVersionsRequest, image: &Image, own: BrokerId) -> ErrorCode {
    let is_word = |text: &str| {
        let is_edge = |byte: u8| byte.is_ascii_alphanumeric();
        let bytes = text.as_bytes();
        bytes.first().copied().is_some_and(is_edge)
            && bytes.last().copied().is_some_and(is_edge)
            && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(byte))
    };
    let ApiVersionsRequest { client_software_name, client_software_version, .. } = request;
    if version >= 3 && !(is_word(client_software_name) && is_word(client_software_version)) {
        return ErrorCode::InvalidRequest;
    }
    let means_this_cluster =
        request.cluster_id.as_deref().is_none_or(|id| id == &*image.cluster_id);
    let means_this_broker = request.node_id < 0 || request.node_id == own.0;
    if !(means_this_cluster && means_this_broker) {
        return ErrorCode::RebootstrapRequired;
    }
    ErrorCode::None
}
