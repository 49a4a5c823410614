//! The one who compacts: looks for the dirtiest compacted partition, cleans it, looks again.
//!
//! Cleaning reads and writes about a mebibyte at a time, waits as long as the allowed rate demands,
//! and lets others run. In production it has a thread of its own, since the disk blocks; in the
//! simulator it is a task. Appends wait for it only while names of files change. A partition that
//! cannot be cleaned is reported and rests for a while, longer each time; the others go on. Shell.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use protocol::ids::TopicPartition;
use protocol::rng::Rng;
use protocol::time::{Clock, Timestamp};
use tokio::sync::oneshot;
use tracing::{debug, error, info, warn};

use super::handle::PartitionHandle;
use super::manager::Partitions;
use crate::config::{BrokerConfig, TopicConfig};
use crate::log::{CleanPolicy, CleanTerms, Cleaned, Dirt, LogConfig, LogError, Mode};

/// How long a partition rests after its first failure; twice as long after each further one.
const REST_MIN: Duration = Duration::from_secs(60);
/// How long it rests at most.
const REST_MAX: Duration = Duration::from_secs(3600);

/// The cleaner, while it runs. Ends with this.
#[derive(Debug)]
pub struct Cleaner {
    stop: oneshot::Sender<()>,
    ended: oneshot::Receiver<()>,
}

struct Cleaning {
    partitions: Partitions,
    clock: Clock,
    rng: Rng,
    /// Those that could not be cleaned: how often, and until when they rest.
    resting: BTreeMap<TopicPartition, (u32, Duration)>,
}

/// What to clean next.
struct Job {
    partition: PartitionHandle,
    config: Arc<TopicConfig>,
    dirt: Dirt,
}

impl Cleaner {
    /// Starts to clean `partitions`. To be called within a runtime.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn start(partitions: Partitions, clock: Clock, rng: Rng, mode: Mode) -> io::Result<Self> {
        let (stop, stopped) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        let cleaning = Cleaning { partitions, clock, rng, resting: BTreeMap::new() };
        let run = async move {
            cleaning.run(stopped).await;
            // Whoever stopped it may not have waited.
            let _ = end.send(());
        };
        match mode {
            Mode::Inline => {
                tokio::spawn(run);
            }
            Mode::Thread => {
                let runtime =
                    tokio::runtime::Builder::new_current_thread().enable_time().build()?;
                thread::Builder::new()
                    .name("log-cleaner".to_owned())
                    .spawn(move || runtime.block_on(run))?;
            }
        }
        Ok(Self { stop, ended })
    }

    /// Stops it, and resolves once it touches no file any more.
    pub async fn stop(self) {
        drop(self.stop);
        // An error means the same.
        let _ = self.ended.await;
    }
}

impl Cleaning {
    /// Cleans whenever there is something to clean, until `stopped`.
    async fn run(mut self, mut stopped: oneshot::Receiver<()>) {
        loop {
            let round = async {
                if self.partitions.broker_config().log_cleaner_enable {
                    self.clean_all().await;
                }
                tokio::time::sleep(self.partitions.broker_config().log_cleaner_backoff).await;
                // A backoff of zero must not keep the thread from everything else.
                tokio::task::yield_now().await;
            };
            tokio::select! {
                biased;
                _ = &mut stopped => return,
                () = round => {}
            }
        }
    }

    /// Cleans the dirtiest, as long as one is due.
    async fn clean_all(&mut self) {
        while let Some(job) = self.next() {
            let partition = job.partition.partition().clone();
            let result = self.clean(&job).await;
            self.settle(&job.partition, partition, result);
        }
    }

    /// The partition with the most to gain; those come first that have waited for too long.
    fn next(&mut self) -> Option<Job> {
        let now = self.clock.now();
        self.resting.retain(|_, (_, until)| *until + REST_MAX > now.monotonic);
        let jobs = self.partitions.all().into_iter().filter_map(|partition| {
            let config = partition.config();
            let rests = self.resting.get(partition.partition());
            let is_asked = config.is_compacted() && rests.is_none_or(|it| it.1 <= now.monotonic);
            let dirt = is_asked.then(|| dirt(&partition, &config, now.wall)).flatten()?;
            Some(Job { partition, config, dirt })
        });
        let rank = |job: &Job| (job.dirt.is_overdue, job.dirt.ratio());
        jobs.max_by(|a, b| {
            let ((a_late, a_ratio), (b_late, b_ratio)) = (rank(a), rank(b));
            a_late.cmp(&b_late).then(a_ratio.total_cmp(&b_ratio))
        })
    }

    async fn clean(&mut self, job: &Job) -> Result<Option<Cleaned>, LogError> {
        let broker = self.partitions.broker_config();
        let terms = CleanTerms {
            dirt: job.dirt,
            now: self.clock.now().wall,
            delete_retention: job.config.delete_retention,
            keys_bytes_max: broker.log_cleaner_dedupe_buffer_size,
            seed: self.rng.next_u64(),
            log: LogConfig::of(&job.config),
        };
        job.partition.0.clean(terms, |bytes| pace(&broker, bytes)).await
    }

    fn settle(
        &mut self,
        handle: &PartitionHandle,
        partition: TopicPartition,
        result: Result<Option<Cleaned>, LogError>,
    ) {
        let error = match result {
            Ok(Some(cleaned)) => {
                let Cleaned { until, bytes_before, bytes_after, keys } = cleaned;
                info!(%partition, %until, bytes_before, bytes_after, keys, "log compacted");
                self.resting.remove(&partition);
                return;
            }
            Ok(None) => None,
            Err(error) => Some(error),
        };
        let (times, _) = self.resting.get(&partition).copied().unwrap_or_default();
        let rest = REST_MIN.saturating_mul(2_u32.saturating_pow(times)).min(REST_MAX);
        match error {
            None => debug!(%partition, "changed while it was compacted"),
            Some(error) if handle.0.closed().is_some() || error.is_gone() => {
                debug!(%partition, %error, "went while it was compacted");
            }
            Some(error @ (LogError::Full { .. } | LogError::OutOfFiles { .. })) => {
                warn!(%partition, %error, ?rest, "cannot be compacted for want of space");
            }
            Some(error) => {
                error!(%partition, %error, ?rest, "cannot be compacted");
                handle.0.report(error);
            }
        }
        let until = self.clock.now().monotonic + rest;
        self.resting.insert(partition, (times.saturating_add(1), until));
    }
}

/// What is to be cleaned of a partition now. `None`: nothing, or it is not open.
fn dirt(partition: &PartitionHandle, config: &TopicConfig, now: Timestamp) -> Option<Dirt> {
    let reader = partition.0.open_reader()?;
    let policy = CleanPolicy {
        dirty_ratio_min: config.min_cleanable_dirty_ratio,
        lag_min: config.min_compaction_lag,
        lag_max: config.max_compaction_lag,
    };
    let bound = partition.0.watermarks().borrow().last_stable;
    let dirt = Dirt::of(&reader.segments(), reader.cleaned(), bound, now, &policy);
    dirt.filter(|dirt| dirt.is_due(&policy))
}

/// Waits as long as so many bytes may take.
async fn pace(config: &BrokerConfig, bytes: u64) {
    let rate = config.log_cleaner_io_max_bytes_per_second;
    // Both are far below what a double holds exactly.
    let bytes = f64::from(u32::try_from(bytes).unwrap_or(u32::MAX));
    match Duration::try_from_secs_f64(bytes / rate) {
        Ok(pause) if pause >= Duration::from_millis(1) => tokio::time::sleep(pause).await,
        _ => tokio::task::yield_now().await,
    }
}
