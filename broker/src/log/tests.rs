//! The log against a model, with the power cut at every operation of the disk.
//!
//! A [`Script`] of steps runs on a simulated disk; what must survive is tracked beside it. After
//! each end the log is opened anew and compared: with what was acknowledged, with a replay from
//! scratch, and its indexes with a full scan.

mod compaction;
mod mistakes;
mod shell;

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use protocol::ids::{
    CoordinatorEpoch, LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, TopicId,
    TopicPartition,
};
use protocol::record::{BatchBuilder, BatchHeader, BatchOptions, ControlRecord, RecordBatch};
use protocol::time::Timestamp;

use super::checkpoint::Checkpoints;
use super::error::LogError;
use super::note::Note;
use super::producers::{AbortedTxn, Checked, Origin};
use super::reader::Located;
use super::reader::Reader;
use super::recovery::{Place, Recovery};
use super::shell::Progress;
use super::snapshot;
use super::state::{ActiveSegment, LogConfig, LogState, Placed, Write};
use super::store::Log;
use crate::disk::{Disk, Fault, Op, Open, RealDisk, SimDisk};
use proptest::prelude::*;
use protocol::error_code::ErrorCode;

const TOPIC_ID: TopicId = TopicId([7; 16]);

/// Small segments and a dense index, so that short scripts meet every case.
fn config() -> LogConfig {
    LogConfig {
        segment_bytes: 700,
        segment_roll: Duration::from_secs(3600),
        segment_jitter: Duration::ZERO,
        jitter_seed: 0,
        segment_index_bytes: 1 << 20,
        index_interval_bytes: 150,
        snapshot_interval_bytes: 400,
        zeros_bytes_max: 300,
        space_bytes_max: 400,
    }
}

fn place(disk: &SimDisk) -> Place {
    Place {
        disk: Arc::new(disk.clone()),
        dir: Arc::from(Path::new("/data/t-0")),
        partition: TopicPartition::new("t", 0),
        topic_id: TOPIC_ID,
        config: config(),
        files: Arc::default(),
    }
}

fn data(
    count: usize,
    at: i64,
    producer: Option<(i64, i16, i32)>,
    is_transactional: bool,
) -> RecordBatch {
    let mut builder = BatchBuilder::new(BatchOptions::default());
    for n in 0..count {
        let value = vec![b'v'; 10 + 7 * n];
        builder
            .append(Timestamp(at + i64::try_from(n).unwrap()), Some(b"k"), Some(&value), &[])
            .unwrap();
    }
    let (id, epoch, sequence) = producer.unwrap_or((-1, -1, -1));
    builder.finish(ProducerId(id), ProducerEpoch(epoch), Sequence(sequence), is_transactional)
}

fn marker(producer: i64, epoch: i16, commit: bool, at: i64) -> RecordBatch {
    let coordinator_epoch = CoordinatorEpoch(1);
    let control = if commit {
        ControlRecord::Commit { coordinator_epoch }
    } else {
        ControlRecord::Abort { coordinator_epoch }
    };
    control.end_txn_marker(ProducerId(producer), ProducerEpoch(epoch), Timestamp(at))
}

/// An open log with all that belongs to it.
struct Rig {
    disk: SimDisk,
    config: LogConfig,
    checkpoints: Checkpoints,
    log: Log,
    state: LogState,
    reader: Reader,
    recovery: Recovery,
    /// What was taken down for the next checkpoint.
    note: Option<Note>,
}

impl Rig {
    fn open(disk: &SimDisk) -> Result<Self, LogError> {
        Self::open_with(disk, config())
    }

    fn open_with(disk: &SimDisk, config: LogConfig) -> Result<Self, LogError> {
        let path = Path::new("/data");
        disk.create_dir_all(path).map_err(|error| LogError::of(path, "create", error))?;
        disk.sync_dir(Path::new("/")).map_err(|error| LogError::of(path, "sync", error))?;
        let checkpoints = Checkpoints::open(Arc::new(disk.clone()), path.join("checkpoint"))?;
        let place = Place { config: config.clone(), ..place(disk) };
        let (log, state, recovery) = Log::open(place, &checkpoints)?;
        state.check();
        let reader = log.reader();
        let (disk, note) = (disk.clone(), None);
        Ok(Self { disk, config, checkpoints, log, state, reader, recovery, note })
    }

    fn admit(&mut self, batch: &RecordBatch, leader_epoch: i32) -> Vec<Write> {
        let placed = Placed::new(batch, self.state.log_end(), LeaderEpoch(leader_epoch)).unwrap();
        let mut writes = Vec::new();
        self.state.admit([placed], &self.config, true, &mut writes);
        self.state.check();
        writes
    }

    fn take_down(&mut self) -> Result<(), LogError> {
        self.note = Some(self.log.take_down()?);
        Ok(())
    }

    /// As another thread and the writer do it, one after the other. False: there was nothing to believe.
    fn believe(&mut self) -> Result<bool, LogError> {
        let Some(note) = self.note.take() else { return Ok(false) };
        let is_true = note.sync(&self.disk)?;
        let is_believed = is_true && self.log.believe(&note, &mut self.checkpoints);
        let unstored = self.checkpoints.take_unstored();
        unstored.map_or(Ok(()), |unstored| unstored.store())?;
        Ok(is_believed)
    }

    fn append(&mut self, batch: &RecordBatch, leader_epoch: i32) -> Result<(), LogError> {
        let writes = self.admit(batch, leader_epoch);
        self.log.append(&writes)
    }

    /// Every batch in the log, as a reader gets them.
    fn batches(&self) -> Vec<RecordBatch> {
        let mut found = Vec::new();
        let mut from = self.reader.log_start();
        let end = self.reader.log_end();
        loop {
            let slice = self.reader.read(from, end, 300, true).unwrap();
            if slice.bytes.is_empty() {
                assert_eq!(self.lendable_batches(from), found);
                return found;
            }
            let mut bytes = slice.bytes;
            while let Some(batch) = RecordBatch::split_first(&mut bytes).unwrap() {
                batch.verify_crc().unwrap();
                from = batch.header().next_offset();
                found.push(batch);
            }
            assert!(bytes.is_empty());
            assert_eq!(from, slice.next_offset);
        }
    }

    /// Every batch below `end`, as they lie where they could be lent.
    fn lendable_batches(&self, end: Offset) -> Vec<RecordBatch> {
        let mut found = Vec::new();
        let mut from = self.reader.log_start();
        while from < end
            && let Some((mut bytes, next_offset)) = self.reader.lendable(from, end, 300)
        {
            while let Some(batch) = RecordBatch::split_first(&mut bytes).unwrap() {
                from = batch.header().next_offset();
                found.push(batch);
            }
            assert!(bytes.is_empty());
            // Offsets at the end of a segment may be nobody's any more.
            assert!(from <= next_offset);
            from = next_offset;
        }
        found
    }
}

/// What may happen to a log.
#[derive(Clone, Copy, Debug)]
enum Step {
    Plain(usize),
    Idempotent(i64),
    Transactional(i64),
    End {
        producer: i64,
        commit: bool,
    },
    NewLeader,
    Sync,
    Checkpoint,
    /// Take down what a checkpoint will say.
    TakeDown,
    /// Make true what was taken down last, and say it.
    Believe,
    /// As when others lack the files.
    CloseFiles,
    /// Cut off so many offsets from the end.
    Truncate(i64),
    /// Delete so many offsets from the start, as far as they are durable.
    Delete(i64),
    Roll,
    /// Delete everything and begin so far beyond the end.
    Restart(i64),
    Reopen,
}

/// What must be found after a crash.
#[derive(Clone, Debug, Default)]
struct Model {
    /// Every batch since the log began, deleted ones too.
    history: Vec<RecordBatch>,
    base: Offset,
    log_start: Offset,
    /// Where the log start would be had the last step succeeded.
    log_start_next: Offset,
    /// Below this nothing may be missing.
    synced: Offset,
    /// A restart was under way.
    restart: bool,
    leader_epoch: i32,
    clock: i64,
}

impl Model {
    fn end(&self) -> Offset {
        self.history.last().map_or(self.base, |last| last.header().next_offset())
    }

    fn replay(&self) -> (LogState, Vec<AbortedTxn>) {
        let mut state = LogState::empty(self.base);
        let mut aborted = Vec::new();
        for batch in &self.history {
            let placed = Placed::in_place(batch).unwrap();
            aborted.extend(state.apply(&placed.header, placed.control));
        }
        state.delete_before(self.log_start);
        (state, aborted)
    }

    /// Compares a log that was opened after a crash with what may be; it is the truth from now on.
    fn verify(&mut self, rig: &Rig) {
        let (log_start, end) = (rig.reader.log_start(), rig.reader.log_end());
        assert_eq!((rig.state.log_start(), rig.state.log_end()), (log_start, end));
        assert!([self.log_start, self.log_start_next].contains(&log_start), "{self:?} {log_start}");
        let found = rig.batches();
        // The log may have been empty before, too; what it knows of its past tells.
        let is_new = rig.state.producers().is_empty() && rig.state.epochs().entries().is_empty();
        if self.restart && log_start == end && is_new {
            *self = self.anew(end);
        }
        assert!(end >= self.synced, "lost {end}..{} of what was durable", self.synced);
        let kept = self.history.iter().take_while(|batch| batch.header().next_offset() <= end);
        let kept = kept.count();
        self.history.truncate(kept);
        assert_eq!(self.end(), end, "ends within a batch");
        let visible: Vec<&RecordBatch> =
            self.history.iter().filter(|batch| batch.header().next_offset() > log_start).collect();
        assert_eq!(found.iter().collect::<Vec<_>>(), visible);
        self.log_start = log_start;
        self.log_start_next = log_start;
        self.synced = end;
        self.restart = false;
        self.compare(rig);
    }

    /// Compares an open log with the model in all that can be asked of it.
    fn compare(&self, rig: &Rig) {
        let (state, aborted) = self.replay();
        assert_eq!(rig.state.producers(), state.producers());
        assert_eq!(rig.state.epochs(), state.epochs());
        let end = self.end();
        for offset in self.log_start.0..end.0 {
            let slice = rig.reader.read(Offset(offset), end, 1, true).unwrap();
            let first = slice.first.expect("every offset has a batch");
            assert!(first.base_offset.0 <= offset && offset < slice.next_offset.0);
        }
        let records: Vec<Located> = self
            .history
            .iter()
            .flat_map(|batch| {
                let leader_epoch = batch.header().leader_epoch;
                let located =
                    move |(offset, timestamp)| Located { offset, timestamp, leader_epoch };
                let records = batch.records().map(Result::unwrap);
                records.map(move |record| located((record.offset, record.timestamp)))
            })
            .filter(|record| record.offset >= self.log_start)
            .collect();
        for at in 0..self.clock + 2 {
            let want = records.iter().find(|record| record.timestamp.0 >= at).copied();
            assert_eq!(rig.reader.offset_for_timestamp(Timestamp(at), end).unwrap(), want, "{at}");
        }
        for upto in [end.0, end.0 - 3].map(Offset) {
            let below = records.iter().filter(|record| record.offset < upto);
            let want = below.copied().min_by_key(|record| (-record.timestamp.0, record.offset));
            if upto == end {
                assert_eq!(rig.reader.max_timestamp(upto).unwrap(), want);
            }
        }
        for from in (self.log_start.0..=end.0).step_by(5).map(Offset) {
            for upto in (from.0..=end.0).step_by(7).map(Offset) {
                let overlaps =
                    |txn: &&AbortedTxn| txn.last_offset >= from && txn.first_offset < upto;
                let mut want: Vec<AbortedTxn> = aborted.iter().filter(overlaps).copied().collect();
                want.sort_by_key(|txn| txn.first_offset);
                assert_eq!(rig.reader.aborted(from, upto), want, "{from}..{upto}");
            }
        }
    }

    /// Does `step` to the log; whatever it could leave behind if it failed is noted before.
    fn step(&mut self, rig: &mut Rig, step: Step) -> Result<(), LogError> {
        self.clock += 3;
        let at = self.clock;
        let next = |rig: &Rig, producer| {
            let known = rig.state.producers().known(ProducerId(producer));
            let epoch = known.map_or(0, |known| known.epoch().0);
            let sequence = known.map_or(0, |known| known.last_sequence().plus(1).0);
            (producer, epoch, sequence)
        };
        match step {
            Step::Plain(count) => self.append(rig, &data(count, at, None, false)),
            Step::Idempotent(p) => {
                let batch = data(2, at, Some(next(rig, p)), false);
                self.append(rig, &batch)
            }
            Step::Transactional(p) => {
                let batch = data(2, at, Some(next(rig, p)), true);
                self.append(rig, &batch)
            }
            Step::End { producer, commit } => {
                let epoch = next(rig, producer).1 + 1;
                self.append(rig, &marker(producer, epoch, commit, at))
            }
            Step::NewLeader => {
                self.leader_epoch += 1;
                Ok(())
            }
            Step::Sync => {
                rig.log.sync()?;
                self.synced = self.end();
                Ok(())
            }
            Step::Checkpoint => {
                rig.log.checkpoint(&mut rig.checkpoints)?;
                self.synced = self.end();
                rig.checkpoints.store()
            }
            Step::TakeDown => rig.take_down(),
            Step::Believe => {
                if rig.believe()? {
                    self.synced = rig.log.synced();
                }
                Ok(())
            }
            Step::CloseFiles => {
                let was_open = rig.log.is_open();
                rig.log.close_files();
                assert_eq!(rig.log.is_open(), was_open && rig.log.has_dirty_files());
                Ok(())
            }
            Step::Truncate(back) => self.truncate(rig, Offset(self.end().0 - back)),
            Step::Delete(count) => self.delete(rig, Offset(self.log_start.0 + count)),
            Step::Roll => {
                let writes: Vec<Write> = rig.state.roll().into_iter().collect();
                rig.log.append(&writes)
            }
            Step::Restart(ahead) => self.restart(rig, self.end().plus(ahead)),
            Step::Reopen => {
                let state = rig.state.clone();
                rig.log.close(Some(&state), &mut rig.checkpoints)?;
                rig.checkpoints.store()?;
                self.synced = self.end();
                *rig = Rig::open(&rig.disk)?;
                assert_eq!(rig.recovery, Recovery::default());
                self.compare(rig);
                Ok(())
            }
        }
    }

    fn append(&mut self, rig: &mut Rig, batch: &RecordBatch) -> Result<(), LogError> {
        let writes = rig.admit(batch, self.leader_epoch);
        let placed = writes.iter().flat_map(|write| &write.batches);
        self.history.extend(placed.map(|placed| placed.bytes.clone().into_batch()));
        rig.log.append(&writes)
    }

    fn delete(&mut self, rig: &mut Rig, to: Offset) -> Result<(), LogError> {
        let to = to.min(self.synced).max(self.log_start);
        self.log_start_next = to;
        assert_eq!(rig.log.delete_before(to, &mut rig.checkpoints)?, to);
        assert_eq!(rig.state.delete_before(to), to);
        self.log_start = to;
        Ok(())
    }

    fn restart(&mut self, rig: &mut Rig, to: Offset) -> Result<(), LogError> {
        (self.log_start_next, self.restart) = (to, true);
        rig.state = rig.log.restart_at(to, &mut rig.checkpoints)?;
        *self = self.anew(to);
        Ok(())
    }

    /// The model of a log that begins at `base`, with nothing in it.
    fn anew(&self, base: Offset) -> Self {
        Self {
            base,
            log_start: base,
            log_start_next: base,
            synced: base,
            leader_epoch: self.leader_epoch,
            clock: self.clock,
            ..Self::default()
        }
    }

    fn truncate(&mut self, rig: &mut Rig, to: Offset) -> Result<(), LogError> {
        if to <= self.log_start {
            return Ok(());
        }
        let kept = self.history.iter().take_while(|batch| batch.header().next_offset() <= to);
        let kept = kept.count();
        let end = self.history[..kept].last().map_or(self.base, |last| last.header().next_offset());
        if end < self.log_start {
            return Ok(());
        }
        self.synced = self.synced.min(end);
        rig.state = rig.log.truncate_to(to, &mut rig.checkpoints)?;
        rig.state.check();
        self.history.truncate(kept);
        self.synced = end;
        assert_eq!(rig.state.log_end(), end);
        self.compare(rig);
        Ok(())
    }
}

/// Runs `steps` on a new disk until its power is cut at operation `crash_at`, if ever.
fn run(seed: u64, steps: &[Step], crash_at: Option<u64>) -> (SimDisk, Model) {
    let disk = SimDisk::new(seed);
    if let Some(op) = crash_at {
        disk.crash_at(op);
    }
    let mut model = Model::default();
    let Ok(mut rig) = Rig::open(&disk) else { return (disk, model) };
    for &step in steps {
        if let Err(error) = model.step(&mut rig, step) {
            assert!(disk.is_dead(), "{step:?}: {error}");
            break;
        }
    }
    if !disk.is_dead() {
        model.compare(&rig);
    }
    (disk, model)
}

/// Opens what a crash left, perhaps crashing again on the way, and goes on writing.
fn survive(disk: &SimDisk, model: &mut Model, second_crash: Option<u64>) {
    disk.crash();
    if let Some(op) = second_crash {
        disk.crash_at(op);
        drop(Rig::open(disk));
        disk.crash();
    }
    model.verify(&Rig::open(disk).unwrap());
    // What was found once is durable.
    disk.crash();
    let mut rig = Rig::open(disk).unwrap();
    model.verify(&rig);
    let last = if second_crash.is_some() { Step::Sync } else { Step::Checkpoint };
    let more = [Step::Idempotent(1), Step::Plain(2), Step::Transactional(2), Step::Plain(4)];
    for step in more.into_iter().chain([last]) {
        model.step(&mut rig, step).unwrap();
    }
    disk.crash();
    model.verify(&Rig::open(disk).unwrap());
}

/// Cuts the power at every operation of `steps`, with several ends each.
fn exhaust(steps: &[Step]) {
    let (disk, _) = run(0, steps, None);
    let ops = disk.ops();
    assert!(ops > 10);
    for crash_at in 1..=ops + 1 {
        for seed in 0..4 {
            let (disk, mut model) = run(seed, steps, Some(crash_at));
            survive(&disk, &mut model, (seed == 3).then_some(crash_at % 7 + 1));
        }
    }
}

#[test]
fn plain_appends_survive_a_crash_at_any_operation() {
    use Step::{Checkpoint, CloseFiles, NewLeader, Plain, Reopen, Roll, Sync};
    let mut steps = Vec::new();
    for n in 0..4 {
        steps.extend([Plain(3), Sync, CloseFiles, Plain(1), Plain(2), NewLeader, Sync, Plain(4)]);
        steps.push(if n % 2 == 0 { Checkpoint } else { Reopen });
        steps.extend([Roll, Plain(1), Roll, Plain(1), Roll, Plain(2), Sync]);
    }
    exhaust(&steps);
}

#[test]
fn notes_survive_a_crash_at_any_operation() {
    use Step::{Believe, CloseFiles, Delete, End, Plain, Roll, Sync, TakeDown, Transactional};
    let mut steps = Vec::new();
    for change in [Plain(2), Roll, Delete(9), Step::Truncate(3), Step::Restart(4), Sync] {
        steps.extend([Transactional(5), Plain(3), TakeDown, Plain(1), CloseFiles, Believe]);
        steps.extend([End { producer: 5, commit: false }, Plain(2), TakeDown, change, Plain(1)]);
        steps.extend([Believe, CloseFiles, Plain(1)]);
    }
    exhaust(&steps);
}

#[test]
fn what_was_taken_down_before_the_log_was_cut_is_void() {
    let disk = SimDisk::new(1);
    let mut rig = Rig::open(&disk).unwrap();
    for _ in 0..3 {
        rig.append(&data(2, 0, None, false), 0).unwrap();
    }
    rig.take_down().unwrap();
    rig.state = rig.log.truncate_to(Offset(2), &mut rig.checkpoints).unwrap();
    assert!(!rig.believe().unwrap());
    rig.append(&data(1, 1, None, false), 1).unwrap();
    disk.crash();
    let end = Rig::open(&disk).unwrap().state.log_end();
    assert!(end >= Offset(2));
}

#[test]
fn what_was_taken_down_is_void_when_what_it_speaks_of_was_cut_by_a_step_that_failed() {
    // The roll, or the cut, fails somewhere for want of space; what was taken down is looked at then.
    let end = Step::End { producer: 5, commit: false };
    let plain = Step::Plain(3);
    let steps = [Step::Transactional(5), end, plain, plain, plain, Step::Sync];
    let roll = |rig: &mut Rig| {
        let writes: Vec<Write> = rig.state.roll().into_iter().collect();
        rig.log.append(&writes)
    };
    for (on, is_roll) in [(Op::Write, true), (Op::Open, false), (Op::Create, false)] {
        for after in 0.. {
            let disk = SimDisk::new(after);
            let mut rig = Rig::open(&disk).unwrap();
            let mut model = Model::default();
            let steps = if is_roll { &steps[..] } else { &steps[2..] };
            for &step in steps {
                model.step(&mut rig, step).unwrap();
            }
            model.step(&mut rig, Step::TakeDown).unwrap();
            let errno = if on == Op::Open { 24 } else { 28 };
            disk.inject(Fault { on: Some(on), after, times: 1, one_in: 1, errno });
            if is_roll {
                let _ = roll(&mut rig);
            } else {
                let _ = rig.log.truncate_to(Offset(3), &mut rig.checkpoints);
            }
            let was_spared = disk.has_faults();
            disk.clear_faults();
            let _ = rig.believe();
            rig.checkpoints.store().unwrap();
            if is_roll {
                rig.state = rig.log.restate().unwrap();
                roll(&mut rig).unwrap();
            }
            disk.crash();
            let rig = Rig::open(&disk).unwrap();
            assert!(!is_roll || rig.log.end() == model.end());
            assert!(!is_roll || rig.reader.aborted(Offset(0), model.end()).len() == 1);
            if was_spared {
                break;
            }
        }
    }
}

#[test]
fn producers_and_transactions_survive_a_crash_at_any_operation() {
    use Step::{Checkpoint, End, Idempotent, Plain, Sync, Transactional};
    let mut steps = Vec::new();
    for n in 0..3 {
        steps.extend([Transactional(5), Idempotent(1), Sync, Transactional(6), Transactional(5)]);
        steps.extend([End { producer: 5, commit: n % 2 == 0 }, Plain(3), Checkpoint]);
        steps.extend([Transactional(5), End { producer: 6, commit: false }, Sync]);
    }
    exhaust(&steps);
}

#[test]
fn truncation_survives_a_crash_at_any_operation() {
    use Step::{Checkpoint, End, NewLeader, Plain, Reopen, Sync, Transactional, Truncate};
    let mut steps = Vec::new();
    for back in [1, 5, 14] {
        steps.extend([Transactional(5), Plain(4), Plain(3), NewLeader, Plain(3), Checkpoint]);
        steps.extend([End { producer: 5, commit: false }, Plain(3), Truncate(back), NewLeader]);
        steps.extend([Plain(1), Sync, Truncate(2), Plain(2), Sync, Reopen]);
    }
    exhaust(&steps);
}

#[test]
fn deletion_survives_a_crash_at_any_operation() {
    use Step::{Checkpoint, Delete, Idempotent, Plain, Restart, Roll, Sync};
    let mut steps = Vec::new();
    for _ in 0..2 {
        steps.extend([
            Idempotent(3),
            Plain(6),
            Plain(6),
            Plain(6),
            Checkpoint,
            Delete(9),
            Plain(5),
        ]);
        steps.extend([
            Sync,
            Roll,
            Delete(100),
            Plain(3),
            Sync,
            Delete(1),
            Restart(10),
            Plain(2),
            Sync,
        ]);
    }
    exhaust(&steps);
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1_usize..6).prop_map(Step::Plain),
        3 => (1_i64..4).prop_map(Step::Idempotent),
        4 => (4_i64..7).prop_map(Step::Transactional),
        3 => (4_i64..7, any::<bool>()).prop_map(|(producer, commit)| Step::End { producer, commit }),
        1 => Just(Step::NewLeader),
        3 => Just(Step::Sync),
        1 => Just(Step::Checkpoint),
        4 => Just(Step::TakeDown),
        4 => Just(Step::Believe),
        2 => Just(Step::CloseFiles),
        1 => (1_i64..25).prop_map(Step::Truncate),
        1 => (1_i64..25).prop_map(Step::Delete),
        1 => Just(Step::Roll),
        1 => (0_i64..5).prop_map(Step::Restart),
        1 => Just(Step::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn any_history_survives_a_crash_anywhere(
        seed: u64,
        steps in prop::collection::vec(any_step(), 1..60),
        crash_at in 1_u64..400,
        second_crash in prop::option::of(1_u64..12),
    ) {
        let (disk, mut model) = run(seed, &steps, Some(crash_at));
        survive(&disk, &mut model, second_crash);
    }
}

#[test]
fn segments_end_by_time_earlier_by_no_more_than_their_jitter_and_not_all_at_once() {
    let header = |at| *data(1, at, None, false).header();
    let hour = 3_600_000;
    let ends_at = |jitter_seed, base| {
        let segment_jitter = Duration::from_secs(600);
        let config = LogConfig { segment_jitter, jitter_seed, ..config() };
        let mut active = ActiveSegment::empty(Offset(base));
        active.apply(&BatchHeader { base_offset: Offset(base), ..header(1000) });
        let mut times = (0..=hour).step_by(1000);
        let ends = |at: &i64| active.must_roll_before(&header(1000 + at), &config);
        times.find(ends).expect("an hour is all it has")
    };
    let ends: Vec<i64> = (0..20).flat_map(|seed| [ends_at(seed, 0), ends_at(seed, 77)]).collect();
    assert!(ends.iter().all(|at| (hour - 600_000..=hour).contains(at)), "{ends:?}");
    let different: std::collections::BTreeSet<_> = ends.iter().collect();
    assert!(different.len() > 30, "{ends:?}");
    assert_eq!(ends_at(3, 77), ends_at(3, 77));
    let exact = |at| {
        let mut active = ActiveSegment::empty(Offset(0));
        active.apply(&header(1000));
        active.must_roll_before(&header(1000 + at), &config())
    };
    assert!(!exact(hour - 1) && exact(hour));
}

#[test]
fn what_is_appended_is_read_and_found_again_after_a_clean_close() {
    let disk = SimDisk::new(1);
    let mut rig = Rig::open(&disk).unwrap();
    for n in 0..20 {
        rig.append(&data(2, 1000 + n, None, false), 3).unwrap();
    }
    assert_eq!(rig.reader.log_end(), Offset(40));
    assert!(rig.reader.segments().len() > 3);
    let batches = rig.batches();
    assert_eq!(batches.len(), 20);
    let state = rig.state.clone();
    rig.log.close(Some(&state), &mut rig.checkpoints).unwrap();
    rig.checkpoints.store().unwrap();
    disk.crash();
    let again = Rig::open(&disk).unwrap();
    assert_eq!(again.recovery, Recovery::default());
    assert_eq!(again.batches(), batches);
    assert_eq!(again.state.epochs(), state.epochs());
    assert_eq!(again.state.active(), state.active());
}

#[test]
fn what_a_deleted_segment_said_of_producers_survives_a_crash_during_its_deletion() {
    use Step::{Delete, End, Plain, Reopen, Roll, Sync, Transactional};
    let end = End { producer: 4, commit: false };
    let steps = [Transactional(4), Reopen, end, Roll, Sync, Plain(1), Delete(3)];
    let (disk, mut model) = run(9_897_796_696_143_688_265, &steps, Some(47));
    survive(&disk, &mut model, None);
}

#[test]
fn recovery_reads_only_what_was_written_after_the_checkpoint() {
    let disk = SimDisk::new(1);
    let mut rig = Rig::open(&disk).unwrap();
    for n in 0..20 {
        rig.append(&data(2, n, None, false), 0).unwrap();
    }
    rig.log.checkpoint(&mut rig.checkpoints).unwrap();
    rig.checkpoints.store().unwrap();
    let (before, segments) = (rig.reader.size_bytes(), rig.reader.segments().len());
    assert!(segments > 3);
    rig.append(&data(1, 20, None, false), 0).unwrap();
    assert_eq!(rig.reader.segments().len(), segments, "the tail lies in the same segment");
    let tail = rig.reader.size_bytes() - before;
    disk.kill();
    let rig = Rig::open(&disk).unwrap();
    assert_eq!(rig.recovery.scanned_bytes, tail);
    assert_eq!(rig.recovery.truncated_bytes, 0);
    assert!(rig.recovery.walked_bytes < 600, "{:?}", rig.recovery);
    assert_eq!(rig.reader.log_end(), Offset(41));
}

#[test]
fn duplicates_and_open_transactions_are_known_after_a_crash() {
    let disk = SimDisk::new(1);
    let mut rig = Rig::open(&disk).unwrap();
    let sent: Vec<RecordBatch> =
        (0..4).map(|n| data(2, i64::from(n), Some((9, 1, 2 * n)), true)).collect();
    for batch in &sent {
        rig.append(batch, 0).unwrap();
    }
    rig.log.sync().unwrap();
    disk.crash();
    let rig = Rig::open(&disk).unwrap();
    for (n, batch) in (0..).zip(&sent) {
        let base_offset = Offset(2 * n);
        let timestamp = Timestamp(n + 1);
        let again = rig.state.check_append(batch.header(), Origin::Client).unwrap();
        assert_eq!(again, Checked::Duplicate { base_offset, timestamp });
    }
    let open = |epoch| rig.state.open_transaction(ProducerId(9), ProducerEpoch(epoch));
    assert_eq!(open(1), Some(Offset(0)));
    assert_eq!(open(2), None, "the transaction of an older epoch is not the newer one's");
    assert_eq!(rig.state.last_stable_offset(Offset(8)), Offset(0));
}

#[test]
fn a_full_disk_refuses_a_write_whole_and_takes_it_once_there_is_room() {
    let more = [Step::Plain(1), Step::Plain(1), Step::Plain(3), Step::Idempotent(1)];
    let start = [Step::Transactional(5), Step::Plain(2), Step::Sync];
    let used = |steps: &[Step]| run(0, steps, None).0.used_bytes();
    let need = used(&[&start[..], &more[..]].concat()) - used(&start);
    for spare in 0..need + 10 {
        let disk = SimDisk::new(spare);
        let mut rig = Rig::open(&disk).unwrap();
        let mut model = Model::default();
        for step in start {
            model.step(&mut rig, step).unwrap();
        }
        disk.set_capacity(Some(disk.used_bytes() + spare));
        let mut is_full = false;
        for step in more {
            let before = model.history.len();
            let Err(error) = model.step(&mut rig, step) else { continue };
            assert!(matches!(error, LogError::Full { .. }), "{error}");
            assert!(!error.takes_dir_offline());
            is_full = true;
            model.history.truncate(before);
            assert_eq!(rig.log.end(), model.end());
            // What was decided on top of it is refused, until its owner has looked again.
            let later = rig.admit(&data(1, 0, None, false), 0);
            assert!(matches!(rig.log.append(&later), Err(LogError::OutOfStep { .. })));
            rig.state = rig.log.restate().unwrap();
            model.compare(&rig);
        }
        assert_eq!(is_full, spare < need, "{spare}");
        disk.set_capacity(None);
        for step in [Step::End { producer: 5, commit: false }, Step::Plain(1), Step::Sync] {
            model.step(&mut rig, step).unwrap();
        }
        model.compare(&rig);
        disk.crash();
        model.verify(&Rig::open(&disk).unwrap());
    }
}

#[test]
fn no_batch_of_a_refused_write_comes_back_behind_a_later_one() {
    let disk = SimDisk::new(1);
    let mut rig = Rig::open_with(&disk, LogConfig { zeros_bytes_max: 0, ..config() }).unwrap();
    rig.append(&data(1, 0, None, false), 0).unwrap();
    rig.log.sync().unwrap();
    let size = rig.reader.size_bytes();
    disk.set_capacity(Some(disk.used_bytes() + 2 * size + size / 2));
    let refused = (1..4).map(|offset| {
        Placed::new(&data(1, 7, None, false), Offset(offset), LeaderEpoch(0)).unwrap()
    });
    let mut writes = Vec::new();
    rig.state.admit(refused, &config(), true, &mut writes);
    assert!(matches!(rig.log.append(&writes), Err(LogError::Full { .. })));
    rig.state = rig.log.restate().unwrap();
    rig.append(&data(1, 9, None, false), 0).unwrap();
    disk.kill();
    let rig = Rig::open(&disk).unwrap();
    let times: Vec<i64> = rig.batches().iter().map(|b| b.header().max_timestamp.0).collect();
    assert_eq!(times, [0, 9]);
}

#[test]
fn what_is_synced_bit_by_bit_is_written_over_zeros_that_were_synced_before() {
    let disk = SimDisk::new(1);
    let mut rig = Rig::open(&disk).unwrap();
    let path = Path::new("/data/t-0/00000000000000000000.log");
    let length = || disk.open(path, Open::Existing).unwrap().len().unwrap();
    let batch = data(1, 0, None, false);
    let size = u64::try_from(batch.bytes().len()).unwrap();
    rig.append(&batch, 0).unwrap();
    rig.log.sync().unwrap();
    assert_eq!(length(), 2 * size, "as many zeros as there are batches");
    rig.append(&batch, 0).unwrap();
    assert_eq!(length(), 4 * size);
    rig.log.sync().unwrap();
    rig.append(&batch, 0).unwrap();
    assert_eq!(length(), 4 * size, "it did not grow");
    rig.log.sync().unwrap();
    disk.crash();
    let mut rig = Rig::open(&disk).unwrap();
    assert_eq!(rig.batches().len(), 3);
    assert_eq!((rig.recovery.truncated_bytes, length()), (0, 4 * size), "zeros stay");
    rig.append(&batch, 0).unwrap();
    assert_eq!(length(), 4 * size + 300, "they are used up, and there are not more at once");
    rig.append(&batch, 0).unwrap();
    let roll: Vec<Write> = rig.state.roll().into_iter().collect();
    rig.log.append(&roll).unwrap();
    assert_eq!(length(), 5 * size, "what is complete has none");
    disk.crash();
    assert_eq!(Rig::open(&disk).unwrap().batches().len(), 5);
}

#[test]
fn space_is_set_aside_for_who_writes_much_and_given_back_in_the_end() {
    // On a real disk: the simulated one does not show it.
    let dir = tempfile::tempdir().unwrap();
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let checkpoints = Checkpoints::open(disk.clone(), dir.path().join("checkpoint")).unwrap();
    let config = LogConfig { segment_bytes: 1 << 20, space_bytes_max: 64 << 10, ..config() };
    let log_dir = Arc::from(dir.path().join("t-0"));
    let place = Place { disk, dir: log_dir, config: config.clone(), ..place(&SimDisk::new(1)) };
    let path = place.dir.join("00000000000000000000.log");
    // Its length, and what it takes of the disk besides.
    let sizes = || {
        let told = std::fs::metadata(&path).unwrap();
        (told.len(), (told.blocks() * 512).saturating_sub(told.len()))
    };
    let (mut log, mut state, _) = Log::open(place.clone(), &checkpoints).unwrap();
    let batch = data(40, 0, None, false);
    // Appends until the file is so long, or takes so much besides.
    let mut append = |log: &mut Log, length: u64, besides: u64| {
        while log.end() == Offset::ZERO || (sizes().0 < length && sizes().1 < besides) {
            let placed = Placed::new(&batch, state.log_end(), LeaderEpoch(0)).unwrap();
            let mut writes = Vec::new();
            state.admit([placed], &config, false, &mut writes);
            log.append(&writes).unwrap();
        }
        sizes()
    };
    let page = 4 << 10;
    let (_, besides) = append(&mut log, 30 << 10, u64::MAX);
    assert!(besides <= 2 * page, "{besides} though little was written");
    let (length, besides) = append(&mut log, 900 << 10, 4 * page);
    assert!(besides >= 4 * page, "{besides} after {length}");
    log.sync().unwrap();
    let roll: Vec<Write> = state.roll().into_iter().collect();
    // As after a kill: what was set aside is not known any more.
    drop(log);
    let (mut log, ..) = Log::open(place, &checkpoints).unwrap();
    log.append(&roll).unwrap();
    let (sealed, besides) = sizes();
    assert_eq!(sealed, length);
    assert!(besides <= 2 * page, "{besides} are left of it");
}

#[test]
fn who_writes_into_space_that_was_set_aside_does_not_say_that_the_disk_has_room() {
    let disk = SimDisk::new(1);
    let large = LogConfig { segment_bytes: 1 << 20, zeros_bytes_max: 0, ..config() };
    let mut rig = Rig::open_with(&disk, large).unwrap();
    let mut told = Vec::new();
    while rig.log.end() < Offset(40) {
        rig.append(&data(1, 0, None, false), 0).unwrap();
        told.push(rig.log.found_room);
    }
    // Each before some is set aside; then one in several.
    assert!(told[0] && told[1], "{told:?}");
    assert!((1..30).contains(&told[10..].iter().filter(|&&found| found).count()), "{told:?}");
    // When others find the disk full it is given back, and not asked for again.
    rig.log.give_space_back();
    for _ in 0..10 {
        rig.append(&data(1, 0, None, false), 0).unwrap();
        assert!(rig.log.found_room);
    }
}

#[test]
fn a_segment_whose_sealing_failed_grows_on() {
    let mut failed = 0;
    for after in 0..6 {
        let disk = SimDisk::new(1);
        let mut rig = Rig::open(&disk).unwrap();
        rig.append(&data(2, 0, None, false), 0).unwrap();
        rig.log.sync().unwrap();
        disk.inject(Fault { on: Some(Op::Sync), after, times: 1, one_in: 1, errno: 28 });
        let roll: Vec<Write> = rig.state.roll().into_iter().collect();
        let rolled = rig.log.append(&roll);
        disk.clear_faults();
        match rolled {
            Ok(()) => {}
            Err(LogError::Full { .. }) => failed += 1,
            // The batches themselves could not be synced.
            Err(_) => continue,
        }
        rig.state = rig.log.restate().unwrap();
        rig.append(&data(2, 1, None, false), 0).unwrap();
        rig.log.sync().unwrap();
        disk.kill();
        assert_eq!(Rig::open(&disk).unwrap().batches().len(), 2, "{after}");
    }
    assert!(failed > 1);
}

/// Fails one operation of a kind for want of space, each in turn, and tries again.
fn fill(steps: &[Step], on: Op) {
    for after in 0.. {
        let disk = SimDisk::new(after);
        let mut rig = Rig::open(&disk).unwrap();
        let mut model = Model::default();
        disk.inject(Fault { on: Some(on), after, times: 1, one_in: 1, errno: 28 });
        for &step in steps {
            let before = model.history.len();
            let Err(error) = model.step(&mut rig, step) else { continue };
            assert!(matches!(error, LogError::Full { .. }), "{step:?}: {error}");
            if !matches!(step, Step::Truncate(_) | Step::Restart(_)) {
                let kept =
                    model.history.iter().filter(|b| b.header().next_offset() <= rig.log.end());
                let kept = kept.count();
                assert!(kept >= before);
                model.history.truncate(kept);
                rig.state = rig.log.restate().unwrap();
            }
            match step {
                Step::Reopen => return,
                Step::Plain(_)
                | Step::Transactional(_)
                | Step::End { .. }
                | Step::Idempotent(_) => {}
                Step::NewLeader
                | Step::Sync
                | Step::Checkpoint
                | Step::TakeDown
                | Step::Believe
                | Step::CloseFiles
                | Step::Truncate(_)
                | Step::Delete(_)
                | Step::Roll
                | Step::Restart(_) => {
                    model.step(&mut rig, step).unwrap();
                }
            }
            model.compare(&rig);
        }
        model.compare(&rig);
        rig.log.sync().unwrap();
        model.synced = model.end();
        // It may have struck what need not succeed.
        let was_spared = disk.has_faults();
        disk.crash();
        model.verify(&Rig::open(&disk).unwrap());
        if was_spared {
            assert!(after > 5);
            return;
        }
    }
}

#[test]
fn every_operation_may_fail_for_want_of_space_and_be_tried_again() {
    use Step::{Checkpoint, Delete, End, NewLeader, Plain, Restart, Roll, Transactional, Truncate};
    let steps = [
        Plain(3),
        Transactional(5),
        Plain(3),
        Plain(4),
        Checkpoint,
        Plain(2),
        NewLeader,
        Plain(5),
        End { producer: 5, commit: false },
        Truncate(3),
        Plain(1),
        Checkpoint,
        Delete(4),
        Roll,
        Plain(2),
        Truncate(12),
        Plain(1),
        Restart(3),
        Plain(2),
        Transactional(6),
        Plain(6),
        Plain(5),
    ];
    for on in [Op::Write, Op::Create, Op::Rename] {
        fill(&steps, on);
    }
}

#[test]
fn a_log_whose_end_was_lost_below_its_start_begins_anew_there() {
    let mut wiped = 0;
    for seed in 0..40 {
        let disk = SimDisk::new(seed);
        let mut rig = Rig::open(&disk).unwrap();
        rig.append(&data(3, 0, Some((1, 0, 0)), false), 0).unwrap();
        rig.log.sync().unwrap();
        rig.append(&data(3, 0, None, false), 0).unwrap();
        rig.log.delete_before(Offset(6), &mut rig.checkpoints).unwrap();
        disk.crash();
        let mut rig = Rig::open(&disk).unwrap();
        assert_eq!((rig.state.log_start(), rig.state.log_end()), (Offset(6), Offset(6)));
        wiped += usize::from(rig.reader.segments().is_empty());
        rig.append(&data(2, 9, None, false), 1).unwrap();
        rig.log.sync().unwrap();
        disk.crash();
        let rig = Rig::open(&disk).unwrap();
        assert_eq!(rig.batches().len(), 1);
        assert_eq!(rig.state.log_end(), Offset(8));
    }
    assert!(wiped > 0);
}

#[test]
fn damage_to_what_was_durable_is_not_cut_off_but_refused() {
    let disk = SimDisk::new(1);
    let mut rig = Rig::open(&disk).unwrap();
    let first = data(2, 0, None, false);
    rig.append(&first, 0).unwrap();
    rig.append(&data(2, 1, None, false), 0).unwrap();
    rig.log.checkpoint(&mut rig.checkpoints).unwrap();
    rig.checkpoints.store().unwrap();
    let second = u64::try_from(first.bytes().len()).unwrap();
    rig.append(&data(2, 2, None, false), 0).unwrap();
    let third = rig.reader.size_bytes() - second;
    let log = Path::new("/data/t-0/00000000000000000000.log");
    disk.kill();
    // Above the checkpoint it may be what a crash left.
    disk.flip(log, third + 70).unwrap();
    let rig = Rig::open(&disk).unwrap();
    assert_eq!(rig.state.log_end(), Offset(4));
    // A batch without headers ends with a zero.
    assert_eq!(rig.recovery.truncated_bytes, second - 1);
    disk.kill();
    // The magic byte of the second batch.
    disk.flip(log, second + 16).unwrap();
    let error = Rig::open(&disk).err().expect("it is damaged");
    assert!(matches!(error, LogError::Corrupt { position, .. } if position == second), "{error}");
    disk.flip(log, second + 16).unwrap();
    Rig::open(&disk).unwrap();
    disk.remove_file(log).unwrap();
    assert!(matches!(Rig::open(&disk), Err(LogError::Corrupt { .. })));
}

#[test]
fn a_batch_whose_offset_was_damaged_to_be_far_is_cut_off() {
    let batch = data(2, 0, None, false);
    let size = u64::try_from(batch.bytes().len()).unwrap();
    // The highest byte of the offset of the first, a middle and the last batch: no checksum is over it.
    for damaged in [0, 2, 3] {
        let disk = SimDisk::new(1);
        let mut rig = Rig::open(&disk).unwrap();
        for _ in 0..4 {
            rig.append(&batch, 0).unwrap();
        }
        rig.log.sync().unwrap();
        disk.kill();
        disk.flip(Path::new("/data/t-0/00000000000000000000.log"), damaged * size).unwrap();
        let mut rig = Rig::open(&disk).unwrap();
        assert_eq!(rig.state.log_end(), Offset(2 * i64::try_from(damaged).unwrap()));
        // A batch without headers ends with a zero.
        assert_eq!(rig.recovery.truncated_bytes, (4 - damaged) * size - 1);
        rig.append(&batch, 0).unwrap();
        assert_eq!(rig.reader.log_end(), rig.state.log_end());
    }
}

#[test]
fn a_durable_batch_whose_offset_was_damaged_is_named_instead_of_walked_beyond_the_log() {
    let batch = data(2, 0, None, false);
    let size = u64::try_from(batch.bytes().len()).unwrap();
    let disk = SimDisk::new(1);
    let mut rig = Rig::open(&disk).unwrap();
    for _ in 0..3 {
        rig.append(&batch, 0).unwrap();
    }
    rig.log.checkpoint(&mut rig.checkpoints).unwrap();
    rig.checkpoints.store().unwrap();
    disk.kill();
    // The lowest byte of the last one's offset, then the highest.
    let log = Path::new("/data/t-0/00000000000000000000.log");
    for byte in [7, 0] {
        disk.flip(log, 2 * size + byte).unwrap();
        let error = Rig::open(&disk).err().expect("it is damaged");
        let is_named = matches!(error, LogError::Corrupt { position, .. } if position == 2 * size);
        assert!(is_named, "{error}");
        disk.flip(log, 2 * size + byte).unwrap();
    }
    assert_eq!(Rig::open(&disk).unwrap().state.log_end(), Offset(6));
}

#[test]
fn a_reader_is_not_sent_back_by_an_offset_that_was_damaged() {
    let disk = SimDisk::new(1);
    let large = LogConfig { segment_bytes: 1 << 20, ..config() };
    let mut rig = Rig::open_with(&disk, large).unwrap();
    let batch = data(40, 0, None, false);
    for _ in 0..8 {
        rig.append(&batch, 0).unwrap();
    }
    // Of the batch at 280, 256 less.
    let size = u64::try_from(batch.bytes().len()).unwrap();
    disk.flip(Path::new("/data/t-0/00000000000000000000.log"), 7 * size + 6).unwrap();
    let read = |from| rig.reader.read(Offset(from), Offset(320), 1 << 20, true);
    assert!(read(270).is_err(), "64 would be next");
    assert_eq!(
        rig.reader.read(Offset(270), Offset(280), 1, true).unwrap().next_offset,
        Offset(280)
    );
}

#[test]
fn truncation_below_the_log_start_empties_the_log_where_the_batch_began() {
    let disk = SimDisk::new(1);
    let mut rig = Rig::open(&disk).unwrap();
    rig.append(&data(5, 0, None, false), 0).unwrap();
    rig.append(&data(5, 0, None, false), 0).unwrap();
    for (log_start, to, want) in [(7, 9, 5), (5, 3, 3)] {
        rig.log.delete_before(Offset(log_start), &mut rig.checkpoints).unwrap();
        rig.state = rig.log.truncate_to(Offset(to), &mut rig.checkpoints).unwrap();
        assert_eq!((rig.state.log_start(), rig.state.log_end()), (Offset(want), Offset(want)));
        assert_eq!((rig.reader.log_start(), rig.reader.log_end()), (Offset(want), Offset(want)));
        rig.append(&data(2, 0, None, false), 0).unwrap();
    }
    assert_eq!(rig.batches().len(), 1);
}

#[test]
fn files_of_another_topic_of_the_same_name_are_refused() {
    let disk = SimDisk::new(1);
    let mut rig = Rig::open(&disk).unwrap();
    rig.append(&data(1, 0, None, false), 0).unwrap();
    let other = Place { topic_id: TopicId([8; 16]), ..place(&disk) };
    let error = Log::open(other, &rig.checkpoints).expect_err("another topic");
    assert_eq!(error.code(), ErrorCode::InconsistentTopicId);
}

#[test]
fn a_log_without_records_has_no_files() {
    let disk = SimDisk::new(1);
    let mut rig = Rig::open(&disk).unwrap();
    rig.log.checkpoint(&mut rig.checkpoints).unwrap();
    rig.log.sync().unwrap();
    assert!(disk.list(Path::new("/data")).unwrap().is_empty());
}

#[test]
fn a_read_yields_whole_batches_within_its_bounds() {
    let disk = SimDisk::new(1);
    let mut rig = Rig::open(&disk).unwrap();
    for n in 0..4 {
        rig.append(&data(2, n, None, false), 0).unwrap();
    }
    let size = usize::try_from(rig.reader.size_bytes() / 4).unwrap();
    let read = |from, upto, max_bytes, at_least_one| {
        let slice = rig.reader.read(Offset(from), Offset(upto), max_bytes, at_least_one).unwrap();
        let first = slice.first.map_or(-1, |first| first.base_offset.0);
        (first, slice.bytes.len() / size, slice.next_offset.0)
    };
    assert_eq!(read(3, 8, 10_000, true), (2, 3, 8));
    assert_eq!(read(2, 8, 2 * size, false), (2, 2, 6));
    assert_eq!(read(2, 8, 2 * size - 1, false), (2, 1, 4));
    assert_eq!(read(2, 8, 1, true), (2, 1, 4));
    assert_eq!(read(2, 8, 1, false), (-1, 0, 2));
    assert_eq!(read(0, 4, 10_000, true), (0, 2, 4));
    assert_eq!(read(4, 4, 10_000, true), (-1, 0, 4));
    assert_eq!(read(8, 9, 10_000, true), (-1, 0, 8));
    let error = rig.reader.read(Offset(9), Offset(9), 1, true).unwrap_err();
    assert_eq!(error.code(), ErrorCode::OffsetOutOfRange);
    rig.log.delete_before(Offset(3), &mut rig.checkpoints).unwrap();
    assert!(rig.reader.read(Offset(2), Offset(8), 1, true).is_err());
    let lendable = |from, upto, max_bytes| {
        let found = rig.reader.lendable(Offset(from), Offset(upto), max_bytes);
        found.map_or((0, -1), |(bytes, next)| (bytes.len() / size, next.0))
    };
    assert_eq!(lendable(3, 8, 10_000), (3, 8), "to the end of the segment");
    assert_eq!(lendable(3, 8, 1), (1, 4), "as many as the index knows an end of, or one");
    let slice = rig.reader.read(Offset(3), Offset(8), 1, true).unwrap();
    assert_eq!(slice.first.unwrap().base_offset, Offset(2), "the batch that contains it");
}

#[test]
fn a_long_segment_is_searched_in_memory_and_in_its_file() {
    let disk = SimDisk::new(1);
    let dense = LogConfig { segment_bytes: 1 << 20, index_interval_bytes: 0, ..config() };
    let mut rig = Rig::open_with(&disk, dense.clone()).unwrap();
    let check = |rig: &Rig, from: i64, end: i64| {
        for offset in (from..end).step_by(7) {
            let slice = rig.reader.read(Offset(offset), Offset(end), 1, true).unwrap();
            assert_eq!(slice.first.unwrap().base_offset, Offset(offset));
            let at = rig.reader.offset_for_timestamp(Timestamp(offset * 2), Offset(end)).unwrap();
            assert_eq!(at.unwrap().offset, Offset(offset));
        }
    };
    for n in 0..900 {
        rig.append(&data(1, 2 * n, None, false), 0).unwrap();
        if n == 700 {
            rig.log.checkpoint(&mut rig.checkpoints).unwrap();
            rig.checkpoints.store().unwrap();
        }
    }
    assert_eq!(rig.reader.segments().len(), 1);
    check(&rig, 0, 900);
    rig.state = rig.log.truncate_to(Offset(300), &mut rig.checkpoints).unwrap();
    for n in 300..800 {
        rig.append(&data(1, 2 * n, None, false), 0).unwrap();
    }
    check(&rig, 0, 800);
    disk.kill();
    let rig = Rig::open_with(&disk, dense).unwrap();
    check(&rig, 0, 800);
}

#[test]
fn a_follower_keeps_gaps_and_refuses_what_cannot_follow() {
    let disk = SimDisk::new(1);
    let mut rig = Rig::open(&disk).unwrap();
    let sent = |offset: i64, epoch| {
        data(2, offset, None, false).stamped(Offset(offset), LeaderEpoch(epoch)).into_batch()
    };
    let follow = |rig: &mut Rig, batch: RecordBatch| {
        rig.state.check_place(batch.header()).map_err(|error| error.code())?;
        let mut writes = Vec::new();
        let placed = Placed::in_place(&batch).unwrap();
        rig.state.admit([placed], &config(), false, &mut writes);
        rig.log.append(&writes).unwrap();
        Ok(())
    };
    let far = 5_000_000_000;
    assert_eq!(follow(&mut rig, sent(far, 4)), Ok(()));
    assert_eq!(follow(&mut rig, sent(far + 9, 4)), Ok(()));
    assert_eq!(follow(&mut rig, sent(far + 10, 4)), Err(ErrorCode::CorruptMessage));
    assert_eq!(follow(&mut rig, sent(far + 11, 3)), Err(ErrorCode::CorruptMessage));
    assert_eq!(follow(&mut rig, sent(i64::MAX - 1, 4)), Err(ErrorCode::CorruptMessage));
    assert_eq!(follow(&mut rig, sent(3 * far, 5)), Ok(()));
    rig.log.sync().unwrap();
    disk.crash();
    let rig = Rig::open(&disk).unwrap();
    assert_eq!(rig.batches().len(), 3);
    let slice = rig.reader.read(Offset(far + 5), Offset(far + 50), 1, true).unwrap();
    assert_eq!(slice.first.unwrap().base_offset, Offset(far + 9));
    assert_eq!(rig.reader.read(Offset(1), Offset(far), 1, true).unwrap().first, None);
}

#[test]
fn garbage_is_no_snapshot_index_or_checkpoint() {
    let disk = SimDisk::new(1);
    let mut rig = Rig::open(&disk).unwrap();
    for n in 0..8 {
        rig.append(&data(2, n, Some((n, 0, 0)), true), 0).unwrap();
    }
    let whole = rig.state.snapshot();
    assert_eq!(snapshot::decode(&whole).unwrap().producers(), rig.state.producers());
    for at in 0..whole.len() {
        let mut damaged = whole.to_vec();
        damaged[at] ^= 1;
        assert!(snapshot::decode(&damaged).is_err());
        assert!(snapshot::decode(&whole[..at]).is_err());
    }
}

#[test]
fn the_newest_record_is_sought_among_those_that_are_left_of_a_batch() {
    let mut rig = Rig::open(&SimDisk::new(1)).unwrap();
    let mut builder = BatchBuilder::new(BatchOptions::default());
    for at in [30, 10, 20] {
        builder.append(Timestamp(at), None, Some(b"v"), &[]).unwrap();
    }
    let batch = builder.finish(ProducerId(-1), ProducerEpoch(-1), Sequence(-1), false);
    rig.append(&batch, 0).unwrap();
    let newest = |rig: &Rig| {
        let found = rig.reader.max_timestamp(Offset(3)).unwrap();
        found.map(|found| (found.offset.0, found.timestamp.0))
    };
    assert_eq!(newest(&rig), Some((0, 30)));
    rig.log.delete_before(Offset(1), &mut rig.checkpoints).unwrap();
    assert_eq!(newest(&rig), Some((2, 20)));
}
