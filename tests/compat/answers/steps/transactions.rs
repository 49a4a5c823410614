//! Transactions: begun, written, ended, fenced, looked at.
//!
//! Shell.

use protocol::api::fetch::FetchRequest;
use protocol::api::group_offsets::OffsetFetchRequest;
use protocol::api::offsets::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
use protocol::api::produce::ProduceRequest;
use protocol::api::producer_id::{InitProducerIdRequest, InitProducerIdResponse};
use protocol::api::transactions::{
    DescribeProducersRequest, DescribeProducersRequestTopic, DescribeTransactionsRequest,
    ListTransactionsRequest,
};
use protocol::api::txn::{
    AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, AddPartitionsToTxnTopic,
    AddPartitionsToTxnTransaction, EndTxnRequest, TxnOffsetCommitRequest,
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic, WritableTxnMarker,
    WritableTxnMarkerTopic, WriteTxnMarkersRequest,
};
use protocol::ids::TopicId;

use super::offsets::fetch as fetch_offsets;
use super::reading::fetch;
use super::records::{Producer, batch, produce, sequenced, transactional};
use super::topics::topic;
use crate::answers::script::{Script, from};

/// A coordinator that has not finished with the last transaction.
const CONCURRENT: i16 = 51;

fn init(id: Option<&str>) -> InitProducerIdRequest {
    InitProducerIdRequest {
        transactional_id: id.map(str::to_owned),
        transaction_timeout_ms: 60_000,
        ..InitProducerIdRequest::default()
    }
}

fn again(id: &str, producer: Producer) -> InitProducerIdRequest {
    InitProducerIdRequest {
        producer_id: producer.id,
        producer_epoch: producer.epoch,
        ..init(Some(id))
    }
}

fn add(
    version: i16,
    id: &str,
    producer: Producer,
    topics: &[(&str, &[i32])],
) -> AddPartitionsToTxnRequest {
    let topics: Vec<_> = topics
        .iter()
        .map(|(name, partitions)| AddPartitionsToTxnTopic {
            name: (*name).to_owned(),
            partitions: partitions.to_vec(),
        })
        .collect();
    if version <= 3 {
        return AddPartitionsToTxnRequest {
            v3_and_below_transactional_id: id.to_owned(),
            v3_and_below_producer_id: producer.id,
            v3_and_below_producer_epoch: producer.epoch,
            v3_and_below_topics: topics,
            ..AddPartitionsToTxnRequest::default()
        };
    }
    AddPartitionsToTxnRequest {
        transactions: vec![AddPartitionsToTxnTransaction {
            transactional_id: id.to_owned(),
            producer_id: producer.id,
            producer_epoch: producer.epoch,
            verify_only: false,
            topics,
        }],
        ..AddPartitionsToTxnRequest::default()
    }
}

fn end(id: &str, producer: Producer, committed: bool) -> EndTxnRequest {
    EndTxnRequest {
        transactional_id: id.to_owned(),
        producer_id: producer.id,
        producer_epoch: producer.epoch,
        committed,
    }
}

fn add_offsets(id: &str, producer: Producer, group: &str) -> AddOffsetsToTxnRequest {
    AddOffsetsToTxnRequest {
        transactional_id: id.to_owned(),
        producer_id: producer.id,
        producer_epoch: producer.epoch,
        group_id: group.to_owned(),
    }
}

fn commit_offsets(
    id: &str,
    producer: Producer,
    group: &str,
    topic: &str,
    partitions: &[i32],
) -> TxnOffsetCommitRequest {
    TxnOffsetCommitRequest {
        transactional_id: id.to_owned(),
        group_id: group.to_owned(),
        producer_id: producer.id,
        producer_epoch: producer.epoch,
        topics: vec![TxnOffsetCommitRequestTopic {
            name: topic.to_owned(),
            partitions: partitions
                .iter()
                .map(|&partition_index| TxnOffsetCommitRequestPartition {
                    partition_index,
                    committed_offset: 4,
                    ..TxnOffsetCommitRequestPartition::default()
                })
                .collect(),
        }],
        ..TxnOffsetCommitRequest::default()
    }
}

fn describe(ids: &[&str]) -> DescribeTransactionsRequest {
    DescribeTransactionsRequest {
        transactional_ids: ids.iter().map(|it| (*it).to_owned()).collect(),
    }
}

fn of(response: &InitProducerIdResponse) -> Producer {
    Producer { id: response.producer_id, epoch: response.producer_epoch }
}

impl Script {
    /// A producer of this transactional id, named by it. Writes nothing down.
    fn init(&mut self, id: &str) -> anyhow::Result<Producer> {
        let response = self.settle(4, init(Some(id)), |it| it.error_code == 0)?;
        self.name_producer(response.producer_id, &format!("producer of {id}"));
        Ok(of(&response))
    }

    /// Waits until a transaction is over in its partitions, too.
    fn await_end(&mut self, id: &str) -> anyhow::Result<()> {
        let over = ["Empty", "CompleteCommit", "CompleteAbort"];
        self.settle(0, describe(&[id]), |it| {
            over.contains(&it.transaction_states[0].transaction_state.as_str())
        })
        .map(drop)
    }
}

pub(in crate::answers) fn initialising(script: &mut Script) -> anyhow::Result<()> {
    for version in from::<InitProducerIdRequest>(0) {
        let id = format!("init-{version}");
        script.begin(0, version, init(Some(&id)))?;
        let heard = script.hear::<InitProducerIdRequest>(0, version)?;
        let mut producer = Producer { id: -1, epoch: -1 };
        if let Some(protocol::api::AnyResponse::InitProducerId(it)) = &heard {
            producer = of(it);
            script.name_producer(producer.id, "initialised producer");
        }
        script.write::<InitProducerIdRequest>("a transactional id", version, heard)?;
        script.ask("a transactional id again", version, init(Some(&id)))?;
        producer.epoch += 1;
        if version >= 3 {
            for (what, producer) in [
                ("its own epoch", producer),
                ("the epoch before", producer),
                ("an epoch long ago", Producer { epoch: 0, ..producer }),
                ("an epoch to come", Producer { epoch: 40, ..producer }),
                ("another producer", Producer { id: 888_888_888, epoch: 0 }),
                ("an epoch, but no producer", Producer { id: -1, epoch: 3 }),
                ("a producer, but no epoch", Producer { id: producer.id, epoch: -1 }),
            ] {
                script.ask(
                    &format!("a transactional id with {what}"),
                    version,
                    again(&id, producer),
                )?;
            }
            script.ask(
                "an unknown transactional id with a producer",
                version,
                again(&format!("unknown-{version}"), Producer { id: 5, epoch: 0 }),
            )?;
            let idempotent = InitProducerIdRequest {
                transactional_id: None,
                ..again("", Producer { id: 5, epoch: 1 })
            };
            script.ask("no transactional id with a producer", version, idempotent)?;
        }
        script.ask("no transactional id", version, init(None))?;
        script.ask("the empty transactional id", version, init(Some("")))?;
        for (what, ms) in [("0", 0), ("below 0", -1), ("too long", 900_001)] {
            let wrong = InitProducerIdRequest { transaction_timeout_ms: ms, ..init(Some(&id)) };
            script.ask(&format!("a timeout that is {what}"), version, wrong)?;
        }
        let ms = InitProducerIdRequest { transaction_timeout_ms: 0, ..init(None) };
        script.ask("no transactional id, no timeout", version, ms)?;
    }
    Ok(())
}

pub(in crate::answers) fn explicit(script: &mut Script) -> anyhow::Result<()> {
    let id = script.make(topic("transactions", 2))?;
    let to = |index| ("transactions", id, index);
    for version in 0..=5 {
        let name = format!("explicit-{version}");
        let producer = script.init(&name)?;
        let version_add = version;
        script.ask("an idle transactional id", 0, describe(&[&name]))?;
        script.ask("the end of nothing", version, end(&name, producer, true))?;
        script.ask("an abort of nothing", version, end(&name, producer, false))?;
        let producer = script.init(&name)?;
        script.ask(
            "partitions",
            version_add,
            add(version_add, &name, producer, &[("transactions", &[0, 1])]),
        )?;
        script.ask(
            "partitions again",
            version_add,
            add(version_add, &name, producer, &[("transactions", &[0, 1])]),
        )?;
        script.ask(
            "partitions that are not there",
            version_add,
            add(version_add, &name, producer, &[("transactions", &[1, 9]), ("absent", &[0])]),
        )?;
        let version_produce = 11.min(version + 3);
        let request = ProduceRequest {
            transactional_id: Some(name.clone()),
            ..produce(version_produce, to(0), transactional(producer, 0, 2))
        };
        script.ask("a transactional batch", version_produce, request)?;
        script.ask("an open transaction", 0, describe(&[&name]))?;
        let version_offsets = version.min(4);
        script.ask("a group", version_offsets, add_offsets(&name, producer, "in-transaction"))?;
        script.ask(
            "offsets",
            version_offsets,
            commit_offsets(&name, producer, "in-transaction", "transactions", &[0, 9]),
        )?;
        script.ask(
            "offsets in a topic that is not there",
            version_offsets,
            commit_offsets(&name, producer, "in-transaction", "absent", &[0]),
        )?;
        script.ask(
            "offsets that wait for a transaction",
            7,
            OffsetFetchRequest {
                require_stable: true,
                ..fetch_offsets(7, "in-transaction", Some(&[("transactions", id, &[0])]))
            },
        )?;
        script.every(
            &format!("committed records while a transaction is open, {version}"),
            |version| FetchRequest { isolation_level: 1, ..fetch(version, to(0), 0) },
        )?;
        script.ask(
            "the end of an open transaction",
            version,
            end(&name, producer, version % 2 == 0),
        )?;
        script.await_end(&name)?;
        script.ask("the end again", version, end(&name, producer, version % 2 == 0))?;
        script.ask("the other end", version, end(&name, producer, version % 2 == 1))?;
        script.ask("a transaction that is over", 0, describe(&[&name]))?;
        script.every(&format!("committed records, {version}"), |version| FetchRequest {
            isolation_level: 1,
            ..fetch(version, to(0), 0)
        })?;
        script.every(&format!("all records, {version}"), |version| fetch(version, to(0), 0))?;
        script.ask(
            "offsets after a transaction",
            7,
            OffsetFetchRequest {
                require_stable: true,
                ..fetch_offsets(7, "in-transaction", Some(&[("transactions", id, &[0])]))
            },
        )?;
    }
    errors(script, id)
}

fn errors(script: &mut Script, id: TopicId) -> anyhow::Result<()> {
    let to = ("transactions", id, 1);
    let own = script.init("errors")?;
    let newer = script.init("errors")?;
    let unknown = Producer { id: 777_777_777, epoch: 0 };
    script.name_producer(777_777_777, "unknown producer");
    let ahead = Producer { epoch: newer.epoch + 5, ..newer };
    for (what, name, producer) in [
        ("a fenced producer", "errors", own),
        ("a producer of the future", "errors", ahead),
        ("an unknown producer", "errors", unknown),
        ("an unknown transactional id", "who", newer),
        ("the empty transactional id", "", newer),
    ] {
        script.every(what, |version| add(version, name, producer, &[("transactions", &[0])]))?;
        script.every(what, |_| add_offsets(name, producer, "g"))?;
        script.every(what, |_| end(name, producer, true))?;
        script.every(what, |_| commit_offsets(name, producer, "g", "transactions", &[0]))?;
        script.every(what, |version| ProduceRequest {
            transactional_id: Some(name.to_owned()),
            ..produce(version, to, transactional(producer, 0, 1))
        })?;
    }
    script.every("no partitions", |version| add(version, "errors", newer, &[]))?;
    // Kafka never answers a request of version 4 or 5 that names no transactions.
    script.some("only verified", 4..=5, |version| {
        let mut request = add(version, "errors", newer, &[("transactions", &[0, 9])]);
        request.transactions[0].verify_only = true;
        request
    })?;
    script.every("the empty group", |_| add_offsets("errors", newer, ""))?;
    script
        .every("not added", |version| ProduceRequest {
            transactional_id: Some("errors".to_owned()),
            ..produce(version.min(11), to, transactional(newer, 0, 1))
        })
        .ok();
    script.every("a batch outside of a transaction, with its name", |version| ProduceRequest {
        transactional_id: Some("errors".to_owned()),
        ..produce(version, to, batch(1))
    })?;
    script.every("a batch of a transaction, without its name", |version| {
        produce(version, to, transactional(newer, 0, 1))
    })?;
    script.every("a member that is not there", |version| {
        let mut request = commit_offsets("errors", newer, "no-such-group", "transactions", &[0]);
        if version >= 3 {
            request.member_id = "who".to_owned();
            request.generation_id = 3;
        }
        request
    })?;
    script.quiet(3, end("errors", newer, false))?;
    script.await_end("errors")
}

/// Transactions whose partitions join by being written to.
pub(in crate::answers) fn implicit(script: &mut Script) -> anyhow::Result<()> {
    let id = script.make(topic("implicit", 2))?;
    let to = |index| ("implicit", id, index);
    let mut producer = script.init("implicit")?;
    for version in 12..=13 {
        for committed in [true, false] {
            let send = |producer, sequence, index| ProduceRequest {
                transactional_id: Some("implicit".to_owned()),
                ..produce(version, to(index), transactional(producer, sequence, 1))
            };
            script.until("the first batch", version, send(producer, 0, 0), |it| {
                it.responses[0].partition_responses[0].error_code != CONCURRENT
            })?;
            script.ask("the next batch", version, send(producer, 1, 0))?;
            script.ask("another partition", version, send(producer, 0, 1))?;
            script.ask("an open transaction", 0, describe(&["implicit"]))?;
            script.ask(
                "offsets, unasked",
                5,
                commit_offsets("implicit", producer, "implicit-group", "implicit", &[0, 1]),
            )?;
            script.ask("producers", 0, producers("implicit"))?;
            script.ask(
                "ongoing transactions",
                0,
                ListTransactionsRequest {
                    state_filters: vec!["Ongoing".to_owned()],
                    ..ListTransactionsRequest::default()
                },
            )?;
            let ended = script.ask("the end", 5, end("implicit", producer, committed))?;
            script.name_producer(ended.producer_id, "producer of implicit");
            script.await_end("implicit")?;
            script.ask("the end again", 5, end("implicit", producer, committed))?;
            script.ask("the other end", 5, end("implicit", producer, !committed))?;
            script.ask("a batch of the last epoch", version, send(producer, 2, 0))?;
            producer = Producer { id: ended.producer_id, epoch: ended.producer_epoch };
            script.ask("producers of a transaction that is over", 0, producers("implicit"))?;
            script.ask("a transaction that is over", 0, describe(&["implicit"]))?;
        }
        script.ask("the end of nothing", 5, end("implicit", producer, true))?;
        let ended = script.ask("an abort of nothing", 5, end("implicit", producer, false))?;
        script.await_end("implicit")?;
        if ended.error_code == 0 {
            producer = Producer { id: ended.producer_id, epoch: ended.producer_epoch };
        }
    }
    script.every("what is committed", |version| FetchRequest {
        isolation_level: 1,
        ..fetch(version, to(0), 0)
    })?;
    script.every("all there is", |version| fetch(version, to(0), 0))?;
    fenced(script, id)
}

fn producers(name: &str) -> DescribeProducersRequest {
    DescribeProducersRequest {
        topics: vec![DescribeProducersRequestTopic {
            name: name.to_owned(),
            partition_indexes: vec![0, 1],
        }],
    }
}

/// A transaction is open while its producer is replaced.
fn fenced(script: &mut Script, id: TopicId) -> anyhow::Result<()> {
    let to = ("implicit", id, 0);
    let old = script.init("fenced")?;
    let send = |producer, sequence| ProduceRequest {
        transactional_id: Some("fenced".to_owned()),
        ..produce(12, to, transactional(producer, sequence, 1))
    };
    script.ask("a batch before the fence", 12, send(old, 0))?;
    script.ask("a producer initialises while a transaction is open", 5, init(Some("fenced")))?;
    let new =
        script.until("a producer initialises after the abort", 5, init(Some("fenced")), |it| {
            it.error_code != CONCURRENT
        })?;
    let new = of(&new);
    script.ask("a batch of who was fenced", 12, send(old, 1))?;
    script.ask("the end by who was fenced", 5, end("fenced", old, true))?;
    script.ask("who was fenced initialises", 5, again("fenced", old))?;
    script.ask("a batch after the fence", 12, send(new, 0))?;
    let other = sequenced(new, 1, 1);
    script.ask("no transaction while one is open", 12, produce(12, to, other))?;
    for isolation_level in [0, 1] {
        for timestamp in [-1, -3, 0] {
            script.ask(&format!("the offset at {timestamp} below an open transaction, isolation {isolation_level}"), 10, ListOffsetsRequest {
                replica_id: -1,
                isolation_level,
                topics: vec![ListOffsetsTopic { name: "implicit".to_owned(), partitions: vec![ListOffsetsPartition { partition_index: 0, timestamp, ..ListOffsetsPartition::default() }] }],
                ..ListOffsetsRequest::default()
            })?;
        }
    }
    markers(script, new)?;
    script.ask("the end after the fence", 5, end("fenced", new, true))?;
    script.await_end("fenced")?;
    looking(script)
}

fn markers(script: &mut Script, open: Producer) -> anyhow::Result<()> {
    let mark = |producer: Producer, topic: &str, partitions: &[i32]| WriteTxnMarkersRequest {
        markers: vec![WritableTxnMarker {
            producer_id: producer.id,
            producer_epoch: producer.epoch,
            transaction_result: true,
            topics: vec![WritableTxnMarkerTopic {
                name: topic.to_owned(),
                partition_indexes: partitions.to_vec(),
            }],
            coordinator_epoch: 0,
            transaction_version: 0,
        }],
    };
    script.name_producer(666_666_666, "unknown producer");
    let unknown = Producer { id: 666_666_666, epoch: 0 };
    script.every("markers of an unknown producer", |_| mark(unknown, "implicit", &[1]))?;
    script.every("markers for what is not there", |_| mark(unknown, "implicit", &[9]))?;
    script.every("markers for a topic that is not there", |_| mark(unknown, "absent", &[0]))?;
    script.every("markers of an epoch that was", |_| {
        mark(Producer { epoch: 0, ..open }, "implicit", &[0])
    })?;
    script.every("no markers", |_| WriteTxnMarkersRequest::default())
}

fn looking(script: &mut Script) -> anyhow::Result<()> {
    script.ask(
        "transactional ids of all kinds",
        0,
        describe(&["explicit-0", "absent", "", "explicit-1", "explicit-0"]),
    )?;
    script.ask("no transactional ids", 0, describe(&[]))?;
    let all = ListTransactionsRequest::default();
    script.every("all transactions", |_| all.clone())?;
    for states in [
        &["CompleteCommit"][..],
        &["Empty"],
        &["Asleep"],
        &["Ongoing", "Asleep", "empty"],
        &["Dead"],
        &["PrepareEpochFence"],
    ] {
        script.every(&format!("transactions in {}", states.join(" or ")), |_| {
            ListTransactionsRequest {
                state_filters: states.iter().map(|it| (*it).to_owned()).collect(),
                ..all.clone()
            }
        })?;
    }
    script.every("transactions of an unknown producer", |_| ListTransactionsRequest {
        producer_id_filters: vec![123_456_789],
        ..all.clone()
    })?;
    for ms in [-2, 0, 1, 3_600_000] {
        script.some(&format!("transactions for {ms} ms"), 1..=2, |_| ListTransactionsRequest {
            duration_filter: ms,
            ..all.clone()
        })?;
    }
    for pattern in ["", "explicit-.*", "xplicit", "explicit-0", "("] {
        script.ask(
            &format!("transactions called {pattern:?}"),
            2,
            ListTransactionsRequest {
                transactional_id_pattern: Some(pattern.to_owned()),
                ..all.clone()
            },
        )?;
    }
    Ok(())
}
