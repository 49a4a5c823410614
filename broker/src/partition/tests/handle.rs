//! A partition over a directory, as other rooms speak to it. Shell.

use std::path::PathBuf;

use protocol::ids::TopicId;

use super::super::handle::PartitionHandle;
use super::super::shell::{Identity, Partition};
use super::super::{FetchFrom, FoundOffset, OffsetSpec, gather};
use super::*;
use crate::config::TopicConfig;
use crate::disk::SimDisk;
use crate::limits::{LOG_REQUESTS_MAX, OpenFiles};
use crate::log::{DirConfig, DirHandle, Identity as DirIdentity, Mode};

/// A follower that is in sync and is never heard of.
const FOLLOWER: BrokerId = BrokerId(2);

fn led_with_follower(epoch: i32) -> Leadership {
    Leadership { isr: vec![OWN, FOLLOWER], replica_count: 2, ..leadership(epoch) }
}

fn config() -> Arc<TopicConfig> {
    Arc::new(TopicConfig::default())
}

fn open(leadership: Leadership) -> PartitionHandle {
    open_on(&SimDisk::new(1), leadership)
}

fn open_on(disk: &SimDisk, leadership: Leadership) -> PartitionHandle {
    let cluster_id = "c".to_owned();
    let identity = DirIdentity { cluster_id, node_id: OWN, directory_id: [9; 16] };
    let path = PathBuf::from("/data");
    let config_of_dir =
        DirConfig { path, identity, mode: Mode::Inline, files: OpenFiles::unbounded() };
    let dir = DirHandle::start(Arc::new(disk.clone()), config_of_dir).unwrap().handle;
    let partition = TopicPartition::new("orders", 0);
    let identity = Identity { partition, topic_id: TopicId([7; 16]) };
    let clock = client::time::virtual_clock(Timestamp(1_000));
    PartitionHandle(Partition::new(identity, leadership, config(), dir, clock))
}

fn plain_append(count: i32, acks: Acks) -> Append {
    Append { batches: vec![plain(count)], origin: Origin::Client, acks, leader_epoch: None }
}

#[tokio::test(start_paused = true)]
async fn a_new_leader_that_lags_behind_the_last_one_tells_offsets_but_not_the_end() {
    let handle = open(led_with_follower(0));
    let ask = async |spec, isolation| {
        let found = handle.list_offset(spec, isolation, None).await;
        found.map(|it: FoundOffset| it.offset.0).map_err(|error| error.code())
    };
    handle.append(plain_append(3, Acks::Written)).await.unwrap();
    assert_eq!(ask(OffsetSpec::Latest, Isolation::ReadUncommitted).await, Ok(0));
    handle.0.lead(led_with_follower(1), config());
    let not_yet = Err(ErrorCode::OffsetNotAvailable);
    for isolation in [Isolation::ReadUncommitted, Isolation::ReadCommitted] {
        assert_eq!(ask(OffsetSpec::Latest, isolation).await, not_yet);
        assert_eq!(ask(OffsetSpec::At(Timestamp(0)), isolation).await, not_yet);
        assert_eq!(ask(OffsetSpec::MaxTimestamp, isolation).await, not_yet);
        assert_eq!(ask(OffsetSpec::Earliest, isolation).await, Ok(0));
    }
    assert_eq!(ask(OffsetSpec::Latest, Isolation::LogEnd).await, Ok(3));
    handle.0.lead(leadership(1), config());
    assert_eq!(ask(OffsetSpec::Latest, Isolation::ReadCommitted).await, Ok(3));
    assert_eq!(ask(OffsetSpec::At(Timestamp(0)), Isolation::ReadUncommitted).await, Ok(0));
    assert_eq!(ask(OffsetSpec::At(Timestamp(99)), Isolation::ReadUncommitted).await, Ok(-1));
}

#[tokio::test(start_paused = true)]
async fn between_the_high_watermark_and_the_log_end_there_is_nothing_to_read_and_no_error() {
    let handle = open(led_with_follower(3));
    handle.append(plain_append(3, Acks::Written)).await.unwrap();
    let fetch = async |offset, last_fetched_epoch: Option<i32>| {
        let from = FetchFrom {
            offset: Offset(offset),
            leader_epoch: None,
            last_fetched_epoch: last_fetched_epoch.map(LeaderEpoch),
            isolation: Isolation::ReadUncommitted,
            max_bytes: 1 << 20,
            room_bytes: 1 << 20,
            at_least_one: true,
            by_file: false,
        };
        handle.fetch(from).await.map_err(|error| error.code())
    };
    for offset in 0..=3 {
        let fetched = fetch(offset, None).await.unwrap();
        assert!(fetched.records.is_empty());
        assert_eq!((fetched.watermarks.high_watermark, fetched.diverging), (Offset(0), None));
    }
    assert_eq!(fetch(4, None).await.unwrap_err(), ErrorCode::OffsetOutOfRange);
    // Whose last record is of an epoch that ended earlier here has read what is lost.
    let diverging = fetch(2, Some(2)).await.unwrap();
    assert_eq!(diverging.diverging, Some((LeaderEpoch(2), Offset(0))));
    assert!(diverging.records.is_empty());
    assert_eq!(fetch(3, Some(3)).await.unwrap().diverging, None);
}

#[tokio::test(start_paused = true)]
async fn what_is_posted_together_is_written_at_one_go_and_in_order() {
    let disk = SimDisk::new(1);
    let handle = open_on(&disk, Leadership { flush_mode: FlushMode::Async, ..leadership(0) });
    let append = |count| handle.append(plain_append(count, Acks::Committed));
    let offset = |appended: Result<Appended, AppendError>| appended.unwrap().base_offset.0;
    // The first one makes the files.
    assert_eq!(offset(append(1).await), 0);
    let before = disk.ops();
    let (first, second, third) = gather(|| {
        let posted = (append(2), append(3), append(4));
        assert_eq!(disk.ops(), before, "not yet");
        posted
    });
    assert_eq!(disk.ops(), before + 1);
    assert_eq!([offset(first.await), offset(second.await), offset(third.await)], [1, 3, 6]);
    // Each by itself again.
    assert_eq!([offset(append(1).await), offset(append(1).await)], [10, 11]);
    assert_eq!(disk.ops(), before + 3);
}

#[tokio::test(start_paused = true)]
async fn what_was_posted_is_attended_to_also_when_gathering_it_fails() {
    let handle = open(Leadership { flush_mode: FlushMode::Async, ..leadership(0) });
    let append = || handle.append(plain_append(1, Acks::Committed));
    let mut posted = None;
    let gathering = std::panic::AssertUnwindSafe(|| {
        gather(|| {
            posted = Some(append());
            // Within another it changes nothing.
            gather(|| panic!("as a request that was begun after it"))
        })
    });
    assert!(std::panic::catch_unwind(gathering).is_err());
    assert_eq!(posted.unwrap().await.unwrap().base_offset, Offset(0));
    assert_eq!(append().await.unwrap().base_offset, Offset(1));
}

#[tokio::test(start_paused = true)]
async fn writes_that_wait_for_a_full_queue_are_forgotten_when_one_before_them_fails() {
    let disk = SimDisk::new(1);
    let handle = open_on(&disk, leadership(0));
    let append = || handle.append(plain_append(1, Acks::Committed));
    append().await.unwrap();
    disk.set_capacity(Some(disk.used_bytes()));
    // More than the writer's queue takes.
    let count = LOG_REQUESTS_MAX + 300;
    let refused: Vec<_> = gather(|| std::iter::repeat_with(append).take(count).collect());
    let mut fates = Vec::new();
    for appended in refused {
        fates.push(appended.await.map(|it| it.base_offset.0).map_err(|error| error.code()));
    }
    assert!(fates.iter().all(|fate| *fate == Err(ErrorCode::KafkaStorageError)), "{fates:?}");
    disk.set_capacity(None);
    // Nothing has to be found out first, as by the next checkpoint.
    let appended = tokio::time::timeout(Duration::from_millis(1), append()).await;
    assert_eq!(appended.unwrap().unwrap().base_offset, Offset(1));
}
