//! Compaction: of each key the newest record stays, the others go.
//!
//! A cleaning reads the part of a log that was not cleaned before and remembers where the newest
//! record of each key is; then it writes everything up to there anew, without what that supersedes,
//! and the log's writer puts the new segments in the place of the old ones (`swap`). Offsets never
//! move: a batch keeps its first and last offset and its sequences, and holes are read past.
//!
//! | what | stays |
//! |---|---|
//! | a record | as long as no newer one of its key was read |
//! | a tombstone | likewise, and `delete.retention.ms` from the first cleaning that saw it (KIP-534) |
//! | a record of an aborted transaction, or without a key | never |
//! | a marker | until no record of its transaction is left, and `delete.retention.ms` from then |
//! | an empty batch | while it is the last of its producer, or the last that was cleaned |
//!
//! Never touched are the segment being written and what lies at or above the last stable offset.
//! More keys than memory allows take several rounds. Pure.

mod filter;
mod keys;
mod plan;
mod rewrite;
mod txns;

pub use plan::{CleanPolicy, Dirt};
pub use rewrite::{CleanStep, CleanTerms, Cleaned, Cleaning};
