//! x. Pure.

use bytes::Bytes;

use crate::wire;

wire! {
    /// JoinGroupRequest.
    pub struct JoinGroupRequest {
        /// GroupId.
        group_id: String;
        /// SessionTimeoutMs.
        session_timeout_ms: i32;
        /// RebalanceTimeoutMs.
        rebalance_timeout_ms: i32 = -1, in 1.., ignorable;
        /// MemberId.
        member_id: String;
        /// GroupInstanceId.
        group_instance_id: Option<String>, in 5..;
        /// ProtocolType.
        protocol_type: String;
        /// Protocols.
        protocols: Vec<JoinGroupRequestProtocol>;
        /// Reason.
        reason: Option<String>, in 8.., ignorable;
    }

    /// JoinGroupRequestProtocol.
    pub struct JoinGroupRequestProtocol {
        /// Name.
        name: String;
        /// Metadata.
        metadata: Bytes;
    }

    /// JoinGroupResponse.
    pub struct JoinGroupResponse {
        /// ThrottleTimeMs.
        throttle_time_ms: i32, in 2.., ignorable;
        /// ErrorCode.
        error_code: i16;
        /// GenerationId.
        generation_id: i32 = -1;
        /// ProtocolType.
        protocol_type: Option<String>, in 7.., ignorable;
        /// ProtocolName.
        protocol_name: Option<String> = Some(String::new()), nullable 7..;
        /// Leader.
        leader: String;
        /// SkipAssignment.
        skip_assignment: bool, in 9..;
        /// MemberId.
        member_id: String;
        /// Members.
        members: Vec<JoinGroupResponseMember>;
    }

    /// JoinGroupResponseMember.
    pub struct JoinGroupResponseMember {
        /// MemberId.
        member_id: String;
        /// GroupInstanceId.
        group_instance_id: Option<String>, in 5.., ignorable;
        /// Metadata.
        metadata: Bytes;
    }

    /// SyncGroupRequest.
    pub struct SyncGroupRequest {
        /// GroupId.
        group_id: String;
        /// GenerationId.
        generation_id: i32;
        /// MemberId.
        member_id: String;
        /// GroupInstanceId.
        group_instance_id: Option<String>, in 3..;
        /// ProtocolType.
        protocol_type: Option<String>, in 5.., ignorable;
        /// ProtocolName.
        protocol_name: Option<String>, in 5.., ignorable;
        /// Assignments.
        assignments: Vec<SyncGroupRequestAssignment>;
    }

    /// SyncGroupRequestAssignment.
    pub struct SyncGroupRequestAssignment {
        /// MemberId.
        member_id: String;
        /// Assignment.
        assignment: Bytes;
    }

    /// SyncGroupResponse.
    pub struct SyncGroupResponse {
        /// ThrottleTimeMs.
        throttle_time_ms: i32, in 1.., ignorable;
        /// ErrorCode.
        error_code: i16;
        /// ProtocolType.
        protocol_type: Option<String>, in 5.., ignorable;
        /// ProtocolName.
        protocol_name: Option<String>, in 5.., ignorable;
        /// Assignment.
        assignment: Bytes;
    }

    /// HeartbeatRequest.
    pub struct HeartbeatRequest {
        /// GroupId.
        group_id: String;
        /// GenerationId.
        generation_id: i32;
        /// MemberId.
        member_id: String;
        /// GroupInstanceId.
        group_instance_id: Option<String>, in 3..;
    }

    /// HeartbeatResponse.
    pub struct HeartbeatResponse {
        /// ThrottleTimeMs.
        throttle_time_ms: i32, in 1.., ignorable;
        /// ErrorCode.
        error_code: i16;
    }

    /// LeaveGroupRequest.
    pub struct LeaveGroupRequest {
        /// GroupId.
        group_id: String;
        /// MemberId.
        member_id: String, in ..=2;
        /// Members.
        members: Vec<MemberIdentity>, in 3..;
    }

    /// MemberIdentity.
    pub struct MemberIdentity {
        /// MemberId.
        member_id: String;
        /// GroupInstanceId.
        group_instance_id: Option<String>;
        /// Reason.
        reason: Option<String>, in 5.., ignorable;
    }

    /// LeaveGroupResponse.
    pub struct LeaveGroupResponse {
        /// ThrottleTimeMs.
        throttle_time_ms: i32, in 1.., ignorable;
        /// ErrorCode.
        error_code: i16;
        /// Members.
        members: Vec<MemberResponse>, in 3..;
    }

    /// MemberResponse.
    pub struct MemberResponse {
        /// MemberId.
        member_id: String;
        /// GroupInstanceId.
        group_instance_id: Option<String> = Some(String::new());
        /// ErrorCode.
        error_code: i16;
    }

    /// DescribeGroupsRequest.
    pub struct DescribeGroupsRequest {
        /// Groups.
        groups: Vec<String>;
        /// IncludeAuthorizedOperations.
        include_authorized_operations: bool, in 3..;
    }

    /// DescribeGroupsResponse.
    pub struct DescribeGroupsResponse {
        /// ThrottleTimeMs.
        throttle_time_ms: i32, in 1.., ignorable;
        /// Groups.
        groups: Vec<DescribedGroup>;
    }

    /// DescribedGroup.
    pub struct DescribedGroup {
        /// ErrorCode.
        error_code: i16;
        /// ErrorMessage.
        error_message: Option<String>, in 6..;
        /// GroupId.
        group_id: String;
        /// GroupState.
        group_state: String;
        /// ProtocolType.
        protocol_type: String;
        /// ProtocolData.
        protocol_data: String;
        /// Members.
        members: Vec<DescribedGroupMember>;
        /// AuthorizedOperations.
        authorized_operations: i32 = i32::MIN, in 3..;
    }

    /// DescribedGroupMember.
    pub struct DescribedGroupMember {
        /// MemberId.
        member_id: String;
        /// GroupInstanceId.
        group_instance_id: Option<String>, in 4.., ignorable;
        /// ClientId.
        client_id: String;
        /// ClientHost.
        client_host: String;
        /// MemberMetadata.
        member_metadata: Bytes;
        /// MemberAssignment.
        member_assignment: Bytes;
    }

    /// ListGroupsRequest.
    pub struct ListGroupsRequest {
        /// StatesFilter.
        states_filter: Vec<String>, in 4..;
        /// TypesFilter.
        types_filter: Vec<String>, in 5..;
    }

    /// ListGroupsResponse.
    pub struct ListGroupsResponse {
        /// ThrottleTimeMs.
        throttle_time_ms: i32, in 1.., ignorable;
        /// ErrorCode.
        error_code: i16;
        /// Groups.
        groups: Vec<ListedGroup>;
    }

    /// ListedGroup.
    pub struct ListedGroup {
        /// GroupId.
        group_id: String;
        /// ProtocolType.
        protocol_type: String;
        /// GroupState.
        group_state: String, in 4.., ignorable;
        /// GroupType.
        group_type: String, in 5.., ignorable;
    }

    /// DeleteGroupsRequest.
    pub struct DeleteGroupsRequest {
        /// GroupsNames.
        groups_names: Vec<String>;
    }

    /// DeleteGroupsResponse.
    pub struct DeleteGroupsResponse {
        /// ThrottleTimeMs.
        throttle_time_ms: i32;
        /// Results.
        results: Vec<DeletableGroupResult>;
    }

    /// DeletableGroupResult.
    pub struct DeletableGroupResult {
        /// GroupId.
        group_id: String;
        /// ErrorCode.
        error_code: i16;
    }
}
