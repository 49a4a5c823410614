//! InitProducerId: gives a producer its id and epoch, and fences those before it.
//!
//! The fields of version 6, two-phase commit, are declared but the version is not offered: Kafka
//! 4.3 calls it unstable. Pure.

use crate::wire;

wire! {
    /// Asks for a producer id, and to fence earlier users of the transactional id. KIP-98; v3:
    /// keeps the id across errors (KIP-360); v6: two-phase commit (KIP-939).
    pub struct InitProducerIdRequest {
        /// The transactional id. `None`: idempotence alone.
        transactional_id: Option<String> = Some(String::new());
        /// After how long without a word the transaction is aborted, in milliseconds.
        transaction_timeout_ms: i32;
        /// The producer id. -1: none.
        producer_id: i64 = -1, in 3..;
        /// The epoch of the producer id. -1: none.
        producer_epoch: i16 = -1, in 3..;
        /// Whether the transaction shall wait for the client for ever. KIP-939.
        enable_2pc: bool, in 6..;
        /// Whether to leave the open transaction as it is. KIP-939.
        keep_prepared_txn: bool, in 6..;
    }

    /// The producer id and epoch.
    pub struct InitProducerIdResponse {
        /// How long the client should stay silent because of a quota, in milliseconds.
        throttle_time_ms: i32;
        /// An error code of the wire; 0: success.
        error_code: i16;
        /// The producer id. -1: none.
        producer_id: i64 = -1;
        /// The epoch of the producer id. -1: none.
        producer_epoch: i16;
        /// The producer id of the open transaction that was kept. -1: none.
        ongoing_txn_producer_id: i64 = -1, in 6..;
        /// The epoch of the open transaction that was kept. -1: none.
        ongoing_txn_producer_epoch: i16 = -1, in 6..;
    }
}
