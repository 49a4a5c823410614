//! Every bound on a queue, cache, loop or buffer that is not a setting, with its arithmetic.
//!
//! Each constant says what happens when it is reached. Pure.

/// Requests that wait for the controller. More are answered with a retriable error at once.
pub const CONTROLLER_REQUESTS_MAX: usize = 256;

/// 1024: requests, mostly appends, that wait for the writer of a log directory; it takes all at once.
/// Then partitions wait.
pub const LOG_REQUESTS_MAX: usize = 1024;

/// Changes of metadata that wait for one subscriber. When it is that far behind, the metadata log
/// waits for it.
pub const METADATA_UPDATES_MAX: usize = 64;

/// Subscribers of metadata that wait to be welcomed. More wait for their turn.
pub const METADATA_SUBSCRIBERS_WAITING_MAX: usize = 16;

/// 1 GiB: the largest log or snapshot of the quorum that is read. A million partitions take 100 MB.
pub const QUORUM_FILE_BYTES_MAX: u64 = 1 << 30;

/// 64 MiB: the largest proposal. Larger ones are refused.
pub const PROPOSAL_BYTES_MAX: usize = 64 << 20;

/// Writes that wait for the quorum's log. Then openraft waits.
pub const QUORUM_WRITES_MAX: usize = 64;

/// Requests of the quorum that wait for the metadata. Then openraft waits.
pub const QUORUM_FEED_MAX: usize = 16;

/// 4 MiB: while the quorum's log is smaller, purged entries stay in it: rewriting it costs three
/// syncs and saves nothing worth it.
pub const QUORUM_REWRITE_BYTES_MIN: u64 = 4 << 20;

/// 10,000: partitions that one request may create, as in Kafka. More are refused.
pub const PARTITIONS_CREATED_MAX: usize = 10_000;
/// Appends of one partition that wait to be written or committed. More are refused, retriable.
pub const PARTITION_APPENDS_WAITING_MAX: usize = 64 << 10;

/// Fetches that wait for one partition, per isolation level. More are answered with what there is.
pub const PARTITION_FETCHES_WAITING_MAX: usize = 16 << 10;

/// 256 MiB: bytes of one partition that were accepted and are not committed. More are refused,
/// retriable. Twice the largest request, so that any that is accepted at all finds room.
pub const PARTITION_BYTES_IN_FLIGHT_MAX: u64 = 256 << 20;

/// Requests in one partition's mailbox. More are refused, retriable.
pub const PARTITION_MAILBOX_MAX: usize = 64 << 10;
