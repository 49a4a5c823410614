//! The shard's offsets: committed, asked for, deleted, and expired.
//!
//! Who may commit is for the group to say; what was committed changes by replay alone.
//!
//! Pure.

use std::sync::Arc;

use protocol::error_code::ErrorCode;
use protocol::ids::TopicPartition;
use protocol::time::{Now, Timestamp};

use super::{Group, GroupShard};
use crate::coordinator::{KeyValue, Outcome, Records, Release, Token};
use crate::group::modern::{ConsumerGroup, Epoch};
use crate::group::record::{Committed, group_record, offset_record};
use crate::group::{Commit, Fetch, Reply};

impl GroupShard {
    pub(super) fn commit(&mut self, now: Now, token: Token, commit: Commit) -> Outcome<Self> {
        let group = &commit.member.group;
        let is_transactional = commit.producer.is_some();
        let all = |code| vec![code; commit.offsets.len()];
        if let Err(code) = self.may_commit(now, &commit) {
            return Outcome::reply(token, Reply::Committed(all(code)));
        }
        if !self.share.has_room(self.offsets.added(group, &commit.offsets, is_transactional)) {
            return Outcome::reply(
                token,
                Reply::Committed(all(ErrorCode::CoordinatorNotAvailable)),
            );
        }
        let judge = |committed: &Committed| {
            if self.limits.metadata_bytes_max < committed.metadata.len() {
                ErrorCode::OffsetMetadataTooLarge
            } else {
                ErrorCode::None
            }
        };
        let codes: Vec<_> = commit.offsets.iter().map(|(_, it)| judge(it)).collect();
        let fit = commit.offsets.iter().zip(&codes).filter(|(_, code)| code.is_ok());
        let entries = fit.map(|((at, it), _)| offset_record(group, at, Some(it))).collect();
        let records = Some(Records { entries, producer: commit.producer, guard: commit.guard });
        Outcome { records, releases: vec![Release::Reply(token, Reply::Committed(codes))] }
    }

    fn may_commit(&mut self, now: Now, commit: &Commit) -> Result<(), ErrorCode> {
        let member = &commit.member;
        let is_transactional = commit.producer.is_some();
        if member.group.is_empty() && is_transactional {
            return Err(ErrorCode::InvalidGroupId);
        }
        let is_full = self.limits.groups_max <= self.groups.len();
        match self.groups.get_mut(&member.group) {
            Some(Group::Classic(group)) => group.may_commit(now, member, is_transactional),
            Some(Group::Consumer(modern)) => may_commit_epoch(&modern.group, commit),
            // Whose offsets are kept is a group, in which this member is not.
            None if 0 <= member.generation.0
                && self.offsets.has(&member.group)
                && !is_transactional =>
            {
                Err(ErrorCode::UnknownMemberId)
            }
            None if 0 <= member.generation.0 && commit.speaks_epochs && !is_transactional => {
                Err(ErrorCode::GroupIdNotFound)
            }
            None if 0 <= member.generation.0 => Err(ErrorCode::IllegalGeneration),
            None if is_full => Err(ErrorCode::CoordinatorNotAvailable),
            None => Ok(()),
        }
    }

    pub(super) fn fetch(&self, fetch: &Fetch) -> Reply {
        let group = &fetch.group;
        if let (Some(Group::Consumer(modern)), Some((id, epoch))) =
            (self.groups.get(group), &fetch.member)
            && let Err(code) = modern.group.known(id, *epoch)
        {
            return Reply::Fetched(Err(code));
        }
        let asked: Vec<TopicPartition> = match &fetch.partitions {
            Some(partitions) => partitions.clone(),
            // One that has nothing but a pending offset is unstable, not without any. KIP-447.
            None if fetch.require_stable => self.offsets.partitions(group).into_iter().collect(),
            None => self.offsets.all(group).map(|(at, _)| at.clone()).collect(),
        };
        let answer = |at: TopicPartition| {
            let unstable = fetch.require_stable && self.offsets.is_unstable(group, &at);
            let committed = self.offsets.committed(group, &at).cloned();
            let found = if unstable { Err(ErrorCode::UnstableOffsetCommit) } else { Ok(committed) };
            (at, found)
        };
        Reply::Fetched(Ok(asked.into_iter().map(answer).collect()))
    }

    /// Forgets a group without members, and its offsets. KIP-229.
    pub(super) fn delete(&self, token: Token, group: &Arc<str>) -> Outcome<Self> {
        let refuse = |code| Outcome::reply(token, Reply::Deleted(code));
        let mut entries = self.offset_tombstones(group, self.offsets.partitions(group));
        match self.groups.get(group) {
            Some(Group::Classic(found)) if found.empty_since().is_none() => {
                return refuse(ErrorCode::NonEmptyGroup);
            }
            Some(Group::Consumer(found)) if !found.group.is_empty() => {
                return refuse(ErrorCode::NonEmptyGroup);
            }
            None if !self.offsets.has(group) => return refuse(ErrorCode::GroupIdNotFound),
            Some(found) => entries.extend(found.tombstones(group)),
            None => entries.push(group_record(group, None)),
        }
        Outcome::write(entries, token, Reply::Deleted(ErrorCode::None))
    }

    fn offset_tombstones(
        &self,
        group: &Arc<str>,
        partitions: impl IntoIterator<Item = TopicPartition>,
    ) -> Vec<KeyValue> {
        partitions.into_iter().map(|at| offset_record(group, &at, None)).collect()
    }

    /// Forgets offsets of topics that nobody in the group subscribes to. KIP-496.
    pub(super) fn delete_offsets(
        &self,
        token: Token,
        group: &Arc<str>,
        partitions: &[TopicPartition],
    ) -> Outcome<Self> {
        let refuse = |code| Outcome::reply(token, Reply::DeletedOffsets(Err(code)));
        if group.is_empty() {
            return refuse(ErrorCode::InvalidGroupId);
        }
        let found = self.groups.get(group);
        match found {
            Some(Group::Classic(classic)) if !classic.is_empty_or_of_consumers() => {
                return refuse(ErrorCode::NonEmptyGroup);
            }
            None if !self.offsets.has(group) => return refuse(ErrorCode::GroupIdNotFound),
            Some(_) | None => {}
        }
        let judge = |at: &TopicPartition| {
            if found.is_some_and(|it| it.is_subscribed(&at.topic)) {
                ErrorCode::GroupSubscribedToTopic
            } else {
                ErrorCode::None
            }
        };
        let codes: Vec<_> = partitions.iter().map(judge).collect();
        let held = self.offsets.partitions(group);
        let free =
            partitions.iter().zip(&codes).filter(|(at, code)| code.is_ok() && held.contains(at));
        let entries = self.offset_tombstones(group, free.map(|(at, _)| at.clone()));
        Outcome::write(entries, token, Reply::DeletedOffsets(Ok(codes)))
    }

    /// Topics were deleted: a topic of the same name that comes later must not be read from where
    /// its forerunner was left.
    pub(super) fn forget_topics(&self, deleted: impl Fn(&str) -> bool) -> Outcome<Self> {
        let gone = self.offsets.of_topics(deleted);
        let entries = gone.iter().map(|(group, at)| offset_record(group, at, None)).collect();
        Outcome { records: Some(Records::own(entries)), releases: Vec::new() }
    }

    /// Deletes what a group committed long ago and no longer needs, and groups that are empty.
    /// KIP-211.
    pub(super) fn expire(&self, now: Now, outcomes: &mut Vec<Outcome<Self>>) {
        let retention = i64::try_from(self.limits.retention.as_millis()).unwrap_or(i64::MAX);
        let before = Timestamp(now.wall.0.saturating_sub(retention));
        let mut entries = Vec::new();
        for group in self.offsets.groups() {
            let found = self.groups.get(group);
            let rests = match found.map(Group::empty_since) {
                None | Some(None) => true,
                Some(Some(since)) => since < before,
            };
            // Of a group with members, those of topics that nobody reads any longer.
            let is_in_use = |at: &TopicPartition| {
                found.is_some_and(|it| it.empty_since().is_none() && it.is_subscribed(&at.topic))
            };
            if rests {
                let old = self.offsets.older_than(group, before).into_iter();
                entries.extend(self.offset_tombstones(group, old.filter(|at| !is_in_use(at))));
            }
        }
        for (group, found) in &self.groups {
            if found.empty_since().is_some() && !self.offsets.has(group) {
                entries.extend(found.tombstones(group));
            }
        }
        if !entries.is_empty() {
            let records = Some(Records::own(entries));
            outcomes.push(Outcome { records, releases: Vec::new() });
        }
    }
}

/// Whether a commit may change the offsets of a consumer group.
fn may_commit_epoch(group: &ConsumerGroup, commit: &Commit) -> Result<(), ErrorCode> {
    let member = &commit.member;
    let tells_nobody =
        member.member_id.is_empty() && member.generation.0 < 0 && member.instance_id.is_none();
    let is_transactional = commit.producer.is_some();
    // Tools, while nobody is in the group; transactions of clients that tell no membership.
    if (member.generation.0 < 0 && group.is_empty()) || (is_transactional && tells_nobody) {
        return Ok(());
    }
    let (_, subscriber) = group.member(&member.member_id).ok_or(ErrorCode::UnknownMemberId)?;
    if !is_transactional && !commit.speaks_epochs && subscriber.classic.is_none() {
        return Err(ErrorCode::UnsupportedVersion);
    }
    let known = group.known(&member.member_id, Epoch(member.generation.0));
    // Producers know no epochs of members.
    known.map_err(|code| match code {
        ErrorCode::StaleMemberEpoch if is_transactional => ErrorCode::IllegalGeneration,
        other => other,
    })
}
