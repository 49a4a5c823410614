//! Records: produced, in every way that may be refused.
//!
//! Shell.

use bytes::Bytes;
use protocol::api::metadata::MetadataRequest;
use protocol::api::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use protocol::api::producer_id::InitProducerIdRequest;
use protocol::ids::{ProducerEpoch, ProducerId, Sequence, TopicId};
use protocol::record::{BatchBuilder, BatchOptions, Codec};
use protocol::time::Timestamp;

use super::topics::{topic, with};
use crate::answers::script::{Script, from};

/// When the first record was made: the same for both brokers.
pub(in crate::answers) const MADE_AT: i64 = 1_000_000_000_000;

/// What a batch is to say of its producer.
#[derive(Clone, Copy)]
pub(in crate::answers) struct Producer {
    pub(in crate::answers) id: i64,
    pub(in crate::answers) epoch: i16,
}

/// Nobody.
pub(in crate::answers) const NOBODY: Producer = Producer { id: -1, epoch: -1 };

/// A batch of `count` records, a second apart.
pub(in crate::answers) fn batch(count: i32) -> Bytes {
    compressed(Codec::None, count)
}

pub(in crate::answers) fn compressed(codec: Codec, count: i32) -> Bytes {
    filled(codec, count, NOBODY, -1, false, Some(b"key"))
}

pub(in crate::answers) fn sequenced(producer: Producer, sequence: i32, count: i32) -> Bytes {
    filled(Codec::None, count, producer, sequence, false, Some(b"key"))
}

pub(in crate::answers) fn transactional(producer: Producer, sequence: i32, count: i32) -> Bytes {
    filled(Codec::None, count, producer, sequence, true, Some(b"key"))
}

fn filled(
    codec: Codec,
    count: i32,
    producer: Producer,
    sequence: i32,
    is_transactional: bool,
    key: Option<&[u8]>,
) -> Bytes {
    let mut builder = BatchBuilder::new(BatchOptions { codec, ..BatchOptions::default() });
    for n in 0..count {
        let at = Timestamp(MADE_AT + i64::from(n) * 1000);
        let value = format!("value {n}");
        let headers: &[(&str, Option<&[u8]>)] = &[("n", Some(b"1")), ("null", None)];
        builder.append(at, key, Some(value.as_bytes()), headers).expect("small");
    }
    let (id, epoch) = (ProducerId(producer.id), ProducerEpoch(producer.epoch));
    builder.finish(id, epoch, Sequence(sequence), is_transactional).into_bytes()
}

/// One record of a size and a time.
pub(in crate::answers) fn record(bytes: usize, at: i64) -> Bytes {
    let mut builder = BatchBuilder::new(BatchOptions::default());
    builder.append(Timestamp(at), Some(b"key"), Some(&vec![b'x'; bytes]), &[]).expect("small");
    builder.finish(ProducerId(-1), ProducerEpoch(-1), Sequence(-1), false).into_bytes()
}

/// The batch with some bytes changed, and its checksum with them if it is to be `sound`.
fn changed(batch: &Bytes, at: usize, bytes: &[u8], sound: bool) -> Bytes {
    let mut changed = batch.to_vec();
    changed[at..at + bytes.len()].copy_from_slice(bytes);
    if sound {
        let crc = crc32c(&changed[21..]);
        changed[17..21].copy_from_slice(&crc.to_be_bytes());
    }
    changed.into()
}

/// CRC-32C, bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32| if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 };
    let byte = |crc: u32, byte: &u8| (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc));
    !bytes.iter().fold(!0, byte)
}

/// Where to and what.
pub(in crate::answers) type Target<'a> = (&'a str, TopicId, i32);

pub(in crate::answers) fn produce(
    version: i16,
    (name, topic_id, index): Target<'_>,
    records: Bytes,
) -> ProduceRequest {
    ProduceRequest {
        transactional_id: None,
        acks: -1,
        timeout_ms: 30_000,
        topic_data: vec![TopicProduceData {
            name: if version < 13 { name.to_owned() } else { String::new() },
            topic_id: if version < 13 { TopicId::ZERO } else { topic_id },
            partition_data: vec![PartitionProduceData { index, records: Some(records) }],
        }],
    }
}

pub(in crate::answers) fn producing(script: &mut Script) -> anyhow::Result<()> {
    let id = script.make(topic("records", 2))?;
    let to = |index: i32| ("records", id, index);
    for acks in [-1, 1] {
        script.every(&format!("a batch, acks {acks}"), |version| ProduceRequest {
            acks,
            ..produce(version, to(0), batch(3))
        })?;
    }
    for version in from::<ProduceRequest>(3) {
        script.tell(version, ProduceRequest { acks: 0, ..produce(version, to(0), batch(1)) })?;
    }
    script
        .every("after those that are not answered", |version| produce(version, to(0), batch(1)))?;
    script.tell(9, ProduceRequest { acks: 0, ..produce(9, ("absent", id, 0), batch(1)) })?;
    script.ask(
        "an error where none is answered",
        9,
        MetadataRequest { topics: Some(vec![]), ..MetadataRequest::default() },
    )?;
    for acks in [2, -2, 7] {
        script.every(&format!("acks {acks}"), |version| ProduceRequest {
            acks,
            ..produce(version, to(0), batch(1))
        })?;
    }
    script.every("no topics", |_| ProduceRequest { acks: -1, ..ProduceRequest::default() })?;
    script.every("no partitions", |version| {
        let mut request = produce(version, to(0), batch(1));
        request.topic_data[0].partition_data.clear();
        request
    })?;
    script.every("a topic that is not there", |version| {
        produce(version, ("absent", TopicId([5; 16]), 0), batch(1))
    })?;
    script.every("a partition that is not there", |version| produce(version, to(9), batch(1)))?;
    script.every("a partition below 0", |version| produce(version, to(-1), batch(1)))?;
    script.ask("the id of no topic", 13, produce(13, ("", TopicId::ZERO, 0), batch(1)))?;
    script.every("a name that is none", |version| {
        produce(version, ("a/b", TopicId([6; 16]), 0), batch(1))
    })?;
    script.every("good and bad side by side", |version| {
        let mut request = produce(version, to(0), batch(1));
        let partitions = &mut request.topic_data[0].partition_data;
        partitions.push(PartitionProduceData { index: 9, records: Some(batch(1)) });
        partitions.push(PartitionProduceData {
            index: 1,
            records: Some(changed(&batch(1), 65, b"x", false)),
        });
        request
    })?;
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        script.every(&format!("a batch by {}", codec.name()), |version| {
            produce(version, to(1), compressed(codec, 3))
        })?;
    }
    refused(script)?;
    kinds_of_topics(script)?;
    idempotent(script)
}

/// Batches that are no good.
fn refused(script: &mut Script) -> anyhow::Result<()> {
    let good = batch(3);
    let two = [batch(1), batch(1)].concat();
    for (what, wrong) in [
        ("no batch", Bytes::new()),
        ("two batches", two.into()),
        ("a batch cut short", good.slice(..good.len() - 1)),
        ("a header cut short", good.slice(..40)),
        ("a byte too many", [&good[..], b"x"].concat().into()),
        ("a wrong checksum", changed(&good, 17, &[1, 2, 3, 4], false)),
        ("a changed record", changed(&good, 70, b"!", false)),
        ("magic 0", changed(&good, 16, &[0], false)),
        ("magic 1", changed(&good, 16, &[1], false)),
        ("magic 3", changed(&good, 16, &[3], false)),
        ("a length below 0", changed(&good, 8, &(-1_i32).to_be_bytes(), false)),
        ("a length that is too small", changed(&good, 8, &10_i32.to_be_bytes(), false)),
        ("an unknown codec", changed(&good, 21, &[0, 6], true)),
        ("a codec that is not its own", changed(&good, 21, &[0, 1], true)),
        ("a control batch", changed(&good, 21, &[0, 0x20], true)),
        ("a transactional batch of nobody", changed(&good, 21, &[0, 0x10], true)),
        ("too many records", changed(&good, 57, &4_i32.to_be_bytes(), true)),
        ("too few records", changed(&good, 57, &2_i32.to_be_bytes(), true)),
        ("no records", changed(&good, 57, &0_i32.to_be_bytes(), true)),
        ("less than no records", changed(&good, 57, &(-1_i32).to_be_bytes(), true)),
        ("a last offset that is too large", changed(&good, 23, &9_i32.to_be_bytes(), true)),
        ("a base offset", changed(&good, 0, &77_i64.to_be_bytes(), false)),
        ("a leader epoch", changed(&good, 12, &9_i32.to_be_bytes(), false)),
        ("broker's time", changed(&good, 21, &[0, 8], true)),
        ("a producer without an epoch", changed(&good, 43, &5_i64.to_be_bytes(), true)),
        ("too large a batch", record(1_100_000, MADE_AT)),
        ("a time after tomorrow", record(10, 9_000_000_000_000)),
        ("a time before 1970", record(10, -5)),
        ("no time", record(10, -1)),
    ] {
        // Each in a topic of its own: an offset that differs shall not be seen in the next.
        let name = what.replace([' ', '\''], "-");
        let id = script.make(topic(&name, 1))?;
        script.every(what, |version| produce(version, (&name, id, 0), wrong.clone()))?;
    }
    let id = script.make(topic("twice", 1))?;
    script.every("a partition twice", |version| {
        let mut request = produce(version, ("twice", id, 0), batch(1));
        let again = request.topic_data[0].partition_data[0].clone();
        request.topic_data[0].partition_data.push(again);
        request
    })
}

fn kinds_of_topics(script: &mut Script) -> anyhow::Result<()> {
    let id = script.make(with(topic("compacted", 1), &[("cleanup.policy", "compact")]))?;
    let keyless = filled(Codec::None, 2, NOBODY, -1, false, None);
    script.every("no key, where there must be one", |version| {
        produce(version, ("compacted", id, 0), keyless.clone())
    })?;
    let keyless = filled(Codec::Gzip, 2, NOBODY, -1, false, None);
    script.every("no key by gzip, where there must be one", |version| {
        produce(version, ("compacted", id, 0), keyless.clone())
    })?;
    script.every("a key, where there must be one", |version| {
        produce(version, ("compacted", id, 0), batch(2))
    })?;
    let dated = with(topic("dated", 1), &[("message.timestamp.type", "LogAppendTime")]);
    let id = script.make(dated)?;
    script.every("dated by the broker", |version| produce(version, ("dated", id, 0), batch(2)))?;
    script.every("dated by the broker, by lz4", |version| {
        produce(version, ("dated", id, 0), compressed(Codec::Lz4, 2))
    })?;
    let small = with(topic("small", 1), &[("max.message.bytes", "200")]);
    let id = script.make(small)?;
    script.every("a batch that is too large", |version| {
        produce(version, ("small", id, 0), record(300, MADE_AT))
    })?;
    script.every("a batch that is small enough", |version| {
        produce(version, ("small", id, 0), record(30, MADE_AT))
    })?;
    let bounded = with(topic("bounded", 1), &[("message.timestamp.before.max.ms", "1000")]);
    let id = script.make(bounded)?;
    script
        .every("a time too long ago", |version| produce(version, ("bounded", id, 0), batch(2)))?;
    let recompressed = with(topic("recompressed", 1), &[("compression.type", "gzip")]);
    let id = script.make(recompressed)?;
    script.every("compressed by the broker", |version| {
        produce(version, ("recompressed", id, 0), batch(2))
    })?;
    let held = with(topic("held", 1), &[("min.insync.replicas", "2")]);
    let id = script.make(held)?;
    script.every("too few in sync", |version| produce(version, ("held", id, 0), batch(2)))?;
    script.every("too few in sync, acks 1", |version| ProduceRequest {
        acks: 1,
        ..produce(version, ("held", id, 0), batch(2))
    })?;
    Ok(())
}

fn idempotent(script: &mut Script) -> anyhow::Result<()> {
    let id = script.make(topic("sequenced", 1))?;
    let to = ("sequenced", id, 0);
    let init = |script: &mut Script| -> anyhow::Result<i64> {
        let request =
            InitProducerIdRequest { transactional_id: None, ..InitProducerIdRequest::default() };
        Ok(script.settle(4, request, |it| it.error_code == 0)?.producer_id)
    };
    let one = init(script)?;
    script.name_producer(one, "the idempotent producer");
    let mut sequence = 0;
    for version in from::<ProduceRequest>(3) {
        let producer = Producer { id: one, epoch: 0 };
        let send = |sequence, count| produce(version, to, sequenced(producer, sequence, count));
        script.ask("the next batch", version, send(sequence, 2))?;
        script.ask("the same batch", version, send(sequence, 2))?;
        script.ask("a batch too far ahead", version, send(sequence + 9, 2))?;
        script.ask("a batch that overlaps", version, send(sequence + 1, 2))?;
        sequence += 2;
        for _ in 0..2 {
            script.ask("more batches", version, send(sequence, 1))?;
            sequence += 1;
        }
    }
    let at = |epoch| Producer { id: one, epoch };
    script.every("a batch of long ago", |version| produce(version, to, sequenced(at(0), 0, 2)))?;
    script.every("the next epoch, not from 0", |version| {
        produce(version, to, sequenced(at(1), 5, 1))
    })?;
    script.ask("the next epoch", 9, produce(9, to, sequenced(at(1), 0, 1)))?;
    script.every("an epoch that is over", |version| {
        produce(version, to, sequenced(at(0), sequence, 1))
    })?;
    let two = init(script)?;
    script.name_producer(two, "another idempotent producer");
    let two = Producer { id: two, epoch: 0 };
    script.ask(
        "an unknown producer that is far already",
        9,
        produce(9, to, sequenced(two, 40, 1)),
    )?;
    script.every("a negative sequence", |version| produce(version, to, sequenced(two, -1, 1)))?;
    let last = Producer { epoch: 1, ..two };
    script.ask("a new epoch, from 0", 9, produce(9, to, sequenced(last, 0, 1)))?;
    let nobody = Producer { id: 999_999_999, epoch: 3 };
    script.ask("a producer that nobody made", 9, produce(9, to, sequenced(nobody, 0, 1)))?;
    script.name_producer(999_999_999, "a producer that nobody made");
    Ok(())
}
