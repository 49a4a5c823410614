//! What a broker speaks, and which version of each API to use with it.
//!
//! Learned once per connection from ApiVersions (KIP-35, KIP-511). The version of a request is the
//! highest that both ends know; finalized features (KIP-584) tell what the whole cluster has agreed
//! to use, such as the second version of transactions (KIP-890). Pure.

use std::collections::BTreeMap;

use protocol::api::versions::ApiVersionsResponse;
use protocol::api_key::ApiKey;

/// The versions and features of one broker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Negotiated {
    /// Lowest and highest version by API; both ends inclusive, as on the wire.
    ranges: BTreeMap<i16, (i16, i16)>,
    features: BTreeMap<String, i16>,
}

/// Why a request cannot be made to this broker. Retrying cannot help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{api}: the broker {}, we speak up to version {ours_max}",
    theirs.map_or("does not offer it".to_owned(), |(min, max)| format!("speaks versions {min} to {max}"))
)]
pub struct Unsupported {
    /// The API.
    pub api: ApiKey,
    /// Lowest and highest version of the broker; `None`: it does not have the API.
    pub theirs: Option<(i16, i16)>,
    /// Our highest version for this call.
    pub ours_max: i16,
}

impl Negotiated {
    /// Reads what the broker answered.
    #[must_use]
    pub fn new(response: &ApiVersionsResponse) -> Self {
        let ranges =
            response.api_keys.iter().map(|it| (it.api_key, (it.min_version, it.max_version)));
        let features =
            response.finalized_features.iter().map(|it| (it.name.clone(), it.max_version_level));
        Self { ranges: ranges.collect(), features: features.collect() }
    }

    /// The highest version of `api` that both ends speak, and that is not above `version_max`.
    ///
    /// # Errors
    /// When there is none.
    pub fn version(&self, api: ApiKey, version_max: i16) -> Result<i16, Unsupported> {
        let ours_max = version_max.min(*api.versions().end());
        let theirs = self.ranges.get(&api.to_wire()).copied();
        theirs
            .and_then(|(min, max)| {
                let version = ours_max.min(max);
                (version >= min && version >= *api.versions().start()).then_some(version)
            })
            .ok_or(Unsupported { api, theirs, ours_max })
    }

    /// The highest level of a feature that the cluster has agreed to use; 0: none. KIP-584.
    #[must_use]
    pub fn feature_level(&self, name: &str) -> i16 {
        self.features.get(name).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use protocol::api::versions::{ApiVersion, FinalizedFeatureKey};

    use super::*;

    fn broker(min_version: i16, max_version: i16) -> Negotiated {
        Negotiated::new(&ApiVersionsResponse {
            api_keys: vec![ApiVersion {
                api_key: ApiKey::Fetch.to_wire(),
                min_version,
                max_version,
            }],
            finalized_features: vec![FinalizedFeatureKey {
                name: "transaction.version".to_owned(),
                max_version_level: 2,
                min_version_level: 2,
            }],
            ..ApiVersionsResponse::default()
        })
    }

    #[test]
    fn the_version_is_the_highest_that_both_ends_and_the_caller_know() {
        for (theirs, cap, want) in [
            ((4, 11), i16::MAX, Some(11)),
            ((0, 99), i16::MAX, Some(*ApiKey::Fetch.versions().end())),
            ((0, 99), 12, Some(12)),
            ((13, 99), 12, None),
            ((0, 3), i16::MAX, None),
        ] {
            let version = broker(theirs.0, theirs.1).version(ApiKey::Fetch, cap);
            assert_eq!(version.ok(), want, "{theirs:?} under {cap}");
        }
        assert!(broker(0, 9).version(ApiKey::Produce, i16::MAX).is_err());
    }

    #[test]
    fn a_feature_that_is_not_finalized_has_level_0() {
        assert_eq!(broker(0, 1).feature_level("transaction.version"), 2);
        assert_eq!(broker(0, 1).feature_level("group.version"), 0);
    }
}
