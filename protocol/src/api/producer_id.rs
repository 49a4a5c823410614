//! x. Pure.

use crate::wire;

wire! {
    /// InitProducerIdRequest.
    pub struct InitProducerIdRequest {
        /// TransactionalId.
        transactional_id: Option<String> = Some(String::new());
        /// TransactionTimeoutMs.
        transaction_timeout_ms: i32;
        /// ProducerId.
        producer_id: i64 = -1, in 3..;
        /// ProducerEpoch.
        producer_epoch: i16 = -1, in 3..;
        /// Enable2Pc.
        enable_2pc: bool, in 6..;
        /// KeepPreparedTxn.
        keep_prepared_txn: bool, in 6..;
    }

    /// InitProducerIdResponse.
    pub struct InitProducerIdResponse {
        /// ThrottleTimeMs.
        throttle_time_ms: i32;
        /// ErrorCode.
        error_code: i16;
        /// ProducerId.
        producer_id: i64 = -1;
        /// ProducerEpoch.
        producer_epoch: i16;
        /// OngoingTxnProducerId.
        ongoing_txn_producer_id: i64 = -1, in 6..;
        /// OngoingTxnProducerEpoch.
        ongoing_txn_producer_epoch: i16 = -1, in 6..;
    }
}
