//! The rounds of a source task: poll → send → commit, exactly once.
//!
//! Records of several polls and the source offsets behind them go into one transaction, so that both are there or
//! neither is (KIP-618). A round is committed when it is large or old enough, when the source has nothing
//! more to give, and before an end. If anything but a poll fails, the task ends: the transaction is aborted, and a new
//! task starts behind what is committed.
//!
//! | state | leaves on | for |
//! |---|---|---|
//! | Starting | started | Polling |
//! | Polling | a batch | Sending |
//! | | nothing, failure that may pass | Committing if the round has something, else Waiting |
//! | | finished | Committing if the round has something, else Ended |
//! | Sending | sent | Committing if due or stopping, else Polling |
//! | Committing | committed | Telling |
//! | Telling | told | Waiting, Polling or Ended, as was due |
//! | Waiting | tick | Polling; Ended if stopping |
//!
//! Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use client::backoff::Backoff;
use protocol::rng::Rng;
use protocol::time::Now;

use crate::config::RetryConfig;
use crate::sdk::{Polled, SourceBatch, SourceOffset, TaskError};

/// What happened.
#[derive(Debug)]
pub(crate) enum Event {
    /// The task was started.
    Started,
    /// A poll ended.
    Polled(Result<Polled, TaskError>),
    /// The batch is with the producer.
    Sent,
    /// Records and offsets are committed.
    Committed,
    /// The task was told.
    Told(Result<(), TaskError>),
    /// The time that `wake_at` named has come.
    Tick,
    /// The task shall end, with all that it has polled committed.
    Stop,
    /// Starting, sending or committing failed.
    Failed(TaskError),
}

/// What to do now.
#[derive(Debug)]
pub(crate) enum Effect {
    /// Poll the task.
    Poll,
    /// Put the batch's records into the transaction, which is begun if none is open.
    Send(SourceBatch),
    /// Put these offsets into the transaction and commit it.
    Commit(Vec<SourceOffset>),
    /// Tell the task that these offsets are committed.
    Tell(Vec<SourceOffset>),
    /// The task is over; `Err`: whatever is open is to be aborted.
    End(Result<Ended, TaskError>),
}

/// Why a task ended well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The source has no more and never will.
    Finished,
    /// It was asked to.
    Stopped,
}

/// What a task has done; only grows, but for `is_at_end`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SourceProgress {
    /// Records committed.
    pub(crate) records: u64,
    /// Bytes of their keys, values and headers.
    pub(crate) bytes: u64,
    /// Transactions committed.
    pub(crate) commits: u64,
    /// True when all that the source had at its last poll is committed.
    pub(crate) is_at_end: bool,
}

/// When to commit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RoundConfig {
    pub(crate) commit_interval: Duration,
    pub(crate) transaction_bytes: usize,
}

/// What was sent since the last commit.
#[derive(Debug, Default)]
struct Round {
    records: u64,
    bytes: usize,
    /// The newest offset of each partition, by its JSON.
    offsets: BTreeMap<String, SourceOffset>,
    opened_at: Option<Duration>,
}

/// What to do once a round is committed.
#[derive(Clone, Copy, Debug)]
enum Then {
    Poll,
    Wait { until: Duration, at_end: bool },
    End(Ended),
}

#[derive(Debug)]
enum State {
    Starting,
    Polling,
    Sending,
    Committing(Then),
    Telling(Then),
    Waiting { until: Duration },
    Ended,
}

/// The rounds of one task. See the module's header.
#[derive(Debug)]
pub(crate) struct SourceCore {
    config: RoundConfig,
    state: State,
    round: Round,
    backoff: Backoff,
    is_stopping: bool,
    progress: SourceProgress,
}

impl SourceCore {
    pub(crate) fn new(config: RoundConfig, retry: &RetryConfig, seed: u64) -> Self {
        Self {
            config,
            state: State::Starting,
            round: Round::default(),
            backoff: Backoff::new(retry.backoff, retry.backoff_max, Rng::new(seed)),
            is_stopping: false,
            progress: SourceProgress::default(),
        }
    }

    /// What was done so far.
    pub(crate) fn progress(&self) -> &SourceProgress {
        &self.progress
    }

    /// When a tick is due. `None`: something else is under way.
    pub(crate) fn wake_at(&self) -> Option<Duration> {
        match self.state {
            State::Waiting { until } => Some(until),
            _ => None,
        }
    }

    /// The only way in.
    pub(crate) fn step(&mut self, now: Now, event: Event, effects: &mut Vec<Effect>) {
        match event {
            Event::Started => {
                assert!(matches!(self.state, State::Starting));
                self.go_on(Then::Poll, effects);
            }
            Event::Polled(polled) => {
                assert!(matches!(self.state, State::Polling));
                self.on_polled(now, polled, effects);
            }
            Event::Sent => {
                assert!(matches!(self.state, State::Sending));
                let then = if self.is_stopping { Then::End(Ended::Stopped) } else { Then::Poll };
                let is_due = self.is_due(now) || self.is_stopping;
                if is_due { self.close_round(then, effects) } else { self.go_on(then, effects) }
            }
            Event::Committed => {
                let State::Committing(then) = self.state else {
                    panic!("committed while {:?}", self.state)
                };
                let round = std::mem::take(&mut self.round);
                self.progress.records += round.records;
                self.progress.bytes += u64::try_from(round.bytes).unwrap_or(u64::MAX);
                self.progress.commits += 1;
                self.state = State::Telling(then);
                effects.push(Effect::Tell(round.offsets.into_values().collect()));
            }
            Event::Told(told) => {
                let State::Telling(then) = self.state else {
                    panic!("told while {:?}", self.state)
                };
                match told {
                    Err(error) if !error.is_retriable() => self.end(Err(error), effects),
                    // The next commit tells as much and more.
                    Ok(()) | Err(_) => self.go_on(then, effects),
                }
            }
            Event::Tick => {
                if self.wake_at().is_some_and(|at| at <= now.monotonic) {
                    self.go_on(Then::Poll, effects);
                }
            }
            Event::Stop => {
                self.is_stopping = true;
                if matches!(self.state, State::Waiting { .. }) {
                    self.end(Ok(Ended::Stopped), effects);
                }
            }
            Event::Failed(error) => self.end(Err(error), effects),
        }
        self.check();
    }

    fn on_polled(
        &mut self,
        now: Now,
        polled: Result<Polled, TaskError>,
        effects: &mut Vec<Effect>,
    ) {
        let then = match polled {
            Ok(Polled::Batch(batch)) => {
                self.backoff.reset();
                self.progress.is_at_end = false;
                self.take(now, &batch);
                self.state = State::Sending;
                effects.push(Effect::Send(batch));
                return;
            }
            Ok(Polled::Nothing { again_after, at_end }) => {
                self.backoff.reset();
                Then::Wait { until: now.monotonic + again_after, at_end }
            }
            Ok(Polled::Finished) => Then::End(Ended::Finished),
            Err(error) if error.is_retriable() => {
                Then::Wait { until: now.monotonic + self.backoff.next_wait(), at_end: false }
            }
            Err(error) => return self.end(Err(error), effects),
        };
        if self.round.opened_at.is_some() {
            self.close_round(then, effects);
        } else {
            self.go_on(then, effects);
        }
    }

    fn take(&mut self, now: Now, batch: &SourceBatch) {
        let round = &mut self.round;
        round.opened_at.get_or_insert(now.monotonic);
        round.records += u64::try_from(batch.records.len()).expect("a length fits 64 bits");
        round.bytes += batch.payload_bytes();
        for offset in &batch.offsets {
            round.offsets.insert(offset.partition.to_string(), offset.clone());
        }
    }

    fn is_due(&self, now: Now) -> bool {
        let is_old = self
            .round
            .opened_at
            .is_some_and(|at| at + self.config.commit_interval <= now.monotonic);
        is_old || self.round.bytes >= self.config.transaction_bytes
    }

    fn close_round(&mut self, then: Then, effects: &mut Vec<Effect>) {
        self.state = State::Committing(then);
        effects.push(Effect::Commit(self.round.offsets.values().cloned().collect()));
    }

    fn go_on(&mut self, then: Then, effects: &mut Vec<Effect>) {
        match then {
            Then::End(ended) => self.end(Ok(ended), effects),
            // A round that is open is committed first: a poll may find nothing, and then it is closed.
            _ if self.is_stopping && self.round.opened_at.is_none() => {
                self.end(Ok(Ended::Stopped), effects)
            }
            Then::Poll => {
                self.state = State::Polling;
                effects.push(Effect::Poll);
            }
            Then::Wait { until, at_end } => {
                self.progress.is_at_end = at_end;
                self.state = State::Waiting { until };
            }
        }
    }

    fn end(&mut self, how: Result<Ended, TaskError>, effects: &mut Vec<Effect>) {
        if how.is_ok() {
            assert!(self.round.opened_at.is_none(), "a round is left open");
            self.progress.is_at_end |= matches!(how, Ok(Ended::Finished));
        }
        self.state = State::Ended;
        effects.push(Effect::End(how));
    }

    /// Asserts that nothing waits behind an open round, and that a round that is open has begun.
    fn check(&self) {
        let is_open = self.round.opened_at.is_some();
        assert!(is_open || (self.round.records == 0 && self.round.offsets.is_empty()));
        if matches!(self.state, State::Waiting { .. } | State::Telling(_) | State::Starting) {
            assert!(!is_open);
        }
        if matches!(self.state, State::Committing(_) | State::Sending) {
            assert!(is_open);
        }
    }
}

#[cfg(test)]
#[path = "source_tests.rs"]
mod tests;
