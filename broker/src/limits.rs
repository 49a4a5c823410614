//! Every bound on a queue, cache, loop or buffer that is not a setting, with its arithmetic.
//!
//! Each constant says what happens when it is reached. Pure.

use std::time::Duration;

mod open_files;
pub use open_files::OpenFiles;
pub(crate) use open_files::{Kept, Lent};

/// Requests that wait for the controller. More are answered with a retriable error at once.
pub const CONTROLLER_REQUESTS_MAX: usize = 256;

/// 1024: requests, mostly appends, that wait for the writer of a log directory; it takes all at once.
/// Then partitions wait.
pub const LOG_REQUESTS_MAX: usize = 1024;

/// 512: open files of complete segments in a log directory. Then the one that was not read for longest
/// is closed. Those that are written to are counted by [`OpenFiles`].
pub const LOG_FILES_OPEN_MAX: usize = 512;

/// 64 KiB: fewer bytes are read into memory rather than sent from their file.
pub const STRETCH_BYTES_MIN: usize = 64 << 10;

/// 64 MiB: bytes of one file that an answer may leave there; a reader comes again for more.
pub const STRETCH_BYTES_MAX: usize = 64 << 20;

/// 128: what waits in a directory to be synced beside its writer. More is not asked for.
pub const SYNCS_AHEAD_MAX: usize = 128;

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

/// Bytes that a coordinator reads at once while it loads a shard from its log; also the least room
/// that a compressed batch of that log may unfold into.
pub const LOAD_READ_BYTES: usize = 1 << 20;

/// Requests that wait for one shard of a coordinator, also while it loads. More are refused as
/// retriable: the coordinator is loading.
pub const SHARD_MAILBOX_MAX: usize = 1024;

/// Replies of one shard that wait for the high watermark. With as many waiting it takes no further
/// request until some are released.
pub const SHARD_PARKED_MAX: usize = 4096;

/// Decided transactions whose markers are being sent at once by this broker. More wait their turn;
/// their producers are told that the transaction is still completing.
pub const TXN_MARKERS_IN_FLIGHT_MAX: usize = 256;

/// Groups in one shard: 50 shards of 20 000 are a million groups. The next new one is refused.
pub const SHARD_GROUPS_MAX: usize = 20_000;

/// 1 MiB: what a member of a classic group tells its leader, by all protocols together. Who tells more
/// is refused.
pub const MEMBER_METADATA_BYTES_MAX: usize = 1 << 20;

/// 100: protocols that a member of a classic group offers. Clients offer one for each assignor, a few; who
/// offers more is refused, as a vote compares those of all members.
pub const MEMBER_PROTOCOLS_MAX: usize = 100;

/// 100: topics that one Metadata request creates. For the others it is to be sent again.
pub const AUTO_CREATED_MAX: usize = 100;

/// 8 MiB: what all members of a classic group tell. Who would add to it is refused.
pub const GROUP_METADATA_BYTES_MAX: usize = 8 << 20;

/// 8 MiB: what the leader of a classic group assigns to all of its members. Who assigns more is
/// refused.
pub const GROUP_ASSIGNMENT_BYTES_MAX: usize = 8 << 20;

/// 256 MiB: what all groups of a broker keep, offsets included, where half of `memory.budget.bytes` is
/// less: about a million offsets. Members, subscriptions and offsets that would add to it are refused,
/// retriable; deleting groups makes room.
pub const GROUPS_BYTES_MIN: u64 = 256 << 20;

/// 1 MiB: a regular expression of a client, compiled. Larger ones are refused.
pub const PATTERN_BYTES_MAX: usize = 1 << 20;

/// 4 KiB: a regular expression of a subscription, as it is written. Longer ones are refused.
pub const PATTERN_LENGTH_MAX: usize = 4 << 10;

/// 64: groups within groups in a regular expression of a client. Deeper ones are refused.
pub const PATTERN_NESTING_MAX: u32 = 64;

/// Transactional ids in one shard. The next new one is refused.
pub const SHARD_TXNS_MAX: usize = 20_000;

/// 65,536: batches of one Produce request. What waits for them takes up to a kibibyte each, which no budget
/// counts. A request with more ends its connection.
pub const PRODUCE_BATCHES_MAX: usize = 64 << 10;

/// 16: requests that wait for the markers of one transactional id. More are refused, retriable: its
/// producer has 5 in flight, and some that it gave up may linger.
pub const COMPLETION_WAITERS_MAX: usize = 16;

/// 2 MiB: buffers up to this size are kept for the next who needs one. Larger ones are freed.
pub const BUFFER_BYTES_MAX: usize = 2 << 20;

/// 16 MiB: buffers that are kept while nobody uses them: what one connection may have in flight.
/// Then the oldest are freed.
pub const BUFFERS_KEPT_BYTES_MAX: usize = 16 << 20;

/// 10,000: accounts of what clients used of their quotas. For the next, whoever was silent longest
/// is forgotten: what it used then no longer counts against it.
pub const QUOTA_BUCKETS_MAX: usize = 10_000;

/// 10 minutes: the longest that a client is told to be silent: after that a small quota lets a
/// request through now and then.
pub const THROTTLE_MAX: Duration = Duration::from_secs(600);

/// 100,000: users, clients and addresses that have quotas. More are refused.
pub const QUOTA_ENTITIES_MAX: usize = 100_000;

/// 10 s: how long a connection may take to agree on how to encrypt, and then to authenticate. Then it
/// is closed.
pub const AUTHENTICATION_MAX: Duration = Duration::from_secs(10);

/// 5 s: how often files of certificates and keys are looked at again.
pub const CERTIFICATES_LOOKED_AT_EVERY: Duration = Duration::from_secs(5);

/// 10 s: how soon the keys of an issuer are asked for again because a token names one that is not
/// among them. A stranger's tokens cost the issuer no more than that.
pub const JWKS_MISSED_AT_MOST_EVERY: Duration = Duration::from_secs(10);

/// 1 MiB: the largest set of keys of an issuer of tokens. Larger ones are refused.
pub const JWKS_BYTES_MAX: usize = 1 << 20;

/// 100,000: credentials of SCRAM. More are refused.
pub const SCRAM_CREDENTIALS_MAX: usize = 100_000;

/// 64: connections to the port of metrics at once. More are closed.
pub const METRICS_CONNECTIONS_MAX: usize = 64;

/// 100,000: entries of access control lists. More are refused.
pub const ACLS_MAX: usize = 100_000;

/// 10,000: entries that one request creates. More are refused: all that one request changes is one
/// proposal to the quorum.
pub const ACLS_PER_REQUEST_MAX: usize = 10_000;

/// 10 s: after that the shares of the audit trail begin anew, and what was withheld is told.
pub const AUDIT_WINDOW: Duration = Duration::from_secs(10);

/// 20: events of one source (a principal and its address; of who is not known, the address) that are
/// written in one window. More are counted.
pub const AUDIT_EVENTS_OF_SOURCE_MAX: u32 = 20;

/// 200: events of all sources that are written in one window. More are counted, by source. Changes
/// that were made are written whatever their number.
pub const AUDIT_EVENTS_MAX: u32 = 200;

/// 256: sources whose events are counted apart in one window. Those of more are counted together.
pub const AUDIT_SOURCES_MAX: usize = 256;

/// 1 KiB: the longest value in the audit trail. Longer ones are cut.
pub const AUDIT_TEXT_MAX: usize = 1024;

/// 16 MiB: the smallest budget of memory. What is set below it counts as this.
pub const BUDGET_BYTES_MIN: u64 = 16 << 20;

/// 1 GiB: the memory that a machine is taken to have which does not tell.
pub const MACHINE_BYTES_UNKNOWN: u64 = 1 << 30;

/// 65,536: claims to memory that wait. More are refused: the connection is closed, or the fetch is
/// answered with nothing.
pub const BUDGET_WAITERS_MAX: usize = 64 << 10;

/// 56 KiB: what a fetch can be given while larger answers wait. With what is read beside it a buffer
/// of the allocator's own.
pub const BUDGET_SMALL_BYTES: u64 = 56 << 10;

/// 4,096: with fewer files that may be open at once a broker warns as it starts.
pub const OPEN_FILES_FEW: u64 = 4 << 10;

/// 64 MiB: what all sessions of fetches remember: a quarter of a million partitions. Beyond it
/// readers go without a session.
pub const FETCH_SESSIONS_BYTES_MAX: usize = 64 << 20;

/// 1 MiB: what a produced batch unfolds into where it came. Larger ones are unfolded where they hold
/// up no other connection.
pub const UNFOLDED_BYTES_INLINE: usize = 1 << 20;

/// 64: batches that wait to be unfolded aside, each on a thread. More are refused, retriable.
pub const UNFOLDING_WAITING_MAX: usize = 64;

/// 32: times its size that a Produce request may unfold into, beside what one batch may. Batches
/// beyond it are refused, retriable.
pub const UNFOLDED_PER_BYTE_MAX: usize = 32;

/// 10 KiB: what a connection costs while nothing is under way on it: its task, its socket, and up to
/// 4 KiB of a request's beginning.
pub const CONNECTION_BYTES: u64 = 10 << 10;

/// 40 KiB: what a connection costs in addition when it is encrypted: a record of TLS in each
/// direction, and keys.
pub const CONNECTION_TLS_BYTES: u64 = 40 << 10;

/// 4 KiB: how much of a frame is read before room is claimed for all of it: what is announced alone
/// claims nothing.
pub const FRAME_UNCLAIMED_BYTES: usize = 4 << 10;

/// 30 s: how long nothing may come of a frame that was begun, and nothing be taken of an answer. Then the
/// connection is closed.
pub const STALL_MAX: Duration = Duration::from_secs(30);

/// 5 s: how often it is looked whether a frame comes fast enough: a sixteenth of it each time while
/// others wait for memory. Then the connection is closed.
pub const FRAME_LOOKED_AT_EVERY: Duration = Duration::from_secs(5);

/// 1 s: how often it is looked whether an answer is taken fast enough: a sixteenth of it each time while
/// others wait for memory. Then the connection is closed, those that hold most first.
pub const ANSWER_LOOKED_AT_EVERY: Duration = Duration::from_secs(1);

/// 5 s: how long a fetch waits for memory. Then it is answered with nothing, and its client asks again.
pub const RATION_WAIT_MAX: Duration = Duration::from_secs(5);

const _: () = assert!(BUDGET_SMALL_BYTES < BUDGET_BYTES_MIN / 64);
