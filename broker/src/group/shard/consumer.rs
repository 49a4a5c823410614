//! The shard's consumer groups: what members say, and whose time is up. KIP-848.
//!
//! Groups change by replay alone; a heartbeat that the log refuses has changed nothing but the time
//! at which its member is given up.
//!
//! Pure.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use protocol::error_code::ErrorCode;
use protocol::ids::TopicId;
use protocol::time::{Now, Timestamp};

use super::mixed::after_removal;
use super::{Group, GroupShard};
use crate::coordinator::{KeyValue, Outcome, Records, Token};
use crate::group::beat::{Beat, BeatError, Beaten, ConsumerSettings, Intent};
use crate::group::consumer_record::Change;
use crate::group::heartbeat::Draft;
use crate::group::modern::{ConsumerGroup, Modern};
use crate::group::record::group_record;
use crate::group::{ConsumerDescription, Reply};
use crate::metadata::Resource;

/// How long to wait before a removal that the log refused is tried again.
const REMOVAL_RETRY: Duration = Duration::from_secs(1);

impl GroupShard {
    pub(super) fn consumer_heartbeat(
        &mut self,
        now: Now,
        token: Token,
        mut beat: Beat,
    ) -> Outcome<Self> {
        if beat.member_id.is_empty() {
            beat.member_id = TopicId(self.ids.next_id()).to_string().into();
        }
        let has_members =
            |it: &Group| matches!(it, Group::Classic(it) if it.empty_since().is_none());
        let is_first =
            beat.intent == Intent::Join && self.groups.get(&beat.group).is_some_and(has_members);
        let done = if is_first {
            self.upgrade(now, token, &beat)
        } else {
            self.beat(now, &beat).map(|(entries, beaten)| {
                Outcome::write(entries, token, Reply::ConsumerHeartbeat(Ok(beaten)))
            })
        };
        let refused = |error| Outcome::reply(token, Reply::ConsumerHeartbeat(Err(error)));
        done.unwrap_or_else(refused)
    }

    fn beat(&mut self, now: Now, beat: &Beat) -> Result<(Vec<KeyValue>, Beaten), BeatError> {
        let unknown = || BeatError::UnknownMember {
            group: Arc::clone(&beat.group),
            member: Arc::clone(&beat.member_id),
        };
        match self.groups.get(&beat.group) {
            Some(Group::Consumer(_)) => self.beat_of_group(now, beat),
            Some(Group::Classic(_)) | None if beat.intent != Intent::Join => Err(unknown()),
            Some(Group::Classic(_)) => {
                let mut entries = vec![group_record(&beat.group, None)];
                let (joined, beaten) = self.first_beat(now, beat)?;
                entries.extend(joined);
                Ok((entries, beaten))
            }
            None if self.limits.groups_max <= self.groups.len() => {
                Err(BeatError::TooManyGroups(Arc::clone(&beat.group)))
            }
            None if !self.share.has_room(beat.bytes()) => {
                Err(BeatError::NoMemory(Arc::clone(&beat.group)))
            }
            None => self.first_beat(now, beat),
        }
    }

    /// What bounds the consumer group of this name.
    pub(super) fn settings(&self, group: &Arc<str>) -> Cow<'_, ConsumerSettings> {
        let by_default = &self.limits.consumer;
        if self.image.configs(&Resource::Group(Arc::clone(group))).next().is_none() {
            return Cow::Borrowed(by_default);
        }
        let own = self.image.group_config(&self.limits.broker, group);
        Cow::Owned(ConsumerSettings {
            session_timeout: own.consumer_session_timeout,
            heartbeat_interval: own.consumer_heartbeat_interval,
            ..by_default.clone()
        })
    }

    /// The first member of a group that is not there yet.
    fn first_beat(&self, now: Now, beat: &Beat) -> Result<(Vec<KeyValue>, Beaten), BeatError> {
        let fresh = ConsumerGroup::default();
        let mut draft = Draft::new(&beat.group, &fresh, &self.image, now.wall);
        let beaten = draft.beat(&self.settings(&beat.group), beat, true)?;
        Ok((draft.entries, beaten))
    }

    fn beat_of_group(
        &mut self,
        now: Now,
        beat: &Beat,
    ) -> Result<(Vec<KeyValue>, Beaten), BeatError> {
        let settings = self.settings(&beat.group).into_owned();
        let tells = match beat.intent {
            Intent::Join => true,
            Intent::Stay(_) => beat.topics.is_some() || beat.pattern.is_some(),
            Intent::Leave | Intent::LeaveForNow => false,
        };
        let bytes = beat.member_id.len() + beat.bytes();
        let is_full = tells && !self.share.has_room(bytes);
        let Some(Group::Consumer(modern)) = self.groups.get_mut(&beat.group) else {
            unreachable!("the caller found it");
        };
        let before = || modern.group.bytes_before(&beat.member_id, beat.instance_id.as_ref());
        if is_full && before() < bytes {
            return Err(BeatError::NoMemory(Arc::clone(&beat.group)));
        }
        let is_behind = modern.is_behind(&self.image);
        let mut draft = Draft::new(&beat.group, &modern.group, &self.image, now.wall);
        draft.behind = modern.behind.clone();
        let beaten = match beat.intent {
            Intent::Leave | Intent::LeaveForNow => draft.leave(&settings, beat)?,
            Intent::Join | Intent::Stay(_) => draft.beat(&settings, beat, is_behind)?,
        };
        let entries = match beat.intent {
            Intent::Leave => after_removal(draft, &beat.group, &settings, &self.image),
            Intent::LeaveForNow => draft.entries,
            Intent::Join | Intent::Stay(_) => {
                modern.seen = Some(Arc::clone(&self.image));
                modern.behind = draft.behind;
                draft.entries
            }
        };
        if let Some(timers) = modern.timers.get_mut(&beat.member_id) {
            timers.session = now.monotonic + settings.session_timeout;
        }
        Ok((entries, beaten))
    }

    /// Takes in a part of a consumer group; the log decides, whatever stood here before.
    pub(super) fn replay_consumer(
        &mut self,
        now: Now,
        at: Timestamp,
        group: &Arc<str>,
        change: &Change,
    ) {
        let is_tombstone = matches!(
            change,
            Change::Epoch(None)
                | Change::Member(_, None)
                | Change::TargetEpoch(None)
                | Change::Target(_, None)
                | Change::Current(_, None)
                | Change::Pattern(_, None)
        );
        let session_timeout = self.settings(group).session_timeout;
        match self.groups.get(group) {
            Some(Group::Consumer(_)) if *change == Change::Epoch(None) => {
                self.groups.remove(group);
                self.share.set(group, 0);
                return;
            }
            Some(Group::Consumer(_)) => {}
            Some(Group::Classic(_)) | None if is_tombstone => return,
            Some(Group::Classic(_)) | None => {
                let fresh = Box::<Modern>::default();
                self.share.set(group, fresh.group.bytes());
                self.groups.insert(Arc::clone(group), Group::Consumer(fresh));
            }
        }
        let Some(Group::Consumer(modern)) = self.groups.get_mut(group) else {
            unreachable!("inserted when it was missing");
        };
        if let Change::Member(id, subscriber) = change {
            let before = modern.group.bytes_of(id);
            let after = subscriber.as_ref().map_or(0, |it| id.len() + it.bytes());
            self.share.set(group, self.share.of(group) - before + after);
        }
        modern.group.apply(change, at);
        if !self.is_loading {
            modern.touch(now, change, session_timeout);
        }
    }

    /// Removes those of a consumer group whose time is up.
    pub(super) fn give_up(&mut self, now: Now, group: &Arc<str>) -> Outcome<Self> {
        let Some(Group::Consumer(modern)) = self.groups.get_mut(group) else {
            return Outcome::nothing();
        };
        let overdue = modern.overdue(now);
        if overdue.is_empty() {
            return Outcome::nothing();
        }
        // Should the log refuse it, it is tried again, and not at once.
        modern.postpone(&overdue, now.monotonic + REMOVAL_RETRY);
        tracing::info!(%group, members = overdue.len(), "members fell silent");
        let mut draft = Draft::new(group, &modern.group, &self.image, now.wall);
        draft.remove(overdue);
        let entries = after_removal(draft, group, &self.limits.consumer, &self.image);
        let records = Some(Records::own(entries));
        Outcome { records, releases: Vec::new() }
    }

    pub(super) fn describe_consumer(
        &self,
        group: &Arc<str>,
    ) -> Result<Box<ConsumerDescription>, ErrorCode> {
        match self.groups.get(group) {
            Some(Group::Consumer(modern)) => {
                let settings = self.settings(group);
                Ok(Box::new(modern.group.describe(&settings, &self.image)))
            }
            Some(Group::Classic(_)) | None => Err(ErrorCode::GroupIdNotFound),
        }
    }
}

impl Modern {
    /// A change was written: timers follow.
    fn touch(&mut self, now: Now, change: &Change, session_timeout: Duration) {
        match change {
            Change::Member(id, Some(subscriber)) => {
                let session =
                    subscriber.classic.as_ref().map_or(session_timeout, |it| it.session_timeout);
                let timers = self.timers.entry(Arc::clone(id)).or_default();
                timers.session = timers.session.max(now.monotonic + session);
            }
            Change::Member(id, None) => {
                self.timers.remove(id);
            }
            Change::Current(id, Some(_)) => self.time_revocation(now, id),
            Change::Current(_, None)
            | Change::Epoch(_)
            | Change::TargetEpoch(_)
            | Change::Target(..)
            | Change::Pattern(..) => {}
        }
    }
}

#[cfg(test)]
impl GroupShard {
    /// The consumer group of this name, if it is one.
    pub(in crate::group) fn consumer_group(&self, name: &str) -> Option<&ConsumerGroup> {
        match self.groups.get(name) {
            Some(Group::Consumer(modern)) => Some(&modern.group),
            Some(Group::Classic(_)) | None => None,
        }
    }
}
