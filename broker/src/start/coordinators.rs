//! Wires the coordinators to the rooms that they need: partitions for their logs and for markers,
//! the controller for topics and producer ids. Shell.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use protocol::error_code::ErrorCode;
use protocol::ids::{BrokerEpoch, BrokerId, TopicPartition};
use protocol::rng::Lot;
use protocol::time::Clock;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::Rooms;
use crate::api::Coordination;
use crate::api::find_coordinator::Ensure;
use crate::api::producer_id::{Allocate, ProducerIds};
use crate::budget::Budget;
use crate::config::BrokerConfig;
use crate::controller::ControllerHandle;
use crate::coordinator::Coordinator;
use crate::group::assignor::Assignor;
use crate::group::beat::ConsumerSettings;
use crate::group::member::JoinSettings;
use crate::group::memory::Memory;
use crate::group::{self, GroupShard, Groups};
use crate::limits::{
    GROUPS_BYTES_MIN, SHARD_GROUPS_MAX, SHARD_TXNS_MAX, TXN_MARKERS_IN_FLIGHT_MAX,
};
use crate::partition::{EndTxnMarker, Partitions};
use crate::txn::shell::{MarkerSink, Teller, send_markers};
use crate::txn::{self, Decided, TxnShard, Txns};

/// How long a request waits for an internal topic to be created.
const ENSURE_MAX: Duration = Duration::from_secs(10);

/// What runs for the coordinators. Ends with this.
pub(super) struct Coordinators {
    markers: JoinHandle<()>,
    groups: Groups,
    txns: Txns,
}

impl Coordinators {
    /// The groups that are coordinated here.
    pub(super) fn groups(&self) -> Groups {
        self.groups.clone()
    }

    /// The transactions that are coordinated here.
    pub(super) fn txns(&self) -> Txns {
        self.txns.clone()
    }
}

impl fmt::Debug for Coordinators {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Coordinators")
    }
}

impl Drop for Coordinators {
    fn drop(&mut self) {
        self.markers.abort();
        self.groups.stop();
        self.txns.stop();
    }
}

pub(super) fn start(
    config: &Arc<BrokerConfig>,
    rooms: &Rooms,
    partitions: &Partitions,
    clock: &Clock,
    epoch: BrokerEpoch,
    (ids, budget): (&Lot, &Budget),
) -> (Coordination, Coordinators) {
    let me = BrokerId(config.node_id);
    let groups =
        groups(config, (rooms, partitions), clock, ids.of("members"), groups_bytes(budget));
    // Decisions wait here for a slot; as many again wait in their shards.
    let (decisions, decided) = mpsc::channel(TXN_MARKERS_IN_FLIGHT_MAX);
    let limits = txn::Limits {
        timeout_max: config.transaction_max_timeout,
        expiration: config.transactional_id_expiration,
        expiration_check: config.transaction_remove_expired_cleanup_interval,
        ids_max: SHARD_TXNS_MAX,
    };
    let txns = Coordinator::new(
        txn::TOPIC,
        me,
        rooms.metadata.clone(),
        partitions.clone(),
        clock.clone(),
        decisions,
        move |_, coordinator_epoch| TxnShard::new(limits, coordinator_epoch),
    );
    let markers = marker_sink(groups.clone(), partitions.clone());
    let sending = tokio::spawn(send_markers(decided, markers.clone(), teller(txns.clone())));
    // What the last run of this broker left decided or open must not wait for a client to ask.
    txns.load_all();
    let (of_groups, of_txns) = (groups.clone(), txns.clone());
    let coordination = Coordination {
        groups,
        txns,
        ids: ProducerIds::new(allocate(rooms.controller.clone(), me, epoch)),
        ensure: ensure(rooms),
        markers,
    };
    (coordination, Coordinators { markers: sending, groups: of_groups, txns: of_txns })
}

/// How much memory groups may take.
fn groups_bytes(budget: &Budget) -> u64 {
    (budget.total() / 2).max(GROUPS_BYTES_MIN)
}

fn groups(
    config: &Arc<BrokerConfig>,
    (rooms, partitions): (&Rooms, &Partitions),
    clock: &Clock,
    mut ids: Lot,
    memory_bytes: u64,
) -> Groups {
    let bound = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
    let limits = group::Limits {
        join: JoinSettings {
            members_max: bound(config.group_max_size),
            initial_delay: config.group_initial_rebalance_delay,
        },
        consumer: consumers(config),
        broker: Arc::clone(config),
        session_timeout_min: config.group_min_session_timeout,
        session_timeout_max: config.group_max_session_timeout,
        metadata_bytes_max: bound(config.offset_metadata_max_bytes),
        retention: config.offsets_retention,
        retention_check: config.offsets_retention_check_interval,
        groups_max: SHARD_GROUPS_MAX,
        memory: Memory::new(usize::try_from(memory_bytes).unwrap_or(usize::MAX)),
    };
    // Groups have no effects: nothing is ever sent there.
    let (effects, _) = mpsc::channel(1);
    let seed = ids.next_u64();
    Coordinator::new(
        group::TOPIC,
        BrokerId(config.node_id),
        rooms.metadata.clone(),
        partitions.clone(),
        clock.clone(),
        effects,
        move |index, epoch| {
            // Another leadership must not give the same member ids again.
            let of_shard =
                u64::from(index.0.unsigned_abs()) << 32 | u64::from(epoch.0.unsigned_abs());
            GroupShard::new(limits.clone(), seed ^ of_shard)
        },
    )
}

fn consumers(config: &BrokerConfig) -> ConsumerSettings {
    let assignors = config.group_consumer_assignors.iter().filter_map(|it| Assignor::of(it));
    ConsumerSettings {
        session_timeout: config.group_consumer_session_timeout,
        heartbeat_interval: config.group_consumer_heartbeat_interval,
        members_max: usize::try_from(config.group_consumer_max_size).unwrap_or(usize::MAX),
        assignors: assignors.collect(),
        migration: config.group_consumer_migration_policy,
    }
}

/// Markers for offsets go through their group's shard, the others straight to their partition.
fn marker_sink(groups: Groups, partitions: Partitions) -> MarkerSink {
    Arc::new(move |at: TopicPartition, marker: EndTxnMarker| {
        let (groups, partitions) = (groups.clone(), partitions.clone());
        async move {
            if &*at.topic == group::TOPIC {
                return groups.write_marker(at.partition, marker).await;
            }
            let handle = partitions.get(&at.topic, at.partition).map_err(|error| error.code())?;
            handle.write_marker(marker).await.map(|_| ()).map_err(|error| error.code())
        }
        .boxed()
    })
}

fn teller(txns: Txns) -> Teller {
    Arc::new(move |decided: Decided| {
        let txns = txns.clone();
        async move {
            let id = Arc::clone(&decided.id);
            txns.call(&id, txn::Request::MarkersWritten(decided)).await
        }
        .boxed()
    })
}

fn allocate(controller: ControllerHandle, me: BrokerId, epoch: BrokerEpoch) -> Allocate {
    Arc::new(move || {
        let controller = controller.clone();
        async move {
            let block = controller.allocate_producer_ids(me, epoch).await;
            let block = block.map_err(|error| error.code())?;
            let block = block.map_err(|error| error.code())?;
            Ok(block.start.0..block.end.0)
        }
        .boxed()
    })
}

fn ensure(rooms: &Rooms) -> Ensure {
    let (controller, metadata) = (rooms.controller.clone(), rooms.metadata.clone());
    Arc::new(move |topic: &'static str| {
        let (controller, metadata) = (controller.clone(), metadata.clone());
        async move {
            let ensured = controller.ensure_topics(vec![topic.to_owned()], ENSURE_MAX).await;
            let ensured = ensured.map_err(|error| error.code())?;
            for result in ensured {
                result.map_err(|error| {
                    tracing::warn!(topic, %error, "internal topic not created");
                    ErrorCode::CoordinatorNotAvailable
                })?;
            }
            Ok(metadata.image())
        }
        .boxed()
    })
}
