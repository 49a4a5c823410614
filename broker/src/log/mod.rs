//! One partition's bytes: what is appended, what is on disk after a crash, what can be read.
//!
//! Three parts share a log. [`LogState`] is pure and belongs to the partition: it decides offsets,
//! duplicates, transactions and when a segment ends, and turns batches into [`Write`]s. The log
//! itself, with its files, belongs to the directory's one writer ([`DirHandle`] is the way to it),
//! which carries writes out in order and syncs once for all that wait. A [`Reader`] sees the
//! segments as of now from anywhere.
//!
//! `append` < `written` < `synced`: what is reported as synced survives a power cut. After a crash
//! the log is a prefix of what was written that holds all that was synced, and the state is what a
//! replay of that prefix yields. Only bytes after the last checkpoint are read to establish this.
//!
//! On disk, in `<log directory>/<topic>-<partition>/`, all but the first made by us alone:
//!
//! | file | holds |
//! |---|---|
//! | `%020d.log` | batches as they are on the wire, from that base offset on; zeros after them while it grows |
//! | `%020d.index` | sparse index by offset and time; sealed once the segment is complete |
//! | `%020d.txnindex` | aborted transactions whose markers are in the segment |
//! | `%020d.snapshot` | leader epochs and producers as they were at that offset |
//! | `%020d.swap` | which segments a cleaned one is taking the place of, while it does |
//! | `partition.metadata` | the topic id |
//!
//! and beside them `meta.properties` (whose directory), `checkpoint` (log start offsets, and how far
//! each log is known to be durable and clean), `clean-shutdown` (present after an orderly stop), `.lock`. A
//! log without records has no files. Ends are exclusive. Shell.

mod ahead;
mod checkpoint;
mod compaction;
mod cut;
mod dir;
mod due;
mod epochs;
mod error;
mod files;
mod index;
mod lend;
mod note;
#[cfg(feature = "check")]
pub mod probe;
mod producers;
mod reader;
mod recovery;
mod retention;
mod room;
mod scan;
mod search;
mod segment;
mod shared;
mod shell;
mod snapshot;
mod space;
mod state;
mod store;
mod swap;
mod tail;
#[cfg(test)]
mod tests;
mod txn_index;
mod writer;
mod zeros;

pub use compaction::{CleanPolicy, CleanStep, CleanTerms, Cleaned, Cleaning, Dirt};
pub use dir::{Found, Identity, Shutdown};
pub use epochs::Epochs;
pub use error::LogError;
pub use producers::{
    AbortedTxn, Checked, EndTxn, MarkerChecked, Origin, Producer, Producers, SequenceError,
};
pub use reader::{Located, ReadError, Reader, SegmentInfo, Slice};
pub use recovery::Recovery;
pub use retention::{Retention, RetentionPlan};
pub use shell::{DirConfig, DirHandle, LogId, Mode, Opened, Progress, Started};
pub use state::{ActiveSegment, LogConfig, LogState, Mark, PlaceError, Placed, Write};
pub use swap::Swap;
