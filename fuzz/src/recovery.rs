//! A log whose files were damaged: opening it never stumbles, what stands before the damage is never
//! lost, and nothing is taken for a record whose checksum does not hold.
//!
//! Input: a byte for one of the histories that were written, then damages, each a byte for its kind,
//! one for the file, two for the place, and bytes with their length before them. With the first
//! byte at its largest the rest is the content of a snapshot. Disk.

use std::path::{Path, PathBuf};

use broker::disk::{Disk, Open, SimDisk, read_file};
use broker::log::probe::{DIR, HOME, Probe, small, snapshot_again};
use protocol::ids::{CoordinatorEpoch, ProducerEpoch, ProducerId, Sequence};
use protocol::record::{
    BatchBuilder, BatchOptions, Codec, ControlRecord, HEADER_BYTES, RecordBatch,
};
use protocol::time::Timestamp;

use crate::batch::{mend, sample};
use crate::input::Input;
use crate::memory::in_proportion;

/// Damages that are done, of one input.
const DAMAGES_MAX: usize = 12;
/// 64 KiB: what a file may become.
const FILE_BYTES_MAX: usize = 64 << 10;
/// 6 MiB: pieces in which segments are read, whatever they hold; several at once.
const READ_BYTES: usize = 6 << 20;
/// The first byte that stands for a snapshot.
const SNAPSHOT: u8 = 255;
/// Where the checksum of a snapshot ends.
const SNAPSHOT_HEAD_BYTES: usize = 10;

/// A log that was written.
struct History {
    files: Vec<(PathBuf, Vec<u8>)>,
    batches: Vec<RecordBatch>,
    /// No checkpoint tells of the last segment.
    is_unpromised: bool,
}

/// What was done to the files of a history.
struct Damaged {
    files: Vec<(PathBuf, Option<Vec<u8>>)>,
    /// Where the damage to the last segment begins, if nothing else was damaged.
    tail_at: Option<usize>,
}

thread_local! {
    static HISTORIES: Vec<History> = (0..HISTORY_COUNT).map(history).collect();
}

const HISTORY_COUNT: u8 = 6;

fn data(number: i64, producer: Option<(i64, i32)>, is_transactional: bool) -> RecordBatch {
    let mut builder = BatchBuilder::new(BatchOptions::default());
    for record in 0..1 + number % 3 {
        let timestamp = Timestamp(1000 + number * 10 + record);
        builder.append(timestamp, Some(b"k"), Some(b"some value"), &[]).expect("a small record");
    }
    let (id, epoch, sequence) = producer.map_or((-1, -1, -1), |(id, at)| (id, 0, at));
    builder.finish(ProducerId(id), ProducerEpoch(epoch), Sequence(sequence), is_transactional)
}

/// History number `number`: short and long, with transactions, with a checkpoint, closed in order.
fn history(number: u8) -> History {
    let disk = SimDisk::new(u64::from(number));
    let mut probe = Probe::open(&disk, small()).expect("a new log");
    let mut sequences = [0; 3];
    let mut append = |probe: &mut Probe, at: i64| {
        let producer = usize::try_from(at % 3).expect("small");
        let batch = match number {
            0 => data(at, None, false),
            3 => sample([Codec::None, Codec::Lz4][producer % 2], 2, 1, false),
            _ if at % 7 == 6 => {
                let coordinator_epoch = CoordinatorEpoch(1);
                let marker = ControlRecord::Abort { coordinator_epoch };
                marker.end_txn_marker(ProducerId(at % 3), ProducerEpoch(0), Timestamp(2000 + at))
            }
            _ => {
                let batch = data(at, Some((at % 3, sequences[producer])), at % 2 == 0);
                sequences[producer] += batch.header().record_count;
                batch
            }
        };
        probe.append(&batch, i32::try_from(at / 5).expect("small")).expect("a sound disk");
    };
    let count = [4, 18, 5, 9, 20, 12][usize::from(number)];
    for at in 0..count {
        append(&mut probe, at);
        if number == 4 && at == count / 2 {
            probe.checkpoint().expect("a sound disk");
        }
    }
    let batches = probe.batches().expect("a sound disk");
    if number == 5 {
        probe.close().expect("a sound disk");
    }
    let mut files = Vec::new();
    for dir in [HOME, DIR] {
        for name in disk.list(Path::new(dir)).expect("a directory") {
            let path = Path::new(dir).join(name);
            if let Ok(bytes) = read_file(&disk, &path, 1 << 20) {
                files.push((path, bytes));
            }
        }
    }
    History { files, batches, is_unpromised: number < 4 }
}

/// Tries one input.
///
/// # Panics
/// When a law is broken.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let number = input.byte();
    if number == SNAPSHOT {
        return check_snapshot(input.rest());
    }
    HISTORIES.with(|histories| {
        let history = &histories[usize::from(number) % histories.len()];
        in_proportion(bytes.len(), READ_BYTES, || {
            let damaged = damage(history, input);
            check(history, &damaged);
        });
    });
}

fn is_segment(path: &Path) -> bool {
    path.extension().is_some_and(|it| it == "log")
}

fn damage(history: &History, mut input: Input<'_>) -> Damaged {
    let last = history.files.iter().rposition(|(path, _)| is_segment(path)).expect("a segment");
    let mut files: Vec<_> =
        history.files.iter().map(|(path, bytes)| (path.clone(), Some(bytes.clone()))).collect();
    let whole = history.files[last].1.len();
    let mut tail_at = history.is_unpromised.then_some(whole);
    for _ in 0..DAMAGES_MAX {
        if input.is_empty() {
            break;
        }
        let (kind, file) = (input.byte() % 8, usize::from(input.byte()));
        // Every other damage is to what is being written: that is what crashes damage.
        let file = if file % 2 == 0 { last } else { file / 2 % files.len() };
        let at = input.number();
        let Some(bytes) = &mut files[file].1 else { continue };
        let at = at % (bytes.len() + 1);
        let more = input.short();
        match kind {
            0 => bytes.iter_mut().skip(at).zip(more).for_each(|(byte, more)| *byte ^= more),
            1 => bytes.iter_mut().skip(at).zip(more).for_each(|(byte, more)| *byte = *more),
            2 => bytes.truncate(at),
            3 => bytes.extend_from_slice(more),
            4 => bytes.resize((bytes.len() + 37 * more.len()).min(FILE_BYTES_MAX), 0),
            5 => {
                bytes.splice(at..at, more.iter().copied());
            }
            6 => mend_all(bytes),
            _ if file != last => files[file].1 = None,
            _ => bytes.extend_from_within(at..),
        }
        if let Some(bytes) = &mut files[file].1 {
            bytes.truncate(FILE_BYTES_MAX);
        }
        if file != last {
            tail_at = None;
        }
    }
    if let (Some(at), Some(now)) = (&mut tail_at, &files[last].1) {
        let same = now.iter().zip(&history.files[last].1).take_while(|(a, b)| a == b);
        *at = same.count();
    }
    Damaged { files, tail_at }
}

/// Makes the checksum of every batch in `bytes` true.
fn mend_all(bytes: &mut [u8]) {
    /// Of `mend`: the checksum alone.
    const CHECKSUM: u8 = 2;
    let mut at = 0;
    while let Some(size) = bytes.get_mut(at..).and_then(|rest| mend(rest, CHECKSUM)) {
        at += size;
    }
}

fn check(history: &History, damaged: &Damaged) {
    let disk = SimDisk::new(1);
    disk.create_dir_all(Path::new(DIR)).expect("a sound disk");
    for (path, bytes) in &damaged.files {
        let Some(bytes) = bytes else { continue };
        let file = disk.open(path, Open::Create).expect("a sound disk");
        file.write_at(&[bytes], 0).expect("a sound disk");
    }
    let opened = Probe::open(&disk, small());
    let Some(tail_at) = damaged.tail_at else {
        // Anything may be missing; to say so is right, to stumble is not.
        if let Ok(probe) = opened {
            let _ = probe.batches();
            go_on(probe, &disk);
        }
        return;
    };
    let probe = opened.expect("what is being written may be damaged");
    let found = probe.batches().expect("a sound disk");
    let mut sound = history.batches.clone();
    let (_, base) = last_segment(history);
    let mut at = 0;
    sound.retain(|batch| {
        if batch.header().base_offset.0 < base {
            return true;
        }
        at += batch.bytes().len();
        at <= tail_at
    });
    assert!(found.len() >= sound.len(), "what stood before the damage at {tail_at} is lost");
    assert_eq!(found[..sound.len()], sound);
    for batch in &found[sound.len()..] {
        assert_eq!(batch.verify_crc(), Ok(()));
    }
    go_on(probe, &disk);
}

fn last_segment(history: &History) -> (&Path, i64) {
    let (path, _) = history.files.iter().rfind(|(path, _)| is_segment(path)).expect("a segment");
    let name = path.file_stem().and_then(|it| it.to_str()).expect("a name");
    (path, name.parse().expect("an offset"))
}

/// A log that was opened can be written to, closed and opened again.
fn go_on(mut probe: Probe, disk: &SimDisk) {
    let newest = probe.state().epochs().newest().map_or(0, |(epoch, _)| epoch.0);
    if probe.append(&data(1, None, false), newest.max(9)).is_err() {
        return;
    }
    let end = probe.state().log_end();
    let Ok(before) = probe.batches() else { return };
    if probe.close().is_err() {
        return;
    }
    let Ok(again) = Probe::open(disk, small()) else {
        // What is complete is looked at only when the log is opened: damage may show now.
        return;
    };
    assert_eq!(again.state().log_end(), end);
    assert_eq!(again.recovery().truncated_bytes, 0);
    if let Ok(after) = again.batches() {
        assert_eq!(after, before);
    }
}

fn check_snapshot(bytes: &[u8]) {
    let mut bytes = bytes.to_vec();
    if bytes.len() >= SNAPSHOT_HEAD_BYTES {
        let crc = crc_fast::crc32_iscsi(&bytes[SNAPSHOT_HEAD_BYTES..]);
        bytes[6..SNAPSHOT_HEAD_BYTES].copy_from_slice(&crc.to_be_bytes());
    }
    let again = in_proportion(bytes.len(), 0, || snapshot_again(&bytes));
    if let Some(again) = again {
        assert_eq!(snapshot_again(&again), Some(again));
    }
}

/// Each history with one damage of each kind, and the snapshots of all.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for number in 0..HISTORY_COUNT {
        for kind in 0..8 {
            for (file, at) in [(0, 90), (0, 8), (5, 20), (9, 0)] {
                seeds.push(vec![number, kind, file, 0, at, 2, 0x40, 0x01, 6, 0]);
            }
        }
        // The base offset of the second batch, far beyond.
        seeds.push(vec![number, 0, 0, 0, u8::try_from(HEADER_BYTES).expect("61"), 1, 0x40]);
        seeds.push(vec![number]);
        for (path, bytes) in history(number).files {
            if path.extension().is_some_and(|it| it == "snapshot") {
                seeds.push([&[SNAPSHOT], &bytes[..]].concat());
            }
        }
    }
    seeds
}
