//! What a heartbeat of KIP-848 does to its group.
//!
//! A [`Draft`] looks at the group, writes changes and sees them at once; nothing else sees them
//! until the log has taken them. A heartbeat that changes nothing copies nothing. The order is
//! Kafka's: the member, the group's epoch, the target, where the member stands.
//!
//! A member may always join again with epoch 0: it says thereby that it owns nothing. An epoch that
//! is not the member's fences it, except the one before when it owns no more than it should: then
//! the answer was lost on its way.
//!
//! An expression is looked up by the members that subscribe to it, each when it is heard of, and
//! matches only topics of which that member may know. Of several with the same expression, each
//! takes out what it may not know, so that all are left with what all may know.
//!
//! Pure.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use protocol::ids::TopicId;
use protocol::time::Timestamp;

use super::assignor::{Assignment, Assignor, Candidate};
use super::beat::{Beat, BeatError, Beaten, ConsumerSettings, Intent, Sight};
use super::consumer_record::Change;
use super::modern::{ConsumerGroup, Current, Epoch, MemberState, Resolved, Subscriber, slots};
use super::reconcile::{Target, has, step};
use super::subscription;
use crate::coordinator::KeyValue;
use crate::metadata::Image;

/// What a heartbeat, or whatever else happens to a group, wants written.
#[derive(Debug)]
pub struct Draft<'a> {
    name: &'a Arc<str>,
    pub(super) group: Cow<'a, ConsumerGroup>,
    at: Timestamp,
    pub(super) image: &'a Image,
    pub(super) entries: Vec<KeyValue>,
    /// Expressions that were not looked up since the metadata changed.
    pub(super) behind: BTreeSet<Arc<str>>,
}

impl<'a> Draft<'a> {
    /// Nothing is written yet.
    #[must_use]
    pub fn new(
        name: &'a Arc<str>,
        group: &'a ConsumerGroup,
        image: &'a Image,
        at: Timestamp,
    ) -> Self {
        let (entries, behind) = (Vec::new(), BTreeSet::new());
        Self { name, group: Cow::Borrowed(group), at, image, entries, behind }
    }

    /// Writes `change`: from here on the draft sees it.
    pub fn write(&mut self, change: &Change) {
        self.entries.push(change.record(self.name));
        self.group.to_mut().apply(change, self.at);
    }

    /// A member joins or stays. `topics_changed`: the metadata are not those that the group knows.
    ///
    /// # Errors
    /// Why it is refused; what was written must then be dropped.
    pub fn beat(
        &mut self,
        settings: &ConsumerSettings,
        beat: &Beat,
        topics_changed: bool,
    ) -> Result<Beaten, BeatError> {
        if let Some(assignor) = &beat.assignor
            && !settings.assignors.iter().any(|it| it.name() == &**assignor)
        {
            let offered: Vec<_> = settings.assignors.iter().map(|it| it.name()).collect();
            let (assignor, offered) = (Arc::clone(assignor), offered.join(", "));
            return Err(BeatError::UnsupportedAssignor { assignor, offered });
        }
        self.admit(settings, beat)?;
        let before = self.group.member(&beat.member_id).map(|(_, it)| Arc::clone(it));
        let after = subscriber(beat, before.as_deref());
        self.update(settings, &beat.member_id, before, after, topics_changed, &beat.sight)?;
        let owned = match beat.intent {
            Intent::Join => Some(&const { Assignment::new() }),
            Intent::Stay(_) | Intent::Leave | Intent::LeaveForNow => beat.owned.as_ref(),
        };
        let before = Arc::clone(&self.group.members[&beat.member_id].current);
        let current = self.reconcile(&beat.member_id, owned)?;
        let missed_the_answer = matches!(beat.intent, Intent::Stay(told) if told != before.epoch);
        let tells_all = beat.intent == Intent::Join
            || missed_the_answer
            || (beat.owned.is_some()
                && beat.rebalance_timeout.is_some()
                && (beat.topics.is_some() || beat.pattern.is_some()));
        let assignment = tells_all || current.assigned != before.assigned;
        Ok(Beaten {
            member_id: Arc::clone(&beat.member_id),
            epoch: current.epoch,
            interval: settings.heartbeat_interval,
            assignment: assignment.then(|| current.assigned.clone()),
        })
    }

    /// Is the member the one it says it is, and may it come in?
    fn admit(&mut self, settings: &ConsumerSettings, beat: &Beat) -> Result<(), BeatError> {
        let holder = beat.instance_id.as_ref().and_then(|it| self.group.instances.get(it)).cloned();
        match (beat.intent, holder) {
            (Intent::Join, Some(holder)) if holder != beat.member_id => self.replace(beat, &holder),
            (Intent::Join, _) => {
                let is_full = settings.members_max <= self.group.subscribers().count();
                if is_full && self.group.member(&beat.member_id).is_none() {
                    let (group, max) = (Arc::clone(self.name), settings.members_max);
                    return Err(BeatError::Full { group, max });
                }
                Ok(())
            }
            (_, Some(holder)) if holder != beat.member_id => {
                Err(self.fenced_instance(beat, holder))
            }
            (_, None) if beat.instance_id.is_some() => Err(self.unknown(&beat.member_id)),
            (Intent::Stay(told), _) => {
                let (member, _) = self
                    .group
                    .member(&beat.member_id)
                    .ok_or_else(|| self.unknown(&beat.member_id))?;
                may_stay(&member.current, told, beat.owned.as_ref()).map_err(|()| {
                    let (group, expected) = (Arc::clone(self.name), member.current.epoch);
                    let member = Arc::clone(&beat.member_id);
                    BeatError::FencedEpoch { group, member, expected, told }
                })
            }
            (Intent::Leave | Intent::LeaveForNow, _) => {
                let known = self.group.member(&beat.member_id).map(|_| ());
                known.ok_or_else(|| self.unknown(&beat.member_id))
            }
        }
    }

    fn unknown(&self, member: &Arc<str>) -> BeatError {
        BeatError::UnknownMember { group: Arc::clone(self.name), member: Arc::clone(member) }
    }

    fn fenced_instance(&self, beat: &Beat, holder: Arc<str>) -> BeatError {
        let instance = beat.instance_id.clone().unwrap_or_default();
        BeatError::FencedInstance { group: Arc::clone(self.name), instance, holder }
    }

    /// A static member is back under a new member id: it takes the place of the one that left for
    /// now, target and all, so that nobody else notices.
    fn replace(&mut self, beat: &Beat, holder: &Arc<str>) -> Result<(), BeatError> {
        let (member, subscriber) = self.group.member(holder).expect("static ids name members");
        let has_left = member.current.epoch == Epoch::LEAVE_STATIC;
        // A classic member never says that it will be back: whoever comes is its successor.
        if !has_left && subscriber.classic.is_none() {
            let instance = beat.instance_id.clone().unwrap_or_default();
            let (group, holder) = (Arc::clone(self.name), Arc::clone(holder));
            return Err(BeatError::UnreleasedInstance { group, instance, holder });
        }
        let holder = Arc::clone(holder);
        self.take_over(&holder, &beat.member_id, Epoch::JOIN);
        Ok(())
    }

    /// `new` stands from now on, in `epoch`, where `old` stood.
    pub(super) fn take_over(&mut self, old: &Arc<str>, new: &Arc<str>, epoch: Epoch) {
        let (member, subscriber) = self.group.member(old).expect("the caller found it");
        let (target, subscriber) = (Arc::clone(&member.target), Arc::clone(subscriber));
        let assigned = member.current.assigned.clone();
        let current =
            Current { epoch, previous_epoch: Epoch::JOIN, assigned, ..Current::default() };
        self.forget(old);
        self.write(&Change::Member(Arc::clone(new), Some(subscriber)));
        self.write(&Change::Target(Arc::clone(new), Some(target)));
        self.write(&Change::Current(Arc::clone(new), Some(Arc::new(current))));
    }

    fn forget(&mut self, member: &Arc<str>) {
        self.write(&Change::Current(Arc::clone(member), None));
        self.write(&Change::Target(Arc::clone(member), None));
        self.write(&Change::Member(Arc::clone(member), None));
    }

    /// Takes in what a member says of itself, and what follows for the group: epoch and target.
    pub(super) fn update(
        &mut self,
        settings: &ConsumerSettings,
        id: &Arc<str>,
        before: Option<Arc<Subscriber>>,
        after: Subscriber,
        topics_changed: bool,
        sight: &Sight,
    ) -> Result<(), BeatError> {
        let is_same = before.as_ref().is_some_and(|it| it.wants_the_same(&after));
        if let Some(pattern) = &after.pattern
            && !self.group.patterns.contains_key(pattern)
        {
            subscription::compile(pattern)?;
        }
        let pattern = after.pattern.clone();
        if before.as_deref() != Some(&after) {
            self.write(&Change::Member(Arc::clone(id), Some(Arc::new(after))));
        }
        let must_look = pattern.as_ref().is_some_and(|it| self.must_look(it, sight));
        if !is_same || topics_changed || must_look {
            self.forget_unused();
            // The same topics may be wanted still, by others.
            let has_moved = must_look && pattern.is_some_and(|it| self.look(it, sight));
            let hash = self.hash();
            if !is_same || has_moved || hash != self.group.hash {
                self.write(&Change::Epoch(Some((self.group.epoch.next(), hash))));
            }
        }
        if self.group.target_epoch < self.group.epoch {
            self.retarget(settings);
        }
        Ok(())
    }

    /// Forgets expressions that nobody subscribes to.
    fn forget_unused(&mut self) {
        let wanted: BTreeSet<Arc<str>> =
            self.group.subscribers().filter_map(|(_, _, it)| it.pattern.clone()).collect();
        let unused = self.group.patterns.keys().filter(|it| !wanted.contains(*it));
        for pattern in unused.cloned().collect::<Vec<_>>() {
            self.write(&Change::Pattern(pattern, None));
        }
    }

    /// True when it is not known what `pattern` matches now, or it is more than may be known.
    fn must_look(&self, pattern: &Arc<str>, sight: &Sight) -> bool {
        let sees = |name: &Arc<str>| sight.sees(self.image, name);
        let known = self.group.patterns.get(pattern);
        self.behind.contains(pattern) || !known.is_some_and(|it| it.topics.iter().all(sees))
    }

    /// Which topics does `pattern` match now, of those that may be known? True when they are others
    /// than before.
    fn look(&mut self, pattern: Arc<str>, sight: &Sight) -> bool {
        let is_behind = self.behind.remove(&pattern);
        let sees = |name: &Arc<str>| sight.sees(self.image, name);
        let known = self.group.patterns.get(&pattern);
        let topics = match known {
            // Nothing comes in again: two that may know different topics would never be done.
            Some(known) if !is_behind => known.topics.clone(),
            // One that another broker took and we do not understand matches nothing.
            Some(_) | None => subscription::compile(&pattern)
                .map(|it| subscription::matching(&it, self.image))
                .unwrap_or_default(),
        };
        let topics: BTreeSet<_> = topics.into_iter().filter(sees).collect();
        let has_moved = known.is_none_or(|it| it.topics != topics);
        if has_moved {
            let resolved = Resolved { topics, version: self.image.end.0, at: self.at };
            self.write(&Change::Pattern(pattern, Some(Arc::new(resolved))));
        }
        has_moved
    }

    fn hash(&self) -> i64 {
        let subscribers = self.group.subscribers();
        let names = subscribers.flat_map(|(_, _, it)| self.group.topics_of(it));
        subscription::hash(&subscription::partitions(names, self.image))
    }

    fn retarget(&mut self, settings: &ConsumerSettings) {
        let group = &self.group;
        let subscribers = || group.subscribers();
        let names = subscribers().flat_map(|(_, _, it)| group.topics_of(it));
        let partitions = subscription::partitions(names, self.image);
        let topics = |it: &Subscriber| -> BTreeSet<TopicId> {
            let known = group.topics_of(it).filter_map(|name| self.image.topic(name));
            known.map(|topic| topic.id).collect()
        };
        let mut candidates = BTreeMap::new();
        for (id, member, subscriber) in subscribers() {
            let (instance_id, before) = (subscriber.instance_id.as_deref(), &*member.target);
            let candidate = Candidate { instance_id, topics: topics(subscriber), before };
            candidates.insert(Arc::clone(id), candidate);
        }
        let target = preferred(group, settings).assign(&candidates, &partitions);
        let changed = |(id, target): (Arc<str>, Assignment)| {
            (*candidates[&id].before != target).then(|| Change::Target(id, Some(Arc::new(target))))
        };
        let changes: Vec<_> = target.into_iter().filter_map(changed).collect();
        // What a partition's old target gives up comes before what its new one takes.
        changes.iter().for_each(|change| self.write(change));
        self.write(&Change::TargetEpoch(Some(self.group.epoch)));
    }

    /// The member takes its next step.
    pub(super) fn reconcile(
        &mut self,
        id: &Arc<str>,
        owned: Option<&Assignment>,
    ) -> Result<Arc<Current>, BeatError> {
        let member = &self.group.members[id];
        let target = Target { epoch: self.group.target_epoch, partitions: &member.target };
        let is_held = |slot: &_| self.group.holders.get(slot).is_some_and(|holder| holder != id);
        let Some(next) = step(&member.current, target, owned, is_held) else {
            let (group, told) = (Arc::clone(self.name), member.current.epoch);
            let member = Arc::clone(id);
            return Err(BeatError::FencedEpoch { group, member, expected: target.epoch, told });
        };
        if next != *member.current {
            self.write(&Change::Current(Arc::clone(id), Some(Arc::new(next))));
        }
        Ok(Arc::clone(&self.group.members[id].current))
    }

    /// A member leaves, for good or for now.
    ///
    /// # Errors
    /// When it is not a member, or not the one that holds its static id.
    pub fn leave(&mut self, settings: &ConsumerSettings, beat: &Beat) -> Result<Beaten, BeatError> {
        self.admit(settings, beat)?;
        let id = &beat.member_id;
        let epoch = if beat.intent == Intent::LeaveForNow {
            let current = &self.group.members[id].current;
            let left = Current {
                epoch: Epoch::LEAVE_STATIC,
                previous_epoch: current.epoch,
                state: MemberState::Stable,
                assigned: current.assigned.clone(),
                revoking: Assignment::new(),
            };
            self.write(&Change::Current(Arc::clone(id), Some(Arc::new(left))));
            Epoch::LEAVE_STATIC
        } else {
            self.remove([Arc::clone(id)]);
            Epoch::LEAVE
        };
        Ok(Beaten {
            member_id: Arc::clone(id),
            epoch,
            interval: settings.heartbeat_interval,
            assignment: None,
        })
    }

    /// Takes members out: the group's epoch rises, and what they held is free.
    pub fn remove(&mut self, members: impl IntoIterator<Item = Arc<str>>) {
        for id in members {
            self.forget(&id);
        }
        self.forget_unused();
        self.write(&Change::Epoch(Some((self.group.epoch.next(), self.hash()))));
    }
}

/// The assignor that most members prefer; without any preference, the first.
pub(super) fn preferred(group: &ConsumerGroup, settings: &ConsumerSettings) -> Assignor {
    let votes = |assignor: &Assignor| {
        let name = Some(assignor.name());
        group.subscribers().filter(|(_, _, it)| it.assignor.as_deref() == name).count()
    };
    let first = settings.assignors.first().copied();
    // Of equals the first: `max_by_key` would take the last.
    let most = settings.assignors.iter().rev().max_by_key(|it| votes(it));
    most.copied().or(first).expect("the settings name an assignor")
}

fn subscriber(beat: &Beat, before: Option<&Subscriber>) -> Subscriber {
    let kept = |told: &Option<Arc<str>>, old: Option<&Option<Arc<str>>>| {
        told.clone().or_else(|| old.cloned().flatten())
    };
    let pattern = kept(&beat.pattern, before.map(|it| &it.pattern));
    let topics = || before.map(|it| it.topics.clone()).unwrap_or_default();
    let timeout = || before.map(|it| it.rebalance_timeout).unwrap_or_default();
    Subscriber {
        instance_id: kept(&beat.instance_id, before.map(|it| &it.instance_id)),
        rack_id: kept(&beat.rack_id, before.map(|it| &it.rack_id)),
        client_id: Arc::clone(&beat.client_id),
        client_host: Arc::clone(&beat.client_host),
        topics: beat.topics.clone().unwrap_or_else(topics),
        pattern: pattern.filter(|it| !it.is_empty()),
        rebalance_timeout: beat.rebalance_timeout.unwrap_or_else(timeout),
        assignor: kept(&beat.assignor, before.map(|it| &it.assignor)),
        classic: None,
    }
}

/// Whether a member that says `told` and owns `owned` stands where `current` says.
fn may_stay(current: &Current, told: Epoch, owned: Option<&Assignment>) -> Result<(), ()> {
    let missed_the_answer = || {
        told == current.previous_epoch
            && owned.is_some_and(|it| slots(it).all(|slot| has(&current.assigned, &slot)))
    };
    if told == current.epoch || (told < current.epoch && missed_the_answer()) {
        Ok(())
    } else {
        Err(())
    }
}
