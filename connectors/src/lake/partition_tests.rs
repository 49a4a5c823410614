//! One partition's phases by example, and many writers of one partition in every order. Pure.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use connect::sdk::{Assigned, Timestamp};
use expect_test::{Expect, expect};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use proptest::prelude::*;

use super::super::gathering::FILES_MAX;
use super::super::intent::Chain;
use super::super::layout::{Format, KeyFormat, intent_start};
use super::*;

const LIMITS: Limits = Limits { rows: 1000, bytes: 1 << 20, age: Duration::from_secs(60) };
const HOUR_MS: i64 = 3_600_000;

fn layout(format: Format) -> Arc<Layout> {
    Arc::new(Layout {
        format,
        key: KeyFormat::Text,
        metadata_prefix: "_".to_owned(),
        compression_level: 1,
    })
}

fn id() -> TopicPartition {
    TopicPartition::new("logs", 0)
}

fn record(offset: i64, hour: i64, value: &str) -> SinkRecord {
    SinkRecord {
        offset: Offset(offset),
        timestamp: Timestamp(hour * HOUR_MS),
        key: None,
        value: Some(Bytes::copy_from_slice(value.as_bytes())),
        headers: Vec::new(),
    }
}

fn fresh(format: Format) -> Partition {
    let resumption =
        Resumption { unfinished: VecDeque::new(), start: Offset(0), durable: None, position: None };
    Partition::new(id(), TopicId::ZERO, "writer".into(), layout(format), Vec::new(), resumption)
}

/// The offsets in a file, in order.
fn offsets(file: &Bytes) -> Vec<i64> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(file.clone()).unwrap().build().unwrap();
    let mut found = Vec::new();
    for batch in reader {
        let batch = batch.unwrap();
        let column = batch.column_by_name("_offset").unwrap();
        found.extend(column.as_primitive::<Int64Type>().values().iter());
    }
    found
}

/// Does all steps with a store that works, telling each.
fn steps(partition: &mut Partition) -> Vec<String> {
    let mut told = Vec::new();
    while let Some(step) = partition.next() {
        match step {
            Step::Encode => partition.encode().unwrap(),
            Step::Announce { path, body } => {
                let intent = Intent::from_json(&id(), partition.start, &body).unwrap();
                told.push(format!("announce {path}: [{}, {})", intent.first, intent.end));
                partition.announced();
            }
            Step::Survey { directory } => {
                told.push(format!("survey {directory}"));
                partition.surveyed(vec![partition.start]).unwrap();
            }
            Step::Write { path, bytes } => {
                told.push(format!("write {path}: {:?}", offsets(&bytes)));
                partition.written();
            }
        }
    }
    told.push(format!("durable {:?}", partition.durable().map(|it| it.0)));
    told
}

fn check(partition: &mut Partition, want: &Expect) {
    want.assert_eq(&(steps(partition).join("\n") + "\n"));
}

#[test]
fn a_flush_is_announced_before_its_files_are_written_one_for_each_hour() {
    let mut partition = fresh(Format::Text);
    let records =
        [record(3, 10, "a"), record(4, 11, "b"), record(7, 10, "c"), record(9, -1, "no time")];
    assert_eq!(partition.take(Duration::ZERO, &records).unwrap(), 4);
    assert_eq!(partition.next(), None);
    partition.seal(Duration::ZERO, &LIMITS, Flush::All).unwrap();
    check(
        &mut partition,
        &expect![[r#"
        announce _intent/logs/0/00000000000000000000.json: [3, 10)
        survey _intent/logs/0
        write logs/date=__HIVE_DEFAULT_PARTITION__/hour=__HIVE_DEFAULT_PARTITION__/logs+0+00000000000000000000.parquet: [9]
        write logs/date=1970-01-01/hour=10/logs+0+00000000000000000000.parquet: [3, 7]
        write logs/date=1970-01-01/hour=11/logs+0+00000000000000000000.parquet: [4]
        durable Some(10)
    "#]],
    );
    // The next range begins where this one ended.
    partition.take(Duration::ZERO, &[record(12, 10, "d")]).unwrap();
    partition.seal(Duration::ZERO, &LIMITS, Flush::All).unwrap();
    check(
        &mut partition,
        &expect![[r#"
        announce _intent/logs/0/00000000000000000010.json: [12, 13)
        survey _intent/logs/0
        write logs/date=1970-01-01/hour=10/logs+0+00000000000000000010.parquet: [12]
        durable Some(13)
    "#]],
    );
}

#[test]
fn a_flush_is_due_by_rows_bytes_or_age_and_never_without_records() {
    let second = Duration::from_secs(1);
    let is_sealed = |limits: &Limits, now: Duration, values: &[&str]| {
        let mut partition = fresh(Format::Text);
        for (offset, value) in (0..).zip(values) {
            partition.take(second, &[record(offset, 1, value)]).unwrap();
        }
        partition.seal(now, limits, Flush::Due).unwrap();
        partition.next().is_some()
    };
    let limits = Limits { rows: 3, bytes: 100, age: second * 10 };
    assert!(!is_sealed(&limits, second * 10, &["a", "b"]));
    assert!(is_sealed(&limits, second * 11, &["a", "b"]));
    assert!(is_sealed(&limits, second, &["a", "b", "c"]));
    assert!(is_sealed(&limits, second, &[&"x".repeat(100)]));
    assert!(!is_sealed(&limits, second * 99, &[]));
    let mut empty = fresh(Format::Text);
    empty.seal(second, &limits, Flush::All).unwrap();
    assert_eq!(empty.next(), None);
}

#[test]
fn refused_records_are_told_once_and_a_range_of_them_alone_is_announced_without_files() {
    let mut partition = fresh(Format::Inferred);
    let records = [record(0, 1, "{"), record(1, 1, "[1]"), record(2, 1, "{\"a\": 1} {}")];
    assert_eq!(partition.take(Duration::ZERO, &records).unwrap(), 3);
    let told: Vec<String> = partition
        .take_rejected()
        .iter()
        .map(|it| format!("{}: {}", it.offset, it.reason))
        .collect();
    expect![[r#"
        0: record 0 of logs-0: not a JSON object: EOF while parsing an object at line 1 column 1
        1: record 1 of logs-0: not a JSON object: invalid type: sequence, expected an object at line 1 column 0
        2: record 2 of logs-0: not a JSON object: trailing characters at line 1 column 10"#]].assert_eq(&told.join("\n"));
    assert!(partition.take_rejected().is_empty());
    partition.seal(Duration::ZERO, &LIMITS, Flush::All).unwrap();
    check(
        &mut partition,
        &expect![[r#"
        announce _intent/logs/0/00000000000000000000.json: [0, 3)
        survey _intent/logs/0
        durable Some(3)
    "#]],
    );
}

#[test]
fn records_put_again_are_taken_once() {
    let mut partition = fresh(Format::Text);
    let records = [record(0, 1, "a"), record(1, 1, "b"), record(2, 1, "c")];
    partition.take(Duration::ZERO, &records[..2]).unwrap();
    assert_eq!(partition.take(Duration::ZERO, &records).unwrap(), 3);
    partition.seal(Duration::ZERO, &LIMITS, Flush::All).unwrap();
    check(
        &mut partition,
        &expect![[r#"
        announce _intent/logs/0/00000000000000000000.json: [0, 3)
        survey _intent/logs/0
        write logs/date=1970-01-01/hour=01/logs+0+00000000000000000000.parquet: [0, 1, 2]
        durable Some(3)
    "#]],
    );
}

#[test]
fn one_more_hour_than_a_flush_may_have_ends_it() {
    let mut partition = fresh(Format::Text);
    let hours = i64::try_from(FILES_MAX).unwrap();
    let records: Vec<SinkRecord> =
        (0..hours * 2).map(|offset| record(offset, offset % (hours + 1), "x")).collect();
    let taken = partition.take(Duration::ZERO, &records).unwrap();
    assert_eq!(taken, FILES_MAX);
    let told = steps(&mut partition);
    assert_eq!(told.iter().filter(|it| it.starts_with("write")).count(), FILES_MAX);
    assert_eq!(partition.durable(), Some(Offset(hours)));
}

#[test]
fn an_announced_range_is_written_again_with_the_same_names_bytes_and_settings() {
    let mut before = fresh(Format::Inferred);
    let records: Vec<SinkRecord> =
        (0..10).map(|at| record(at, at % 2, &format!("{{\"n\": {at}}}"))).collect();
    before.take(Duration::ZERO, &records[..6]).unwrap();
    before.seal(Duration::ZERO, &LIMITS, Flush::All).unwrap();
    let mut intent = None;
    let mut files = Vec::new();
    while let Some(step) = before.next() {
        match step {
            Step::Encode => before.encode().unwrap(),
            Step::Announce { body, .. } => {
                intent = Some(Intent::from_json(&id(), Offset(0), &body).unwrap());
                before.announced();
            }
            Step::Survey { .. } => before.surveyed(vec![Offset(0)]).unwrap(),
            Step::Write { path, bytes } => {
                files.push((path, bytes));
                before.written();
            }
        }
    }
    let resumption = Resumption {
        unfinished: VecDeque::from([intent.unwrap()]),
        start: Offset(6),
        durable: None,
        position: Some(Offset(0)),
    };
    let now = layout(Format::Text);
    let mut after =
        Partition::new(id(), TopicId::ZERO, "other".into(), now, vec![Offset(0)], resumption);
    after.take(Duration::ZERO, &records[..4]).unwrap();
    after.seal(Duration::ZERO, &LIMITS, Flush::All).unwrap();
    assert_eq!(after.next(), None, "a part of an announced range is never flushed");
    assert_eq!(after.take(Duration::ZERO, &records).unwrap(), 6);
    let mut again = Vec::new();
    while let Some(step) = after.next() {
        match step {
            Step::Encode => after.encode().unwrap(),
            Step::Write { path, bytes } => {
                again.push((path, bytes));
                after.written();
            }
            Step::Announce { .. } | Step::Survey { .. } => panic!("it was announced before"),
        }
    }
    assert_eq!(again, files);
    assert_eq!(after.durable(), Some(Offset(6)));
    after.take(Duration::ZERO, &records[6..]).unwrap();
    after.seal(Duration::ZERO, &LIMITS, Flush::All).unwrap();
    check(
        &mut after,
        &expect![[r#"
        announce _intent/logs/0/00000000000000000006.json: [6, 10)
        survey _intent/logs/0
        write logs/date=1970-01-01/hour=00/logs+0+00000000000000000006.parquet: [6, 8]
        write logs/date=1970-01-01/hour=01/logs+0+00000000000000000006.parquet: [7, 9]
        durable Some(10)
    "#]],
    );
}

#[test]
fn of_two_writers_at_one_start_the_second_gives_up() {
    let mut first = fresh(Format::Text);
    let mut second = fresh(Format::Text);
    first.take(Duration::ZERO, &[record(0, 1, "a")]).unwrap();
    second.take(Duration::ZERO, &[record(0, 1, "a"), record(1, 1, "b")]).unwrap();
    for it in [&mut first, &mut second] {
        it.seal(Duration::ZERO, &LIMITS, Flush::All).unwrap();
        while it.next() == Some(Step::Encode) {
            it.encode().unwrap();
        }
    }
    let Some(Step::Announce { body, .. }) = first.next() else { panic!("announces") };
    let error = second.contested(&body).unwrap_err();
    assert_eq!(
        error.to_string(),
        "writer has announced offsets 0 to 1: this writer is no longer the only one"
    );
    // Its own intent, from a try whose answer was lost, is no contest.
    first.contested(&body).unwrap();
    let error = first.surveyed(vec![Offset(0), Offset(5)]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "offsets from 5 on are announced already; this writer stands at 0"
    );
}

#[test]
fn intents_of_committed_ranges_are_superfluous_but_for_the_newest() {
    let mut partition = fresh(Format::Text);
    let starts: Vec<Offset> = (0..12).map(|at| Offset(at * 10)).collect();
    partition.intents = starts.clone();
    assert_eq!(partition.superfluous(Offset(1000), 3), starts[..9]);
    assert_eq!(partition.superfluous(Offset(20), 3), starts[..2]);
    assert_eq!(partition.superfluous(Offset(9), 3), []);
    partition.forgot(Offset(0));
    assert_eq!(partition.superfluous(Offset(20), 3), [Offset(10)]);
}

/// A partition's log, the lake, and writers that come, sleep, wake and die.
struct World {
    log: Vec<SinkRecord>,
    intents: BTreeMap<Offset, Bytes>,
    files: BTreeMap<String, Bytes>,
    committed: Option<Offset>,
    generation: usize,
    writers: Vec<Writer>,
}

struct Writer {
    partition: Partition,
    /// Index of the record to take next.
    next: usize,
    generation: usize,
}

impl World {
    fn new() -> Self {
        // Every third offset is a marker; records come from three hours in turn.
        let log = (0..60).map(|at| record(at + at / 2, at % 3, &at.to_string())).collect();
        Self {
            log,
            intents: BTreeMap::new(),
            files: BTreeMap::new(),
            committed: None,
            generation: 0,
            writers: Vec::new(),
        }
    }

    /// The partition is given to a new writer. The others do not notice.
    fn reassign(&mut self) {
        self.generation += 1;
        let assigned = Assigned {
            partition: id(),
            committed: self.committed,
            topic_id: TopicId::ZERO,
            log_start: Offset(0),
            log_end: Offset(1000),
        };
        let starts: Vec<Offset> = self.intents.keys().copied().collect();
        let mut chain = Chain::new(&assigned, &starts);
        while let Some(start) = chain.next() {
            chain.add(Intent::from_json(&id(), start, &self.intents[&start]).unwrap()).unwrap();
        }
        let announced = chain.finish().unwrap();
        let is_there = |file: &AnnouncedFile| {
            self.files
                .get(&file.path)
                .is_some_and(|it| it.len() == usize::try_from(file.bytes).unwrap())
        };
        let complete: Vec<bool> =
            announced.open.iter().map(|intent| intent.files.iter().all(is_there)).collect();
        let resumption = announced.resume(&assigned, &complete).unwrap();
        let from = resumption.position.or(self.committed).unwrap_or(Offset(0));
        let next = self.log.partition_point(|record| record.offset < from);
        let writer = format!("writer {}", self.generation).into();
        let layout = layout(Format::Text);
        let partition = Partition::new(id(), TopicId::ZERO, writer, layout, starts, resumption);
        self.writers.push(Writer { partition, next, generation: self.generation });
    }

    fn take(&mut self, writer: usize, count: usize) {
        let Writer { partition, next, .. } = &mut self.writers[writer];
        if partition.next().is_none() {
            let end = self.log.len().min(*next + count);
            *next += partition.take(Duration::ZERO, &self.log[*next..end]).unwrap();
        }
    }

    /// One step of a writer; it dies if others have overtaken it.
    fn step(&mut self, writer: usize) {
        let partition = &mut self.writers[writer].partition;
        let done = match partition.next() {
            None => Ok(()),
            Some(Step::Encode) => partition.encode(),
            Some(Step::Announce { path, body }) => {
                let start = intent_start(path.rsplit('/').next().unwrap()).unwrap();
                match self.intents.get(&start) {
                    Some(found) => partition.contested(found),
                    None => {
                        self.intents.insert(start, body);
                        partition.announced();
                        Ok(())
                    }
                }
            }
            Some(Step::Survey { .. }) => partition.surveyed(self.intents.keys().copied().collect()),
            Some(Step::Write { path, bytes }) => {
                self.files.insert(path, bytes);
                partition.written();
                Ok(())
            }
        };
        if done.is_err() {
            self.writers.remove(writer);
        }
    }

    /// Commits what is durable, and the markers behind it if nothing else is there; only the owner can.
    fn commit(&mut self, writer: usize, also_markers: bool) {
        let Writer { partition, next, generation } = &mut self.writers[writer];
        let Some(durable) = partition.durable().filter(|_| *generation == self.generation) else {
            return;
        };
        let is_all_durable = *next > 0 && self.log[*next - 1].offset < durable;
        let behind = self.log.get(*next).map(|record| record.offset);
        let offset = behind.filter(|_| is_all_durable && also_markers).unwrap_or(durable);
        self.committed = self.committed.max(Some(offset));
        for start in partition.superfluous(offset, 1) {
            self.intents.remove(&start);
            partition.forgot(start);
        }
    }

    fn seal(&mut self, writer: usize) {
        self.writers[writer].partition.seal(Duration::ZERO, &LIMITS, Flush::All).unwrap();
    }

    /// The newest writer goes on to the end of the log; then all others wake up.
    fn settle(&mut self) {
        self.reassign();
        while self.writers.last().unwrap().next < self.log.len() {
            let newest = self.writers.len() - 1;
            self.take(newest, 1000);
            self.seal(newest);
            while self.writers[newest].partition.next().is_some() {
                self.step(newest);
            }
            self.commit(newest, false);
        }
        while let Some(writer) = self.writers.len().checked_sub(1) {
            self.take(writer, 1000);
            self.seal(writer);
            let alive = self.writers.len();
            while self.writers.len() == alive && self.writers[writer].partition.next().is_some() {
                self.step(writer);
            }
            self.writers.truncate(writer);
        }
    }

    fn check(&self) {
        let mut seen = BTreeSet::new();
        for (path, file) in &self.files {
            for offset in offsets(file) {
                assert!(seen.insert(offset), "offset {offset} is also in {path}");
            }
        }
        let all: BTreeSet<i64> = self.log.iter().map(|record| record.offset.0).collect();
        assert_eq!(seen, all);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]
    #[test]
    fn every_offset_is_in_the_lake_once_whichever_writers_sleep_wake_and_die(
        moves in prop::collection::vec((0_u8..20, 0_usize..4, 1_usize..6), 0..400),
    ) {
        let mut world = World::new();
        world.reassign();
        for (what, writer, count) in moves {
            // The newest writer moves most; older ones are asleep, and wake for a step now and then.
            let alive = world.writers.len();
            let Some(writer) = alive.checked_sub(1 + writer.saturating_sub(1)) else {
                world.reassign();
                continue;
            };
            match what {
                0 => world.reassign(),
                1 => drop(world.writers.remove(writer)),
                2..=5 => world.take(writer, count),
                6..=7 => world.seal(writer),
                8..=16 => world.step(writer),
                17 => world.commit(writer, true),
                _ => world.commit(writer, false),
            }
            if world.writers.len() > 4 {
                world.writers.remove(0);
            }
        }
        world.settle();
        world.check();
    }
}
