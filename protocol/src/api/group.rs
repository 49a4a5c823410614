//! The classic group protocol: join, sync, heartbeat, leave; describe, list and delete groups.
//!
//! The coordinator does not look into metadata and assignments: they are between the members, see
//! `consumer_protocol`. Pure.

use bytes::Bytes;

use crate::wire;

wire! {
    /// Enters a group, or a new generation of it. v4: two steps (KIP-394); v5: static members
    /// (KIP-345); v8: why (KIP-800).
    pub struct JoinGroupRequest {
        /// The group.
        group_id: String;
        /// Without a heartbeat for so long the member is dead, in milliseconds.
        session_timeout_ms: i32;
        /// How long the others may take to rejoin, in milliseconds. -1: the session timeout.
        rebalance_timeout_ms: i32 = -1, in 1.., ignorable;
        /// The member. Empty: not a member yet.
        member_id: String;
        /// The name of a static member (KIP-345). `None`: a dynamic one.
        group_instance_id: Option<String>, in 5..;
        /// What kind of group it is, as `consumer`.
        protocol_type: String;
        /// The protocols that the member supports, favourites first.
        protocols: Vec<JoinGroupRequestProtocol>;
        /// Why, in words for people.
        reason: Option<String>, in 8.., ignorable;
    }

    /// A protocol that the member supports.
    pub struct JoinGroupRequestProtocol {
        /// The assignor.
        name: String;
        /// What the assignor must know of the member.
        metadata: Bytes;
    }

    /// The generation that began; for the leader, with all members. v9: the leader may be told not
    /// to assign (KIP-814).
    pub struct JoinGroupResponse {
        /// How long the client should stay silent because of a quota, in milliseconds.
        throttle_time_ms: i32, in 2.., ignorable;
        /// An error code of the wire; 0: success.
        error_code: i16;
        /// The group's generation. -1: none.
        generation_id: i32 = -1;
        /// What kind of group it is, as `consumer`.
        protocol_type: Option<String>, in 7.., ignorable;
        /// The assignor that was chosen. `None`: none was.
        protocol_name: Option<String> = Some(String::new()), nullable 7..;
        /// The member id of the leader.
        leader: String;
        /// Whether the leader must leave the assignment as it is.
        skip_assignment: bool, in 9..;
        /// The member. Empty: not a member yet.
        member_id: String;
        /// All members, for the leader alone.
        members: Vec<JoinGroupResponseMember>;
    }

    /// A member of the group, for the leader.
    pub struct JoinGroupResponseMember {
        /// The member. Empty: not a member yet.
        member_id: String;
        /// The name of a static member (KIP-345). `None`: a dynamic one.
        group_instance_id: Option<String>, in 5.., ignorable;
        /// What the assignor must know of the member.
        metadata: Bytes;
    }

    /// Brings the assignment from the leader, and asks for one.
    pub struct SyncGroupRequest {
        /// The group.
        group_id: String;
        /// The group's generation. -1: none.
        generation_id: i32;
        /// The member. Empty: not a member yet.
        member_id: String;
        /// The name of a static member (KIP-345). `None`: a dynamic one.
        group_instance_id: Option<String>, in 3..;
        /// What kind of group it is, as `consumer`.
        protocol_type: Option<String>, in 5.., ignorable;
        /// The assignor that was chosen.
        protocol_name: Option<String>, in 5.., ignorable;
        /// The assignments, from the leader alone.
        assignments: Vec<SyncGroupRequestAssignment>;
    }

    /// What the leader gives one member.
    pub struct SyncGroupRequestAssignment {
        /// The member. Empty: not a member yet.
        member_id: String;
        /// The member's assignment.
        assignment: Bytes;
    }

    /// The member's assignment.
    pub struct SyncGroupResponse {
        /// How long the client should stay silent because of a quota, in milliseconds.
        throttle_time_ms: i32, in 1.., ignorable;
        /// An error code of the wire; 0: success.
        error_code: i16;
        /// What kind of group it is, as `consumer`.
        protocol_type: Option<String>, in 5.., ignorable;
        /// The assignor that was chosen.
        protocol_name: Option<String>, in 5.., ignorable;
        /// The member's assignment.
        assignment: Bytes;
    }

    /// Says that the member lives.
    pub struct HeartbeatRequest {
        /// The group.
        group_id: String;
        /// The group's generation. -1: none.
        generation_id: i32;
        /// The member. Empty: not a member yet.
        member_id: String;
        /// The name of a static member (KIP-345). `None`: a dynamic one.
        group_instance_id: Option<String>, in 3..;
    }

    /// Says whether the member must rejoin.
    pub struct HeartbeatResponse {
        /// How long the client should stay silent because of a quota, in milliseconds.
        throttle_time_ms: i32, in 1.., ignorable;
        /// An error code of the wire; 0: success.
        error_code: i16;
    }

    /// Takes members out of a group. v3: many at once (KIP-345).
    pub struct LeaveGroupRequest {
        /// The group.
        group_id: String;
        /// The member that leaves, up to version 2.
        member_id: String, in ..=2;
        /// The members that leave.
        members: Vec<MemberIdentity>, in 3..;
    }

    /// A member that leaves.
    pub struct MemberIdentity {
        /// The member. Empty: not a member yet.
        member_id: String;
        /// The name of a static member (KIP-345). `None`: a dynamic one.
        group_instance_id: Option<String>;
        /// Why, in words for people.
        reason: Option<String>, in 5.., ignorable;
    }

    /// Which members left.
    pub struct LeaveGroupResponse {
        /// How long the client should stay silent because of a quota, in milliseconds.
        throttle_time_ms: i32, in 1.., ignorable;
        /// An error code of the wire; 0: success.
        error_code: i16;
        /// What became of each.
        members: Vec<MemberResponse>, in 3..;
    }

    /// Whether one member left.
    pub struct MemberResponse {
        /// The member. Empty: not a member yet.
        member_id: String;
        /// The name of a static member (KIP-345). `None`: a dynamic one.
        group_instance_id: Option<String> = Some(String::new());
        /// An error code of the wire; 0: success.
        error_code: i16;
    }

    /// Asks about groups.
    pub struct DescribeGroupsRequest {
        /// The groups to ask about.
        groups: Vec<String>;
        /// Whether to say what the caller may do.
        include_authorized_operations: bool, in 3..;
    }

    /// The groups.
    pub struct DescribeGroupsResponse {
        /// How long the client should stay silent because of a quota, in milliseconds.
        throttle_time_ms: i32, in 1.., ignorable;
        /// The groups.
        groups: Vec<DescribedGroup>;
    }

    /// A group.
    pub struct DescribedGroup {
        /// An error code of the wire; 0: success.
        error_code: i16;
        /// The error in words for people. `None`: none, or none needed.
        error_message: Option<String>, in 6..;
        /// The group.
        group_id: String;
        /// The group's state, as `Stable` or `Empty`.
        group_state: String;
        /// What kind of group it is, as `consumer`.
        protocol_type: String;
        /// The assignor that was chosen; empty: none.
        protocol_data: String;
        /// The members.
        members: Vec<DescribedGroupMember>;
        /// What the caller may do with the group, as a bit set. `i32::MIN`: not asked for.
        authorized_operations: i32 = i32::MIN, in 3..;
    }

    /// A member of a group.
    pub struct DescribedGroupMember {
        /// The member. Empty: not a member yet.
        member_id: String;
        /// The name of a static member (KIP-345). `None`: a dynamic one.
        group_instance_id: Option<String>, in 4.., ignorable;
        /// What the member calls itself.
        client_id: String;
        /// The member's address.
        client_host: String;
        /// What it told the others.
        member_metadata: Bytes;
        /// What it was assigned.
        member_assignment: Bytes;
    }

    /// Asks for all groups of a coordinator. v4: by state (KIP-518); v5: by type (KIP-848).
    pub struct ListGroupsRequest {
        /// Only groups in these states; empty: all.
        states_filter: Vec<String>, in 4..;
        /// Only groups of these types; empty: all.
        types_filter: Vec<String>, in 5..;
    }

    /// The groups of this coordinator.
    pub struct ListGroupsResponse {
        /// How long the client should stay silent because of a quota, in milliseconds.
        throttle_time_ms: i32, in 1.., ignorable;
        /// An error code of the wire; 0: success.
        error_code: i16;
        /// The groups.
        groups: Vec<ListedGroup>;
    }

    /// A group.
    pub struct ListedGroup {
        /// The group.
        group_id: String;
        /// What kind of group it is, as `consumer`.
        protocol_type: String;
        /// The group's state, as `Stable` or `Empty`.
        group_state: String, in 4.., ignorable;
        /// The group's type, as `classic` or `consumer`.
        group_type: String, in 5.., ignorable;
    }

    /// Deletes empty groups and their offsets. KIP-229.
    pub struct DeleteGroupsRequest {
        /// The groups.
        groups_names: Vec<String>;
    }

    /// Which groups were deleted.
    pub struct DeleteGroupsResponse {
        /// How long the client should stay silent because of a quota, in milliseconds.
        throttle_time_ms: i32;
        /// What became of each group.
        results: Vec<DeletableGroupResult>;
    }

    /// Whether one group was deleted.
    pub struct DeletableGroupResult {
        /// The group.
        group_id: String;
        /// An error code of the wire; 0: success.
        error_code: i16;
    }
}
