//! All that the author of a connector sees.
//!
//! A *source* brings records from elsewhere into topics and says with each batch how far it has read, as
//! *source partition → source offset*; the worker writes both in one transaction, so that after a crash
//! the task is started exactly behind its last committed batch (KIP-618). A *sink* takes records out of
//! topics and says which offsets are durable elsewhere; only those are committed. The worker calls one
//! task's methods strictly one after another, never drops a call half way (it waits for its end, however
//! long), and deals with retries, dead letters and restarts: a task only says what failed, and whether
//! trying again can help.
//!
//! Nothing here knows the client, the wire or the worker. Shell.

mod config;
mod context;
mod error;
mod record;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
pub use config::{Config, ConfigError, ConfigErrors, Reader};
pub use context::{Note, StopSource, Stopping, TaskContext};
pub use error::{Failure, TaskError};
pub use protocol::ids::{Offset, PartitionIndex, TopicId, TopicPartition};
pub use protocol::time::{Clock, Now, Timestamp};
pub use record::{ConnectRecord, Header, SinkBatch, SinkRecord, SourceBatch, SourceOffset};

/// A connector of either kind, with its settings parsed.
pub enum Connector {
    /// Brings records in.
    Source(Box<dyn SourceConnector>),
    /// Takes records out.
    Sink(Box<dyn SinkConnector>),
}

/// Builds a connector from its settings.
///
/// Reads its own keys, then returns `reader.finish()`'s errors, if any: keys that the worker itself
/// understands were read before. Touches nothing outside: a wrong path or host is the tasks' to report.
pub type Constructor = Arc<dyn Fn(&mut Reader) -> Result<Connector, ConfigErrors> + Send + Sync>;

/// A configured source. Holds settings alone; its tasks do the work.
pub trait SourceConnector: Send + Sync {
    /// How many tasks this source can be split into, at least 1.
    fn tasks_max(&self) -> usize {
        1
    }

    /// A new task number `context.task` of `context.task_count`, not yet started. Called again
    /// after a failure: each start is of a new task.
    fn task(&self, context: TaskContext) -> Box<dyn SourceTask>;
}

/// What a poll found.
#[derive(Debug)]
pub enum Polled {
    /// Records, in the order in which they shall be written, and how far they reach.
    Batch(SourceBatch),
    /// Nothing to read now.
    Nothing {
        /// Poll again after this time.
        again_after: Duration,
        /// True when all that existed at this poll has been returned: the source is drained.
        at_end: bool,
    },
    /// Nothing will ever come again; the task may be stopped.
    Finished,
}

/// A running part of a source.
#[async_trait]
pub trait SourceTask: Send {
    /// Opens what shall be read, behind `offsets`: all that this connector's tasks have committed,
    /// ordered by partition; empty at the first start.
    ///
    /// # Errors
    /// Retriable: the worker starts a new task after a while. Fatal: an operator must act.
    async fn start(&mut self, offsets: Vec<SourceOffset>) -> Result<(), TaskError>;

    /// The next records. Must return soon (a second at most) with what there is: the worker stops a
    /// task between two polls. May block its thread for a bounded read of a local file, no longer.
    ///
    /// # Errors
    /// Retriable: nothing was lost and poll may be called again. Fatal: the task is given up.
    async fn poll(&mut self) -> Result<Polled, TaskError>;

    /// Tells that the batch with these offsets is committed: it will never be asked for again, so
    /// upstream may forget it. Batches are committed in the order of polls; several may be told as one.
    ///
    /// # Errors
    /// As of `poll`. The commit itself stands.
    async fn committed(&mut self, _offsets: &[SourceOffset]) -> Result<(), TaskError> {
        Ok(())
    }

    /// What an operator should know since the last call. Taken after each poll.
    fn notes(&mut self) -> Vec<Note> {
        Vec::new()
    }

    /// Lets go of everything. The last call, also after an error.
    async fn stop(&mut self) {}
}

/// A configured sink. Holds settings alone; its tasks do the work.
pub trait SinkConnector: Send + Sync {
    /// How many tasks this sink can be split into, at least 1. Partitions are spread over them.
    fn tasks_max(&self) -> usize {
        usize::MAX
    }

    /// A new task number `context.task` of `context.task_count`, without partitions. Called again
    /// after a failure: each start is of a new task.
    fn task(&self, context: TaskContext) -> Box<dyn SinkTask>;
}

/// How much a flush must make durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flush {
    /// What the sink's own rules (size, age) say is due. Called at each flush interval.
    Due,
    /// All that was put: the task stops, or partitions go to another, or the application asks.
    All,
}

/// A partition that a sink task is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assigned {
    /// Which.
    pub partition: TopicPartition,
    /// The offset of the next record to deliver, as last committed. `None`: never committed.
    pub committed: Option<Offset>,
    /// Tells the topic from an earlier one of the same name: a sink that keeps offsets elsewhere must not
    /// take theirs for this one's. [`TopicId::ZERO`]: not known. KIP-516.
    pub topic_id: TopicId,
    /// The log start offset when the partition was given: records below are gone.
    pub log_start: Offset,
    /// The end of what was readable when the partition was given: the last stable offset, as sinks read
    /// what is committed. Ends only ever grow: a higher one that a sink remembers is of another log, or
    /// of this one before it lost records.
    pub log_end: Offset,
}

/// A record that a sink cannot take for reasons that lie in the record.
#[derive(Debug)]
pub struct Rejected {
    /// Its offset in the partition of the batch.
    pub offset: Offset,
    /// Why; becomes a header of the dead letter.
    pub reason: TaskError,
}

/// A running part of a sink.
///
/// The order of calls: `start`, then any of `open`, `put`, `flush`, `committed`, `close`, at last `stop`.
/// Before partitions are taken away the worker calls `flush(Flush::All)`, commits, calls `committed`, then
/// `close`; after an error or a lost membership it calls `close` alone, and what was not committed is
/// delivered again, here or to another task.
#[async_trait]
pub trait SinkTask: Send {
    /// Connects to what shall be written to. No partitions yet.
    ///
    /// # Errors
    /// Retriable: the worker starts a new task after a while. Fatal: an operator must act.
    async fn start(&mut self) -> Result<(), TaskError> {
        Ok(())
    }

    /// Takes partitions in addition to those it has. Returns where to start, for partitions that shall
    /// not start at the committed offset: a sink that keeps offsets elsewhere, or has announced a write
    /// up to some offset and must read those records again to complete it, rewinds or skips so.
    ///
    /// # Errors
    /// As of `start`.
    async fn open(
        &mut self,
        added: &[Assigned],
    ) -> Result<Vec<(TopicPartition, Offset)>, TaskError>;

    /// Takes records, in the order of offsets (with gaps where records were compacted, or belong to
    /// transactions). Waiting here is how a sink holds back its reader. Records that it cannot take are
    /// returned, in the order of offsets; the worker deals with them, and `committable` need not reach beyond them.
    ///
    /// # Errors
    /// Retriable: nothing of `batch` was taken, it will be put again. Fatal: the task is given up.
    async fn put(&mut self, batch: &SinkBatch) -> Result<Vec<Rejected>, TaskError>;

    /// Makes records durable.
    ///
    /// # Errors
    /// Retriable: flush may be called again. Fatal: the task is given up.
    async fn flush(&mut self, how: Flush) -> Result<(), TaskError>;

    /// Up to which offset (exclusive) each open partition's records are durable; partitions without
    /// progress may be left out. Never goes back while a partition stays open. Asked after put and flush.
    fn committable(&self) -> Vec<(TopicPartition, Offset)>;

    /// Tells that these offsets are committed: records below are never delivered again.
    ///
    /// # Errors
    /// As of `flush`. The commit itself stands.
    async fn committed(&mut self, _offsets: &[(TopicPartition, Offset)]) -> Result<(), TaskError> {
        Ok(())
    }

    /// Gives partitions back and forgets what was put of them and is not durable.
    async fn close(&mut self, partitions: &[TopicPartition]);

    /// What an operator should know since the last call. Taken after each put and flush.
    fn notes(&mut self) -> Vec<Note> {
        Vec::new()
    }

    /// Lets go of everything. The last call, also after an error.
    async fn stop(&mut self) {}
}
