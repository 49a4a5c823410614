//! Transactions: all or nothing, offsets with them, fencing, and what is left open.
//!
//! Shell.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use client::producer::{Failure, TransactionError};
use client::{CommitOutcome, Producer, ProducerRecord};
use protocol::ids::{Offset, TopicPartition};

use crate::cluster::{Cluster, PATIENCE, append, numbers, on_both, poll_batches, text};

on_both! {
    committed_records_are_seen_together_and_aborted_ones_never,
    large_transactions_are_told_apart_too,
    offsets_are_committed_with_the_transaction_or_not_at_all,
    what_is_consumed_and_produced_in_transactions_is_seen_once,
    a_newer_producer_fences_the_older,
    a_transaction_left_open_is_aborted_when_its_time_is_up,
    many_short_transactions_follow_one_another,
}

async fn transactional(cluster: &Cluster, id: &str) -> Producer {
    let mut producer = cluster.producer(&[("transactional.id", id)]).await;
    producer.init_transactions().await.unwrap();
    producer
}

async fn append_all(
    producer: &mut Producer,
    topic: &str,
    values: impl IntoIterator<Item = String>,
) {
    for value in values {
        append(producer, &ProducerRecord::new(topic, value)).await;
    }
}

/// Waits until readers of committed records have `want`: markers are written after the coordinator
/// has answered, and it looks after old transactions only now and then.
async fn wait_for(cluster: &Cluster, topic: &str, want: &[String]) {
    let want: BTreeSet<_> = want.iter().cloned().collect();
    let wait = async {
        while cluster.values(topic, "read_committed").await != want {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("the transactions end");
}

async fn committed_records_are_seen_together_and_aborted_ones_never(cluster: Cluster) {
    let topic = cluster.topic(3).await;
    let mut producer = transactional(&cluster, &cluster.name("id")).await;
    producer.begin().unwrap();
    append_all(&mut producer, &topic, numbers(0, 10)).await;
    producer.flush().await.unwrap();
    assert!(cluster.values(&topic, "read_committed").await.is_empty(), "it is open");
    assert_eq!(cluster.values(&topic, "read_uncommitted").await.len(), 10);
    assert_eq!(producer.commit().await, Ok(CommitOutcome::Committed));
    wait_for(&cluster, &topic, &numbers(0, 10)).await;
    producer.begin().unwrap();
    append_all(&mut producer, &topic, numbers(10, 10)).await;
    producer.flush().await.unwrap();
    producer.abort().await.unwrap();
    producer.begin().unwrap();
    append_all(&mut producer, &topic, numbers(20, 10)).await;
    assert_eq!(producer.commit().await, Ok(CommitOutcome::Committed));
    let want = [numbers(0, 10), numbers(20, 10)].concat();
    wait_for(&cluster, &topic, &want).await;
    assert_eq!(cluster.values(&topic, "read_uncommitted").await.len(), 30);
    producer.close().await.unwrap();
}

async fn large_transactions_are_told_apart_too(cluster: Cluster) {
    let topic = cluster.topic(1).await;
    let mut producer = transactional(&cluster, &cluster.name("id")).await;
    // More than one answer holds, so that answers begin and end within transactions.
    let large = |range| numbers(range, 60).into_iter().map(|it| format!("{it:>20000}"));
    for transaction in 0..6 {
        producer.begin().unwrap();
        append_all(&mut producer, &topic, large(transaction * 60)).await;
        if transaction % 2 == 0 {
            assert_eq!(producer.commit().await, Ok(CommitOutcome::Committed));
        } else {
            producer.flush().await.unwrap();
            producer.abort().await.unwrap();
        }
    }
    let committed: Vec<_> = [0, 120, 240].into_iter().flat_map(large).collect();
    wait_for(&cluster, &topic, &committed).await;
    let all: BTreeSet<_> = (0..6).flat_map(|it| large(it * 60)).collect();
    assert!(cluster.values(&topic, "read_uncommitted").await == all, "some are missing");
}

async fn offsets_are_committed_with_the_transaction_or_not_at_all(cluster: Cluster) {
    let topic = cluster.topic(1).await;
    let group = cluster.name("group");
    let consumer = cluster.consumer(&[("group.id", &group)]).await;
    let partition = TopicPartition::new(topic.as_str(), 0);
    let mut producer = transactional(&cluster, &cluster.name("id")).await;
    for (offset, is_kept, want) in [(5, true, 5), (6, false, 5), (7, true, 7)] {
        producer.begin().unwrap();
        append_all(&mut producer, &topic, ["value".to_owned()]).await;
        let offsets = BTreeMap::from([(partition.clone(), Offset(offset).into())]);
        let simple = client::GroupMetadata::simple(&group);
        producer.send_offsets(offsets, &simple).await.unwrap();
        if is_kept {
            assert_eq!(producer.commit().await, Ok(CommitOutcome::Committed));
        } else {
            producer.abort().await.unwrap();
        }
        // Waits until no transaction can change them.
        let committed = consumer.committed([partition.clone()], true).await.unwrap();
        assert_eq!(committed[&partition].offset, Offset(want));
    }
    producer.close().await.unwrap();
}

async fn what_is_consumed_and_produced_in_transactions_is_seen_once(cluster: Cluster) {
    let (source, target) = (cluster.topic(1).await, cluster.topic(1).await);
    let group = cluster.name("group");
    cluster.write(&source, numbers(0, 50)).await;
    let settings = [("group.id", group.as_str()), ("max.poll.records", "1")];
    let mut consumer = cluster.consumer(&settings).await;
    consumer.subscribe([source.as_str()]);
    let mut producer = transactional(&cluster, &cluster.name("id")).await;
    let (mut moved, mut has_aborted) = (0, false);
    while moved < 50 {
        let batches = poll_batches(&mut consumer).await;
        if batches.is_empty() {
            continue;
        }
        producer.begin().unwrap();
        let mut values = Vec::new();
        for batch in &batches {
            values.extend(batch.clone().into_records().map(|it| text(&it.unwrap())));
        }
        let count = values.len();
        append_all(&mut producer, &target, values).await;
        if !std::mem::replace(&mut has_aborted, true) {
            producer.flush().await.unwrap();
            producer.abort().await.unwrap();
            for batch in batches.iter().rev() {
                consumer.seek(&batch.tp, batch.first_offset()).unwrap();
            }
            continue;
        }
        let ends = batches.iter().map(|it| (it.tp.clone(), it.next_offset.into()));
        let member = consumer.group_metadata().unwrap();
        producer.send_offsets(ends.collect(), &member).await.unwrap();
        assert_eq!(producer.commit().await, Ok(CommitOutcome::Committed));
        moved += count;
    }
    wait_for(&cluster, &target, &numbers(0, 50)).await;
    let read = cluster.read(&target, "read_committed").await;
    assert_eq!(read.values().map(Vec::len).sum::<usize>(), 50, "each once");
    // A member of the past is refused.
    let member = consumer.group_metadata().unwrap();
    consumer.close().await.unwrap();
    producer.begin().unwrap();
    let offsets = BTreeMap::from([(TopicPartition::new(source.as_str(), 0), Offset(1).into())]);
    let refused = producer.send_offsets(offsets, &member).await.unwrap_err();
    let is_fenced = matches!(refused, TransactionError::MustAbort(Failure::GroupFenced { .. }));
    assert!(is_fenced, "{refused:?}");
    producer.abort().await.unwrap();
}

async fn a_newer_producer_fences_the_older(cluster: Cluster) {
    let topic = cluster.topic(1).await;
    let id = cluster.name("id");
    let mut older = transactional(&cluster, &id).await;
    older.begin().unwrap();
    append_all(&mut older, &topic, numbers(0, 1)).await;
    older.flush().await.unwrap();
    let mut newer = transactional(&cluster, &id).await;
    newer.begin().unwrap();
    append_all(&mut newer, &topic, numbers(1, 1)).await;
    assert_eq!(newer.commit().await, Ok(CommitOutcome::Committed));
    let outcome = older.commit().await.unwrap();
    assert!(matches!(outcome, CommitOutcome::Aborted(Failure::Fenced { .. })), "{outcome:?}");
    assert!(matches!(older.begin(), Err(TransactionError::Fatal(_))));
    wait_for(&cluster, &topic, &numbers(1, 1)).await;
}

async fn a_transaction_left_open_is_aborted_when_its_time_is_up(cluster: Cluster) {
    let topic = cluster.topic(1).await;
    let id = cluster.name("id");
    let settings = [("transactional.id", id.as_str()), ("transaction.timeout.ms", "1000")];
    let mut producer = cluster.producer(&settings).await;
    producer.init_transactions().await.unwrap();
    producer.begin().unwrap();
    append_all(&mut producer, &topic, numbers(0, 1)).await;
    producer.flush().await.unwrap();
    cluster.write(&topic, numbers(1, 1)).await;
    wait_for(&cluster, &topic, &numbers(1, 1)).await;
    let outcome = producer.commit().await.unwrap();
    assert!(matches!(outcome, CommitOutcome::Aborted(_)), "{outcome:?}");
}

async fn many_short_transactions_follow_one_another(cluster: Cluster) {
    let topic = cluster.topic(3).await;
    let mut producer = transactional(&cluster, &cluster.name("id")).await;
    for count in 0..30 {
        producer.begin().unwrap();
        append_all(&mut producer, &topic, numbers(count * 3, 3)).await;
        assert_eq!(producer.commit().await, Ok(CommitOutcome::Committed));
    }
    wait_for(&cluster, &topic, &numbers(0, 90)).await;
    producer.close().await.unwrap();
}
