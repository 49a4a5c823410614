//! Groups whose coordinator assigns.
//!
//! Shell.

use protocol::api::AnyResponse;
use protocol::api::consumer_group::{
    ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse, HeartbeatTopicPartitions,
};
use protocol::api::group::{
    DeleteGroupsRequest, DescribeGroupsRequest, HeartbeatRequest, JoinGroupRequest,
    ListGroupsRequest,
};
use protocol::api::group_offsets::OffsetCommitRequest;
use protocol::ids::TopicId;

use super::groups::{join, leave};
use super::offsets::{commit, fetch};
use crate::answers::script::Script;

/// An id that a member chooses.
const CHOSEN: &str = "AAAAAAAAAAAAAAAAAAAAAQ";

fn beat(group: &str, member: &str, epoch: i32) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest {
        group_id: group.to_owned(),
        member_id: member.to_owned(),
        member_epoch: epoch,
        ..ConsumerGroupHeartbeatRequest::default()
    }
}

fn join_848(group: &str, member: &str) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest {
        rebalance_timeout_ms: 30_000,
        subscribed_topic_names: Some(vec!["read".to_owned()]),
        topic_partitions: Some(Vec::new()),
        ..beat(group, member, 0)
    }
}

fn describe(groups: &[&str]) -> ConsumerGroupDescribeRequest {
    ConsumerGroupDescribeRequest {
        group_ids: groups.iter().map(|it| (*it).to_owned()).collect(),
        include_authorized_operations: false,
    }
}

fn owned(id: TopicId, partitions: &[i32]) -> Option<Vec<HeartbeatTopicPartitions>> {
    Some(vec![HeartbeatTopicPartitions { topic_id: id, partitions: partitions.to_vec() }])
}

impl Script {
    /// Joins, and names the member before anything is written down.
    fn join_848(
        &mut self,
        step: &str,
        version: i16,
        request: ConsumerGroupHeartbeatRequest,
        name: &str,
    ) -> anyhow::Result<ConsumerGroupHeartbeatResponse> {
        self.begin(0, version, request)?;
        let heard = self.hear::<ConsumerGroupHeartbeatRequest>(0, version)?;
        if let Some(AnyResponse::ConsumerGroupHeartbeat(it)) = &heard {
            self.name(&it.member_id.clone().unwrap_or_default(), name);
        }
        self.write::<ConsumerGroupHeartbeatRequest>(step, version, heard)
    }
}

pub(in crate::answers) fn consumers(script: &mut Script) -> anyhow::Result<()> {
    let id = script.await_topic("read")?;
    script.name(CHOSEN, "chosen id");
    for version in 0..=1 {
        let group = format!("modern-{version}");
        let member = if version == 0 { "" } else { CHOSEN };
        let joined =
            script.join_848("a new member", version, join_848(&group, member), "modern member")?;
        let member = joined.member_id.clone().unwrap_or_default();
        script.ask(
            "a heartbeat of a new member",
            version,
            beat(&group, &member, joined.member_epoch),
        )?;
        let has = ConsumerGroupHeartbeatRequest {
            topic_partitions: owned(id, &[0, 1]),
            ..beat(&group, &member, joined.member_epoch)
        };
        script.ask("a member has what it was given", version, has)?;
        script.every("a group of one", |_| describe(&[&group]))?;
        for (what, epoch) in [("to come", joined.member_epoch + 1), ("below all", -7)] {
            script.ask(&format!("an epoch {what}"), version, beat(&group, &member, epoch))?;
        }
        script.ask("a member joins again", version, join_848(&group, &member))?;
        script.ask("an unknown member", version, beat(&group, "who", 1))?;
        offsets(script, &group, &member, joined.member_epoch, id)?;
        script.ask("a member leaves", version, beat(&group, &member, -1))?;
        script.ask("a member leaves again", version, beat(&group, &member, -1))?;
        script.every("a group without members", |_| describe(&[&group]))?;
    }
    wrong(script)?;
    regexes(script)?;
    statics(script)?;
    two(script, id)?;
    beside_classic(script)
}

fn offsets(
    script: &mut Script,
    group: &str,
    member: &str,
    epoch: i32,
    id: TopicId,
) -> anyhow::Result<()> {
    let of = |version: i16, member: &str, epoch: i32| OffsetCommitRequest {
        member_id: member.to_owned(),
        generation_id_or_member_epoch: epoch,
        ..commit(version, group, ("read", id), &[(0, 3)])
    };
    script.every("of a modern member", |version| of(version, member, epoch))?;
    script.every("of a member epoch that was", |version| of(version, member, epoch - 1))?;
    script.every("of a member epoch to come", |version| of(version, member, epoch + 1))?;
    script.every("of an unknown modern member", |version| of(version, "who", epoch))?;
    script.every("of nobody in a modern group", |version| of(version, "", -1))?;
    for (what, member, epoch) in [
        ("a modern member", member, epoch),
        ("a modern member of another epoch", member, epoch + 1),
        ("an unknown modern member", "who", epoch),
        ("nobody", "", -1),
    ] {
        script.some(&format!("as {what}"), 9..=10, |version| {
            let mut request = fetch(version, group, Some(&[("read", id, &[0])]));
            request.groups[0].member_id = (!member.is_empty()).then(|| member.to_owned());
            request.groups[0].member_epoch = epoch;
            request
        })?;
    }
    Ok(())
}

fn wrong(script: &mut Script) -> anyhow::Result<()> {
    type Request = ConsumerGroupHeartbeatRequest;
    for (what, wrong) in [
        ("the empty group", join_848("", CHOSEN)),
        ("no rebalance timeout", Request { rebalance_timeout_ms: -1, ..join_848("wrong", CHOSEN) }),
        ("no partitions told", Request { topic_partitions: None, ..join_848("wrong", CHOSEN) }),
        (
            "partitions owned already",
            Request {
                topic_partitions: owned(TopicId([1; 16]), &[0]),
                ..join_848("wrong", CHOSEN)
            },
        ),
        ("no subscription", Request { subscribed_topic_names: None, ..join_848("wrong", CHOSEN) }),
        (
            "an unknown assignor",
            Request { server_assignor: Some("who".to_owned()), ..join_848("wrong", CHOSEN) },
        ),
        (
            "an empty assignor",
            Request { server_assignor: Some(String::new()), ..join_848("wrong", CHOSEN) },
        ),
        (
            "an empty instance",
            Request { instance_id: Some(String::new()), ..join_848("wrong", CHOSEN) },
        ),
        ("an empty rack", Request { rack_id: Some(String::new()), ..join_848("wrong", CHOSEN) }),
        ("a group that is not there", beat("nowhere", CHOSEN, 1)),
        ("leaves a group that is not there", beat("nowhere", CHOSEN, -1)),
        ("a static leave without an instance", beat("wrong", CHOSEN, -2)),
        ("an epoch below all", beat("wrong", CHOSEN, -3)),
    ] {
        script.every(what, |_| wrong.clone())?;
    }
    script.ask("no id in version 1", 1, join_848("wrong", ""))?;
    let gone = |group: &str| DeleteGroupsRequest { groups_names: vec![group.to_owned()] };
    for group in ["modern-0", "modern-1", "wrong"] {
        script.ask(&format!("the modern group {group}"), 2, gone(group))?;
    }
    let absent = Request {
        subscribed_topic_names: Some(vec!["absent".to_owned()]),
        ..join_848("hopeful", CHOSEN)
    };
    script.ask("a topic that is not there", 1, absent)?;
    script.every("a group that reads what is not there", |_| describe(&["hopeful"]))?;
    let empty = Request { subscribed_topic_names: Some(vec![]), ..join_848("idle", CHOSEN) };
    script.ask("no topics", 1, empty)?;
    script.every("a group that reads nothing", |_| describe(&["idle"]))?;
    script.every("no groups", |_| describe(&[]))?;
    script.every("the empty group and some that are not there", |_| {
        describe(&["", "nowhere", "alive", "nowhere"])
    })?;
    script.every("what may be done", |_| ConsumerGroupDescribeRequest {
        include_authorized_operations: true,
        ..describe(&["idle"])
    })
}

fn regexes(script: &mut Script) -> anyhow::Result<()> {
    let by = |group: &str, regex: &str| ConsumerGroupHeartbeatRequest {
        subscribed_topic_names: None,
        subscribed_topic_regex: Some(regex.to_owned()),
        ..join_848(group, CHOSEN)
    };
    let joined = script.ask("a regular expression", 1, by("matching", "rea."))?;
    // It is looked up beside the heartbeats; a later one hears of it.
    let mut epoch = joined.member_epoch;
    let has_target = |it: &ConsumerGroupDescribeResponse| {
        it.groups[0].members.iter().any(|it| !it.target_assignment.topic_partitions.is_empty())
    };
    for _ in 0..100 {
        epoch = epoch.max(script.quiet(1, beat("matching", CHOSEN, epoch))?.member_epoch);
        if has_target(&script.quiet(1, describe(&["matching"]))?) {
            break;
        }
        script.idle()?;
    }
    script.every("a group that matches", |_| describe(&["matching"]))?;
    script.ask("a regular expression that is none", 1, by("unmatched", "("))?;
    script.ask("an empty regular expression", 1, by("unmatched", ""))?;
    script.ask("a regular expression that matches nothing", 1, by("unmatched", "no-such-.*"))?;
    script.every("a group that matches nothing", |_| describe(&["unmatched"]))
}

fn statics(script: &mut Script) -> anyhow::Result<()> {
    let as_instance = |member: &str, epoch: i32| ConsumerGroupHeartbeatRequest {
        instance_id: Some("instance".to_owned()),
        member_epoch: epoch,
        ..join_848("static-modern", member)
    };
    const NEXT: &str = "AAAAAAAAAAAAAAAAAAAAAg";
    script.name(NEXT, "next id");
    let joined = script.ask("a static member", 1, as_instance(CHOSEN, 0))?;
    script.ask("another of the same instance", 1, as_instance(NEXT, 0))?;
    script.ask(
        "a static member goes for a while",
        1,
        ConsumerGroupHeartbeatRequest {
            instance_id: Some("instance".to_owned()),
            ..beat("static-modern", CHOSEN, -2)
        },
    )?;
    script.every("a group whose static member is away", |_| describe(&["static-modern"]))?;
    script.ask("a static member comes back under another id", 1, as_instance(NEXT, 0))?;
    script.every("a group whose static member is back", |_| describe(&["static-modern"]))?;
    let old = ConsumerGroupHeartbeatRequest {
        instance_id: Some("instance".to_owned()),
        ..beat("static-modern", CHOSEN, joined.member_epoch)
    };
    script.ask("who was replaced", 1, old)?;
    let unknown = ConsumerGroupHeartbeatRequest {
        instance_id: Some("who".to_owned()),
        ..beat("static-modern", NEXT, joined.member_epoch)
    };
    script.ask("an unknown instance", 1, unknown)?;
    Ok(())
}

/// A second member takes its part.
fn two(script: &mut Script, id: TopicId) -> anyhow::Result<()> {
    const SECOND: &str = "AAAAAAAAAAAAAAAAAAAAAw";
    script.name(SECOND, "second id");
    let group = "two";
    let one = script.ask("the first of two", 1, join_848(group, CHOSEN))?;
    let has = |member: &str, epoch: i32, partitions: &[i32]| ConsumerGroupHeartbeatRequest {
        topic_partitions: owned(id, partitions),
        ..beat(group, member, epoch)
    };
    script.ask("the first has both", 1, has(CHOSEN, one.member_epoch, &[0, 1]))?;
    let two = script.ask("the second of two", 1, join_848(group, SECOND))?;
    script.every("while one is to give up", |_| describe(&[group]))?;
    let asked = script.ask("the first is told", 1, has(CHOSEN, one.member_epoch, &[0, 1]))?;
    let kept = asked.assignment.map(|it| it.topic_partitions).unwrap_or_default();
    let kept = kept.first().map(|it| it.partitions.clone()).unwrap_or_default();
    script.ask("the first has given up", 1, has(CHOSEN, asked.member_epoch, &kept))?;
    let other: Vec<i32> = [0, 1].into_iter().filter(|it| !kept.contains(it)).collect();
    let given = script.ask("the second is given", 1, beat(group, SECOND, two.member_epoch))?;
    script.ask("the second has it", 1, has(SECOND, given.member_epoch, &other))?;
    script.every("a group of two", |_| describe(&[group]))?;
    script.ask("the second goes", 1, beat(group, SECOND, -1))?;
    let at = given.member_epoch;
    script.ask("the first is given all", 1, has(CHOSEN, at, &kept))?;
    script.ask(
        "the first wants nothing",
        1,
        ConsumerGroupHeartbeatRequest {
            subscribed_topic_names: Some(vec![]),
            ..has(CHOSEN, at + 1, &[0, 1])
        },
    )?;
    script.every("a group that wants nothing", |_| describe(&[group]))
}

/// The other protocol's questions, and both in one group.
fn beside_classic(script: &mut Script) -> anyhow::Result<()> {
    script.every("a modern group", |_| DescribeGroupsRequest {
        groups: vec!["two".to_owned()],
        ..DescribeGroupsRequest::default()
    })?;
    script.every("all groups, modern ones too", |_| ListGroupsRequest::default())?;
    for kinds in ["consumer", "classic"] {
        script.ask(
            &format!("all {kinds} groups"),
            5,
            ListGroupsRequest {
                types_filter: vec![kinds.to_owned()],
                ..ListGroupsRequest::default()
            },
        )?;
    }
    for state in ["stable", "Assigning", "reconciling", "empty"] {
        script.ask(
            &format!("all groups that are {state}"),
            5,
            ListGroupsRequest {
                states_filter: vec![state.to_owned()],
                ..ListGroupsRequest::default()
            },
        )?;
    }
    script.every("a modern member by the classic heartbeat", |_| HeartbeatRequest {
        group_id: "two".to_owned(),
        generation_id: 1,
        member_id: CHOSEN.to_owned(),
        ..HeartbeatRequest::default()
    })?;
    script
        .every("an unknown member of a modern group", |version| leave(version, "two", &["who"]))?;
    let gone = |group: &str| DeleteGroupsRequest { groups_names: vec![group.to_owned()] };
    script.ask("a modern group with members", 2, gone("two"))?;
    let joined = script.joined(5, join(5, "mixed", ""), "mixed classic member")?;
    script.quiet(3, super::groups::sync(3, "mixed", &joined, &[&joined.member_id]))?;
    script.ask(
        "joins a classic group whose assignment is no consumer's",
        1,
        join_848("mixed", CHOSEN),
    )?;
    script.every("a group with both", |_| describe(&["mixed"]))?;
    script.ask("joins an empty classic group", 1, join_848("classic-9", CHOSEN))?;
    script.every("a group that was classic", |_| describe(&["classic-9"]))?;
    script.begin(0, 2, join(2, "modern-1", ""))?;
    let heard = script.hear::<JoinGroupRequest>(0, 2)?;
    if let Some(AnyResponse::JoinGroup(it)) = &heard {
        script.name(&it.member_id.clone(), "classic member of a modern group");
    }
    script.write::<JoinGroupRequest>("an empty modern group is joined", 2, heard)?;
    Ok(())
}
