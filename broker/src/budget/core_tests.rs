//! What the account promises, by table and at random. Pure.

use proptest::prelude::*;

use super::*;

const MIB: u64 = 1 << 20;

fn ledger() -> Ledger {
    Ledger::new(64 * MIB, None)
}

fn served(line: &mut Line, ledger: &Ledger) -> Vec<Ticket> {
    let mut served = Vec::new();
    line.serve(ledger, &mut served);
    line.check(ledger);
    served.into_iter().map(|(ticket, ..)| ticket).collect()
}

#[test]
fn each_use_has_its_share_and_takes_nothing_of_the_others() {
    let (ledger, mut line) = (ledger(), Line::default());
    let shares = [
        (Use::Connection, 16),
        (Use::Unproved, 4),
        (Use::Frame, 16),
        (Use::Answer, 16),
        (Use::Small, 64 - 52),
    ];
    for (of, mib) in shares {
        for _ in 0..mib {
            assert!(line.try_take(&ledger, of, MIB), "{of:?}");
        }
        assert!(!line.try_take(&ledger, of, 1), "{of:?}");
    }
    assert!(ledger.is_full());
}

#[test]
fn frames_have_less_where_a_setting_says_so() {
    let (ledger, mut line) = (Ledger::new(64 * MIB, Some(MIB)), Line::default());
    assert!(line.try_take(&ledger, Use::Frame, MIB));
    assert!(!line.try_take(&ledger, Use::Frame, 1));
}

#[test]
fn what_is_larger_than_its_share_is_served_alone() {
    let (ledger, mut line) = (ledger(), Line::default());
    assert!(line.try_take(&ledger, Use::Frame, 1));
    assert!(!line.try_take(&ledger, Use::Frame, 100 * MIB));
    let ticket = line.enter(&ledger, Use::Frame, 100 * MIB).unwrap();
    assert!(served(&mut line, &ledger).is_empty());
    assert!(ledger.give(Use::Frame, 1));
    assert_eq!(served(&mut line, &ledger), [ticket]);
    assert!(!line.try_take(&ledger, Use::Frame, 1));
}

#[test]
fn who_waits_is_served_in_order_and_nobody_overtakes() {
    let (ledger, mut line) = (ledger(), Line::default());
    assert!(line.try_take(&ledger, Use::Frame, 16 * MIB));
    let first = line.enter(&ledger, Use::Frame, 8 * MIB).unwrap();
    let second = line.enter(&ledger, Use::Frame, 1).unwrap();
    let third = line.enter(&ledger, Use::Frame, 9 * MIB).unwrap();
    assert!(ledger.give(Use::Frame, 4 * MIB));
    let is_none = served(&mut line, &ledger).is_empty();
    assert!(is_none, "the second fits, and waits for the first");
    assert!(!line.try_take(&ledger, Use::Frame, 1));
    assert!(ledger.give(Use::Frame, 5 * MIB));
    assert_eq!(served(&mut line, &ledger), [first, second]);
    line.leave(&ledger, Use::Frame, third);
    assert!(line.try_take(&ledger, Use::Frame, 1), "who left is waited for no longer");
}

#[test]
fn large_frames_leave_half_of_the_share_to_the_others_however_large_they_are() {
    for large in [8, 20] {
        let (ledger, mut line) = (ledger(), Line::default());
        assert!(line.try_take(&ledger, Use::LargeFrame, large * MIB));
        assert!(!line.try_take(&ledger, Use::LargeFrame, MIB));
        line.enter(&ledger, Use::LargeFrame, 100 * MIB).unwrap();
        assert!(line.try_take(&ledger, Use::Frame, 8 * MIB), "{large}");
        assert!(!line.try_take(&ledger, Use::Frame, 1), "{large}");
    }
    let (ledger, mut line) = (ledger(), Line::default());
    assert!(line.try_take(&ledger, Use::Frame, 16 * MIB), "all of it while nobody else wants some");
    assert!(!line.try_take(&ledger, Use::LargeFrame, MIB));
}

#[test]
fn other_uses_do_not_wait_for_a_full_one() {
    let (ledger, mut line) = (ledger(), Line::default());
    assert!(line.try_take(&ledger, Use::Frame, 16 * MIB));
    line.enter(&ledger, Use::Frame, 100 * MIB).unwrap();
    assert!(line.try_take(&ledger, Use::Unproved, MIB));
    assert!(line.try_take(&ledger, Use::Answer, MIB));
    assert_eq!(ledger.ration(100), Some((Use::Answer, 100)));
}

#[test]
fn as_many_wait_as_may_and_no_more() {
    let (ledger, mut line) = (ledger(), Line::default());
    ledger.take(Use::Frame, 16 * MIB);
    for _ in 0..BUDGET_WAITERS_MAX {
        line.enter(&ledger, Use::Frame, 1).unwrap();
    }
    assert_eq!(line.enter(&ledger, Use::Frame, 1), Err(LineFull));
}

#[test]
fn rations_shrink_as_the_share_does_and_small_ones_can_be_had_longest() {
    let ledger = ledger();
    let mut before = u64::MAX;
    let mut smalls = 0;
    while let Some((of, bytes)) = ledger.ration(50 * MIB) {
        assert!(bytes <= before && bytes > 0);
        assert!(smalls == 0 || of == Use::Small, "first the share, then the rest");
        before = bytes;
        smalls += u64::from(of == Use::Small);
        ledger.take(of, bytes);
    }
    assert!(smalls > 100, "{smalls}");
    assert!(ledger.used() <= ledger.total());
    assert!(!ledger.is_easy());
    assert_eq!(ledger.ration(0), Some((Use::Answer, 0)), "nothing can always be had");
}

#[test]
fn the_largest_of_those_that_hold_up_are_in_the_way() {
    let mut holders = Holders::default();
    let [a, b, c] = [5, 10, 1].map(|bytes| {
        let id = holders.number();
        holders.note(id, bytes);
        id
    });
    let check = |holders: &Holders, wanted, want: [bool; 3]| {
        assert_eq!([a, b, c].map(|id| holders.is_in_the_way(id, wanted)), want, "{wanted}");
    };
    check(&holders, 0, [false; 3]);
    check(&holders, 1, [false, true, false]);
    check(&holders, 10, [false, true, false]);
    check(&holders, 11, [true, true, false]);
    check(&holders, 100, [true; 3]);
    holders.note(b, 0);
    check(&holders, 1, [true, false, false]);
    holders.forget(a);
    check(&holders, 1, [false, false, true]);
}

/// What may happen to an account.
#[derive(Clone, Copy, Debug)]
enum Step {
    Ask(Use, u64),
    Take(u64),
    Ration(u64),
    Give(usize),
    Leave(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let conditional = prop_oneof![
        Just(Use::Connection),
        Just(Use::Unproved),
        Just(Use::Frame),
        Just(Use::Answer),
        Just(Use::Small),
        Just(Use::LargeFrame)
    ];
    let step = prop_oneof![
        3 => (conditional, 1..2000_u64).prop_map(|(of, bytes)| Step::Ask(of, bytes)),
        1 => (1..500_u64).prop_map(Step::Take),
        1 => (1..9000_u64).prop_map(Step::Ration),
        4 => any::<usize>().prop_map(Step::Give),
        1 => any::<usize>().prop_map(Step::Leave),
    ];
    proptest::collection::vec(step, 0..200)
}

proptest! {
    #[test]
    fn shares_hold_lines_are_fair_nobody_sleeps_on_and_everything_comes_back(steps in steps()) {
        let (ledger, mut line) = (Ledger::new(4096, Some(900)), Line::default());
        // What is held, and what waits: by ticket, which tells the order.
        let mut held: Vec<(Use, u64)> = Vec::new();
        let mut waits: Vec<(Ticket, Use, u64)> = Vec::new();
        for step in steps {
            match step {
                Step::Ask(of, bytes) => {
                    if line.try_take(&ledger, of, bytes) {
                        prop_assert!(waits.iter().all(|it| it.1 != of), "overtaken");
                        held.push((of, bytes));
                    } else {
                        waits.push((line.enter(&ledger, of, bytes).unwrap(), of, bytes));
                    }
                }
                Step::Take(bytes) => {
                    ledger.take(Use::Small, bytes);
                    held.push((Use::Small, bytes));
                }
                Step::Ration(bytes_max) => {
                    if let Some((of, bytes)) = ledger.ration(bytes_max) {
                        prop_assert!(bytes <= bytes_max);
                        prop_assert!(bytes <= ledger.room(of));
                        ledger.take(of, bytes);
                        held.push((of, bytes));
                    }
                }
                Step::Give(at) if !held.is_empty() => {
                    let (of, bytes) = held.swap_remove(at % held.len());
                    prop_assert_eq!(ledger.give(of, bytes), !waits.is_empty());
                }
                Step::Leave(at) if !waits.is_empty() => {
                    let (ticket, of, _) = waits.remove(at % waits.len());
                    line.leave(&ledger, of, ticket);
                }
                Step::Give(_) | Step::Leave(_) => {}
            }
            let before: Vec<_> = Use::ALL.iter().map(|&of| ledger.taken(of)).collect();
            for ticket in served(&mut line, &ledger) {
                let at = waits.iter().position(|it| it.0 == ticket).expect("it waited");
                let (_, of, bytes) = waits.remove(at);
                prop_assert!(waits.iter().all(|it| it.1 != of || it.0 > ticket), "overtaken");
                held.push((of, bytes));
            }
            for (&of, before) in Use::ALL.iter().zip(before) {
                let taken = ledger.taken(of);
                let is_alone = held.iter().filter(|it| it.0 == of).count() == 1;
                prop_assert!(taken <= before.max(ledger.share(of)) || is_alone);
            }
        }
        while let Some((of, bytes)) = held.pop() {
            let _ = ledger.give(of, bytes);
            for ticket in served(&mut line, &ledger) {
                let at = waits.iter().position(|it| it.0 == ticket).expect("it waited");
                let (_, of, bytes) = waits.remove(at);
                held.push((of, bytes));
            }
        }
        prop_assert_eq!((ledger.used(), ledger.waiting(), waits.len()), (0, 0, 0));
    }
}
