//! The directory's writer: group commit, stalls, offline, orderly and disorderly ends.

use std::path::PathBuf;

use protocol::ids::{BrokerEpoch, BrokerId};

use super::*;
use crate::disk::RealDisk;
use crate::limits::OpenFiles;
use crate::log::{DirConfig, DirHandle, Found, Identity, LogId, Mode, Opened, Shutdown, Started};

fn identity() -> Identity {
    Identity { cluster_id: "c".to_owned(), node_id: BrokerId(1), directory_id: [9; 16] }
}

fn try_start(disk: &SimDisk) -> Result<Started, LogError> {
    try_start_with(disk, &OpenFiles::unbounded())
}

fn try_start_with(disk: &SimDisk, files: &Arc<OpenFiles>) -> Result<Started, LogError> {
    let (path, files) = (PathBuf::from("/data"), files.clone());
    let config = DirConfig { path, identity: identity(), mode: Mode::Inline, files };
    DirHandle::start(Arc::new(disk.clone()), config)
}

fn start(disk: &SimDisk) -> (DirHandle, Found) {
    let Started { handle, found } = try_start(disk).unwrap();
    (handle, found)
}

async fn open(handle: &DirHandle, partition: i32) -> Result<Opened, LogError> {
    handle.open(TopicPartition::new("t", partition), TOPIC_ID, config()).await
}

/// Decides on a batch of one record.
fn decide(opened: &mut Opened, sync: bool) -> Vec<Write> {
    let placed = Placed::new(&data(1, 0, None, false), opened.state.log_end(), LeaderEpoch(0));
    let mut writes = Vec::new();
    opened.state.admit([placed.unwrap()], &LogConfig::default(), sync, &mut writes);
    writes
}

/// Submits batches of one record each without waiting for their fate.
async fn submit(handle: &DirHandle, opened: &mut Opened, count: usize, sync: bool) {
    for _ in 0..count {
        for write in decide(opened, sync) {
            handle.submit(opened.id, write).await.unwrap();
        }
    }
}

/// As `submit`, in the way that never waits.
fn submit_at_once(handle: &DirHandle, opened: &mut Opened, sync: bool) {
    for write in decide(opened, sync) {
        handle.try_submit(opened.id, &mut vec![write]);
    }
}

async fn synced(opened: &mut Opened, end: i64) {
    let reached = |progress: &Progress| progress.synced == Offset(end);
    opened.progress.wait_for(reached).await.unwrap();
}

async fn stalled(opened: &mut Opened) -> LogError {
    let stalled = |progress: &Progress| progress.stalled.is_some();
    let minute = Duration::from_secs(60);
    let waited = tokio::time::timeout(minute, opened.progress.wait_for(stalled)).await;
    let progress = waited.expect("it stalls").unwrap();
    progress.stalled.clone().unwrap()
}

#[tokio::test(start_paused = true)]
async fn writes_that_wait_together_are_synced_together() {
    let disk = SimDisk::new(1);
    let (handle, _) = start(&disk);
    let mut logs = [open(&handle, 0).await.unwrap(), open(&handle, 1).await.unwrap()];
    for log in &mut logs {
        submit(&handle, log, 1, true).await;
        synced(log, 1).await;
    }
    let (ops, syncs) = (disk.ops(), disk.syncs());
    for log in &mut logs {
        submit(&handle, log, 10, true).await;
    }
    for log in &mut logs {
        synced(log, 11).await;
    }
    assert_eq!(disk.syncs() - syncs, 2, "one for each file");
    assert_eq!(disk.ops() - ops, 4, "and one write before it");
    disk.crash();
    let (handle, found) = start(&disk);
    assert_eq!(found.shutdown, Shutdown::Unclean);
    let names: Vec<String> = found.partitions.iter().map(|(name, _)| name.to_string()).collect();
    assert_eq!(names, ["t-0", "t-1"]);
    assert_eq!(found.partitions[0].1, Some(TOPIC_ID));
    assert_eq!(open(&handle, 1).await.unwrap().state.log_end(), Offset(11));
}

#[tokio::test(start_paused = true)]
async fn more_logs_may_be_written_to_than_files_may_be_open() {
    let disk = SimDisk::new(1);
    let files = OpenFiles::new(16 * 4);
    let handle = try_start_with(&disk, &files).unwrap().handle;
    let mut logs = Vec::new();
    for partition in 0..100 {
        logs.push(open(&handle, partition).await.unwrap());
    }
    for end in 1..=4 {
        for log in &mut logs {
            if end % 2 == 0 {
                submit_at_once(&handle, log, false);
            } else {
                submit(&handle, log, 1, end == 3).await;
            }
            log.progress.wait_for(|it| it.written == Offset(end)).await.unwrap();
            assert!((1..=files.growing_max()).contains(&files.growing()), "{files:?}");
        }
    }
    let mut synced = Vec::new();
    for log in &logs {
        let progress = log.progress.borrow().clone();
        assert!(progress.stalled.is_none());
        synced.push(progress.synced);
        let last = log.reader.read(Offset(3), Offset(4), 1 << 10, true).unwrap();
        assert_eq!(last.first.unwrap().base_offset, Offset(3));
    }
    assert!(synced.contains(&Offset(3)) && synced.contains(&Offset(4)), "{synced:?}");
    disk.crash();
    let files = OpenFiles::new(16 * 4);
    let handle = try_start_with(&disk, &files).unwrap().handle;
    for (partition, synced) in (0..).zip(synced) {
        let log = open(&handle, partition).await.unwrap();
        assert!(log.state.log_end() >= synced);
    }
    assert_eq!(files.growing(), 0, "who only opens a log to read it opens no file to write to");
}

#[tokio::test(start_paused = true)]
async fn logs_that_are_not_written_to_give_files_back_that_connections_may_lack() {
    let disk = SimDisk::new(1);
    let files = OpenFiles::new(16 * 4);
    let handle = try_start_with(&disk, &files).unwrap().handle;
    for partition in 0..40 {
        let mut log = open(&handle, partition).await.unwrap();
        submit(&handle, &mut log, 1, true).await;
        synced(&mut log, 1).await;
    }
    assert_eq!((files.growing(), files.connections_max()), (40, 16));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(files.growing() <= 16 && files.connections_max() == 40, "{files:?}");
}

#[tokio::test(start_paused = true)]
async fn many_logs_are_synced_at_one_go() {
    let disk = SimDisk::new(1);
    let (handle, _) = start(&disk);
    let mut logs = Vec::new();
    for partition in 0..20 {
        logs.push(open(&handle, partition).await.unwrap());
    }
    // The first writes make directories and files, too.
    for end in 1..=2 {
        let syncs = disk.syncs();
        for log in &mut logs {
            submit(&handle, log, 1, true).await;
        }
        for log in &mut logs {
            synced(log, end).await;
        }
        assert_eq!(disk.syncs() - syncs, 1);
    }
    disk.crash();
    let (handle, _) = start(&disk);
    for partition in 0..20 {
        assert_eq!(open(&handle, partition).await.unwrap().state.log_end(), Offset(2));
    }
}

/// What a log opens as whose topic id was replaced by `text`, once it was in a checkpoint or before.
async fn opened_with_topic_id(text: &[u8], is_promised: bool) -> Result<Opened, LogError> {
    let disk = SimDisk::new(1);
    let (handle, _) = start(&disk);
    let mut log = open(&handle, 0).await.unwrap();
    submit(&handle, &mut log, 1, !is_promised).await;
    synced(&mut log, 1).await;
    drop((handle, log));
    tokio::task::yield_now().await;
    let path = PathBuf::from("/data/t-0/partition.metadata");
    crate::disk::replace_file(&disk, &path, text).unwrap();
    disk.crash();
    let (handle, _) = start(&disk);
    open(&handle, 0).await
}

#[tokio::test(start_paused = true)]
async fn a_log_whose_topic_id_was_never_synced_holds_nothing() {
    for torn in [&b""[..], b"version: 1\ntopic_id", &[0; 52], b"no topic id"] {
        let opened = opened_with_topic_id(torn, false).await.unwrap();
        assert_eq!(opened.state.log_end(), Offset(0));
        let promised = opened_with_topic_id(torn, true).await;
        assert!(matches!(promised, Err(LogError::Corrupt { .. })), "{promised:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_found_after_a_kill_is_durable_once_it_was_opened() {
    let disk = SimDisk::new(1);
    let (handle, _) = start(&disk);
    let mut log = open(&handle, 0).await.unwrap();
    submit(&handle, &mut log, 3, false).await;
    log.progress.wait_for(|progress| progress.written == Offset(3)).await.unwrap();
    // The process ends, the machine lives: nothing was synced, and all is there.
    drop((handle, log));
    tokio::task::yield_now().await;
    let (handle, _) = start(&disk);
    assert_eq!(open(&handle, 0).await.unwrap().state.log_end(), Offset(3));
    disk.crash();
    let (handle, _) = start(&disk);
    assert_eq!(open(&handle, 0).await.unwrap().state.log_end(), Offset(3));
}

#[tokio::test(start_paused = true)]
async fn what_no_one_waits_for_is_durable_soon_and_needs_no_recovery() {
    let disk = SimDisk::new(1);
    let (handle, _) = start(&disk);
    let mut log = open(&handle, 0).await.unwrap();
    submit(&handle, &mut log, 3, false).await;
    log.progress.wait_for(|progress| progress.written == Offset(3)).await.unwrap();
    assert_eq!(log.progress.borrow().synced, Offset(0));
    synced(&mut log, 3).await;
    disk.crash();
    let (handle, _) = start(&disk);
    let log = open(&handle, 0).await.unwrap();
    assert_eq!(log.state.log_end(), Offset(3));
    assert_eq!(log.recovery.scanned_bytes, 0);
}

#[tokio::test(start_paused = true)]
async fn a_sync_that_fails_before_a_checkpoint_is_noted_takes_the_directory_offline() {
    let mut failed = 0;
    loop {
        let disk = SimDisk::new(1);
        let (handle, _) = start(&disk);
        let mut log = open(&handle, 0).await.unwrap();
        submit(&handle, &mut log, 3, false).await;
        log.progress.wait_for(|progress| progress.written == Offset(3)).await.unwrap();
        disk.inject(Fault::io_error(Op::Sync, failed));
        let done = |it: &Progress| it.stalled.is_some() || it.synced == Offset(3);
        let stalled = log.progress.wait_for(done).await.unwrap().stalled.clone();
        tokio::time::sleep(Duration::from_secs(1)).await;
        let health = handle.health().borrow().clone();
        assert!(stalled.is_none() || matches!(health, Some(LogError::Io { .. })), "{failed}");
        disk.crash();
        let (handle, _) = start(&disk);
        let log = open(&handle, 0).await.expect("nothing was promised that is not there");
        if stalled.is_none() {
            assert_eq!(log.state.log_end(), Offset(3));
            break;
        }
        failed += 1;
    }
    // The topic id, the batches and the checkpoint, once each.
    assert_eq!(failed, 3);
}

#[tokio::test(start_paused = true)]
async fn a_small_write_that_asks_for_no_sync_is_written_by_who_submits_it() {
    let disk = SimDisk::new(1);
    let (handle, _) = start(&disk);
    let mut log = open(&handle, 0).await.unwrap();
    // The first begins the epoch and the file, which is the loop's.
    submit(&handle, &mut log, 1, false).await;
    log.progress.wait_for(|progress| progress.written == Offset(1)).await.unwrap();
    submit_at_once(&handle, &mut log, false);
    assert_eq!(log.progress.borrow().written, Offset(2), "with no task in between");
    assert!(log.progress.borrow().synced < Offset(2));
    synced(&mut log, 2).await;
    // Also when the loop had nothing left to do.
    submit_at_once(&handle, &mut log, false);
    synced(&mut log, 3).await;
}

#[tokio::test(start_paused = true)]
async fn a_write_never_overtakes_one_that_waits() {
    let disk = SimDisk::new(1);
    let (handle, _) = start(&disk);
    let mut log = open(&handle, 0).await.unwrap();
    submit(&handle, &mut log, 1, true).await;
    synced(&mut log, 1).await;
    submit_at_once(&handle, &mut log, true);
    submit_at_once(&handle, &mut log, false);
    assert_eq!(log.progress.borrow().written, Offset(1));
    synced(&mut log, 3).await;
    assert!(log.progress.borrow().stalled.is_none());
    // Nothing waits any more.
    submit_at_once(&handle, &mut log, false);
    assert_eq!(log.progress.borrow().written, Offset(4));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_written_past_a_writer_that_has_ended() {
    let disk = SimDisk::new(1);
    let (handle, _) = start(&disk);
    let mut log = open(&handle, 0).await.unwrap();
    submit(&handle, &mut log, 1, true).await;
    synced(&mut log, 1).await;
    handle.shutdown(None).await.unwrap();
    let ops = disk.ops();
    submit_at_once(&handle, &mut log, false);
    assert_eq!((disk.ops(), log.progress.borrow().written), (ops, Offset(1)));
    // The directory is free, though the old handle lives.
    let (_again, _) = start(&disk);
}

#[tokio::test(start_paused = true)]
async fn a_busy_writer_makes_durable_what_no_one_waits_for_all_the_same() {
    let disk = SimDisk::new(1);
    let (handle, _) = start(&disk);
    let mut log = open(&handle, 0).await.unwrap();
    submit(&handle, &mut log, 3, false).await;
    let mut other = open(&handle, 1).await.unwrap();
    for _ in 0..100 {
        submit(&handle, &mut other, 1, true).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(log.progress.borrow().synced, Offset(3));
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_stalls_a_log_until_its_state_was_fetched_again() {
    let disk = SimDisk::new(1);
    let (handle, _) = start(&disk);
    let mut log = open(&handle, 0).await.unwrap();
    let mut other = open(&handle, 1).await.unwrap();
    submit(&handle, &mut other, 1, true).await;
    submit(&handle, &mut log, 1, true).await;
    synced(&mut log, 1).await;
    disk.set_capacity(Some(disk.used_bytes() + 20));
    submit(&handle, &mut log, 2, true).await;
    assert!(matches!(stalled(&mut log).await, LogError::Full { .. }));
    disk.set_capacity(None);
    submit(&handle, &mut log, 1, true).await;
    log.state = handle.restate(log.id).await.unwrap();
    assert_eq!(log.state.log_end(), Offset(1), "what came meanwhile was refused, too");
    assert!(log.progress.borrow().stalled.is_none());
    submit(&handle, &mut log, 2, true).await;
    synced(&mut log, 3).await;
    submit(&handle, &mut other, 1, true).await;
    synced(&mut other, 2).await;
    assert!(handle.health().borrow().is_none());
}

#[tokio::test(start_paused = true)]
async fn who_can_open_no_file_tries_again_and_the_directory_stays_online() {
    for after in 0..6 {
        let disk = SimDisk::new(1);
        let (handle, _) = start(&disk);
        let mut log = open(&handle, 0).await.unwrap();
        disk.inject(Fault { on: Some(Op::Open), after, times: 3, one_in: 1, errno: 24 });
        submit(&handle, &mut log, 1, true).await;
        let done = |it: &Progress| it.stalled.is_some() || it.synced == Offset(1);
        let stalled = log.progress.wait_for(done).await.unwrap().stalled.clone();
        if let Some(error) = stalled {
            assert!(matches!(error, LogError::OutOfFiles { .. }), "{error}");
            disk.clear_faults();
            log.state = handle.restate(log.id).await.unwrap();
            submit(&handle, &mut log, 1, true).await;
            synced(&mut log, 1).await;
        }
        assert!(handle.health().borrow().is_none());
        disk.crash();
        let (handle, _) = start(&disk);
        assert_eq!(open(&handle, 0).await.unwrap().state.log_end(), Offset(1));
    }
}

#[tokio::test(start_paused = true)]
pub(super) async fn after_a_failed_sync_nothing_is_ever_acknowledged_again() {
    let disk = SimDisk::new(1);
    let (handle, _) = start(&disk);
    let mut log = open(&handle, 0).await.unwrap();
    let other = open(&handle, 1).await.unwrap();
    submit(&handle, &mut log, 1, true).await;
    synced(&mut log, 1).await;
    disk.inject(Fault::io_error(Op::Sync, 0));
    submit(&handle, &mut log, 1, true).await;
    assert!(matches!(stalled(&mut log).await, LogError::Offline { .. }));
    submit(&handle, &mut log, 1, true).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(log.progress.borrow().synced, Offset(1));
    assert!(other.progress.borrow().stalled.is_some(), "the whole directory is offline");
    assert!(matches!(handle.restate(log.id).await, Err(LogError::Offline { .. })));
    assert!(matches!(open(&handle, 2).await, Err(LogError::Offline { .. })));
    assert!(matches!(*handle.health().borrow(), Some(LogError::Io { .. })));
    assert!(handle.shutdown(Some(BrokerEpoch(5))).await.is_err());
    disk.crash();
    let (handle, found) = start(&disk);
    assert_eq!(found.shutdown, Shutdown::Unclean);
    assert!(open(&handle, 0).await.unwrap().state.log_end() >= Offset(1));
}

#[tokio::test(start_paused = true)]
pub(super) async fn an_orderly_stop_is_known_at_the_next_start_and_only_then() {
    let disk = SimDisk::new(1);
    let (handle, found) = start(&disk);
    assert_eq!((found.shutdown, found.directory_id), (Shutdown::Unclean, [9; 16]));
    let mut logs = [open(&handle, 0).await.unwrap(), open(&handle, 1).await.unwrap()];
    for log in &mut logs {
        submit(&handle, log, 5, false).await;
    }
    let [first, _] = logs;
    handle.close(first.id, Some(first.state)).await.unwrap();
    assert!(matches!(handle.restate(first.id).await, Err(LogError::NotOpen { .. })));
    handle.shutdown(Some(BrokerEpoch(5))).await.unwrap();
    assert!(matches!(handle.restate(first.id).await, Err(LogError::Closed)));
    disk.crash();
    let (handle, found) = start(&disk);
    assert_eq!(found.shutdown, Shutdown::Clean { broker_epoch: BrokerEpoch(5) });
    let logs = [open(&handle, 0).await.unwrap(), open(&handle, 1).await.unwrap()];
    for log in &logs {
        assert_eq!(log.recovery.scanned_bytes, 0);
        assert_eq!(log.state.log_end(), Offset(5));
    }
    assert_eq!(logs[0].recovery.walked_bytes, 0, "it was closed with its state");
    disk.crash();
    assert_eq!(start(&disk).1.shutdown, Shutdown::Unclean);
}

#[tokio::test(start_paused = true)]
async fn a_deleted_log_stays_deleted_and_its_name_is_free() {
    for seed in 0..10 {
        let disk = SimDisk::new(seed);
        let (handle, _) = start(&disk);
        let mut log = open(&handle, 0).await.unwrap();
        submit(&handle, &mut log, 5, true).await;
        assert!(matches!(open(&handle, 0).await, Err(LogError::AlreadyOpen { .. })));
        handle.delete(log.id).await.unwrap();
        disk.crash();
        let (handle, found) = start(&disk);
        assert!(found.partitions.is_empty());
        let again = handle.open(TopicPartition::new("t", 0), TopicId([8; 16]), config()).await;
        assert_eq!(again.unwrap().state.log_end(), Offset(0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_crash_during_deletion_leaves_the_whole_log_or_nothing() {
    let mut ends = std::collections::BTreeSet::new();
    for crash_at in 1..12 {
        for seed in 0..6 {
            let disk = SimDisk::new(seed);
            let (handle, _) = start(&disk);
            let mut log = open(&handle, 0).await.unwrap();
            submit(&handle, &mut log, 5, true).await;
            synced(&mut log, 5).await;
            disk.crash_at(crash_at);
            let deleted = handle.delete(log.id).await;
            disk.crash();
            let (handle, found) = start(&disk);
            let end = open(&handle, 0).await.unwrap().state.log_end();
            assert_eq!(found.partitions.is_empty(), end == Offset(0));
            assert!(deleted.is_err() || end == Offset(0), "it was acknowledged");
            assert!(disk.list(Path::new("/data")).unwrap().iter().all(|n| !n.ends_with("-delete")));
            ends.insert(end);
        }
    }
    assert_eq!(ends.into_iter().collect::<Vec<_>>(), [Offset(0), Offset(5)]);
}

#[tokio::test(start_paused = true)]
async fn a_directory_has_one_user_and_one_owner() {
    let disk = SimDisk::new(1);
    let (handle, _) = start(&disk);
    assert!(matches!(try_start(&disk), Err(LogError::Locked { .. })));
    handle.shutdown(None).await.unwrap();
    let identity = Identity { node_id: BrokerId(2), ..identity() };
    let config = DirConfig {
        path: PathBuf::from("/data"),
        identity,
        mode: Mode::Inline,
        files: OpenFiles::unbounded(),
    };
    let error = DirHandle::start(Arc::new(disk.clone()), config).err().unwrap();
    assert!(matches!(error, LogError::Foreign { .. }), "{error}");
    assert_eq!(start(&disk).1.shutdown, Shutdown::Unclean, "it was not asked for");
}

#[tokio::test(start_paused = true)]
async fn a_handle_can_truncate_delete_and_begin_anew() {
    let disk = SimDisk::new(1);
    let (handle, _) = start(&disk);
    let mut log = open(&handle, 0).await.unwrap();
    submit(&handle, &mut log, 9, true).await;
    log.state = handle.truncate(log.id, Offset(7)).await.unwrap();
    assert_eq!(log.state.log_end(), Offset(7));
    assert_eq!(handle.delete_before(log.id, Offset(3)).await.unwrap(), Offset(3));
    log.state.delete_before(Offset(3));
    submit(&handle, &mut log, 1, true).await;
    synced(&mut log, 8).await;
    assert_eq!((log.reader.log_start(), log.reader.log_end()), (Offset(3), Offset(8)));
    log.state = handle.restart_at(log.id, Offset(50)).await.unwrap();
    submit(&handle, &mut log, 1, true).await;
    synced(&mut log, 51).await;
    assert_eq!(log.reader.log_start(), Offset(50));
    assert!(matches!(handle.restate(LogId(77)).await, Err(LogError::NotOpen { .. })));
}

#[tokio::test]
async fn the_writer_works_on_a_thread_and_real_files() {
    let dir = tempfile::tempdir().unwrap();
    let start = || {
        let path = dir.path().to_owned();
        let config = DirConfig {
            path,
            identity: identity(),
            mode: Mode::Thread,
            files: OpenFiles::unbounded(),
        };
        DirHandle::start(Arc::new(RealDisk), config).unwrap()
    };
    let handle = start().handle;
    let mut log = open(&handle, 0).await.unwrap();
    submit(&handle, &mut log, 100, true).await;
    synced(&mut log, 100).await;
    let slice = log.reader.read(Offset(40), Offset(100), 1 << 20, true).unwrap();
    assert_eq!((slice.first.unwrap().base_offset, slice.next_offset), (Offset(40), Offset(100)));
    handle.shutdown(Some(BrokerEpoch(1))).await.unwrap();
    let again = start();
    assert_eq!(again.found.shutdown, Shutdown::Clean { broker_epoch: BrokerEpoch(1) });
    assert_eq!(open(&again.handle, 0).await.unwrap().state.log_end(), Offset(100));
    again.handle.shutdown(None).await.unwrap();
}
