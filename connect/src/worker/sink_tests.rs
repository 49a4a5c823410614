//! Turns of a sink: tables, and a law under random happenings. Pure.

use expect_test::{Expect, expect};
use proptest::prelude::*;
use protocol::mutant::{Mutant, activate};
use protocol::time::Timestamp;

use super::*;
use crate::config::Restart;
use crate::sdk::{SinkRecord, TopicId};

fn core() -> SinkCore {
    let retry = RetryConfig {
        backoff: Duration::from_secs(1),
        backoff_max: Duration::from_secs(8),
        restart: Restart::OnFailure,
    };
    SinkCore::new(Duration::from_secs(10), &retry, 7)
}

fn at(seconds: u64) -> Now {
    Now { monotonic: Duration::from_secs(seconds), wall: Timestamp(0) }
}

fn tp(index: i32) -> TopicPartition {
    TopicPartition::new("t", index)
}

fn batch(index: i32, offsets: std::ops::Range<i64>) -> SinkBatch {
    let record = |offset| SinkRecord {
        offset: Offset(offset),
        timestamp: Timestamp(0),
        key: None,
        value: Some("v".into()),
        headers: Vec::new(),
    };
    SinkBatch { partition: tp(index), records: offsets.map(record).collect() }
}

fn assigned(index: i32, committed: Option<i64>) -> Event {
    Event::Assigned(vec![Assigned {
        partition: tp(index),
        committed: committed.map(Offset),
        topic_id: TopicId::ZERO,
        log_start: Offset(0),
        log_end: Offset(1000),
    }])
}

fn describe(effect: &Effect) -> String {
    let offsets = |list: &[(TopicPartition, Offset)]| {
        list.iter().map(|(at, offset)| format!(" {at}@{offset}")).collect::<String>()
    };
    let span = |batch: &SinkBatch| {
        format!(
            "{} {}..{}",
            batch.partition,
            batch.records[0].offset,
            batch.end().expect("not empty")
        )
    };
    match effect {
        Effect::Open(added) => format!(
            "open{}",
            added
                .iter()
                .map(|it| format!(" {}@{}", it.partition, it.committed.map_or(-1, |it| it.0)))
                .collect::<String>()
        ),
        Effect::Seek(list) => format!("seek{}", offsets(list)),
        Effect::Fetch { until, is_paused } => {
            format!("fetch until {}{}", until.as_secs(), if *is_paused { " paused" } else { "" })
        }
        Effect::Put(batch) => format!("put {}", span(batch)),
        Effect::Judge(_, rejected) => format!("judge {}", rejected.len()),
        Effect::Flush(how) => format!("flush {how:?}"),
        Effect::Commit(list) => format!("commit{}", offsets(list)),
        Effect::Tell(list) => format!("tell{}", offsets(list)),
        Effect::Close(list) => {
            format!("close{}", list.iter().map(|it| format!(" {it}")).collect::<String>())
        }
        Effect::End(Ok(())) => "end".to_owned(),
        Effect::End(Err(error)) => format!("end: {error}"),
    }
}

/// Each event with its time in seconds and what partition 0 has durable → the effects.
fn check(events: Vec<(u64, Event, Option<i64>)>, want: &Expect) {
    let mut core = core();
    let mut said = String::new();
    for (seconds, event, durable) in events {
        let mut effects = Vec::new();
        let committable: Vec<_> =
            durable.map(|offset| (tp(0), Offset(offset))).into_iter().collect();
        core.step(at(seconds), event, &committable, &mut effects);
        let effects: Vec<String> = effects.iter().map(describe).collect();
        said += &format!("{seconds}: {}\n", effects.join(", "));
    }
    want.assert_eq(&said);
}

fn fetched(batches: Vec<SinkBatch>) -> Event {
    Event::Fetched { batches, positions: Vec::new() }
}

fn opened(starts: &[(i32, i64)]) -> Event {
    Event::Opened(Ok(starts.iter().map(|&(index, offset)| (tp(index), Offset(offset))).collect()))
}

/// A task with partition 0 open at offset 5 and its first flush done, fetching until 10.
fn running(then: Vec<(u64, Event, Option<i64>)>) -> Vec<(u64, Event, Option<i64>)> {
    let mut events = vec![
        (0, Event::Flushed(Ok(())), None),
        (0, assigned(0, Some(5)), None),
        (0, fetched(Vec::new()), None),
        (0, opened(&[]), None),
    ];
    events.extend(then);
    events.insert(0, (0, Event::Begin, None));
    events
}

#[test]
fn what_the_sink_calls_durable_is_committed_in_time_and_told() {
    check(
        running(vec![
            (1, fetched(vec![batch(0, 5..8), batch(0, 8..9)]), None),
            (1, Event::Put(Ok(Vec::new())), None),
            (1, Event::Put(Ok(Vec::new())), None),
            (10, fetched(Vec::new()), None),
            (10, Event::Flushed(Ok(())), Some(7)),
            (10, Event::Committed { is_done: true }, None),
            (10, Event::Told(Ok(())), None),
            (20, fetched(Vec::new()), None),
            (20, Event::Flushed(Ok(())), Some(7)),
        ]),
        &expect![[r#"
            0: flush Due
            0: fetch until 10
            0: 
            0: open t-0@5
            0: fetch until 10
            1: put t-0 5..8
            1: put t-0 8..9
            1: fetch until 10
            10: flush Due
            10: commit t-0@7
            10: tell t-0@7
            10: fetch until 20
            20: flush Due
            20: fetch until 30
        "#]],
    );
}

#[test]
fn a_sink_is_never_believed_beyond_what_it_was_given() {
    check(
        running(vec![
            (1, fetched(vec![batch(0, 5..8)]), Some(99)),
            (1, Event::Put(Ok(Vec::new())), Some(99)),
        ]),
        &expect![[r#"
            0: flush Due
            0: fetch until 10
            0: 
            0: open t-0@5
            0: fetch until 10
            1: put t-0 5..8
            1: commit t-0@8
        "#]],
    );
}

#[test]
fn what_is_no_record_is_committed_with_the_records_before_it() {
    let marked = |batches: Vec<SinkBatch>, position| Event::Fetched {
        batches,
        positions: vec![(tp(0), Offset(position))],
    };
    check(
        running(vec![
            // A marker at 8; another at 10 after a transaction of one record.
            (1, marked(vec![batch(0, 5..8)], 9), None),
            (1, Event::Put(Ok(Vec::new())), Some(7)),
            (1, Event::Committed { is_done: true }, None),
            (1, Event::Told(Ok(())), None),
            (10, fetched(Vec::new()), None),
            (10, Event::Flushed(Ok(())), Some(8)),
            (20, marked(vec![batch(0, 9..10)], 11), None),
        ]),
        &expect![[r#"
            0: flush Due
            0: fetch until 10
            0: 
            0: open t-0@5
            0: fetch until 10
            1: put t-0 5..8
            1: commit t-0@7
            1: tell t-0@7
            1: fetch until 10
            10: flush Due
            10: fetch until 11
            20: commit t-0@9
        "#]],
    );
}

#[test]
fn a_sink_may_start_elsewhere_and_stale_records_are_dropped() {
    check(
        vec![
            (0, assigned(0, Some(5)), None),
            (0, opened(&[(0, 3)]), None),
            (0, Event::Sought, None),
            (0, Event::Flushed(Ok(())), None),
            (1, fetched(vec![batch(0, 1..5)]), None),
            (1, Event::Put(Ok(Vec::new())), Some(4)),
            (1, fetched(vec![batch(0, 5..7)]), None),
            (1, Event::Put(Ok(Vec::new())), Some(7)),
        ],
        &expect![[r#"
            0: open t-0@5
            0: seek t-0@3
            0: flush Due
            0: fetch until 10
            1: put t-0 3..5
            1: fetch until 10
            1: put t-0 5..7
            1: commit t-0@7
        "#]],
    );
}

#[test]
fn a_put_is_repeated_while_the_task_stays_a_member() {
    check(
        running(vec![
            (1, fetched(vec![batch(0, 5..8)]), None),
            (1, Event::Put(Err(TaskError::retriable("store", "away"))), None),
            (2, fetched(Vec::new()), None),
            (3, Event::Put(Ok(Vec::new())), None),
        ]),
        &expect![[r#"
            0: flush Due
            0: fetch until 10
            0: 
            0: open t-0@5
            0: fetch until 10
            1: put t-0 5..8
            1: fetch until 1 paused
            2: put t-0 5..8
            3: fetch until 10
        "#]],
    );
}

#[test]
fn refused_records_are_judged_and_then_need_not_be_durable() {
    let refused = |offset| {
        vec![Rejected { offset: Offset(offset), reason: TaskError::fatal("record", "no JSON") }]
    };
    check(
        running(vec![
            (1, fetched(vec![batch(0, 5..8), batch(0, 8..9)]), None),
            (1, Event::Put(Ok(refused(7))), Some(7)),
            (1, Event::Judged, Some(7)),
            (1, Event::Committed { is_done: true }, None),
            (1, Event::Told(Ok(())), None),
            (1, Event::Put(Ok(refused(8))), Some(7)),
            (1, Event::Judged, Some(7)),
            (11, fetched(Vec::new()), Some(7)),
        ]),
        &expect![[r#"
            0: flush Due
            0: fetch until 10
            0: 
            0: open t-0@5
            0: fetch until 10
            1: put t-0 5..8
            1: judge 1
            1: commit t-0@8
            1: tell t-0@8
            1: put t-0 8..9
            1: judge 1
            1: fetch until 10
            11: commit t-0@9
        "#]],
    );
}

#[test]
fn partitions_are_given_back_flushed_and_committed() {
    check(
        running(vec![
            (1, fetched(vec![batch(0, 5..8), batch(0, 8..9)]), None),
            (1, Event::Revoked(vec![tp(0)]), None),
            (1, Event::Put(Ok(Vec::new())), None),
            (1, Event::Flushed(Ok(())), Some(8)),
            (1, Event::Committed { is_done: true }, None),
            (1, Event::Told(Ok(())), None),
            (1, Event::Closed, None),
        ]),
        &expect![[r#"
            0: flush Due
            0: fetch until 10
            0: 
            0: open t-0@5
            0: fetch until 10
            1: put t-0 5..8
            1: 
            1: flush All
            1: commit t-0@8
            1: tell t-0@8
            1: close t-0
            1: fetch until 11
        "#]],
    );
}

#[test]
fn lost_partitions_are_closed_without_a_commit() {
    check(
        running(vec![
            (1, fetched(vec![batch(0, 5..8)]), None),
            (1, Event::Put(Ok(Vec::new())), None),
            (1, Event::Lost(vec![tp(0)]), None),
            (1, fetched(Vec::new()), None),
            (1, Event::Closed, Some(8)),
        ]),
        &expect![[r#"
            0: flush Due
            0: fetch until 10
            0: 
            0: open t-0@5
            0: fetch until 10
            1: put t-0 5..8
            1: fetch until 10
            1: 
            1: close t-0
            1: fetch until 10
        "#]],
    );
}

#[test]
fn the_end_comes_after_a_last_flush_and_commit_even_if_they_fail() {
    check(
        running(vec![
            (1, fetched(vec![batch(0, 5..8)]), None),
            (1, Event::Put(Ok(Vec::new())), None),
            (1, Event::Stop, None),
            (1, fetched(Vec::new()), None),
            (1, Event::Flushed(Err(TaskError::retriable("store", "away"))), Some(6)),
            (1, Event::Committed { is_done: false }, None),
            (1, Event::Closed, None),
        ]),
        &expect![[r#"
            0: flush Due
            0: fetch until 10
            0: 
            0: open t-0@5
            0: fetch until 10
            1: put t-0 5..8
            1: fetch until 10
            1: 
            1: flush All
            1: commit t-0@6
            1: close t-0
            1: end
        "#]],
    );
}

#[test]
fn all_is_flushed_when_asked_for_and_committed_at_once() {
    check(
        running(vec![
            (1, fetched(vec![batch(0, 5..8)]), None),
            (1, Event::FlushAll, None),
            (1, Event::Put(Ok(Vec::new())), None),
            (1, Event::Flushed(Ok(())), Some(8)),
        ]),
        &expect![[r#"
            0: flush Due
            0: fetch until 10
            0: 
            0: open t-0@5
            0: fetch until 10
            1: put t-0 5..8
            1: 
            1: flush All
            1: commit t-0@8
        "#]],
    );
}

#[test]
fn a_fatal_failure_ends_the_task_at_once() {
    check(
        running(vec![
            (1, fetched(vec![batch(0, 5..8)]), None),
            (1, Event::Put(Err(TaskError::fatal("store", "no permission"))), None),
        ]),
        &expect![[r#"
            0: flush Due
            0: fetch until 10
            0: 
            0: open t-0@5
            0: fetch until 10
            1: put t-0 5..8
            1: end: store: no permission
        "#]],
    );
}

/// A world of one partition: a log, a sink that keeps what it flushed, a group that keeps what was committed.
#[derive(Debug, Default)]
struct World {
    log_end: i64,
    committed: i64,
    /// Where the next fetch is from.
    fetch_from: i64,
    /// Put, not durable.
    buffered: Vec<i64>,
    durable: Vec<i64>,
    is_open: bool,
}

impl World {
    fn durable_end(&self) -> i64 {
        self.durable.last().map_or(0, |last| last + 1)
    }

    /// Does what is asked, or fails.
    fn perform(&mut self, effect: &Effect, fails: bool) -> Event {
        let away = || TaskError::retriable("store", "away");
        match effect {
            Effect::Open(_) => {
                assert!(!self.is_open);
                self.is_open = true;
                self.buffered.clear();
                self.fetch_from = self.durable_end();
                opened(&[(0, self.fetch_from)])
            }
            Effect::Seek(_) => Event::Sought,
            Effect::Fetch { is_paused: true, .. } => fetched(Vec::new()),
            Effect::Fetch { .. } => {
                let from = self.fetch_from;
                let to = (from + 3).min(self.log_end);
                self.fetch_from = to;
                let batches =
                    if from < to && self.is_open { vec![batch(0, from..to)] } else { Vec::new() };
                Event::Fetched { batches, positions: vec![(tp(0), Offset(to))] }
            }
            Effect::Put(_) if fails => Event::Put(Err(away())),
            Effect::Put(batch) => {
                let next = self.buffered.last().map_or(self.durable_end(), |last| last + 1);
                assert_eq!(batch.records[0].offset, Offset(next), "each record once, in order");
                self.buffered.extend(batch.records.iter().map(|record| record.offset.0));
                Event::Put(Ok(Vec::new()))
            }
            Effect::Flush(_) if fails => Event::Flushed(Err(away())),
            Effect::Flush(_) => {
                self.durable.append(&mut self.buffered);
                Event::Flushed(Ok(()))
            }
            Effect::Commit(_) if fails => Event::Committed { is_done: false },
            Effect::Commit(offsets) => {
                assert!(offsets[0].1.0 > self.committed);
                assert!(offsets[0].1.0 <= self.durable_end());
                self.committed = offsets[0].1.0;
                Event::Committed { is_done: true }
            }
            Effect::Tell(_) => Event::Told(Ok(())),
            Effect::Close(_) => {
                self.is_open = false;
                Event::Closed
            }
            Effect::Judge(..) | Effect::End(_) => {
                unreachable!("nothing is refused, and ends are handled before")
            }
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Luck {
    Good,
    Fails,
    Write,
    Revoke,
    Lose,
    Assign,
    FlushAll,
    Crash,
}

fn luck() -> impl Strategy<Value = Luck> {
    prop_oneof![
        10 => Just(Luck::Good), 2 => Just(Luck::Fails), 5 => Just(Luck::Write), 1 => Just(Luck::Revoke),
        1 => Just(Luck::Lose), 3 => Just(Luck::Assign), 1 => Just(Luck::FlushAll), 1 => Just(Luck::Crash),
    ]
}

proptest! {
    // The same law is broken on purpose below: what fails then is nothing to keep.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn a_sink_that_keeps_its_offsets_gets_each_record_once_whatever_happens(
        lucks in proptest::collection::vec(luck(), 0..300),
    ) {
        let mut world = World::default();
        let (mut core, mut seconds) = (core(), 0);
        let (mut is_assigned, mut pending): (bool, Option<Effect>) = (false, None);
        let at_last = (0..1200).map(|n| if n % 3 == 0 { Luck::Assign } else { Luck::Good });
        let lucks = lucks.into_iter().chain([Luck::Write]).chain(at_last);
        for luck in lucks {
            seconds += 1;
            let notice = match luck {
                Luck::Assign if !is_assigned && !core.holds(&tp(0)) => {
                    is_assigned = true;
                    Some(assigned(0, Some(world.committed)))
                }
                Luck::Revoke | Luck::Lose if is_assigned => {
                    is_assigned = false;
                    let gone = vec![tp(0)];
                    Some(if matches!(luck, Luck::Lose) { Event::Lost(gone) } else { Event::Revoked(gone) })
                }
                Luck::FlushAll => Some(Event::FlushAll),
                Luck::Write => {
                    world.log_end += 2;
                    None
                }
                Luck::Crash => {
                    (core, pending, is_assigned) = (self::core(), None, false);
                    world.is_open = false;
                    None
                }
                _ => None,
            };
            let event = match notice {
                Some(event) => event,
                None => match pending.take() {
                    Some(effect) => world.perform(&effect, matches!(luck, Luck::Fails)),
                    None => Event::FlushAll,
                },
            };
            let committable = [(tp(0), Offset(world.durable_end()))];
            let mut effects = Vec::new();
            core.step(at(seconds), event, &committable, &mut effects);
            prop_assert!(effects.len() <= 1, "{:?}", effects);
            if let Some(effect) = effects.pop() {
                prop_assert!(pending.is_none());
                pending = Some(effect);
            }
        }
        prop_assert!(world.durable.iter().copied().eq(0..world.durable_end()));
        // With luck at last, all that was written is durable and committed.
        prop_assert_eq!((world.durable_end(), world.committed), (world.log_end, world.log_end));
    }
}

/// The law above is held against a mistake that it must notice.
#[test]
fn offsets_of_what_is_not_durable_are_noticed() {
    activate(Some(Mutant::CommitUndurable));
    let noticed = std::panic::catch_unwind(
        a_sink_that_keeps_its_offsets_gets_each_record_once_whatever_happens,
    );
    activate(None);
    assert!(noticed.is_err());
}
