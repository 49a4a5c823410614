//! The lake in a bucket, over sockets to a server that is not ours, and read by readers that are not ours.
//!
//! Run by `tests/run integration`, which provides the Python with all of them. Shell.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use connect::sdk::{
    Assigned, Clock, Config, Connector, Flush, Now, Offset, SinkBatch, SinkRecord, SinkTask,
    StopSource, TaskContext, Timestamp, TopicId, TopicPartition,
};
use connectors::lake::lake_sink;
use expect_test::expect;
use serde_json::Value;

const PEER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/lake_peer.py");
const HOUR_MS: i64 = 3_600_000;

fn python() -> Command {
    let path = std::env::var_os("MILLSTREAM_PYTHON")
        .expect("MILLSTREAM_PYTHON is not set: run this test by `tests/run integration`");
    let mut command = Command::new(path);
    command.arg(PEER);
    command
}

/// An S3 server with a bucket `bucket`; gone when dropped.
struct Server {
    process: Child,
    endpoint: String,
}

impl Server {
    fn start() -> Self {
        let mut command = python();
        command.arg("serve").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = command.spawn().expect("the server starts");
        let mut endpoint = String::new();
        let stdout = process.stdout.take().expect("piped");
        BufReader::new(stdout).read_line(&mut endpoint).expect("the server tells its address");
        assert!(endpoint.starts_with("http://"), "the server said {endpoint:?}");
        Self { process, endpoint: endpoint.trim().to_owned() }
    }

    fn task(&self, path: &str, more: &str) -> Box<dyn SinkTask> {
        task(&format!(
            "location = 's3://{path}'\nendpoint = '{}'\nregion = 'us-east-1'\naccess_key_id = 'key'\nsecret_access_key = 'secret'\nallow_http = true\n{more}",
            self.endpoint
        ))
    }

    /// What pyarrow finds below `path` of the bucket.
    fn rows(&self, path: &str) -> Value {
        let endpoint = self.endpoint.trim_start_matches("http://");
        let out = python().args(["rows", endpoint, &format!("bucket/{path}")]).output();
        let out = out.expect("the reader starts");
        let error = String::from_utf8_lossy(&out.stderr);
        serde_json::from_slice(&out.stdout).unwrap_or_else(|_| panic!("the reader said {error}"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _gone = self.process.kill().is_err();
        let _waited = self.process.wait().is_err();
    }
}

/// A sink's task with these settings.
fn task(settings: &str) -> Box<dyn SinkTask> {
    let config = Config::parse("lake.toml", settings).expect("settings");
    let Connector::Sink(sink) = lake_sink(&mut config.reader()).expect("settings") else {
        panic!("a lake is a sink");
    };
    let ticks = Arc::new(AtomicU64::new(0));
    let clock = move || Now {
        monotonic: Duration::from_millis(ticks.fetch_add(1, Ordering::SeqCst)),
        wall: Timestamp(0),
    };
    sink.task(TaskContext {
        connector: "lake".into(),
        task: 0,
        task_count: 1,
        clock: Clock::new(clock),
        stopping: StopSource::default().listener(),
    })
}

fn partition() -> TopicPartition {
    TopicPartition::new("logs", 0)
}

fn assigned(committed: Option<Offset>) -> Assigned {
    Assigned {
        partition: partition(),
        committed,
        topic_id: TopicId([1; 16]),
        log_start: Offset(0),
        log_end: Offset(1_000_000),
    }
}

fn batch(offsets: std::ops::Range<i64>) -> SinkBatch {
    let record = |offset: i64| SinkRecord {
        offset: Offset(offset),
        timestamp: Timestamp((offset % 3) * HOUR_MS),
        key: None,
        value: Some(format!("{{\"n\": {offset}}}").into()),
        headers: Vec::new(),
    };
    SinkBatch { partition: partition(), records: offsets.map(record).collect() }
}

/// Opens the partition; the next offset to put.
async fn open(task: &mut dyn SinkTask, committed: Option<Offset>) -> i64 {
    task.start().await.expect("starts");
    let starts = task.open(&[assigned(committed)]).await.expect("opens");
    starts.first().map(|(_, start)| *start).or(committed).map_or(0, |offset| offset.0)
}

#[tokio::test]
async fn a_bucket_takes_each_record_once_however_often_a_flush_is_cut_short() {
    const END: i64 = 90;
    let server = Server::start();
    let mut committed = None;
    // Each life has a little longer for its flush than the one before, until one gets to the end.
    for patience_ms in (0..).step_by(3) {
        let mut task = server.task("bucket/cut/short", "file_max_rows = 20");
        let next = open(task.as_mut(), committed).await;
        let patience = Duration::from_millis(patience_ms);
        let put_and_flush = async {
            for start in (next..END).step_by(10) {
                task.put(&batch(start..END.min(start + 10))).await.expect("puts");
            }
            task.flush(Flush::All).await.expect("flushes");
        };
        let is_cut = tokio::time::timeout(patience, put_and_flush).await.is_err();
        let offsets = task.committable();
        if let Some((_, offset)) = offsets.first().filter(|_| !is_cut || patience_ms % 2 == 0) {
            committed = Some(*offset);
            task.committed(&offsets).await.expect("deletes old intents");
        }
        if !is_cut {
            break;
        }
    }
    assert_eq!(committed, Some(Offset(END)));
    let found = server.rows("cut/short/logs");
    assert_eq!(found["offsets"], Value::from((0..END).collect::<Vec<_>>()));
    let columns = found["columns"].to_string();
    for column in [
        "_offset: int64",
        "_timestamp: timestamp[ms, tz=UTC]",
        "n: int64",
        "date: string",
        "hour: int32",
    ] {
        assert!(columns.contains(column), "{column} is not among {columns}");
    }
}

#[tokio::test]
async fn of_tasks_that_announce_at_once_one_wins() {
    let server = Server::start();
    let mut committed = None;
    for round in 0..10 {
        let mut tasks = Vec::new();
        for extra in 0..4 {
            let mut task = server.task("bucket/race", "");
            let next = open(task.as_mut(), committed).await;
            assert_eq!(next, round * 10);
            task.put(&batch(next..next + 10 - extra)).await.expect("puts");
            tasks.push(task);
        }
        let flushes = tasks.iter_mut().map(|task| task.flush(Flush::All));
        let done = futures::future::join_all(flushes).await;
        assert_eq!(done.iter().filter(|it| it.is_ok()).count(), 1, "{done:?}");
        let winner = done.iter().position(Result::is_ok).expect("one");
        let mut ahead = tasks.swap_remove(winner);
        let (_, mut end) = ahead.committable()[0];
        if end.0 < (round + 1) * 10 {
            ahead.put(&batch(end.0..(round + 1) * 10)).await.expect("puts");
            ahead.flush(Flush::All).await.expect("flushes");
            end = ahead.committable()[0].1;
        }
        committed = Some(end);
    }
    let found = server.rows("race/logs");
    assert_eq!(found["offsets"], Value::from((0..100).collect::<Vec<_>>()));
}

#[tokio::test]
async fn a_file_larger_than_one_request_goes_up_in_parts() {
    let server = Server::start();
    let mut task = server.task("bucket/large", "format = 'bytes'");
    open(task.as_mut(), None).await;
    let mut state = 1_u64;
    let mut noise = || {
        // Xorshift: bytes that do not compress.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    for offset in 0..40 {
        let value: Vec<u8> = (0..131_072).flat_map(|_| noise()).collect();
        let mut one = batch(offset..offset + 1);
        one.records[0].timestamp = Timestamp(0);
        one.records[0].value = Some(Bytes::from(value));
        task.put(&one).await.expect("puts");
    }
    task.flush(Flush::All).await.expect("flushes");
    assert_eq!(task.committable(), [(partition(), Offset(40))]);
    let found = server.rows("large/logs");
    assert_eq!(found["distinct"], 40);
    assert_eq!(found["value_bytes"], 40 * 1024 * 1024);
}

#[tokio::test]
async fn a_bucket_that_does_not_exist_is_named() {
    let server = Server::start();
    let mut task = server.task("missing", "");
    let error = task.start().await.expect_err("there is no such bucket");
    assert!(error.to_string().contains("object s3://missing/_intent/probe"), "{error}");
    assert!(!error.is_retriable());
}

/// What DuckDB says to `sql`, in which LAKE stands for all rows in `dir`.
fn duckdb(dir: &std::path::Path, sql: &str) -> String {
    let files = dir.join("logs/**/*.parquet");
    let lake = format!(
        "read_parquet('{}', hive_partitioning = true, union_by_name = true)",
        files.display()
    );
    let out = python().args(["duckdb", &sql.replace("LAKE", &lake)]).output();
    let out = out.expect("the reader starts");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).expect("text")
}

async fn put_values(task: &mut dyn SinkTask, first: i64, values: &[Option<&str>]) {
    let mut put = batch(first..first + i64::try_from(values.len()).expect("a few"));
    for (record, value) in put.records.iter_mut().zip(values) {
        record.value = value.map(|value| Bytes::copy_from_slice(value.as_bytes()));
        record.timestamp = Timestamp(record.offset.0 * HOUR_MS / 2);
        record.key = Some(Bytes::from_static(b"/var/log/x"));
    }
    put.records[0].timestamp = Timestamp::NONE;
    let rejected = task.put(&put).await.expect("puts");
    assert!(rejected.is_empty(), "{rejected:?}");
    task.flush(Flush::All).await.expect("flushes");
}

#[tokio::test]
async fn duckdb_reads_inferred_columns_of_different_files_as_one_table() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut task = task(&format!("location = '{}'", dir.path().display()));
    open(task.as_mut(), None).await;
    let first = [
        Some(r#"{"host": "a", "status": 200, "took": 1, "date": "mine", "tags": ["x", 1]}"#),
        Some(r#"{"status": 404, "took": 1.5, "host": "b\u00e9"}"#),
        None,
    ];
    put_values(task.as_mut(), 0, &first).await;
    let second = [Some(r#"{"host": "c", "ok": true, "took": 2.25}"#), Some("{}"), Some("")];
    put_values(task.as_mut(), 3, &second).await;
    let all = duckdb(
        dir.path(),
        "SELECT _partition, _offset, epoch_ms(_timestamp), _key, date, hour, host, status, took, date_, tags, ok FROM LAKE ORDER BY _offset",
    );
    expect![[r#"
        0 | 0 | - | /var/log/x | - | - | a | 200 | 1.0 | mine | ["x", 1] | -
        0 | 1 | 1800000 | /var/log/x | 1970-01-01 | 00 | bé | 404 | 1.5 | - | - | -
        0 | 2 | 3600000 | /var/log/x | 1970-01-01 | 01 | - | - | - | - | - | -
        0 | 3 | - | /var/log/x | - | - | c | - | 2.25 | - | - | True
        0 | 4 | 7200000 | /var/log/x | 1970-01-01 | 02 | - | - | - | - | - | -
        0 | 5 | 9000000 | /var/log/x | 1970-01-01 | 02 | - | - | - | - | - | -
    "#]]
    .assert_eq(&all);
    let types =
        duckdb(dir.path(), "SELECT column_name, column_type FROM (DESCRIBE SELECT * FROM LAKE)");
    expect![[r#"
        _partition | INTEGER
        _offset | BIGINT
        _timestamp | TIMESTAMP WITH TIME ZONE
        _key | VARCHAR
        host | VARCHAR
        status | BIGINT
        took | DOUBLE
        date_ | VARCHAR
        tags | VARCHAR
        ok | BOOLEAN
        date | DATE
        hour | VARCHAR
    "#]]
    .assert_eq(&types);
}

#[tokio::test]
async fn duckdb_reads_declared_columns_and_plain_text() {
    let dir = tempfile::tempdir().expect("a directory");
    let declared = "[[columns]]\nname = 'seen'\ntype = 'timestamp'\n[[columns]]\nname = 'status'\ntype = 'int64'\n[[columns]]\nname = 'missing'\ntype = 'string'";
    let mut json = task(&format!("location = '{}'\n{declared}", dir.path().display()));
    open(json.as_mut(), None).await;
    let values = [
        Some(
            r#"{"seen": "2026-11-21T10:00:00.25Z", "status": 200, "extra": {"a": 1}, "more": null}"#,
        ),
        Some(r#"{"status": 304}"#),
    ];
    put_values(json.as_mut(), 0, &values).await;
    let all = duckdb(
        dir.path(),
        "SELECT _offset, epoch_us(seen), status, missing, _rest FROM LAKE ORDER BY _offset",
    );
    expect![[r#"
        0 | 1795255200250000 | 200 | - | {"extra":{"a": 1},"more":null}
        1 | - | 304 | - | -
    "#]]
    .assert_eq(&all);

    let dir = tempfile::tempdir().expect("a directory");
    let mut text = task(&format!("location = '{}'\nformat = 'text'", dir.path().display()));
    open(text.as_mut(), None).await;
    put_values(text.as_mut(), 0, &[Some("GET / 200"), Some(""), None]).await;
    let all = duckdb(dir.path(), "SELECT _offset, value FROM LAKE ORDER BY _offset");
    expect![[r#"
        0 | GET / 200
        1 | 
        2 | -
    "#]]
    .assert_eq(&all);
}
