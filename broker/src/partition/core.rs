//! One partition as a state machine: fence by epochs, then let the leader decide.
//!
//! Events come in, effects go out in the order in which they must happen: writes first, then what
//! is published, then replies and bells. So whoever hears that a record is committed finds it
//! readable. Every token that came with an event is answered exactly once. Pure.

use std::sync::Arc;
use std::time::Duration;

use protocol::ids::{BrokerId, LeaderEpoch, Offset, ProducerEpoch, ProducerId, TopicPartition};
use protocol::time::Now;

use super::leader::Leader;
use super::{
    Acks, ActiveProducer, Append, AppendError, Appended, EndTxnMarker, Isolation, ReadError,
    Standing, VerificationGuard, Watermarks,
};
use crate::config::FlushMode;
use crate::log::{LogConfig, LogState, RetentionPlan, Write};

/// Names who waits for an answer; the shell knows them.
pub(crate) type Token = u64;

/// A fetch that waits for the readable end to pass an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wish {
    pub(crate) number: u64,
    pub(crate) isolation: Isolation,
    pub(crate) beyond: Offset,
}

/// What the controller decided about the partition, and its topic's settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Leadership {
    pub(crate) leader_epoch: LeaderEpoch,
    /// This broker.
    pub(crate) own: BrokerId,
    pub(crate) isr: Vec<BrokerId>,
    pub(crate) replica_count: usize,
    pub(crate) min_insync_replicas: usize,
    pub(crate) flush_mode: FlushMode,
    /// Under `flush.mode=async`: how many records, and for how long, may wait to be made durable
    /// before a write that follows them is waited for.
    pub(crate) flush_records: u64,
    pub(crate) flush_interval: Duration,
    pub(crate) log: LogConfig,
}

impl Leadership {
    /// `min.insync.replicas`, but never more than there are replicas: a topic of one replica
    /// would otherwise take no write at all.
    pub(super) fn min_in_sync(&self) -> usize {
        self.min_insync_replicas.min(self.replica_count)
    }
}

/// How far the log's writer is.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    /// End of what is written.
    pub(crate) written: Offset,
    /// End of what is durable.
    pub(crate) synced: Offset,
    /// Why nothing more is written, until the log is asked for anew.
    pub(crate) stalled: Option<Stalled>,
}

/// Why a log's writer does not go on.
#[derive(Clone, Debug)]
pub(crate) struct Stalled {
    pub(crate) reason: Arc<str>,
    /// False: the disk is full, which passes.
    pub(crate) is_final: bool,
}

/// What can happen to a partition.
#[derive(Debug)]
pub(crate) enum Event {
    Append {
        token: Token,
        append: Append,
    },
    Marker {
        token: Token,
        marker: EndTxnMarker,
        acks: Acks,
    },
    /// How far the log's writer is.
    Progress(Progress),
    /// The log as the disk bears it out, after a write failed and all later ones were refused.
    Recalled {
        on_disk: Box<LogState>,
    },
    /// The log cannot be had.
    Failed {
        reason: Arc<str>,
    },
    /// Records before `offset` may go, as their reader says.
    DeleteBefore {
        token: Token,
        offset: Offset,
    },
    /// The log start of `DeleteBefore` is durable, or is not.
    Deleted {
        token: Token,
        result: Result<Offset, Arc<str>>,
    },
    /// Segments may go because of their age or size.
    Retain(RetentionPlan),
    EndOfEpoch {
        token: Token,
        asked: LeaderEpoch,
    },
    EpochAt {
        token: Token,
        offset: Offset,
    },
    OpenTransaction {
        token: Token,
        producer_id: ProducerId,
        producer_epoch: ProducerEpoch,
    },
    Producers {
        token: Token,
    },
    Wait(Wish),
    WaitNoMore(Wish),
    NewLeadership(Leadership),
    /// From time to time: what is old can be forgotten.
    Tick {
        producer_expiration: Duration,
    },
    /// The partition is led elsewhere, deleted, or the broker stops.
    Stop,
}

/// What a partition wants done, in this order.
#[derive(Debug)]
pub(crate) enum Effect {
    Write(Write),
    /// Ask for the log as it is on disk; answer by `Recalled`.
    Recall,
    /// Make the log start durable; answer by `Deleted` if there is a token.
    DeleteBefore {
        token: Option<Token>,
        offset: Offset,
    },
    Publish(Watermarks),
    Reply {
        token: Token,
        answer: Answer,
    },
    /// Ring the bell of this wish: it is fulfilled or will never be.
    Ring {
        number: u64,
    },
    /// The log is not needed any more, and this is its state.
    Leave {
        log: Box<LogState>,
    },
}

/// What a token is answered with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Append(Result<Appended, AppendError>),
    Marker(Result<Offset, AppendError>),
    Deleted(Result<Offset, ReadError>),
    EndOfEpoch(Option<(LeaderEpoch, Offset)>),
    EpochAt(LeaderEpoch),
    OpenTransaction(Standing),
    Producers(Vec<ActiveProducer>),
}

/// Why a partition takes no more requests. It never leaves this state: it is opened anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Closed {
    /// The disk failed.
    Offline { reason: Arc<str> },
    /// It is led elsewhere, or was deleted, or the broker stops.
    Stopped,
}

impl Closed {
    pub(crate) fn append_error(&self, partition: &TopicPartition) -> AppendError {
        let partition = partition.clone();
        match self {
            Self::Offline { reason } => AppendError::Storage { partition, reason: reason.clone() },
            Self::Stopped => AppendError::NotLeader { partition },
        }
    }

    pub(crate) fn read_error(&self, partition: &TopicPartition) -> ReadError {
        let partition = partition.clone();
        match self {
            Self::Offline { reason } => ReadError::Storage { partition, reason: reason.clone() },
            Self::Stopped => ReadError::NotLeader { partition },
        }
    }
}

#[derive(Debug)]
enum State {
    Leading(Box<Leader>),
    Closed(Closed),
}

/// One partition.
#[derive(Debug)]
pub(crate) struct PartitionCore {
    partition: TopicPartition,
    state: State,
    published: Watermarks,
}

impl PartitionCore {
    /// A partition whose log was opened and found as `log`, durable below `synced`.
    pub(crate) fn new(
        partition: TopicPartition,
        leadership: Leadership,
        log: LogState,
        synced: Offset,
    ) -> Self {
        let leader = Leader::new(partition.clone(), leadership, log, synced);
        let published = leader.watermarks();
        Self { partition, state: State::Leading(Box::new(leader)), published }
    }

    /// A partition that takes no requests: its log could not be opened, or it was stopped before.
    pub(crate) fn closed_from_the_start(partition: TopicPartition, closed: Closed) -> Self {
        Self { partition, state: State::Closed(closed), published: Watermarks::CLOSED }
    }

    /// The positions as last published.
    pub(crate) fn watermarks(&self) -> Watermarks {
        self.published
    }

    /// Why it takes no more requests; `None` while it does.
    pub(crate) fn closed(&self) -> Option<&Closed> {
        match &self.state {
            State::Leading(_) => None,
            State::Closed(closed) => Some(closed),
        }
    }

    /// The only way in. Appends to `effects` what must now be done, in this order.
    pub(crate) fn step(&mut self, now: Now, event: Event, effects: &mut Vec<Effect>) {
        let leader = match &mut self.state {
            State::Leading(leader) => leader,
            State::Closed(closed) => return refuse(&self.partition, closed, event, effects),
        };
        // What may be told only after the positions that it speaks of are published.
        let mut told = Vec::new();
        let closed = leader.step(now, event, effects, &mut told);
        let mut watermarks = leader.watermarks();
        if let Some(closed) = closed {
            leader.dismiss_all(&closed, &mut told);
            if closed == Closed::Stopped {
                told.push(Effect::Leave { log: Box::new(leader.log().clone()) });
            }
            watermarks.online = false;
            self.state = State::Closed(closed);
        }
        if watermarks != self.published {
            self.published = watermarks;
            effects.push(Effect::Publish(watermarks));
        }
        effects.append(&mut told);
    }

    /// The log, as far as batches were accepted, while the partition is led.
    #[cfg(test)]
    pub(crate) fn log(&self) -> Option<&LogState> {
        match &self.state {
            State::Leading(leader) => Some(leader.log()),
            State::Closed(_) => None,
        }
    }

    /// Asserts every invariant of this struct.
    #[cfg(any(test, feature = "check"))]
    pub(crate) fn check(&self) {
        if let State::Leading(leader) = &self.state {
            leader.check();
            assert_eq!(leader.watermarks(), self.published);
        }
        let Watermarks { log_start, last_stable, high_watermark, log_end, .. } = self.published;
        assert!(log_start <= last_stable);
        assert!(last_stable <= high_watermark);
        assert!(high_watermark <= log_end);
    }
}

/// Answers an event that came too late.
fn refuse(partition: &TopicPartition, closed: &Closed, event: Event, effects: &mut Vec<Effect>) {
    let (token, answer) = match event {
        Event::Append { token, .. } => (token, Answer::Append(Err(closed.append_error(partition)))),
        Event::Marker { token, .. } => (token, Answer::Marker(Err(closed.append_error(partition)))),
        Event::DeleteBefore { token, .. } | Event::Deleted { token, .. } => {
            (token, Answer::Deleted(Err(closed.read_error(partition))))
        }
        Event::EndOfEpoch { token, .. } => (token, Answer::EndOfEpoch(None)),
        Event::EpochAt { token, .. } => (token, Answer::EpochAt(LeaderEpoch::NONE)),
        Event::OpenTransaction { token, .. } => {
            let guard = VerificationGuard { log_end: Offset::ZERO, rollbacks: 0 };
            let standing = Standing { open_from: None, guard };
            (token, Answer::OpenTransaction(standing))
        }
        Event::Producers { token } => (token, Answer::Producers(Vec::new())),
        Event::Wait(wish) => {
            effects.push(Effect::Ring { number: wish.number });
            return;
        }
        Event::Progress(_)
        | Event::Recalled { .. }
        | Event::Failed { .. }
        | Event::Retain(_)
        | Event::WaitNoMore(_)
        | Event::NewLeadership(_)
        | Event::Tick { .. }
        | Event::Stop => return,
    };
    effects.push(Effect::Reply { token, answer });
}
