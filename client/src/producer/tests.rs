//! The producer's shell against a scripted broker: ordering, retries, transactions.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use protocol::api::find_coordinator::{Coordinator, FindCoordinatorResponse};
use protocol::api::metadata::{
    MetadataResponse, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use protocol::api::produce::{PartitionProduceResponse, ProduceResponse, TopicProduceResponse};
use protocol::api::producer_id::InitProducerIdResponse;
use protocol::api::txn::{
    AddOffsetsToTxnResponse, AddPartitionsToTxnPartitionResult, AddPartitionsToTxnResponse,
    AddPartitionsToTxnTopicResult, EndTxnResponse, TxnOffsetCommitResponse,
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use protocol::api::{AnyRequest, AnyResponse};
use protocol::error_code::ErrorCode;
use protocol::record::RecordBatch;
use protocol::time::{Clock, Now};

use super::*;
use crate::net::Endpoint;
use crate::net::memory::MemoryNetwork;
use crate::testing::{FakeBroker, Reply, all_versions};
use crate::time::virtual_clock;

/// What the broker answers instead of success, in order, for each kind of request.
#[derive(Clone, Default)]
struct Faults {
    produce: Arc<Mutex<Vec<Fault>>>,
    end: Arc<Mutex<Vec<Fault>>>,
    offsets: Arc<Mutex<Vec<Fault>>>,
}

#[derive(Clone, Copy, Debug)]
enum Fault {
    Code(ErrorCode),
    HangUp,
}

fn next(faults: &Mutex<Vec<Fault>>) -> Option<Fault> {
    let mut faults = faults.lock().unwrap();
    if faults.is_empty() { None } else { Some(faults.remove(0)) }
}

/// `Err`: the broker hangs up.
fn code(fault: Option<Fault>) -> Result<i16, ()> {
    match fault {
        None => Ok(0),
        Some(Fault::Code(code)) => Ok(code.to_wire()),
        Some(Fault::HangUp) => Err(()),
    }
}

fn metadata() -> MetadataResponse {
    let partition = |partition_index| MetadataResponsePartition {
        partition_index,
        leader_id: 1,
        ..MetadataResponsePartition::default()
    };
    MetadataResponse {
        brokers: vec![MetadataResponseBroker {
            node_id: 1,
            host: "one".to_owned(),
            port: 9092,
            ..MetadataResponseBroker::default()
        }],
        topics: vec![MetadataResponseTopic {
            name: Some("orders".to_owned()),
            partitions: (0..3).map(partition).collect(),
            ..MetadataResponseTopic::default()
        }],
        ..MetadataResponse::default()
    }
}

/// One broker that is everything: leader of `orders`, and coordinator.
fn broker(network: &MemoryNetwork, features: &[(&str, i16)], faults: &Faults) -> FakeBroker {
    let (faults, mut epoch, mut offset) = (faults.clone(), -1, 0);
    FakeBroker::start(network, "one", all_versions(features), move |version, request| {
        let answered = match request {
            AnyRequest::Metadata(_) => Ok(metadata().into()),
            AnyRequest::FindCoordinator(_) => Ok(coordinator().into()),
            AnyRequest::InitProducerId(_) => {
                epoch += 1;
                Ok(InitProducerIdResponse {
                    producer_id: 7,
                    producer_epoch: epoch,
                    ..InitProducerIdResponse::default()
                }
                .into())
            }
            AnyRequest::Produce(it) => code(next(&faults.produce)).map(|error_code| {
                let topic = |it: protocol::api::produce::TopicProduceData| TopicProduceResponse {
                    name: it.name,
                    partition_responses: it
                        .partition_data
                        .into_iter()
                        .map(|it| {
                            let bytes = it.records.unwrap();
                            let count = RecordBatch::parse(bytes).unwrap().header().record_count;
                            offset += i64::from(count);
                            PartitionProduceResponse {
                                index: it.index,
                                error_code,
                                base_offset: offset - i64::from(count),
                                ..PartitionProduceResponse::default()
                            }
                        })
                        .collect(),
                    ..TopicProduceResponse::default()
                };
                let responses = it.topic_data.into_iter().map(topic).collect();
                ProduceResponse { responses, ..ProduceResponse::default() }.into()
            }),
            AnyRequest::AddPartitionsToTxn(it) => Ok(added(&it.v3_and_below_topics).into()),
            AnyRequest::AddOffsetsToTxn(_) => Ok(AddOffsetsToTxnResponse::default().into()),
            AnyRequest::TxnOffsetCommit(it) => code(next(&faults.offsets)).map(|error_code| {
                let name = it.topics[0].name.clone();
                let partition = TxnOffsetCommitResponsePartition { partition_index: 0, error_code };
                let topic = TxnOffsetCommitResponseTopic { name, partitions: vec![partition] };
                TxnOffsetCommitResponse { topics: vec![topic], throttle_time_ms: 0 }.into()
            }),
            AnyRequest::EndTxn(_) => code(next(&faults.end)).map(|error_code| {
                let is_bumped = version >= 5 && error_code == 0;
                epoch += i16::from(is_bumped);
                EndTxnResponse {
                    error_code,
                    producer_id: if is_bumped { 7 } else { -1 },
                    producer_epoch: if is_bumped { epoch } else { -1 },
                    ..EndTxnResponse::default()
                }
                .into()
            }),
            other => panic!("{other:?}"),
        };
        answered.map_or(Reply::HangUp, |it: AnyResponse| it.into())
    })
}

fn coordinator() -> FindCoordinatorResponse {
    let coordinator =
        Coordinator { node_id: 1, host: "one".to_owned(), port: 9092, ..Coordinator::default() };
    FindCoordinatorResponse {
        coordinators: vec![coordinator],
        ..FindCoordinatorResponse::default()
    }
}

fn added(topics: &[protocol::api::txn::AddPartitionsToTxnTopic]) -> AddPartitionsToTxnResponse {
    let topic = |it: &protocol::api::txn::AddPartitionsToTxnTopic| AddPartitionsToTxnTopicResult {
        name: it.name.clone(),
        results_by_partition: it
            .partitions
            .iter()
            .map(|&partition_index| AddPartitionsToTxnPartitionResult {
                partition_index,
                partition_error_code: 0,
            })
            .collect(),
    };
    AddPartitionsToTxnResponse {
        results_by_topic_v3_and_below: topics.iter().map(topic).collect(),
        ..AddPartitionsToTxnResponse::default()
    }
}

async fn connect(network: &MemoryNetwork, pairs: &[(&str, &str)]) -> Producer {
    connect_at(network, virtual_clock(Timestamp(1_000_000)), pairs).await
}

async fn connect_at(network: &MemoryNetwork, clock: Clock, pairs: &[(&str, &str)]) -> Producer {
    let endpoints = [Endpoint::new("one", 9092)];
    let bootstrap = Bootstrap::new(endpoints, Arc::new(network.clone()), clock, 1);
    let config = ProducerConfig::parse(pairs.iter().copied()).unwrap();
    Producer::connect(bootstrap, config).await.unwrap()
}

async fn transactional(network: &MemoryNetwork) -> Producer {
    let mut producer = connect(network, &[("transactional.id", "mover")]).await;
    producer.init_transactions().await.unwrap();
    producer
}

async fn append(producer: &mut Producer, partition: i32, value: &[u8]) {
    let at = Timestamp(1);
    while let Err(error) = producer.append("orders", Some(partition), at, None, Some(value), &[]) {
        assert!(error.is_retriable(), "{error}");
        producer.ready().await.unwrap();
    }
}

/// What the broker saw, one letter or so each; epochs and sequences of batches.
fn trace(broker: &FakeBroker) -> String {
    let word = |(version, request): (i16, AnyRequest)| match request {
        AnyRequest::Metadata(_) | AnyRequest::FindCoordinator(_) => None,
        AnyRequest::InitProducerId(it) => Some(format!("init({})", it.producer_epoch)),
        AnyRequest::Produce(it) => {
            let data = it.topic_data.into_iter().flat_map(|it| it.partition_data);
            let batches: Vec<_> = data
                .map(|it| {
                    let batch = RecordBatch::parse(it.records.unwrap()).unwrap();
                    let header = *batch.header();
                    let (epoch, sequence) = (header.producer_epoch, header.base_sequence);
                    let open = if header.attributes.is_transactional() { "t" } else { "" };
                    format!("{}:{open}{epoch}/{sequence}", it.index)
                })
                .collect();
            Some(format!("produce v{version}({})", batches.join(" ")))
        }
        AnyRequest::EndTxn(it) => {
            let verb = if it.committed { "commit" } else { "abort" };
            Some(format!("{verb} v{version}({})", it.producer_epoch))
        }
        AnyRequest::TxnOffsetCommit(it) => {
            Some(format!("offsets v{version}({} {})", it.group_id, it.generation_id))
        }
        other => Some(format!("{} v{version}", other.api_key())),
    };
    broker.take_log().into_iter().filter_map(word).collect::<Vec<_>>().join("; ")
}

const VERSION_2: &[(&str, i16)] = &[("transaction.version", 2)];

#[tokio::test(start_paused = true)]
async fn a_record_that_is_sent_alone_is_told_its_offset() {
    let network = MemoryNetwork::new();
    let _broker = broker(&network, &[], &Faults::default());
    let mut producer = connect(&network, &[]).await;
    for want in 0..3 {
        let record = ProducerRecord::new("orders", "value").key("key");
        let told = producer.send(record).await.unwrap();
        assert_eq!(told.offset, Offset(want));
    }
}

#[tokio::test(start_paused = true)]
async fn records_linger_together_and_are_acknowledged_by_flush() {
    let network = MemoryNetwork::new();
    let broker = broker(&network, &[], &Faults::default());
    let mut producer =
        connect(&network, &[("linger.ms", "60000"), ("delivery.timeout.ms", "120000")]).await;
    for partition in [0, 1, 0, 1, 0] {
        append(&mut producer, partition, b"value").await;
    }
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(!trace(&broker).contains("produce"));
    producer.flush().await.unwrap();
    assert_eq!(trace(&broker), "produce v12(0:0/0 1:0/0)");
    let acks = producer.poll_acks();
    assert_eq!(acks.iter().map(|it| it.record_count).collect::<Vec<_>>(), [3, 2]);
    assert_eq!(producer.buffered_bytes(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_batch_whose_answer_is_lost_is_sent_again_under_the_same_number() {
    let network = MemoryNetwork::new();
    let faults = Faults::default();
    let broker = broker(&network, &[], &faults);
    let mut producer = connect(&network, &[]).await;
    *faults.produce.lock().unwrap() =
        vec![Fault::HangUp, Fault::Code(ErrorCode::NotLeaderOrFollower)];
    append(&mut producer, 0, b"value").await;
    producer.flush().await.unwrap();
    let want = "init(-1); produce v12(0:0/0); produce v12(0:0/0); produce v12(0:0/0)";
    assert_eq!(trace(&broker), want);
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_is_due_again_while_others_are_planned_does_not_wait_longer() {
    let network = MemoryNetwork::new();
    let faults = Faults::default();
    let broker = broker(&network, &[], &faults);
    // Between one look at it and the next much happens.
    let (steps, follows) = (AtomicU32::new(0), virtual_clock(Timestamp(1_000_000)));
    let clock = Clock::new(move || {
        let passed = Duration::from_millis(60) * steps.fetch_add(1, Ordering::Relaxed);
        let Now { monotonic, wall } = follows.now();
        Now { monotonic: monotonic + passed, wall: wall.plus(passed) }
    });
    let mut producer = connect_at(&network, clock, &[]).await;
    *faults.produce.lock().unwrap() = vec![Fault::Code(ErrorCode::NotEnoughReplicas); 10];
    append(&mut producer, 0, b"value").await;
    producer.flush().await.unwrap();
    assert_eq!(trace(&broker).matches("produce").count(), 11);
}

#[tokio::test(start_paused = true)]
async fn a_refused_batch_is_reported_with_its_partition_and_the_next_goes_under_a_new_epoch() {
    let network = MemoryNetwork::new();
    let faults = Faults::default();
    let broker = broker(&network, &[], &faults);
    let mut producer = connect(&network, &[]).await;
    *faults.produce.lock().unwrap() = vec![Fault::Code(ErrorCode::MessageTooLarge)];
    append(&mut producer, 2, b"value").await;
    let error = producer.flush().await.unwrap_err();
    assert!(error.to_string().starts_with("partition orders-2: "), "{error}");
    append(&mut producer, 2, b"value").await;
    producer.flush().await.unwrap();
    assert_eq!(trace(&broker), "init(-1); produce v12(2:0/0); produce v12(2:1/0)");
}

#[tokio::test(start_paused = true)]
async fn transactions_of_the_second_version_add_nothing_and_change_epoch_at_each_end() {
    let network = MemoryNetwork::new();
    let broker = broker(&network, VERSION_2, &Faults::default());
    let mut producer = transactional(&network).await;
    for _ in 0..2 {
        producer.begin().unwrap();
        append(&mut producer, 0, b"value").await;
        let offsets = [(TopicPartition::new("in", 0), Offset(5).into())].into();
        producer.send_offsets(offsets, &GroupMetadata::simple("group")).await.unwrap();
        assert_eq!(producer.commit().await, Ok(CommitOutcome::Committed));
    }
    expect_test::expect!["init(-1); offsets v5(group -1); produce v12(0:t0/0); commit v5(0); offsets v5(group -1); produce v12(0:t1/0); commit v5(1)"].assert_eq(&trace(&broker));
}

#[tokio::test(start_paused = true)]
async fn transactions_of_the_first_version_add_partitions_and_group_and_number_on() {
    let network = MemoryNetwork::new();
    let broker = broker(&network, &[], &Faults::default());
    let mut producer = transactional(&network).await;
    for _ in 0..2 {
        producer.begin().unwrap();
        append(&mut producer, 0, b"value").await;
        let offsets = [(TopicPartition::new("in", 0), Offset(5).into())].into();
        producer.send_offsets(offsets, &GroupMetadata::simple("group")).await.unwrap();
        assert_eq!(producer.commit().await, Ok(CommitOutcome::Committed));
    }
    expect_test::expect!["init(-1); AddOffsetsToTxn v4; offsets v4(group -1); AddPartitionsToTxn v3; produce v11(0:t0/0); commit v4(0); AddOffsetsToTxn v4; offsets v4(group -1); AddPartitionsToTxn v3; produce v11(0:t0/1); commit v4(0)"].assert_eq(&trace(&broker));
}

#[tokio::test(start_paused = true)]
async fn a_transaction_in_which_nothing_happened_is_committed_without_asking() {
    let network = MemoryNetwork::new();
    let broker = broker(&network, VERSION_2, &Faults::default());
    let mut producer = transactional(&network).await;
    producer.begin().unwrap();
    assert_eq!(producer.commit().await, Ok(CommitOutcome::Committed));
    producer.begin().unwrap();
    producer.abort().await.unwrap();
    assert_eq!(trace(&broker), "init(-1)");
}

#[tokio::test(start_paused = true)]
async fn a_commit_whose_records_were_refused_aborts_and_the_producer_lives_on() {
    for features in [VERSION_2, &[]] {
        let network = MemoryNetwork::new();
        let faults = Faults::default();
        let broker = broker(&network, features, &faults);
        let mut producer = transactional(&network).await;
        *faults.produce.lock().unwrap() = vec![Fault::Code(ErrorCode::MessageTooLarge)];
        producer.begin().unwrap();
        append(&mut producer, 0, b"value").await;
        let outcome = producer.commit().await.unwrap();
        assert!(matches!(outcome, CommitOutcome::Aborted(Failure::Produce(_))), "{outcome:?}");
        producer.begin().unwrap();
        append(&mut producer, 0, b"value").await;
        assert_eq!(producer.commit().await, Ok(CommitOutcome::Committed));
        let seen = trace(&broker);
        let new_epoch = seen.rfind("produce").unwrap();
        assert!(seen[new_epoch..].contains("(0:t1/0)"), "{seen}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_member_that_was_replaced_cannot_commit_what_it_consumed() {
    let network = MemoryNetwork::new();
    let faults = Faults::default();
    let broker = broker(&network, VERSION_2, &faults);
    let mut producer = transactional(&network).await;
    *faults.offsets.lock().unwrap() = vec![Fault::Code(ErrorCode::IllegalGeneration)];
    producer.begin().unwrap();
    append(&mut producer, 0, b"value").await;
    let offsets = [(TopicPartition::new("in", 0), Offset(5).into())].into();
    let refused = producer.send_offsets(offsets, &GroupMetadata::simple("group")).await;
    let Err(TransactionError::MustAbort(failure)) = refused else { panic!("{refused:?}") };
    assert!(matches!(failure, Failure::GroupFenced { .. }));
    assert_eq!(producer.commit().await, Ok(CommitOutcome::Aborted(failure)));
    assert!(trace(&broker).ends_with("abort v5(0)"));
}

#[tokio::test(start_paused = true)]
async fn a_commit_whose_answer_is_lost_is_asked_again_and_counts() {
    let network = MemoryNetwork::new();
    let faults = Faults::default();
    let _broker = broker(&network, VERSION_2, &faults);
    let mut producer = transactional(&network).await;
    *faults.end.lock().unwrap() =
        vec![Fault::HangUp, Fault::Code(ErrorCode::ConcurrentTransactions)];
    producer.begin().unwrap();
    append(&mut producer, 0, b"value").await;
    assert_eq!(producer.commit().await, Ok(CommitOutcome::Committed));
}

#[tokio::test(start_paused = true)]
async fn fenced_at_once_it_is_aborted_but_after_a_lost_answer_nobody_knows() {
    for (faults_of_end, is_known) in [
        (vec![Fault::Code(ErrorCode::ProducerFenced)], true),
        (vec![Fault::HangUp, Fault::Code(ErrorCode::ProducerFenced)], false),
    ] {
        let network = MemoryNetwork::new();
        let faults = Faults::default();
        let _broker = broker(&network, VERSION_2, &faults);
        let mut producer = transactional(&network).await;
        *faults.end.lock().unwrap() = faults_of_end;
        producer.begin().unwrap();
        append(&mut producer, 0, b"value").await;
        let outcome = producer.commit().await.unwrap();
        if is_known {
            assert!(matches!(outcome, CommitOutcome::Aborted(Failure::Fenced { .. })));
            assert!(matches!(producer.begin(), Err(TransactionError::Fatal(_))));
        } else {
            assert_eq!(outcome, CommitOutcome::Unknown);
            assert!(producer.begin().is_err());
            producer.init_transactions().await.unwrap();
            producer.begin().unwrap();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_is_never_answered_is_unknown_in_bounded_time() {
    let network = MemoryNetwork::new();
    let faults = Faults::default();
    let _broker = broker(&network, VERSION_2, &faults);
    let mut producer = transactional(&network).await;
    *faults.end.lock().unwrap() = vec![Fault::HangUp; 10_000];
    producer.begin().unwrap();
    append(&mut producer, 0, b"value").await;
    let before = producer.now().monotonic;
    assert_eq!(producer.commit().await, Ok(CommitOutcome::Unknown));
    assert!(producer.now().monotonic - before <= Duration::from_secs(61));
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_nobody_awaits_any_more_still_comes_to_its_end() {
    let network = MemoryNetwork::new();
    let broker = broker(&network, VERSION_2, &Faults::default());
    let mut producer = transactional(&network).await;
    producer.begin().unwrap();
    append(&mut producer, 0, b"value").await;
    {
        let commit = producer.commit();
        tokio::pin!(commit);
        assert!(futures::poll!(commit.as_mut()).is_pending());
    }
    while producer.begin().is_err() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(trace(&broker).ends_with("commit v5(0)"));
}

#[tokio::test(start_paused = true)]
async fn an_aborted_transaction_drops_what_was_not_sent() {
    let network = MemoryNetwork::new();
    let broker = broker(&network, VERSION_2, &Faults::default());
    let mut producer = transactional(&network).await;
    producer.begin().unwrap();
    append(&mut producer, 0, b"value").await;
    producer.abort().await.unwrap();
    assert_eq!(producer.buffered_bytes(), 0);
    assert_eq!(trace(&broker), "init(-1)", "nobody knew of it");
}

#[tokio::test(start_paused = true)]
async fn batches_follow_their_partition_to_its_new_leader() {
    let network = MemoryNetwork::new();
    let leader = Arc::new(Mutex::new(1));
    let serve = |own: i32, leader: &Arc<Mutex<i32>>| {
        let leader = Arc::clone(leader);
        move |_: i16, request: AnyRequest| -> Reply {
            let leader = *leader.lock().unwrap();
            match request {
                AnyRequest::Metadata(_) => {
                    let mut answer = metadata();
                    answer.brokers.push(MetadataResponseBroker {
                        node_id: 2,
                        host: "two".to_owned(),
                        port: 9092,
                        ..MetadataResponseBroker::default()
                    });
                    for partition in &mut answer.topics[0].partitions {
                        (partition.leader_id, partition.leader_epoch) = (leader, leader);
                    }
                    answer.into()
                }
                AnyRequest::InitProducerId(_) => {
                    InitProducerIdResponse { producer_id: 7, ..InitProducerIdResponse::default() }
                        .into()
                }
                AnyRequest::Produce(it) => {
                    let refused = ErrorCode::NotLeaderOrFollower.to_wire();
                    let error_code = if own == leader { 0 } else { refused };
                    let topic = it.topic_data.into_iter().next().unwrap();
                    let answer = PartitionProduceResponse {
                        index: topic.partition_data[0].index,
                        error_code,
                        ..PartitionProduceResponse::default()
                    };
                    let topic = TopicProduceResponse {
                        name: topic.name,
                        partition_responses: vec![answer],
                        ..TopicProduceResponse::default()
                    };
                    ProduceResponse { responses: vec![topic], ..ProduceResponse::default() }.into()
                }
                other => panic!("{other:?}"),
            }
        }
    };
    let one = FakeBroker::start(&network, "one", all_versions(&[]), serve(1, &leader));
    let two = FakeBroker::start(&network, "two", all_versions(&[]), serve(2, &leader));
    let mut producer = connect(&network, &[]).await;
    append(&mut producer, 0, b"value").await;
    producer.flush().await.unwrap();
    *leader.lock().unwrap() = 2;
    append(&mut producer, 0, b"value").await;
    producer.flush().await.unwrap();
    let produced = |broker| {
        let seen = trace(broker);
        seen.split("; ").filter(|it| it.starts_with("produce")).collect::<Vec<_>>().join("; ")
    };
    assert_eq!(produced(&one), "produce v12(0:0/0); produce v12(0:0/1)");
    assert_eq!(produced(&two), "produce v12(0:0/1)");
}

#[tokio::test(start_paused = true)]
async fn a_doomed_transaction_lets_nobody_wait_and_its_flush_says_so() {
    let network = MemoryNetwork::new();
    let faults = Faults::default();
    let _broker = broker(&network, VERSION_2, &faults);
    let mut producer = transactional(&network).await;
    *faults.produce.lock().unwrap() = vec![Fault::Code(ErrorCode::InvalidProducerEpoch)];
    producer.begin().unwrap();
    for count in 0..2_000 {
        append(&mut producer, count % 3, &[0; 1_000]).await;
        if producer.shared.lock().core.transaction.as_ref().unwrap().failure().is_some() {
            break;
        }
    }
    let before = producer.now().monotonic;
    assert!(producer.flush().await.is_err());
    assert!(producer.flush().await.is_err(), "until it is aborted");
    assert!(producer.now().monotonic - before < Duration::from_secs(1));
    assert_eq!(producer.buffered_bytes(), 0);
    producer.abort().await.unwrap();
    producer.begin().unwrap();
    assert_eq!(producer.flush().await, Ok(()));
}
