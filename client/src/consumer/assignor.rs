//! How a group's leader distributes partitions among the members.
//!
//! Every partition of a topic that somebody subscribes to goes to exactly one of its subscribers.
//! The result follows from the input alone, and is that of Kafka's assignors of the same names,
//! racks aside: groups may be mixed. Cooperative members keep what they own while others rejoin:
//! what must move is first given to nobody, and to its new owner in the rebalance that its old
//! owner asks for once it let go (KIP-429). Pure.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use protocol::ids::TopicPartition;

use crate::config::Assignor;

/// A member as the leader sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Subscriber {
    pub(super) member_id: String,
    pub(super) instance_id: Option<String>,
    pub(super) topics: BTreeSet<Arc<str>>,
    /// What it has, and since which generation; used by the cooperative assignor alone.
    pub(super) owned: BTreeSet<TopicPartition>,
    pub(super) generation: i32,
}

impl Subscriber {
    /// Static members first, by their names, which outlive member ids.
    fn order(&self, other: &Self) -> Ordering {
        match (&self.instance_id, &other.instance_id) {
            (Some(one), Some(another)) => one.cmp(another),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => self.member_id.cmp(&other.member_id),
        }
    }
}

/// What each member gets; every member is in it.
pub(super) type Assignment = BTreeMap<String, BTreeSet<TopicPartition>>;

/// Distributes the partitions of all topics; `counts` says how many each topic has.
pub(super) fn assign(
    assignor: Assignor,
    members: &[Subscriber],
    counts: &BTreeMap<Arc<str>, u32>,
) -> Assignment {
    let mut sorted: Vec<&Subscriber> = members.iter().collect();
    sorted.sort_by(|one, another| one.order(another));
    let mut assignment: Assignment =
        members.iter().map(|it| (it.member_id.clone(), BTreeSet::new())).collect();
    match assignor {
        Assignor::Range => range(&sorted, counts, &mut assignment),
        Assignor::RoundRobin => round_robin(&sorted, counts, &mut assignment),
        Assignor::CooperativeSticky => sticky(&sorted, counts, &mut assignment),
    }
    assignment
}

fn give(assignment: &mut Assignment, member: &Subscriber, topic: &Arc<str>, index: usize) {
    let index = i32::try_from(index).expect("counts come from indexes of the wire");
    let of_member = assignment.get_mut(&member.member_id).expect("every member is in it");
    of_member.insert(TopicPartition::new(Arc::clone(topic), index));
}

fn partition_count(counts: &BTreeMap<Arc<str>, u32>, topic: &Arc<str>) -> usize {
    let count = counts.get(topic).copied().unwrap_or(0);
    usize::try_from(count).expect("a count of the wire")
}

fn range(members: &[&Subscriber], counts: &BTreeMap<Arc<str>, u32>, assignment: &mut Assignment) {
    for topic in counts.keys() {
        let subscribed: Vec<_> = members.iter().filter(|it| it.topics.contains(topic)).collect();
        if subscribed.is_empty() {
            continue;
        }
        let count = partition_count(counts, topic);
        let (each, more) = (count / subscribed.len(), count % subscribed.len());
        let mut next = 0;
        for (place, member) in subscribed.into_iter().enumerate() {
            let end = next + each + usize::from(place < more);
            (next..end).for_each(|index| give(assignment, member, topic, index));
            next = end;
        }
        assert_eq!(next, count);
    }
}

fn round_robin(
    members: &[&Subscriber],
    counts: &BTreeMap<Arc<str>, u32>,
    assignment: &mut Assignment,
) {
    let mut turn = 0;
    for topic in counts.keys() {
        if !members.iter().any(|it| it.topics.contains(topic)) {
            continue;
        }
        for index in 0..partition_count(counts, topic) {
            while !members[turn % members.len()].topics.contains(topic) {
                turn += 1;
            }
            give(assignment, members[turn % members.len()], topic, index);
            turn += 1;
        }
    }
}

/// Evenly, and moving as few as possible: first everybody keeps what is lawfully theirs, then the
/// rest goes to whoever has least, then whoever has two more than another gives one away. What
/// moves from a living owner is withheld this time.
fn sticky(members: &[&Subscriber], counts: &BTreeMap<Arc<str>, u32>, assignment: &mut Assignment) {
    let owners = lawful_owners(members, counts);
    let mut target: BTreeMap<TopicPartition, usize> = BTreeMap::new();
    let mut loads = vec![0_usize; members.len()];
    let all = counts.keys().flat_map(|topic| {
        let count = partition_count(counts, topic);
        (0..count).map(move |index| {
            let index = i32::try_from(index).expect("counts come from indexes of the wire");
            TopicPartition::new(Arc::clone(topic), index)
        })
    });
    let (kept, free): (Vec<_>, Vec<_>) = all.partition(|it| owners.contains_key(it));
    for partition in kept {
        let owner = owners[&partition];
        loads[owner] += 1;
        target.insert(partition, owner);
    }
    for partition in free {
        if let Some(least) = least_loaded(members, &loads, &partition.topic) {
            loads[least] += 1;
            target.insert(partition, least);
        }
    }
    // Each move lowers the sum of squared loads, so this ends.
    while let Some((partition, to)) = next_move(members, &loads, &target) {
        let from = target.insert(partition, to).expect("only what has an owner moves");
        loads[from] -= 1;
        loads[to] += 1;
    }
    for (partition, to) in target {
        if owners.get(&partition).is_none_or(|owner| *owner == to) {
            let of_member =
                assignment.get_mut(&members[to].member_id).expect("every member is in it");
            of_member.insert(partition);
        }
    }
}

/// Who owns what: of two that claim a partition, the one of the later generation; of one
/// generation, nobody, as then we cannot know who is right.
fn lawful_owners(
    members: &[&Subscriber],
    counts: &BTreeMap<Arc<str>, u32>,
) -> BTreeMap<TopicPartition, usize> {
    let mut claims: BTreeMap<&TopicPartition, Option<usize>> = BTreeMap::new();
    for (place, member) in members.iter().enumerate() {
        for partition in &member.owned {
            let exists = usize::try_from(partition.partition.0)
                .is_ok_and(|index| index < partition_count(counts, &partition.topic));
            if !exists || !member.topics.contains(&partition.topic) {
                continue;
            }
            let claim = claims.entry(partition).or_insert(Some(place));
            let Some(other) = *claim else { continue };
            match members[other].generation.cmp(&member.generation) {
                Ordering::Less => *claim = Some(place),
                Ordering::Equal if other != place => *claim = None,
                Ordering::Equal | Ordering::Greater => {}
            }
        }
    }
    claims.into_iter().filter_map(|(partition, owner)| Some((partition.clone(), owner?))).collect()
}

fn least_loaded(members: &[&Subscriber], loads: &[usize], topic: &Arc<str>) -> Option<usize> {
    (0..members.len()).filter(|it| members[*it].topics.contains(topic)).min_by_key(|it| loads[*it])
}

/// A partition whose owner has at least two more than another subscriber of its topic.
fn next_move(
    members: &[&Subscriber],
    loads: &[usize],
    target: &BTreeMap<TopicPartition, usize>,
) -> Option<(TopicPartition, usize)> {
    // From the end, so that what the first members have is what they keep.
    target.iter().rev().find_map(|(partition, &owner)| {
        let least = least_loaded(members, loads, &partition.topic)?;
        (loads[owner] >= loads[least] + 2).then(|| (partition.clone(), least))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn member(id: &str, topics: &[&str]) -> Subscriber {
        Subscriber {
            member_id: id.to_owned(),
            topics: topics.iter().map(|&it| it.into()).collect(),
            ..Subscriber::default()
        }
    }

    fn counts(of: &[(&str, u32)]) -> BTreeMap<Arc<str>, u32> {
        of.iter().map(|&(topic, count)| (topic.into(), count)).collect()
    }

    fn check(
        assignor: Assignor,
        members: &[Subscriber],
        of: &[(&str, u32)],
        want: &[(&str, &[&str])],
    ) {
        let got = assign(assignor, members, &counts(of));
        let got: Vec<(String, Vec<String>)> = got
            .into_iter()
            .map(|(id, of)| (id, of.iter().map(ToString::to_string).collect()))
            .collect();
        let want: Vec<(String, Vec<String>)> = want
            .iter()
            .map(|(id, of)| ((*id).to_owned(), of.iter().map(|&it| it.to_owned()).collect()))
            .collect();
        assert_eq!(got, want);
    }

    #[test]
    fn range_gives_consecutive_partitions_of_each_topic_the_first_members_one_more() {
        let both = [member("b", &["t", "u"]), member("a", &["t", "u"])];
        let want: &[(&str, &[&str])] =
            &[("a", &["t-0", "t-1", "u-0", "u-1"]), ("b", &["t-2", "u-2"])];
        check(Assignor::Range, &both, &[("t", 3), ("u", 3)], want);
        let one = [member("a", &["t"]), member("b", &["u"])];
        check(
            Assignor::Range,
            &one,
            &[("t", 2), ("u", 1)],
            &[("a", &["t-0", "t-1"]), ("b", &["u-0"])],
        );
    }

    #[test]
    fn static_members_are_ordered_by_their_names_before_the_others() {
        let named = |id: &str, name: &str| Subscriber {
            instance_id: Some(name.to_owned()),
            ..member(id, &["t"])
        };
        let members = [member("a", &["t"]), named("z", "first"), named("c", "second")];
        let want: &[(&str, &[&str])] = &[("a", &["t-2"]), ("c", &["t-1"]), ("z", &["t-0"])];
        check(Assignor::Range, &members, &[("t", 3)], want);
    }

    #[test]
    fn round_robin_goes_through_all_partitions_in_turn() {
        let both = [member("a", &["t", "u"]), member("b", &["t", "u"])];
        let want: &[(&str, &[&str])] =
            &[("a", &["t-0", "t-2", "u-1"]), ("b", &["t-1", "u-0", "u-2"])];
        check(Assignor::RoundRobin, &both, &[("t", 3), ("u", 3)], want);
    }

    #[test]
    fn a_sticky_newcomer_gets_its_share_only_after_the_owner_let_go() {
        let owner = |owned: &[i32]| Subscriber {
            owned: owned.iter().map(|it| TopicPartition::new("t", *it)).collect(),
            generation: 1,
            ..member("a", &["t"])
        };
        let first = [owner(&[0, 1, 2, 3]), member("b", &["t"])];
        check(
            Assignor::CooperativeSticky,
            &first,
            &[("t", 4)],
            &[("a", &["t-0", "t-1"]), ("b", &[])],
        );
        let second = [owner(&[0, 1]), member("b", &["t"])];
        let want: &[(&str, &[&str])] = &[("a", &["t-0", "t-1"]), ("b", &["t-2", "t-3"])];
        check(Assignor::CooperativeSticky, &second, &[("t", 4)], want);
    }

    #[test]
    fn of_two_claims_that_of_the_later_generation_counts() {
        let claim = |id: &str, generation| Subscriber {
            owned: [TopicPartition::new("t", 0)].into(),
            generation,
            ..member(id, &["t"])
        };
        let want: &[(&str, &[&str])] = &[("a", &[]), ("b", &["t-0"])];
        check(Assignor::CooperativeSticky, &[claim("a", 3), claim("b", 4)], &[("t", 1)], want);
    }

    fn subscribers() -> impl Strategy<Value = Vec<Subscriber>> {
        let one = (0..8_u8, prop::collection::vec((0..3_u8, 0..6_i32), 0..6), 0..3_i32);
        prop::collection::vec(one, 1..6).prop_map(|of| {
            let each = of.into_iter().enumerate().map(|(place, (topics, owned, generation))| {
                let names = ["t", "u", "v"];
                let topics = (0..3).filter(|bit| topics & (1 << bit) != 0);
                let owned = owned
                    .into_iter()
                    .map(|(topic, index)| TopicPartition::new(names[usize::from(topic)], index));
                Subscriber {
                    member_id: format!("member-{place}"),
                    instance_id: None,
                    topics: topics.map(|it| names[it].into()).collect(),
                    owned: owned.collect(),
                    generation,
                }
            });
            each.collect()
        })
    }

    proptest! {
        #[test]
        fn every_partition_that_is_subscribed_to_has_exactly_one_owner(
            members in subscribers(),
            sizes in (0..5_u32, 0..5_u32, 0..5_u32),
        ) {
            let counts = counts(&[("t", sizes.0), ("u", sizes.1), ("v", sizes.2)]);
            for assignor in [Assignor::Range, Assignor::RoundRobin] {
                let assignment = assign(assignor, &members, &counts);
                prop_assert_eq!(assignment.len(), members.len());
                for (topic, count) in &counts {
                    let is_wanted = members.iter().any(|it| it.topics.contains(topic));
                    for index in 0..*count {
                        let partition = TopicPartition::new(Arc::clone(topic), i32::try_from(index).unwrap());
                        let owners = assignment.values().filter(|it| it.contains(&partition));
                        prop_assert_eq!(owners.count(), usize::from(is_wanted));
                    }
                }
                for member in &members {
                    let of_member = &assignment[&member.member_id];
                    prop_assert!(of_member.iter().all(|it| member.topics.contains(&it.topic)));
                }
            }
        }

        /// Never two owners, nor a partition given while another member has it; and once
        /// everybody let go of what was taken, all have an owner and nobody has two more than
        /// another who could take one.
        #[test]
        fn sticky_rebalances_settle_without_ever_sharing(
            members in subscribers(),
            sizes in (0..5_u32, 0..5_u32, 0..5_u32),
        ) {
            let counts = counts(&[("t", sizes.0), ("u", sizes.1), ("v", sizes.2)]);
            let mut members = members;
            let mut previous = None;
            for round in 0..4 {
                let assignment = assign(Assignor::CooperativeSticky, &members, &counts);
                let mut seen = BTreeSet::new();
                prop_assert!(assignment.values().flatten().all(|it| seen.insert(it.clone())));
                if round > 0 {
                    for (id, given) in &assignment {
                        let owned_by_others = members.iter().filter(|it| it.member_id != *id);
                        let mut owned_by_others = owned_by_others.flat_map(|it| &it.owned);
                        prop_assert!(owned_by_others.all(|it| !given.contains(it)));
                    }
                }
                for member in &mut members {
                    member.owned.clone_from(&assignment[&member.member_id]);
                    member.generation = 10 + round;
                }
                previous = Some(assignment);
            }
            let settled = previous.unwrap();
            for (topic, count) in &counts {
                let subscribed: Vec<_> = members.iter().filter(|it| it.topics.contains(topic)).collect();
                if subscribed.is_empty() { continue; }
                let given = settled.values().flatten().filter(|it| it.topic == *topic).count();
                prop_assert_eq!(given, usize::try_from(*count).unwrap());
                for one in &subscribed {
                    let has_some = settled[&one.member_id].iter().any(|it| it.topic == *topic);
                    let mut others = subscribed.iter();
                    prop_assert!(!has_some || others.all(|other| settled[&one.member_id].len() <= settled[&other.member_id].len() + 1));
                }
            }
        }
    }
}
