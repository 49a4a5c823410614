//! The tasks of a worker without a broker: assignments, one commit for all, and its outcome.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use protocol::ids::{Offset, PartitionIndex, TopicPartition};
use protocol::time::{Now, Timestamp};

use super::tasks::{BUFFERED_MAX, Found, TaskKey, TaskSet};
use crate::record::{Headers, InputRecord};
use crate::task::commit::Outcome;
use crate::task::{CommitOffset, Pace};
use crate::{I64, Store, StreamsBuilder, Topic, Utf8};

/// Sub-topology 0 joins and counts `stream` and `table`; sub-topology 1 passes `plain` and `more` on.
fn tasks() -> TaskSet {
    let builder = StreamsBuilder::new();
    let text = |name: &str| Topic::new(name, Utf8, Utf8);
    let table = builder.table(&text("table"), Store::kv("table", Utf8, Utf8));
    builder
        .stream(&text("stream"))
        .left_join_table(&table, |_, left, found| format!("{left}+{found:?}"))
        .group_by_key()
        .count(Store::kv("count", Utf8, I64))
        .to_stream()
        .map_values(|count| count.to_string())
        .to(&text("out"));
    builder.stream(&text("plain")).merge(builder.stream(&text("more"))).to(&text("out"));
    TaskSet::new(builder.build().unwrap(), Arc::from("app"), Pace::AsFed, 7)
}

fn partitions(names: &[(&str, i32)]) -> BTreeSet<TopicPartition> {
    names.iter().map(|(topic, partition)| TopicPartition::new(*topic, *partition)).collect()
}

fn key(subtopology: usize, partition: i32) -> TaskKey {
    TaskKey { subtopology, partition: PartitionIndex(partition) }
}

fn start(tasks: &mut TaskSet, names: &[(&str, i32)]) {
    for key in tasks.assign(&partitions(names)).unwrap() {
        tasks.resume(key, &BTreeMap::new(), &BTreeMap::new());
    }
}

fn feed(tasks: &mut TaskSet, topic: &str, offset: i64) {
    let record = InputRecord {
        offset: Offset(offset),
        timestamp: Timestamp(offset),
        key: Some(Bytes::from("k")),
        value: Some(Bytes::from("v")),
        headers: Headers::default(),
    };
    tasks.feed(&TopicPartition::new(topic, 0), [record], Offset(offset + 1), None);
}

/// Processes all; gives what was produced as `topic=value`.
fn run(tasks: &mut TaskSet) -> Vec<String> {
    while tasks.process(Now::default(), 8).unwrap() > 0 {}
    drain(tasks)
}

fn drain(tasks: &mut TaskSet) -> Vec<String> {
    let mut sent = Vec::new();
    let done = tasks.drain(|topic, produce| {
        let value = String::from_utf8_lossy(produce.value.unwrap_or_default()).into_owned();
        sent.push(format!("{topic}={value}"));
        Ok::<_, Infallible>(true)
    });
    assert_eq!(done, Ok(true));
    sent
}

fn found(offsets: &[CommitOffset]) -> BTreeMap<TopicPartition, Found> {
    let each = offsets.iter().map(|commit| {
        let found = Found { offset: commit.offset, metadata: commit.metadata.clone() };
        (commit.partition.clone(), found)
    });
    each.collect()
}

const JOINED: [(&str, i32); 2] = [("stream", 0), ("table", 0)];

#[test]
fn an_assignment_makes_one_task_per_partition_and_keeps_those_it_knows() {
    let mut tasks = tasks();
    let all = [("stream", 0), ("table", 0), ("plain", 0), ("plain", 1), ("more", 0)];
    let new = tasks.assign(&partitions(&all)).unwrap();
    assert_eq!(new, [key(0, 0), key(1, 0), key(1, 1)]);
    assert_eq!(tasks.inputs(key(1, 1)), [TopicPartition::new("plain", 1)]);
    let changelogs = tasks.changelogs(key(0, 0)).into_iter().map(|(_, partition)| partition);
    let names: Vec<String> = changelogs.map(|partition| partition.to_string()).collect();
    assert_eq!(names, ["app-table-changelog-0", "app-count-changelog-0"]);

    let fewer = [("stream", 0), ("table", 0), ("plain", 1), ("stream", 1), ("table", 1)];
    assert_eq!(tasks.assign(&partitions(&fewer)).unwrap(), [key(0, 1)]);
}

#[test]
fn inputs_that_belong_together_must_come_together() {
    let refused = tasks().assign(&partitions(&[("stream", 2)])).unwrap_err();
    assert_eq!(refused.to_string(), "task 2 of sub-topology `table` got some of its inputs only");
}

#[test]
fn a_task_runs_only_once_it_is_restored() {
    let mut tasks = tasks();
    tasks.assign(&partitions(&JOINED)).unwrap();
    feed(&mut tasks, "stream", 0);
    assert!(run(&mut tasks).is_empty());
    assert_eq!(tasks.restoring(), [key(0, 0)]);
    assert_eq!(tasks.prepare().unwrap(), []);
    let earliest = BTreeMap::from([(TopicPartition::new("stream", 0), Offset(4))]);
    let positions = tasks.resume(key(0, 0), &BTreeMap::new(), &earliest);
    let shown: Vec<String> = positions.iter().map(|(of, at)| format!("{of}@{at}")).collect();
    assert_eq!(shown, ["table-0@0", "stream-0@4"]);
    feed(&mut tasks, "stream", 4);
    assert_eq!(run(&mut tasks), ["out=1"]);
}

#[test]
fn a_task_that_comes_back_is_as_it_was_left_but_not_one_that_was_lost() {
    let mut tasks = tasks();
    start(&mut tasks, &JOINED);
    feed(&mut tasks, "stream", 0);
    run(&mut tasks);
    tasks.prepare().unwrap();
    drain(&mut tasks);
    tasks.committed();
    assert_eq!(tasks.assign(&partitions(&JOINED)).unwrap(), []);
    feed(&mut tasks, "stream", 1);
    assert_eq!(run(&mut tasks), ["out=2"]);
    tasks.lose_all();
    start(&mut tasks, &JOINED);
    feed(&mut tasks, "stream", 0);
    assert_eq!(run(&mut tasks), ["out=1"]);
    assert_eq!(tasks.counters().processed, 3, "what lost tasks counted still counts");
}

#[test]
fn one_commit_holds_all_tasks_and_its_outcome_can_be_read_back() {
    let mut tasks = tasks();
    start(&mut tasks, &[("stream", 0), ("table", 0), ("plain", 0)]);
    feed(&mut tasks, "stream", 0);
    feed(&mut tasks, "plain", 0);
    assert_eq!(run(&mut tasks), ["out=1", "out=v"]);
    let before = found(&tasks.prepare().unwrap());
    assert_eq!(before.len(), 3);
    drain(&mut tasks);
    assert_eq!(tasks.outcome(&before), Outcome::Committed);
    assert_eq!(tasks.outcome(&BTreeMap::new()), Outcome::Aborted);
    tasks.committed();
    feed(&mut tasks, "stream", 1);
    run(&mut tasks);
    let after = tasks.prepare().unwrap();
    assert_eq!(after.len(), 2, "the other task has nothing to commit");
    assert_eq!(tasks.outcome(&before), Outcome::Aborted, "those are the last commit's offsets");
    drain(&mut tasks);
    let positions = tasks.aborted();
    assert!(positions.contains(&(TopicPartition::new("stream", 0), Offset(1))));
    assert_eq!(tasks.committed_offsets()[&TopicPartition::new("stream", 0)], Offset(1));
}

#[test]
fn a_drain_that_stops_goes_on_where_it_stopped() {
    let mut tasks = tasks();
    start(&mut tasks, &JOINED);
    (0..3).for_each(|offset| feed(&mut tasks, "stream", offset));
    while tasks.process(Now::default(), 8).unwrap() > 0 {}
    let mut room = 2;
    let done = tasks.drain(|_, _| {
        room -= 1;
        Ok::<_, Infallible>(room >= 0)
    });
    assert_eq!(done, Ok(false));
    assert_eq!(drain(&mut tasks), ["out=3"]);
}

#[test]
fn an_input_with_much_waiting_is_paused_and_resumed_below_half() {
    let mut tasks = tasks();
    start(&mut tasks, &[("plain", 0)]);
    let end = i64::try_from(BUFFERED_MAX).unwrap() + 1;
    (0..end).for_each(|offset| feed(&mut tasks, "plain", offset));
    let plain = TopicPartition::new("plain", 0);
    assert_eq!(tasks.pauses(), (vec![plain.clone()], vec![]));
    assert_eq!(tasks.pauses(), (vec![], vec![]));
    tasks.process(Now::default(), BUFFERED_MAX / 2 + 2).unwrap();
    assert_eq!(tasks.pauses(), (vec![], vec![plain]));
}
