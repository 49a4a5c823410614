//! Consumer groups: who reads which partition, and how far each has come.
//!
//! One shard per partition of `__consumer_offsets` holds the groups whose names hash to it. The
//! classic protocol works in rounds: members join, the coordinator closes the round and names a
//! leader, the leader assigns, everyone syncs.
//!
//! | state | members | left when |
//! |---|---|---|
//! | Empty | none | the first joins |
//! | PreparingRebalance | joining; the others must rejoin | all have joined, or the deadline passes |
//! | CompletingRebalance | know the generation, wait for the leader's assignment | the leader syncs |
//! | Stable | own their partitions | a member comes, goes, changes, or falls silent |
//!
//! Invariants: a partition has one owner per generation (the leader's duty; ours is that only the
//! current generation's assignment is ever handed out); the generation never goes back; a commit
//! with another generation is refused; offsets of an open transaction are invisible until its
//! marker. Sources: KIP-345 (static members), KIP-394 (member ids), KIP-447, KIP-211.
//!
//! The consumer protocol (KIP-848) has no rounds: the coordinator makes the target and each member
//! walks to it by its heartbeats; see [`modern`]. Pure.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use protocol::error_code::ErrorCode;
use protocol::ids::{GenerationId, ProducerEpoch, ProducerId, TopicPartition};

pub mod assignor;
pub mod beat;
pub mod classic;
pub mod consumer_record;
pub mod heartbeat;
pub mod member;
pub mod memory;
pub mod mixed;
pub mod modern;
mod modern_picture;
pub mod offsets;
mod picture;
pub mod reconcile;
pub mod record;
pub mod shard;
pub mod subscription;
#[cfg(test)]
mod tests;

use crate::coordinator::{Coordinator, VerificationGuard};

use beat::{Beat, BeatError, Beaten};
use modern::Epoch;

pub use modern_picture::{ConsumerDescription, ConsumerMember, NamedAssignment};
pub use record::Committed;
pub use shard::{GroupShard, Limits};

/// The internal topic that holds groups and their offsets.
pub const TOPIC: &str = "__consumer_offsets";

/// The coordinator of groups.
pub type Groups = Coordinator<GroupShard>;

/// What a group's coordinator is asked.
#[derive(Clone, Debug)]
pub enum Request {
    /// Become, or stay, a member; starts a round or takes part in it.
    Join(Join),
    /// Fetch one's assignment; the leader brings everybody's.
    Sync(Sync),
    /// Still alive.
    Heartbeat(Membership),
    /// All that a member of the consumer protocol ever says. KIP-848.
    ConsumerHeartbeat(Box<Beat>),
    /// Leave the group.
    Leave(Leave),
    /// Remember offsets.
    Commit(Commit),
    /// What was committed?
    Fetch(Fetch),
    /// Forget what was committed for these partitions.
    DeleteOffsets(Arc<str>, Vec<TopicPartition>),
    /// What is known of a classic group?
    Describe(Arc<str>),
    /// What is known of a consumer group?
    DescribeConsumer(Arc<str>),
    /// Which groups are there?
    List,
    /// Forget a group that has no members, and its offsets.
    Delete(Arc<str>),
}

impl Request {
    /// The group that it is about; `None`: all.
    #[must_use]
    pub fn group(&self) -> Option<&Arc<str>> {
        match self {
            Self::Join(join) => Some(&join.group),
            Self::Sync(sync) => Some(&sync.member.group),
            Self::Heartbeat(from) => Some(&from.group),
            Self::ConsumerHeartbeat(beat) => Some(&beat.group),
            Self::Leave(leave) => Some(&leave.group),
            Self::Commit(commit) => Some(&commit.member.group),
            Self::Fetch(fetch) => Some(&fetch.group),
            Self::DeleteOffsets(group, _)
            | Self::Describe(group)
            | Self::DescribeConsumer(group)
            | Self::Delete(group) => Some(group),
            Self::List => None,
        }
    }
}

/// What a group's coordinator answers, in the order of [`Request`]'s variants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// To a join, once the round is closed.
    Joined(Box<Joined>),
    /// To a sync, once the leader has assigned.
    Synced(Synced),
    /// To a heartbeat.
    Heartbeat(ErrorCode),
    /// To a heartbeat of the consumer protocol.
    ConsumerHeartbeat(Result<Beaten, BeatError>),
    /// To a leave: one code per member named.
    Left(Vec<ErrorCode>),
    /// To a commit: one code per partition, in the request's order.
    Committed(Vec<ErrorCode>),
    /// To a fetch, in the request's order; for "all", in partition order.
    Fetched(Result<Vec<FetchedOffset>, ErrorCode>),
    /// To a deletion of offsets, in the request's order; or why none was deleted.
    DeletedOffsets(Result<Vec<ErrorCode>, ErrorCode>),
    /// To a description of a classic group.
    Described(Box<Description>),
    /// To a description of a consumer group.
    DescribedConsumer(Result<Box<ConsumerDescription>, ErrorCode>),
    /// To a listing.
    Listed(Vec<Listing>),
    /// To a deletion.
    Deleted(ErrorCode),
}

/// What was committed for a partition; `None`: nothing.
pub type FetchedOffset = (TopicPartition, Result<Option<Committed>, ErrorCode>);

/// A member as it names itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// The group.
    pub group: Arc<str>,
    /// The generation that it believes in; -1 outside of any. Of a member of the consumer protocol
    /// its epoch.
    pub generation: GenerationId,
    /// The id that the coordinator gave it; empty for none.
    pub member_id: Arc<str>,
    /// Its static id. KIP-345.
    pub instance_id: Option<Arc<str>>,
}

/// A request to join.
#[derive(Clone, Debug)]
pub struct Join {
    /// The group.
    pub group: Arc<str>,
    /// Empty at the first join.
    pub member_id: Arc<str>,
    /// Its static id. KIP-345.
    pub instance_id: Option<Arc<str>>,
    /// For people, and part of the member ids that we give.
    pub client_id: Arc<str>,
    /// For people.
    pub client_host: Arc<str>,
    /// How long it may be silent.
    pub session_timeout: Duration,
    /// How long it may take to rejoin.
    pub rebalance_timeout: Duration,
    /// `consumer` for consumers; all members must agree.
    pub protocol_type: Arc<str>,
    /// By preference: name, and what it tells the leader.
    pub protocols: Vec<(Arc<str>, Bytes)>,
    /// The version of the request makes a first join ask for an id and come again. KIP-394.
    pub requires_member_id: bool,
    /// The version of the response can tell the leader to keep the assignment. KIP-814.
    pub can_skip_assignment: bool,
}

/// The answer to a join.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Joined {
    /// `None` when the round is closed and the member in it.
    pub error: ErrorCode,
    /// The generation of this round.
    pub generation: GenerationId,
    /// What kind of members.
    pub protocol_type: Option<Arc<str>>,
    /// The protocol chosen.
    pub protocol: Option<Arc<str>>,
    /// The leader's member id.
    pub leader: Arc<str>,
    /// The member's own id.
    pub member_id: Arc<str>,
    /// True: the leader must not assign, the assignment stands. KIP-814.
    pub skip_assignment: bool,
    /// For the leader: every member's id, static id and subscription. Else empty.
    pub members: Vec<(Arc<str>, Option<Arc<str>>, Bytes)>,
}

/// A request for one's assignment.
#[derive(Clone, Debug)]
pub struct Sync {
    /// Who asks.
    pub member: Membership,
    /// If told, must be the group's. KIP-559.
    pub protocol_type: Option<Arc<str>>,
    /// If told, must be the chosen one. KIP-559.
    pub protocol: Option<Arc<str>>,
    /// From the leader: what each member gets.
    pub assignments: Vec<(Arc<str>, Bytes)>,
}

/// The answer to a sync.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Synced {
    /// `None` when there is an assignment.
    pub error: ErrorCode,
    /// What kind of members.
    pub protocol_type: Option<Arc<str>>,
    /// The protocol chosen.
    pub protocol: Option<Arc<str>>,
    /// The member's part; may be empty.
    pub assignment: Bytes,
}

/// A request to leave, for one member or, by static id, several.
#[derive(Clone, Debug)]
pub struct Leave {
    /// The group.
    pub group: Arc<str>,
    /// Member id (may be empty where the static id says enough) and static id.
    pub members: Vec<(Arc<str>, Option<Arc<str>>)>,
}

/// A request to remember offsets.
#[derive(Clone, Debug)]
pub struct Commit {
    /// Who commits; without member id and with generation -1 for tools and simple consumers.
    pub member: Membership,
    /// Set for offsets that belong to a transaction: they count from its commit on.
    pub producer: Option<(ProducerId, ProducerEpoch)>,
    /// Set where that transaction was verified rather than joined: no marker may have come since.
    pub guard: Option<VerificationGuard>,
    /// The version of the request may carry a member's epoch. KIP-848.
    pub speaks_epochs: bool,
    /// The offsets.
    pub offsets: Vec<(TopicPartition, Committed)>,
}

/// A question for offsets.
#[derive(Clone, Debug)]
pub struct Fetch {
    /// The group.
    pub group: Arc<str>,
    /// Who asks, if it tells: a member of a consumer group and its epoch.
    pub member: Option<(Arc<str>, Epoch)>,
    /// Of which partitions; `None`: of all that have any.
    pub partitions: Option<Vec<TopicPartition>>,
    /// Refuse, as retriable, where an open transaction may yet change the answer. KIP-447.
    pub require_stable: bool,
}

/// What is known of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// `GroupIdNotFound` when there is none.
    pub error: ErrorCode,
    /// The state's name, as Kafka spells it.
    pub state: &'static str,
    /// What kind of members.
    pub protocol_type: Arc<str>,
    /// The protocol chosen; empty outside of a generation.
    pub protocol: Arc<str>,
    /// The members.
    pub members: Vec<DescribedMember>,
}

impl Description {
    /// What is told of a group that cannot be described.
    #[must_use]
    pub fn refused(error: ErrorCode) -> Self {
        Self {
            error,
            state: "Dead",
            protocol_type: "".into(),
            protocol: "".into(),
            members: Vec::new(),
        }
    }
}

/// A member, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedMember {
    /// Its member id.
    pub member_id: Arc<str>,
    /// Its static id.
    pub instance_id: Option<Arc<str>>,
    /// Its client id.
    pub client_id: Arc<str>,
    /// Where it connected from.
    pub client_host: Arc<str>,
    /// What it told of itself for the chosen protocol.
    pub subscription: Bytes,
    /// What it owns.
    pub assignment: Bytes,
}

/// A group in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// Its name.
    pub group: Arc<str>,
    /// What kind of members.
    pub protocol_type: Arc<str>,
    /// The state's name, as Kafka spells it.
    pub state: &'static str,
    /// Which protocol it speaks.
    pub kind: GroupType,
}

/// Which protocol a group speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupType {
    /// Rounds: members join, a leader assigns.
    Classic,
    /// KIP-848: the coordinator assigns.
    Consumer,
}

impl GroupType {
    /// The name, as Kafka spells it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::Consumer => "consumer",
        }
    }
}
