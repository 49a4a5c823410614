//! The task over real object stores: killed between every two of its steps, failing, and overtaken. Shell.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::AsArray;
use arrow::datatypes::{Int32Type, Int64Type};
use bytes::Bytes;
use connect::sdk::{Clock, Config, Now, SinkRecord, StopSource, Timestamp, TopicId};
use futures::TryStreamExt;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::super::faults::{Fault, Faults, FaultyStore, LyingStore};
use super::super::settings::Location;
use super::*;

/// Two partitions' logs, what is committed, and the store.
struct Rig {
    objects: Arc<dyn ObjectStore>,
    logs: BTreeMap<TopicPartition, Vec<SinkRecord>>,
    committed: BTreeMap<TopicPartition, Offset>,
    settings: &'static str,
    clock_ms: Arc<AtomicU64>,
    rejected: BTreeSet<(TopicPartition, Offset)>,
    notes: Vec<Note>,
}

const HOUR_MS: i64 = 3_600_000;

fn record(offset: i64, hour: i64, value: String) -> SinkRecord {
    SinkRecord {
        offset: Offset(offset),
        timestamp: Timestamp(hour * HOUR_MS + offset),
        key: Some(Bytes::from_static(b"key")),
        value: Some(value.into()),
        headers: Vec::new(),
    }
}

fn partition(index: i32) -> TopicPartition {
    TopicPartition::new("logs", index)
}

impl Rig {
    fn new(objects: Arc<dyn ObjectStore>) -> Self {
        let log = |partition: i32| {
            let value = |at: i64| {
                format!("{{\"n\": {at}, \"p\": {partition}, \"big\": \"{}\"}}", "x".repeat(40))
            };
            // Every fourth offset is a marker; records come from two hours.
            (0..24).map(|at| record(at + at / 3, at % 2, value(at))).collect::<Vec<_>>()
        };
        Self {
            objects,
            logs: [(partition(0), log(0)), (partition(1), log(1))].into(),
            committed: BTreeMap::new(),
            settings: "location = 'unused'\nfile_max_rows = 7\nfile_max_age_ms = 50",
            clock_ms: Arc::new(AtomicU64::new(0)),
            rejected: BTreeSet::new(),
            notes: Vec::new(),
        }
    }

    fn in_memory() -> Self {
        Self::new(Arc::new(InMemory::new()))
    }

    fn task(&self, faults: &Arc<Faults>) -> LakeTask {
        let config = Config::parse("lake.toml", self.settings).unwrap();
        let config = Arc::new(LakeConfig::read(&mut config.reader()).unwrap());
        let clock_ms = Arc::clone(&self.clock_ms);
        let now = move || Now {
            monotonic: Duration::from_millis(clock_ms.fetch_add(1, Ordering::SeqCst)),
            wall: Timestamp(0),
        };
        let context = TaskContext {
            connector: "lake".into(),
            task: 0,
            task_count: 1,
            clock: Clock::new(now),
            stopping: StopSource::default().listener(),
        };
        let inner = Arc::clone(&self.objects);
        let store = FaultyStore { inner, faults: Arc::clone(faults) };
        let store = Store::over(Arc::new(store), Path::from("the/lake"), "memory");
        LakeTask::new(config, context).over(store.in_parts_above(1835))
    }

    fn assigned(&self, id: &TopicPartition) -> Assigned {
        let log = &self.logs[id];
        Assigned {
            partition: id.clone(),
            committed: self.committed.get(id).copied(),
            topic_id: TopicId([1; 16]),
            log_start: Offset(0),
            log_end: log.last().map_or(Offset(0), |record| record.offset.plus(1)),
        }
    }

    async fn open(
        &self,
        task: &mut LakeTask,
    ) -> Result<BTreeMap<TopicPartition, usize>, TaskError> {
        let added: Vec<Assigned> = self.logs.keys().map(|id| self.assigned(id)).collect();
        let starts: BTreeMap<_, _> = task.open(&added).await?.into_iter().collect();
        let next = |id: &TopicPartition| {
            let start = starts.get(id).or(self.committed.get(id)).copied().unwrap_or(Offset(0));
            self.logs[id].partition_point(|record| record.offset < start)
        };
        Ok(self.logs.keys().map(|id| (id.clone(), next(id))).collect())
    }

    /// Puts the next `count` records of each partition, repeating what may succeed later.
    async fn deliver(
        &mut self,
        task: &mut LakeTask,
        next: &mut BTreeMap<TopicPartition, usize>,
        count: usize,
    ) -> Result<bool, TaskError> {
        let mut has_more = false;
        for (id, next) in next {
            let log = &self.logs[id];
            let end = log.len().min(*next + count);
            if *next == end {
                continue;
            }
            let batch = SinkBatch { partition: id.clone(), records: log[*next..end].to_vec() };
            let rejected = match task.put(&batch).await {
                Err(error) if error.is_retriable() => task.put(&batch).await?,
                outcome => outcome?,
            };
            self.rejected.extend(rejected.iter().map(|it| (id.clone(), it.offset)));
            *next = end;
            has_more = true;
        }
        Ok(has_more)
    }

    async fn commit(&mut self, task: &mut LakeTask, faults: &Faults) -> Result<(), TaskError> {
        let offsets = task.committable();
        let committed = faults.pass(async { Ok(offsets.clone()) }).await;
        // A commit that fails is repeated with the next.
        let Ok(committed) = committed else { return Ok(()) };
        self.committed.extend(committed);
        match task.committed(&offsets).await {
            Err(error) if error.is_retriable() => task.committed(&offsets).await,
            outcome => outcome,
        }
    }

    /// One life of a task: to the end of the logs, or to its death.
    async fn live(&mut self, faults: &Arc<Faults>) -> Result<(), TaskError> {
        let mut task = self.task(faults);
        task.start().await?;
        let mut next = self.open(&mut task).await?;
        let mut turn = 0;
        while self.deliver(&mut task, &mut next, 4).await? {
            turn += 1;
            self.flush(&mut task, Flush::Due).await?;
            if turn % 2 == 0 {
                self.commit(&mut task, faults).await?;
            }
        }
        self.flush(&mut task, Flush::All).await?;
        self.commit(&mut task, faults).await?;
        self.notes.extend(task.notes());
        let all: Vec<TopicPartition> = self.logs.keys().cloned().collect();
        task.close(&all).await;
        task.stop().await;
        Ok(())
    }

    async fn flush(&mut self, task: &mut LakeTask, how: Flush) -> Result<(), TaskError> {
        match task.flush(how).await {
            Err(error) if error.is_retriable() => task.flush(how).await,
            outcome => outcome,
        }
    }

    /// The store's paths, below the prefix.
    async fn paths(&self) -> Vec<String> {
        let listed = self.objects.list(None).map_ok(|meta| meta.location.to_string());
        let mut paths: Vec<String> = listed.try_collect().await.unwrap();
        paths.sort();
        paths.iter().map(|path| path.strip_prefix("the/lake/").unwrap().to_owned()).collect()
    }

    /// Each record that was not refused is in one row, in the right directory, with its value.
    async fn check(&self) {
        let mut seen = BTreeSet::new();
        for path in self.paths().await {
            if !path.ends_with(".parquet") {
                assert!(path.starts_with("_intent/"), "{path}");
                continue;
            }
            let at = Path::from(format!("the/lake/{path}"));
            let file = self.objects.get(&at).await.unwrap().bytes().await.unwrap();
            for row in rows(&file) {
                assert!(path.contains(&format!("hour=0{}", row.hour)), "{path}: {row:?}");
                assert!(seen.insert((row.partition, row.offset)), "{row:?} is also in {path}");
                assert_eq!(row.n, row.offset - row.offset / 4, "{path}");
            }
        }
        let all: BTreeSet<(i32, i64)> = self
            .logs
            .iter()
            .flat_map(|(id, log)| log.iter().map(move |record| (id, record)))
            .filter(|(id, record)| !self.rejected.contains(&((*id).clone(), record.offset)))
            .map(|(id, record)| (id.partition.0, record.offset.0))
            .collect();
        assert_eq!(seen, all);
    }
}

#[derive(Debug)]
struct Row {
    partition: i32,
    offset: i64,
    hour: i64,
    n: i64,
}

fn rows(file: &Bytes) -> Vec<Row> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(file.clone()).unwrap().build().unwrap();
    let mut rows = Vec::new();
    for batch in reader {
        let batch = batch.unwrap();
        let column = |name: &str| batch.column_by_name(name).unwrap();
        let times =
            column("_timestamp").as_primitive::<arrow::datatypes::TimestampMillisecondType>();
        for row in 0..batch.num_rows() {
            rows.push(Row {
                partition: column("_partition").as_primitive::<Int32Type>().value(row),
                offset: column("_offset").as_primitive::<Int64Type>().value(row),
                hour: times.value(row) / HOUR_MS,
                n: column("n").as_primitive::<Int64Type>().value(row),
            });
        }
    }
    rows
}

/// A life with a fault, then one without; and whether the fault came to be.
async fn survives(rig: &mut Rig, fault: Fault, at: usize) -> bool {
    let faults = Faults::new(fault);
    let _dead = rig.live(&faults).await.is_err();
    rig.live(&Faults::new(Fault::None)).await.unwrap();
    rig.check().await;
    faults.operations() > at
}

#[tokio::test]
async fn killed_between_any_two_of_its_steps_each_record_is_in_the_lake_once() {
    for kill in [Fault::KilledBefore, Fault::KilledAfter] {
        let mut at = 0;
        while survives(&mut Rig::in_memory(), kill(at), at).await {
            at += 1;
        }
        assert!(at > 40, "the task has only {at} steps");
    }
}

#[tokio::test]
async fn killed_twice_in_a_row_it_is_still_once() {
    for first in (3..60).step_by(4) {
        for second in (3..30).step_by(3) {
            let mut rig = Rig::in_memory();
            let _dead = rig.live(&Faults::new(Fault::KilledAfter(first))).await.is_err();
            survives(&mut rig, Fault::KilledBefore(second), second).await;
        }
    }
}

#[tokio::test]
async fn an_operation_that_fails_once_or_whose_answer_is_lost_ends_nothing() {
    for fault in [Fault::Refused, Fault::AnswerLost] {
        let mut at = 0;
        loop {
            let mut rig = Rig::in_memory();
            let faults = Faults::new(fault(at));
            let lived = rig.live(&faults).await;
            // The probe and the opening are retried by the worker, with a new task.
            assert!(lived.is_ok() || at < 8, "{:?}: {}", fault(at), lived.unwrap_err());
            rig.live(&Faults::new(Fault::None)).await.unwrap();
            rig.check().await;
            if faults.operations() <= at {
                break;
            }
            at += 1;
        }
    }
}

#[tokio::test]
async fn killed_over_a_local_directory_it_is_once_too() {
    for kill in [Fault::KilledBefore, Fault::KilledAfter] {
        let mut at = 2;
        loop {
            let dir = tempfile::tempdir().unwrap();
            let files = LocalFileSystem::new_with_prefix(dir.path()).unwrap();
            let mut rig = Rig::new(Arc::new(files));
            if !survives(&mut rig, kill(at), at).await {
                break;
            }
            at += 3;
        }
    }
}

#[tokio::test]
async fn a_restart_without_news_writes_and_reports_nothing() {
    let mut rig = Rig::in_memory();
    rig.live(&Faults::new(Fault::None)).await.unwrap();
    let before = rig.paths().await;
    rig.live(&Faults::new(Fault::None)).await.unwrap();
    assert_eq!(rig.paths().await, before);
    assert_eq!(rig.notes, []);
}

#[tokio::test]
async fn lost_offsets_do_not_repeat_what_is_in_the_lake() {
    let mut rig = Rig::in_memory();
    rig.live(&Faults::new(Fault::None)).await.unwrap();
    rig.committed.clear();
    rig.live(&Faults::new(Fault::None)).await.unwrap();
    rig.check().await;
    assert!(!rig.committed.is_empty());
    assert_eq!(rig.notes[0].kind, "lake is ahead of the committed offset");
}

#[tokio::test]
async fn what_was_announced_under_other_settings_is_completed_under_those() {
    for at in 10..30 {
        let mut rig = Rig::in_memory();
        let _dead = rig.live(&Faults::new(Fault::KilledAfter(at))).await.is_err();
        let is_announced = rig.paths().await.iter().any(|path| path.contains("_intent/logs"));
        rig.settings = "location = 'unused'\n[[columns]]\nname = 'n'\ntype = 'int64'";
        rig.live(&Faults::new(Fault::None)).await.unwrap();
        rig.check().await;
        assert!(is_announced || at < 12, "nothing is announced after {at} operations");
    }
}

#[tokio::test]
async fn refused_records_are_left_out_and_told_again_after_a_crash() {
    let mut at = 0;
    loop {
        let mut rig = Rig::in_memory();
        let log = rig.logs.get_mut(&partition(0)).unwrap();
        for bad in [0, 5, 6, 7, 23] {
            log[bad].value = Some(Bytes::from_static(b"{\"n\": "));
        }
        let goes_on = survives(&mut rig, Fault::KilledAfter(at), at).await;
        assert_eq!(rig.rejected.len(), 5);
        if !goes_on {
            break;
        }
        at += 1;
    }
}

#[tokio::test]
async fn a_task_that_slept_while_another_went_on_writes_nothing() {
    let mut rig = Rig::in_memory();
    let faults = Faults::new(Fault::None);
    let mut asleep = rig.task(&faults);
    asleep.start().await.unwrap();
    let mut next = rig.open(&mut asleep).await.unwrap();
    rig.deliver(&mut asleep, &mut next, 3).await.unwrap();
    for _ in 0..10 {
        // More than are kept, so that the intent which the sleeper will use is deleted.
        for log in rig.logs.values_mut() {
            let at = i64::try_from(log.len()).unwrap();
            log.push(record(at + at / 3, at % 2, format!("{{\"n\": {at}}}")));
        }
        rig.live(&faults).await.unwrap();
    }
    let before = rig.paths().await;
    assert!(!before.contains(&"_intent/logs/0/00000000000000000000.json".to_owned()));
    let error = asleep.flush(Flush::All).await.unwrap_err();
    assert!(
        error.to_string().contains("are announced already; this writer stands at 0"),
        "{error}"
    );
    assert!(!error.is_retriable());
    assert_eq!(asleep.committable(), []);
    rig.check().await;
    // What it left behind is void for all who come.
    rig.live(&faults).await.unwrap();
    rig.check().await;
}

#[tokio::test]
async fn of_two_tasks_with_one_partition_the_one_that_announces_later_fails() {
    let mut rig = Rig::in_memory();
    let faults = Faults::new(Fault::None);
    let mut early = rig.task(&faults);
    early.start().await.unwrap();
    let mut next = rig.open(&mut early).await.unwrap();
    rig.deliver(&mut early, &mut next, 3).await.unwrap();
    let mut late = rig.task(&faults);
    late.start().await.unwrap();
    let mut next = rig.open(&mut late).await.unwrap();
    rig.deliver(&mut late, &mut next, 5).await.unwrap();
    early.flush(Flush::All).await.unwrap();
    let error = late.flush(Flush::All).await.unwrap_err();
    assert!(error.to_string().contains("is no longer the only one"), "{error}");
    rig.live(&faults).await.unwrap();
    rig.check().await;
}

#[tokio::test]
async fn beyond_the_memory_budget_the_largest_partition_is_flushed() {
    let mut rig = Rig::in_memory();
    rig.settings = "location = 'unused'\nmemory_bytes = 1048576";
    let faults = Faults::new(Fault::None);
    let mut task = rig.task(&faults);
    task.start().await.unwrap();
    rig.open(&mut task).await.unwrap();
    let large = |offset: i64| {
        record(offset, 0, format!("{{\"n\": {offset}, \"x\": \"{}\"}}", "x".repeat(100_000)))
    };
    let put =
        |index: i32, records: Vec<SinkRecord>| SinkBatch { partition: partition(index), records };
    task.put(&put(0, (0..4).map(large).collect())).await.unwrap();
    task.put(&put(1, (0..8).map(large).collect())).await.unwrap();
    assert_eq!(task.committable(), []);
    task.put(&put(0, (4..5).map(large).collect())).await.unwrap();
    assert_eq!(task.committable(), [(partition(1), Offset(8))]);
}

#[tokio::test]
async fn a_store_that_overwrites_what_it_must_keep_is_refused() {
    let rig = Rig::new(Arc::new(LyingStore(Arc::new(InMemory::new()))));
    let mut task = rig.task(&Faults::new(Fault::None));
    let error = task.start().await.unwrap_err();
    assert!(!error.is_retriable());
    assert!(error.to_string().contains("exactly-once needs a store"), "{error}");
}

#[tokio::test]
async fn a_topic_created_again_is_not_mixed_with_the_old() {
    let mut rig = Rig::in_memory();
    rig.live(&Faults::new(Fault::None)).await.unwrap();
    let before = rig.paths().await;
    let mut task = rig.task(&Faults::new(Fault::None));
    task.start().await.unwrap();
    let again =
        Assigned { topic_id: TopicId([2; 16]), committed: None, ..rig.assigned(&partition(0)) };
    let error = task.open(&[again]).await.unwrap_err();
    assert!(error.to_string().contains("of an earlier topic of this name"), "{error}");
    assert_eq!(rig.paths().await, before);
}

#[tokio::test]
async fn a_local_directory_is_made_and_holds_plain_files() {
    let dir = tempfile::tempdir().unwrap();
    let location = Location::Directory(dir.path().join("new/lake"));
    let store = Store::open(&location).unwrap();
    store.probe().await.unwrap();
    store.probe().await.unwrap();
    store.put("logs/date=2024-01-01/hour=00/a.parquet", Bytes::from_static(b"x")).await.unwrap();
    let path = dir.path().join("new/lake/logs/date=2024-01-01/hour=00/a.parquet");
    assert_eq!(std::fs::read(path).unwrap(), b"x");
}
