//! Our consumer and Java's in one group, whoever comes first, by every protocol.
//!
//! Java's is `VerifiableConsumer` of Apache Kafka's tools, which tells as lines of JSON what
//! happens to it. Shell.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::process::Stdio;
use std::time::Duration;

use client::ProducerRecord;
use harness::kafka::{Running, java};
use protocol::ids::TopicPartition;
use serde_json::Value;

use crate::cluster::{Cluster, PATIENCE, append, text};
use crate::groups::{Driven, write_each};

/// `partition.assignment.strategy` of ours and of Java's, or the protocol without one.
#[derive(Clone, Copy)]
enum Protocol {
    Range,
    CooperativeSticky,
    Consumer,
}

impl Protocol {
    fn ours(self) -> (&'static str, &'static str) {
        match self {
            Self::Range => ("partition.assignment.strategy", "range"),
            Self::CooperativeSticky => ("partition.assignment.strategy", "cooperative-sticky"),
            Self::Consumer => ("group.protocol", "consumer"),
        }
    }

    fn javas(self) -> [&'static str; 2] {
        match self {
            Self::Range => {
                ["--assignment-strategy", "org.apache.kafka.clients.consumer.RangeAssignor"]
            }
            Self::CooperativeSticky => [
                "--assignment-strategy",
                "org.apache.kafka.clients.consumer.CooperativeStickyAssignor",
            ],
            Self::Consumer => ["--group-protocol", "consumer"],
        }
    }
}

/// Java's consumer, and what it told.
struct JavaConsumer {
    running: Running,
    owned: BTreeSet<TopicPartition>,
    record_count: u64,
}

impl JavaConsumer {
    fn start(cluster: &Cluster, topic: &str, group: &str, protocol: Protocol) -> Self {
        let mut command =
            java("org.apache.kafka.tools.VerifiableConsumer").unwrap().expect("the broker is Java");
        command.args(["--bootstrap-server", &cluster.endpoint, "--topic", topic]);
        command.args(["--group-id", group, "--reset-policy", "earliest"]);
        if !matches!(protocol, Protocol::Consumer) {
            command.args(["--session-timeout", "6000"]);
        }
        command.args(protocol.javas());
        let running = Running::start(&command, None).unwrap();
        Self { running, owned: BTreeSet::new(), record_count: 0 }
    }

    /// Takes in what it has said by now.
    fn listen(&mut self) {
        while let Ok(line) = self.running.line(Duration::ZERO) {
            let line = line.expect("Java's consumer runs");
            let Ok(event) = serde_json::from_str::<Value>(&line) else { continue };
            let partitions = || {
                let listed = event["partitions"].as_array().unwrap().iter();
                listed.map(|it| {
                    let index = i32::try_from(it["partition"].as_i64().unwrap()).unwrap();
                    TopicPartition::new(it["topic"].as_str().unwrap(), index)
                })
            };
            match event["name"].as_str() {
                Some("partitions_assigned") => self.owned.extend(partitions()),
                Some("partitions_revoked") => partitions().for_each(|it| {
                    self.owned.remove(&it);
                }),
                Some("records_consumed") => self.record_count += event["count"].as_u64().unwrap(),
                _ => {}
            }
        }
    }
}

/// Two members of one group.
struct Pair {
    ours: Driven,
    javas: Option<JavaConsumer>,
}

impl Pair {
    async fn until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        let begun = self.ours.consumer.now().monotonic;
        while !done(self) {
            let owned = (self.ours.owned(), self.javas.as_ref().map(|it| &it.owned));
            let is_late = self.ours.consumer.now().monotonic > begun + PATIENCE;
            assert!(!is_late, "{what}: {owned:?}, {} records", self.record_count());
            self.ours.step().await;
            self.javas.iter_mut().for_each(JavaConsumer::listen);
        }
    }

    fn record_count(&self) -> u64 {
        let of_java = self.javas.as_ref().map_or(0, |it| it.record_count);
        u64::try_from(self.ours.values.len()).unwrap() + of_java
    }

    fn is_shared(&self) -> bool {
        self.ours.owned().len() == 2 && self.javas.as_ref().is_some_and(|it| it.owned.len() == 2)
    }
}

/// Ours and Java's share four partitions; each record is read once; what Java's had comes to ours
/// when it dies.
async fn share(protocol: Protocol, java_is_first: bool) {
    let Some(cluster) = Cluster::apache_kafka() else { return };
    let topic = cluster.topic(4).await;
    let group = cluster.name("group");
    write_each(&cluster, &topic, 4, 0..100).await;
    let settings = [("group.id", group.as_str()), protocol.ours()];
    let ours = Driven::new(cluster.consumer(&settings).await);
    let mut pair = Pair { ours, javas: None };
    if java_is_first {
        pair.javas = Some(JavaConsumer::start(&cluster, &topic, &group, protocol));
    } else {
        pair.ours.consumer.subscribe([topic.as_str()]);
    }
    pair.until("one reads all", |it| it.record_count() == 100).await;
    if java_is_first {
        pair.ours.consumer.subscribe([topic.as_str()]);
    } else {
        pair.javas = Some(JavaConsumer::start(&cluster, &topic, &group, protocol));
    }
    pair.until("both share", Pair::is_shared).await;
    assert!(pair.ours.owned().is_disjoint(&pair.javas.as_ref().unwrap().owned));
    write_each(&cluster, &topic, 4, 100..200).await;
    pair.until("both read", |it| it.record_count() == 200).await;
    let of_java = pair.javas.take().unwrap().record_count;
    assert_eq!(of_java, if java_is_first { 150 } else { 50 });
    // It was killed, and did not leave.
    pair.until("ours takes over", |it| it.ours.owned().len() == 4).await;
    pair.ours.consumer.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_goes_where_javas_producer_sends_it() {
    let Some(cluster) = Cluster::apache_kafka() else { return };
    let topic = cluster.topic(7).await;
    let keys: Vec<_> = (0..100).map(|it| format!("key {it}")).collect();
    let mut producer = cluster.producer(&[]).await;
    for key in &keys {
        append(&mut producer, &ProducerRecord::new(&topic, "ours").key(key.clone())).await;
    }
    producer.close().await.unwrap();
    let mut command = java("org.apache.kafka.tools.ConsoleProducer").unwrap().unwrap();
    command.args(["--bootstrap-server", &cluster.endpoint, "--topic", &topic]);
    command.args(["--reader-property", "parse.key=true", "--reader-property", "key.separator=:"]);
    let mut javas = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let lines: String = keys.iter().map(|key| format!("{key}:java's\n")).collect();
    javas.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    assert!(javas.wait().unwrap().success());
    let mut homes: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (partition, records) in cluster.read(&topic, "read_uncommitted").await {
        for record in records {
            let home = (partition.clone(), text(&record));
            homes.entry(record.key.unwrap()).or_default().push(home);
        }
    }
    assert_eq!(homes.len(), keys.len());
    for (key, homes) in homes {
        let [(one, _), (other, _)] = &homes[..] else { panic!("{key:?}: {homes:?}") };
        assert_eq!(one, other, "{key:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ours_and_javas_share_by_range_whoever_leads() {
    Box::pin(share(Protocol::Range, false)).await;
    Box::pin(share(Protocol::Range, true)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ours_and_javas_share_cooperatively_whoever_leads() {
    Box::pin(share(Protocol::CooperativeSticky, false)).await;
    Box::pin(share(Protocol::CooperativeSticky, true)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ours_and_javas_share_what_the_coordinator_assigns() {
    Box::pin(share(Protocol::Consumer, false)).await;
    Box::pin(share(Protocol::Consumer, true)).await;
}
