//! Offsets of groups: committed, fetched, deleted.
//!
//! Shell.

use protocol::api::group::DeleteGroupsRequest;
use protocol::api::group_offsets::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
    OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use protocol::ids::TopicId;

use super::groups::{join, sync};
use crate::answers::script::Script;

/// Commits for a group without members.
pub(in crate::answers) fn commit(
    version: i16,
    group: &str,
    (name, topic_id): (&str, TopicId),
    partitions: &[(i32, i64)],
) -> OffsetCommitRequest {
    OffsetCommitRequest {
        group_id: group.to_owned(),
        topics: vec![OffsetCommitRequestTopic {
            name: if version <= 9 { name.to_owned() } else { String::new() },
            topic_id: if version <= 9 { TopicId::ZERO } else { topic_id },
            partitions: partitions
                .iter()
                .map(|&(partition_index, committed_offset)| OffsetCommitRequestPartition {
                    partition_index,
                    committed_offset,
                    committed_metadata: Some("words".to_owned()),
                    ..OffsetCommitRequestPartition::default()
                })
                .collect(),
        }],
        ..OffsetCommitRequest::default()
    }
}

/// `None`: all.
pub(in crate::answers) fn fetch(
    version: i16,
    group: &str,
    topics: Option<&[(&str, TopicId, &[i32])]>,
) -> OffsetFetchRequest {
    if version <= 7 {
        let topic = |it: &(&str, TopicId, &[i32])| OffsetFetchRequestTopic {
            name: it.0.to_owned(),
            partition_indexes: it.2.to_vec(),
        };
        let topics = topics.map(|topics| topics.iter().map(topic).collect());
        return OffsetFetchRequest {
            group_id: group.to_owned(),
            topics,
            ..OffsetFetchRequest::default()
        };
    }
    OffsetFetchRequest {
        groups: vec![of_group(version, group, topics)],
        ..OffsetFetchRequest::default()
    }
}

fn of_group(
    version: i16,
    group: &str,
    topics: Option<&[(&str, TopicId, &[i32])]>,
) -> OffsetFetchRequestGroup {
    let topic = |it: &(&str, TopicId, &[i32])| OffsetFetchRequestTopics {
        name: if version <= 9 { it.0.to_owned() } else { String::new() },
        topic_id: if version <= 9 { TopicId::ZERO } else { it.1 },
        partition_indexes: it.2.to_vec(),
    };
    let topics = topics.map(|topics| topics.iter().map(topic).collect());
    OffsetFetchRequestGroup {
        group_id: group.to_owned(),
        topics,
        ..OffsetFetchRequestGroup::default()
    }
}

pub(in crate::answers) fn offsets(script: &mut Script) -> anyhow::Result<()> {
    let id = script.await_topic("read")?;
    let read = ("read", id);
    let absent = ("absent", TopicId([8; 16]));
    for version in 2..=10 {
        let group = format!("offsets-{version}");
        script.ask(
            "of a group without members",
            version,
            commit(version, &group, read, &[(0, 5), (1, 7)]),
        )?;
        script.ask(
            "a topic that is not there",
            version,
            commit(version, &group, absent, &[(0, 5)]),
        )?;
        script.ask(
            "a partition that is not there",
            version,
            commit(version, &group, read, &[(9, 5), (0, 6)]),
        )?;
        script.ask("an offset below 0", version, commit(version, &group, read, &[(0, -1)]))?;
        let mut null = commit(version, &group, read, &[(1, 8)]);
        null.topics[0].partitions[0].committed_metadata = None;
        script.ask("without words", version, null)?;
        let mut many = commit(version, &group, read, &[(0, 8), (1, 9)]);
        many.topics[0].partitions[0].committed_metadata = Some("w".repeat(4097));
        script.ask("too many words", version, many)?;
        let mut dated = commit(version, &group, read, &[(1, 9)]);
        dated.topics[0].partitions[0].committed_leader_epoch = if version >= 6 { 3 } else { -1 };
        dated.retention_time_ms = if version <= 4 { 1000 } else { -1 };
        script.ask("with a leader epoch", version, dated)?;
        let stranger = OffsetCommitRequest {
            member_id: "who".to_owned(),
            generation_id_or_member_epoch: 1,
            ..commit(version, &group, read, &[(0, 5)])
        };
        script.ask("of an unknown member", version, stranger.clone())?;
        let stranger = OffsetCommitRequest { group_id: format!("new-{version}"), ..stranger };
        script.ask("of an unknown member of an unknown group", version, stranger)?;
        script.ask("of the empty group", version, commit(version, "", read, &[(0, 5)]))?;
        let nothing =
            OffsetCommitRequest { topics: Vec::new(), ..commit(version, &group, read, &[]) };
        script.ask("nothing", version, nothing)?;
        script.ask("no partitions", version, commit(version, &group, read, &[]))?;
    }
    if let Some(version) = [10].into_iter().next() {
        script.ask(
            "the id of no topic",
            version,
            commit(version, "offsets-10", ("", TopicId::ZERO), &[(0, 1)]),
        )?;
    }
    members(script, read)?;
    fetching(script, id)?;
    deleting(script, read)
}

fn members(script: &mut Script, read: (&str, TopicId)) -> anyhow::Result<()> {
    let joined = script.joined(5, join(5, "committing", ""), "committing member")?;
    let of_member = |version: i16, generation: i32, member: &str| OffsetCommitRequest {
        member_id: member.to_owned(),
        generation_id_or_member_epoch: generation,
        ..commit(version, "committing", read, &[(0, 5)])
    };
    let member = joined.member_id.as_str();
    script.every("before the assignment", |version| {
        of_member(version, joined.generation_id, member)
    })?;
    script.quiet(3, sync(3, "committing", &joined, &[member]))?;
    script.every("of a member", |version| of_member(version, joined.generation_id, member))?;
    script.every("of a generation that was", |version| {
        of_member(version, joined.generation_id - 1, member)
    })?;
    script.every("of a generation to come", |version| {
        of_member(version, joined.generation_id + 1, member)
    })?;
    script.every("of an unknown member of a group", |version| {
        of_member(version, joined.generation_id, "who")
    })?;
    script.every("of nobody in a group with members", |version| {
        commit(version, "committing", read, &[(0, 5)])
    })?;
    script.some("of an unknown instance", 7..=10, |version| OffsetCommitRequest {
        group_instance_id: Some("who".to_owned()),
        ..of_member(version, joined.generation_id, member)
    })
}

fn fetching(script: &mut Script, id: TopicId) -> anyhow::Result<()> {
    let some = [("read", id, &[0, 1, 9][..]), ("absent", TopicId([8; 16]), &[0])];
    for version in 1..=10 {
        let group = format!("offsets-{}", version.max(2));
        script.ask("some", version, fetch(version, &group, Some(&some)))?;
        script.ask("no topics", version, fetch(version, &group, Some(&[])))?;
        script.ask("no partitions", version, fetch(version, &group, Some(&[("read", id, &[])])))?;
        script.ask(
            "a partition twice",
            version,
            fetch(version, &group, Some(&[("read", id, &[0, 0])])),
        )?;
        script.ask(
            "of a group that is not there",
            version,
            fetch(version, "nowhere", Some(&some)),
        )?;
        script.ask("of the empty group", version, fetch(version, "", Some(&some)))?;
        if version >= 2 {
            script.ask("all", version, fetch(version, &group, None))?;
            script.ask(
                "all of a group that is not there",
                version,
                fetch(version, "nowhere", None),
            )?;
        }
        if version >= 7 {
            let stable =
                OffsetFetchRequest { require_stable: true, ..fetch(version, &group, Some(&some)) };
            script.ask("stable ones", version, stable)?;
        }
        if version >= 8 {
            let groups = ["offsets-9", "nowhere", "offsets-8", "offsets-9"];
            let groups = groups.map(|it| of_group(version, it, Some(&some))).to_vec();
            script.ask(
                "of several groups",
                version,
                OffsetFetchRequest { groups, ..OffsetFetchRequest::default() },
            )?;
            script.ask("of no groups", version, OffsetFetchRequest::default())?;
        }
        if version >= 9 {
            let mut asked = fetch(version, "committing", Some(&some));
            asked.groups[0].member_id = Some("who".to_owned());
            asked.groups[0].member_epoch = 1;
            script.ask("as an unknown member", version, asked)?;
        }
    }
    script.ask(
        "the id of no topic",
        10,
        fetch(10, "offsets-10", Some(&[("", TopicId::ZERO, &[0])])),
    )?;
    Ok(())
}

fn deleting(script: &mut Script, read: (&str, TopicId)) -> anyhow::Result<()> {
    let delete = |group: &str, topics: &[(&str, &[i32])]| OffsetDeleteRequest {
        group_id: group.to_owned(),
        topics: topics
            .iter()
            .map(|(name, partitions)| OffsetDeleteRequestTopic {
                name: (*name).to_owned(),
                partitions: partitions
                    .iter()
                    .map(|&partition_index| OffsetDeleteRequestPartition { partition_index })
                    .collect(),
            })
            .collect(),
    };
    for (what, request) in [
        ("one", delete("offsets-2", &[("read", &[0])])),
        ("one that is deleted", delete("offsets-2", &[("read", &[0])])),
        ("what is not there", delete("offsets-2", &[("absent", &[0]), ("read", &[9])])),
        ("nothing", delete("offsets-2", &[])),
        ("no partitions", delete("offsets-2", &[("read", &[])])),
        ("of a group that is not there", delete("nowhere", &[("read", &[0])])),
        ("of the empty group", delete("", &[("read", &[0])])),
        ("of a group that reads it", delete("committing", &[("read", &[0])])),
        ("of a group that does not read it", delete("committing", &[("session", &[0])])),
        ("all", delete("offsets-2", &[("read", &[0, 1])])),
    ] {
        script.ask(what, 0, request)?;
    }
    script.ask("what is left after all are deleted", 5, fetch(5, "offsets-2", None))?;
    let gone = |group: &str| DeleteGroupsRequest { groups_names: vec![group.to_owned()] };
    script.ask("a group whose offsets are deleted", 2, gone("offsets-2"))?;
    script.ask("a group with offsets", 2, gone("offsets-3"))?;
    script.ask("what is left of a group that is deleted", 5, fetch(5, "offsets-3", None))?;
    script.ask(
        "a group that is deleted begins again",
        5,
        commit(5, "offsets-3", read, &[(0, 1)]),
    )?;
    script.ask("a group that began again", 5, fetch(5, "offsets-3", None))?;
    Ok(())
}
