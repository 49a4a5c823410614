//! A partition's mailbox, and the hands of its core.
//!
//! A partition has no task of its own: whoever puts something into an unattended mailbox attends to
//! it until it is empty, while others who post meanwhile only leave their mail. So each message is
//! handled by one thread at a time, in order of arrival, and a produce request costs no wake-up
//! between its connection and the log's writer, nor ten thousand idle partitions ten thousand
//! tasks. Nothing in here waits.
//!
//! The log is opened when the first mail arrives; what comes before it is open waits in the box.
//! Shell.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use protocol::ids::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, TopicId, TopicPartition};
use protocol::time::Clock;
use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot, watch};
use tracing::{error, warn};

use super::core::{
    Answer, Closed, Effect, Event, Leadership, PartitionCore, Progress, Stalled, Token, Wish,
};
use super::gather::is_gathered;
use super::submit::Unsent;
use super::{
    Acks, ActiveProducer, Append, AppendError, Appended, EndTxnMarker, ReadError, Standing,
    Watermarks,
};
use crate::config::TopicConfig;
use crate::limits::PARTITION_MAILBOX_MAX;
use crate::log::{
    CleanTerms, Cleaned, DirHandle, LogConfig, LogError, LogId, LogState, Opened,
    Progress as LogProgress, Reader, Retention, RetentionPlan, Write,
};

/// What can lie in the mailbox.
pub(super) enum Mail {
    Append(Append, oneshot::Sender<Result<Appended, AppendError>>),
    Marker(EndTxnMarker, Acks, oneshot::Sender<Result<Offset, AppendError>>),
    DeleteBefore(Offset, oneshot::Sender<Result<Offset, ReadError>>),
    EndOfEpoch(LeaderEpoch, oneshot::Sender<Option<(LeaderEpoch, Offset)>>),
    EpochAt(Offset, oneshot::Sender<LeaderEpoch>),
    OpenTransaction(ProducerId, ProducerEpoch, oneshot::Sender<Standing>),
    Producers(oneshot::Sender<Vec<ActiveProducer>>),
    Wait(Wish, Arc<Notify>),
    /// Take no more requests and leave the log; answered when that is done.
    Leave(Leaving, oneshot::Sender<()>),
    /// What the log or the manager has to say.
    Event(Event),
}

/// What becomes of the log of a partition that is not led any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leaving {
    /// It stays, for the next time.
    Close,
    /// Its topic is gone, and so is it.
    Delete,
}

/// The mailbox is full; the mail was not taken.
#[derive(Debug)]
pub(super) struct Full;

/// Who waits for which answer.
enum ReplyTo {
    Append(oneshot::Sender<Result<Appended, AppendError>>),
    Marker(oneshot::Sender<Result<Offset, AppendError>>),
    Deleted(oneshot::Sender<Result<Offset, ReadError>>),
    EndOfEpoch(oneshot::Sender<Option<(LeaderEpoch, Offset)>>),
    EpochAt(oneshot::Sender<LeaderEpoch>),
    OpenTransaction(oneshot::Sender<Standing>),
    Producers(oneshot::Sender<Vec<ActiveProducer>>),
}

/// Everything about a partition that its one attendant at a time may touch.
struct Clerk {
    core: PartitionCore,
    /// `None` once the log could not be opened.
    log: Option<LogId>,
    /// Kept between messages for its memory.
    effects: Vec<Effect>,
    /// Decided and not handed to the log yet: all that follows from the mail that was taken out at once.
    writes: Vec<Write>,
    /// By token; free places are listed in `free`.
    replies: Vec<Option<ReplyTo>>,
    free: Vec<Token>,
    bells: BTreeMap<u64, Arc<Notify>>,
    /// What to do with the log when the core leaves it, and whom to tell.
    leaving: Option<(Leaving, oneshot::Sender<()>)>,
}

/// Who attends to the mailbox.
enum Seat {
    /// The log was not asked for yet.
    Unopened,
    /// The log is being opened.
    Opening,
    /// Nobody: whoever posts next takes it.
    Free(Box<Clerk>),
    /// Someone.
    Taken,
}

struct Desk {
    mail: VecDeque<Mail>,
    seat: Seat,
    /// As of the last change, for when the log is opened.
    leadership: Leadership,
}

/// Which partition, of which of the topics that ever had this name.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    pub(super) partition: TopicPartition,
    pub(super) topic_id: TopicId,
}

/// One partition: what its handles share.
pub(super) struct Partition {
    identity: Identity,
    pub(super) dir: DirHandle,
    clock: Clock,
    /// A lock, as connections, coordinators and the log's writer all post, and a task of its own to
    /// pass their mail to would cost a wake-up each way. Held to put in or take out, never while
    /// mail is handled.
    desk: Mutex<Desk>,
    watermarks: watch::Sender<Watermarks>,
    config: watch::Sender<Arc<TopicConfig>>,
    /// Writes that found the writer's queue full. A lock, as they come from whoever attends and go from a
    /// task of their own; held to put in or take out.
    pub(super) unsent: Mutex<Unsent>,
    /// Where to wait for the log: who attends may be any thread.
    pub(super) runtime: Handle,
    /// Set once: when the log was opened, or (`None`) could not be.
    reader: OnceLock<Option<Reader>>,
    /// Set before the reader is.
    log: OnceLock<LogId>,
    /// Set once: when the partition takes no more requests.
    closed: OnceLock<Closed>,
    next_wish: AtomicU64,
}

impl Partition {
    /// A partition whose log is opened when it is first needed.
    pub(super) fn new(
        identity: Identity,
        leadership: Leadership,
        config: Arc<TopicConfig>,
        dir: DirHandle,
        clock: Clock,
    ) -> Arc<Self> {
        let desk = Desk { mail: VecDeque::new(), seat: Seat::Unopened, leadership };
        Arc::new(Self {
            identity,
            dir,
            clock,
            desk: Mutex::new(desk),
            watermarks: watch::Sender::new(Watermarks::CLOSED),
            config: watch::Sender::new(config),
            unsent: Mutex::default(),
            runtime: Handle::current(),
            reader: OnceLock::new(),
            log: OnceLock::new(),
            closed: OnceLock::new(),
            next_wish: AtomicU64::new(0),
        })
    }

    pub(super) fn identity(&self) -> &Identity {
        &self.identity
    }

    pub(super) fn partition(&self) -> &TopicPartition {
        &self.identity.partition
    }

    pub(super) fn watermarks(&self) -> &watch::Sender<Watermarks> {
        &self.watermarks
    }

    pub(super) fn config(&self) -> Arc<TopicConfig> {
        self.config.borrow().clone()
    }

    pub(super) fn next_wish(&self) -> u64 {
        self.next_wish.fetch_add(1, Ordering::Relaxed)
    }

    /// The log's reader; opens the log if need be.
    pub(super) async fn reader(self: &Arc<Self>) -> Result<&Reader, ReadError> {
        if self.reader.get().is_none() {
            self.open();
            let mut changes = self.watermarks.subscribe();
            // The sender is part of `self`, so it is still there.
            let _ = changes.wait_for(|_| self.reader.get().is_some()).await;
        }
        match (self.reader.get(), self.closed.get()) {
            (Some(Some(reader)), _) => Ok(reader),
            (_, Some(closed)) => Err(closed.read_error(self.partition())),
            (_, None) => Err(ReadError::NotLeader { partition: self.partition().clone() }),
        }
    }

    /// The log's reader, if the log is open; does not open it.
    pub(super) fn open_reader(&self) -> Option<&Reader> {
        self.reader.get()?.as_ref().filter(|_| self.closed.get().is_none())
    }

    /// Compacts the log; see [`DirHandle::clean`].
    pub(super) async fn clean<F: Future<Output = ()>>(
        &self,
        terms: CleanTerms,
        pause: impl FnMut(u64) -> F,
    ) -> Result<Option<Cleaned>, LogError> {
        match self.log.get() {
            Some(log) => self.dir.clean(*log, terms, pause).await,
            None => Ok(None),
        }
    }

    /// A reader met `error`: if the disk failed, the whole log directory goes offline.
    pub(super) fn report(&self, error: LogError) {
        let dir = self.dir.clone();
        // A writer that has ended needs no telling.
        self.runtime.spawn(async move { drop(dir.report(error).await) });
    }

    /// Lets segments go that are too old, or too many, by the settings of the topic.
    pub(super) fn retain(self: &Arc<Self>) {
        let config = self.config();
        let Some(Some(reader)) = self.reader.get().filter(|_| config.is_deleted()) else { return };
        let retention = Retention { time: config.retention, bytes: config.retention_bytes };
        let bound = self.watermarks.borrow().high_watermark;
        let plan = retention.plan(&reader.segments(), self.clock.now().wall, bound);
        if plan != RetentionPlan::default() {
            self.tell(Event::Retain(plan));
        }
    }

    /// Why the partition takes no more requests; `None` while it does.
    pub(super) fn closed(&self) -> Option<&Closed> {
        self.closed.get()
    }

    /// Puts `mail` into the box, and attends to the box if nobody does; where mail is gathered, a moment later.
    ///
    /// # Errors
    /// When the box is full; the mail was not taken.
    pub(super) fn post(self: &Arc<Self>, mail: Mail) -> Result<(), Full> {
        let mut desk = self.desk();
        if desk.mail.len() >= PARTITION_MAILBOX_MAX {
            return Err(Full);
        }
        desk.mail.push_back(mail);
        if !is_gathered(self) {
            self.attend(desk);
        }
        Ok(())
    }

    /// What the log or the manager has to say is always taken: there is at most one such message
    /// per request that was taken before, or per change of metadata.
    pub(super) fn tell(self: &Arc<Self>, event: Event) {
        let mut desk = self.desk();
        desk.mail.push_back(Mail::Event(event));
        self.attend(desk);
    }

    /// Attends to the box if nobody does, which opens the log, unless that was asked for before.
    pub(super) fn open(self: &Arc<Self>) {
        let desk = self.desk();
        self.attend(desk);
    }

    /// Stops the partition and leaves its log. It has begun when this returns.
    pub(super) fn leave(
        self: &Arc<Self>,
        leaving: Leaving,
    ) -> impl Future<Output = ()> + Send + use<> {
        let (done, left) = oneshot::channel();
        let mut desk = self.desk();
        if matches!(desk.seat, Seat::Unopened) && leaving == Leaving::Close {
            // What was never opened need not be closed.
            desk.seat = Seat::Free(self.clerk(Err(Closed::Stopped)));
        }
        desk.mail.push_back(Mail::Leave(leaving, done));
        self.attend(desk);
        async move {
            // An error means that there was nothing to leave.
            let _ = left.await;
        }
    }

    /// Tells the core what does not matter to a log that was never opened.
    pub(super) fn tell_if_open(self: &Arc<Self>, event: Event) {
        let mut desk = self.desk();
        if !matches!(desk.seat, Seat::Unopened) {
            desk.mail.push_back(Mail::Event(event));
            self.attend(desk);
        }
    }

    /// The controller decided anew. Does not open the log.
    pub(super) fn lead(self: &Arc<Self>, leadership: Leadership, config: Arc<TopicConfig>) {
        self.config.send_replace(config);
        let mut desk = self.desk();
        desk.leadership = leadership.clone();
        if !matches!(desk.seat, Seat::Unopened) {
            desk.mail.push_back(Mail::Event(Event::NewLeadership(leadership)));
            self.attend(desk);
        }
    }

    fn open_log(self: &Arc<Self>) {
        let this = self.clone();
        let config = LogConfig::of(&self.config());
        self.runtime.spawn(async move {
            let Identity { partition, topic_id } = this.identity.clone();
            // The writer must not keep alive what nobody else needs.
            let weak = Arc::downgrade(&this);
            let told = move |progress| {
                if let Some(this) = weak.upgrade() {
                    this.tell(Event::Progress(progress_of(progress)));
                }
            };
            let opened = this.dir.open_telling(partition, topic_id, config, told).await;
            this.opened(opened.map_err(|error| {
                error!(partition = %this.partition(), %error, "the log cannot be opened");
                Closed::Offline { reason: words(&error) }
            }));
        });
    }

    /// The log is open, or cannot be. What came before is handled now.
    fn opened(self: &Arc<Self>, opened: Result<Opened, Closed>) {
        let mut desk = self.desk();
        let clerk = match opened {
            Ok(opened) => {
                let _ = self.log.set(opened.id);
                let _ = self.reader.set(Some(opened.reader.clone()));
                self.clerk(Ok((opened, desk.leadership.clone())))
            }
            Err(closed) => self.clerk(Err(closed)),
        };
        let watermarks = clerk.core.watermarks();
        desk.seat = Seat::Free(clerk);
        // Published before any mail is handled: whoever is woken finds the reader.
        self.watermarks.send_replace(watermarks);
        self.attend(desk);
    }

    fn clerk(&self, found: Result<(Opened, Leadership), Closed>) -> Box<Clerk> {
        let partition = self.partition().clone();
        let (core, log) = match found {
            Ok((opened, leadership)) => {
                let synced = opened.state.log_end();
                let core = PartitionCore::new(partition, leadership, opened.state, synced);
                (core, Some(opened.id))
            }
            Err(closed) => {
                let _ = self.closed.set(closed.clone());
                let _ = self.reader.set(None);
                (PartitionCore::closed_from_the_start(partition, closed), None)
            }
        };
        Box::new(Clerk {
            core,
            log,
            effects: Vec::new(),
            writes: Vec::new(),
            replies: Vec::new(),
            free: Vec::new(),
            bells: BTreeMap::new(),
            leaving: None,
        })
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Handles all mail, if nobody else does.
    fn attend<'a>(self: &'a Arc<Self>, mut desk: MutexGuard<'a, Desk>) {
        let mut clerk = match std::mem::replace(&mut desk.seat, Seat::Taken) {
            Seat::Free(clerk) => clerk,
            Seat::Unopened => {
                desk.seat = Seat::Opening;
                drop(desk);
                return self.open_log();
            }
            other => {
                desk.seat = other;
                return;
            }
        };
        loop {
            if desk.mail.is_empty() {
                desk.seat = Seat::Free(clerk);
                return;
            }
            let mail = std::mem::take(&mut desk.mail);
            drop(desk);
            clerk.handle(self, mail);
            desk = self.desk();
        }
    }
}

impl Clerk {
    fn handle(&mut self, partition: &Arc<Partition>, mail: VecDeque<Mail>) {
        let now = partition.clock.now();
        for mail in mail {
            let event = self.event(mail);
            self.core.step(now, event, &mut self.effects);
            #[cfg(any(test, feature = "check"))]
            self.core.check();
            let mut effects = std::mem::take(&mut self.effects);
            for effect in effects.drain(..) {
                self.carry_out(partition, effect);
            }
            self.effects = effects;
            if self.leaving.is_some() {
                // The core had closed before, and so has no state to leave.
                self.leave(partition, None);
            }
        }
        self.submit(partition);
    }

    /// Hands all writes to the log.
    fn submit(&mut self, partition: &Arc<Partition>) {
        match self.log {
            Some(log) => partition.submit(log, &mut self.writes),
            None => self.writes.clear(),
        }
    }

    /// What `mail` means to the core. Whoever waits for an answer is noted under its token.
    fn event(&mut self, mail: Mail) -> Event {
        match mail {
            Mail::Append(append, reply) => {
                Event::Append { token: self.note(ReplyTo::Append(reply)), append }
            }
            Mail::Marker(marker, acks, reply) => {
                Event::Marker { token: self.note(ReplyTo::Marker(reply)), marker, acks }
            }
            Mail::DeleteBefore(offset, reply) => {
                Event::DeleteBefore { token: self.note(ReplyTo::Deleted(reply)), offset }
            }
            Mail::EndOfEpoch(asked, reply) => {
                Event::EndOfEpoch { token: self.note(ReplyTo::EndOfEpoch(reply)), asked }
            }
            Mail::EpochAt(offset, reply) => {
                Event::EpochAt { token: self.note(ReplyTo::EpochAt(reply)), offset }
            }
            Mail::OpenTransaction(producer_id, producer_epoch, reply) => {
                let token = self.note(ReplyTo::OpenTransaction(reply));
                Event::OpenTransaction { token, producer_id, producer_epoch }
            }
            Mail::Producers(reply) => {
                Event::Producers { token: self.note(ReplyTo::Producers(reply)) }
            }
            Mail::Wait(wish, bell) => {
                self.bells.insert(wish.number, bell);
                Event::Wait(wish)
            }
            Mail::Leave(leaving, done) => {
                self.leaving = Some((leaving, done));
                Event::Stop
            }
            Mail::Event(event) => {
                if let Event::WaitNoMore(wish) = &event {
                    self.bells.remove(&wish.number);
                }
                event
            }
        }
    }

    fn note(&mut self, reply: ReplyTo) -> Token {
        if let Some(token) = self.free.pop() {
            self.replies[index(token)] = Some(reply);
            return token;
        }
        self.replies.push(Some(reply));
        Token::try_from(self.replies.len() - 1).expect("memory is smaller than 2^64")
    }

    fn carry_out(&mut self, partition: &Arc<Partition>, effect: Effect) {
        match effect {
            Effect::Write(write) => self.writes.push(write),
            Effect::Recall => {
                self.submit(partition);
                if let Some(log) = self.log {
                    partition.recall(log);
                }
            }
            Effect::DeleteBefore { token, offset } => {
                self.submit(partition);
                let Some(log) = self.log else { return };
                let (this, dir) = (partition.clone(), partition.dir.clone());
                partition.runtime.spawn(async move {
                    let deleted = dir.delete_before(log, offset).await;
                    let result = deleted.map_err(|error| words(&error));
                    if let Some(token) = token {
                        this.tell(Event::Deleted { token, result });
                    } else if let Err(error) = result {
                        warn!(partition = %this.partition(), %error, "old segments stay");
                    }
                });
            }
            Effect::Publish(watermarks) => {
                if let Some(closed) = self.core.closed() {
                    // Set before it is published, so that whoever is woken finds the reason.
                    let _ = partition.closed.set(closed.clone());
                }
                partition.watermarks.send_replace(watermarks);
            }
            Effect::Reply { token, answer } => self.reply(token, answer),
            Effect::Ring { number } => {
                if let Some(bell) = self.bells.remove(&number) {
                    bell.notify_one();
                }
            }
            Effect::Leave { log: state } => self.leave(partition, Some(state)),
        }
    }

    /// Leaves the log. A repetition, or a log that is not open, is done at once: dropping `done`
    /// says so.
    fn leave(&mut self, partition: &Arc<Partition>, state: Option<Box<LogState>>) {
        self.submit(partition);
        let Some((leaving, done)) = self.leaving.take() else { return };
        let Some(log) = self.log.take() else { return };
        let (this, dir) = (partition.clone(), partition.dir.clone());
        partition.runtime.spawn(async move {
            let left = match leaving {
                Leaving::Close => dir.close(log, state.map(|state| *state)).await,
                Leaving::Delete => dir.delete(log).await,
            };
            if let Err(error) = left {
                error!(partition = %this.partition(), %error, "the log was not left in good order");
            }
            // Whoever stopped the partition may not have waited.
            let _ = done.send(());
        });
    }

    fn reply(&mut self, token: Token, answer: Answer) {
        let reply = self.replies[index(token)].take().expect("each token is answered once");
        self.free.push(token);
        // Whoever asked may have gone; the answer is then nobody's.
        match (reply, answer) {
            (ReplyTo::Append(reply), Answer::Append(answer)) => drop(reply.send(answer)),
            (ReplyTo::Marker(reply), Answer::Marker(answer)) => drop(reply.send(answer)),
            (ReplyTo::Deleted(reply), Answer::Deleted(answer)) => drop(reply.send(answer)),
            (ReplyTo::EndOfEpoch(reply), Answer::EndOfEpoch(answer)) => drop(reply.send(answer)),
            (ReplyTo::EpochAt(reply), Answer::EpochAt(answer)) => drop(reply.send(answer)),
            (ReplyTo::OpenTransaction(reply), Answer::OpenTransaction(answer)) => {
                let _ = reply.send(answer);
            }
            (ReplyTo::Producers(reply), Answer::Producers(answer)) => drop(reply.send(answer)),
            (_, answer) => unreachable!("the core answers what was asked, not {answer:?}"),
        }
    }
}

fn progress_of(progress: LogProgress) -> Progress {
    let LogProgress { written, synced, stalled } = progress;
    let stalled =
        stalled.map(|error| Stalled { reason: words(&error), is_final: error.takes_dir_offline() });
    Progress { written, synced, stalled }
}

fn index(token: Token) -> usize {
    usize::try_from(token).expect("tokens are places in a vector")
}

pub(super) fn words(error: &LogError) -> Arc<str> {
    error.to_string().into()
}
