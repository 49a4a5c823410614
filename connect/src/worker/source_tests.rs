//! Rounds of a source: tables, and a law under random happenings. Pure.

use expect_test::{Expect, expect};
use proptest::prelude::*;
use protocol::time::Timestamp;
use serde_json::json;

use super::*;
use crate::config::Restart;
use crate::sdk::ConnectRecord;

fn core() -> SourceCore {
    let config = RoundConfig { commit_interval: Duration::from_millis(100), transaction_bytes: 10 };
    let retry = RetryConfig {
        backoff: Duration::from_secs(1),
        backoff_max: Duration::from_secs(8),
        restart: Restart::OnFailure,
    };
    SourceCore::new(config, &retry, 7)
}

fn at(ms: u64) -> Now {
    Now { monotonic: Duration::from_millis(ms), wall: Timestamp(0) }
}

fn batch(value: &str, pos: usize) -> SourceBatch {
    let record = ConnectRecord {
        topic: "t".into(),
        partition: None,
        key: None,
        value: Some(value.to_owned().into()),
        headers: Vec::new(),
        timestamp: None,
    };
    let offset = SourceOffset { partition: json!("p"), offset: Some(json!(pos)) };
    SourceBatch { records: vec![record], offsets: vec![offset] }
}

fn polled(value: &str, pos: usize) -> Event {
    Event::Polled(Ok(Polled::Batch(batch(value, pos))))
}

fn nothing(at_end: bool) -> Event {
    Event::Polled(Ok(Polled::Nothing { again_after: Duration::from_millis(50), at_end }))
}

fn positions(offsets: &[SourceOffset]) -> String {
    offsets
        .iter()
        .map(|it| it.offset.as_ref().map_or("-".to_owned(), ToString::to_string))
        .collect()
}

fn describe(effect: &Effect) -> String {
    match effect {
        Effect::Poll => "poll".to_owned(),
        Effect::Send(batch) => format!("send {}", batch.records.len()),
        Effect::Commit(offsets) => format!("commit {}", positions(offsets)),
        Effect::Tell(offsets) => format!("tell {}", positions(offsets)),
        Effect::End(Ok(ended)) => format!("end {ended:?}"),
        Effect::End(Err(error)) => format!("end: {error}"),
    }
}

/// Each event with its time in milliseconds → the effects and the time of waking.
fn check(events: Vec<(u64, Event)>, want: &Expect) {
    let mut core = core();
    let mut said = String::new();
    for (ms, event) in events {
        let mut effects = Vec::new();
        core.step(at(ms), event, &mut effects);
        let effects: Vec<String> = effects.iter().map(describe).collect();
        let wake =
            core.wake_at().map_or(String::new(), |at| format!(" wake at {}", at.as_millis()));
        said += &format!("{ms}: {}{wake}\n", effects.join(", "));
    }
    said += &format!("{:?}\n", core.progress());
    want.assert_eq(&said);
}

#[test]
fn a_round_gathers_polls_until_it_is_large_or_the_source_has_no_more() {
    check(
        vec![
            (0, Event::Started),
            (0, polled("1234", 4)),
            (1, Event::Sent),
            (2, polled("567890", 10)),
            (3, Event::Sent),
            (4, Event::Committed),
            (5, Event::Told(Ok(()))),
            (6, polled("a", 11)),
            (7, Event::Sent),
            (8, nothing(true)),
            (9, Event::Committed),
            (10, Event::Told(Ok(()))),
            (58, Event::Tick),
            (59, nothing(false)),
        ],
        &expect![[r#"
            0: poll
            0: send 1
            1: poll
            2: send 1
            3: commit 10
            4: tell 10
            5: poll
            6: send 1
            7: poll
            8: commit 11
            9: tell 11
            10:  wake at 58
            58: poll
            59:  wake at 109
            SourceProgress { records: 3, bytes: 11, commits: 2, is_at_end: false }
        "#]],
    );
}

#[test]
fn a_round_is_committed_when_it_is_old() {
    check(
        vec![
            (0, Event::Started),
            (0, polled("1", 1)),
            (99, Event::Sent),
            (99, polled("2", 2)),
            (100, Event::Sent),
        ],
        &expect![[r#"
            0: poll
            0: send 1
            99: poll
            99: send 1
            100: commit 2
            SourceProgress { records: 0, bytes: 0, commits: 0, is_at_end: false }
        "#]],
    );
}

#[test]
fn stopping_commits_what_was_polled_and_ends() {
    check(
        vec![
            (0, Event::Started),
            (1, Event::Stop),
            (2, polled("1", 1)),
            (3, Event::Sent),
            (4, Event::Committed),
            (5, Event::Told(Ok(()))),
        ],
        &expect![[r#"
            0: poll
            1: 
            2: send 1
            3: commit 1
            4: tell 1
            5: end Stopped
            SourceProgress { records: 1, bytes: 1, commits: 1, is_at_end: false }
        "#]],
    );
    check(
        vec![(0, Event::Started), (1, nothing(true)), (2, Event::Stop)],
        &expect![[r#"
        0: poll
        1:  wake at 51
        2: end Stopped
        SourceProgress { records: 0, bytes: 0, commits: 0, is_at_end: true }
    "#]],
    );
}

#[test]
fn a_finished_source_ends_behind_its_last_commit() {
    check(
        vec![
            (0, Event::Started),
            (1, polled("1", 1)),
            (2, Event::Sent),
            (3, Event::Polled(Ok(Polled::Finished))),
            (4, Event::Committed),
            (5, Event::Told(Ok(()))),
        ],
        &expect![[r#"
            0: poll
            1: send 1
            2: poll
            3: commit 1
            4: tell 1
            5: end Finished
            SourceProgress { records: 1, bytes: 1, commits: 1, is_at_end: true }
        "#]],
    );
}

#[test]
fn a_poll_that_may_succeed_later_is_repeated_and_a_fatal_one_ends_the_task() {
    let fail = |error: TaskError| Event::Polled(Err(error));
    check(
        vec![
            (0, Event::Started),
            (0, fail(TaskError::retriable("host x", "away"))),
            (2000, Event::Tick),
            (2000, fail(TaskError::fatal("table y", "dropped"))),
        ],
        &expect![[r#"
            0: poll
            0:  wake at 950
            2000: poll
            2000: end: table y: dropped
            SourceProgress { records: 0, bytes: 0, commits: 0, is_at_end: false }
        "#]],
    );
}

#[test]
fn a_failed_commit_ends_the_task_and_is_not_told() {
    check(
        vec![
            (0, Event::Started),
            (1, polled("1", 1)),
            (2, Event::Sent),
            (3, nothing(true)),
            (4, Event::Failed(TaskError::retriable("commit", "fenced"))),
        ],
        &expect![[r#"
            0: poll
            1: send 1
            2: poll
            3: commit 1
            4: end: commit: fenced
            SourceProgress { records: 0, bytes: 0, commits: 0, is_at_end: false }
        "#]],
    );
}

/// What a random world does at each effect.
#[derive(Clone, Copy, Debug)]
enum Luck {
    Good,
    Nothing,
    PollFails,
    Crash,
    Stop,
}

proptest! {
    /// A model of topic and offsets, changed by commits alone; a failed task is followed by a new one behind them.
    #[test]
    fn each_record_is_committed_once_whatever_fails(
        lucks in proptest::collection::vec(
            prop_oneof![
                6 => Just(Luck::Good), 2 => Just(Luck::Nothing), 1 => Just(Luck::PollFails),
                1 => Just(Luck::Crash), 1 => Just(Luck::Stop),
            ],
            0..200,
        ),
    ) {
        let mut lucks = lucks.into_iter();
        let (mut topic, mut committed): (Vec<usize>, usize) = (Vec::new(), 0);
        let mut now = 0;
        'tasks: loop {
            let mut core = core();
            let mut position = committed;
            let mut transaction: Vec<usize> = Vec::new();
            let mut events = vec![Event::Started];
            while let Some(event) = events.pop() {
                now += 7;
                let mut effects = Vec::new();
                core.step(at(now), event, &mut effects);
                if effects.is_empty() && events.is_empty() {
                    let wake = core.wake_at().expect("it waits");
                    now = now.max(u64::try_from(wake.as_millis()).unwrap() + 1);
                    events.push(Event::Tick);
                }
                for effect in effects {
                    let Some(luck) = lucks.next() else { break 'tasks };
                    let event = match (effect, luck) {
                        (Effect::End(_), _) => continue 'tasks,
                        (Effect::Poll, Luck::PollFails) => Event::Polled(Err(TaskError::retriable("x", "y"))),
                        (Effect::Poll, Luck::Nothing) => nothing(true),
                        (Effect::Poll, _) => {
                            position += 1;
                            polled("abc", position)
                        }
                        // The crash may come before the commit or after.
                        (Effect::Commit(_), Luck::Crash) => continue 'tasks,
                        (Effect::Commit(offsets), _) => {
                            topic.append(&mut transaction);
                            committed = usize::try_from(offsets[0].offset.as_ref().unwrap().as_u64().unwrap()).unwrap();
                            Event::Committed
                        }
                        (Effect::Tell(_), Luck::Crash) => continue 'tasks,
                        (Effect::Tell(offsets), _) => {
                            prop_assert_eq!(positions(&offsets), committed.to_string());
                            Event::Told(Ok(()))
                        }
                        (Effect::Send(_), Luck::Crash) => Event::Failed(TaskError::retriable("x", "y")),
                        (Effect::Send(_), _) => {
                            transaction.push(position);
                            Event::Sent
                        }
                    };
                    events.push(event);
                    if matches!(luck, Luck::Stop) {
                        events.push(Event::Stop);
                    }
                }
            }
        }
        prop_assert_eq!(topic, (1..=committed).collect::<Vec<_>>());
    }
}
