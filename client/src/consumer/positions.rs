//! Where the consumer stands in each partition that it has.
//!
//! | place | meaning | leaves it by |
//! |---|---|---|
//! | `Unknown` | nothing is known yet | what the group committed, the reset policy, a seek |
//! | `Resetting` | an offset of the log is asked for | the answer, a seek |
//! | `At` | the next record to deliver | delivery, a seek, an offset out of range |
//! | `Stuck` | the policy says to ask the caller | a seek |
//!
//! A position that is known is valid under a leader's epoch: one whose log was found to agree with
//! it. Before records are fetched from the leader of a later epoch it is asked where the history of
//! the last record ends in its log (KIP-320); a position beyond that end was truncated away.
//!
//! Each place has a ticket that changes whenever the place is set other than by delivery: answers
//! that were asked for under an older ticket do not count. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use protocol::error_code::ErrorCode;
use protocol::ids::{LeaderEpoch, Offset, TopicPartition};
use protocol::time::Timestamp;

use super::error::ConsumeError;
use crate::backoff::Backoff;
use crate::cluster::{Cluster, Leader};
use crate::config::OffsetReset;
use crate::offsets::OffsetSpec;

/// The next record to deliver, and the leader epoch of the one before it, where known. KIP-320.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) offset: Offset,
    pub(super) leader_epoch: LeaderEpoch,
}

impl From<Offset> for Position {
    fn from(offset: Offset) -> Self {
        Self { offset, leader_epoch: LeaderEpoch::NONE }
    }
}

/// Tells one setting of a partition's place from the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ticket(u64);

/// Which offset is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Goal {
    /// As the caller says, or the policy after a position was lost.
    Of(OffsetSpec),
    /// That of the first record that is at most so old.
    Ago(Duration),
    /// The end, for the first time: the beginning of a partition that is younger than the
    /// consumer's interest in its topic.
    NewRecords,
}

impl Goal {
    /// As leaders are asked, at `wall`.
    pub(super) fn spec(self, wall: Timestamp) -> OffsetSpec {
        match self {
            Self::Of(spec) => spec,
            Self::Ago(ago) => {
                let millis = i64::try_from(ago.as_millis()).unwrap_or(i64::MAX);
                OffsetSpec::AtOrAfter(Timestamp(wall.0.saturating_sub(millis)))
            }
            Self::NewRecords => OffsetSpec::Latest,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Unknown,
    Resetting(Goal),
    At(Position),
    Stuck,
}

/// How far the log reaches, as the last fetch said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ends {
    pub(super) high_watermark: Offset,
    pub(super) last_stable_offset: Offset,
}

#[derive(Clone, Debug)]
struct Partition {
    place: Place,
    ticket: Ticket,
    is_paused: bool,
    /// A question about its place is under way.
    is_asked: bool,
    /// After a failure, nothing is asked of it before then.
    not_before: Duration,
    backoff: Backoff,
    ends: Option<Ends>,
    /// The newest epoch whose leader's log agrees with the position.
    valid_under: LeaderEpoch,
}

/// A position that must be compared with its leader's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Doubt {
    pub(super) partition: TopicPartition,
    pub(super) ticket: Ticket,
    /// Where the next fetch goes on.
    pub(super) next: Position,
    pub(super) leader: Leader,
}

/// A partition whose end, or beginning, must be asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reset {
    pub(super) partition: TopicPartition,
    pub(super) ticket: Ticket,
    pub(super) goal: Goal,
}

/// The partitions of a consumer. Bound: what the caller or the group's leader assigns.
#[derive(Clone, Debug)]
pub(super) struct Positions {
    partitions: BTreeMap<TopicPartition, Partition>,
    policy: OffsetReset,
    has_group: bool,
    /// How many partitions a topic had when the consumer first heard of it. Bound: the topics that
    /// it wants.
    first_heard: BTreeMap<Arc<str>, u32>,
    ticket: u64,
    /// What each new partition starts with.
    backoff: Backoff,
}

impl Positions {
    pub(super) fn new(policy: OffsetReset, has_group: bool, backoff: Backoff) -> Self {
        let (partitions, first_heard) = (BTreeMap::new(), BTreeMap::new());
        Self { partitions, policy, has_group, first_heard, ticket: 0, backoff }
    }

    /// Takes note of what the cluster says of the topics that the consumer wants: what comes later
    /// holds nothing but new records.
    pub(super) fn hear_of(&mut self, wanted: &BTreeSet<Arc<str>>, cluster: &Cluster) {
        self.first_heard.retain(|topic, _| wanted.contains(topic));
        for name in wanted {
            let Some(topic) = cluster.topic(name) else { continue };
            // Another error says nothing about whether it exists.
            if topic.error.is_ok() || topic.error == ErrorCode::UnknownTopicOrPartition {
                let count = topic.partition_count();
                self.first_heard.entry(Arc::clone(name)).or_insert(count);
            }
        }
    }

    /// True when the partition came into being after the consumer had asked about its topic.
    fn is_newborn(&self, partition: &TopicPartition) -> bool {
        let index = u32::try_from(partition.partition.0).unwrap_or(0);
        self.first_heard.get(&partition.topic).is_some_and(|count| *count <= index)
    }

    /// Adds partitions, whose places are unknown; those that are there already stay as they are.
    pub(super) fn add(&mut self, partitions: &BTreeSet<TopicPartition>) {
        for partition in partitions {
            if !self.partitions.contains_key(partition) {
                let new = Partition {
                    place: Place::Unknown,
                    ticket: self.next_ticket(),
                    is_paused: false,
                    is_asked: false,
                    not_before: Duration::ZERO,
                    backoff: self.backoff.clone(),
                    ends: None,
                    valid_under: LeaderEpoch::NONE,
                };
                self.partitions.insert(partition.clone(), new);
            }
        }
    }

    pub(super) fn retain(&mut self, keep: impl Fn(&TopicPartition) -> bool) {
        self.partitions.retain(|partition, _| keep(partition));
    }

    pub(super) fn partitions(&self) -> impl Iterator<Item = &TopicPartition> {
        self.partitions.keys()
    }

    /// Where the next record is. `None`: not known, or not ours.
    pub(super) fn position(&self, partition: &TopicPartition) -> Option<Position> {
        match self.partitions.get(partition)?.place {
            Place::At(position) => Some(position),
            Place::Unknown | Place::Resetting(_) | Place::Stuck => None,
        }
    }

    /// Every position that is known.
    pub(super) fn known(&self) -> impl Iterator<Item = (&TopicPartition, Position)> {
        self.partitions.keys().filter_map(|it| Some((it, self.position(it)?)))
    }

    pub(super) fn ends(&self, partition: &TopicPartition) -> Option<Ends> {
        self.partitions.get(partition)?.ends
    }

    pub(super) fn set_ends(&mut self, partition: &TopicPartition, ends: Ends) {
        if let Some(it) = self.partitions.get_mut(partition) {
            it.ends = Some(ends);
        }
    }

    pub(super) fn ticket(&self, partition: &TopicPartition) -> Option<Ticket> {
        self.partitions.get(partition).map(|it| it.ticket)
    }

    pub(super) fn is_paused(&self, partition: &TopicPartition) -> bool {
        self.partitions.get(partition).is_some_and(|it| it.is_paused)
    }

    /// True when only a seek leads on.
    pub(super) fn is_stuck(&self, partition: &TopicPartition) -> bool {
        self.partitions.get(partition).is_some_and(|it| it.place == Place::Stuck)
    }

    /// Stops or resumes delivery. False: not ours.
    pub(super) fn set_paused(&mut self, partition: &TopicPartition, is_paused: bool) -> bool {
        let known = self.partitions.get_mut(partition);
        known.map(|it| it.is_paused = is_paused).is_some()
    }

    /// Moves the position. False: not ours.
    pub(super) fn seek(&mut self, partition: &TopicPartition, position: Position) -> bool {
        self.place(partition, Place::At(position))
    }

    /// Moves the position to an end of the log, to be asked for. False: not ours.
    pub(super) fn seek_to(&mut self, partition: &TopicPartition, spec: OffsetSpec) -> bool {
        self.place(partition, Place::Resetting(Goal::Of(spec)))
    }

    fn place(&mut self, partition: &TopicPartition, place: Place) -> bool {
        let ticket = self.next_ticket();
        let Some(it) = self.partitions.get_mut(partition) else { return false };
        it.place = place;
        it.ticket = ticket;
        it.is_asked = false;
        it.not_before = Duration::ZERO;
        it.backoff.reset();
        it.valid_under = LeaderEpoch::NONE;
        true
    }

    /// What `poll` returned ends at `position`.
    pub(super) fn advance(&mut self, partition: &TopicPartition, position: Position) {
        let it = self.partitions.get_mut(partition).expect("delivered from what is ours");
        let Place::At(before) = it.place else { panic!("{partition}: delivered without place") };
        assert!(before.offset < position.offset);
        it.place = Place::At(position);
    }

    /// True when `leader` may be asked for records from `next` on.
    pub(super) fn is_valid(
        &self,
        partition: &TopicPartition,
        next: Position,
        leader: Leader,
    ) -> bool {
        // Who does not tell epochs cannot be asked about them.
        let is_comparable = next.leader_epoch.0 >= 0 && leader.leader_epoch.0 >= 0;
        let known = self.partitions.get(partition);
        !is_comparable || known.is_some_and(|it| it.valid_under >= leader.leader_epoch)
    }

    /// The leader of this epoch has served the position.
    pub(super) fn served(&mut self, partition: &TopicPartition, leader_epoch: LeaderEpoch) {
        if let Some(it) = self.partitions.get_mut(partition) {
            it.valid_under = it.valid_under.max(leader_epoch);
        }
    }

    /// Marks a doubt about the partition as asked. `None`: one is under way, or must wait.
    pub(super) fn ask_doubt(
        &mut self,
        now: Duration,
        partition: &TopicPartition,
        next: Position,
        leader: Leader,
    ) -> Option<Doubt> {
        let it = self.partitions.get_mut(partition)?;
        if it.is_asked || it.not_before > now || !matches!(it.place, Place::At(_)) {
            return None;
        }
        it.is_asked = true;
        Some(Doubt { partition: partition.clone(), ticket: it.ticket, next, leader })
    }

    /// The leader said where the history of the last record before `doubt.next` ends in its log;
    /// `None`: it knows nothing of that history.
    ///
    /// # Errors
    /// When the position is beyond that end, and the policy is to ask the caller; told once.
    pub(super) fn settle_doubt(
        &mut self,
        doubt: &Doubt,
        end: Option<Position>,
    ) -> Result<(), ConsumeError> {
        let Doubt { partition, ticket, next, leader } = doubt;
        let known = self.partitions.get_mut(partition).filter(|it| it.ticket == *ticket);
        let Some(Place::At(position)) = known.as_ref().map(|it| it.place) else { return Ok(()) };
        if let (Some(end), Some(it)) = (end, known)
            && end.offset >= next.offset
        {
            it.is_asked = false;
            it.valid_under = leader.leader_epoch;
            return Ok(());
        }
        let divergent = end.filter(|it| it.offset < position.offset);
        if end.is_some() && divergent.is_none() {
            // Only what was fetched ahead is gone: it is fetched anew.
            self.seek(partition, position);
            self.served(partition, leader.leader_epoch);
            return Ok(());
        }
        tracing::warn!(
            %partition, position = %position.offset, leader_epoch = leader.leader_epoch.0,
            divergent = ?divergent, "records that were consumed are not in the log any more"
        );
        match divergent {
            Some(divergent) if self.policy != OffsetReset::None => {
                self.seek(partition, divergent);
                self.served(partition, leader.leader_epoch);
                Ok(())
            }
            _ => {
                let goal = self.goal();
                let error = ConsumeError::LogTruncated {
                    partition: partition.clone(),
                    offset: position.offset,
                    divergent: divergent.map(|it| it.offset),
                };
                self.reset(partition, goal).then_some(()).ok_or(error)
            }
        }
    }

    /// The partitions whose commits must be asked for, which are marked as asked. Empty without a
    /// group.
    pub(super) fn ask_committed(&mut self, now: Duration) -> BTreeMap<TopicPartition, Ticket> {
        let mut asked = BTreeMap::new();
        for (partition, it) in self.due(now) {
            if it.place == Place::Unknown {
                it.is_asked = true;
                asked.insert(partition.clone(), it.ticket);
            }
        }
        asked
    }

    /// The partitions whose ends must be asked for, which are marked as asked: those that somebody
    /// leads, and whom to ask. The second: some have no leader.
    pub(super) fn ask_resets(
        &mut self,
        now: Duration,
        leader: impl Fn(&TopicPartition) -> Option<Leader>,
    ) -> (Vec<(Reset, Leader)>, bool) {
        let (mut asked, mut lacks_leader) = (Vec::new(), false);
        let due = self.due(now).filter(|(_, it)| it.place == Place::Resetting(Goal::NewRecords));
        let starting: Vec<_> = due.map(|(partition, _)| partition.clone()).collect();
        // Somebody leads it, so it is known by now whether it is new.
        let newborn: BTreeSet<_> =
            starting.into_iter().filter(|it| leader(it).is_some() && self.is_newborn(it)).collect();
        for (partition, it) in self.due(now) {
            let Place::Resetting(goal) = it.place else { continue };
            let goal =
                if newborn.contains(partition) { Goal::Of(OffsetSpec::Earliest) } else { goal };
            let Some(leader) = leader(partition) else {
                lacks_leader = true;
                continue;
            };
            it.is_asked = true;
            let reset = Reset { partition: partition.clone(), ticket: it.ticket, goal };
            asked.push((reset, leader));
        }
        (asked, lacks_leader)
    }

    fn due(&mut self, now: Duration) -> impl Iterator<Item = (&TopicPartition, &mut Partition)> {
        self.partitions.iter_mut().filter(move |(_, it)| !it.is_asked && it.not_before <= now)
    }

    /// Without a group nothing is committed: the policy decides where to start.
    ///
    /// # Errors
    /// When the policy is to ask the caller; told once.
    pub(super) fn start_by_policy(&mut self) -> Vec<ConsumeError> {
        if self.has_group {
            return Vec::new();
        }
        let unknown = self.partitions.iter().filter(|(_, it)| it.place == Place::Unknown);
        let unknown: Vec<_> = unknown.map(|(partition, _)| partition.clone()).collect();
        unknown.into_iter().filter_map(|partition| self.without_commit(partition).err()).collect()
    }

    /// Takes in what the group committed.
    ///
    /// # Errors
    /// When that is nothing, and the policy is to ask the caller; told once.
    pub(super) fn committed(
        &mut self,
        partition: &TopicPartition,
        ticket: Ticket,
        committed: Option<Position>,
    ) -> Result<(), ConsumeError> {
        if self.ticket(partition) != Some(ticket) {
            return Ok(());
        }
        match committed {
            Some(position) => {
                self.seek(partition, position);
                Ok(())
            }
            None => self.without_commit(partition.clone()),
        }
    }

    fn without_commit(&mut self, partition: TopicPartition) -> Result<(), ConsumeError> {
        let goal = match self.policy {
            OffsetReset::Latest => Some(Goal::NewRecords),
            OffsetReset::Earliest | OffsetReset::ByDuration(_) | OffsetReset::None => self.goal(),
        };
        self.reset(&partition, goal).then_some(()).ok_or(ConsumeError::NoOffset { partition })
    }

    /// Takes in where the log begins or ends.
    pub(super) fn found(&mut self, partition: &TopicPartition, ticket: Ticket, at: Position) {
        if self.ticket(partition) == Some(ticket) {
            self.seek(partition, at);
            // It is from that leader's own log.
            self.served(partition, at.leader_epoch);
        }
    }

    /// The log does not have the position.
    ///
    /// # Errors
    /// When the policy is to ask the caller; told once.
    pub(super) fn out_of_range(&mut self, partition: &TopicPartition) -> Result<(), ConsumeError> {
        let Some(Position { offset, .. }) = self.position(partition) else { return Ok(()) };
        let error = || ConsumeError::OffsetOutOfRange { partition: partition.clone(), offset };
        let goal = self.goal();
        self.reset(partition, goal).then_some(()).ok_or_else(error)
    }

    /// The log has no record as young as was asked for: those that come will be. Where even its end
    /// has no offset it is empty.
    pub(super) fn found_none(&mut self, reset: &Reset) {
        let Reset { partition, ticket, goal } = reset;
        match goal {
            Goal::NewRecords | Goal::Of(OffsetSpec::Earliest | OffsetSpec::Latest) => {
                self.found(partition, *ticket, Offset::ZERO.into());
            }
            Goal::Ago(_) | Goal::Of(_) if self.ticket(partition) == Some(*ticket) => {
                self.place(partition, Place::Resetting(Goal::Of(OffsetSpec::Latest)));
            }
            Goal::Ago(_) | Goal::Of(_) => {}
        }
    }

    /// Where the policy leads. `None`: it is to ask the caller.
    fn goal(&self) -> Option<Goal> {
        match self.policy {
            OffsetReset::Earliest => Some(Goal::Of(OffsetSpec::Earliest)),
            OffsetReset::Latest => Some(Goal::Of(OffsetSpec::Latest)),
            OffsetReset::ByDuration(ago) => Some(Goal::Ago(ago)),
            OffsetReset::None => None,
        }
    }

    /// Goes to `goal`. False: there is none.
    fn reset(&mut self, partition: &TopicPartition, goal: Option<Goal>) -> bool {
        self.place(partition, goal.map_or(Place::Stuck, Place::Resetting));
        goal.is_some()
    }

    /// A question about the place, or a fetch, failed: no other before a while has passed.
    pub(super) fn failed(&mut self, now: Duration, partition: &TopicPartition, ticket: Ticket) {
        if let Some(it) = self.partitions.get_mut(partition).filter(|it| it.ticket == ticket) {
            it.is_asked = false;
            it.not_before = now + it.backoff.next_wait();
        }
    }

    /// A fetch succeeded.
    pub(super) fn succeeded(&mut self, partition: &TopicPartition) {
        if let Some(it) = self.partitions.get_mut(partition) {
            it.backoff.reset();
            it.not_before = Duration::ZERO;
        }
    }

    /// True when a fetch may be made.
    pub(super) fn is_fetchable(&self, now: Duration, partition: &TopicPartition) -> bool {
        self.partitions.get(partition).is_some_and(|it| {
            matches!(it.place, Place::At(_)) && !it.is_paused && it.not_before <= now
        })
    }

    /// When the next wait after a failure is over.
    pub(super) fn wake_at(&self, now: Duration) -> Option<Duration> {
        self.partitions.values().map(|it| it.not_before).filter(|it| *it > now).min()
    }

    fn next_ticket(&mut self) -> Ticket {
        self.ticket += 1;
        Ticket(self.ticket)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use protocol::api::metadata::{
        MetadataResponse, MetadataResponsePartition, MetadataResponseTopic,
    };
    use protocol::ids::BrokerId;
    use protocol::rng::Rng;

    use super::*;

    fn positions(policy: OffsetReset, has_group: bool) -> (Positions, TopicPartition) {
        let backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1), Rng::new(1));
        let mut positions = Positions::new(policy, has_group, backoff);
        let partition = TopicPartition::new("orders", 0);
        positions.add(&[partition.clone()].into());
        (positions, partition)
    }

    fn leader(leader_epoch: i32) -> Leader {
        Leader { broker: BrokerId(1), leader_epoch: LeaderEpoch(leader_epoch) }
    }

    fn position(offset: i64, leader_epoch: i32) -> Position {
        Position { offset: Offset(offset), leader_epoch: LeaderEpoch(leader_epoch) }
    }

    /// At 20, after a record of epoch 3; a leader of epoch 5 says where epoch 3 ends in its log.
    fn doubtful(policy: OffsetReset) -> (Positions, TopicPartition, Doubt) {
        let (mut positions, partition) = positions(policy, true);
        positions.seek(&partition, position(20, 3));
        assert!(!positions.is_valid(&partition, position(20, 3), leader(5)));
        let asked = positions.ask_doubt(Duration::ZERO, &partition, position(20, 3), leader(5));
        let again = positions.ask_doubt(Duration::ZERO, &partition, position(20, 3), leader(5));
        assert!(again.is_none(), "one at a time");
        (positions, partition, asked.unwrap())
    }

    #[test]
    fn a_position_within_its_history_is_valid_until_the_next_leader() {
        let (mut positions, partition, doubt) = doubtful(OffsetReset::None);
        positions.settle_doubt(&doubt, Some(position(20, 3))).unwrap();
        assert!(positions.is_valid(&partition, position(20, 3), leader(5)));
        assert!(!positions.is_valid(&partition, position(20, 3), leader(6)));
        positions.served(&partition, LeaderEpoch(6));
        assert!(positions.is_valid(&partition, position(20, 3), leader(6)));
        assert_eq!(positions.position(&partition), Some(position(20, 3)));
    }

    #[test]
    fn a_position_beyond_its_history_goes_back_to_where_histories_part() {
        let (mut positions, partition, doubt) = doubtful(OffsetReset::Latest);
        positions.settle_doubt(&doubt, Some(position(12, 2))).unwrap();
        assert_eq!(positions.position(&partition), Some(position(12, 2)));
        assert!(positions.is_valid(&partition, position(12, 2), leader(5)));
    }

    #[test]
    fn truncation_is_told_with_the_divergent_offset_when_the_policy_is_to_ask() {
        let (mut positions, partition, doubt) = doubtful(OffsetReset::None);
        let error = positions.settle_doubt(&doubt, Some(position(12, 2))).unwrap_err();
        let ConsumeError::LogTruncated { offset, divergent, .. } = error else { panic!("{error}") };
        assert_eq!((offset, divergent), (Offset(20), Some(Offset(12))));
        assert!(positions.is_stuck(&partition));
    }

    #[test]
    fn a_history_that_the_leader_does_not_know_is_a_matter_of_policy() {
        let (mut positions, _, doubt) = doubtful(OffsetReset::Earliest);
        positions.settle_doubt(&doubt, None).unwrap();
        assert_eq!(ask_resets(&mut positions)[0].goal, Goal::Of(OffsetSpec::Earliest));
        let (mut positions, _, doubt) = doubtful(OffsetReset::None);
        let error = positions.settle_doubt(&doubt, None).unwrap_err();
        assert!(matches!(error, ConsumeError::LogTruncated { divergent: None, .. }), "{error}");
    }

    #[test]
    fn when_only_what_was_fetched_ahead_is_gone_it_is_fetched_anew() {
        let (mut positions, partition) = positions(OffsetReset::None, true);
        positions.seek(&partition, position(10, 3));
        let ticket = positions.ticket(&partition);
        let ahead = position(30, 3);
        let doubt = positions.ask_doubt(Duration::ZERO, &partition, ahead, leader(5)).unwrap();
        positions.settle_doubt(&doubt, Some(position(15, 3))).unwrap();
        assert_eq!(positions.position(&partition), Some(position(10, 3)));
        assert_ne!(positions.ticket(&partition), ticket, "what was fetched under it is dropped");
        assert!(positions.is_valid(&partition, position(10, 3), leader(5)));
    }

    #[test]
    fn without_epochs_there_is_nothing_to_compare() {
        let (mut positions, partition) = positions(OffsetReset::None, true);
        positions.seek(&partition, position(10, -1));
        assert!(positions.is_valid(&partition, position(10, -1), leader(5)));
        assert!(positions.is_valid(&partition, position(10, 3), leader(-1)));
    }

    fn ask_resets(positions: &mut Positions) -> Vec<Reset> {
        let leader = Leader { broker: BrokerId(1), leader_epoch: LeaderEpoch(0) };
        let (asked, lacks_leader) = positions.ask_resets(Duration::ZERO, |_| Some(leader));
        assert!(!lacks_leader);
        asked.into_iter().map(|(reset, _)| reset).collect()
    }

    #[test]
    fn a_new_partition_starts_at_what_the_group_committed() {
        let (mut positions, partition) = positions(OffsetReset::Earliest, true);
        assert!(positions.start_by_policy().is_empty());
        let asked = positions.ask_committed(Duration::ZERO);
        assert_eq!(asked.len(), 1);
        assert!(positions.ask_committed(Duration::ZERO).is_empty(), "asked once");
        positions.committed(&partition, asked[&partition], Some(Offset(7).into())).unwrap();
        assert_eq!(positions.position(&partition), Some(Offset(7).into()));
    }

    #[test]
    fn without_a_commit_the_policy_decides() {
        for (policy, spec) in [
            (OffsetReset::Earliest, OffsetSpec::Earliest),
            (OffsetReset::Latest, OffsetSpec::Latest),
            (
                OffsetReset::ByDuration(Duration::from_secs(2)),
                OffsetSpec::AtOrAfter(Timestamp(3_000)),
            ),
        ] {
            let (mut positions, partition) = positions(policy, true);
            let asked = positions.ask_committed(Duration::ZERO);
            positions.committed(&partition, asked[&partition], None).unwrap();
            let resets = ask_resets(&mut positions);
            assert_eq!(resets.len(), 1);
            assert_eq!(resets[0].goal.spec(Timestamp(5_000)), spec);
            positions.found(&partition, resets[0].ticket, Offset(3).into());
            assert_eq!(positions.position(&partition), Some(Offset(3).into()));
        }
    }

    #[test]
    fn latest_begins_at_the_beginning_of_what_is_younger_than_the_interest_in_it() {
        let heard = |error: ErrorCode, count: i32| {
            let partition = |partition_index| MetadataResponsePartition {
                partition_index,
                ..MetadataResponsePartition::default()
            };
            let topic = MetadataResponseTopic {
                name: Some("orders".to_owned()),
                error_code: error.to_wire(),
                partitions: (0..count).map(partition).collect(),
                ..MetadataResponseTopic::default()
            };
            let response = MetadataResponse { topics: vec![topic], ..Default::default() };
            let mut cluster = Cluster::default();
            cluster.update(Duration::ZERO, &response);
            cluster
        };
        let wanted: BTreeSet<Arc<str>> = ["orders".into()].into();
        for (error, count, spec) in [
            (ErrorCode::UnknownTopicOrPartition, 0, OffsetSpec::Earliest),
            (ErrorCode::None, 0, OffsetSpec::Earliest),
            (ErrorCode::None, 1, OffsetSpec::Latest),
            (ErrorCode::LeaderNotAvailable, 0, OffsetSpec::Latest),
        ] {
            let (mut positions, partition) = positions(OffsetReset::Latest, false);
            assert!(positions.start_by_policy().is_empty());
            positions.hear_of(&wanted, &heard(error, count));
            // What is heard later changes nothing.
            positions.hear_of(&wanted, &heard(ErrorCode::None, 1));
            let resets = ask_resets(&mut positions);
            assert_eq!(resets[0].goal.spec(Timestamp(0)), spec, "{error} {count}");
            // Once it has a place, the policy is what it says.
            positions.found(&partition, resets[0].ticket, Offset(3).into());
            positions.out_of_range(&partition).unwrap();
            let again = ask_resets(&mut positions);
            assert_eq!(again[0].goal, Goal::Of(OffsetSpec::Latest));
        }
    }

    #[test]
    fn where_no_record_is_young_enough_the_end_is_next() {
        let policy = OffsetReset::ByDuration(Duration::from_secs(60));
        let (mut positions, _) = positions(policy, false);
        assert!(positions.start_by_policy().is_empty());
        let resets = ask_resets(&mut positions);
        positions.found_none(&resets[0]);
        assert_eq!(ask_resets(&mut positions)[0].goal, Goal::Of(OffsetSpec::Latest));
    }

    #[test]
    fn the_policy_none_is_told_once_and_ends_with_a_seek() {
        let (mut positions, partition) = positions(OffsetReset::None, false);
        assert!(matches!(positions.start_by_policy()[..], [ConsumeError::NoOffset { .. }]));
        assert!(positions.start_by_policy().is_empty());
        assert!(!positions.is_fetchable(Duration::ZERO, &partition));
        assert!(positions.seek(&partition, Offset(4).into()));
        assert!(positions.is_fetchable(Duration::ZERO, &partition));
        let refused = positions.out_of_range(&partition).unwrap_err();
        assert!(matches!(refused, ConsumeError::OffsetOutOfRange { offset: Offset(4), .. }));
    }

    #[test]
    fn a_seek_outruns_every_answer_that_was_asked_for_before() {
        let (mut positions, partition) = positions(OffsetReset::Earliest, true);
        let asked = positions.ask_committed(Duration::ZERO);
        positions.seek(&partition, Offset(50).into());
        positions.committed(&partition, asked[&partition], Some(Offset(7).into())).unwrap();
        assert_eq!(positions.position(&partition), Some(Offset(50).into()));
        positions.seek_to(&partition, OffsetSpec::Latest);
        let reset = ask_resets(&mut positions).remove(0);
        positions.seek(&partition, Offset(51).into());
        positions.found(&partition, reset.ticket, Offset(8).into());
        positions.failed(Duration::ZERO, &partition, reset.ticket);
        assert_eq!(positions.position(&partition), Some(Offset(51).into()));
        assert!(positions.is_fetchable(Duration::ZERO, &partition));
    }

    #[test]
    fn a_failed_question_is_asked_again_after_a_while() {
        let (mut positions, partition) = positions(OffsetReset::Earliest, true);
        let asked = positions.ask_committed(Duration::ZERO);
        positions.failed(Duration::ZERO, &partition, asked[&partition]);
        assert!(positions.ask_committed(Duration::ZERO).is_empty());
        let later = positions.wake_at(Duration::ZERO).unwrap();
        assert!(later >= Duration::from_millis(80));
        assert_eq!(positions.ask_committed(later).len(), 1);
    }

    #[test]
    fn a_partition_without_leader_waits_for_one() {
        let (mut positions, partition) = positions(OffsetReset::Earliest, false);
        positions.seek_to(&partition, OffsetSpec::Latest);
        let (asked, lacks_leader) = positions.ask_resets(Duration::ZERO, |_| None);
        assert!(asked.is_empty());
        assert!(lacks_leader);
        assert_eq!(ask_resets(&mut positions).len(), 1);
    }

    #[test]
    fn a_paused_partition_keeps_its_place_and_is_not_fetched() {
        let (mut positions, partition) = positions(OffsetReset::Earliest, false);
        positions.seek(&partition, Offset(5).into());
        assert!(positions.set_paused(&partition, true));
        assert!(!positions.is_fetchable(Duration::ZERO, &partition));
        positions.set_paused(&partition, false);
        assert!(positions.is_fetchable(Duration::ZERO, &partition));
        assert!(!positions.set_paused(&TopicPartition::new("other", 0), true));
    }

    proptest! {
        /// Whatever is answered late, the place follows the newest question or seek.
        #[test]
        fn only_the_newest_ticket_counts(steps in prop::collection::vec((0..4_u8, 0..100_i64), 1..40)) {
            let (mut positions, partition) = positions(OffsetReset::Earliest, false);
            positions.start_by_policy();
            let mut tickets = Vec::new();
            let mut want = None;
            for (step, offset) in steps {
                match step {
                    0 => {
                        positions.seek(&partition, Offset(offset).into());
                        want = Some(Offset(offset));
                    }
                    1 => {
                        positions.seek_to(&partition, OffsetSpec::Latest);
                        want = None;
                    }
                    2 => tickets.extend(ask_resets(&mut positions).into_iter().map(|it| it.ticket)),
                    _ => {
                        if let Some(ticket) = tickets.pop() {
                            if positions.ticket(&partition) == Some(ticket) {
                                want = Some(Offset(offset));
                            }
                            positions.found(&partition, ticket, Offset(offset).into());
                        }
                    }
                }
                prop_assert_eq!(positions.position(&partition).map(|it| it.offset), want);
            }
        }
    }
}
