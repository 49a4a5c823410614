//! What a member of a consumer group says, and what it is answered. KIP-848.
//!
//! A request of the wire becomes a [`Beat`] at the edge; from there on it cannot be malformed, only
//! refused.
//!
//! Pure.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use protocol::error_code::ErrorCode;

use super::assignor::{Assignment, Assignor};
use super::modern::{Epoch, member_bytes};
use super::subscription::PatternError;
use crate::config::GroupMigration;
use crate::metadata::Image;

/// What bounds consumer groups, from the broker's settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerSettings {
    /// `group.consumer.session.timeout.ms`.
    pub session_timeout: Duration,
    /// `group.consumer.heartbeat.interval.ms`.
    pub heartbeat_interval: Duration,
    /// `group.consumer.max.size`: the next member is refused.
    pub members_max: usize,
    /// `group.consumer.assignors`: the first is used unless members prefer another. Not empty.
    pub assignors: Vec<Assignor>,
    /// May a group change from one protocol to the other while it has members?
    pub migration: GroupMigration,
}

/// What a member is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intent {
    /// It joins, or starts over.
    Join,
    /// It stays, in this epoch.
    Stay(Epoch),
    /// It leaves.
    Leave,
    /// It leaves and will be back under its static id.
    LeaveForNow,
}

/// Decides whether a topic of the metadata may be known.
type Sees = dyn Fn(&Image, &str) -> bool + Send + Sync;

/// Of which topics whoever sends a heartbeat may know: an expression matches no others. Who decides
/// is the room in front; here it is asked again whenever the metadata change.
#[derive(Clone)]
pub struct Sight(Option<Arc<Sees>>);

impl Sight {
    /// Of all.
    pub const ALL: Self = Self(None);

    /// Of those of whose name `sees` is true, by these metadata.
    pub fn of(sees: impl Fn(&Image, &str) -> bool + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(sees)))
    }

    /// Whether the topic of this name may be known.
    #[must_use]
    pub fn sees(&self, image: &Image, name: &str) -> bool {
        self.0.as_ref().is_none_or(|sees| sees(image, name))
    }
}

impl fmt::Debug for Sight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Sight(some)" } else { "Sight(all)" })
    }
}

/// A heartbeat of KIP-848. `None` within: as before.
#[derive(Clone, Debug)]
pub struct Beat {
    /// The group.
    pub group: Arc<str>,
    /// The member. Empty when it joins and is to be given an id.
    pub member_id: Arc<str>,
    /// What it is about.
    pub intent: Intent,
    /// Its static id. KIP-345.
    pub instance_id: Option<Arc<str>>,
    /// Its rack.
    pub rack_id: Option<Arc<str>>,
    /// How long it may take to give partitions up.
    pub rebalance_timeout: Option<Duration>,
    /// The topics that it wants.
    pub topics: Option<BTreeSet<Arc<str>>>,
    /// The expression whose topics it wants; empty for none.
    pub pattern: Option<Arc<str>>,
    /// Which topics its expression may match.
    pub sight: Sight,
    /// The assignor that it prefers.
    pub assignor: Option<Arc<str>>,
    /// What it owns.
    pub owned: Option<Assignment>,
    /// Its client id.
    pub client_id: Arc<str>,
    /// Where it connected from.
    pub client_host: Arc<str>,
}

impl Beat {
    /// About what its member tells of itself that is to be kept.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let told = [&self.instance_id, &self.rack_id, &self.pattern, &self.assignor];
        let told = told.into_iter().flatten().chain([&self.client_id, &self.client_host]);
        member_bytes(told, self.topics.iter().flatten())
    }
}

/// The answer to a heartbeat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beaten {
    /// The member.
    pub member_id: Arc<str>,
    /// Its epoch from now on.
    pub epoch: Epoch,
    /// When the next heartbeat is due.
    pub interval: Duration,
    /// What it may read from now on; `None`: what it read before.
    pub assignment: Option<Assignment>,
}

/// Why a heartbeat is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BeatError {
    /// The member is not, or no longer, in the group. It joins anew.
    #[error("group {group} has no member {member}")]
    UnknownMember {
        /// The group.
        group: Arc<str>,
        /// The member.
        member: Arc<str>,
    },
    /// The member's epoch is another. It gives all up and joins anew.
    #[error("group {group}: member {member} is in epoch {expected} and says {told}")]
    FencedEpoch {
        /// The group.
        group: Arc<str>,
        /// The member.
        member: Arc<str>,
        /// What we know.
        expected: Epoch,
        /// What it said.
        told: Epoch,
    },
    /// Another member took the static id over.
    #[error("group {group}: instance {instance} is member {holder} now")]
    FencedInstance {
        /// The group.
        group: Arc<str>,
        /// The static id.
        instance: Arc<str>,
        /// Who holds it.
        holder: Arc<str>,
    },
    /// The static id's member has not left. Retriable, once it has or its session ended.
    #[error("group {group}: instance {instance} is still in use by member {holder}")]
    UnreleasedInstance {
        /// The group.
        group: Arc<str>,
        /// The static id.
        instance: Arc<str>,
        /// Who holds it.
        holder: Arc<str>,
    },
    /// The group has as many members as it may.
    #[error("group {group} has {max} members, the most it may")]
    Full {
        /// The group.
        group: Arc<str>,
        /// How many it may have.
        max: usize,
    },
    /// The assignor is not offered.
    #[error("assignor {assignor} is not offered; there are {offered}")]
    UnsupportedAssignor {
        /// The assignor.
        assignor: Arc<str>,
        /// Which there are.
        offered: String,
    },
    /// The subscription's expression is not one.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// The group speaks another protocol.
    #[error("group {0} is not a consumer group")]
    OtherProtocol(Arc<str>),
    /// The shard holds as many groups as it may.
    #[error("group {0} would be one too many for its coordinator")]
    TooManyGroups(Arc<str>),
    /// Groups take as much memory as they may. Retriable, once some were deleted.
    #[error("group {0}: groups take as much memory as they may")]
    NoMemory(Arc<str>),
    /// The log did not take what the heartbeat changed.
    #[error("member {member}: not written: {code}")]
    NotWritten {
        /// The member.
        member: Arc<str>,
        /// Why.
        code: ErrorCode,
    },
}

impl BeatError {
    /// The code on the wire.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::UnknownMember { .. } => ErrorCode::UnknownMemberId,
            Self::FencedEpoch { .. } => ErrorCode::FencedMemberEpoch,
            Self::FencedInstance { .. } => ErrorCode::FencedInstanceId,
            Self::UnreleasedInstance { .. } => ErrorCode::UnreleasedInstanceId,
            Self::Full { .. } => ErrorCode::GroupMaxSizeReached,
            Self::UnsupportedAssignor { .. } => ErrorCode::UnsupportedAssignor,
            Self::Pattern(_) => ErrorCode::InvalidRegularExpression,
            Self::OtherProtocol(_) => ErrorCode::GroupIdNotFound,
            Self::TooManyGroups(_) | Self::NoMemory(_) => ErrorCode::CoordinatorNotAvailable,
            Self::NotWritten { code, .. } => *code,
        }
    }
}
