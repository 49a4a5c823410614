//! Groups of a whole broker, asked in the wire's own words. Shell.

use std::time::Duration;

use protocol::api::consumer_group::{
    ConsumerGroupDescribeRequest, ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse,
};
use protocol::api::find_coordinator::FindCoordinatorRequest;
use protocol::api::group::{
    DeleteGroupsRequest, DescribeGroupsRequest, JoinGroupRequest, ListGroupsRequest,
};
use protocol::api::group_offsets::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
    OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use protocol::api::versions::ApiVersionsRequest;
use protocol::error_code::ErrorCode;

use super::tests::{TOPIC, World};

const GROUP: &str = "billing";

impl World {
    /// A broker whose coordinator of groups can be asked.
    async fn with_groups() -> Self {
        let mut world = Self::new().await;
        world.find_coordinator().await;
        world
    }

    async fn find_coordinator(&mut self) {
        loop {
            let keys = vec![GROUP.to_owned()];
            let request = FindCoordinatorRequest { coordinator_keys: keys, ..Default::default() };
            let found = self.ask(4, request).await.coordinators.remove(0);
            if found.error_code == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn beat(
        &mut self,
        version: i16,
        change: impl FnOnce(&mut ConsumerGroupHeartbeatRequest),
    ) -> ConsumerGroupHeartbeatResponse {
        let mut request = ConsumerGroupHeartbeatRequest {
            group_id: GROUP.to_owned(),
            member_id: "m".to_owned(),
            rebalance_timeout_ms: 60_000,
            subscribed_topic_names: Some(vec![TOPIC.to_owned()]),
            topic_partitions: Some(vec![]),
            ..Default::default()
        };
        change(&mut request);
        self.ask(version, request).await
    }

    async fn commit(&mut self, version: i16, member: &str, epoch: i32, offset: i64) -> ErrorCode {
        let partition =
            OffsetCommitRequestPartition { committed_offset: offset, ..Default::default() };
        let topic = OffsetCommitRequestTopic {
            name: TOPIC.to_owned(),
            partitions: vec![partition],
            ..Default::default()
        };
        let request = OffsetCommitRequest {
            group_id: GROUP.to_owned(),
            member_id: member.to_owned(),
            generation_id_or_member_epoch: epoch,
            topics: vec![topic],
            ..Default::default()
        };
        let mut response = self.ask(version, request).await;
        ErrorCode::from_wire(response.topics.remove(0).partitions.remove(0).error_code)
    }

    /// The group's error; of partition 0, its error and its offset.
    async fn committed(&mut self, group: &str, member: Option<(&str, i32)>) -> (i16, i16, i64) {
        let topics = OffsetFetchRequestTopics {
            name: TOPIC.to_owned(),
            partition_indexes: vec![0],
            ..Default::default()
        };
        let asked = OffsetFetchRequestGroup {
            group_id: group.to_owned(),
            member_id: member.map(|it| it.0.to_owned()),
            member_epoch: member.map_or(-1, |it| it.1),
            topics: Some(vec![topics]),
        };
        let request = OffsetFetchRequest { groups: vec![asked], ..Default::default() };
        let mut answer = self.ask(9, request).await.groups.remove(0);
        if answer.topics.is_empty() {
            return (answer.error_code, 0, -1);
        }
        let partition = answer.topics.remove(0).partitions.remove(0);
        (answer.error_code, partition.error_code, partition.committed_offset)
    }
}

fn code(response: &ConsumerGroupHeartbeatResponse) -> ErrorCode {
    ErrorCode::from_wire(response.error_code)
}

#[tokio::test(start_paused = true)]
async fn a_member_joins_commits_by_its_epoch_and_is_described() {
    let mut world = World::with_groups().await;
    let joined = world.beat(1, |_| {}).await;
    assert_eq!((code(&joined), joined.member_epoch), (ErrorCode::None, 1), "{joined:?}");
    assert_eq!(joined.heartbeat_interval_ms, 5_000);
    let assigned = joined.assignment.unwrap().topic_partitions.remove(0);
    assert_eq!(assigned.partitions, [0, 1]);
    assert_eq!(world.commit(9, "m", 1, 7).await, ErrorCode::None);
    assert_eq!(world.commit(9, "m", 2, 8).await, ErrorCode::StaleMemberEpoch);
    assert_eq!(world.commit(8, "m", 1, 9).await, ErrorCode::UnsupportedVersion);
    assert_eq!(world.committed(GROUP, Some(("m", 1))).await, (0, 0, 7));
    let stale = ErrorCode::StaleMemberEpoch.to_wire();
    assert_eq!(world.committed(GROUP, Some(("m", 0))).await, (stale, 0, -1));
    let request = ConsumerGroupDescribeRequest {
        group_ids: vec![GROUP.to_owned(), "no-such".to_owned()],
        ..Default::default()
    };
    let described = world.ask(1, request).await.groups;
    assert_eq!((described[0].error_code, described[0].group_state.as_str()), (0, "Stable"));
    let member = &described[0].members[0];
    assert_eq!((member.member_epoch, member.member_type), (1, 1));
    assert_eq!(member.assignment.topic_partitions[0].topic_name, TOPIC);
    assert_eq!(member.assignment, member.target_assignment);
    assert_eq!(described[1].error_code, ErrorCode::GroupIdNotFound.to_wire());
}

#[tokio::test(start_paused = true)]
async fn a_member_that_chooses_no_id_is_given_one_in_version_0_alone() {
    let mut world = World::with_groups().await;
    let given = world.beat(0, |it| it.member_id.clear()).await;
    assert_eq!(code(&given), ErrorCode::None);
    assert!(given.member_id.is_some_and(|it| !it.is_empty()));
    let refused = world.beat(1, |it| it.member_id.clear()).await;
    assert_eq!(code(&refused), ErrorCode::InvalidRequest);
    assert_eq!(refused.error_message.as_deref(), Some("MemberId can't be empty."));
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_that_makes_no_sense_is_refused_and_told_why() {
    type Change = fn(&mut ConsumerGroupHeartbeatRequest);
    let changes: [(Change, ErrorCode); 10] = [
        (|it| it.group_id.clear(), ErrorCode::InvalidRequest),
        (|it| it.member_epoch = -3, ErrorCode::InvalidRequest),
        (|it| it.instance_id = Some(String::new()), ErrorCode::InvalidRequest),
        (|it| it.rack_id = Some(String::new()), ErrorCode::InvalidRequest),
        (|it| it.rebalance_timeout_ms = -1, ErrorCode::InvalidRequest),
        (|it| it.topic_partitions = None, ErrorCode::InvalidRequest),
        (|it| it.topic_partitions = Some(vec![Default::default()]), ErrorCode::InvalidRequest),
        (|it| it.subscribed_topic_names = None, ErrorCode::InvalidRequest),
        (|it| it.member_epoch = -2, ErrorCode::InvalidRequest),
        (|it| it.server_assignor = Some("sticky".to_owned()), ErrorCode::UnsupportedAssignor),
    ];
    let mut world = World::with_groups().await;
    for (change, want) in changes {
        let refused = world.beat(1, change).await;
        assert_eq!(code(&refused), want, "{refused:?}");
        assert!(refused.error_message.is_some_and(|it| !it.is_empty()));
    }
    let broken = world.beat(1, |it| it.subscribed_topic_regex = Some("(".to_owned())).await;
    assert_eq!(code(&broken), ErrorCode::InvalidRegularExpression);
    let gone = world.beat(1, |it| it.member_epoch = 5).await;
    assert_eq!(code(&gone), ErrorCode::UnknownMemberId);
}

#[tokio::test(start_paused = true)]
async fn the_first_question_after_a_restart_is_answered_from_the_log_and_never_by_no_offset() {
    let mut world = World::with_groups().await;
    assert_eq!(world.commit(9, "", -1, 7).await, ErrorCode::None);
    for _ in 0..3 {
        world = world.restart().await;
        loop {
            // Whoever asks while the coordinator is not there yet is told so.
            let (error, of_partition, offset) = world.committed(GROUP, None).await;
            if error == 0 {
                assert_eq!((of_partition, offset), (0, 7));
                break;
            }
            assert!(ErrorCode::from_wire(error).is_retriable(), "{error}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn members_stay_in_their_group_while_their_coordinator_restarts() {
    let mut world = World::with_groups().await;
    assert_eq!(world.beat(1, |_| {}).await.member_epoch, 1);
    world = world.restart().await;
    world.find_coordinator().await;
    let stays = loop {
        let stays = world
            .beat(1, |it| {
                it.member_epoch = 1;
                it.topic_partitions = None;
            })
            .await;
        if !code(&stays).is_retriable() {
            break stays;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    assert_eq!((code(&stays), stays.member_epoch), (ErrorCode::None, 1));
}

#[tokio::test(start_paused = true)]
async fn a_group_that_does_not_exist_has_no_offsets_and_that_is_no_error() {
    let mut world = World::with_groups().await;
    assert_eq!(world.committed("no-such", None).await, (0, 0, -1));
    assert_eq!(world.committed("no-such", Some(("m", 3))).await, (0, 0, -1));
    assert_eq!(world.commit(9, "m", 3, 1).await, ErrorCode::GroupIdNotFound);
    assert_eq!(world.commit(8, "m", 3, 1).await, ErrorCode::IllegalGeneration);
}

#[tokio::test(start_paused = true)]
async fn groups_are_listed_by_type_and_described_by_the_api_of_their_own() {
    let mut world = World::with_groups().await;
    world.beat(1, |_| {}).await;
    for (types, want) in [(vec![], true), (vec!["consumer"], true), (vec!["Classic"], false)] {
        let types_filter = types.into_iter().map(str::to_owned).collect();
        let request = ListGroupsRequest { types_filter, ..Default::default() };
        let listed = world.ask(5, request).await.groups;
        let found = listed.iter().find(|it| it.group_id == GROUP);
        assert_eq!(found.is_some(), want);
        if let Some(found) = found {
            assert_eq!(
                (found.group_type.as_str(), found.protocol_type.as_str()),
                ("consumer", "consumer")
            );
        }
    }
    let request = || DescribeGroupsRequest { groups: vec![GROUP.to_owned()], ..Default::default() };
    let described = world.ask(6, request()).await.groups.remove(0);
    assert_eq!(described.error_code, ErrorCode::GroupIdNotFound.to_wire());
    assert!(described.error_message.is_some());
    let described = world.ask(5, request()).await.groups.remove(0);
    assert_eq!((described.error_code, described.group_state.as_str()), (0, "Dead"));
    let join = JoinGroupRequest {
        group_id: GROUP.to_owned(),
        session_timeout_ms: 10_000,
        protocol_type: "connect".to_owned(),
        ..Default::default()
    };
    let refused = world.ask(9, join).await.error_code;
    assert_eq!(refused, ErrorCode::InconsistentGroupProtocol.to_wire());
    let delete = || DeleteGroupsRequest { groups_names: vec![GROUP.to_owned()] };
    let refused = world.ask(2, delete()).await.results.remove(0).error_code;
    assert_eq!(refused, ErrorCode::NonEmptyGroup.to_wire());
    world.beat(1, |it| it.member_epoch = -1).await;
    assert_eq!(world.ask(2, delete()).await.results.remove(0).error_code, 0);
}

#[tokio::test(start_paused = true)]
async fn offsets_are_deleted_one_by_one_each_with_its_answer() {
    let mut world = World::with_groups().await;
    let request = || {
        let topic = |name: &str, indices: &[i32]| OffsetDeleteRequestTopic {
            name: name.to_owned(),
            partitions: indices
                .iter()
                .map(|it| OffsetDeleteRequestPartition { partition_index: *it })
                .collect(),
        };
        let topics = vec![topic(TOPIC, &[0, 9]), topic("no-such", &[0])];
        OffsetDeleteRequest { group_id: GROUP.to_owned(), topics }
    };
    let unknown = world.ask(0, request()).await;
    assert_eq!(unknown.error_code, ErrorCode::GroupIdNotFound.to_wire());
    assert!(unknown.topics.is_empty());
    assert_eq!(world.commit(9, "", -1, 7).await, ErrorCode::None);
    let codes = |response: protocol::api::group_offsets::OffsetDeleteResponse| -> Vec<ErrorCode> {
        let partitions = response.topics.into_iter().flat_map(|it| it.partitions);
        partitions.map(|it| ErrorCode::from_wire(it.error_code)).collect()
    };
    let missing = ErrorCode::UnknownTopicOrPartition;
    world.beat(1, |_| {}).await;
    let refused = codes(world.ask(0, request()).await);
    assert_eq!(refused, [ErrorCode::GroupSubscribedToTopic, missing, missing]);
    world.beat(1, |it| it.member_epoch = -1).await;
    assert_eq!(codes(world.ask(0, request()).await), [ErrorCode::None, missing, missing]);
    assert_eq!(world.committed(GROUP, None).await, (0, 0, -1));
}

#[tokio::test(start_paused = true)]
async fn what_is_advertised_lets_clients_choose_the_consumer_protocol() {
    let mut world = World::with_groups().await;
    let request = ApiVersionsRequest {
        client_software_name: "test".to_owned(),
        client_software_version: "1".to_owned(),
        ..Default::default()
    };
    let told = world.ask(4, request).await;
    for key in [47, 68, 69] {
        assert!(told.api_keys.iter().any(|it| it.api_key == key), "{key}");
    }
    let group = told.finalized_features.iter().find(|it| it.name == "group.version").unwrap();
    assert_eq!((group.min_version_level, group.max_version_level), (1, 1));
}
