//! What can go wrong: while a topology is built, and while it runs.
//!
//! Building reports every mistake at once, each with what to do instead. Running stops at the first
//! error that no policy forgives; it names the node, the partition and the offset, so that the one
//! record that caused it can be found. Pure.

use std::fmt;
use std::sync::Arc;

use protocol::ids::{Offset, PartitionIndex, TopicPartition};

use crate::codec::BoxError;

/// One mistake in a topology.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// The records are no longer where their new key belongs.
    #[error(
        "`{operator}` needs records of one key in one partition, but `{changed_by}` changed the \
         key: put `.repartition(\"a-name\", key_codec, value_codec)` between the two"
    )]
    NotRepartitioned {
        /// The operator that groups or joins.
        operator: Arc<str>,
        /// The operator above it that changed the key.
        changed_by: Arc<str>,
    },
    /// Stores, repartition topics and processors share one space of names.
    #[error(
        "the name `{0}` is used twice: stores, repartitions and processors each need their own"
    )]
    DuplicateName(Arc<str>),
    /// The name could not become part of a topic's name.
    #[error("the name `{0}` must be 1 to 180 letters, digits, dots, underscores or hyphens")]
    BadName(Arc<str>),
    /// A changelog is compacted by key, and a null key has no place in it.
    #[error(
        "store `{0}`: its key codec accepts null, but state is kept by key: use `drop_null_keys()` above it"
    )]
    NullableKey(Arc<str>),
    /// `to_stream` promises a value in each record.
    #[error(
        "table `{0}` can delete keys, and a deletion has no value: use `changes()`, where it is \
         `None`, or `to(&topic)`, which writes it as a tombstone"
    )]
    DeletionsInStream(Arc<str>),
    /// Operators can share one policy only.
    #[error("two error policies for the operators above `{0}`: keep one `on_error`")]
    TwoPolicies(Arc<str>),
    /// Handles of two builders were mixed.
    #[error("`{0}` mixes streams of two builders")]
    ForeignStream(Arc<str>),
    /// The window's length, hop or grace period is out of range.
    #[error("window of `{store}`: {problem}")]
    BadWindow {
        /// The store of the aggregation.
        store: Arc<str>,
        /// What is wrong.
        problem: &'static str,
    },
    /// What a task remembers beside its offsets must fit into one offset's metadata.
    #[error("{0} windowed operators in one sub-topology are too many or have too long names")]
    TooManyTimes(usize),
    /// Nothing is read.
    #[error("the topology reads no topic")]
    NoSource,
}

/// Every mistake of a topology, at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildErrors(pub Vec<BuildError>);

impl fmt::Display for BuildErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the topology has {} mistake(s)", self.0.len())?;
        self.0.iter().try_for_each(|error| write!(f, "\n- {error}"))
    }
}

impl std::error::Error for BuildErrors {}

/// Why a task stopped at a record.
#[derive(Debug, thiserror::Error)]
pub enum StreamsError {
    /// The bytes of a record are not what its topic's codec expects.
    #[error("{partition} at offset {offset}: cannot decode the {part}: {source}")]
    Decode {
        /// Where the record lies.
        partition: TopicPartition,
        /// Which record.
        offset: Offset,
        /// `key`, `value` or `timestamp`.
        part: &'static str,
        /// What the codec says.
        source: BoxError,
    },
    /// An operator refused a record.
    #[error("{partition} at offset {offset}: `{node}` failed: {source}")]
    Process {
        /// The operator.
        node: Arc<str>,
        /// Where the record that caused it lies.
        partition: TopicPartition,
        /// Which record.
        offset: Offset,
        /// What the operator says.
        source: BoxError,
    },
    /// A key or value could not be turned into bytes.
    #[error("`{node}` cannot encode a {part}: {source}")]
    Encode {
        /// The sink or store.
        node: Arc<str>,
        /// `key` or `value`.
        part: &'static str,
        /// What the codec says.
        source: BoxError,
    },
    /// A changelog record cannot be restored.
    #[error("store `{store}`: cannot restore a changelog record: {source}")]
    Restore {
        /// The store.
        store: Arc<str>,
        /// What is wrong with the record.
        source: BoxError,
    },
    /// The topology does not read or write this topic.
    #[error("the topology does not know the topic `{0}`")]
    UnknownTopic(Arc<str>),
    /// The group gave inputs of one task to different members.
    #[error("task {partition} of sub-topology `{subtopology}` got some of its inputs only")]
    SplitTask {
        /// The sub-topology.
        subtopology: Arc<str>,
        /// The task.
        partition: PartitionIndex,
    },
    /// The topology has no such store, or one of other types.
    #[error("the topology has no store `{0}` of these types")]
    UnknownStore(Arc<str>),
}

/// Why a topology does not fit the topics that exist.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    /// A topic that the topology reads does not exist.
    #[error("the topic `{0}` does not exist")]
    Missing(Arc<str>),
    /// Topics whose keys must meet lie in different numbers of partitions.
    #[error(
        "sub-topology `{subtopology}` keeps state by the keys of several topics, which must have \
         equally many partitions: {counts}"
    )]
    NotCopartitioned {
        /// The sub-topology.
        subtopology: Arc<str>,
        /// The topics and their numbers of partitions.
        counts: String,
    },
    /// An internal topic exists with another number of partitions than it must have.
    #[error("the internal topic `{topic}` has {found} partitions and must have {wanted}")]
    WrongPartitionCount {
        /// The topic.
        topic: Arc<str>,
        /// How many it has.
        found: i32,
        /// How many it must have.
        wanted: i32,
    },
}

/// What a step of processing gives: boxed, because the good case passes through every operator.
pub type Flow<T = ()> = Result<T, Box<StreamsError>>;

/// What to do with a record that cannot be decoded or that an operator refuses.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ErrorPolicy {
    /// Stop: the transaction aborts and the application fails. Nothing is lost.
    #[default]
    Fail,
    /// Count the record and go on without it.
    Skip,
    /// Write the input record, unchanged, to this topic in the same transaction, with the reason in
    /// its headers (KIP-1034), and go on.
    DeadLetter(Arc<str>),
}

impl ErrorPolicy {
    /// Sends refused records to the topic `name`.
    pub fn dead_letter(name: impl Into<Arc<str>>) -> Self {
        Self::DeadLetter(name.into())
    }
}
