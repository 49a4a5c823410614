//! Records: fetched, looked for, deleted.
//!
//! Shell.

use protocol::api::fetch::{
    FetchPartition, FetchRequest, FetchTopic, ForgottenTopic, ReplicaState,
};
use protocol::api::log_dirs::{
    AlterReplicaLogDir, AlterReplicaLogDirTopic, AlterReplicaLogDirsRequest,
    DescribableLogDirTopic, DescribeLogDirsRequest,
};
use protocol::api::offsets::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic, ListOffsetsPartition,
    ListOffsetsRequest, ListOffsetsTopic, OffsetForLeaderEpochRequest, OffsetForLeaderPartition,
    OffsetForLeaderTopic,
};
use protocol::api::transactions::{DescribeProducersRequest, DescribeProducersRequestTopic};
use protocol::ids::TopicId;
use protocol::record::Codec;

use super::records::{MADE_AT, Target, batch, compressed, produce, record};
use super::topics::{topic, with};
use crate::answers::script::{Script, from};

pub(in crate::answers) fn fetch(
    version: i16,
    (name, topic_id, partition): Target<'_>,
    fetch_offset: i64,
) -> FetchRequest {
    FetchRequest {
        max_wait_ms: 0,
        min_bytes: 1,
        topics: vec![FetchTopic {
            topic: if version < 13 { name.to_owned() } else { String::new() },
            topic_id: if version < 13 { TopicId::ZERO } else { topic_id },
            partitions: vec![FetchPartition {
                partition,
                fetch_offset,
                partition_max_bytes: 1 << 20,
                ..FetchPartition::default()
            }],
        }],
        ..FetchRequest::default()
    }
}

fn edit(mut request: FetchRequest, edit: impl FnOnce(&mut FetchPartition)) -> FetchRequest {
    edit(&mut request.topics[0].partitions[0]);
    request
}

pub(in crate::answers) fn fetching(script: &mut Script) -> anyhow::Result<()> {
    let id = script.make(topic("read", 2))?;
    let to = ("read", id, 0);
    for _ in 0..4 {
        script.quiet(9, produce(9, to, batch(3)))?;
    }
    for (what, offset) in [
        ("the beginning", 0),
        ("the middle of a batch", 4),
        ("the last record", 11),
        ("the end", 12),
        ("after the end", 13),
        ("before the beginning", -1),
    ] {
        script.every(&format!("from {what} on"), |version| fetch(version, to, offset))?;
        script.every(&format!("committed records from {what} on"), |version| FetchRequest {
            isolation_level: 1,
            ..fetch(version, to, offset)
        })?;
    }
    script.every("an empty partition", |version| fetch(version, ("read", id, 1), 0))?;
    script.every("few bytes of a partition", |version| {
        edit(fetch(version, to, 0), |it| it.partition_max_bytes = 10)
    })?;
    script.every("two batches' bytes of a partition", |version| {
        edit(fetch(version, to, 0), |it| it.partition_max_bytes = 300)
    })?;
    script.every("no bytes of a partition", |version| {
        edit(fetch(version, to, 0), |it| it.partition_max_bytes = 0)
    })?;
    script.every("few bytes", |version| FetchRequest { max_bytes: 10, ..fetch(version, to, 0) })?;
    script.every("no bytes", |version| FetchRequest { max_bytes: 0, ..fetch(version, to, 0) })?;
    script.every("more than there is, waited for", |version| FetchRequest {
        min_bytes: 1 << 20,
        max_wait_ms: 30,
        ..fetch(version, to, 3)
    })?;
    script.every("a partition that is not there", |version| fetch(version, ("read", id, 9), 0))?;
    script.every("a topic that is not there", |version| {
        fetch(version, ("absent", TopicId([8; 16]), 0), 0)
    })?;
    script
        .some("the id of no topic", 13..=18, |version| fetch(version, ("", TopicId::ZERO, 0), 0))?;
    script.every("no topics", |_| FetchRequest::default())?;
    for epoch in [0, 1, 99] {
        script.some(&format!("leader epoch {epoch}"), from::<FetchRequest>(9), |version| {
            edit(fetch(version, to, 0), |it| it.current_leader_epoch = epoch)
        })?;
    }
    script.some("leader epoch 99 from after the end on", from::<FetchRequest>(9), |version| {
        edit(fetch(version, to, 99), |it| it.current_leader_epoch = 99)
    })?;
    for epoch in [0, 5] {
        script.some(
            &format!("last fetched epoch {epoch}"),
            from::<FetchRequest>(12),
            |version| edit(fetch(version, to, 6), |it| it.last_fetched_epoch = epoch),
        )?;
        script.some(
            &format!("last fetched epoch {epoch} at the end"),
            from::<FetchRequest>(12),
            |version| edit(fetch(version, to, 99), |it| it.last_fetched_epoch = epoch),
        )?;
    }
    script.every("as another broker", |version| {
        let mut request = fetch(version, to, 0);
        if version <= 14 {
            request.replica_id = 9;
        } else {
            request.replica_state = ReplicaState { replica_id: 9, replica_epoch: 1 };
        }
        request
    })?;
    script.every("good and bad side by side", |version| {
        let mut request = fetch(version, to, 0);
        let mut more = fetch(version, ("read", id, 9), 0).topics.remove(0).partitions;
        more.push(FetchPartition {
            partition: 1,
            fetch_offset: 5,
            partition_max_bytes: 100,
            ..FetchPartition::default()
        });
        request.topics[0].partitions.extend(more);
        request.topics.extend(fetch(version, ("absent", TopicId([8; 16]), 0), 0).topics);
        request
    })?;
    let id = script.make(topic("codecs", 1))?;
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        script.quiet(9, produce(9, ("codecs", id, 0), compressed(codec, 2)))?;
    }
    script.every("every codec", |version| fetch(version, ("codecs", id, 0), 0))?;
    script.every("zstd", |version| fetch(version, ("codecs", id, 0), 6))?;
    for name in ["dated", "recompressed", "sequenced", "compacted", "records", "bounded"] {
        let id = script.await_topic(name)?;
        script.every(&format!("what is in {name}"), |version| fetch(version, (name, id, 0), 0))?;
    }
    let id = script.await_topic("records")?;
    script.every("what is in records, partition 1", |version| {
        fetch(version, ("records", id, 1), 0)
    })?;
    sessions(script)
}

fn sessions(script: &mut Script) -> anyhow::Result<()> {
    let id = script.make(topic("session", 2))?;
    let to = |index| ("session", id, index);
    for version in from::<FetchRequest>(7) {
        script.quiet(9, produce(9, to(0), batch(1)))?;
        let both = |offset| {
            let mut request = fetch(version, to(0), offset);
            let more = fetch(version, to(1), 0).topics.remove(0).partitions;
            request.topics[0].partitions.extend(more);
            request
        };
        let began = FetchRequest { session_epoch: 0, ..both(0) };
        let began = script.ask("a session begins", version, began)?;
        let next = |epoch: i32, topics: Vec<FetchTopic>| FetchRequest {
            session_id: began.session_id,
            session_epoch: epoch,
            topics,
            ..both(0)
        };
        script.ask("a session, nothing changed", version, next(1, vec![]))?;
        script.quiet(9, produce(9, to(1), batch(1)))?;
        script.ask("a session, something came", version, next(2, vec![]))?;
        script.ask(
            "a session, a partition moved on",
            version,
            next(3, fetch(version, to(1), 99).topics),
        )?;
        script.ask("a session, again", version, next(4, vec![]))?;
        let forget = ForgottenTopic {
            topic: if version < 13 { "session".to_owned() } else { String::new() },
            topic_id: if version < 13 { TopicId::ZERO } else { id },
            partitions: vec![1],
        };
        let forget = FetchRequest { forgotten_topics_data: vec![forget], ..next(5, vec![]) };
        script.ask("a session, a partition forgotten", version, forget)?;
        script.ask(
            "a session, an unknown partition",
            version,
            next(6, fetch(version, to(7), 0).topics),
        )?;
        script.ask(
            "a session, an unknown topic",
            version,
            next(7, fetch(version, ("absent", TopicId([8; 16]), 0), 0).topics),
        )?;
        script.ask("a session, again after the unknown", version, next(8, vec![]))?;
        script.ask("a session, an epoch that was", version, next(3, vec![]))?;
        script.ask("a session, an epoch to come", version, next(20, vec![]))?;
        let unknown = FetchRequest { session_id: 77_777, ..next(1, vec![]) };
        script.ask("a session that is not there", version, unknown)?;
        script.ask("a session ends", version, next(-1, both(0).topics))?;
        script.ask("a session that has ended", version, next(9, vec![]))?;
        let none = FetchRequest { session_id: 0, session_epoch: 5, ..both(0) };
        script.ask("no session, but an epoch of one", version, none)?;
    }
    Ok(())
}

pub(in crate::answers) fn looking(script: &mut Script) -> anyhow::Result<()> {
    let id = script.await_topic("read")?;
    let list = |name: &str, partitions: &[(i32, i64)]| ListOffsetsRequest {
        replica_id: -1,
        topics: vec![ListOffsetsTopic {
            name: name.to_owned(),
            partitions: partitions
                .iter()
                .map(|&(partition_index, timestamp)| ListOffsetsPartition {
                    partition_index,
                    timestamp,
                    ..ListOffsetsPartition::default()
                })
                .collect(),
        }],
        ..ListOffsetsRequest::default()
    };
    for timestamp in
        [-1, -2, -3, -4, -5, -6, -7, 0, MADE_AT, MADE_AT + 1, MADE_AT + 2000, MADE_AT + 2001]
    {
        let name = if timestamp < 1 {
            timestamp.to_string()
        } else {
            format!("made + {}", timestamp - MADE_AT)
        };
        script.every(&format!("the offset at {name}"), |_| {
            list("read", &[(0, timestamp), (1, timestamp)])
        })?;
        script.some(
            &format!("the committed offset at {name}"),
            from::<ListOffsetsRequest>(2),
            |_| ListOffsetsRequest { isolation_level: 1, ..list("read", &[(0, timestamp)]) },
        )?;
    }
    script.every("no topics", |_| ListOffsetsRequest {
        replica_id: -1,
        ..ListOffsetsRequest::default()
    })?;
    script.every("a partition that is not there", |_| list("read", &[(0, -1), (9, -1)]))?;
    script.every("a topic that is not there", |_| list("absent", &[(0, -1)]))?;
    script.every("a name that is none", |_| list("a/b", &[(0, -1)]))?;
    script.every("a partition twice", |_| list("read", &[(0, -1), (0, -2), (1, -1)]))?;
    for epoch in [0, 1, 99] {
        script.some(&format!("leader epoch {epoch}"), from::<ListOffsetsRequest>(4), |_| {
            let mut request = list("read", &[(0, -1)]);
            request.topics[0].partitions[0].current_leader_epoch = epoch;
            request
        })?;
    }
    script.every("as a debugger", |_| ListOffsetsRequest {
        replica_id: -2,
        ..list("read", &[(0, -1)])
    })?;
    script.every("as another broker", |_| ListOffsetsRequest {
        replica_id: 9,
        ..list("read", &[(0, -1)])
    })?;
    script.every("the end of a topic that is not read", |_| list("codecs", &[(0, -3)]))?;
    let epochs =
        |name: &str, asked: &[(i32, i32, i32)]| OffsetForLeaderEpochRequest {
            replica_id: -1,
            topics: vec![OffsetForLeaderTopic {
                topic: name.to_owned(),
                partitions: asked
                    .iter()
                    .map(|&(partition, current_leader_epoch, leader_epoch)| {
                        OffsetForLeaderPartition { partition, current_leader_epoch, leader_epoch }
                    })
                    .collect(),
            }],
        };
    for epoch in [-1, 0, 1, 7] {
        script.every(&format!("the end of epoch {epoch}"), |_| {
            epochs("read", &[(0, -1, epoch), (1, -1, epoch)])
        })?;
    }
    for epoch in [0, 1, 7] {
        script.every(&format!("the end of epoch 0, in epoch {epoch}"), |_| {
            epochs("read", &[(0, epoch, 0)])
        })?;
    }
    script.every("the end in a partition that is not there", |_| epochs("read", &[(9, -1, 0)]))?;
    script.every("the end in a topic that is not there", |_| epochs("absent", &[(0, -1, 0)]))?;
    script.every("no topics", |_| OffsetForLeaderEpochRequest::default())?;
    deleting(script, id)
}

fn deleting(script: &mut Script, id: TopicId) -> anyhow::Result<()> {
    let delete = |name: &str, offsets: &[(i32, i64)]| DeleteRecordsRequest {
        topics: vec![DeleteRecordsTopic {
            name: name.to_owned(),
            partitions: offsets
                .iter()
                .map(|&(partition_index, offset)| DeleteRecordsPartition {
                    partition_index,
                    offset,
                })
                .collect(),
        }],
        timeout_ms: 30_000,
    };
    for version in 0..=2 {
        let offset = 2 + i64::from(version);
        script.ask("some records", version, delete("read", &[(0, offset)]))?;
        script.ask("records that are deleted", version, delete("read", &[(0, 1)]))?;
    }
    for (what, offset) in [("after the end", 99), ("at -2", -2)] {
        script.every(&format!("an offset {what}"), |_| delete("read", &[(0, offset)]))?;
    }
    script.every("a topic that is not there", |_| delete("absent", &[(0, 1)]))?;
    script.every("a partition that is not there", |_| delete("read", &[(9, 1)]))?;
    script.every("of a compacted topic", |_| delete("compacted", &[(0, 1)]))?;
    script.every("good and bad side by side", |_| delete("read", &[(0, 5), (9, 1), (1, 99)]))?;
    script.every("no topics", |_| DeleteRecordsRequest::default())?;
    script.every("what is left", |version| fetch(version, ("read", id, 0), 5))?;
    script.every("what is gone", |version| fetch(version, ("read", id, 0), 2))?;
    script.ask("all records", 2, delete("read", &[(0, -1)]))?;
    script.every("nothing is left", |version| fetch(version, ("read", id, 0), 12))?;
    let list = |timestamp| ListOffsetsRequest {
        replica_id: -1,
        topics: vec![ListOffsetsTopic {
            name: "read".to_owned(),
            partitions: vec![ListOffsetsPartition {
                partition_index: 0,
                timestamp,
                ..ListOffsetsPartition::default()
            }],
        }],
        ..ListOffsetsRequest::default()
    };
    for timestamp in [-1, -2, -3, -4, 0] {
        script.some(
            &format!("the offset at {timestamp} of nothing"),
            from::<ListOffsetsRequest>(8),
            |_| list(timestamp),
        )?;
    }
    Ok(())
}

pub(in crate::answers) fn directories(script: &mut Script) -> anyhow::Result<()> {
    let id = script.make(with(topic("stored", 2), &[("retention.ms", "-1")]))?;
    script.quiet(9, produce(9, ("stored", id, 0), record(1000, MADE_AT)))?;
    script.quiet(9, produce(9, ("stored", id, 0), batch(2)))?;
    let describe = |topics: &[(&str, &[i32])]| DescribeLogDirsRequest {
        topics: Some(
            topics
                .iter()
                .map(|(topic, partitions)| DescribableLogDirTopic {
                    topic: (*topic).to_owned(),
                    partitions: partitions.to_vec(),
                })
                .collect(),
        ),
    };
    script.every("a topic's directories", |_| describe(&[("stored", &[0, 1])]))?;
    script.every("a partition's directory", |_| describe(&[("stored", &[1])]))?;
    script.every("no topics", |_| describe(&[]))?;
    script.every("a topic without partitions", |_| describe(&[("stored", &[])]))?;
    script.every("what is not there", |_| describe(&[("absent", &[0]), ("stored", &[0, 9])]))?;
    script.every("all", |_| DescribeLogDirsRequest { topics: None })?;
    let own = script.quiet(4, describe(&[("stored", &[0])]))?;
    let own = own.results.first().map(|it| it.log_dir.clone()).unwrap_or_default();
    let move_to = |path: &str, topic: &str, partitions: &[i32]| AlterReplicaLogDirsRequest {
        dirs: vec![AlterReplicaLogDir {
            path: path.to_owned(),
            topics: vec![AlterReplicaLogDirTopic {
                name: topic.to_owned(),
                partitions: partitions.to_vec(),
            }],
        }],
    };
    script.every("to where it is", |_| move_to(&own, "stored", &[0]))?;
    script.every("to another directory", |_| move_to("/no/such/directory", "stored", &[0, 9]))?;
    script.every("to a relative directory", |_| move_to("data", "stored", &[0]))?;
    script.every("a topic that is not there", |_| move_to(&own, "absent", &[0]))?;
    script.every("nothing", |_| AlterReplicaLogDirsRequest::default())?;
    let producers = |name: &str, partitions: &[i32]| DescribeProducersRequest {
        topics: vec![DescribeProducersRequestTopic {
            name: name.to_owned(),
            partition_indexes: partitions.to_vec(),
        }],
    };
    for (what, name) in [
        ("producers", "sequenced"),
        ("no producers", "stored"),
        ("producers of a topic that is not there", "absent"),
        ("producers of a name that is none", "a/b"),
        ("producers of the empty name", ""),
    ] {
        script.ask(what, 0, producers(name, &[0, 9]))?;
    }
    script.ask("producers of no topics", 0, DescribeProducersRequest::default())?;
    Ok(())
}
