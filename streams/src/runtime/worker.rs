//! One worker: polls, processes, produces, commits.
//!
//! A *session* is a producer, a consumer and the tasks that the group gave it. What goes wrong in a
//! session ends its transaction in one of two ways: an abort, after which the stores are rolled
//! back and the inputs are read again from their committed offsets; or a commit whose answer was
//! lost, which the metadata beside the offsets settles. What a session cannot mend, a new one does;
//! what no session can mend (a record that is refused, a second instance of the same name) ends the
//! application.
//!
//! Every await can be the last: nothing counts as committed before the coordinator says so, and a
//! session that is dropped leaves behind only what the broker aborts. Shell.

use std::sync::Arc;
use std::time::Duration;

use client::bootstrap::Bootstrap;
use client::config::{Assignor, ConsumerConfig, IsolationLevel, OffsetReset, ProducerConfig};
use client::consumer::Consumer;
use client::producer::Producer;
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{info, warn};

use super::Guarantee;
use super::error::AppError;
use super::restore::Restorer;
use super::session::Session;
use super::status::{AppState, Board, Metrics};
use super::tasks::TaskSet;
use crate::task::Pace;
use crate::topology::Topology;

/// Sessions in a row without a single commit after which a worker gives up: some eight minutes.
const ATTEMPTS_MAX: u32 = 50;
/// Sessions in a row that another producer of the same name may end. One or two can be a broker
/// that lost patience with a slow transaction; more are a second instance with our instance id.
const FENCED_MAX: u32 = 3;
/// The wait before a second session; doubles with each further one.
const BACKOFF: Duration = Duration::from_millis(100);
/// The longest such wait.
const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// The longest that output waits for more of its kind before it is sent.
const LINGER_MAX: Duration = Duration::from_millis(100);

/// What a worker is told when it is made.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) app: Arc<str>,
    pub(super) topology: Topology,
    pub(super) bootstrap: Bootstrap,
    pub(super) transactional_id: String,
    /// Marks this worker's commits.
    pub(super) writer: u64,
    pub(super) guarantee: Guarantee,
    pub(super) commit_interval: Duration,
    pub(super) session_timeout: Duration,
    pub(super) transaction_timeout: Duration,
}

/// Where a worker says how it is.
#[derive(Debug, Clone)]
pub(super) struct Report {
    pub(super) index: usize,
    pub(super) board: Board,
    /// Counted by sessions that are over.
    pub(super) past: Metrics,
}

impl Report {
    pub(super) fn state(&self, state: AppState) {
        self.board.state(self.index, state);
    }

    pub(super) fn count(&self, metrics: Metrics) {
        self.board.count(self.index, self.past.plus(metrics));
    }
}

/// One worker.
pub(super) struct Worker {
    settings: Settings,
    report: Report,
    stop: watch::Receiver<bool>,
}

impl Worker {
    pub(super) fn new(
        index: usize,
        settings: Settings,
        board: Board,
        stop: watch::Receiver<bool>,
    ) -> Self {
        let report = Report { index, board, past: Metrics::default() };
        Self { settings, report, stop }
    }

    /// Runs sessions until the application stops.
    pub(super) async fn run(mut self) {
        let mut streak = Streak::default();
        loop {
            self.report.state(AppState::Starting);
            let began = self.settings.bootstrap.clock.now().monotonic;
            let (ended, metrics) = self.session().await;
            self.report.past = self.report.past.plus(metrics);
            self.report.count(Metrics::default());
            let Err(error) = ended else {
                self.report.state(AppState::Stopped);
                info!(app = %self.settings.app, worker = self.report.index, "stopped");
                return;
            };
            let lasted = self.settings.bootstrap.clock.now().monotonic.saturating_sub(began);
            let is_long = lasted > self.settings.transaction_timeout * 10;
            streak.count(&error, metrics.commits > 0, is_long);
            if error.is_final() || streak.is_hopeless() {
                self.report.board.fail(self.report.index, streak.verdict(error));
                return;
            }
            warn!(app = %self.settings.app, worker = self.report.index, %error, "begins anew");
            tokio::select! {
                biased;
                _ = self.stop.wait_for(|stop| *stop) => {}
                () = sleep(streak.wait()) => {}
            }
        }
    }

    /// One session, from connecting to the end, and what it counted.
    async fn session(&mut self) -> (Result<(), AppError>, Metrics) {
        let connected = tokio::select! {
            biased;
            // A handle that is gone ends the wait too.
            _ = self.stop.wait_for(|stop| *stop) => return (Ok(()), Metrics::default()),
            connected = connect(&self.settings) => connected,
        };
        match connected {
            Ok(connected) => {
                let mut session = Session::new(&self.settings, connected, self.report.clone());
                let ended = session.run(&mut self.stop).await;
                let metrics = session.metrics();
                session.leave().await;
                (ended, metrics)
            }
            Err(error) => (Err(error), Metrics::default()),
        }
    }
}

/// Sessions that failed one after the other.
#[derive(Debug, Default)]
struct Streak {
    /// Without a commit in between.
    attempts: u32,
    /// Ended by another producer of the same name.
    fenced: u32,
}

impl Streak {
    fn count(&mut self, error: &AppError, has_committed: bool, is_long: bool) {
        self.attempts = if has_committed { 1 } else { self.attempts + 1 };
        let before = if is_long { 0 } else { self.fenced };
        self.fenced = if error.is_fenced() { before + 1 } else { 0 };
    }

    fn is_hopeless(&self) -> bool {
        self.attempts >= ATTEMPTS_MAX || self.fenced >= FENCED_MAX
    }

    fn verdict(&self, error: AppError) -> AppError {
        if self.attempts < ATTEMPTS_MAX {
            return error;
        }
        AppError::GaveUp { attempts: self.attempts, last: Box::new(error) }
    }

    fn wait(&self) -> Duration {
        let doublings = (self.attempts - 1).min(10);
        BACKOFF.saturating_mul(1 << doublings).min(BACKOFF_MAX)
    }
}

/// What a session works with.
pub(super) struct Connected {
    pub(super) consumer: Consumer,
    pub(super) producer: Producer,
    pub(super) restorer: Restorer,
    pub(super) tasks: TaskSet,
}

async fn connect(settings: &Settings) -> Result<Connected, AppError> {
    let Settings { app, topology, bootstrap, .. } = settings;
    let exactly_once = settings.guarantee == Guarantee::ExactlyOnce;
    let config = ProducerConfig {
        transactional_id: exactly_once.then(|| settings.transactional_id.clone()),
        transaction_timeout: settings.transaction_timeout,
        // After that the broker has aborted the transaction anyway.
        max_block: settings.transaction_timeout,
        // Batches leave when they are full or the commit wants them gone, whichever is first.
        linger: settings.commit_interval.min(LINGER_MAX),
        ..ProducerConfig::default()
    };
    let mut producer = Producer::connect(bootstrap.clone(), config).await?;
    if exactly_once {
        init_transactions(&mut producer).await?;
    }
    let config = ConsumerConfig {
        group_id: Some(app.to_string()),
        // Consecutive partitions of each topic: those of equal number go to the same member.
        assignor: Assignor::Range,
        isolation_level: IsolationLevel::ReadCommitted,
        auto_offset_reset: OffsetReset::Earliest,
        session_timeout: settings.session_timeout,
        heartbeat_interval: settings.session_timeout / 15,
        ..ConsumerConfig::default()
    };
    let mut consumer = Consumer::connect(bootstrap.clone(), config).await?;
    let inputs = topology.subtopologies().iter().flat_map(|part| part.inputs.iter());
    consumer.subscribe(inputs.map(|topic| topology.topic(*topic).full_name(app)));
    let restorer = Restorer::connect(bootstrap.clone()).await?;
    let tasks = TaskSet::new(topology.clone(), app.clone(), Pace::ByTime, settings.writer);
    Ok(Connected { consumer, producer, restorer, tasks })
}

/// Takes the transactional id over; asks again while nobody knows whether it worked.
pub(super) async fn init_transactions(producer: &mut Producer) -> Result<(), AppError> {
    let mut attempts = 1;
    loop {
        match producer.init_transactions().await {
            Err(error) if error.is_retriable() && attempts < ATTEMPTS_MAX => attempts += 1,
            done => return Ok(done?),
        }
    }
}
