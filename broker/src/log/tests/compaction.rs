//! Compaction against a model: histories of keyed records, with transactions, tombstones and
//! producers, cleaned at any time and cut off by a crash at any operation of the disk.

use std::collections::{BTreeMap, BTreeSet};

use protocol::record::Codec;

use super::*;
use crate::log::compaction::{CleanPolicy, CleanStep, CleanTerms, Cleaned, Dirt};
use crate::log::error::LogError;

/// How long tombstones and markers stay.
const RETENTION: Duration = Duration::from_millis(100);

const EAGER: CleanPolicy =
    CleanPolicy { dirty_ratio_min: 0.0, lag_min: Duration::ZERO, lag_max: Duration::MAX };

/// Who writes a batch.
#[derive(Clone, Copy, Debug)]
enum By {
    Nobody,
    Idempotent(i64),
    Transaction(i64),
}

#[derive(Clone, Debug)]
enum Act {
    Write {
        by: By,
        records: Vec<(u8, Option<u8>)>,
        codec: Codec,
    },
    End {
        producer: i64,
        commit: bool,
    },
    Roll,
    Sync,
    /// So much time passes, then the log is cleaned.
    Clean {
        after: i64,
    },
    /// Delete so many offsets from the start.
    Delete(i64),
    /// Take down what a checkpoint will say.
    TakeDown,
    /// Make true what was taken down last, and say it.
    Believe,
    Reopen,
}

/// A record as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Written {
    offset: i64,
    at: i64,
    key: u8,
    value: Option<Vec<u8>>,
}

/// What was written, and what must be left of it.
#[derive(Clone, Debug, Default)]
struct Keyed {
    history: Vec<RecordBatch>,
    log_start: i64,
    log_start_next: i64,
    synced: i64,
    clock: i64,
    /// Until when tombstones stay that a cleaning has seen.
    horizons: BTreeMap<i64, i64>,
}

fn written_of(batch: &RecordBatch) -> Vec<Written> {
    let decoded = batch.decode(1 << 20).unwrap();
    let written = decoded.iter().map(Result::unwrap).map(|record| Written {
        offset: record.offset.0,
        at: record.timestamp.0,
        key: record.key.unwrap()[0],
        value: record.value.map(<[u8]>::to_vec),
    });
    written.collect()
}

/// The newest value of each key, as a reader of all these records in order has it.
fn view(records: &[Written]) -> BTreeMap<u8, Vec<u8>> {
    let mut view = BTreeMap::new();
    for Written { key, value, .. } in records {
        match value {
            Some(value) => view.insert(*key, value.clone()),
            None => view.remove(key),
        };
    }
    view
}

impl Keyed {
    fn end(&self) -> i64 {
        self.history.last().map_or(0, |last| last.header().next_offset().0)
    }

    /// All records that were not aborted, up to the first open transaction.
    fn committed(&self) -> Vec<Written> {
        let mut aborted = BTreeSet::new();
        let mut open: BTreeMap<i64, Vec<Offset>> = BTreeMap::new();
        for batch in &self.history {
            let header = batch.header();
            match ControlRecord::of(batch).unwrap() {
                Some(ControlRecord::Abort { .. }) => {
                    aborted.extend(open.remove(&header.producer_id.0).unwrap_or_default());
                }
                Some(_) => drop(open.remove(&header.producer_id.0)),
                None if header.attributes.is_transactional() => {
                    open.entry(header.producer_id.0).or_default().push(header.base_offset);
                }
                None => {}
            }
        }
        let stable = open.values().flatten().min().copied().unwrap_or(Offset(self.end()));
        self.history
            .iter()
            .filter(|batch| !batch.header().attributes.is_control())
            .filter(|batch| !aborted.contains(&batch.header().base_offset))
            .filter(|batch| batch.header().base_offset < stable)
            .flat_map(written_of)
            .collect()
    }

    /// The newest values, among what was not deleted.
    fn view(&self) -> BTreeMap<u8, Vec<u8>> {
        let mut newest = BTreeMap::new();
        for record in self.committed() {
            newest.insert(record.key, record);
        }
        newest.retain(|_, record| record.offset >= self.log_start);
        newest.into_iter().filter_map(|(key, record)| Some((key, record.value?))).collect()
    }

    /// Exactly the records that a cleaning up to `until`, at `now`, leaves below it.
    fn expected(&mut self, until: i64, now: i64) -> Vec<Written> {
        let mut newest = BTreeMap::new();
        for record in self.committed() {
            if record.offset < until {
                newest.insert(record.key, record);
            }
        }
        let mut left: Vec<Written> = newest.into_values().collect();
        left.sort_by_key(|record| record.offset);
        left.retain(|record| {
            record.value.is_some()
                || self.horizons.get(&record.offset).is_none_or(|&horizon| horizon > now)
        });
        let retention = i64::try_from(RETENTION.as_millis()).unwrap();
        for record in left.iter().filter(|record| record.value.is_none()) {
            self.horizons.entry(record.offset).or_insert(now + retention);
        }
        left.retain(|record| record.offset >= self.log_start);
        left
    }

    fn act(&mut self, rig: &mut Rig, act: &Act) -> Result<(), LogError> {
        self.clock += 3;
        match act {
            Act::Write { by, records, codec } => {
                let batch = self.batch(rig, *by, records, *codec);
                self.append(rig, &batch)
            }
            Act::End { producer, commit } => {
                let known = rig.state.producers().known(ProducerId(*producer));
                let epoch = known.map_or(0, |known| known.epoch().0) + 1;
                self.append(rig, &marker(*producer, epoch, *commit, self.clock))
            }
            Act::Roll => {
                let writes: Vec<Write> = rig.state.roll().into_iter().collect();
                rig.log.append(&writes)
            }
            Act::Sync => {
                rig.log.sync()?;
                rig.log.close_files();
                self.synced = self.end();
                Ok(())
            }
            Act::Clean { after } => {
                self.clock += after;
                self.clean(rig, 1 << 20).map(drop)
            }
            Act::Delete(count) => {
                let to = (self.log_start + count).min(self.synced).max(self.log_start);
                self.log_start_next = to;
                rig.log.delete_before(Offset(to), &mut rig.checkpoints)?;
                rig.state.delete_before(Offset(to));
                self.log_start = to;
                Ok(())
            }
            Act::TakeDown => rig.take_down(),
            Act::Believe => {
                if rig.believe()? {
                    self.synced = rig.log.synced().0;
                }
                Ok(())
            }
            Act::Reopen => {
                let state = rig.state.clone();
                rig.log.close(Some(&state), &mut rig.checkpoints)?;
                rig.checkpoints.store()?;
                self.synced = self.end();
                *rig = Rig::open(&rig.disk)?;
                assert_eq!(rig.recovery, Recovery::default());
                Ok(())
            }
        }
    }

    fn batch(&self, rig: &Rig, by: By, records: &[(u8, Option<u8>)], codec: Codec) -> RecordBatch {
        let mut builder = BatchBuilder::new(BatchOptions { codec, ..BatchOptions::default() });
        for (n, (key, value)) in (0..).zip(records) {
            let value = value.map(|value| vec![value; 20]);
            builder
                .append(Timestamp(self.clock + n % 2), Some(&[*key]), value.as_deref(), &[])
                .unwrap();
        }
        let (producer, is_transactional) = match by {
            By::Nobody => (-1, false),
            By::Idempotent(producer) => (producer, false),
            By::Transaction(producer) => (producer, true),
        };
        if producer < 0 {
            return builder.finish(ProducerId(-1), ProducerEpoch(-1), Sequence(-1), false);
        }
        let known = rig.state.producers().known(ProducerId(producer));
        let epoch = known.map_or(ProducerEpoch(0), |known| known.epoch());
        let sequence = known.map_or(Sequence(0), |known| known.last_sequence().plus(1));
        builder.finish(ProducerId(producer), epoch, sequence, is_transactional)
    }

    fn append(&mut self, rig: &mut Rig, batch: &RecordBatch) -> Result<(), LogError> {
        let writes = rig.admit(batch, 0);
        let placed = writes.iter().flat_map(|write| &write.batches);
        self.history.extend(placed.map(|placed| placed.bytes.clone().into_batch()));
        rig.log.append(&writes)
    }

    /// Cleans all that may be cleaned, and checks what is left.
    fn clean(&mut self, rig: &mut Rig, keys_bytes_max: u64) -> Result<Option<Cleaned>, LogError> {
        let stable = rig.state.last_stable_offset(Offset(self.synced));
        let now = Timestamp(self.clock);
        let dirt = Dirt::of(&rig.reader.segments(), rig.reader.cleaned(), stable, now, &EAGER);
        let Some(dirt) = dirt else { return Ok(None) };
        let terms = CleanTerms {
            dirt,
            now,
            delete_retention: RETENTION,
            keys_bytes_max,
            seed: 1,
            log: rig.config.clone(),
        };
        let mut cleaning = rig.log.clean(terms)?.expect("there is dirt");
        let cleaned = loop {
            match cleaning.step()? {
                CleanStep::Worked(_) => {}
                CleanStep::Swap(swap) => {
                    assert!(rig.log.swap(&swap, &mut rig.checkpoints)?, "nobody else is there");
                }
                CleanStep::Done(cleaned) => break cleaned,
            }
        };
        rig.log.set_cleaned(cleaned.until, &mut rig.checkpoints)?;
        // What was to go wrong was to go wrong there.
        rig.disk.clear_faults();
        let until = cleaned.until.0;
        let want = self.expected(until, now.0);
        let mut got: Vec<Written> = rig.batches().iter().flat_map(data_of).collect();
        got.retain(|record| self.log_start <= record.offset && record.offset < until);
        assert_eq!(got, want);
        self.compare(rig);
        Ok(Some(cleaned))
    }

    /// Compares an open log with the model in all that holds at any time.
    fn compare(&self, rig: &Rig) {
        let end = Offset(self.end());
        assert_eq!(rig.reader.log_end(), end);
        assert_eq!(rig.reader.log_start().0, self.log_start);
        let found = rig.batches();
        let all: BTreeMap<i64, Written> =
            self.history.iter().flat_map(data_of).map(|record| (record.offset, record)).collect();
        let records: Vec<Written> = found.iter().flat_map(data_of).collect();
        for record in &records {
            assert_eq!(Some(record), all.get(&record.offset));
        }
        // What one who reads committed records makes of it.
        let stable = rig.state.last_stable_offset(end);
        let aborted = rig.reader.aborted(rig.reader.log_start(), stable);
        let seen: Vec<Written> = found
            .iter()
            .filter(|batch| batch.header().base_offset < stable)
            .filter(|batch| !is_aborted(batch, &aborted))
            .flat_map(data_of)
            .filter(|record| self.log_start <= record.offset && record.offset < stable.0)
            .collect();
        assert_eq!(view(&seen), self.view());
        self.compare_positions(rig, &found);
        let mut state = LogState::empty(Offset::ZERO);
        for batch in &self.history {
            let placed = Placed::in_place(batch).unwrap();
            state.apply(&placed.header, placed.control);
        }
        assert_eq!(rig.state.producers(), state.producers());
    }

    /// Every offset leads to the first batch that ends beyond it, every time to its first record.
    fn compare_positions(&self, rig: &Rig, found: &[RecordBatch]) {
        let end = Offset(self.end());
        for offset in self.log_start..end.0 {
            let slice = rig.reader.read(Offset(offset), end, 1, true).unwrap();
            let want = found.iter().find(|batch| batch.header().next_offset().0 > offset).unwrap();
            assert_eq!(slice.first.as_ref(), Some(want.header()), "{offset}");
        }
        let dated: Vec<(i64, i64)> = found
            .iter()
            .flat_map(|batch| batch.records_at())
            .filter(|&(offset, _)| offset >= self.log_start)
            .collect();
        let times = dated.iter().map(|&(_, at)| at).max().unwrap_or(0);
        for at in (0..times + 2).step_by(2) {
            let want = dated.iter().find(|&&(_, dated)| dated >= at).map(|&(offset, _)| offset);
            let got = rig.reader.offset_for_timestamp(Timestamp(at), end).unwrap();
            assert_eq!(got.map(|found| found.offset.0), want, "{at}");
        }
        let want = dated.iter().copied().min_by_key(|&(offset, at)| (-at, offset));
        let got = rig.reader.max_timestamp(end).unwrap();
        assert_eq!(got.map(|found| (found.offset.0, found.timestamp.0)), want);
    }

    /// Compares a log that was opened after a crash with what may be; it is the truth from now on.
    fn verify(&mut self, rig: &Rig) {
        let end = rig.reader.log_end().0;
        assert!(end >= self.synced, "lost {end}..{} of what was durable", self.synced);
        let starts = [self.log_start, self.log_start_next];
        assert!(starts.contains(&rig.reader.log_start().0));
        self.history.retain(|batch| batch.header().next_offset().0 <= end);
        assert_eq!(self.end(), end, "ends within a batch");
        self.log_start = rig.reader.log_start().0;
        self.log_start_next = self.log_start;
        self.synced = end;
        // Which tombstones an unfinished cleaning has marked is not known here.
        self.horizons.clear();
        self.compare(rig);
        let names = rig.disk.list(Path::new("/data/t-0")).unwrap_or_default();
        let is_odd = |name: &String| name.contains("cleaned") || name.contains("swap");
        assert_eq!(names.into_iter().find(is_odd), None);
    }
}

/// A batch's records, of a data batch.
fn data_of(batch: &RecordBatch) -> Vec<Written> {
    if batch.header().attributes.is_control() { Vec::new() } else { written_of(batch) }
}

trait RecordsAt {
    fn records_at(&self) -> Vec<(i64, i64)>;
}

impl RecordsAt for RecordBatch {
    /// Offsets and timestamps of all records, also of control batches.
    fn records_at(&self) -> Vec<(i64, i64)> {
        let decoded = self.decode(1 << 20).unwrap();
        decoded.iter().map(Result::unwrap).map(|it| (it.offset.0, it.timestamp.0)).collect()
    }
}

/// Whether a client that was told of these aborted transactions skips `batch`.
fn is_aborted(batch: &RecordBatch, aborted: &[AbortedTxn]) -> bool {
    let header = batch.header();
    header.attributes.is_transactional()
        && aborted.iter().any(|txn| {
            txn.producer_id == header.producer_id
                && (txn.first_offset..=txn.last_offset).contains(&header.last_offset())
        })
}

fn play(seed: u64, acts: &[Act], crash_at: Option<u64>) -> (SimDisk, Keyed) {
    let disk = SimDisk::new(seed);
    if let Some(op) = crash_at {
        disk.crash_at(op);
    }
    let mut model = Keyed::default();
    let Ok(mut rig) = Rig::open(&disk) else { return (disk, model) };
    for act in acts {
        if let Err(error) = model.act(&mut rig, act) {
            assert!(disk.is_dead(), "{act:?}: {error}");
            break;
        }
    }
    if !disk.is_dead() {
        model.compare(&rig);
    }
    (disk, model)
}

/// Opens what a crash left, perhaps crashing again on the way, writes on and cleans again.
fn outlive(disk: &SimDisk, model: &mut Keyed, second_crash: Option<u64>) {
    disk.crash();
    if let Some(op) = second_crash {
        disk.crash_at(op);
        drop(Rig::open(disk));
        disk.crash();
    }
    model.verify(&Rig::open(disk).unwrap());
    disk.crash();
    let mut rig = Rig::open(disk).unwrap();
    model.verify(&rig);
    let last = vec![(1, Some(200)), (2, None), (3, Some(201))];
    let write = Act::Write { by: By::Idempotent(1), records: last, codec: Codec::None };
    for act in [write.clone(), Act::Roll, write, Act::Sync] {
        model.act(&mut rig, &act).unwrap();
    }
    // Whatever was interrupted is done again from here.
    model.clock += 3;
    clean_loosely(&mut rig, model);
    disk.crash();
    model.verify(&Rig::open(disk).unwrap());
}

/// Cleans without a claim on which tombstones are left.
fn clean_loosely(rig: &mut Rig, model: &Keyed) {
    let stable = rig.state.last_stable_offset(Offset(model.synced));
    let now = Timestamp(model.clock);
    let dirt = Dirt::of(&rig.reader.segments(), rig.reader.cleaned(), stable, now, &EAGER);
    let Some(dirt) = dirt else { return };
    let (delete_retention, log) = (RETENTION, rig.config.clone());
    let terms = CleanTerms { dirt, now, delete_retention, keys_bytes_max: 0, seed: 2, log };
    let mut cleaning = rig.log.clean(terms).unwrap().unwrap();
    loop {
        match cleaning.step().unwrap() {
            CleanStep::Worked(_) => {}
            CleanStep::Swap(swap) => assert!(rig.log.swap(&swap, &mut rig.checkpoints).unwrap()),
            CleanStep::Done(cleaned) => {
                rig.log.set_cleaned(cleaned.until, &mut rig.checkpoints).unwrap();
                break;
            }
        }
    }
    model.compare(rig);
}

fn put(by: By, records: &[(u8, Option<u8>)]) -> Act {
    Act::Write { by, records: records.to_vec(), codec: Codec::None }
}

/// A history that meets every rule of compaction, cleaned three times.
fn eventful() -> Vec<Act> {
    use Act::{Clean, Delete, End, Reopen, Roll, Sync};
    use By::{Idempotent, Nobody, Transaction};
    let mut acts = Vec::new();
    for n in 0..3 {
        acts.extend([
            put(Transaction(5), &[(1, Some(n)), (2, Some(n))]),
            put(Idempotent(1), &[(3, Some(n)), (3, Some(n + 1)), (4, None)]),
            put(Transaction(6), &[(1, Some(n + 100)), (5, None)]),
            End { producer: 5, commit: n != 1 },
            Roll,
            put(Nobody, &[(2, Some(n + 50)), (6, Some(n)), (7, Some(n))]),
            End { producer: 6, commit: false },
            put(Nobody, &[(6, None), (7, Some(n + 1))]),
            Sync,
            Roll,
            put(Transaction(5), &[(8, Some(n))]),
            Sync,
            Clean { after: 40 },
            End { producer: 5, commit: true },
        ]);
        acts.push(if n == 1 { Delete(4) } else { Reopen });
    }
    acts.extend([Roll, put(Nobody, &[(9, None)]), Sync, Clean { after: 200 }]);
    acts
}

#[test]
pub(super) fn cleaning_survives_a_crash_at_any_operation() {
    let acts = eventful();
    let (disk, _) = play(0, &acts, None);
    let ops = disk.ops();
    assert!(ops > 100);
    for crash_at in 1..=ops + 1 {
        for seed in 0..4 {
            let (disk, mut model) = play(seed, &acts, Some(crash_at));
            outlive(&disk, &mut model, (seed == 3).then_some(crash_at % 9 + 1));
        }
    }
}

fn any_act() -> impl Strategy<Value = Act> {
    let records = prop::collection::vec((0_u8..8, prop::option::weighted(0.7, any::<u8>())), 1..5);
    let by = prop_oneof![
        2 => Just(By::Nobody),
        2 => (1_i64..4).prop_map(By::Idempotent),
        3 => (4_i64..7).prop_map(By::Transaction),
    ];
    let codec = prop_oneof![4 => Just(Codec::None), 1 => Just(Codec::Lz4)];
    prop_oneof![
        10 => (by, records, codec)
            .prop_map(|(by, records, codec)| Act::Write { by, records, codec }),
        4 => (4_i64..7, any::<bool>()).prop_map(|(producer, commit)| Act::End { producer, commit }),
        2 => Just(Act::Roll),
        3 => Just(Act::Sync),
        3 => (0_i64..150).prop_map(|after| Act::Clean { after }),
        1 => (1_i64..20).prop_map(Act::Delete),
        2 => Just(Act::TakeDown),
        2 => Just(Act::Believe),
        1 => Just(Act::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn cleaning_leaves_exactly_the_newest_committed_record_of_each_key(
        acts in prop::collection::vec(any_act(), 1..80),
    ) {
        play(0, &acts, None);
    }

    #[test]
    fn any_keyed_history_survives_a_crash_anywhere(
        seed: u64,
        acts in prop::collection::vec(any_act(), 1..60),
        crash_at in 1_u64..400,
    ) {
        let (disk, mut model) = play(seed, &acts, Some(crash_at));
        outlive(&disk, &mut model, seed.is_multiple_of(2).then_some(crash_at % 9 + 1));
    }
}

/// A log to which `acts` were done.
fn rig_after(acts: &[Act]) -> (Rig, Keyed) {
    let mut model = Keyed::default();
    let mut rig = Rig::open(&SimDisk::new(1)).unwrap();
    for act in acts {
        model.act(&mut rig, act).unwrap();
    }
    (rig, model)
}

/// The batches below the cleaned end: base offset, how many records, whether control.
fn shape(rig: &Rig) -> Vec<(i64, i32, bool)> {
    let clean = rig.reader.cleaned();
    let batches = rig.batches().into_iter().map(|batch| *batch.header());
    batches
        .filter(|header| header.base_offset < clean)
        .map(|it| (it.base_offset.0, it.record_count, it.attributes.is_control()))
        .collect()
}

#[test]
fn a_tombstone_stays_for_its_time_after_the_first_cleaning_and_then_goes() {
    let n = By::Nobody;
    let (mut rig, mut model) = rig_after(&[
        put(n, &[(1, Some(1))]),
        put(n, &[(1, None)]),
        put(n, &[(2, Some(2))]),
        Act::Roll,
        put(n, &[(3, Some(3))]),
        Act::Sync,
        Act::Clean { after: 1000 },
    ]);
    assert_eq!(shape(&rig), [(1, 1, false), (2, 1, false)]);
    let tombstone = rig.batches()[0].clone();
    assert!(tombstone.header().attributes.has_delete_horizon());
    let again = |rig: &mut Rig, model: &mut Keyed, after| {
        for act in [Act::Roll, put(n, &[(3, Some(4))]), Act::Sync, Act::Clean { after }] {
            model.act(rig, &act).unwrap();
        }
    };
    again(&mut rig, &mut model, 50);
    assert_eq!(shape(&rig)[0], (1, 1, false));
    assert_eq!(rig.batches()[0], tombstone);
    again(&mut rig, &mut model, 50);
    assert_eq!(shape(&rig)[0], (2, 1, false));
}

#[test]
fn a_marker_stays_until_nothing_of_its_transaction_is_left_and_its_time_is_over() {
    let (t, n) = (By::Transaction(5), By::Nobody);
    let (mut rig, mut model) = rig_after(&[
        put(t, &[(1, Some(1))]),
        Act::End { producer: 5, commit: true },
        put(t, &[(2, Some(1))]),
        Act::End { producer: 5, commit: false },
        put(t, &[(3, Some(1))]),
        Act::End { producer: 5, commit: true },
        Act::Roll,
        put(n, &[(1, Some(9))]),
        Act::Sync,
        Act::Clean { after: 0 },
    ]);
    // The aborted record went; its marker may be needed by who is reading just now.
    assert_eq!(
        shape(&rig),
        [(0, 1, false), (1, 1, true), (3, 1, true), (4, 1, false), (5, 1, true)]
    );
    let again = |rig: &mut Rig, model: &mut Keyed, after| {
        for act in [Act::Roll, put(n, &[(9, Some(4))]), Act::Sync, Act::Clean { after }] {
            model.act(rig, &act).unwrap();
        }
    };
    // Key 1 was written again: nothing of the first transaction is left, either.
    again(&mut rig, &mut model, 10);
    assert_eq!(shape(&rig)[..4], [(1, 1, true), (3, 1, true), (4, 1, false), (5, 1, true)]);
    assert!(rig.reader.aborted(Offset(0), rig.reader.log_end()).is_empty());
    again(&mut rig, &mut model, 90);
    assert_eq!(shape(&rig)[..3], [(1, 1, true), (4, 1, false), (5, 1, true)]);
    again(&mut rig, &mut model, 90);
    assert_eq!(shape(&rig)[..2], [(4, 1, false), (5, 1, true)]);
}

#[test]
fn the_last_batch_that_was_cleaned_stays_be_it_empty_so_that_the_log_never_ends_before_it() {
    let disk = SimDisk::new(1);
    let mut model = Keyed::default();
    let mut rig = Rig::open(&disk).unwrap();
    let acts = [
        put(By::Nobody, &[(1, Some(1))]),
        put(By::Transaction(5), &[(1, Some(2))]),
        put(By::Transaction(5), &[(2, Some(2))]),
        Act::Roll,
        Act::End { producer: 5, commit: false },
        Act::Sync,
        Act::Clean { after: 0 },
    ];
    for act in &acts {
        model.act(&mut rig, act).unwrap();
    }
    assert_eq!(shape(&rig), [(0, 1, false), (2, 0, false)]);
    // A reader goes on from the empty batch, it does not spin before it.
    let slice = rig.reader.read(Offset(1), Offset(3), 1, true).unwrap();
    assert_eq!(slice.next_offset, Offset(3));
}

#[test]
fn a_producer_is_known_from_the_batches_alone_after_a_cleaning() {
    let i = By::Idempotent(1);
    let (mut rig, _) = rig_after(&[
        put(i, &[(1, Some(1)), (2, Some(1))]),
        put(i, &[(1, Some(2))]),
        put(By::Nobody, &[(1, Some(3)), (2, Some(3))]),
        Act::Roll,
        put(By::Nobody, &[(3, Some(3))]),
        Act::Sync,
        Act::Clean { after: 0 },
    ]);
    assert_eq!(shape(&rig), [(2, 0, false), (3, 2, false)]);
    rig.log.close(None, &mut rig.checkpoints).unwrap();
    rig.checkpoints.store().unwrap();
    let dir = Path::new("/data/t-0");
    for name in rig.disk.list(dir).unwrap().iter().filter(|name| name.ends_with(".snapshot")) {
        rig.disk.remove_file(&dir.join(name)).unwrap();
    }
    let rig = Rig::open(&rig.disk).unwrap();
    let known = rig.state.producers().known(ProducerId(1)).unwrap();
    assert_eq!(known.last_sequence(), Sequence(2));
    let repeated = data(1, 3, Some((1, 0, 2)), false);
    assert!(matches!(
        rig.state.check_append(repeated.header(), Origin::Client),
        Ok(Checked::Duplicate { base_offset: Offset(2), .. })
    ));
}

#[test]
fn more_keys_than_memory_holds_take_several_rounds() {
    let disk = SimDisk::new(1);
    let mut model = Keyed::default();
    let large = LogConfig { segment_bytes: 1 << 20, index_interval_bytes: 4096, ..config() };
    let mut rig = Rig::open_with(&disk, large).unwrap();
    let batch = |from: u16, value: u8| {
        let mut builder = BatchBuilder::new(BatchOptions::default());
        for key in from..from + 500 {
            let key = key.to_be_bytes();
            builder.append(Timestamp(1), Some(&key), Some(&[value]), &[]).unwrap();
        }
        builder.finish(ProducerId(-1), ProducerEpoch(-1), Sequence(-1), false)
    };
    for value in 0..2 {
        for from in [0, 500, 1000, 1500] {
            rig.append(&batch(from, value), 0).unwrap();
        }
    }
    let writes: Vec<Write> = rig.state.roll().into_iter().collect();
    rig.log.append(&writes).unwrap();
    rig.append(&batch(9000, 9), 0).unwrap();
    rig.log.sync().unwrap();
    let mut rounds = Vec::new();
    loop {
        let (segments, cleaned) = (rig.reader.segments(), rig.reader.cleaned());
        let Some(dirt) = Dirt::of(&segments, cleaned, Offset(4500), Timestamp(0), &EAGER) else {
            break;
        };
        let (now, log) = (Timestamp(1), rig.config.clone());
        let terms =
            CleanTerms { dirt, now, delete_retention: RETENTION, keys_bytes_max: 0, seed: 3, log };
        let mut cleaning = rig.log.clean(terms).unwrap().unwrap();
        let cleaned = loop {
            match cleaning.step().unwrap() {
                CleanStep::Worked(_) => {}
                CleanStep::Swap(it) => assert!(rig.log.swap(&it, &mut rig.checkpoints).unwrap()),
                CleanStep::Done(cleaned) => break cleaned,
            }
        };
        rig.log.set_cleaned(cleaned.until, &mut rig.checkpoints).unwrap();
        rounds.push(cleaned.until.0);
    }
    assert_eq!(rounds, [768, 1536, 2304, 3072, 3840, 4000]);
    model.clock = 0;
    let found: Vec<_> = rig.batches().iter().map(|it| it.header().base_offset.0).collect();
    assert_eq!(found, [2000, 2500, 3000, 3500, 4000]);
}

#[test]
fn segments_that_became_small_are_joined() {
    let n = By::Nobody;
    let mut acts = Vec::new();
    for value in 0..20 {
        acts.extend([put(n, &[(value % 3, Some(value)), (100 + value, Some(1))]), Act::Roll]);
    }
    acts.extend([put(n, &[(200, Some(1))]), Act::Sync]);
    let (mut rig, mut model) = rig_after(&acts);
    let before = rig.reader.segments().len();
    let cleaned = model.clean(&mut rig, 1 << 20).unwrap().unwrap();
    assert!(cleaned.bytes_after < cleaned.bytes_before);
    let after = rig.reader.segments().len();
    assert!(after * 3 < before, "{before} {after}");
    // What is clean stays as it is.
    let names = rig.disk.list(Path::new("/data/t-0")).unwrap();
    model.act(&mut rig, &Act::Clean { after: 1 }).unwrap();
    assert_eq!(rig.disk.list(Path::new("/data/t-0")).unwrap(), names);
}

#[test]
fn a_reader_that_holds_an_old_segment_reads_on_while_another_takes_its_place() {
    let n = By::Nobody;
    let (mut rig, mut model) = rig_after(&[
        put(n, &[(1, Some(1)), (2, Some(1))]),
        put(n, &[(1, Some(2)), (2, Some(2))]),
        Act::Roll,
        put(n, &[(3, Some(1))]),
        Act::Sync,
    ]);
    let old = rig.reader.shared_segments();
    model.clean(&mut rig, 1 << 20).unwrap().unwrap();
    let file = old[0].log().unwrap();
    let mut bytes = vec![0; usize::try_from(old[0].summary().bytes).unwrap()];
    assert_eq!(file.read_at(&mut bytes, 0).unwrap(), bytes.len());
    let mut bytes = bytes::Bytes::from(bytes);
    let first = RecordBatch::split_first(&mut bytes).unwrap().unwrap();
    assert_eq!(written_of(&first).len(), 2);
    assert_eq!(shape(&rig), [(2, 2, false)]);
}

#[test]
fn a_log_that_changed_meanwhile_is_left_as_it_is() {
    let n = By::Nobody;
    let (mut rig, mut model) = rig_after(&[
        put(n, &[(1, Some(1)), (2, Some(1))]),
        Act::Roll,
        put(n, &[(1, Some(2)), (2, Some(2))]),
        Act::Roll,
        put(n, &[(3, Some(1))]),
        Act::Sync,
    ]);
    let dirt = Dirt::of(&rig.reader.segments(), Offset(0), Offset(5), Timestamp(0), &EAGER);
    let terms = CleanTerms {
        dirt: dirt.unwrap(),
        now: Timestamp(0),
        delete_retention: RETENTION,
        keys_bytes_max: 0,
        seed: 1,
        log: rig.config.clone(),
    };
    let mut cleaning = rig.log.clean(terms).unwrap().unwrap();
    let swap = loop {
        if let CleanStep::Swap(swap) = cleaning.step().unwrap() {
            break swap;
        }
    };
    model.act(&mut rig, &Act::Delete(2)).unwrap();
    assert!(!rig.log.swap(&swap, &mut rig.checkpoints).unwrap());
    model.compare(&rig);
    let names = rig.disk.list(Path::new("/data/t-0")).unwrap();
    assert_eq!(names.iter().find(|name| name.contains("cleaned")), None);
}

#[test]
fn damage_is_reported_and_not_written_anew() {
    let n = By::Nobody;
    let (mut rig, mut model) = rig_after(&[
        put(n, &[(1, Some(1)), (2, Some(1))]),
        put(n, &[(1, Some(2)), (2, Some(1))]),
        Act::Roll,
        put(n, &[(3, Some(1))]),
        Act::Sync,
    ]);
    let path = Path::new("/data/t-0").join("00000000000000000000.log");
    rig.disk.flip(&path, 80).unwrap();
    let error = model.clean(&mut rig, 1 << 20).unwrap_err();
    assert!(matches!(error, LogError::Corrupt { position: 0, .. }), "{error}");
    rig.disk.flip(&path, 80).unwrap();
    model.clean(&mut rig, 1 << 20).unwrap().unwrap();
}

#[test]
fn a_cleaning_that_finds_the_disk_full_changes_nothing_and_is_done_later() {
    let acts = eventful();
    for op in [Op::Write, Op::Create, Op::Sync, Op::SyncDir, Op::Truncate] {
        for after in 0..30 {
            let (mut rig, mut model) = rig_after(&acts[..12]);
            model.compare(&rig);
            let fault = Fault { errno: 28, ..Fault::io_error(op, after) };
            rig.disk.inject(fault);
            match model.clean(&mut rig, 1 << 20) {
                Ok(_) => break,
                Err(LogError::Full { .. }) => {
                    rig.disk.clear_faults();
                    model.horizons.clear();
                    model.compare(&rig);
                    model.clean(&mut rig, 1 << 20).unwrap();
                }
                // Halfway through a swap there is no way back; the next opening goes on.
                Err(LogError::Io { .. }) => {
                    rig.disk.crash();
                    model.verify(&Rig::open(&rig.disk).unwrap());
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
}

/// Strangers' connections count as open files, too.
#[test]
fn a_cleaning_that_can_open_no_file_loses_nothing_and_is_done_later() {
    let acts = eventful();
    let mut refused = 0;
    for (times, crashes) in [(1, false), (1, true), (u64::MAX, false), (u64::MAX, true)] {
        for after in 0.. {
            let (mut rig, mut model) = rig_after(&acts[..12]);
            rig.disk.inject(Fault { on: Some(Op::Open), after, times, one_in: 1, errno: 24 });
            let cleaned = model.clean(&mut rig, 1 << 20);
            rig.disk.clear_faults();
            match cleaned {
                Ok(_) => break,
                Err(LogError::OutOfFiles { .. }) if crashes => {
                    rig.disk.crash();
                    model.verify(&Rig::open(&rig.disk).unwrap());
                }
                Err(LogError::OutOfFiles { .. }) => {
                    model.horizons.clear();
                    model.compare(&rig);
                    model.clean(&mut rig, 1 << 20).unwrap();
                }
                Err(error) => panic!("after {after}: {error}"),
            }
            refused += 1;
        }
    }
    assert!(refused > 40, "{refused}");
}
