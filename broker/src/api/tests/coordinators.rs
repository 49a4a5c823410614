//! Coordinators as clients find and ask them, in every form of the wire. Shell.

use protocol::api::find_coordinator::FindCoordinatorRequest;
use protocol::api::group::{
    JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse, SyncGroupRequest,
    SyncGroupRequestAssignment, SyncGroupResponse,
};
use protocol::api::group_offsets::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
    OffsetFetchRequest, OffsetFetchRequestTopic,
};

use super::*;

fn old(key: &str, key_type: i8) -> FindCoordinatorRequest {
    FindCoordinatorRequest { key: key.to_owned(), key_type, ..Default::default() }
}

fn new(keys: &[&str], key_type: i8) -> FindCoordinatorRequest {
    let coordinator_keys = keys.iter().map(|it| (*it).to_owned()).collect();
    FindCoordinatorRequest { coordinator_keys, key_type, ..Default::default() }
}

impl World {
    /// Until this coordinator is there.
    pub(super) async fn coordinator(&mut self, key: &str, key_type: i8) {
        loop {
            let found = self.ask(4, new(&[key], key_type)).await.coordinators.remove(0);
            if found.error_code == 0 {
                return;
            }
            assert!(ErrorCode::from_wire(found.error_code).is_retriable());
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn a_coordinator_is_found_in_both_forms_with_the_error_where_each_has_it() {
    let mut world = World::new().await;
    for key_type in [0, 1] {
        world.coordinator("k", key_type).await;
        let lowest = if key_type == 0 { 0 } else { 1 };
        for version in lowest..=3 {
            let one = world.ask(version, old("k", key_type)).await;
            assert_eq!((one.error_code, one.node_id, &*one.host), (0, 1, "broker"));
            assert!(one.coordinators.is_empty());
        }
        for version in 4..=*ApiKey::FindCoordinator.versions().end() {
            let many = world.ask(version, new(&["a", "b"], key_type)).await;
            assert_eq!((many.error_code, many.coordinators.len()), (0, 2));
            for (found, key) in many.coordinators.iter().zip(["a", "b"]) {
                assert_eq!((&*found.key, found.error_code, found.node_id), (key, 0, 1));
            }
        }
    }
    let nonsense = ErrorCode::InvalidRequest.to_wire();
    assert_eq!(world.ask(3, old("k", 7)).await.error_code, nonsense);
    let many = world.ask(4, new(&["a"], 7)).await;
    assert_eq!((many.error_code, many.coordinators[0].error_code), (0, nonsense));
}

#[tokio::test(start_paused = true)]
async fn while_its_topic_cannot_be_created_a_coordinator_is_not_available_and_then_it_is() {
    let mut world = World::new().await;
    world.disk.set_capacity(Some(world.disk.used_bytes()));
    let not_available = ErrorCode::CoordinatorNotAvailable.to_wire();
    assert_eq!(world.ask(3, old("k", 0)).await.error_code, not_available);
    let many = world.ask(4, new(&["k"], 1)).await;
    assert_eq!(many.coordinators[0].error_code, not_available);
    world.disk.set_capacity(None);
    world.coordinator("k", 0).await;
    world.coordinator("k", 1).await;
}

#[tokio::test]
async fn a_committed_offset_comes_back_with_its_leader_epoch_and_metadata() {
    let mut world = World::new().await;
    world.coordinator("g", 0).await;
    let partition = OffsetCommitRequestPartition {
        committed_offset: 7,
        committed_leader_epoch: 3,
        committed_metadata: Some("mine".to_owned()),
        ..Default::default()
    };
    let topic = OffsetCommitRequestTopic {
        name: TOPIC.to_owned(),
        partitions: vec![partition],
        ..Default::default()
    };
    let commit = OffsetCommitRequest {
        group_id: "g".to_owned(),
        generation_id_or_member_epoch: -1,
        topics: vec![topic],
        ..Default::default()
    };
    loop {
        let committed = world.ask(8, commit.clone()).await;
        let code = ErrorCode::from_wire(committed.topics[0].partitions[0].error_code);
        if code.is_ok() {
            break;
        }
        assert!(code.is_retriable(), "{code}");
        tokio::task::yield_now().await;
    }
    world = world.restart().await;
    let topic = OffsetFetchRequestTopic { name: TOPIC.to_owned(), partition_indexes: vec![0, 1] };
    let fetch = OffsetFetchRequest {
        group_id: "g".to_owned(),
        topics: Some(vec![topic]),
        ..Default::default()
    };
    let found = loop {
        let fetched = world.ask(5, fetch.clone()).await;
        if fetched.error_code == 0 {
            break fetched.topics[0].partitions.clone();
        }
        assert!(ErrorCode::from_wire(fetched.error_code).is_retriable());
        tokio::task::yield_now().await;
    };
    assert_eq!((found[0].committed_offset, found[0].committed_leader_epoch), (7, 3));
    assert_eq!(found[0].metadata.as_deref(), Some("mine"));
    // No offset is no error.
    assert_eq!((found[1].error_code, found[1].committed_offset), (0, -1));
    assert_eq!(found[1].committed_leader_epoch, -1);
}

#[tokio::test(start_paused = true)]
async fn what_members_agreed_on_is_named_where_the_version_has_it() {
    let mut world = World::new().await;
    world.coordinator("g", 0).await;
    let mut join = JoinGroupRequest {
        group_id: "g".to_owned(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 10_000,
        protocol_type: "consumer".to_owned(),
        protocols: vec![JoinGroupRequestProtocol {
            name: "range".to_owned(),
            metadata: Bytes::from_static(b"m"),
        }],
        ..Default::default()
    };
    let given: JoinGroupResponse = loop {
        let given = world.ask(4, join.clone()).await;
        if !ErrorCode::from_wire(given.error_code).is_retriable() {
            break given;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(ErrorCode::from_wire(given.error_code), ErrorCode::MemberIdRequired);
    join.member_id = given.member_id.clone();
    for version in [6, 7, 9] {
        let joined: JoinGroupResponse = world.ask(version, join.clone()).await;
        assert_eq!((joined.error_code, joined.protocol_name.as_deref()), (0, Some("range")));
        let want = (7 <= version).then_some("consumer");
        assert_eq!(joined.protocol_type.as_deref(), want);
        assert_eq!((&joined.leader, joined.members.len()), (&given.member_id, 1));
        let mut sync = SyncGroupRequest {
            group_id: "g".to_owned(),
            generation_id: joined.generation_id,
            member_id: given.member_id.clone(),
            ..Default::default()
        };
        if version == 6 {
            // A leader that assigns nothing: its members are told so, in bytes.
            let synced: SyncGroupResponse = world.ask(4, sync).await;
            assert_eq!((synced.error_code, synced.assignment.len()), (0, 0));
            continue;
        }
        (sync.protocol_type, sync.protocol_name) = (want.map(str::to_owned), joined.protocol_name);
        sync.assignments = vec![SyncGroupRequestAssignment {
            member_id: given.member_id.clone(),
            assignment: Bytes::from_static(b"all"),
        }];
        let synced: SyncGroupResponse = world.ask(5, sync.clone()).await;
        assert_eq!((synced.error_code, &synced.assignment[..]), (0, &b"all"[..]));
        let named = (synced.protocol_type.as_deref(), synced.protocol_name.as_deref());
        assert_eq!(named, (Some("consumer"), Some("range")));
        sync.protocol_name = Some("sticky".to_owned());
        let refused = ErrorCode::from_wire(world.ask(5, sync).await.error_code);
        assert_eq!(refused, ErrorCode::InconsistentGroupProtocol);
    }
}
