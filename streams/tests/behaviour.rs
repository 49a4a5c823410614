//! What the DSL promises, seen through the test driver.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail as the test does")]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use expect_test::expect;
use protocol::time::Timestamp;
use streams::codec::BoxError;
use streams::processor::custom::DeclaredStore;
use streams::{
    BuildError, Context, Emit, ErrorPolicy, Headers, Hopping, I64, Nullable, Processor,
    PunctuationClock, Record, Store, StreamsBuilder, StreamsError, TestDriver, Topic, Topology,
    Tumbling, Unit, Utf8, WindowStore,
};

fn text(name: &str) -> Topic<String, String> {
    Topic::new(name, Utf8, Utf8)
}

fn counts(name: &str) -> Store<String, i64> {
    Store::kv(name, Utf8, I64)
}

fn at(ms: i64) -> Timestamp {
    Timestamp(ms)
}

fn build(write: impl FnOnce(&StreamsBuilder)) -> Topology {
    let builder = StreamsBuilder::new();
    write(&builder);
    builder.build().unwrap()
}

fn pipe(driver: &mut TestDriver, topic: &str, key: &str, value: &str, ms: i64) {
    driver.pipe(&text(topic), key.to_owned(), value.to_owned(), at(ms)).unwrap();
}

fn pairs(driver: &mut TestDriver, topic: &str) -> Vec<(String, String)> {
    driver.read_pairs(&text(topic)).unwrap()
}

fn pair(key: &str, value: &str) -> (String, String) {
    (key.to_owned(), value.to_owned())
}

#[test]
fn every_mistake_is_reported_at_once() {
    let builder = StreamsBuilder::new();
    let other = StreamsBuilder::new();
    let input = builder.stream(&text("in"));
    input.clone().select_key(|_, value| value.clone()).group_by_key().count(counts("a"));
    input.clone().group_by_key().count(counts("a"));
    input.clone().group_by_key().count(counts("no spaces"));
    input.clone().merge(other.stream(&text("else"))).to(&text("out"));
    let nowhere = Tumbling::of(Duration::ZERO);
    input.clone().group_by_key().window(nowhere).count(WindowStore::new("w", Utf8, I64));
    let table = builder.table(&text("t"), Store::kv("t", Utf8, Utf8));
    table.to_stream().to(&text("out"));
    let skip = input.clone().on_error(ErrorPolicy::Skip);
    let _ = input.on_error(ErrorPolicy::Fail);
    skip.map(|_, value| (Some(value), ()))
        .repartition("r", Nullable(Utf8), Unit)
        .group_by_key()
        .count(Store::kv("null", Nullable(Utf8), I64));
    expect![[r#"
        the topology has 8 mistake(s)
        - `group_by_key` needs records of one key in one partition, but `select_key` changed the key: put `.repartition("a-name", key_codec, value_codec)` between the two
        - the name `a` is used twice: stores, repartitions and processors each need their own
        - the name `no spaces` must be 1 to 180 letters, digits, dots, underscores or hyphens
        - `merge` mixes streams of two builders
        - window of `w`: its length and its advance must be one millisecond at least
        - table `t` can delete keys, and a deletion has no value: use `changes()`, where it is `None`, or `to(&topic)`, which writes it as a tombstone
        - two error policies for the operators above `source`: keep one `on_error`
        - store `null`: its key codec accepts null, but state is kept by key: use `drop_null_keys()` above it"#]]
    .assert_eq(&builder.build().unwrap_err().to_string());
    assert_eq!(StreamsBuilder::new().build().unwrap_err().0, [BuildError::NoSource]);
}

#[test]
fn joining_after_a_key_change_is_a_mistake_too() {
    let builder = StreamsBuilder::new();
    let table = builder.table(&text("t"), Store::kv("t", Utf8, Utf8));
    let rekeyed = builder.stream(&text("in")).map(|key, value| (value, key));
    rekeyed.clone().join_table(&table, |_, left, _| left).to(&text("out"));
    rekeyed
        .repartition("by-value", Utf8, Utf8)
        .left_join_table(&table, |_, left, _| left)
        .to(&text("out"));
    let errors = builder.build().unwrap_err().0;
    let [BuildError::NotRepartitioned { operator, changed_by }] = &errors[..] else {
        panic!("{errors:?}");
    };
    assert_eq!((&**operator, &**changed_by), ("join_table", "map"));
}

/// Orders and users joined, counted by word and by window.
fn shop() -> Topology {
    build(|builder| {
        let users = builder.table(&text("users"), Store::kv("users", Utf8, Utf8));
        let orders = builder.stream(&text("orders")).merge(builder.stream(&text("more-orders")));
        orders
            .select_key(|_, value| value.clone())
            .repartition("by-user", Utf8, Utf8)
            .join_table(&users, |_, order, user| format!("{order} of {user}"))
            .to(&text("enriched"));
        builder
            .stream(&text("clicks"))
            .group_by_key()
            .window(Hopping::of(Duration::from_secs(10), Duration::from_secs(5)))
            .emit(Emit::OnClose)
            .count(WindowStore::new("clicks-10s", Utf8, I64))
            .map_values(|count| count.to_string())
            .changes()
            .map(|key, count| (key.to_string(), count.unwrap_or_default()))
            .to(&text("out"));
    })
}

#[test]
fn the_picture_shows_every_node_topic_and_store() {
    let topology = shop();
    expect![[r#"
        sub-topology users (inputs co-partitioned)
          source users
            table [users]
          source by-user (repartition)
            join_table [users]
              to enriched
        sub-topology orders
          source orders
            merge #4
              select_key
                repartition by-user (repartition)
          source more-orders
            -> merge #4
        sub-topology clicks
          source clicks
            count by window of 10000 ms every 5000 ms, grace 0 ms, emitted on close [clicks-10s]
              map_values
                map
                  to out
    "#]]
    .assert_eq(&topology.describe());
    assert_eq!(topology.fingerprint(), shop().fingerprint());
    let other = build(|builder| builder.stream(&text("orders")).to(&text("out")));
    assert_ne!(topology.fingerprint(), other.fingerprint());
}

#[test]
fn internal_topics_are_named_after_the_application_and_what_they_serve() {
    let topics = shop().internal_topics("shop");
    let lines: Vec<String> = topics
        .iter()
        .map(|topic| format!("{} {:?} {}", topic.name, topic.settings(), topic.subtopology))
        .collect();
    expect![[r#"
        shop-by-user-repartition [("cleanup.policy", "delete"), ("retention.ms", "-1")] 0
        shop-users-changelog [("cleanup.policy", "compact")] 0
        shop-clicks-10s-changelog [("cleanup.policy", "compact")] 2"#]]
    .assert_eq(&lines.join("\n"));
}

#[test]
fn equal_keys_meet_in_one_partition_after_a_repartition() {
    let topology = build(|builder| {
        builder
            .stream(&text("lines"))
            .flat_map(|_, line: String| {
                line.split(' ').map(|word| (word.to_owned(), ())).collect::<Vec<_>>()
            })
            .repartition("words", Utf8, Unit)
            .group_by_key()
            .count(counts("words-counted"))
            .to_stream()
            .map_values(|count| count.to_string())
            .to(&text("out"));
    });
    let mut driver = TestDriver::with_partitions(&topology, 4);
    for line in 0..20 {
        pipe(&mut driver, "lines", &format!("k{line}"), "a b c d e a", line);
        if line % 7 == 3 {
            driver.commit().unwrap();
        }
        if line % 5 == 4 {
            driver.crash_and_restore().unwrap();
        }
    }
    let mut counted: Vec<_> = driver.store(&counts("words-counted")).unwrap();
    counted.sort_by(|a, b| a.0.cmp(&b.0));
    let counted: Vec<_> = counted.into_iter().map(|(key, entry)| (key, entry.value)).collect();
    let want = [("a", 40), ("b", 20), ("c", 20), ("d", 20), ("e", 20)];
    assert_eq!(counted, want.map(|(key, count)| (key.to_owned(), count)));
    assert_eq!(pairs(&mut driver, "out").len(), 20 * 6);
}

#[test]
fn a_commit_logs_one_record_per_key_however_often_it_changed() {
    let topology = build(|builder| {
        builder.stream(&text("in")).group_by_key().count(counts("c")).to_stream();
    });
    let mut driver = TestDriver::new(&topology);
    for _ in 0..100 {
        pipe(&mut driver, "in", "k", "", 0);
    }
    assert_eq!(driver.changelog("c").len(), 0, "nothing is logged before the commit");
    driver.commit().unwrap();
    assert_eq!(driver.changelog("c").len(), 1);
    driver.commit().unwrap();
    assert_eq!(driver.changelog("c").len(), 1, "nothing changed since");
}

#[test]
fn a_restart_does_not_open_a_closed_window_again() {
    let topology = build(|builder| {
        builder
            .stream(&text("in"))
            .group_by_key()
            .window(Tumbling::of(Duration::from_millis(10)))
            .count(WindowStore::new("w", Utf8, I64))
            .to_stream()
            .map(|key, count| (key.to_string(), count.to_string()))
            .to(&text("out"));
    });
    let mut driver = TestDriver::new(&topology);
    pipe(&mut driver, "in", "k", "", 5);
    pipe(&mut driver, "in", "k", "", 25);
    driver.commit().unwrap();
    driver.crash_and_restore().unwrap();
    pipe(&mut driver, "in", "k", "", 6);
    assert_eq!(driver.counters().dropped_late, 1);
    let want = [pair("k@0/10", "1"), pair("k@20/30", "1")];
    assert_eq!(pairs(&mut driver, "out"), want);
    let open = driver.window_store(&WindowStore::new("w", Utf8, I64)).unwrap();
    assert_eq!(open.iter().map(|(start, ..)| start.0).collect::<Vec<_>>(), [20]);
}

/// Halves even numbers; refuses words and, when asked, sends them elsewhere.
fn halves(policy: ErrorPolicy) -> Topology {
    build(|builder| {
        builder
            .stream(&text("in"))
            .try_map_values(|value| value.parse::<i64>())
            .on_error(policy)
            .map_values(|number| (number / 2).to_string())
            .to(&text("out"));
    })
}

#[test]
fn a_refused_record_fails_the_task_unless_a_policy_forgives_it() {
    let mut driver = TestDriver::new(&halves(ErrorPolicy::Fail));
    pipe(&mut driver, "in", "k", "4", 0);
    let failed = driver.pipe(&text("in"), "k".into(), "four".into(), at(1)).unwrap_err();
    assert!(matches!(*failed, StreamsError::Process { .. }));
    expect!["in-0 at offset 1: `try_map_values` failed: invalid digit found in string"]
        .assert_eq(&failed.to_string());
    pipe(&mut driver, "in", "k", "6", 2);
    assert_eq!(pairs(&mut driver, "out"), [pair("k", "2"), pair("k", "3")]);
}

#[test]
fn a_skipped_record_is_counted() {
    let mut driver = TestDriver::new(&halves(ErrorPolicy::Skip));
    pipe(&mut driver, "in", "k", "four", 0);
    driver.pipe_raw("in", None, Some(Bytes::from("4")), at(1), Headers::default()).unwrap();
    pipe(&mut driver, "in", "k", "4", 2);
    assert_eq!(pairs(&mut driver, "out"), [pair("k", "2")]);
    let counters = driver.counters();
    assert_eq!((counters.skipped, counters.processed), (2, 3), "refused, and not decodable");
}

#[test]
fn a_dead_letter_is_the_input_record_with_the_reason_in_its_headers() {
    let mut driver = TestDriver::new(&halves(ErrorPolicy::dead_letter("dead")));
    let mut headers = Headers::default();
    headers.push("trace", Some(Bytes::from("7")));
    let bad = Record { headers, ..Record::new("k".to_owned(), "four".to_owned(), at(9)) };
    driver.pipe_record(&text("in"), &bad).unwrap();
    let [dead] = &driver.read(&text("dead")).unwrap()[..] else { panic!("one dead letter") };
    assert_eq!((&*dead.key, &*dead.value, dead.timestamp), ("k", "four", at(9)));
    let headers: Vec<String> = dead
        .headers
        .iter()
        .map(|header| format!("{}={}", header.key, text_of(header.value.as_ref())))
        .collect();
    expect![[r#"
        trace=7
        __streams.errors.message=in-0 at offset 0: `try_map_values` failed: invalid digit found in string
        __streams.errors.topic=in
        __streams.errors.partition=0
        __streams.errors.offset=0"#]].assert_eq(&headers.join("\n"));
    assert_eq!(driver.counters().dead_lettered, 1);
}

fn text_of(value: Option<&Bytes>) -> String {
    String::from_utf8(value.unwrap().to_vec()).unwrap()
}

#[test]
fn event_time_and_headers_come_from_the_record_or_its_content() {
    let input = text("in").timestamp(|_, value, carried| value.parse().map_or(carried, Timestamp));
    let topology = build(|builder| {
        builder
            .stream(&input)
            .map_values_with_context(|key, value, context| {
                let from = context.headers.last("from").and_then(|header| header.value.clone());
                let from = from.map_or("nobody".to_owned(), |bytes| text_of(Some(&bytes)));
                let (place, offset) = (context.partition, context.offset);
                format!("{key}={value} from {from} at {place}@{offset}, {}", context.timestamp)
            })
            .map_record(|mut record, _| {
                record.headers.push("seen", None);
                record.timestamp = record.timestamp.plus(Duration::from_millis(1));
                record
            })
            .to(&text("out"));
    });
    let mut driver = TestDriver::new(&topology);
    let mut headers = Headers::default();
    headers.push("from", Some(Bytes::from("ann")));
    let record = Record { headers, ..Record::new("k".to_owned(), "500".to_owned(), at(3)) };
    driver.pipe_record(&input, &record).unwrap();
    driver.pipe(&input, "k".into(), "x".into(), at(4)).unwrap();
    let out = driver.read(&text("out")).unwrap();
    assert_eq!(out[0].value, "k=500 from ann at in-0@0, 500");
    assert_eq!(out[0].timestamp, at(501));
    assert_eq!(
        out[0].headers.iter().map(|header| &*header.key).collect::<Vec<_>>(),
        ["from", "seen"]
    );
    assert_eq!(out[1].value, "k=x from nobody at in-0@1, 4");
}

#[test]
fn a_view_of_a_table_joins_as_what_it_shows() {
    let topology = build(|builder| {
        let table = builder.table(&text("t"), Store::kv("t", Utf8, Utf8));
        let view = table.filter(|_, value| value != "hidden").map_values(|value| value.len());
        builder
            .stream(&text("in"))
            .left_join_table(&view, |_, left, found| format!("{left}:{found:?}"))
            .to(&text("out"));
    });
    let mut driver = TestDriver::new(&topology);
    let tombstone = Topic::new("t", Utf8, Nullable(Utf8));
    pipe(&mut driver, "in", "k", "1", 0);
    pipe(&mut driver, "t", "k", "four", 1);
    pipe(&mut driver, "in", "k", "2", 2);
    pipe(&mut driver, "t", "k", "hidden", 3);
    pipe(&mut driver, "in", "k", "3", 4);
    pipe(&mut driver, "t", "k", "shown", 5);
    driver.pipe(&tombstone, "k".to_owned(), None::<String>, at(6)).unwrap();
    pipe(&mut driver, "in", "k", "4", 7);
    let values: Vec<String> = pairs(&mut driver, "out").into_iter().map(|pair| pair.1).collect();
    assert_eq!(values, ["1:None", "2:Some(4)", "3:None", "4:None"]);
}

/// Numbers records per key; says how many keys it knows when time passes.
struct Numbering {
    seen: Store<String, i64>,
}

impl Processor for Numbering {
    type KeyIn = String;
    type ValueIn = String;
    type KeyOut = String;
    type ValueOut = String;

    fn stores(&self) -> Vec<DeclaredStore> {
        vec![self.seen.declare()]
    }

    fn schedules(&self) -> Vec<(PunctuationClock, Duration)> {
        vec![
            (PunctuationClock::Stream, Duration::from_millis(100)),
            (PunctuationClock::Wall, Duration::from_secs(1)),
        ]
    }

    fn process(
        &mut self,
        record: Record<String, String>,
        cx: &mut Context<'_, String, String>,
    ) -> Result<(), BoxError> {
        if record.value == "bad" {
            return Err("a bad record".into());
        }
        let seen = cx.store(&self.seen)?;
        let number = seen.get(&record.key).unwrap_or(0) + 1;
        seen.put(&record.key, number, record.timestamp);
        let value = format!("{} #{number}", record.value);
        cx.forward(record.with_value(value))
    }

    fn punctuate(
        &mut self,
        clock: PunctuationClock,
        at: Timestamp,
        cx: &mut Context<'_, String, String>,
    ) -> Result<(), BoxError> {
        let keys = cx.store(&self.seen)?.entries()?.len();
        cx.forward(Record::new(format!("{clock:?}"), keys.to_string(), at))
    }
}

#[test]
fn a_processor_keeps_state_and_speaks_when_time_passes() {
    let seen = counts("seen");
    let topology = {
        let seen = seen.clone();
        build(move |builder| {
            let both = builder.stream(&text("in")).merge(builder.stream(&text("in2")));
            both.process("numbering", move || Numbering { seen: seen.clone() })
                .on_error(ErrorPolicy::Skip)
                .to(&text("out"));
        })
    };
    let mut driver = TestDriver::new(&topology);
    pipe(&mut driver, "in", "a", "x", 10);
    pipe(&mut driver, "in2", "a", "y", 20);
    driver.commit().unwrap();
    pipe(&mut driver, "in", "b", "z", 110);
    driver.crash_and_restore().unwrap();
    pipe(&mut driver, "in", "b", "bad", 120);
    driver.advance_wall_clock(Duration::from_millis(999)).unwrap();
    driver.advance_wall_clock(Duration::from_millis(1)).unwrap();
    let want = [
        pair("a", "x #1"),
        pair("Stream", "1"),
        pair("a", "y #2"),
        pair("b", "z #1"),
        pair("Stream", "2"),
        pair("Wall", "2"),
    ];
    assert_eq!(pairs(&mut driver, "out"), want);
    assert_eq!(driver.counters().skipped, 1);
    let stored: Vec<_> = driver.store(&seen).unwrap();
    assert_eq!(stored[0].1.value, 2);
}

#[test]
fn a_store_that_was_not_declared_is_refused_by_name() {
    struct Undeclared;
    impl Processor for Undeclared {
        type KeyIn = String;
        type ValueIn = String;
        type KeyOut = String;
        type ValueOut = String;
        fn process(
            &mut self,
            _: Record<String, String>,
            cx: &mut Context<'_, String, String>,
        ) -> Result<(), BoxError> {
            cx.store(&counts("secret")).map(drop)
        }
    }
    let topology = build(|builder| {
        builder.stream(&text("in")).process("p", || Undeclared).to(&text("out"));
    });
    let mut driver = TestDriver::new(&topology);
    let failed = driver.pipe(&text("in"), "k".into(), "v".into(), at(0)).unwrap_err();
    expect!["in-0 at offset 0: `p` failed: the topology has no store `secret` of these types"]
        .assert_eq(&failed.to_string());
}

#[test]
fn a_topic_that_is_written_and_read_loops_back() {
    let topology = build(|builder| {
        builder
            .stream(&text("in"))
            .filter(|_, value| value.len() < 4)
            .map_values(|value| value + "x")
            .to(&text("in"));
    });
    let mut driver = TestDriver::new(&topology);
    pipe(&mut driver, "in", "k", "a", 0);
    let values: Vec<String> = pairs(&mut driver, "in").into_iter().map(|pair| pair.1).collect();
    assert_eq!(values, ["ax", "axx", "axxx"]);
}

#[test]
fn a_topology_can_move_to_another_thread() {
    fn check<T: Send + Sync>(_: &T) {}
    let topology = shop();
    check(&topology);
    check(&Arc::new(topology));
}
