//! Classic groups: found, joined, kept, left, described, deleted.
//!
//! Shell.

use bytes::Bytes;
use protocol::api::find_coordinator::FindCoordinatorRequest;
use protocol::api::group::{
    DeleteGroupsRequest, DescribeGroupsRequest, HeartbeatRequest, JoinGroupRequest,
    JoinGroupRequestProtocol, JoinGroupResponse, LeaveGroupRequest, ListGroupsRequest,
    MemberIdentity, SyncGroupRequest, SyncGroupRequestAssignment,
};
use protocol::api::group_offsets::OffsetFetchRequest;
use protocol::api::producer_id::InitProducerIdRequest;
use protocol::consumer_protocol::{ConsumerProtocolSubscription, encode};

use crate::answers::script::{Script, from};

fn subscription(topics: &[&str]) -> Bytes {
    let topics = topics.iter().map(|it| (*it).to_owned()).collect();
    let subscription = ConsumerProtocolSubscription { topics, ..Default::default() };
    encode(1, &subscription).expect("a subscription fits")
}

pub(in crate::answers) fn join(version: i16, group: &str, member: &str) -> JoinGroupRequest {
    JoinGroupRequest {
        group_id: group.to_owned(),
        session_timeout_ms: 30_000,
        rebalance_timeout_ms: if version == 0 { -1 } else { 30_000 },
        member_id: member.to_owned(),
        protocol_type: "consumer".to_owned(),
        protocols: vec![JoinGroupRequestProtocol {
            name: "range".to_owned(),
            metadata: subscription(&["read"]),
        }],
        ..JoinGroupRequest::default()
    }
}

pub(in crate::answers) fn sync(
    version: i16,
    group: &str,
    joined: &JoinGroupResponse,
    assignments: &[&str],
) -> SyncGroupRequest {
    let of_five = |text: &str| (version >= 5).then(|| text.to_owned());
    SyncGroupRequest {
        group_id: group.to_owned(),
        generation_id: joined.generation_id,
        member_id: joined.member_id.clone(),
        protocol_type: of_five("consumer"),
        protocol_name: of_five("range"),
        assignments: assignments
            .iter()
            .map(|member| SyncGroupRequestAssignment {
                member_id: (*member).to_owned(),
                assignment: Bytes::from_static(b"all of it"),
            })
            .collect(),
        ..SyncGroupRequest::default()
    }
}

fn beat(group: &str, generation_id: i32, member: &str) -> HeartbeatRequest {
    HeartbeatRequest {
        group_id: group.to_owned(),
        generation_id,
        member_id: member.to_owned(),
        ..HeartbeatRequest::default()
    }
}

pub(in crate::answers) fn leave(version: i16, group: &str, members: &[&str]) -> LeaveGroupRequest {
    let identity =
        |it: &&str| MemberIdentity { member_id: (*it).to_owned(), ..MemberIdentity::default() };
    LeaveGroupRequest {
        group_id: group.to_owned(),
        member_id: if version <= 2 {
            members.first().unwrap_or(&"").to_string()
        } else {
            String::new()
        },
        members: if version <= 2 { Vec::new() } else { members.iter().map(identity).collect() },
    }
}

fn describe(groups: &[&str]) -> DescribeGroupsRequest {
    DescribeGroupsRequest {
        groups: groups.iter().map(|it| (*it).to_owned()).collect(),
        ..DescribeGroupsRequest::default()
    }
}

impl Script {
    /// Joins a classic group alone, and names the member.
    pub(in crate::answers) fn joined(
        &mut self,
        version: i16,
        request: JoinGroupRequest,
        name: &str,
    ) -> anyhow::Result<JoinGroupResponse> {
        let mut request = request;
        let mut joined = self.quiet(version, request.clone())?;
        if joined.error_code == 79 {
            request.member_id.clone_from(&joined.member_id);
            joined = self.quiet(version, request)?;
        }
        self.name(&joined.member_id.clone(), name);
        Ok(joined)
    }
}

/// Who coordinates what. The first questions make the topics that coordinators need.
pub(in crate::answers) fn finding(script: &mut Script) -> anyhow::Result<()> {
    let find = |version: i16, kind: i8, keys: &[&str]| FindCoordinatorRequest {
        key: if version <= 3 { keys.first().unwrap_or(&"").to_string() } else { String::new() },
        key_type: kind,
        coordinator_keys: if version <= 3 {
            Vec::new()
        } else {
            keys.iter().map(|it| (*it).to_owned()).collect()
        },
    };
    script.settle(4, find(4, 0, &["group"]), |it| {
        it.coordinators.iter().all(|it| it.error_code == 0)
    })?;
    script.settle(4, find(4, 1, &["txn"]), |it| {
        it.coordinators.iter().all(|it| it.error_code == 0)
    })?;
    script.every("a group", |version| find(version, 0, &["group"]))?;
    script.some("a transaction", from::<FindCoordinatorRequest>(1), |version| {
        find(version, 1, &["txn"])
    })?;
    script.some("several groups", from::<FindCoordinatorRequest>(4), |version| {
        find(version, 0, &["b", "a", "b"])
    })?;
    script.some("nothing", from::<FindCoordinatorRequest>(4), |version| find(version, 0, &[]))?;
    script.every("the empty name", |version| find(version, 0, &[""]))?;
    script.some("the empty transaction", from::<FindCoordinatorRequest>(1), |version| {
        find(version, 1, &[""])
    })?;
    for kind in [2, 3, -1] {
        script.some(
            &format!("a key of type {kind}"),
            from::<FindCoordinatorRequest>(1),
            |version| find(version, kind, &["a"]),
        )?;
    }
    // Every shard that the script needs has loaded before it is asked.
    for n in 0..40 {
        let group = format!("warm-{n}");
        let fetch =
            OffsetFetchRequest { group_id: group, topics: None, ..OffsetFetchRequest::default() };
        script.settle(5, fetch, |it| it.error_code == 0)?;
        let init = InitProducerIdRequest {
            transactional_id: Some(format!("warm-{n}")),
            transaction_timeout_ms: 60_000,
            ..InitProducerIdRequest::default()
        };
        script.settle(4, init, |it| it.error_code == 0)?;
    }
    Ok(())
}

pub(in crate::answers) fn classic(script: &mut Script) -> anyhow::Result<()> {
    for version in from::<JoinGroupRequest>(0) {
        let group = format!("classic-{version}");
        let first = script.begin_join(version, &join(version, &group, ""), "member A")?;
        script.write::<JoinGroupRequest>("a new member", version, Some(first.clone().into()))?;
        let mut joined = first;
        if joined.error_code == 79 {
            let again = JoinGroupRequest {
                reason: (version >= 8).then(|| "because".to_owned()),
                ..join(version, &group, &joined.member_id)
            };
            joined = script.ask("a new member with its id", version, again)?;
        }
        script.every(&format!("a heartbeat before the assignment, {version}"), |_| {
            beat(&group, joined.generation_id, &joined.member_id)
        })?;
        script.ask("a group without its assignment", 6, describe(&[&group]))?;
        let version = version.min(5);
        let assigned = sync(version, &group, &joined, &[&joined.member_id]);
        script.ask("the leader's assignment", version, assigned.clone())?;
        script.ask("the assignment again", version, assigned)?;
        script.ask("a group in peace", 6, describe(&[&group]))?;
        let version = version.min(4);
        script.ask(
            "a heartbeat",
            version,
            beat(&group, joined.generation_id, &joined.member_id),
        )?;
        script.ask("the member leaves", version, leave(version, &group, &[&joined.member_id]))?;
        script.ask(
            "a heartbeat of one who left",
            version,
            beat(&group, joined.generation_id, &joined.member_id),
        )?;
        script.ask("a group without members", 6, describe(&[&group]))?;
    }
    errors(script)?;
    statics(script)?;
    pairs(script)?;
    operators(script)
}

impl Script {
    /// Joins, and names the member before anything is written down.
    fn begin_join(
        &mut self,
        version: i16,
        request: &JoinGroupRequest,
        name: &str,
    ) -> anyhow::Result<JoinGroupResponse> {
        let joined = self.quiet(version, request.clone())?;
        self.name(&joined.member_id.clone(), name);
        Ok(joined)
    }
}

fn errors(script: &mut Script) -> anyhow::Result<()> {
    for (what, wrong) in [
        ("the empty group", join(5, "", "")),
        (
            "a session that is too short",
            JoinGroupRequest { session_timeout_ms: 10, ..join(5, "wrong", "") },
        ),
        (
            "a session that is too long",
            JoinGroupRequest { session_timeout_ms: 9_000_000, ..join(5, "wrong", "") },
        ),
        ("no protocols", JoinGroupRequest { protocols: vec![], ..join(5, "wrong", "") }),
        (
            "no type of protocol",
            JoinGroupRequest { protocol_type: String::new(), ..join(5, "wrong", "") },
        ),
        ("an unknown member", join(5, "wrong", "who")),
    ] {
        script.every(what, |version| JoinGroupRequest {
            rebalance_timeout_ms: if version == 0 { -1 } else { 30_000 },
            ..wrong.clone()
        })?;
    }
    let joined = script.joined(5, join(5, "errors", ""), "member of errors")?;
    let member = joined.member_id.clone();
    script.quiet(3, sync(3, "errors", &joined, &[&member]))?;
    let other = JoinGroupRequest { protocol_type: "connect".to_owned(), ..join(5, "errors", "") };
    script.every("another type of protocol", |version| JoinGroupRequest {
        rebalance_timeout_ms: if version == 0 { -1 } else { 30_000 },
        ..other.clone()
    })?;
    let other = vec![JoinGroupRequestProtocol { name: "other".to_owned(), metadata: Bytes::new() }];
    script.every("no protocol in common", |version| JoinGroupRequest {
        protocols: other.clone(),
        ..join(version, "errors", "")
    })?;
    script.every("an unknown member of a group", |version| join(version, "errors", "who"))?;
    for (what, group, generation, id) in [
        ("a group that is not there", "absent", 1, member.as_str()),
        ("the empty group", "", 1, &member),
        ("an unknown member", "errors", joined.generation_id, "who"),
        ("no member", "errors", joined.generation_id, ""),
        ("a generation that was", "errors", joined.generation_id - 1, &member),
        ("a generation to come", "errors", joined.generation_id + 1, &member),
    ] {
        script.every(what, |_| beat(group, generation, id))?;
        script.every(what, |version| SyncGroupRequest {
            group_id: group.to_owned(),
            generation_id: generation,
            member_id: id.to_owned(),
            ..sync(version, group, &joined, &[])
        })?;
    }
    script.some("another type of protocol", 5..=5, |version| SyncGroupRequest {
        protocol_type: Some("connect".to_owned()),
        ..sync(version, "errors", &joined, &[])
    })?;
    script.some("another protocol", 5..=5, |version| SyncGroupRequest {
        protocol_name: Some("other".to_owned()),
        ..sync(version, "errors", &joined, &[])
    })?;
    script.some("no protocol", 5..=5, |version| SyncGroupRequest {
        protocol_name: None,
        protocol_type: None,
        ..sync(version, "errors", &joined, &[])
    })?;
    script.every("a group that is not there", |version| leave(version, "absent", &["who"]))?;
    script.every("the empty group", |version| leave(version, "", &["who"]))?;
    script.every("an unknown member", |version| leave(version, "errors", &["who"]))?;
    script.every("no member", |version| leave(version, "errors", &[]))?;
    script.some("a member and one that is unknown", 5..=5, |version| {
        leave(version, "errors", &["who", &member, &member])
    })
}

fn statics(script: &mut Script) -> anyhow::Result<()> {
    let as_instance = |version: i16, member: &str| JoinGroupRequest {
        group_instance_id: Some("instance".to_owned()),
        ..join(version, "static", member)
    };
    let joined = script.begin_join(5, &as_instance(5, ""), "static member A")?;
    script.write::<JoinGroupRequest>("a static member", 5, Some(joined.clone().into()))?;
    let with_instance =
        |version: i16, joined: &JoinGroupResponse, assigned: &[&str]| SyncGroupRequest {
            group_instance_id: Some("instance".to_owned()),
            ..sync(version, "static", joined, assigned)
        };
    script.ask(
        "a static leader's assignment",
        5,
        with_instance(5, &joined, &[&joined.member_id]),
    )?;
    script.ask("a group with a static member", 6, describe(&["static"]))?;
    let mut last = joined.clone();
    for version in from::<JoinGroupRequest>(6) {
        let name = format!("static member {version}");
        let again = script.begin_join(version, &as_instance(version, ""), &name)?;
        script.write::<JoinGroupRequest>(
            "a static member comes back",
            version,
            Some(again.clone().into()),
        )?;
        let fenced = as_instance(version, &last.member_id);
        script.ask("who was fenced joins", version, fenced)?;
        script.ask("who was fenced syncs", 5, with_instance(5, &last, &[]))?;
        script.ask("who is there syncs", 5, with_instance(5, &again, &[&again.member_id]))?;
        let beat = |member: &str| HeartbeatRequest {
            group_instance_id: Some("instance".to_owned()),
            ..beat("static", again.generation_id, member)
        };
        script.some("who was fenced", 3..=4, |_| beat(&last.member_id))?;
        script.some("who is there", 3..=4, |_| beat(&again.member_id))?;
        script.some("an unknown instance", 3..=4, |_| HeartbeatRequest {
            group_instance_id: Some("who".to_owned()),
            ..beat(&again.member_id)
        })?;
        last = again;
    }
    let by_instance = |member: &str, instance: &str| LeaveGroupRequest {
        group_id: "static".to_owned(),
        members: vec![MemberIdentity {
            member_id: member.to_owned(),
            group_instance_id: Some(instance.to_owned()),
            reason: None,
        }],
        ..LeaveGroupRequest::default()
    };
    script.some("an unknown instance", 3..=5, |_| by_instance("", "who"))?;
    script.some("an instance under another id", 3..=5, |_| by_instance("who", "instance"))?;
    script.some("an instance", 3..=5, |_| by_instance("", "instance"))?;
    script.ask("a group whose static member was put out", 6, describe(&["static"]))?;
    Ok(())
}

/// Two members in one group.
fn pairs(script: &mut Script) -> anyhow::Result<()> {
    for version in [2, 5, 9] {
        let group = format!("pair-{version}");
        let one = script.joined(version, join(version, &group, ""), "member 1")?;
        script.quiet(3, sync(3, &group, &one, &[&one.member_id]))?;
        let mut second = join(version, &group, "");
        if version >= 4 {
            let told = script.begin_join(version, &second, "member 2")?;
            script.write::<JoinGroupRequest>(
                "the second member",
                version,
                Some(told.clone().into()),
            )?;
            second.member_id = told.member_id;
        }
        script.begin(1, version, second)?;
        let beat = beat(&group, one.generation_id, &one.member_id);
        script.until("a heartbeat while the second joins", 4, beat, |it| it.error_code == 27)?;
        let described = script.quiet(6, describe(&[&group]))?;
        for member in &described.groups[0].members {
            if member.member_id != one.member_id {
                script.name(&member.member_id, "member 2");
            }
        }
        script.ask("a group that is being balanced", 6, describe(&[&group]))?;
        script.begin(0, version, join(version, &group, &one.member_id))?;
        let heard = script.hear::<JoinGroupRequest>(1, version)?;
        if let Some(protocol::api::AnyResponse::JoinGroup(two)) = &heard {
            script.name(&two.member_id.clone(), "member 2");
        }
        let one = script.end::<JoinGroupRequest>(0, "the first joins again", version)?;
        let two = script.write::<JoinGroupRequest>("the second has joined", version, heard)?;
        script.begin(1, 3, sync(3, &group, &two, &[]))?;
        script.ask(
            "the leader syncs",
            3,
            sync(3, &group, &one, &[&one.member_id, &two.member_id]),
        )?;
        script.end::<SyncGroupRequest>(1, "the second is given its part", 3)?;
        script.until("a group of two", 6, describe(&[&group]), |it| {
            it.groups[0].group_state == "Stable"
        })?;
        script.ask("the second leaves", 3, leave(3, &group, &[&two.member_id]))?;
        script.ask(
            "the first hears of it",
            4,
            HeartbeatRequest {
                group_id: group.clone(),
                generation_id: one.generation_id,
                member_id: one.member_id.clone(),
                ..HeartbeatRequest::default()
            },
        )?;
        script.ask("the first leaves", 3, leave(3, &group, &[&one.member_id]))?;
    }
    Ok(())
}

/// What operators ask of groups.
fn operators(script: &mut Script) -> anyhow::Result<()> {
    let joined = script.joined(5, join(5, "alive", ""), "member of alive")?;
    script.quiet(3, sync(3, "alive", &joined, &[&joined.member_id]))?;
    script
        .every("groups of all kinds", |_| describe(&["alive", "absent", "classic-5", "alive"]))?;
    script.some("what may be done", 3..=6, |_| DescribeGroupsRequest {
        include_authorized_operations: true,
        ..describe(&["alive", "absent"])
    })?;
    script.every("no groups", |_| describe(&[]))?;
    script.every("the empty group", |_| describe(&[""]))?;
    script.every("all groups", |_| ListGroupsRequest::default())?;
    for states in
        [&["Stable"][..], &["Empty"], &["stable"], &["Dead"], &["Sleeping"], &["Empty", "Stable"]]
    {
        script.some(&format!("groups in {}", states.join(" or ")), 4..=5, |_| {
            ListGroupsRequest {
                states_filter: states.iter().map(|it| (*it).to_owned()).collect(),
                ..ListGroupsRequest::default()
            }
        })?;
    }
    for kinds in [&["classic"][..], &["Classic"], &["consumer"], &["share"], &["other"]] {
        script.ask(
            &format!("groups of type {}", kinds.join(" or ")),
            5,
            ListGroupsRequest {
                types_filter: kinds.iter().map(|it| (*it).to_owned()).collect(),
                ..ListGroupsRequest::default()
            },
        )?;
    }
    let delete = |groups: &[&str]| DeleteGroupsRequest {
        groups_names: groups.iter().map(|it| (*it).to_owned()).collect(),
    };
    script.every("a group with members, and one that is not there", |_| {
        delete(&["alive", "absent"])
    })?;
    script.every("no groups", |_| delete(&[]))?;
    script.every("the empty group", |_| delete(&[""]))?;
    for version in from::<DeleteGroupsRequest>(0) {
        let group = format!("classic-{version}");
        script.ask("an empty group", version, delete(&[&group]))?;
        script.ask("a group that is gone", version, delete(&[&group]))?;
    }
    script.every("an empty group twice", |version| {
        delete(&[&format!("classic-{}", version + 3), &format!("classic-{}", version + 3)])
    })
}
