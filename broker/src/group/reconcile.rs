//! One member's next step towards its target. KIP-848.
//!
//! A member gives up first what its target no longer holds; then it enters the target's epoch and
//! takes what is free; what others still hold it takes later, heartbeat by heartbeat.
//!
//! | state | left when |
//! |---|---|
//! | Stable | the target's epoch is another |
//! | Unrevoked | the member no longer owns what it must give up |
//! | Unreleased | all of its target is free |
//!
//! Invariant: nothing is assigned that another member holds, or that is not in the target.
//!
//! Pure.

use super::assignor::Assignment;
use super::modern::{Current, Epoch, MemberState, Slot, slots};

/// Where a member is to go.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// Its epoch once it is there.
    pub epoch: Epoch,
    /// What it then owns.
    pub partitions: &'a Assignment,
}

/// Where the member stands after a heartbeat. `owned` is what it says it owns, `None` when it did
/// not say. Returns `None` for a member in a state that we do not know: it must start over.
#[must_use]
pub fn step(
    current: &Current,
    target: Target<'_>,
    owned: Option<&Assignment>,
    is_held_by_another: impl Fn(&Slot) -> bool,
) -> Option<Current> {
    let from = match current.state {
        MemberState::Stable if current.epoch == target.epoch => return Some(current.clone()),
        MemberState::Stable | MemberState::Unreleased => current.epoch,
        MemberState::Unrevoked if owns_any(owned, &current.revoking) => {
            return Some(current.clone());
        }
        MemberState::Unrevoked => current.epoch.next(),
        MemberState::Unknown if owned.is_some_and(Assignment::is_empty) => target.epoch,
        MemberState::Unknown => return None,
    };
    Some(walk(current, from, target, owned, is_held_by_another))
}

fn walk(
    current: &Current,
    from: Epoch,
    target: Target<'_>,
    owned: Option<&Assignment>,
    is_held_by_another: impl Fn(&Slot) -> bool,
) -> Current {
    let (mut assigned, mut revoking) = (Assignment::new(), Assignment::new());
    for slot in slots(&current.assigned) {
        insert(if has(target.partitions, &slot) { &mut assigned } else { &mut revoking }, slot);
    }
    let previous_epoch = current.epoch;
    if owns_any(owned, &revoking) {
        let state = MemberState::Unrevoked;
        return Current { epoch: from, previous_epoch, state, assigned, revoking };
    }
    let mut state = MemberState::Stable;
    for slot in slots(target.partitions) {
        if is_held_by_another(&slot) {
            state = MemberState::Unreleased;
        } else {
            insert(&mut assigned, slot);
        }
    }
    let revoking = Assignment::new();
    Current { epoch: target.epoch, previous_epoch, state, assigned, revoking }
}

/// True when `owned` holds any of `partitions`; a member that does not say may own them all.
fn owns_any(owned: Option<&Assignment>, partitions: &Assignment) -> bool {
    let Some(owned) = owned else { return !partitions.is_empty() };
    slots(partitions).any(|slot| has(owned, &slot))
}

/// True when `assignment` holds `slot`.
#[must_use]
pub fn has(assignment: &Assignment, (topic, index): &Slot) -> bool {
    assignment.get(topic).is_some_and(|indices| indices.contains(index))
}

fn insert(assignment: &mut Assignment, (topic, index): Slot) {
    assignment.entry(topic).or_default().insert(index);
}

#[cfg(test)]
mod tests {
    use protocol::ids::{PartitionIndex, TopicId};

    use super::*;

    fn some(indices: &[i32]) -> Assignment {
        let indices = indices.iter().map(|it| PartitionIndex(*it));
        let all = Assignment::from([(TopicId([1; 16]), indices.collect())]);
        all.into_iter()
            .filter(|(_, it): &(_, std::collections::BTreeSet<_>)| !it.is_empty())
            .collect()
    }

    fn at(epoch: i32, state: MemberState, assigned: &[i32], revoking: &[i32]) -> Current {
        Current {
            epoch: Epoch(epoch),
            previous_epoch: Epoch(epoch - 1),
            state,
            assigned: some(assigned),
            revoking: some(revoking),
        }
    }

    /// `owned` empty for a member that does not say; `[-1]` for one that owns nothing.
    fn check(
        current: &Current,
        (epoch, target): (i32, &[i32]),
        owned: &[i32],
        others: &[i32],
        want: (i32, MemberState, &[i32], &[i32]),
    ) {
        let target = some(target);
        let target = Target { epoch: Epoch(epoch), partitions: &target };
        let told = some(owned);
        let told = (!owned.is_empty()).then_some(&told);
        let next = step(current, target, told, |(_, index)| others.contains(&index.0)).unwrap();
        assert_eq!(
            (next.epoch.0, next.state, next.assigned, next.revoking),
            (want.0, want.1, some(want.2), some(want.3))
        );
    }

    #[test]
    fn a_member_gives_up_before_it_takes_and_takes_what_is_free() {
        use MemberState::{Stable, Unreleased, Unrevoked};
        let stable = at(1, Stable, &[0, 1], &[]);
        check(&stable, (1, &[0, 1]), &[], &[], (1, Stable, &[0, 1], &[]));
        // It learns what to give up, and stays in its epoch until it has.
        check(&stable, (2, &[1, 2]), &[], &[], (1, Unrevoked, &[1], &[0]));
        let revoking = at(1, Unrevoked, &[1], &[0]);
        check(&revoking, (2, &[1, 2]), &[], &[], (1, Unrevoked, &[1], &[0]));
        check(&revoking, (2, &[1, 2]), &[0, 1], &[], (1, Unrevoked, &[1], &[0]));
        check(&revoking, (2, &[1, 2]), &[1], &[], (2, Stable, &[1, 2], &[]));
        check(&revoking, (2, &[1, 2]), &[1], &[2], (2, Unreleased, &[1], &[]));
        // The target moved on meanwhile.
        check(&revoking, (4, &[2]), &[1], &[], (2, Unrevoked, &[], &[1]));
        let waiting = at(2, Unreleased, &[1], &[]);
        check(&waiting, (2, &[1, 2]), &[], &[2], (2, Unreleased, &[1], &[]));
        check(&waiting, (2, &[1, 2]), &[], &[], (2, Stable, &[1, 2], &[]));
        check(&waiting, (3, &[2]), &[1], &[], (2, Unrevoked, &[], &[1]));
        // What it no longer owns it need not give up.
        check(&stable, (2, &[2]), &[-1], &[], (2, Stable, &[2], &[]));
    }

    #[test]
    fn a_member_in_an_unknown_state_must_own_nothing_to_go_on() {
        let lost = at(1, MemberState::Unknown, &[0], &[]);
        let target = some(&[0]);
        let target = Target { epoch: Epoch(3), partitions: &target };
        assert_eq!(step(&lost, target, None, |_| false), None);
        assert_eq!(step(&lost, target, Some(&some(&[0])), |_| false), None);
        let next = step(&lost, target, Some(&Assignment::new()), |_| false).unwrap();
        assert_eq!((next.epoch, next.state), (Epoch(3), MemberState::Stable));
    }
}
