//! Our consumer against our broker: groups, rebalances, and offsets in transactions.
//!
//! Each test is a world of its own, the same at every run. Shell.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use client::admin::{Admin, NewTopic};
use client::bootstrap::Bootstrap;
use client::config::{Assignor, IsolationLevel, OffsetReset};
use client::consumer::{Consumer, FetchedBatch, Polled};
use client::producer::{CommitOutcome, Producer};
use client::{ConsumerConfig, ProducerConfig};
use harness::sim::world::{World, run};
use protocol::ids::{Offset, TopicPartition};
use protocol::time::Timestamp;

const TOPIC: &str = "orders";
const PARTITIONS: i32 = 4;
const PATIENCE: Duration = Duration::from_secs(60);

async fn begin(world: &mut World) {
    world.start_broker().await.unwrap();
    let admin = Admin::connect(world.bootstrap("admin"), PATIENCE).await.unwrap();
    admin.create_topic(NewTopic::new(TOPIC, PARTITIONS)).await.unwrap();
}

async fn produce(bootstrap: Bootstrap, values: std::ops::Range<u32>) {
    let mut producer = Producer::connect(bootstrap, ProducerConfig::default()).await.unwrap();
    for value in values {
        let partition = i32::try_from(value).unwrap() % PARTITIONS;
        let value = value.to_string();
        loop {
            let appended = producer.append(
                TOPIC,
                Some(partition),
                Timestamp(0),
                None,
                Some(value.as_bytes()),
                &[],
            );
            match appended {
                Ok(()) => break,
                Err(error) if error.is_retriable() => producer.ready().await.unwrap(),
                Err(error) => panic!("{error}"),
            }
        }
    }
    producer.close().await.unwrap();
}

fn config(assignor: Assignor) -> ConsumerConfig {
    ConsumerConfig {
        group_id: Some("billing".to_owned()),
        auto_offset_reset: OffsetReset::Earliest,
        assignor,
        ..ConsumerConfig::default()
    }
}

/// What a member saw.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Sight>>);

#[derive(Default)]
struct Sight {
    values: Vec<u32>,
    rebalances: Vec<String>,
    owned: BTreeSet<TopicPartition>,
}

impl Seen {
    fn values(&self) -> Vec<u32> {
        self.0.lock().unwrap().values.clone()
    }

    fn rebalances(&self) -> Vec<String> {
        self.0.lock().unwrap().rebalances.clone()
    }

    fn owned(&self) -> BTreeSet<TopicPartition> {
        self.0.lock().unwrap().owned.clone()
    }
}

/// Consumes and commits until told to stop.
async fn member(
    bootstrap: Bootstrap,
    config: ConsumerConfig,
    seen: Seen,
    stop: tokio::sync::oneshot::Receiver<()>,
) {
    let mut consumer = Consumer::connect(bootstrap, config).await.unwrap();
    consumer.subscribe([TOPIC]);
    let mut stop = stop;
    let mut done: BTreeMap<TopicPartition, Offset> = BTreeMap::new();
    loop {
        let polled = tokio::select! {
            biased;
            _ = &mut stop => break,
            polled = consumer.poll(Duration::from_secs(1)) => polled.unwrap(),
        };
        let mut owned = consumer.assignment();
        match polled {
            Polled::Batches(batches) => {
                for batch in batches {
                    for record in batch.records() {
                        let value = record.unwrap().value.unwrap().to_vec();
                        let value = String::from_utf8(value).unwrap().parse().unwrap();
                        seen.0.lock().unwrap().values.push(value);
                    }
                    done.insert(batch.tp.clone(), batch.next_offset);
                }
            }
            Polled::Revoked(revoked) => {
                assert!(!revoked.lost);
                let text = format!("revoked {}", revoked.partitions.len());
                seen.0.lock().unwrap().rebalances.push(text);
                let offsets = std::mem::take(&mut done);
                let offsets = offsets.into_iter().map(|(it, at)| (it, at.into())).collect();
                consumer.commit(offsets).await.unwrap();
                owned = owned.difference(&revoked.partitions).cloned().collect();
            }
            Polled::Assigned(added) => {
                seen.0.lock().unwrap().rebalances.push(format!("assigned {}", added.len()));
            }
            Polled::Nothing => {}
        }
        seen.0.lock().unwrap().owned = owned;
    }
    let offsets = done.into_iter().map(|(it, at)| (it, at.into())).collect();
    consumer.commit(offsets).await.unwrap();
    consumer.close().await.unwrap();
}

fn two_members_share(assignor: Assignor, seed: u64) -> (Vec<Vec<String>>, u64) {
    run(seed, &[], async move |world: &mut World| {
        begin(world).await;
        produce(world.bootstrap("p"), 0..100).await;
        let (one, other) = (Seen::default(), Seen::default());
        let (stop_one, stopped_one) = tokio::sync::oneshot::channel();
        let first = tokio::task::spawn_local(member(
            world.bootstrap("a"),
            config(assignor),
            one.clone(),
            stopped_one,
        ));
        while one.values().len() < 100 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let (stop_other, stopped_other) = tokio::sync::oneshot::channel();
        let second = tokio::task::spawn_local(member(
            world.bootstrap("b"),
            config(assignor),
            other.clone(),
            stopped_other,
        ));
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert_eq!(one.owned().len(), 2, "{:?}", one.rebalances());
        assert_eq!(other.owned().len(), 2);
        assert!(one.owned().is_disjoint(&other.owned()));
        produce(world.bootstrap("p"), 100..200).await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        let mut all = [one.values(), other.values()].concat();
        all.sort_unstable();
        assert_eq!(all, (0..200).collect::<Vec<_>>(), "each once");
        assert_eq!(other.values().len(), 50);
        stop_one.send(()).unwrap();
        first.await.unwrap();
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert_eq!(other.owned().len(), 4);
        produce(world.bootstrap("p"), 200..300).await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(other.values().len(), 150);
        stop_other.send(()).unwrap();
        second.await.unwrap();
        vec![one.rebalances(), other.rebalances()]
    })
}

#[test]
fn two_members_share_partitions_and_each_record_is_consumed_once() {
    let (events, _) = two_members_share(Assignor::Range, 1);
    assert_eq!(events[0], ["assigned 4", "revoked 4", "assigned 2"]);
    let (events, _) = two_members_share(Assignor::RoundRobin, 2);
    assert_eq!(events[0], ["assigned 4", "revoked 4", "assigned 2"]);
}

#[test]
fn cooperative_members_keep_what_stays_theirs_while_the_rest_moves() {
    let (events, _) = two_members_share(Assignor::CooperativeSticky, 3);
    assert_eq!(events[0], ["assigned 4", "revoked 2", "assigned 0", "assigned 0"]);
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = || two_members_share(Assignor::CooperativeSticky, 4);
    assert_eq!(run(), run());
}

/// Consumes, and produces into "out" with the offsets in the same transaction, until 20 records
/// are moved. The first transaction is aborted.
async fn move_twenty(consumer: &mut Consumer, producer: &mut Producer) {
    let (mut moved, mut has_aborted) = (0, false);
    while moved < 20 {
        let Polled::Batches(batches) = consumer.poll(Duration::from_secs(10)).await.unwrap() else {
            continue;
        };
        producer.begin().unwrap();
        let mut count = 0;
        for record in batches.iter().flat_map(FetchedBatch::records) {
            let value = record.unwrap().value;
            while producer.append("out", Some(0), Timestamp(0), None, value, &[]).is_err() {
                producer.ready().await.unwrap();
            }
            count += 1;
        }
        if !has_aborted {
            has_aborted = true;
            producer.flush().await.unwrap();
            producer.abort().await.unwrap();
            let committed = consumer.committed(consumer.assignment(), true).await.unwrap();
            assert!(committed.is_empty());
            for batch in batches.iter().rev() {
                consumer.seek(&batch.tp, batch.first_offset()).unwrap();
            }
            continue;
        }
        let done =
            |it: &FetchedBatch| (it.tp.clone(), consumer.position_to_commit(&it.tp).unwrap());
        let offsets = batches.iter().map(done).collect();
        let group = consumer.group_metadata().unwrap();
        producer.send_offsets(offsets, &group).await.unwrap();
        assert_eq!(producer.commit().await.unwrap(), CommitOutcome::Committed);
        moved += count;
    }
}

async fn count(bootstrap: Bootstrap, topic: &str, isolation_level: IsolationLevel) -> usize {
    let config = ConsumerConfig {
        isolation_level,
        auto_offset_reset: OffsetReset::Earliest,
        ..ConsumerConfig::default()
    };
    let mut reader = Consumer::connect(bootstrap, config).await.unwrap();
    let partition = TopicPartition::new(topic, 0);
    reader.assign([partition.clone()]);
    let ends = reader.end_offsets([partition.clone()], isolation_level).await.unwrap();
    let mut count = 0;
    while reader.position(&partition).is_none_or(|it| it < ends[&partition]) {
        if let Polled::Batches(batches) = reader.poll(Duration::from_secs(100)).await.unwrap() {
            count += batches.iter().map(|it| it.records().count()).sum::<usize>();
        }
    }
    count
}

#[test]
fn what_is_consumed_and_produced_in_a_transaction_is_seen_once_as_a_whole() {
    run(5, &[], async |world: &mut World| {
        begin(world).await;
        produce(world.bootstrap("p"), 0..20).await;
        let admin = Admin::connect(world.bootstrap("a"), PATIENCE).await.unwrap();
        admin.create_topic(NewTopic::new("out", 1)).await.unwrap();
        let in_group = config(Assignor::Range);
        let mut consumer = Consumer::connect(world.bootstrap("c"), in_group).await.unwrap();
        consumer.subscribe([TOPIC]);
        let transactional = ProducerConfig {
            transactional_id: Some("mover".to_owned()),
            ..ProducerConfig::default()
        };
        let mut producer = Producer::connect(world.bootstrap("m"), transactional).await.unwrap();
        producer.init_transactions().await.unwrap();
        move_twenty(&mut consumer, &mut producer).await;
        let committed = consumer.committed(consumer.assignment(), true).await.unwrap();
        assert_eq!(committed.values().map(|it| it.offset.0).sum::<i64>(), 20);
        consumer.close().await.unwrap();
        let seen = count(world.bootstrap("r"), "out", IsolationLevel::ReadCommitted).await;
        assert_eq!(seen, 20);
        let written = count(world.bootstrap("r"), "out", IsolationLevel::ReadUncommitted).await;
        assert!(written > 20, "the aborted ones are there as well");
        world.stop().await.unwrap();
    });
}
