//! Tasks without a driver: order, waiting, and the commit cycle.

use super::*;
use crate::{I64, Store, StreamsBuilder, Topic, Utf8};

const WRITER: u64 = 7;

/// A table and a stream that joins it and is counted.
fn task(pace: Pace) -> TaskCore {
    let builder = StreamsBuilder::new();
    let text = |name: &str| Topic::new(name, Utf8, Utf8);
    let table = builder.table(&text("table"), Store::kv("table", Utf8, Utf8));
    let joined = builder
        .stream(&text("stream"))
        .left_join_table(&table, |_, left, found| format!("{left}+{found:?}"));
    joined.clone().to(&text("out"));
    joined.group_by_key().count(Store::kv("count", Utf8, I64)).to_stream();
    let topology = builder.build().unwrap();
    TaskCore::new(&topology, 0, PartitionIndex(3), "app", pace, WRITER)
}

fn topic(task: &TaskCore, name: &str) -> TopicIndex {
    task.inputs().find(|(_, partition)| &*partition.topic == name).unwrap().0
}

fn record(offset: i64, value: &str, at: i64) -> InputRecord {
    InputRecord {
        offset: Offset(offset),
        timestamp: Timestamp(at),
        key: Some(Bytes::from("k")),
        value: Some(Bytes::copy_from_slice(value.as_bytes())),
        headers: crate::record::Headers::default(),
    }
}

/// Feeds one record that ends `behind` records before the end of its partition.
fn feed(task: &mut TaskCore, name: &str, offset: i64, at: i64, behind: i64) {
    let (topic, next) = (topic(task, name), Offset(offset + 1));
    let value = format!("{name}{offset}");
    task.feed(topic, [record(offset, &value, at)], next, Some(next.plus(behind)));
}

/// Processes all it can; gives the values produced.
fn run(task: &mut TaskCore) -> Vec<String> {
    while task.process(Now::default(), 8).unwrap() > 0 {}
    let produced = task
        .outbox()
        .iter()
        .map(|produce| String::from_utf8_lossy(produce.value.unwrap_or_default()).into_owned());
    let produced = produced.collect();
    task.outbox().clear();
    produced
}

#[test]
fn the_smallest_event_time_goes_first_however_records_arrive() {
    let mut task = task(Pace::ByTime);
    feed(&mut task, "stream", 0, 10, 1);
    assert!(run(&mut task).is_empty(), "nothing is known of the table yet");
    feed(&mut task, "table", 0, 5, 1);
    assert!(run(&mut task).is_empty(), "the table is known to hold one more");
    feed(&mut task, "table", 1, 15, 0);
    assert_eq!(run(&mut task), [r#"stream0+Some("table0")"#]);
    feed(&mut task, "stream", 1, 20, 0);
    assert_eq!(run(&mut task), [r#"stream1+Some("table1")"#], "the table is read to its end");
}

#[test]
fn without_pace_what_is_there_is_processed() {
    let mut task = task(Pace::AsFed);
    feed(&mut task, "stream", 0, 10, 0);
    assert_eq!(run(&mut task), ["stream0+None"]);
}

#[test]
fn a_commit_gives_the_first_offset_not_processed_and_a_witness() {
    let mut task = task(Pace::AsFed);
    assert_eq!(task.prepare_commit().unwrap(), None, "nothing happened yet");
    let stream = topic(&task, "stream");
    task.feed(stream, [record(0, "a", 10), record(4, "b", 20)], Offset(9), None);
    assert_eq!(task.process(Now::default(), 1).unwrap(), 1);
    task.outbox().clear();
    let offsets = task.prepare_commit().unwrap().unwrap();
    let shown: Vec<_> =
        offsets.iter().map(|it| format!("{}={}", it.partition, it.offset)).collect();
    assert_eq!(shown, ["table-3=0", "stream-3=4"], "offset 4 waits; 1 to 3 were markers");
    let changelog: Vec<_> = task.outbox().iter().map(|produce| produce.placement).collect();
    assert_eq!(changelog, [Placement::Exactly(PartitionIndex(3))]);
    task.outbox().clear();
    task.settle(Outcome::Committed);
    run(&mut task);
    let offsets = task.prepare_commit().unwrap().unwrap();
    assert_eq!(offsets[1].offset, Offset(9), "with none waiting, the position of the fetch");
    let witness = Witness::decode(&offsets[1].metadata).unwrap();
    assert_eq!((witness.writer, witness.commit, witness.stream_time), (WRITER, 2, Timestamp(20)));
}

#[test]
fn the_offsets_read_back_say_how_an_unanswered_commit_ended() {
    let mut task = task(Pace::AsFed);
    feed(&mut task, "stream", 0, 10, 0);
    run(&mut task);
    let offsets = task.prepare_commit().unwrap().unwrap();
    let ours = offsets[0].metadata.as_str();
    let older = Witness { commit: 0, ..Witness::decode(ours).unwrap() }.encode();
    let stranger = Witness { writer: 8, ..Witness::decode(ours).unwrap() }.encode();
    assert_eq!(task.outcome([ours, ""]), Outcome::Committed);
    assert_eq!(task.outcome(["", &*older]), Outcome::Aborted);
    assert_eq!(task.outcome([&*stranger]), Outcome::Aborted);
}

#[test]
fn an_abort_returns_to_the_last_commit_in_every_respect() {
    let mut task = task(Pace::AsFed);
    feed(&mut task, "stream", 0, 10, 0);
    run(&mut task);
    task.prepare_commit().unwrap().unwrap();
    task.outbox().clear();
    task.settle(Outcome::Committed);
    feed(&mut task, "stream", 1, 50, 0);
    feed(&mut task, "table", 0, 60, 0);
    run(&mut task);
    task.prepare_commit().unwrap().unwrap();
    task.settle(Outcome::Aborted);
    assert_eq!(task.stream_time(), Timestamp(10));
    assert!(task.outbox().is_empty());
    let positions: Vec<_> = task.positions().map(|(_, offset)| offset.0).collect();
    assert_eq!(positions, [0, 1], "table and stream are fetched again from their commits");
    feed(&mut task, "stream", 1, 50, 0);
    assert_eq!(run(&mut task), ["stream1+None"], "the table's record was rolled back");
    let offsets = task.prepare_commit().unwrap().unwrap();
    assert_eq!(
        Witness::decode(&offsets[0].metadata).unwrap().commit,
        2,
        "commits are counted once"
    );
}

#[test]
fn a_new_owner_continues_with_the_newest_witness() {
    let mut task = task(Pace::AsFed);
    let (table, stream) = (topic(&task, "table"), topic(&task, "stream"));
    let newest =
        Witness { writer: 1, commit: 41, stream_time: Timestamp(99), times: BTreeMap::new() };
    let older = Witness { commit: 40, stream_time: Timestamp(50), ..newest.clone() };
    task.resume(
        &[(stream, Offset(5), &newest.encode()), (table, Offset(2), &older.encode())],
        |_| Offset::ZERO,
    );
    assert_eq!(task.stream_time(), Timestamp(99));
    assert_eq!(task.positions().map(|(_, offset)| offset.0).collect::<Vec<_>>(), [2, 5]);
    feed(&mut task, "stream", 5, 10, 0);
    run(&mut task);
    let offsets = task.prepare_commit().unwrap().unwrap();
    assert_eq!(Witness::decode(&offsets[0].metadata).unwrap().commit, 42);
}

#[test]
fn records_that_a_fetch_repeats_are_passed_over() {
    let mut task = task(Pace::AsFed);
    let stream = topic(&task, "stream");
    task.feed(stream, [record(0, "a", 1), record(1, "b", 2)], Offset(2), None);
    task.feed(stream, [record(0, "a", 1), record(1, "b", 2), record(2, "c", 3)], Offset(3), None);
    assert_eq!(run(&mut task), ["a+None", "b+None", "c+None"]);
}
