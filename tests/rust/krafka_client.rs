//! krafka against a broker: usage: krafka_client HOST:PORT
//!
//! Produces with every codec, keys and headers; consumes in a group of two, of both protocols, with
//! a rebalance; runs transactions with offsets, of which the aborted ones stay invisible; and walks
//! through the admin client. Prints "ok" at the end. `tests/suites/run krafka` builds it in a
//! project of its own, as the crate is no dependency of ours.
//!
//! Shell.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::future::join_all;
use krafka::admin::{AdminClient, ConfigOp, ConfigResource, NewTopic, OffsetSpec, TopicPartition};
use krafka::consumer::{AutoOffsetReset, Consumer, GroupProtocol, IsolationLevel};
use krafka::producer::TopicPartitionOffset;
use krafka::{Compression, ConsumerRecord, Kafka, Record};

type Outcome = Result<(), Box<dyn std::error::Error>>;

const POLL: Duration = Duration::from_millis(500);
/// Polls until something must have happened: a minute.
const POLLS_MAX: usize = 120;

fn name(part: &str) -> String {
    let elapsed = std::time::UNIX_EPOCH.elapsed().expect("a clock after 1970");
    format!("krafka-{part}-{}", elapsed.as_nanos())
}

async fn topic(kafka: &Kafka, part: &str, partitions: i32) -> krafka::Result<String> {
    let topic = name(part);
    let new = NewTopic::new(&topic, partitions, 1)?;
    for (_, created) in kafka.admin().create_topics([new], Default::default()).await? {
        created?;
    }
    Ok(topic)
}

async fn connect() -> krafka::Result<Kafka> {
    let bootstrap = std::env::args().nth(1).unwrap_or_else(|| "localhost:9092".to_owned());
    Kafka::builder(bootstrap).connect().await
}

/// A member with connections of its own: answers on one come in order, and that to a join waits
/// for the other members.
async fn member(group: &str, protocol: GroupProtocol) -> krafka::Result<Consumer> {
    let builder =
        connect().await?.consumer(group).group_protocol(protocol).enable_auto_commit(false);
    let builder = builder.auto_offset_reset(AutoOffsetReset::Earliest);
    let builder = builder.isolation_level(IsolationLevel::ReadCommitted);
    let builder = match protocol {
        GroupProtocol::Classic => builder
            .session_timeout(Duration::from_secs(6))
            .heartbeat_interval(Duration::from_millis(500)),
        _ => builder,
    };
    builder.build().await
}

/// Reads `count` records of a topic in a group of its own.
async fn read_all(topic: &str, count: usize) -> krafka::Result<Vec<ConsumerRecord>> {
    let reader = member(&name("reader"), GroupProtocol::Classic).await?;
    reader.subscribe([topic]).await?;
    let mut got = Vec::new();
    for _ in 0..POLLS_MAX {
        if got.len() >= count {
            break;
        }
        got.extend(reader.poll(POLL).await?);
    }
    reader.close().await?;
    assert_eq!(got.len(), count, "records of {topic}");
    Ok(got)
}

async fn codecs(kafka: &Kafka) -> Outcome {
    let topic = topic(kafka, "codecs", 1).await?;
    let codecs = [
        Compression::None,
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ];
    for codec in codecs {
        let producer = kafka.producer().compression(codec).build().await?;
        for n in 0..200 {
            let key = format!("{codec:?}-{n}");
            let record = Record::new(&topic, format!("value {n} ").repeat(20)).key(key);
            // The result comes with the flush that closing is.
            drop(producer.enqueue(record.header("codec", format!("{codec:?}"))).await?);
        }
        producer.close().await?;
    }
    let got = read_all(&topic, 1000).await?;
    for (record, at) in got.iter().zip(0..) {
        let key = record.key_str().ok_or("a key")?;
        let (codec, n) = key.split_once('-').ok_or("a codec and a number")?;
        assert_eq!(record.offset, at);
        assert_eq!(record.value_str(), Some(&*format!("value {n} ").repeat(20)));
        assert_eq!(record.headers[0].1.as_deref(), Some(codec.as_bytes()));
    }
    Ok(())
}

/// Polls both members until `done`.
async fn until(
    members: &[&Consumer],
    seen: &mut BTreeSet<String>,
    topic: &str,
    done: impl Fn(&[BTreeSet<i32>], &BTreeSet<String>) -> bool,
) -> Outcome {
    let mut owned = Vec::new();
    for _ in 0..POLLS_MAX {
        owned.clear();
        // At once: a member joins within its poll, and a round needs all of them.
        for read in join_all(members.iter().map(|member| member.poll(POLL))).await {
            for record in read? {
                seen.insert(record.value_str().unwrap_or_default().to_owned());
            }
        }
        for member in members {
            let assigned = member.assignment().await;
            owned.push(assigned.get(topic).into_iter().flatten().copied().collect());
        }
        if done(&owned, seen) {
            return Ok(());
        }
    }
    Err(format!("not in time: {owned:?}, {} values", seen.len()).into())
}

async fn group_of_two(kafka: &Kafka, protocol: GroupProtocol) -> Outcome {
    let topic = topic(kafka, "group", 4).await?;
    let producer = kafka.producer().build().await?;
    for n in 0..400 {
        drop(producer.enqueue(Record::new(&topic, n.to_string()).partition(n % 4)).await?);
    }
    producer.close().await?;
    let group = name("group");
    let mut seen = BTreeSet::new();
    let first = member(&group, protocol).await?;
    first.subscribe([&topic]).await?;
    until(&[&first], &mut seen, &topic, |owned, _| owned[0].len() == 4).await?;
    let second = member(&group, protocol).await?;
    second.subscribe([&topic]).await?;
    let halves = |owned: &[BTreeSet<i32>], seen: &BTreeSet<String>| {
        owned.iter().all(|it| it.len() == 2) && owned[0].is_disjoint(&owned[1]) && seen.len() == 400
    };
    until(&[&first, &second], &mut seen, &topic, halves).await?;
    first.commit().await?;
    first.close().await?;
    until(&[&second], &mut seen, &topic, |owned, _| owned[0].len() == 4).await?;
    second.commit().await?;
    second.close().await?;
    let admin = kafka.admin();
    let committed = admin.list_consumer_group_offsets(&group, Default::default()).await?;
    let mut sum = 0;
    for (_, offset) in committed {
        sum += offset?.offset.unwrap_or(0);
    }
    assert_eq!(sum, 400);
    for (_, deleted) in admin.delete_consumer_groups([&group], Default::default()).await? {
        deleted?;
    }
    Ok(())
}

async fn transactions(kafka: &Kafka) -> Outcome {
    let source = topic(kafka, "source", 1).await?;
    let target = topic(kafka, "target", 2).await?;
    let plain = kafka.producer().build().await?;
    for n in 0..10 {
        let _ = plain.send(Record::new(&source, n.to_string())).await?;
    }
    plain.close().await?;
    let group = name("transactions");
    let reader = member(&group, GroupProtocol::Classic).await?;
    reader.subscribe([&source]).await?;
    until(&[&reader], &mut BTreeSet::new(), &source, |_, seen| seen.len() == 10).await?;
    let producer = kafka.producer().build_transactional(name("id")).await?;
    for attempt in 0..4 {
        producer.begin()?;
        for n in 0..50 {
            let record = Record::new(&target, format!("{attempt}-{n}")).partition(n % 2);
            drop(producer.enqueue(record).await?);
        }
        producer.flush().await?;
        let member = reader.group_metadata().await.ok_or("a member of the group")?;
        let offset = TopicPartitionOffset::new(&*source, 0, i64::from(attempt) + 5);
        producer.send_offsets(&[offset], &member).await?;
        if attempt % 2 == 1 {
            producer.commit().await?;
        } else {
            producer.abort().await?;
        }
    }
    producer.close().await?;
    reader.close().await?;
    let got = read_all(&target, 100).await?;
    let values = got.iter().filter_map(|it| it.value_str()).map(str::to_owned);
    let want =
        [1, 3].into_iter().flat_map(|attempt| (0..50).map(move |n| format!("{attempt}-{n}")));
    assert_eq!(values.collect::<BTreeSet<_>>(), want.collect::<BTreeSet<_>>());
    let committed = kafka.admin().list_consumer_group_offsets(&group, Default::default()).await?;
    let offset = committed.into_iter().next().ok_or("an offset")?.1?;
    assert_eq!(offset.offset, Some(8));
    Ok(())
}

async fn administration(kafka: &Kafka) -> Outcome {
    let topic = topic(kafka, "admin", 2).await?;
    let admin: AdminClient = kafka.admin();
    assert_eq!(admin.describe_cluster(Default::default()).await?.brokers.len(), 1);
    for (_, grown) in admin.create_partitions([(&topic, 3)], Default::default()).await? {
        grown?;
    }
    for (_, described) in admin.describe_topics([&topic], Default::default()).await? {
        assert_eq!(described?.partitions.len(), 3);
    }
    let resource = ConfigResource::topic(&topic);
    let change = (resource.clone(), vec![ConfigOp::set("retention.ms", "86400000")]);
    for (_, changed) in admin.incremental_alter_configs([change], Default::default()).await? {
        changed?;
    }
    for (_, entries) in admin.describe_configs([resource], Default::default()).await? {
        let entries = entries?;
        let entry = entries.iter().find(|it| it.name == "retention.ms").ok_or("a setting")?;
        assert_eq!(entry.config_value().as_str(), Some("86400000"));
    }
    let producer = kafka.producer().build().await?;
    for n in 0..10 {
        let _ = producer.send(Record::new(&topic, n.to_string()).partition(0)).await?;
    }
    producer.close().await?;
    let first = TopicPartition::new(&*topic, 0);
    for (_, low) in admin.delete_records([(first.clone(), 4)], Default::default()).await? {
        assert_eq!(low?, 4);
    }
    for (spec, want) in [(OffsetSpec::Earliest, 4), (OffsetSpec::Latest, 10)] {
        for (_, listed) in admin.list_offsets([(first.clone(), spec)], Default::default()).await? {
            assert_eq!(listed?.offset, want);
        }
    }
    for (_, deleted) in admin.delete_topics([&topic], Default::default()).await? {
        deleted?;
    }
    assert!(!admin.list_topics(Default::default()).await?.contains(&topic));
    Ok(())
}

#[tokio::main]
async fn main() -> Outcome {
    let kafka = connect().await?;
    codecs(&kafka).await?;
    println!("test codecs ... ok");
    group_of_two(&kafka, GroupProtocol::Classic).await?;
    println!("test classic_group ... ok");
    group_of_two(&kafka, GroupProtocol::Consumer).await?;
    println!("test consumer_group ... ok");
    transactions(&kafka).await?;
    println!("test transactions ... ok");
    administration(&kafka).await?;
    println!("test administration ... ok");
    Ok(())
}
