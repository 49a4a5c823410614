//! Our DSL against Apache Kafka Streams 4.3: thirteen topologies, three inputs each, compared
//! record for record: key, value, timestamp and the input line that caused it.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail as the test does")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use protocol::time::Timestamp;
use serde::Deserialize;
use streams::{
    Emit, Hopping, I64, KStream, KTable, Nullable, Store, StreamsBuilder, TestDriver, Topic,
    Topology, Tumbling, Utf8, WindowStore, Windowed,
};

type Text = Option<String>;
type Stream = KStream<Text, Text>;

/// Topics whose keys and values may be null.
fn topic(name: &str) -> Topic<Text, Text> {
    Topic::new(name, Nullable(Utf8), Nullable(Utf8))
}

/// Topics with keys; values may be null only as tombstones.
fn keyed(name: &str) -> Topic<String, String> {
    Topic::new(name, Utf8, Utf8)
}

fn number(text: &str) -> i64 {
    text.parse().unwrap_or(0)
}

fn sum(x: String, y: String) -> String {
    (number(&x) + number(&y)).to_string()
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// The stream of `a` without nulls, which Kafka Streams drops when it groups.
fn grouped_input(builder: &StreamsBuilder) -> KStream<String, String> {
    builder.stream(&topic("a")).drop_null_keys().drop_null_values()
}

fn windowed_out(table: KTable<Windowed<String>, String>) {
    table.to_stream().map(|key, value| (key.to_string(), value)).to(&keyed("out"));
}

fn counts_out(table: KTable<String, i64>) {
    table.to_stream().map_values(|count| count.to_string()).to(&keyed("out"));
}

fn counts() -> Store<String, i64> {
    Store::kv("counts", Utf8, I64)
}

fn window_counts() -> WindowStore<String, i64> {
    WindowStore::new("counts", Utf8, I64)
}

fn filter_map(builder: &StreamsBuilder) {
    let even = |value: &Text| value.as_deref().is_some_and(|text| number(text) % 2 == 0);
    let out: Stream = builder
        .stream(&topic("a"))
        .filter(move |_, value| even(value))
        .map_values(|value| value.map(|text| text + "!"));
    out.to(&topic("out"));
}

fn flatmap_selectkey_count(builder: &StreamsBuilder) {
    let letters = |value: Text| {
        value.iter().flat_map(|text| text.chars()).map(String::from).collect::<Vec<_>>()
    };
    let counted = builder
        .stream(&topic("a"))
        .flat_map_values(letters)
        .select_key(|_, letter| letter.clone())
        .repartition("letters", Utf8, Utf8)
        .group_by_key()
        .count(counts());
    counts_out(counted);
}

fn merge_branch(builder: &StreamsBuilder) {
    let high = |value: &Text| value.as_deref().is_some_and(|text| number(text) > 50);
    let [hi, lo] = builder
        .stream(&topic("a"))
        .merge(builder.stream(&topic("b")))
        .branch(move |_, value| Some(usize::from(!high(value))));
    let prefixed = |prefix: &'static str| {
        move |value: Text| Some(format!("{prefix}{}", value.as_deref().unwrap_or("null")))
    };
    hi.map_values(prefixed("hi")).to(&topic("out"));
    lo.map_values(prefixed("lo")).to(&topic("out"));
}

fn count(builder: &StreamsBuilder) {
    counts_out(grouped_input(builder).group_by_key().count(counts()));
}

fn reduce(builder: &StreamsBuilder) {
    let sums = grouped_input(builder).group_by_key().reduce(Store::kv("sums", Utf8, Utf8), sum);
    sums.to_stream().to(&keyed("out"));
}

fn aggregate_null_deletes(builder: &StreamsBuilder) {
    let sums = grouped_input(builder).group_by_key().aggregate_or_delete(
        Store::kv("sums", Utf8, Utf8),
        || "0".to_owned(),
        |_, value, old| (number(&value) != 7).then(|| sum(old, value)),
    );
    sums.to(&keyed("out"));
}

fn repartition_count(builder: &StreamsBuilder) {
    let counted = builder
        .stream(&topic("a"))
        .map(|_, value| {
            let group = value.as_deref().map_or(0, number) % 2;
            (format!("g{group}"), value)
        })
        .repartition("groups", Utf8, Nullable(Utf8))
        .drop_null_values()
        .group_by_key()
        .count(counts());
    counts_out(counted);
}

fn table_mapvalues(builder: &StreamsBuilder) {
    let table = builder.table(&keyed("a"), Store::kv("a", Utf8, Utf8));
    table.map_values(|value| format!("x{value}")).to(&keyed("out"));
}

fn tumbling_count(builder: &StreamsBuilder) {
    let windows = Tumbling::of(seconds(10)).grace(seconds(3));
    windowed_counts(builder, windows, Emit::OnUpdate);
}

fn tumbling_nograce(builder: &StreamsBuilder) {
    windowed_counts(builder, Tumbling::of(seconds(10)), Emit::OnUpdate);
}

fn tumbling_onclose(builder: &StreamsBuilder) {
    let windows = Tumbling::of(seconds(10)).grace(seconds(3));
    windowed_counts(builder, windows, Emit::OnClose);
}

/// Windowed aggregations of Kafka Streams drop null keys but take null values.
fn windowed_input(builder: &StreamsBuilder) -> KStream<String, Text> {
    builder.stream(&topic("a")).drop_null_keys()
}

fn windowed_counts(builder: &StreamsBuilder, windows: Tumbling, emit: Emit) {
    let grouped = windowed_input(builder).group_by_key();
    let counted = grouped.window(windows).emit(emit).count(window_counts());
    windowed_out(counted.map_values(|count| count.to_string()));
}

fn hopping_sum(builder: &StreamsBuilder) {
    let windows = Hopping::of(seconds(10), seconds(4)).grace(seconds(5));
    // A null that comes first makes a null sum, which is no sum at all.
    let add = |_: &String, value: Text, old: String| {
        if old.is_empty() { value } else { Some(sum(old, value.unwrap_or_default())) }
    };
    let store = WindowStore::new("sums", Utf8, Utf8);
    let grouped = windowed_input(builder).group_by_key().window(windows);
    let sums = grouped.aggregate_or_delete(store, String::new, add);
    sums.changes().map(|key, value| (Some(key.to_string()), value)).to(&topic("out"));
}

fn st_inner(builder: &StreamsBuilder) {
    let table = builder.table(&keyed("b"), Store::kv("b", Utf8, Utf8));
    grouped_input(builder)
        .join_table(&table, |_, left, right| format!("{left}+{right}"))
        .to(&keyed("out"));
}

type Build = fn(&StreamsBuilder);

const TOPOLOGIES: [(&str, Build); 13] = [
    ("filter-map", filter_map),
    ("flatmap-selectkey-count", flatmap_selectkey_count),
    ("merge-branch", merge_branch),
    ("count", count),
    ("reduce", reduce),
    ("aggregate-null-deletes", aggregate_null_deletes),
    ("repartition-count", repartition_count),
    ("table-mapvalues", table_mapvalues),
    ("tumbling-count", tumbling_count),
    ("tumbling-nograce", tumbling_nograce),
    ("tumbling-onclose", tumbling_onclose),
    ("hopping-sum", hopping_sum),
    ("st-inner", st_inner),
];

fn build(write: Build) -> Topology {
    let builder = StreamsBuilder::new();
    write(&builder);
    builder.build().expect("the topology is sound")
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Advance { advance: u64 },
    Record { t: String, k: Text, v: Text, ts: i64 },
}

#[derive(Debug, PartialEq, Deserialize)]
struct Output {
    k: Text,
    v: Text,
    ts: i64,
    #[serde(rename = "in")]
    line: usize,
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn lines<T: for<'de> Deserialize<'de>>(name: &str) -> Vec<T> {
    let text = std::fs::read_to_string(golden(name)).expect("the golden file exists");
    text.lines().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect()
}

/// Does one line of input; gives what it caused.
fn step(driver: &mut TestDriver, number: usize, line: &Line) -> Vec<Output> {
    match line {
        Line::Advance { advance } => {
            driver.advance_wall_clock(Duration::from_millis(*advance)).unwrap();
        }
        // A topology that does not read the topic has nothing to do.
        Line::Record { t, k, v, ts } => {
            let _ = driver.pipe(&topic(t), k.clone(), v.clone(), Timestamp(*ts));
        }
    }
    collect(driver, number)
}

fn collect(driver: &mut TestDriver, number: usize) -> Vec<Output> {
    let records = driver.read(&topic("out")).unwrap().into_iter();
    records
        .map(|record| Output {
            k: record.key,
            v: record.value,
            ts: record.timestamp.0,
            line: number,
        })
        .collect()
}

/// The one deliberate difference.
///
/// Kafka Streams loses the final value of a window when stream time jumps: the record that closes
/// the window moves the store's time first, and what lies a retention (here 13 s) behind the newest
/// window is gone before it could be emitted. Ours emits every closed window once.
fn lost_by_kafka_streams(output: &Output, cause: &Line) -> bool {
    let Line::Record { ts, .. } = cause else { return false };
    let key = output.k.as_deref().expect("windowed keys are never null");
    let (_, window) = key.split_once('@').expect("a windowed key");
    let start = number(window.split_once('/').expect("start and end").0);
    start <= ts / 10_000 * 10_000 - 13_000
}

fn check(seed: usize, name: &str, write: Build) {
    let want: Vec<Output> = lines(&format!("seed{seed}/{name}.jsonl"));
    let input: Vec<Line> = lines(&format!("in{seed}.jsonl"));
    let mut driver = TestDriver::new(&build(write));
    let mut got = Vec::new();
    for (number, line) in input.iter().enumerate() {
        got.extend(step(&mut driver, number, line));
    }
    if name == "tumbling-onclose" {
        let ours = got.len();
        got.retain(|output| !lost_by_kafka_streams(output, &input[output.line]));
        assert!(seed != 1 || got.len() < ours, "the first input no longer shows the difference");
    }
    for (index, (got, want)) in got.iter().zip(&want).enumerate() {
        assert_eq!(got, want, "{name}, seed {seed}, output {index}");
    }
    assert_eq!(got.len(), want.len(), "{name}, seed {seed}: number of outputs");
}

#[test]
fn all_topologies_give_what_kafka_streams_gives() {
    for seed in 1..=3 {
        for (name, write) in TOPOLOGIES {
            check(seed, name, write);
        }
    }
}

/// Runs an input with commits, aborts and crashes at the places that `chance` chooses; gives all
/// output with the number of the line that caused it.
fn run(topology: &Topology, input: &[Line], chance: Option<u64>) -> Vec<Output> {
    let mut driver = TestDriver::new(topology);
    let mut rng = protocol::rng::Rng::new(chance.unwrap_or_default());
    let mut got = Vec::new();
    for (number, line) in input.iter().enumerate() {
        got.extend(step(&mut driver, number, line));
        match chance.map(|_| rng.below(16)) {
            Some(0..4) => driver.commit().unwrap(),
            Some(4) => driver.abort().unwrap(),
            Some(5) => driver.crash_and_restore().unwrap(),
            _ => {}
        }
        assert_eq!(collect(&mut driver, number), [], "line {number}: more output after a crash");
    }
    // All that was read must still be there, as it was read.
    let again: Vec<_> = driver.written(&topic("out")).unwrap();
    assert_eq!(again.len(), got.len());
    for (record, output) in again.iter().zip(&got) {
        assert_eq!(
            (&record.key, &record.value, record.timestamp.0),
            (&output.k, &output.v, output.ts)
        );
    }
    got
}

#[test]
fn crashes_and_aborts_anywhere_change_no_output() {
    for seed in 1..=3 {
        let input: Vec<Line> = lines(&format!("in{seed}.jsonl"));
        for (name, write) in TOPOLOGIES {
            let topology = build(write);
            let undisturbed = run(&topology, &input, None);
            for chance in 0..8 {
                let disturbed = run(&topology, &input, Some(chance));
                assert_eq!(disturbed, undisturbed, "{name}, input {seed}, chance {chance}");
            }
        }
    }
}
