//! The levels of features that the cluster agrees on.
//!
//! A level must be one that every registered broker can run at. It rises when asked for; it falls
//! only when the caller says that it may, and the level of the metadata never does: records of it
//! may exist that a lower level cannot express. A request changes all of its features or none.
//! KIP-584. Pure.

use protocol::error_code::ErrorCode;
use protocol::ids::BrokerId;
use thiserror::Error;

use super::Outcome;
use super::core::Core;
use crate::metadata::{FeatureLevelRecord, Image};

/// The feature whose level says which records the metadata log may hold.
const METADATA: &str = "metadata.version";

/// Which way a level may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeatureChange {
    /// Up.
    Upgrade,
    /// Down, or stay; nothing may be lost by it.
    SafeDowngrade,
    /// Down, or stay, whatever is lost by it.
    UnsafeDowngrade,
}

/// A feature's new level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeatureUpdate {
    /// The feature.
    pub feature: String,
    /// Its new level; 0: the feature is given up.
    pub level: i16,
    /// Which way it may go. `None`: the caller named a way that does not exist.
    pub change: Option<FeatureChange>,
}

/// Why no feature changes. No retry helps.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("invalid update version {level} for feature {feature}: {reason}")]
pub struct FeatureError {
    /// The feature.
    pub feature: String,
    /// The level asked for.
    pub level: i16,
    /// Why not.
    pub reason: FeatureReason,
}

/// Why a level is not possible.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FeatureReason {
    /// The way that it may go is none.
    #[error("the upgrade type is not known")]
    UnknownChange,
    /// Levels are not negative.
    #[error("a level cannot be less than 0")]
    Negative,
    /// The request names it twice.
    #[error("the feature is named twice")]
    Twice,
    /// A broker has never heard of it.
    #[error("broker {0} does not support this feature")]
    Unsupported(BrokerId),
    /// A broker cannot run at that level.
    #[error("broker {broker} only supports versions {min}-{max}")]
    OutOfRange {
        /// The broker.
        broker: BrokerId,
        /// Its lowest level.
        min: i16,
        /// Its highest level.
        max: i16,
    },
    /// It would fall, and may not.
    #[error("the level falls from {0}: that takes a safe or unsafe downgrade")]
    Falls(i16),
    /// It would rise, and may not.
    #[error("a downgrade cannot be to a level above {0}")]
    Rises(i16),
    /// Metadata could be lost.
    #[error("the downgrade from {0} is refused because it might delete metadata")]
    LosesMetadata(i16),
}

impl FeatureError {
    /// The code on the wire.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        ErrorCode::InvalidUpdateVersion
    }
}

impl Core {
    /// Changes the levels of features, all or none; with `validate_only`, only says whether it
    /// could.
    pub(crate) fn update_features(
        &self,
        image: &Image,
        updates: &[FeatureUpdate],
        validate_only: bool,
    ) -> Outcome<Result<(), FeatureError>> {
        let mut records = Vec::new();
        for (nth, update) in updates.iter().enumerate() {
            let is_repeated = updates[..nth].iter().any(|it| it.feature == update.feature);
            let checked =
                if is_repeated { Err(FeatureReason::Twice) } else { check(image, update) };
            match checked {
                Ok(is_change) if is_change && !validate_only => {
                    let (name, feature_level) = (update.feature.clone(), update.level);
                    records.push(FeatureLevelRecord { name, feature_level }.into());
                }
                Ok(_) => {}
                Err(reason) => {
                    let FeatureUpdate { feature, level, .. } = update.clone();
                    let refused = Err(FeatureError { feature, level, reason });
                    return Outcome { records: Vec::new(), reply: refused };
                }
            }
        }
        Outcome { records, reply: Ok(()) }
    }
}

/// Whether the feature may have the level, and does not yet.
fn check(image: &Image, update: &FeatureUpdate) -> Result<bool, FeatureReason> {
    let FeatureUpdate { feature, level, change } = update;
    let level = *level;
    let change = change.ok_or(FeatureReason::UnknownChange)?;
    if level < 0 {
        return Err(FeatureReason::Negative);
    }
    for broker in image.brokers() {
        let known = broker.features.iter().find(|it| it.name == *feature);
        let known = known.ok_or(FeatureReason::Unsupported(broker.id))?;
        let (min, max) = (known.min_supported_version, known.max_supported_version);
        // Giving a feature up is possible for brokers that can do without it.
        if level < min || max < level {
            return Err(FeatureReason::OutOfRange { broker: broker.id, min, max });
        }
    }
    let now = image.feature(feature).unwrap_or(0);
    match change {
        FeatureChange::Upgrade if level < now => Err(FeatureReason::Falls(now)),
        FeatureChange::SafeDowngrade | FeatureChange::UnsafeDowngrade if now < level => {
            Err(FeatureReason::Rises(now))
        }
        FeatureChange::SafeDowngrade | FeatureChange::UnsafeDowngrade
            if level < now && feature == METADATA =>
        {
            Err(FeatureReason::LosesMetadata(now))
        }
        _ => Ok(level != now),
    }
}
