//! What the quorum promises: openraft's own tests of storage, and what a crash, a full disk and a
//! broken one may and may not do. Shell.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft::storage::RaftLogStorage;
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::{RaftLogReader, StorageError};
use proptest::prelude::*;
use protocol::ids::{BrokerId, Offset};
use protocol::mutant::{Mutant, activate};
use tokio::sync::mpsc;

use super::log_file::{LogFile, LogFileError};
use super::log_store::LogStore;
use super::state_machine::StateMachine;
use super::*;
use crate::disk::{Disk, Fault, Op, RealDisk, SimDisk};
use crate::limits::{QUORUM_FEED_MAX, QUORUM_REWRITE_BYTES_MIN};
use crate::metadata::{self, ConfigRecord, Image, MetadataHandle, Record, Resource, TopicRecord};

/// Far below any election timeout.
const ELECTION: Duration = Duration::from_millis(20);

fn dir() -> PathBuf {
    PathBuf::from("/data/__cluster_metadata-0")
}

fn path() -> PathBuf {
    dir().join("log")
}

/// A disk with the durable directory `/data`.
fn new_disk(seed: u64) -> SimDisk {
    let disk = SimDisk::new(seed);
    disk.create_dir_all(Path::new("/data")).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    disk
}

/// A record that creates a topic of this number.
fn topic(number: u8) -> Bytes {
    let topic_id = protocol::ids::TopicId([number + 1; 16]);
    Record::from(TopicRecord { name: format!("topic-{number}"), topic_id }).encode()
}

fn topics(metadata: &MetadataHandle) -> Vec<String> {
    metadata.image().topics().map(|topic| topic.name.to_string()).collect()
}

/// Starts a quorum of one on `disk`, as a broker would.
async fn begin(disk: &SimDisk) -> Result<(QuorumHandle, MetadataHandle), StartError> {
    begin_at(Arc::new(disk.clone()), dir()).await
}

async fn begin_at(
    disk: Arc<dyn Disk>,
    dir: PathBuf,
) -> Result<(QuorumHandle, MetadataHandle), StartError> {
    let (feed, fed) = mpsc::channel(QUORUM_FEED_MAX);
    let metadata = metadata::start(Image::empty("test"), fed);
    let config = QuorumConfig { node_id: BrokerId(1), dir, seed: 7 };
    let quorum = start(config, disk, feed).await?;
    Ok((quorum, metadata))
}

struct Builder;

impl StoreBuilder<Types, LogStore, StateMachine, SimDisk> for Builder {
    async fn build(&self) -> Result<(SimDisk, LogStore, StateMachine), StorageError<Types>> {
        let disk = new_disk(1);
        disk.create_dir_all(&dir()).unwrap();
        let (feed, fed) = mpsc::channel(QUORUM_FEED_MAX);
        metadata::start(Image::empty("test"), fed);
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        let log = LogStore::open(shared.clone(), &path()).unwrap();
        let machine = StateMachine::open(shared, dir().join("snapshot"), feed).await.unwrap();
        Ok((disk, log, machine))
    }
}

#[tokio::test(start_paused = true)]
async fn the_storage_passes_openrafts_own_tests() {
    Suite::test_all(Builder).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_fresh_directory_becomes_a_quorum_of_one_without_waiting() {
    let disk = new_disk(1);
    let fast = tokio::time::timeout(ELECTION, begin(&disk));
    let (quorum, metadata) = fast.await.expect("an election timeout was waited for").unwrap();
    let end = quorum.propose(vec![topic(0), topic(1)]).await.unwrap();
    assert_eq!(topics(&metadata), ["topic-0", "topic-1"]);
    assert_eq!(metadata.image().end, end);
    let facts = quorum.facts();
    assert_eq!((facts.leader, facts.voters), (BrokerId(1), vec![BrokerId(1)]));
}

#[tokio::test(start_paused = true)]
async fn a_restart_keeps_what_was_answered_and_leads_at_once() {
    let disk = new_disk(1);
    let mut end = Offset::ZERO;
    for round in 0..4 {
        let fast = tokio::time::timeout(ELECTION, begin(&disk));
        let (quorum, metadata) = fast.await.expect("an election timeout was waited for").unwrap();
        let want: Vec<_> = (0..round).map(|number| format!("topic-{number}")).collect();
        assert_eq!(topics(&metadata), want);
        let next = quorum.propose(vec![topic(round)]).await.unwrap();
        assert!(next > end, "an offset was used twice");
        end = next;
        quorum.shutdown().await;
        disk.crash();
    }
}

/// Proposes topics until the disk dies at its `op`th change; returns those that were answered.
async fn until_crash(disk: &SimDisk, op: u64) -> BTreeSet<String> {
    disk.crash_at(op);
    let mut answered = BTreeSet::new();
    let Ok((quorum, _metadata)) = begin(disk).await else { return answered };
    for number in 0..4 {
        if quorum.propose(vec![topic(number)]).await.is_ok() {
            answered.insert(format!("topic-{number}"));
        }
    }
    quorum.shutdown().await;
    answered
}

#[tokio::test(start_paused = true)]
async fn a_crash_at_any_change_of_the_disk_loses_nothing_that_was_answered() {
    let mut crashes = 0;
    for op in 1.. {
        let disk = new_disk(op);
        let answered = until_crash(&disk, op).await;
        let has_crashed = disk.is_dead();
        disk.crash();
        let (quorum, metadata) = begin(&disk).await.unwrap();
        let kept: BTreeSet<_> = topics(&metadata).into_iter().collect();
        assert!(kept.is_superset(&answered), "op {op}: {answered:?} was answered, {kept:?} kept");
        quorum.propose(vec![topic(9)]).await.unwrap();
        quorum.shutdown().await;
        if !has_crashed {
            break;
        }
        crashes += 1;
    }
    assert!(crashes > 10, "only {crashes} crashes happened");
}

/// A vote that a crash takes back would be cast twice in one term.
#[tokio::test(start_paused = true)]
async fn a_vote_that_was_cast_survives_a_crash() {
    for seed in 0..8 {
        let disk = new_disk(seed);
        disk.create_dir_all(&dir()).unwrap();
        disk.sync_dir(Path::new("/data")).unwrap();
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        let vote = openraft::Vote::new(7, 1);
        let mut log = LogStore::open(shared.clone(), &path()).unwrap();
        log.save_vote(&vote).await.unwrap();
        disk.crash();
        let mut log = LogStore::open(shared, &path()).unwrap();
        assert_eq!(log.read_vote().await.unwrap(), Some(vote));
    }
}

#[test]
fn a_log_that_answers_before_it_is_durable_is_noticed() {
    let tests: [fn(); 2] = [
        a_crash_at_any_change_of_the_disk_loses_nothing_that_was_answered,
        a_vote_that_was_cast_survives_a_crash,
    ];
    for test in tests {
        activate(Some(Mutant::SkipQuorumSync));
        let noticed = std::panic::catch_unwind(test).is_err();
        activate(None);
        assert!(noticed);
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_is_waited_out() {
    let disk = new_disk(1);
    let (quorum, metadata) = begin(&disk).await.unwrap();
    disk.set_capacity(Some(disk.used_bytes()));
    let waiting = tokio::time::timeout(Duration::from_secs(60), quorum.propose(vec![topic(0)]));
    assert!(waiting.await.is_err());
    disk.set_capacity(None);
    quorum.propose(vec![topic(1)]).await.unwrap();
    assert_eq!(topics(&metadata), ["topic-0", "topic-1"]);
}

#[tokio::test(start_paused = true)]
async fn a_broken_disk_ends_the_quorum_and_answers_no_success() {
    let disk = new_disk(1);
    let (quorum, metadata) = begin(&disk).await.unwrap();
    disk.inject(Fault::io_error(Op::Sync, 0));
    let refused = quorum.propose(vec![topic(0)]).await;
    assert!(matches!(refused, Err(ProposeError::Stopped { .. })), "{refused:?}");
    let refused = quorum.propose(vec![topic(1)]).await;
    assert!(matches!(refused, Err(ProposeError::Stopped { .. })), "{refused:?}");
    assert!(topics(&metadata).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_stands_for_the_log_that_it_covers() {
    let disk = new_disk(1);
    let (quorum, _) = begin(&disk).await.unwrap();
    for number in 0..5 {
        quorum.propose(vec![topic(number)]).await.unwrap();
    }
    quorum.snapshot().await;
    quorum.propose(vec![topic(5)]).await.unwrap();
    quorum.shutdown().await;
    disk.crash();
    let (quorum, metadata) = begin(&disk).await.unwrap();
    assert_eq!(topics(&metadata).len(), 6);
    quorum.propose(vec![topic(6)]).await.unwrap();
    assert_eq!(topics(&metadata).len(), 7);
}

#[tokio::test(start_paused = true)]
async fn a_large_log_shrinks_when_a_snapshot_covers_it() {
    let disk = new_disk(1);
    let (quorum, _) = begin(&disk).await.unwrap();
    let setting = |round: u8| {
        let record = ConfigRecord {
            resource_type: Resource::TOPIC,
            resource_name: "t".to_owned(),
            name: "n".to_owned(),
            value: Some(char::from(round + b'a').to_string().repeat(30_000)),
        };
        Record::from(record).encode()
    };
    for round in 0..20 {
        quorum.propose(vec![setting(round); 10]).await.unwrap();
    }
    assert!(disk.used_bytes() > QUORUM_REWRITE_BYTES_MIN);
    quorum.snapshot().await;
    assert!(disk.used_bytes() < QUORUM_REWRITE_BYTES_MIN / 10);
    quorum.propose(vec![topic(0)]).await.unwrap();
    quorum.shutdown().await;
    disk.crash();
    let (_quorum, metadata) = begin(&disk).await.unwrap();
    assert_eq!(topics(&metadata), ["topic-0"]);
    let image = metadata.image();
    let (_, value) = image.topic_configs("t").next().unwrap();
    assert!(value.starts_with('t'), "the last of 20 rounds");
}

#[test]
fn a_proposal_of_any_records_comes_back_as_they_were() {
    proptest!(|(records in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..9))| {
        let records: Vec<Bytes> = records.into_iter().map(Bytes::from).collect();
        prop_assert_eq!(record::unpack(record::pack(records.clone())).unwrap(), records);
    });
}

fn open(disk: &SimDisk) -> Result<(LogFile, Vec<Bytes>), LogFileError> {
    LogFile::open(Arc::new(disk.clone()), path())
}

/// A file of three frames.
fn three_frames() -> SimDisk {
    let disk = new_disk(1);
    disk.create_dir_all(&dir()).unwrap();
    disk.sync_dir(Path::new("/data")).unwrap();
    let (mut file, payloads) = open(&disk).unwrap();
    assert!(payloads.is_empty());
    for payload in [b"one", b"two", b"six"] {
        file.append(payload).unwrap();
    }
    disk
}

#[test]
fn a_torn_last_frame_is_cut_off_and_a_damaged_one_before_it_refused() {
    // Each frame takes 12 bytes and its payload of 3.
    let disk = three_frames();
    disk.flip(&path(), 2 * 15 + 13).unwrap();
    let (mut file, payloads) = open(&disk).unwrap();
    assert_eq!(payloads, ["one", "two"]);
    file.append(b"ten").unwrap();
    assert_eq!(open(&disk).unwrap().1, ["one", "two", "ten"]);
    for at in [15, 15 + 5, 15 + 9, 15 + 14] {
        let disk = three_frames();
        disk.flip(&path(), at).unwrap();
        assert!(matches!(open(&disk), Err(LogFileError::Damaged { at: 15, .. })), "byte {at}");
    }
}

#[test]
fn a_failed_append_leaves_the_place_to_the_next() {
    let disk = three_frames();
    let (mut file, _) = open(&disk).unwrap();
    disk.set_capacity(Some(disk.used_bytes() + 14));
    let full = file.append(b"four").unwrap_err();
    assert_eq!(full.kind(), io::ErrorKind::StorageFull);
    file.append(b"4").unwrap();
    disk.crash();
    assert_eq!(open(&disk).unwrap().1, ["one", "two", "six", "4"]);
}

#[test]
fn a_rewrite_is_all_or_nothing_at_any_crash() {
    let (old, new) = (vec!["one", "two", "six"], vec!["new", "two"]);
    let mut seen = BTreeSet::new();
    for op in 1.. {
        let disk = three_frames();
        let (mut file, _) = open(&disk).unwrap();
        disk.crash_at(op);
        let payloads: Vec<_> = new.iter().map(|text| text.as_bytes().to_vec()).collect();
        let is_done = file.rewrite(&payloads).is_ok();
        let has_crashed = disk.is_dead();
        disk.crash();
        let found = open(&disk).unwrap().1;
        assert!(if is_done { found == new } else { found == old || found == new }, "op {op}");
        seen.insert(found == new);
        if !has_crashed {
            break;
        }
    }
    assert_eq!(seen.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_quorum_works_on_real_files_and_threads() {
    let temp = tempfile::tempdir().unwrap();
    for round in 0..2 {
        let place = temp.path().join("metadata");
        let (quorum, metadata) = begin_at(Arc::new(RealDisk), place).await.unwrap();
        quorum.propose(vec![topic(round)]).await.unwrap();
        assert_eq!(topics(&metadata).len(), usize::from(round) + 1);
        quorum.shutdown().await;
    }
}
