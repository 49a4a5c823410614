//! JoinGroup, SyncGroup, Heartbeat, LeaveGroup, DescribeGroups, ListGroups, DeleteGroups: the
//! membership half of the group coordinator's APIs. Shell.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use protocol::api::group::{
    DeletableGroupResult, DeleteGroupsRequest, DeleteGroupsResponse, DescribeGroupsRequest,
    DescribeGroupsResponse, DescribedGroup, DescribedGroupMember, HeartbeatRequest,
    HeartbeatResponse, JoinGroupRequest, JoinGroupResponse, JoinGroupResponseMember,
    LeaveGroupRequest, LeaveGroupResponse, ListGroupsRequest, ListGroupsResponse, ListedGroup,
    MemberIdentity, MemberResponse, SyncGroupRequest, SyncGroupResponse,
};
use protocol::error_code::ErrorCode;
use protocol::ids::GenerationId;

use super::cluster::GROUP_OPERATIONS;
use super::serving::Context;
use crate::group::{
    Description, Groups, Join, Joined, Leave, Membership, Reply, Request, Sync, Synced,
};

/// The first version that makes a new member ask for an id and come again. KIP-394.
const JOIN_REQUIRES_MEMBER_ID: i16 = 4;
/// The first version that can tell a leader to keep the assignment. KIP-814.
const JOIN_CAN_SKIP_ASSIGNMENT: i16 = 9;
/// The first version that can name no protocol.
const JOIN_NULLABLE_PROTOCOL: i16 = 7;
/// The first version of SyncGroup that must say which protocol the member speaks. KIP-559.
const SYNC_NAMES_PROTOCOL: i16 = 5;
/// The first version that names several members.
const LEAVE_SEVERAL: i16 = 3;

fn millis(ms: i32) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}

fn named(id: Option<String>) -> Option<Arc<str>> {
    id.map(Into::into)
}

fn text(text: &Option<Arc<str>>) -> Option<String> {
    text.as_deref().map(Into::into)
}

/// JoinGroup. Answered when the round closes.
pub(crate) async fn join(
    groups: &Groups,
    context: Context,
    request: JoinGroupRequest,
) -> JoinGroupResponse {
    let session_timeout = millis(request.session_timeout_ms);
    let rebalance = request.rebalance_timeout_ms;
    let group: Arc<str> = request.group_id.into();
    let member_id: Arc<str> = request.member_id.into();
    let join = Join {
        group: Arc::clone(&group),
        member_id: Arc::clone(&member_id),
        instance_id: named(request.group_instance_id),
        client_id: context.client_id.clone().unwrap_or_default(),
        client_host: format!("/{}", context.session.host()).into(),
        session_timeout,
        rebalance_timeout: if rebalance < 0 { session_timeout } else { millis(rebalance) },
        protocol_type: request.protocol_type.into(),
        protocols: request.protocols.into_iter().map(|it| (it.name.into(), it.metadata)).collect(),
        requires_member_id: JOIN_REQUIRES_MEMBER_ID <= context.version,
        can_skip_assignment: JOIN_CAN_SKIP_ASSIGNMENT <= context.version,
    };
    let refused =
        |error| Joined { error, generation: GenerationId(-1), member_id, ..Joined::default() };
    let joined = match groups.call(&group, Request::Join(join)).await {
        Ok(Reply::Joined(joined)) => *joined,
        Ok(other) => unreachable!("a join is answered as one: {other:?}"),
        Err(error) => refused(error.code()),
    };
    let member = |(id, instance, metadata): (Arc<str>, Option<Arc<str>>, bytes::Bytes)| {
        JoinGroupResponseMember {
            member_id: id.to_string(),
            group_instance_id: text(&instance),
            metadata,
        }
    };
    let nothing = (context.version < JOIN_NULLABLE_PROTOCOL).then(String::new);
    JoinGroupResponse {
        throttle_time_ms: 0,
        error_code: joined.error.to_wire(),
        // A refusal is of no generation.
        generation_id: if joined.error.is_ok() { joined.generation } else { GenerationId(-1) }.0,
        protocol_type: text(&joined.protocol_type),
        protocol_name: text(&joined.protocol).or(nothing),
        leader: joined.leader.to_string(),
        skip_assignment: joined.skip_assignment,
        member_id: joined.member_id.to_string(),
        members: joined.members.into_iter().map(member).collect(),
    }
}

/// SyncGroup. Answered when the leader has assigned.
pub(crate) async fn sync(
    groups: &Groups,
    version: i16,
    request: SyncGroupRequest,
) -> SyncGroupResponse {
    let names_protocol = request.protocol_type.is_some() && request.protocol_name.is_some();
    if SYNC_NAMES_PROTOCOL <= version && !names_protocol {
        let error_code = ErrorCode::InconsistentGroupProtocol.to_wire();
        return SyncGroupResponse { error_code, ..SyncGroupResponse::default() };
    }
    let group: Arc<str> = request.group_id.into();
    let sync = Sync {
        member: Membership {
            group: Arc::clone(&group),
            generation: GenerationId(request.generation_id),
            member_id: request.member_id.into(),
            instance_id: named(request.group_instance_id),
        },
        protocol_type: named(request.protocol_type),
        protocol: named(request.protocol_name),
        assignments: request
            .assignments
            .into_iter()
            .map(|it| (it.member_id.into(), it.assignment))
            .collect(),
    };
    let synced = match groups.call(&group, Request::Sync(sync)).await {
        Ok(Reply::Synced(synced)) => synced,
        Ok(other) => unreachable!("a sync is answered as one: {other:?}"),
        Err(error) => Synced { error: error.code(), ..Synced::default() },
    };
    SyncGroupResponse {
        throttle_time_ms: 0,
        error_code: synced.error.to_wire(),
        protocol_type: text(&synced.protocol_type),
        protocol_name: text(&synced.protocol),
        assignment: synced.assignment,
    }
}

/// Heartbeat.
pub(crate) async fn heartbeat(groups: &Groups, request: HeartbeatRequest) -> HeartbeatResponse {
    let group: Arc<str> = request.group_id.into();
    let from = Membership {
        group: Arc::clone(&group),
        generation: GenerationId(request.generation_id),
        member_id: request.member_id.into(),
        instance_id: named(request.group_instance_id),
    };
    let code = match groups.call(&group, Request::Heartbeat(from)).await {
        Ok(Reply::Heartbeat(code)) => code,
        Ok(other) => unreachable!("a heartbeat is answered as one: {other:?}"),
        Err(error) => error.code(),
    };
    HeartbeatResponse { throttle_time_ms: 0, error_code: code.to_wire() }
}

/// LeaveGroup.
pub(crate) async fn leave(
    groups: &Groups,
    version: i16,
    request: LeaveGroupRequest,
) -> LeaveGroupResponse {
    if request.group_id.is_empty() {
        let error_code = ErrorCode::InvalidGroupId.to_wire();
        return LeaveGroupResponse { error_code, ..LeaveGroupResponse::default() };
    }
    let group: Arc<str> = request.group_id.into();
    let alone = MemberIdentity { member_id: request.member_id, ..MemberIdentity::default() };
    let several = LEAVE_SEVERAL <= version;
    let members = if several { request.members } else { vec![alone] };
    let name = |it: &MemberIdentity| {
        (Arc::from(it.member_id.as_str()), it.group_instance_id.as_deref().map(Arc::from))
    };
    let leave = Leave { group: Arc::clone(&group), members: members.iter().map(name).collect() };
    let codes = match groups.call(&group, Request::Leave(leave)).await {
        Ok(Reply::Left(codes)) => codes,
        Ok(other) => unreachable!("a leave is answered as one: {other:?}"),
        Err(error) => {
            let error_code = error.code().to_wire();
            return LeaveGroupResponse { error_code, ..LeaveGroupResponse::default() };
        }
    };
    let response = |(member, code): (MemberIdentity, &ErrorCode)| MemberResponse {
        member_id: member.member_id,
        group_instance_id: member.group_instance_id,
        error_code: code.to_wire(),
    };
    let alone = codes.first().copied().filter(|_| !several).unwrap_or_default();
    LeaveGroupResponse {
        throttle_time_ms: 0,
        error_code: alone.to_wire(),
        members: if several {
            members.into_iter().zip(&codes).map(response).collect()
        } else {
            vec![]
        },
    }
}

/// DescribeGroups.
pub(crate) async fn describe(
    groups: &Groups,
    version: i16,
    request: DescribeGroupsRequest,
) -> DescribeGroupsResponse {
    let asks = request.include_authorized_operations;
    let authorized_operations = if asks { GROUP_OPERATIONS } else { i32::MIN };
    let mut described = Vec::new();
    for group_id in request.groups {
        let group: Arc<str> = group_id.as_str().into();
        let found = match groups.call(&group, Request::Describe(Arc::clone(&group))).await {
            Ok(Reply::Described(description)) => *description,
            Ok(other) => unreachable!("a description is answered as one: {other:?}"),
            Err(error) => Description::refused(error.code()),
        };
        let found = described_group(group_id, found, version);
        // Of a group that is told not to exist nothing else is told.
        let is_told = found.error_code == ErrorCode::None.to_wire();
        let authorized_operations = if is_told { authorized_operations } else { i32::MIN };
        described.push(DescribedGroup { authorized_operations, ..found });
    }
    DescribeGroupsResponse { throttle_time_ms: 0, groups: described }
}

/// The state of a classic group in which all have their assignments.
const STABLE: &str = "Stable";
/// The first version that reports a group which does not exist as an error; before, it is "Dead".
const DESCRIBE_NOT_FOUND: i16 = 6;

fn described_group(group_id: String, found: Description, version: i16) -> DescribedGroup {
    let is_unknown = found.error == ErrorCode::GroupIdNotFound;
    let tells = !is_unknown || DESCRIBE_NOT_FOUND <= version;
    // Before a round is over nobody knows which of a member's protocols will count.
    let is_agreed = found.state == STABLE;
    let member = |it: crate::group::DescribedMember| DescribedGroupMember {
        member_id: it.member_id.to_string(),
        group_instance_id: text(&it.instance_id),
        client_id: it.client_id.to_string(),
        client_host: it.client_host.to_string(),
        member_metadata: if is_agreed { it.subscription } else { bytes::Bytes::new() },
        member_assignment: it.assignment,
    };
    DescribedGroup {
        error_code: if tells { found.error.to_wire() } else { ErrorCode::None.to_wire() },
        error_message: (is_unknown && tells).then(|| format!("there is no group {group_id}")),
        group_id,
        group_state: found.state.to_owned(),
        protocol_type: found.protocol_type.to_string(),
        protocol_data: if is_agreed { found.protocol.to_string() } else { String::new() },
        members: found.members.into_iter().map(member).collect(),
        ..DescribedGroup::default()
    }
}

/// ListGroups.
pub(crate) async fn list(groups: &Groups, request: ListGroupsRequest) -> ListGroupsResponse {
    let wanted = |filter: &[String], value: &str| {
        filter.is_empty() || filter.iter().any(|it| it.eq_ignore_ascii_case(value))
    };
    let mut listed = Vec::new();
    for reply in groups.call_all(|| Request::List).await {
        let Reply::Listed(shard) = reply else { unreachable!("a listing is answered as one") };
        let kept = shard.into_iter().filter(|it| {
            wanted(&request.states_filter, it.state)
                && wanted(&request.types_filter, it.kind.name())
        });
        listed.extend(kept.map(|it| ListedGroup {
            group_id: it.group.to_string(),
            protocol_type: it.protocol_type.to_string(),
            group_state: it.state.to_owned(),
            group_type: it.kind.name().to_owned(),
        }));
    }
    ListGroupsResponse { throttle_time_ms: 0, error_code: 0, groups: listed }
}

/// DeleteGroups.
pub(crate) async fn delete(groups: &Groups, request: DeleteGroupsRequest) -> DeleteGroupsResponse {
    let mut results = Vec::new();
    let mut seen = BTreeSet::new();
    for group_id in request.groups_names {
        if !seen.insert(group_id.clone()) {
            continue;
        }
        let group: Arc<str> = group_id.as_str().into();
        let code = match groups.call(&group, Request::Delete(Arc::clone(&group))).await {
            Ok(Reply::Deleted(code)) => code,
            Ok(other) => unreachable!("a deletion is answered as one: {other:?}"),
            Err(error) => error.code(),
        };
        results.push(DeletableGroupResult { group_id, error_code: code.to_wire() });
    }
    DeleteGroupsResponse { throttle_time_ms: 0, results }
}
