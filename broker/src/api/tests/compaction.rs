//! A broker that compacts: what consumers, late readers and coordinators make of what is left.

use super::*;
use crate::controller::{AlterConfig, ConfigChange, ConfigOperation};
use crate::metadata::Resource;

/// Small segments, and dirt that is due at once.
const COMPACTED: [(&str, &str); 3] = [
    ("cleanup.policy", "compact"),
    ("segment.bytes", "1024"),
    ("min.cleanable.dirty.ratio", "0.01"),
];

fn keyed(key: &str, value: &str) -> RecordBatch {
    let mut builder = BatchBuilder::new(BatchOptions::default());
    let at = Timestamp(1_700_000_000_000);
    builder.append(at, Some(key.as_bytes()), Some(value.as_bytes()), &[]).unwrap();
    builder.finish(ProducerId::NONE, ProducerEpoch::NONE, Sequence::NONE, false)
}

impl World {
    async fn write(&mut self, topic: &str, batch: RecordBatch) -> PartitionProduceResponse {
        let mut response = self.ask(11, produce(topic, batch.into_bytes(), -1)).await;
        response.responses.remove(0).partition_responses.remove(0)
    }

    /// All records of a topic as a consumer reads them: from offset to offset, each answer moving
    /// it on.
    async fn consume(&mut self, topic: &str) -> Vec<(i64, String)> {
        let (mut offset, mut found) = (0, Vec::new());
        loop {
            let mut response = self.ask(12, fetch(topic, offset)).await;
            let data = response.responses.remove(0).partitions.remove(0);
            if offset == data.high_watermark {
                return found;
            }
            let mut bytes = data.records.clone().unwrap();
            let before = offset;
            while let Some(batch) = RecordBatch::split_first(&mut bytes).unwrap() {
                offset = batch.header().next_offset().0;
            }
            assert!(offset > before, "a reader does not get past {before}");
            found.extend(records(&data));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_compacted_topic_keeps_the_newest_record_of_each_key_and_loses_the_others() {
    let mut world = World::new().await;
    world.create("table", &COMPACTED).await;
    for n in 0..60 {
        let key = format!("key {}", n % 3);
        assert_eq!(world.write("table", keyed(&key, &format!("{n:0100}"))).await.base_offset, n);
    }
    assert_eq!(world.consume("table").await.len(), 60);
    tokio::time::sleep(Duration::from_secs(60)).await;
    let left = world.consume("table").await;
    assert!(left.len() < 20, "{left:?}");
    let newest: Vec<i64> = left.iter().rev().take(3).map(|(offset, _)| *offset).collect();
    assert_eq!(newest, [59, 58, 57]);
    assert!(left.iter().all(|(offset, value)| value == &format!("{offset:0100}")));
    let mut world = world.restart().await;
    assert_eq!(world.consume("table").await, left);
    assert_eq!(world.write("table", keyed("key 0", "last")).await.base_offset, 60);
}

#[tokio::test(start_paused = true)]
async fn a_topic_is_compacted_from_when_its_policy_says_so() {
    let mut world = World::new().await;
    world.create("late", &COMPACTED[1..]).await;
    for n in 0..40 {
        world.write("late", keyed("key", &format!("{n:0100}"))).await;
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(world.consume("late").await.len(), 40);
    let change = ConfigChange {
        name: "cleanup.policy".to_owned(),
        operation: ConfigOperation::Set,
        value: Some("compact".to_owned()),
    };
    let resource = Resource::Topic("late".into());
    let alter = AlterConfig { resource, changes: vec![change], replace: false };
    let controller = world.broker.controller();
    controller.alter_configs(vec![alter], false).await.unwrap().remove(0).unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(world.consume("late").await.len() < 15);
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_cannot_be_compacted_is_tried_again_and_holds_no_other_up() {
    let mut world = World::new().await;
    for topic in ["broken", "whole"] {
        world.create(topic, &COMPACTED).await;
        for n in 0..40 {
            world.write(topic, keyed("key", &format!("{n:0100}"))).await;
        }
    }
    let path = std::path::Path::new("/data/broken-0/00000000000000000000.log");
    world.disk.flip(path, 90).unwrap();
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert!(world.consume("whole").await.len() < 15);
    world.disk.flip(path, 90).unwrap();
    assert_eq!(world.consume("broken").await.len(), 40);
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert!(world.consume("broken").await.len() < 15);
}
