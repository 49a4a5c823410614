//! Sends the markers of decided transactions, for as long as it takes.
//!
//! Each decision is a task: it writes the marker to every partition, again and again where a
//! partition is not led or not well, and then tells the coordinator. A deleted topic needs no
//! marker, nor a partition that knows a newer epoch of the producer: nothing of the older one is
//! open there. A coordinator that was fenced stops, as its successor has loaded the decision.
//! Bounded: further decisions wait. Shell.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, join_all};
use protocol::error_code::ErrorCode;
use protocol::ids::TopicPartition;
use tokio::sync::{Mutex, mpsc};
use tokio::task::{AbortHandle, JoinSet};

use super::{Decided, Reply};
use crate::coordinator::Unavailable;
use crate::limits::TXN_MARKERS_IN_FLIGHT_MAX;
use crate::partition::EndTxnMarker;

/// How long to wait before a partition is tried again.
const RETRY: Duration = Duration::from_millis(50);

/// Writes one marker into one partition, wherever it is led; answers once it is committed.
pub type MarkerSink = Arc<
    dyn Fn(TopicPartition, EndTxnMarker) -> BoxFuture<'static, Result<(), ErrorCode>> + Send + Sync,
>;

/// Tells the coordinator that every marker of a decision is written.
pub type Teller =
    Arc<dyn Fn(Decided) -> BoxFuture<'static, Result<Reply, Unavailable>> + Send + Sync>;

/// Carries out decisions until no coordinator is left to make any.
pub async fn send_markers(
    mut decisions: mpsc::Receiver<Decided>,
    sink: MarkerSink,
    teller: Teller,
) {
    // They end with this future: a broker that stopped writes no more.
    let mut tasks = JoinSet::new();
    let mut under_way: BTreeMap<Arc<str>, (AbortHandle, Arc<Mutex<()>>)> = BTreeMap::new();
    while let Some(decided) = decisions.recv().await {
        while TXN_MARKERS_IN_FLIGHT_MAX <= tasks.len() {
            tasks.join_next().await;
        }
        while tasks.try_join_next().is_some() {}
        under_way.retain(|_, (task, _)| !task.is_finished());
        // A shard that was loaded anew says again what is owed. Carried out twice, the slower one
        // could end the next transaction of a version 1 producer: it ends before the other begins.
        let (id, before) = (Arc::clone(&decided.id), under_way.remove(&decided.id));
        let turn = before.map_or_else(Arc::default, |(task, turn)| {
            task.abort();
            turn
        });
        let mine = Arc::clone(&turn);
        let (sink, teller) = (Arc::clone(&sink), Arc::clone(&teller));
        let task = tasks.spawn(async move {
            let _turn = mine.lock_owned().await;
            if write_everywhere(&sink, &decided).await {
                tell(&teller, &decided).await;
            }
        });
        under_way.insert(id, (task, turn));
    }
}

/// True once every partition has its marker; false when we are no longer the one to decide.
async fn write_everywhere(sink: &MarkerSink, decided: &Decided) -> bool {
    let marker = EndTxnMarker {
        producer_id: decided.producer.id,
        producer_epoch: decided.producer.epoch,
        coordinator_epoch: decided.coordinator_epoch,
        commit: decided.commit,
        transaction_version: decided.version.to_wire(),
    };
    let mut owed = decided.partitions.clone();
    loop {
        let tries = owed.iter().map(|at| async { (at.clone(), sink(at.clone(), marker).await) });
        let mut left = BTreeSet::new();
        for (at, written) in join_all(tries).await {
            match written {
                // Also where the topic is gone: nobody will read there again.
                Ok(()) | Err(ErrorCode::UnknownTopicOrPartition) => {}
                // An epoch rises in a partition by a marker, which ends what was open, or by a
                // batch, which is refused while an older epoch's transaction is open. To wait for
                // this marker would leave the transaction decided for ever (KAFKA-19999).
                Err(code @ ErrorCode::InvalidProducerEpoch) => {
                    tracing::warn!(transactional_id = %decided.id, partition = %at, %code,
                        "the partition knows a newer epoch; its transaction is ended already");
                }
                Err(code @ ErrorCode::TransactionCoordinatorFenced) => {
                    tracing::info!(transactional_id = %decided.id, partition = %at, %code,
                        "a newer coordinator has decided");
                    return false;
                }
                Err(code) => {
                    tracing::debug!(partition = %at, %code, "marker not written; trying again");
                    left.insert(at);
                }
            }
        }
        if left.is_empty() {
            return true;
        }
        owed = left;
        tokio::time::sleep(RETRY).await;
    }
}

async fn tell(teller: &Teller, decided: &Decided) {
    loop {
        match teller(decided.clone()).await {
            Ok(Reply::Noted(Ok(()))) | Err(Unavailable::NotCoordinator { .. }) => return,
            Ok(_) | Err(Unavailable::Loading { .. } | Unavailable::NotAvailable { .. }) => {
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}
