//! What the Image, the Delta and their records promise. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;
use protocol::ids::{BrokerId, Offset, PartitionIndex, TopicId};
use tokio::sync::{mpsc, oneshot};

use super::*;

fn id(number: u8) -> TopicId {
    TopicId([number; 16])
}

fn topic(number: u8) -> Record {
    TopicRecord { name: format!("topic-{number}"), topic_id: id(number) }.into()
}

fn partition(number: u8, partition_id: i32) -> Record {
    let record = PartitionRecord {
        partition_id,
        topic_id: id(number),
        replicas: vec![1, 2],
        isr: vec![1],
        leader: 1,
        leader_epoch: 0,
        partition_epoch: 0,
        ..PartitionRecord::default()
    };
    record.into()
}

fn setting(number: u8, name: &str, value: Option<&str>) -> Record {
    ConfigRecord {
        resource_type: Resource::TOPIC,
        resource_name: format!("topic-{number}"),
        name: name.to_owned(),
        value: value.map(str::to_owned),
    }
    .into()
}

/// Folds `records` into the Image, which must fit them.
fn fold(image: &mut Image, records: &[Record]) -> Delta {
    let mut delta = Delta::default();
    for record in records {
        image.apply(record, &mut delta).unwrap();
        image.check();
    }
    delta
}

fn any_record() -> impl Strategy<Value = Record> {
    let number = 1u8..5;
    prop_oneof![
        number.clone().prop_map(topic),
        (number.clone(), 0..3i32).prop_map(|(number, index)| partition(number, index)),
        number.clone().prop_map(|n| RemoveTopicRecord { topic_id: id(n) }.into()),
        (number.clone(), 0..3i32, 0..2i32).prop_map(|(n, partition_id, leader)| {
            PartitionChangeRecord {
                partition_id,
                topic_id: id(n),
                leader: leader + 1,
                isr: Some(vec![1, 2]),
                ..PartitionChangeRecord::default()
            }
            .into()
        }),
        (number.clone(), any::<bool>())
            .prop_map(|(n, is_set)| { setting(n, "retention.ms", is_set.then_some("5")) }),
        (0..2i32, any::<bool>()).prop_map(|(broker_id, fenced)| {
            RegisterBrokerRecord {
                broker_id,
                fenced,
                rack: None,
                ..RegisterBrokerRecord::default()
            }
            .into()
        }),
        (0..2i32)
            .prop_map(|broker_id| UnregisterBrokerRecord { broker_id, broker_epoch: 0 }.into()),
        (1..9i64).prop_map(|next_producer_id| {
            ProducerIdsRecord { next_producer_id, ..ProducerIdsRecord::default() }.into()
        }),
        (0..3i16).prop_map(|feature_level| {
            FeatureLevelRecord { name: "transaction.version".to_owned(), feature_level }.into()
        }),
        (0..3i32, 0..2i32, any::<bool>()).prop_map(|(kind, name, remove)| {
            let types = ["user", "client-id", "ip"];
            let part = ClientQuotaEntity {
                entity_type: types[usize::try_from(kind).unwrap()].to_owned(),
                entity_name: (name > 0).then(|| "me".to_owned()),
            };
            let key = "producer_byte_rate".to_owned();
            ClientQuotaRecord { entity: vec![part], key, value: f64::from(name), remove }.into()
        }),
        (1..4u8, 1..4i8, 0..2u8).prop_map(|(id, operation, name)| {
            AccessControlEntryRecord {
                id: TopicId([id; 16]),
                resource_type: 2,
                resource_name: name.to_string(),
                pattern_type: 3,
                operation,
                permission_type: 2,
                ..AccessControlEntryRecord::default()
            }
            .into()
        }),
        (1..4u8).prop_map(|id| RemoveAccessControlEntryRecord { id: TopicId([id; 16]) }.into()),
        Just(NoOpRecord {}.into()),
    ]
}

proptest! {
    #[test]
    fn an_image_is_the_fold_of_its_records_whatever_comes(
        records in prop::collection::vec(any_record(), 0..60)
    ) {
        let mut image = Image::empty("c");
        for record in &records {
            let before = image.clone();
            let mut delta = Delta::default();
            let applied = image.apply(record, &mut delta);
            image.check();
            if applied.is_err() {
                prop_assert_eq!(&image, &before);
                prop_assert!(delta.is_empty());
            }
            let bytes = record.encode();
            prop_assert_eq!(&Record::decode(bytes).unwrap(), record);
        }
        let mut again = Image::empty("c");
        fold(&mut again, &image.to_records());
        prop_assert_eq!(&again, &image);
    }

    #[test]
    fn a_delta_tells_all_that_differs(
        first in prop::collection::vec(any_record(), 0..40),
        second in prop::collection::vec(any_record(), 0..20),
    ) {
        let mut old = Image::empty("c");
        for record in &first {
            let _ = old.apply(record, &mut Delta::default());
        }
        let mut new = old.clone();
        let mut told = Delta::default();
        for record in &second {
            let _ = new.apply(record, &mut told);
        }
        let differs = Delta::between(&old, &new);
        let keys = |map: &BTreeMap<TopicId, Arc<str>>| map.keys().copied().collect::<BTreeSet<_>>();
        // A change and its reverse are told, though nothing differs in the end.
        prop_assert!(keys(&told.created).is_superset(&keys(&differs.created)));
        prop_assert!(told.removed.keys().collect::<BTreeSet<_>>().is_superset(&differs.removed.keys().collect()));
        prop_assert!(told.partitions.is_superset(&differs.partitions));
        prop_assert!(told.configs.is_superset(&differs.configs));
        prop_assert!(told.brokers.is_superset(&differs.brokers));
        prop_assert!(told.quotas || !differs.quotas);
        prop_assert!(told.acls || !differs.acls);
        prop_assert_eq!(Delta::between(&Image::empty("c"), &old), Delta::all_of(&old));
    }

    #[test]
    fn damaged_records_are_refused_not_followed(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        let _ = Record::decode(bytes.into());
    }
}

#[test]
fn records_have_kafkas_bytes() {
    let mut bytes = vec![1, 2, 0, 8];
    bytes.extend_from_slice(b"topic-7");
    bytes.extend_from_slice(&[7; 16]);
    bytes.push(0);
    assert_eq!(topic(7).encode(), bytes);
    let change = PartitionChangeRecord {
        partition_id: 1,
        topic_id: id(7),
        leader: -1,
        ..PartitionChangeRecord::default()
    };
    let mut bytes = vec![1, 5, 0, 0, 0, 0, 1];
    bytes.extend_from_slice(&[7; 16]);
    bytes.extend_from_slice(&[1, 1, 4, 255, 255, 255, 255]);
    assert_eq!(Record::from(change).encode(), bytes);
}

#[test]
fn records_of_a_newer_release_are_refused() {
    let refuse = |bytes: &'static [u8], want| {
        assert_eq!(Record::decode(bytes.into()), Err(want));
    };
    refuse(&[2, 20, 0, 0], RecordError::FrameVersion(2));
    refuse(&[1, 99, 0, 0], RecordError::UnknownKey(99));
    refuse(&[1, 3, 2, 0], RecordError::UnknownVersion { key: 3, version: 2 });
}

#[test]
fn every_change_of_leader_opens_an_epoch_and_every_change_raises_the_partition_epoch() {
    let mut image = Image::empty("c");
    fold(&mut image, &[topic(1), partition(1, 0)]);
    let change = |leader, isr| {
        let topic_id = id(1);
        let rest = PartitionChangeRecord::default();
        Record::from(PartitionChangeRecord { partition_id: 0, topic_id, leader, isr, ..rest })
    };
    let mut check = |record, want: (i32, i32, i32)| {
        fold(&mut image, &[record]);
        let it = image.partition("topic-1", PartitionIndex(0)).unwrap();
        assert_eq!((it.leader.0, it.leader_epoch.0, it.partition_epoch.0), want);
    };
    check(change(UNCHANGED_LEADER, Some(vec![1, 2])), (1, 0, 1));
    check(change(2, None), (2, 1, 2));
    check(change(2, None), (2, 2, 3));
    check(change(-1, None), (-1, 3, 4));
}

#[test]
fn a_topic_created_and_removed_at_once_was_never_there() {
    let mut image = Image::empty("c");
    let remove = || Record::from(RemoveTopicRecord { topic_id: id(1) });
    assert!(fold(&mut image, &[topic(1), partition(1, 0), remove()]).is_empty());
}

#[test]
fn a_removed_topic_takes_its_settings_with_it() {
    let mut image = Image::empty("c");
    fold(&mut image, &[topic(1), partition(1, 0), setting(1, "retention.ms", Some("5"))]);
    assert_eq!(image.topic_configs("topic-1").collect::<Vec<_>>(), [("retention.ms", "5")]);
    let delta = fold(&mut image, &[RemoveTopicRecord { topic_id: id(1) }.into(), topic(2)]);
    assert_eq!(image.topic_configs("topic-1").count(), 0);
    assert_eq!(delta.removed[&id(1)].partitions.len(), 1);
    assert!(delta.configs.contains(&Resource::Topic("topic-1".into())));
    assert_eq!(delta.created.keys().copied().collect::<Vec<_>>(), [id(2)]);
}

/// Hands `records` to the metadata as the entry that ends at `end` and waits for the answer.
async fn apply(feed: &mpsc::Sender<Feed>, end: i64, records: &[Record]) -> bool {
    let (applied, done) = oneshot::channel();
    let records = records.iter().map(Record::encode).collect();
    feed.send(Feed::Apply { end: Offset(end), records, applied }).await.unwrap();
    done.await.is_ok()
}

#[tokio::test]
async fn a_subscriber_sees_the_present_then_every_change_in_order() {
    let (feed, receiver) = mpsc::channel(1);
    let metadata = start(Image::empty("c"), receiver);
    assert!(apply(&feed, 1, &[topic(1), partition(1, 0)]).await);
    let mut updates = metadata.subscribe().await;
    assert!(apply(&feed, 2, &[topic(2)]).await);
    assert!(apply(&feed, 3, &[RemoveTopicRecord { topic_id: id(1) }.into()]).await);
    assert_eq!(metadata.image().end, Offset(3));
    let (image, delta) = updates.recv().await.unwrap();
    assert_eq!((image.end, delta.created.len(), delta.partitions.len()), (Offset(1), 1, 1));
    let (image, delta) = updates.recv().await.unwrap();
    assert_eq!((image.end, delta.created.len()), (Offset(2), 1));
    let (image, delta) = updates.recv().await.unwrap();
    assert_eq!((image.end, delta.removed.len()), (Offset(3), 1));
    drop(feed);
    assert!(updates.recv().await.is_none());
}

#[tokio::test]
async fn a_record_that_does_not_fit_ends_the_metadata_unanswered() {
    let (feed, receiver) = mpsc::channel(1);
    let metadata = start(Image::empty("c"), receiver);
    let mut updates = metadata.subscribe().await;
    assert!(!apply(&feed, 1, &[partition(1, 0)]).await);
    assert!(updates.recv().await.is_some());
    assert!(updates.recv().await.is_none());
    assert_eq!(metadata.image().end, Offset::ZERO);
}

#[tokio::test]
async fn an_installed_snapshot_shows_what_differs() {
    let (feed, receiver) = mpsc::channel(1);
    let metadata = start(Image::empty("c"), receiver);
    assert!(apply(&feed, 1, &[topic(1), partition(1, 0)]).await);
    let mut updates = metadata.subscribe().await;
    updates.recv().await.unwrap();
    let (installed, done) = oneshot::channel();
    let records = [topic(2), partition(2, 0)].iter().map(Record::encode).collect();
    feed.send(Feed::Install { end: Offset(9), records, installed }).await.unwrap();
    done.await.unwrap();
    let (image, delta) = updates.recv().await.unwrap();
    assert_eq!((image.end, delta.removed.len(), delta.created.len()), (Offset(9), 1, 1));
    let (reply, snapshot) = oneshot::channel();
    feed.send(Feed::Snapshot { reply }).await.unwrap();
    let (end, records) = snapshot.await.unwrap();
    let mut again = Image::empty("c");
    let records: Vec<_> = records.into_iter().map(|it| Record::decode(it).unwrap()).collect();
    fold(&mut again, &records);
    again.end = end;
    assert_eq!(again, *metadata.image());
    assert_eq!(again.broker(BrokerId(1)), None);
    let _: Arc<Image> = metadata.watch().borrow().clone();
}
