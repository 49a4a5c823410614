//! What grants and waits promise. Shell.

use futures::FutureExt;
use futures::task::noop_waker;

use super::*;

const MIB: u64 = 1 << 20;

fn budget() -> Budget {
    Budget::new(64 * MIB, None)
}

#[tokio::test]
async fn a_grant_comes_back_when_it_is_dropped_and_serves_who_waits() {
    let budget = budget();
    let held = budget.try_take(Use::Frame, 16 * MIB).unwrap();
    let mut waits = budget.take(Use::Frame, MIB).unwrap();
    assert!((&mut waits).now_or_never().is_none());
    assert_eq!((budget.waiting(), budget.waits()), (1, 1));
    drop(held);
    assert_eq!(budget.used(), MIB, "it is taken before it is looked at");
    assert_eq!(waits.await.bytes(), MIB);
    assert_eq!((budget.used(), budget.waiting()), (0, 0));
}

#[tokio::test]
async fn who_stops_waiting_leaves_nothing_behind() {
    let budget = budget();
    let held = budget.try_take(Use::Frame, 16 * MIB).unwrap();
    // One leaves the line, one is served and never looks.
    let (first, second) = (budget.take(Use::Frame, 16 * MIB), budget.take(Use::Frame, MIB));
    let third = budget.take(Use::Frame, MIB).unwrap();
    drop(first);
    assert_eq!(budget.waiting(), 2);
    drop(held);
    assert_eq!((budget.used(), budget.waiting()), (2 * MIB, 0));
    drop(second);
    assert_eq!(budget.used(), MIB);
    drop(third.await);
    assert_eq!(budget.used(), 0);
}

#[tokio::test]
async fn who_leaves_the_head_of_the_line_lets_the_next_be_served() {
    let budget = budget();
    let _held = budget.try_take(Use::Frame, 15 * MIB).unwrap();
    let first = budget.take(Use::Frame, 16 * MIB).unwrap();
    let mut second = budget.take(Use::Frame, MIB).unwrap();
    assert!((&mut second).now_or_never().is_none());
    drop(first);
    assert_eq!(second.now_or_never().map(|it| it.bytes()), Some(MIB));
}

#[test]
fn a_grant_grows_and_shrinks() {
    let budget = budget();
    let mut grant = budget.nothing(Use::Small);
    for bytes in [5, 100, 100, 7, 0, 3] {
        grant.set(bytes);
        assert_eq!((grant.bytes(), budget.used()), (bytes, bytes));
    }
    drop(grant);
    assert_eq!(budget.used(), 0);
}

#[test]
fn slow_readers_are_in_the_way_only_while_somebody_wants_what_they_hold() {
    let budget = budget();
    let answers = budget.try_take(Use::Answer, 12 * MIB).unwrap();
    let (large, small) = (budget.slow_reader(), budget.slow_reader());
    assert!(!small.is_in_the_way(MIB) && !large.is_in_the_way(10 * MIB));
    let waits = budget.take(Use::Answer, 5 * MIB).unwrap();
    assert!(!small.is_in_the_way(MIB) && large.is_in_the_way(10 * MIB));
    drop(large);
    assert!(small.is_in_the_way(MIB));
    drop(waits);
    assert!(!small.is_in_the_way(MIB));
    drop(answers);
}

#[test]
fn threads_that_take_and_wait_at_random_lose_no_wake_up_and_nothing_of_the_budget() {
    let budget = budget();
    let work = |number: u64| {
        let budget = budget.clone();
        move || {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            for round in 0..2000_u64 {
                let bytes = MIB * (1 + (number * 7 + round * 13) % 12);
                drop(runtime.block_on(budget.take(Use::Frame, bytes).unwrap()));
                budget.nothing(Use::Small).set(round);
                if round % 3 == 0 {
                    let mut leaves = budget.take(Use::Frame, bytes).unwrap();
                    let waker = noop_waker();
                    let _ = Pin::new(&mut leaves).poll(&mut Context::from_waker(&waker));
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for number in 0..4 {
            scope.spawn(work(number));
        }
    });
    assert_eq!((budget.used(), budget.waiting()), (0, 0));
}
