//! The shard's groups in which, for a while, both protocols are spoken. KIP-848.
//!
//! Pure.

use std::sync::Arc;

use protocol::error_code::ErrorCode;
use protocol::ids::{GenerationId, TopicId};
use protocol::time::Now;

use super::{Group, GroupShard};
use crate::config::GroupMigration;
use crate::coordinator::{KeyValue, Outcome, Records, Release, Token};
use crate::group::beat::{Beat, BeatError, Beaten, ConsumerSettings};
use crate::group::heartbeat::Draft;
use crate::group::member::Out;
use crate::group::modern::{ConsumerGroup, Epoch, Modern};
use crate::group::record::group_record;
use crate::group::{Join, Joined, Leave, Membership, Reply, Sync, Synced};
use crate::metadata::Image;

impl GroupShard {
    /// A classic member joins a consumer group that has members.
    pub(super) fn join_consumers(&mut self, now: Now, token: Token, join: Join) -> Outcome<Self> {
        let prefix = join.instance_id.as_ref().unwrap_or(&join.client_id);
        let given: Arc<str> = format!("{prefix}-{}", TopicId(self.ids.next_id())).into();
        let settings = self.settings(&join.group).into_owned();
        let Some(Group::Consumer(modern)) = self.groups.get_mut(&join.group) else {
            unreachable!("the caller found it");
        };
        let is_behind = modern.is_behind(&self.image);
        let mut draft = Draft::new(&join.group, &modern.group, &self.image, now.wall);
        let joined = draft.classic_join(&settings, &join, &given, is_behind);
        let entries = draft.entries;
        match joined {
            Ok(joined) => {
                modern.seen = Some(Arc::clone(&self.image));
                // It has a while to sync.
                let due =
                    Some((Epoch(joined.generation.0), now.monotonic + join.rebalance_timeout));
                modern.is_heard(now, &joined.member_id, Some(due));
                Outcome::write(entries, token, Reply::Joined(Box::new(joined)))
            }
            Err(error) => {
                let is_to_come_again = error == ErrorCode::MemberIdRequired;
                let member_id = if is_to_come_again { given } else { join.member_id };
                let generation = GenerationId(-1);
                let joined = Joined { error, generation, member_id, ..Joined::default() };
                Outcome::reply(token, Reply::Joined(Box::new(joined)))
            }
        }
    }

    /// A classic member of a consumer group asks what it may read.
    pub(super) fn sync_consumers(&mut self, now: Now, token: Token, sync: &Sync) -> Outcome<Self> {
        let Some(Group::Consumer(modern)) = self.groups.get_mut(&sync.member.group) else {
            unreachable!("the caller found it");
        };
        let synced = match modern.group.classic_sync(sync, &self.image) {
            Ok(synced) => {
                modern.is_heard(now, &sync.member.member_id, Some(None));
                synced
            }
            Err(error) => {
                if error == ErrorCode::RebalanceInProgress {
                    modern.must_rejoin(now, &sync.member.member_id);
                }
                Synced { error, ..Synced::default() }
            }
        };
        Outcome::reply(token, Reply::Synced(synced))
    }

    /// A classic member of a consumer group lives.
    pub(super) fn heartbeat_of_classic(
        now: Now,
        modern: &mut Modern,
        from: &Membership,
    ) -> ErrorCode {
        let told = modern.group.classic_heartbeat(from);
        if matches!(told, Ok(()) | Err(ErrorCode::RebalanceInProgress)) {
            modern.is_heard(now, &from.member_id, None);
        }
        if told == Err(ErrorCode::RebalanceInProgress) {
            modern.must_rejoin(now, &from.member_id);
        }
        told.err().unwrap_or_default()
    }

    /// Classic members leave a consumer group.
    pub(super) fn leave_consumers(
        &mut self,
        now: Now,
        token: Token,
        leave: &Leave,
    ) -> Outcome<Self> {
        let Some(Group::Consumer(modern)) = self.groups.get(&leave.group) else {
            unreachable!("the caller found it");
        };
        let leavers = modern.group.classic_leavers(&leave.members);
        let codes = leavers.iter().map(|it| it.as_ref().err().copied().unwrap_or_default());
        let reply = Reply::Left(codes.collect());
        let gone: std::collections::BTreeSet<_> = leavers.into_iter().flatten().collect();
        if gone.is_empty() {
            return Outcome::reply(token, reply);
        }
        let mut draft = Draft::new(&leave.group, &modern.group, &self.image, now.wall);
        draft.remove(gone);
        let entries = after_removal(draft, &leave.group, &self.limits.consumer, &self.image);
        Outcome::write(entries, token, reply)
    }

    /// The first member of the consumer protocol joins a classic group that has members: if they
    /// are consumers, they become members of a consumer group and learn of it as they go on.
    pub(super) fn upgrade(
        &mut self,
        now: Now,
        token: Token,
        beat: &Beat,
    ) -> Result<Outcome<Self>, BeatError> {
        let other = || BeatError::OtherProtocol(Arc::clone(&beat.group));
        let settings = self.settings(&beat.group).into_owned();
        let allowed =
            matches!(settings.migration, GroupMigration::Bidirectional | GroupMigration::Upgrade);
        let Some(Group::Classic(group)) = self.groups.get_mut(&beat.group) else {
            return Err(other());
        };
        let moving = group.moving(&self.image).filter(|_| allowed).ok_or_else(other)?;
        let fresh = ConsumerGroup::default();
        let mut draft = Draft::new(&beat.group, &fresh, &self.image, now.wall);
        draft.entries.push(group_record(&beat.group, None));
        draft.move_in(group.generation(), moving);
        let beaten: Beaten = draft.beat(&settings, beat, true)?;
        tracing::info!(group = %beat.group, "classic group becomes a consumer group");
        let entries = draft.entries;
        let mut out = Out::default();
        group.dissolve(&mut out);
        let reply = |(token, reply)| Release::Reply(token, reply);
        let mut releases: Vec<_> = out.replies.into_iter().map(reply).collect();
        releases.push(Release::Reply(token, Reply::ConsumerHeartbeat(Ok(beaten))));
        Ok(Outcome { records: Some(Records::own(entries)), releases })
    }
}

/// What is written once members were removed: when only classic members are left, the group is
/// theirs again.
pub(super) fn after_removal(
    draft: Draft<'_>,
    name: &Arc<str>,
    settings: &ConsumerSettings,
    image: &Image,
) -> Vec<KeyValue> {
    let allowed =
        matches!(settings.migration, GroupMigration::Bidirectional | GroupMigration::Downgrade);
    let downgraded = draft.group.downgraded(image).filter(|_| allowed);
    let mut entries = draft.entries;
    if let Some(metadata) = downgraded {
        tracing::info!(group = %name, "consumer group becomes a classic group");
        entries.extend(draft.group.tombstones().iter().map(|it| it.record(name)));
        entries.push(group_record(name, Some(&metadata)));
    }
    entries
}
