//! Who should read which partition: the assignors of KIP-848 that run in the coordinator.
//!
//! `uniform` spreads all partitions evenly and moves as few as that allows; `range` gives each
//! member, topic by topic, a run of neighbouring partitions, so that members with equal
//! subscriptions get equal indices of equally partitioned topics. Both are functions: the same
//! members, subscriptions and partitions give the same target.
//!
//! Invariants of what they return: each partition of a topic that somebody subscribes to has one
//! owner, who subscribes to it; no two members that could take each other's partitions under
//! `uniform` differ by more than one.
//!
//! Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use protocol::ids::{PartitionIndex, TopicId};

/// Partitions by topic. A topic without partitions has no entry.
pub type Assignment = BTreeMap<TopicId, BTreeSet<PartitionIndex>>;

/// How many partitions each topic has that somebody subscribes to.
pub type Partitions = BTreeMap<TopicId, i32>;

/// A server-side assignor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Assignor {
    /// Evenly, and sticky.
    Uniform,
    /// By ranges within each topic.
    Range,
}

impl Assignor {
    /// The one of this name. `None`: there is no such assignor.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        match name {
            "uniform" => Some(Self::Uniform),
            "range" => Some(Self::Range),
            _ => None,
        }
    }

    /// The name, as members and settings spell it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Range => "range",
        }
    }

    /// The target of every member.
    #[must_use]
    pub fn assign(
        self,
        members: &BTreeMap<Arc<str>, Candidate<'_>>,
        partitions: &Partitions,
    ) -> BTreeMap<Arc<str>, Assignment> {
        let mut target: BTreeMap<Arc<str>, Assignment> =
            members.keys().map(|id| (Arc::clone(id), Assignment::new())).collect();
        match self {
            Self::Uniform => uniform(members, partitions, &mut target),
            Self::Range => range(members, partitions, &mut target),
        }
        target
    }
}

/// A member as an assignor sees it.
#[derive(Clone, Debug)]
pub struct Candidate<'a> {
    /// Its static id: its place among the others survives its restart.
    pub instance_id: Option<&'a str>,
    /// The topics that it subscribes to and that exist.
    pub topics: BTreeSet<TopicId>,
    /// Its target so far.
    pub before: &'a Assignment,
}

type Slot = (TopicId, PartitionIndex);

fn slots(partitions: &Partitions) -> impl Iterator<Item = Slot> {
    partitions.iter().flat_map(|(topic, count)| (0..*count).map(|it| (*topic, PartitionIndex(it))))
}

fn give(target: &mut BTreeMap<Arc<str>, Assignment>, to: &Arc<str>, (topic, index): Slot) {
    let assignment = target.get_mut(to).expect("every member has a target");
    assignment.entry(topic).or_default().insert(index);
}

fn range(
    members: &BTreeMap<Arc<str>, Candidate<'_>>,
    partitions: &Partitions,
    target: &mut BTreeMap<Arc<str>, Assignment>,
) {
    let mut order: Vec<&Arc<str>> = members.keys().collect();
    // Static members first, by their names: a restart changes nobody's range.
    order.sort_by_key(|id| (members[*id].instance_id.is_none(), members[*id].instance_id, *id));
    for (topic, count) in partitions {
        let readers: Vec<_> =
            order.iter().filter(|id| members[**id].topics.contains(topic)).collect();
        let readers_count = i32::try_from(readers.len()).unwrap_or(i32::MAX);
        if readers_count == 0 {
            continue;
        }
        let (each, extra) = (count / readers_count, count % readers_count);
        let mut next = 0;
        for (place, id) in (0..).zip(readers) {
            let end = next + each + i32::from(place < extra);
            for index in next..end {
                give(target, id, (*topic, PartitionIndex(index)));
            }
            next = end;
        }
        assert_eq!(next, *count, "every partition is in one range");
    }
}

fn uniform(
    members: &BTreeMap<Arc<str>, Candidate<'_>>,
    partitions: &Partitions,
    target: &mut BTreeMap<Arc<str>, Assignment>,
) {
    let mut subscriptions = members.values().map(|it| &it.topics);
    let Some(first) = subscriptions.next() else { return };
    if subscriptions.all(|it| it == first) {
        let wanted = partitions.iter().filter(|(topic, _)| first.contains(*topic));
        let wanted: Partitions = wanted.map(|(topic, count)| (*topic, *count)).collect();
        evenly(members, &wanted, target);
    } else {
        balanced(members, partitions, target);
    }
}

/// What each member keeps of its target so far: what it still subscribes to and still exists, each
/// partition once.
fn kept<'a>(
    members: &'a BTreeMap<Arc<str>, Candidate<'_>>,
    partitions: &Partitions,
) -> BTreeMap<&'a Arc<str>, BTreeSet<Slot>> {
    let mut taken: BTreeSet<Slot> = BTreeSet::new();
    let mut kept = BTreeMap::new();
    for (id, candidate) in members {
        let before = candidate.before.iter();
        let before = before.flat_map(|(topic, indices)| indices.iter().map(|it| (*topic, *it)));
        let stays = |(topic, index): &Slot| {
            candidate.topics.contains(topic)
                && partitions.get(topic).is_some_and(|count| (0..*count).contains(&index.0))
        };
        let own: BTreeSet<Slot> = before.filter(stays).filter(|slot| taken.insert(*slot)).collect();
        kept.insert(id, own);
    }
    kept
}

/// All members subscribe to the same: each gets the same number, or one more.
fn evenly(
    members: &BTreeMap<Arc<str>, Candidate<'_>>,
    partitions: &Partitions,
    target: &mut BTreeMap<Arc<str>, Assignment>,
) {
    let total = slots(partitions).count();
    let (each, mut extra) = (total / members.len(), total % members.len());
    let kept = kept(members, partitions);
    // Who has more already is the first to keep one more.
    let mut order: Vec<_> = kept.iter().collect();
    order.sort_by_key(|(id, own)| (std::cmp::Reverse(own.len()), **id));
    let mut free: BTreeSet<Slot> = slots(partitions).collect();
    let mut lacks = Vec::new();
    for (id, own) in order {
        let quota = if each < own.len() && 0 < extra {
            extra -= 1;
            each + 1
        } else {
            each
        };
        for slot in own.iter().take(quota) {
            free.remove(slot);
            give(target, id, *slot);
        }
        lacks.push((*id, own.len().min(quota)));
    }
    let mut free = free.into_iter();
    for (id, has) in lacks {
        let quota = if has <= each && 0 < extra {
            extra -= 1;
            each + 1
        } else {
            each.max(has)
        };
        for slot in free.by_ref().take(quota - has) {
            give(target, id, slot);
        }
    }
    assert!(free.next().is_none(), "quotas sum up to the partitions");
}

/// Members subscribe to different topics: each partition goes to the least loaded who may have it,
/// then partitions move while that evens two members out.
fn balanced(
    members: &BTreeMap<Arc<str>, Candidate<'_>>,
    partitions: &Partitions,
    target: &mut BTreeMap<Arc<str>, Assignment>,
) {
    let mut owned = kept(members, partitions);
    let readers: BTreeMap<TopicId, Vec<&Arc<str>>> = partitions
        .keys()
        .map(|topic| {
            let subscribed = members.iter().filter(|(_, it)| it.topics.contains(topic));
            (*topic, subscribed.map(|(id, _)| id).collect())
        })
        .collect();
    let taken: BTreeSet<Slot> = owned.values().flatten().copied().collect();
    let mut free: Vec<Slot> = slots(partitions).filter(|it| !taken.contains(it)).collect();
    // Topics that few may have come first: the others can still make up for it.
    free.sort_by_key(|(topic, index)| (readers[topic].len(), *topic, *index));
    for slot in free {
        let least = readers[&slot.0].iter().min_by_key(|it| (owned[**it].len(), **it)).copied();
        let Some(least) = least else { continue };
        owned.get_mut(least).expect("every member is in it").insert(slot);
    }
    even_out(&readers, &mut owned);
    for (id, slots) in &owned {
        slots.iter().for_each(|slot| give(target, id, *slot));
    }
}

/// Moves partitions from who has more to who has at least two fewer. Each move lessens the sum of
/// the squares of the loads, so that it ends.
fn even_out(
    readers: &BTreeMap<TopicId, Vec<&Arc<str>>>,
    owned: &mut BTreeMap<&Arc<str>, BTreeSet<Slot>>,
) {
    loop {
        let mut by_load: Vec<(usize, &Arc<str>)> =
            owned.iter().map(|(id, slots)| (slots.len(), *id)).collect();
        by_load.sort_unstable_by(|a, b| b.cmp(a));
        let mut has_moved = false;
        for (_, id) in by_load {
            let slots: Vec<Slot> = owned[id].iter().copied().collect();
            for slot in slots {
                let load = owned[id].len();
                let least = readers[&slot.0].iter().min_by_key(|it| (owned[**it].len(), **it));
                let Some(least) = least.filter(|it| owned[**it].len() + 1 < load).copied() else {
                    continue;
                };
                owned.get_mut(id).expect("just listed").remove(&slot);
                owned.get_mut(least).expect("every member is in it").insert(slot);
                has_moved = true;
            }
        }
        if !has_moved {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn topic(number: u8) -> TopicId {
        TopicId([number; 16])
    }

    /// Members by their topics; targets so far are taken from `before`.
    fn run(
        assignor: Assignor,
        members: &BTreeMap<Arc<str>, Vec<u8>>,
        partitions: &[(u8, i32)],
        before: &BTreeMap<Arc<str>, Assignment>,
    ) -> BTreeMap<Arc<str>, Assignment> {
        let partitions: Partitions = partitions.iter().map(|(it, n)| (topic(*it), *n)).collect();
        let none = Assignment::new();
        let candidate = |(id, topics): (&Arc<str>, &Vec<u8>)| {
            let known = topics.iter().map(|it| topic(*it)).filter(|it| partitions.contains_key(it));
            let before = before.get(id).unwrap_or(&none);
            (Arc::clone(id), Candidate { instance_id: None, topics: known.collect(), before })
        };
        let candidates: BTreeMap<_, _> = members.iter().map(candidate).collect();
        let target = assignor.assign(&candidates, &partitions);
        check(&candidates, &partitions, &target);
        target
    }

    fn check(
        members: &BTreeMap<Arc<str>, Candidate<'_>>,
        partitions: &Partitions,
        target: &BTreeMap<Arc<str>, Assignment>,
    ) {
        let mut owners: BTreeMap<Slot, &Arc<str>> = BTreeMap::new();
        for (id, assignment) in target {
            for (topic, indices) in assignment {
                assert!(members[id].topics.contains(topic), "{id} did not ask for it");
                assert!(!indices.is_empty());
                for index in indices {
                    assert!(owners.insert((*topic, *index), id).is_none(), "two owners");
                }
            }
        }
        for slot in slots(partitions) {
            let is_wanted = members.values().any(|it| it.topics.contains(&slot.0));
            assert_eq!(owners.contains_key(&slot), is_wanted, "{slot:?}");
        }
    }

    fn named(members: &[(&str, &[u8])]) -> BTreeMap<Arc<str>, Vec<u8>> {
        members.iter().map(|(id, topics)| (Arc::from(*id), topics.to_vec())).collect()
    }

    fn counts(target: &BTreeMap<Arc<str>, Assignment>) -> Vec<usize> {
        target.values().map(|it| it.values().map(BTreeSet::len).sum()).collect()
    }

    #[test]
    fn range_gives_neighbours_and_the_first_members_the_rest() {
        let members = named(&[("a", &[1, 2]), ("b", &[1, 2]), ("c", &[1])]);
        let target = run(Assignor::Range, &members, &[(1, 7), (2, 3)], &BTreeMap::new());
        let indices = |id: &str, number| -> Vec<i32> {
            target[id].get(&topic(number)).into_iter().flatten().map(|it| it.0).collect()
        };
        assert_eq!(indices("a", 1), [0, 1, 2]);
        assert_eq!(indices("b", 1), [3, 4]);
        assert_eq!(indices("c", 1), [5, 6]);
        assert_eq!(indices("a", 2), [0, 1]);
        assert_eq!(indices("b", 2), [2]);
    }

    #[test]
    fn uniform_moves_no_more_than_evenness_asks_for() {
        let one = named(&[("a", &[1])]);
        let first = run(Assignor::Uniform, &one, &[(1, 6)], &BTreeMap::new());
        let two = named(&[("a", &[1]), ("b", &[1])]);
        let second = run(Assignor::Uniform, &two, &[(1, 6)], &first);
        assert_eq!(counts(&second), [3, 3]);
        assert!(second["a"][&topic(1)].is_subset(&first["a"][&topic(1)]));
        let grown = run(Assignor::Uniform, &two, &[(1, 7)], &second);
        let mut sizes = counts(&grown);
        sizes.sort_unstable();
        assert_eq!(sizes, [3, 4]);
        for id in ["a", "b"] {
            assert!(second[id][&topic(1)].is_subset(&grown[id][&topic(1)]));
        }
        let back = run(Assignor::Uniform, &one, &[(1, 7)], &grown);
        assert_eq!(counts(&back), [7]);
    }

    #[test]
    fn uniform_evens_out_members_of_different_subscriptions() {
        let members = named(&[("a", &[1]), ("b", &[1, 2]), ("c", &[2])]);
        let target = run(Assignor::Uniform, &members, &[(1, 2), (2, 4)], &BTreeMap::new());
        assert_eq!(counts(&target), [2, 2, 2]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        #[test]
        fn targets_are_complete_even_and_stable(
            assignor in prop_oneof![Just(Assignor::Uniform), Just(Assignor::Range)],
            topics in proptest::collection::vec(0_i32..7, 1..4),
            first in proptest::collection::vec(proptest::collection::vec(0_u8..4, 0..4), 0..6),
            second in proptest::collection::vec(proptest::collection::vec(0_u8..4, 0..4), 1..6),
        ) {
            let partitions: Vec<(u8, i32)> = (0_u8..).zip(topics).collect();
            let members = |subscriptions: &[Vec<u8>]| -> BTreeMap<Arc<str>, Vec<u8>> {
                let named = subscriptions.iter().enumerate();
                named.map(|(at, topics)| (Arc::from(format!("m{at}")), topics.clone())).collect()
            };
            let before = run(assignor, &members(&first), &partitions, &BTreeMap::new());
            let after = run(assignor, &members(&second), &partitions, &before);
            let again = run(assignor, &members(&second), &partitions, &after);
            prop_assert_eq!(&after, &again, "a target that stands is not changed");
            if assignor == Assignor::Uniform {
                let second = members(&second);
                for (id, owned) in &after {
                    for topic_id in owned.keys() {
                        for (other, topics) in &second {
                            if topics.iter().any(|it| topic(*it) == *topic_id) {
                                let size = |id: &Arc<str>| {
                                    after[id].values().map(BTreeSet::len).sum::<usize>()
                                };
                                prop_assert!(size(id) <= size(other) + 1);
                            }
                        }
                    }
                }
            }
        }
    }
}
