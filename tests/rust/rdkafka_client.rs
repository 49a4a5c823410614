//! The crate rdkafka against a broker: usage: rdkafka_client HOST:PORT
//!
//! Produces with every codec it is built with, keys and headers; consumes in a group of two, of both
//! protocols, with a rebalance; runs transactions with offsets, of which the aborted ones stay
//! invisible; and walks through the admin client. Prints a line for each part. `tests/suites/run
//! rdkafka-client` builds it in a project of its own, as the crate is no dependency of ours.
//!
//! Shell.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::executor::block_on;
use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier,
    TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::message::{Header, Headers, Message, OwnedHeaders, OwnedMessage};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;
type Sender = ThreadedProducer<DefaultProducerContext>;

const POLL: Duration = Duration::from_millis(100);
/// Polls in vain until something must have happened: a minute.
const VAIN_POLLS_MAX: usize = 600;
const PATIENCE: Duration = Duration::from_secs(30);

fn name(part: &str) -> String {
    let elapsed = std::time::UNIX_EPOCH.elapsed().expect("a clock after 1970");
    format!("rdkafka-{part}-{}", elapsed.as_nanos())
}

fn config() -> ClientConfig {
    let mut config = ClientConfig::new();
    let bootstrap = std::env::args().nth(1).unwrap_or_else(|| "localhost:9092".to_owned());
    config.set("bootstrap.servers", bootstrap);
    config
}

fn admin() -> Outcome<AdminClient<DefaultClientContext>> {
    Ok(config().create()?)
}

fn topic(part: &str, partitions: i32) -> Outcome<String> {
    let topic = name(part);
    let new = NewTopic::new(&topic, partitions, TopicReplication::Fixed(1));
    for created in block_on(admin()?.create_topics([&new], &AdminOptions::new()))? {
        created.map_err(|(topic, code)| format!("{topic}: {code}"))?;
    }
    Ok(topic)
}

fn send(producer: &Sender, topic: &str, value: &str, partition: i32) -> Outcome {
    let record = BaseRecord::<str, str>::to(topic).payload(value).partition(partition);
    producer.send(record).map_err(|(error, _)| error)?;
    Ok(())
}

fn member(group: &str, protocol: &str) -> Outcome<BaseConsumer> {
    let mut config = config();
    config.set("group.id", group).set("group.protocol", protocol);
    config.set("auto.offset.reset", "earliest").set("enable.auto.commit", "false");
    if protocol == "classic" {
        config.set("session.timeout.ms", "6000").set("heartbeat.interval.ms", "500");
    }
    Ok(config.create()?)
}

/// Reads `count` records of a topic in a group of its own.
fn read_all(topic: &str, count: usize) -> Outcome<Vec<OwnedMessage>> {
    let reader = member(&name("reader"), "classic")?;
    reader.subscribe(&[topic])?;
    let (mut got, mut vain) = (Vec::new(), 0);
    while got.len() < count && vain < VAIN_POLLS_MAX {
        match reader.poll(POLL) {
            Some(read) => got.push(read?.detach()),
            None => vain += 1,
        }
    }
    assert_eq!(got.len(), count, "records of {topic}");
    Ok(got)
}

fn codecs() -> Outcome {
    let topic = topic("codecs", 1)?;
    let codecs = ["none", "gzip", "snappy", "lz4"];
    for codec in codecs {
        let mut config = config();
        config.set("compression.type", codec).set("enable.idempotence", "true");
        let producer: Sender = config.create()?;
        for n in 0..200 {
            let (key, value) = (format!("{codec}-{n}"), format!("value {n} ").repeat(20));
            let headers = OwnedHeaders::new().insert(Header { key: "codec", value: Some(codec) });
            let record = BaseRecord::to(&topic).key(&key).payload(&value).headers(headers);
            producer.send(record).map_err(|(error, _)| error)?;
        }
        producer.flush(PATIENCE)?;
    }
    let got = read_all(&topic, 200 * codecs.len())?;
    for (record, at) in got.iter().zip(0..) {
        let key = std::str::from_utf8(record.key().ok_or("a key")?)?;
        let (codec, n) = key.split_once('-').ok_or("a codec and a number")?;
        assert_eq!(record.offset(), at);
        assert_eq!(record.payload(), Some(format!("value {n} ").repeat(20).as_bytes()));
        let header = record.headers().ok_or("headers")?.get(0);
        assert_eq!((header.key, header.value), ("codec", Some(codec.as_bytes())));
    }
    Ok(())
}

/// Polls the members in turn until `done` with what each owns and what all have seen.
fn until(
    members: &[&BaseConsumer],
    seen: &mut BTreeSet<String>,
    done: impl Fn(&[BTreeSet<i32>], &BTreeSet<String>) -> bool,
) -> Outcome {
    let (mut owned, mut vain) = (Vec::new(), 0);
    while vain < VAIN_POLLS_MAX {
        owned.clear();
        for member in members {
            match member.poll(POLL) {
                Some(read) => {
                    let value = read?.detach().payload().unwrap_or_default().to_vec();
                    seen.insert(String::from_utf8(value)?);
                }
                None => vain += 1,
            }
            let assigned = member.assignment()?;
            owned.push(assigned.elements().iter().map(|it| it.partition()).collect());
        }
        if done(&owned, seen) {
            return Ok(());
        }
    }
    Err(format!("not in time: {owned:?}, {} values", seen.len()).into())
}

fn group_of_two(protocol: &str) -> Outcome {
    let topic = topic("group", 4)?;
    let producer: Sender = config().create()?;
    for n in 0..400 {
        send(&producer, &topic, &n.to_string(), n % 4)?;
    }
    producer.flush(PATIENCE)?;
    let group = name("group");
    let mut seen = BTreeSet::new();
    let first = member(&group, protocol)?;
    first.subscribe(&[&topic])?;
    until(&[&first], &mut seen, |owned, _| owned[0].len() == 4)?;
    let second = member(&group, protocol)?;
    second.subscribe(&[&topic])?;
    let halves = |owned: &[BTreeSet<i32>], seen: &BTreeSet<String>| {
        owned.iter().all(|it| it.len() == 2) && owned[0].is_disjoint(&owned[1]) && seen.len() == 400
    };
    until(&[&first, &second], &mut seen, halves)?;
    let listed = first.fetch_group_list(Some(&group), PATIENCE)?;
    assert_eq!(listed.groups().len(), 1);
    drop(first);
    until(&[&second], &mut seen, |owned, _| owned[0].len() == 4)?;
    let mut ends = TopicPartitionList::new();
    for partition in 0..4 {
        ends.add_partition_offset(&topic, partition, Offset::Offset(100))?;
    }
    second.commit(&ends, CommitMode::Sync)?;
    let committed = second.committed(PATIENCE)?;
    assert!(committed.elements().iter().all(|it| it.offset() == Offset::Offset(100)));
    // Lists hold on to partitions, and the end of a consumer waits for these.
    drop((ends, committed));
    drop(second);
    for deleted in block_on(admin()?.delete_groups(&[&group], &AdminOptions::new()))? {
        deleted.map_err(|(group, code)| format!("{group}: {code}"))?;
    }
    Ok(())
}

fn transactions() -> Outcome {
    let (source, target) = (topic("source", 1)?, topic("target", 2)?);
    let plain: Sender = config().create()?;
    for n in 0..10 {
        send(&plain, &source, &n.to_string(), 0)?;
    }
    plain.flush(PATIENCE)?;
    let reader = member(&name("transactions"), "classic")?;
    reader.subscribe(&[&source])?;
    until(&[&reader], &mut BTreeSet::new(), |_, seen| seen.len() == 10)?;
    let producer: Sender = config().set("transactional.id", name("id")).create()?;
    producer.init_transactions(PATIENCE)?;
    for attempt in 0..4 {
        producer.begin_transaction()?;
        for n in 0..50 {
            send(&producer, &target, &format!("{attempt}-{n}"), n % 2)?;
        }
        let mut offsets = TopicPartitionList::new();
        offsets.add_partition_offset(&source, 0, Offset::Offset(attempt + 5))?;
        let group = reader.group_metadata().ok_or("a member of the group")?;
        producer.send_offsets_to_transaction(&offsets, &group, PATIENCE)?;
        if attempt % 2 == 1 {
            producer.commit_transaction(PATIENCE)?;
        } else {
            producer.abort_transaction(PATIENCE)?;
        }
    }
    let got = read_all(&target, 100)?;
    let values = got.iter().filter_map(|it| it.payload()).map(<[u8]>::to_vec);
    let want =
        [1, 3].into_iter().flat_map(|at| (0..50).map(move |n| format!("{at}-{n}").into_bytes()));
    assert_eq!(values.collect::<BTreeSet<_>>(), want.collect::<BTreeSet<_>>());
    assert_eq!(reader.committed(PATIENCE)?.elements()[0].offset(), Offset::Offset(8));
    Ok(())
}

fn administration() -> Outcome {
    let topic = topic("admin", 2)?;
    let (admin, options) = (admin()?, AdminOptions::new());
    let client = admin.inner();
    assert_eq!(client.fetch_metadata(None, PATIENCE)?.brokers().len(), 1);
    let more = NewPartitions::new(&topic, 3);
    for grown in block_on(admin.create_partitions([&more], &options))? {
        grown.map_err(|(topic, code)| format!("{topic}: {code}"))?;
    }
    let described = client.fetch_metadata(Some(&topic), PATIENCE)?;
    assert_eq!(described.topics()[0].partitions().len(), 3);
    let resource = ResourceSpecifier::Topic(&topic);
    let change = AlterConfig::new(resource).set("retention.ms", "86400000");
    for changed in block_on(admin.alter_configs([&change], &options))? {
        changed.map_err(|(_, code)| format!("{topic}: {code}"))?;
    }
    for described in block_on(admin.describe_configs([&resource], &options))? {
        let described = described?;
        let entry = described.get("retention.ms").ok_or("a setting")?;
        assert_eq!(entry.value.as_deref(), Some("86400000"));
    }
    let producer: Sender = config().create()?;
    for n in 0..10 {
        send(&producer, &topic, &n.to_string(), 0)?;
    }
    producer.flush(PATIENCE)?;
    let mut before = TopicPartitionList::new();
    before.add_partition_offset(&topic, 0, Offset::Offset(4))?;
    block_on(admin.delete_records(&before, &options))?;
    assert_eq!(client.fetch_watermarks(&topic, 0, PATIENCE)?, (4, 10));
    for deleted in block_on(admin.delete_topics(&[&topic], &options))? {
        deleted.map_err(|(topic, code)| format!("{topic}: {code}"))?;
    }
    let left = client.fetch_metadata(None, PATIENCE)?;
    assert!(left.topics().iter().all(|it| it.name() != topic));
    Ok(())
}

fn main() -> Outcome {
    codecs()?;
    println!("test codecs ... ok");
    group_of_two("classic")?;
    println!("test classic_group ... ok");
    group_of_two("consumer")?;
    println!("test consumer_group ... ok");
    transactions()?;
    println!("test transactions ... ok");
    administration()?;
    println!("test administration ... ok");
    Ok(())
}
