//! Transactions where something comes late, twice, or after somebody has gone. Shell.

use protocol::api::group_offsets::{
    OffsetFetchRequest, OffsetFetchRequestTopic, OffsetFetchResponsePartition,
};
use protocol::api::producer_id::InitProducerIdRequest;
use protocol::api::transactions::DescribeTransactionsRequest;
use protocol::api::txn::{
    AddOffsetsToTxnRequest, EndTxnRequest, TxnOffsetCommitRequest, TxnOffsetCommitRequestPartition,
    TxnOffsetCommitRequestTopic,
};

use super::super::operator_tests::open_transaction;
use super::*;
use crate::controller::TopicRef;

const ID: &str = "t";

impl World {
    /// One more batch of the transaction, in this version of Produce.
    async fn send_batch(&mut self, version: i16, batch: RecordBatch) -> ErrorCode {
        let mut request = produce(TOPIC, batch.into_bytes(), -1);
        request.transactional_id = Some(ID.to_owned());
        let response = self.ask(version, request).await;
        ErrorCode::from_wire(response.responses[0].partition_responses[0].error_code)
    }

    /// Ends the transaction, in this version of EndTxn; tells who the producer is from now on.
    async fn end(
        &mut self,
        version: i16,
        (producer_id, producer_epoch): (i64, i16),
        committed: bool,
    ) -> (i64, i16) {
        let transactional_id = ID.to_owned();
        let end = EndTxnRequest { transactional_id, producer_id, producer_epoch, committed };
        let ended = self.ask(version, end).await;
        assert_eq!(ErrorCode::from_wire(ended.error_code), ErrorCode::None);
        (ended.producer_id, ended.producer_epoch)
    }

    /// Waits until the transaction is in this state.
    async fn until(&mut self, want: &str) {
        loop {
            let request = DescribeTransactionsRequest { transactional_ids: vec![ID.to_owned()] };
            let state = self.ask(0, request).await.transaction_states.remove(0);
            if state.transaction_state == want {
                return;
            }
            tokio::task::yield_now().await;
        }
    }

    async fn commit_offset(&mut self, version: i16, producer: (i64, i16)) -> ErrorCode {
        let partition =
            TxnOffsetCommitRequestPartition { committed_offset: 7, ..Default::default() };
        let topics = vec![TxnOffsetCommitRequestTopic {
            name: TOPIC.to_owned(),
            partitions: vec![partition],
        }];
        let commit = TxnOffsetCommitRequest {
            transactional_id: ID.to_owned(),
            group_id: "g".to_owned(),
            producer_id: producer.0,
            producer_epoch: producer.1,
            topics,
            ..Default::default()
        };
        loop {
            let response = self.ask(version, commit.clone()).await;
            let code = ErrorCode::from_wire(response.topics[0].partitions[0].error_code);
            if !code.is_retriable() {
                return code;
            }
            tokio::task::yield_now().await;
        }
    }

    async fn offset_fetch(&mut self, require_stable: bool) -> OffsetFetchResponsePartition {
        let asked = OffsetFetchRequestTopic { name: TOPIC.to_owned(), partition_indexes: vec![0] };
        let fetch = OffsetFetchRequest {
            group_id: "g".to_owned(),
            topics: Some(vec![asked]),
            require_stable,
            ..Default::default()
        };
        loop {
            let response = self.ask(7, fetch.clone()).await;
            let code = ErrorCode::from_wire(response.error_code);
            assert!(code.is_ok() || code.is_retriable(), "{code}");
            if let Some(mut topic) = response.topics.into_iter().next() {
                return topic.partitions.remove(0);
            }
            tokio::task::yield_now().await;
        }
    }
}

fn value(producer: (i64, i16), sequence: i32, value: &str) -> RecordBatch {
    let mut builder = BatchBuilder::new(BatchOptions::default());
    let at = Timestamp(1_700_000_000_000);
    builder.append(at, None, Some(value.as_bytes()), &[]).unwrap();
    builder.finish(ProducerId(producer.0), ProducerEpoch(producer.1), Sequence(sequence), true)
}

/// 1. A batch is delayed. 2. Its producer gives it up and aborts. 3. It arrives: taken in, it would
/// begin a transaction that nobody will end, and no reader would get past it.
#[tokio::test]
async fn a_batch_that_comes_after_the_end_of_its_transaction_is_refused_and_nothing_hangs() {
    for commit in [false, true] {
        let mut world = World::new().await;
        let producer = open_transaction(&mut world, ID).await;
        world.end(3, producer, commit).await;
        world.until(if commit { "CompleteCommit" } else { "CompleteAbort" }).await;
        for (version, want) in
            [(10, ErrorCode::InvalidTxnState), (11, ErrorCode::TransactionAbortable)]
        {
            let late = value(producer, 1, "late");
            assert_eq!(world.send_batch(version, late).await, want, "version {version}");
        }
        let found = world.fetch(0, 1).await;
        assert_eq!(found.last_stable_offset, found.high_watermark);
        assert!(!records(&found).iter().any(|(_, value)| value == "late"));
    }
}

/// With version 2 each end raises the epoch, and what was sent before it is of the older one.
#[tokio::test]
async fn with_version_2_a_late_batch_is_fenced_by_the_end_of_its_own_transaction() {
    let mut world = World::new().await;
    let first = open_transaction(&mut world, ID).await;
    let second = world.end(5, first, true).await;
    assert_eq!(second, (first.0, first.1 + 1));
    world.until("CompleteCommit").await;
    let late = value(first, 1, "late");
    assert_eq!(world.send_batch(12, late).await, ErrorCode::InvalidProducerEpoch);
    assert_eq!(world.send_batch(12, value(second, 0, "next")).await, ErrorCode::None);
    assert_eq!(world.fetch(0, 1).await.last_stable_offset, 2, "the next one is open");
}

#[tokio::test]
async fn offsets_that_come_after_the_end_of_their_transaction_are_refused_and_nothing_is_pending() {
    let mut world = World::new().await;
    let producer = open_transaction(&mut world, ID).await;
    let names = vec![crate::metadata::OFFSETS_TOPIC.to_owned()];
    world.broker.controller().ensure_topics(names, Duration::from_secs(5)).await.unwrap();
    let add = AddOffsetsToTxnRequest {
        transactional_id: ID.to_owned(),
        producer_id: producer.0,
        producer_epoch: producer.1,
        group_id: "g".to_owned(),
    };
    assert_eq!(world.ask(3, add).await.error_code, 0);
    assert_eq!(world.commit_offset(3, producer).await, ErrorCode::None);
    let pending = world.offset_fetch(true).await;
    assert_eq!(ErrorCode::from_wire(pending.error_code), ErrorCode::UnstableOffsetCommit);
    world.end(3, producer, false).await;
    world.until("CompleteAbort").await;
    for (version, want) in [(3, ErrorCode::InvalidTxnState), (4, ErrorCode::TransactionAbortable)] {
        assert_eq!(world.commit_offset(version, producer).await, want);
    }
    let stable = world.offset_fetch(true).await;
    assert_eq!((stable.error_code, stable.committed_offset), (0, -1));
}

/// A client that gave up its process but not its transaction goes on by id and epoch, as Flink does.
#[tokio::test]
async fn an_open_transaction_outlives_its_broker_and_goes_on_where_it_was() {
    let mut world = World::new().await;
    let producer = open_transaction(&mut world, ID).await;
    world = world.restart().await;
    loop {
        let code = world.send_batch(11, value(producer, 1, "more")).await;
        if code.is_ok() {
            break;
        }
        assert!(code.is_retriable(), "{code}");
        tokio::task::yield_now().await;
    }
    assert!(records(&world.fetch(0, 1).await).is_empty());
    world.end(3, producer, true).await;
    world.until("CompleteCommit").await;
    let found = world.fetch(0, 1).await;
    assert_eq!(records(&found), named(&[(0, "open"), (1, "more")]));
    assert_eq!(found.last_stable_offset, 3);
}

#[tokio::test]
async fn a_transaction_ends_though_one_of_its_topics_is_gone() {
    let mut world = World::new().await;
    let producer = open_transaction(&mut world, ID).await;
    let gone = vec![TopicRef::Name(TOPIC.to_owned())];
    let deleted = world.broker.controller().delete_topics(gone, Duration::from_secs(5)).await;
    assert!(deleted.unwrap()[0].is_ok());
    world.end(3, producer, true).await;
    world.until("CompleteCommit").await;
    // Nothing of it is left in a topic of the same name.
    world.create(TOPIC, &[]).await;
    world.produce(plain(&["new"])).await;
    let found = world.fetch(0, 1).await;
    assert_eq!((found.last_stable_offset, records(&found)), (1, named(&[(0, "new")])));
}

#[tokio::test]
async fn markers_are_delivered_for_readers_to_step_over() {
    let mut world = World::new().await;
    let producer = open_transaction(&mut world, ID).await;
    world.end(3, producer, true).await;
    world.until("CompleteCommit").await;
    for isolation_level in [0, 1] {
        let marker = world.fetch(1, isolation_level).await;
        let batch = RecordBatch::parse(marker.records.unwrap()).unwrap();
        assert!(batch.header().attributes.is_control());
        assert_eq!(batch.header().base_offset, Offset(1));
    }
}

#[tokio::test]
async fn who_goes_on_after_an_error_is_told_the_same_epoch_however_often_it_asks() {
    let mut world = World::new().await;
    let producer = open_transaction(&mut world, ID).await;
    world.end(3, producer, false).await;
    world.until("CompleteAbort").await;
    let again = InitProducerIdRequest {
        transactional_id: Some(ID.to_owned()),
        transaction_timeout_ms: 60_000,
        producer_id: producer.0,
        producer_epoch: producer.1,
        ..Default::default()
    };
    for _ in 0..2 {
        let told = world.ask(4, again.clone()).await;
        assert_eq!((told.error_code, told.producer_id), (0, producer.0));
        assert_eq!(told.producer_epoch, producer.1 + 1);
    }
    let too_long = InitProducerIdRequest { transaction_timeout_ms: i32::MAX, ..again };
    let refused = ErrorCode::from_wire(world.ask(4, too_long).await.error_code);
    assert_eq!(refused, ErrorCode::InvalidTransactionTimeout);
}
