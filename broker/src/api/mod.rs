//! Translation: a request of the wire, the room that knows, a response of the wire.
//!
//! Each family of APIs has a file here, named as in `protocol::api`. One table routes; what it does
//! not route is not advertised either, and a request for it ends the connection. Shell.

mod acls;
#[cfg(test)]
mod admin_tests;
mod admit;
mod aside;
mod brokers;
mod changes;
mod cluster;
mod configs;
mod consumer_group;
mod describe;
mod elections;
mod features;
mod fetch;
mod fetch_session;
pub(crate) mod find_coordinator;
mod group;
mod group_offsets;
#[cfg(test)]
mod group_tests;
mod judge;
mod lanes;
mod log_dirs;
mod metadata;
mod offsets;
#[cfg(test)]
mod operator_tests;
mod parts;
mod permit;
mod produce;
pub(crate) mod producer_id;
mod quorum;
mod quotas;
mod reassignments;
mod sasl;
mod scram;
pub(crate) mod serving;
#[cfg(test)]
mod tests;
mod topic_partitions;
mod topics;
mod transactions;
mod txn;
mod versions;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use protocol::api::metadata::{MetadataRequest, MetadataResponse};
use protocol::api::versions::ApiVersionsRequest;
use protocol::api::{AnyRequest, AnyResponse};
use protocol::api_key::ApiKey;
use protocol::ids::{BrokerId, LeaderEpoch, PartitionIndex, TopicId};
use protocol::rng::Lot;

use crate::auth::Authorizer;
use crate::auth::audit::Event;
use crate::auth::stores::Stores;
use crate::auth::trail::Trail;
use crate::budget::Budget;
use crate::config::BrokerConfig;
use crate::controller::ControllerHandle;
use crate::group::Groups;
use crate::group::beat::Sight;
use crate::metadata::{Image, MetadataHandle};
use crate::metrics::Metrics;
use crate::partition::{Partitions, gather};
use crate::quota::{QuotaHandle, QuotaKind};
use crate::txn::Txns;
use crate::txn::shell::MarkerSink;
use aside::Aside;
use fetch_session::FetchSessions;
use find_coordinator::Ensure;
use lanes::Lanes;
pub(crate) use log_dirs::Volume;
use permit::Verdict;
use producer_id::ProducerIds;
use quotas::Mutations;
use serving::{Answer, Context, Request, Serve, Serving, Spent};
#[cfg(test)]
pub(crate) use tests::audit::Logged;

/// Handles of all rooms that requests are about. Clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Api(Arc<Rooms>);

#[derive(Debug)]
struct Rooms {
    config: Arc<BrokerConfig>,
    stores: Stores,
    volume: Volume,
    metadata: MetadataHandle,
    controller: ControllerHandle,
    partitions: Partitions,
    coordination: Coordination,
    quotas: QuotaHandle,
    metrics: Arc<Metrics>,
    aside: Aside,
    budget: Budget,
    lanes: Lanes,
    /// `None`: everybody may do everything.
    authorizer: Option<Arc<Authorizer>>,
    /// The listener by which brokers speak with each other, in capitals.
    inter_broker_listener: String,
    trail: Trail,
    /// A lock, as a session outlives the connection that opened it; held to begin or end a fetch.
    fetch_sessions: Mutex<FetchSessions>,
}

/// The coordinators, and what they need of other rooms.
pub(crate) struct Coordination {
    /// Of groups.
    pub(crate) groups: Groups,
    /// Of transactions.
    pub(crate) txns: Txns,
    /// Where producer ids come from.
    pub(crate) ids: ProducerIds,
    /// Creates an internal topic that is not there yet.
    pub(crate) ensure: Ensure,
    /// Where markers are written.
    pub(crate) markers: MarkerSink,
}

/// What a broker was started with, and on what.
#[derive(Debug)]
pub(crate) struct Machine {
    /// The settings.
    pub(crate) config: Arc<BrokerConfig>,
    /// The certificates of its listeners.
    pub(crate) stores: Stores,
    /// Where its data lies.
    pub(crate) volume: Volume,
}

/// What requests are measured by.
#[derive(Debug)]
pub(crate) struct Meters {
    /// What clients may ask.
    pub(crate) quotas: QuotaHandle,
    /// What was done.
    pub(crate) metrics: Arc<Metrics>,
    /// What concerns who may do what.
    pub(crate) trail: Trail,
    /// How much memory answers may take.
    pub(crate) budget: Budget,
}

impl fmt::Debug for Coordination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Coordination")
    }
}

/// Routes each API to what serves it. One list makes the match and what is advertised.
macro_rules! routes {
    ($api:ident, $context:ident; $($name:ident($body:pat) => $serving:expr,)*) => {
        /// The APIs that this broker serves.
        const ROUTED: &[ApiKey] = &[$(ApiKey::$name),*];

        /// A request of each API, to see whether it is served.
        #[cfg(test)]
        fn one_of_each() -> Vec<AnyRequest> {
            vec![$(AnyRequest::$name(Default::default()),)*]
        }

        fn route($api: &Api, $context: Context, body: AnyRequest) -> Serving {
            match body {
                $(AnyRequest::$name($body) => $serving,)*
            }
        }
    };
}

routes! {
    api, context;
    ApiVersions(body) => Serving::ready(api.versions(context.version, &body)),
    Produce(body) => produce::produce(api, &context, body),
    Fetch(body) => fetch::fetch(api, &context, body),
    ListOffsets(body) => Serving::later(offsets::list_offsets(api.clone(), context.version, body)),
    OffsetForLeaderEpoch(body) => {
        Serving::later(offsets::offset_for_leader_epoch(api.clone(), body))
    },
    DeleteRecords(body) => Serving::later(offsets::delete_records(api.clone(), body)),
    DescribeLogDirs(body) => Serving::later(log_dirs::describe_log_dirs(api.clone(), body)),
    Metadata(body) => {
        let api = api.clone();
        Serving::later(async move { api.metadata(&context, body).await })
    },
    DescribeCluster(body) => {
        let image = api.0.metadata.image();
        let controller = api.0.controller.active();
        let listener = &context.session.listener;
        Serving::ready(cluster::describe_cluster(&image, controller, listener, &body))
    },
    CreateTopics(body) => {
        let api = api.clone();
        Serving::later(async move {
            let Rooms { controller, metadata, config, quotas, .. } = &*api.0;
            let mutations = Mutations::new(quotas, &context, 6);
            topics::create_topics(controller, metadata, config, mutations, body).await
        })
    },
    DeleteTopics(body) => {
        let api = api.clone();
        Serving::later(async move {
            let mutations = Mutations::new(&api.0.quotas, &context, 5);
            topics::delete_topics(&api.0.controller, &api.image(), mutations, body).await
        })
    },
    CreatePartitions(body) => {
        let api = api.clone();
        Serving::later(async move {
            let mutations = Mutations::new(&api.0.quotas, &context, 3);
            topics::create_partitions(&api.0.controller, &api.image(), mutations, body).await
        })
    },
    DescribeClientQuotas(body) => {
        Serving::ready(quotas::describe_client_quotas(&api.image(), &body))
    },
    AlterClientQuotas(body) => {
        let controller = api.0.controller.clone();
        Serving::later(async move { quotas::alter_client_quotas(&controller, body).await })
    },
    DescribeAcls(body) => {
        let is_enabled = api.0.authorizer.is_some();
        Serving::ready(acls::describe(&api.image(), is_enabled, body))
    },
    CreateAcls(body) => {
        let (controller, is_enabled) = (api.0.controller.clone(), api.0.authorizer.is_some());
        Serving::later(async move { acls::create(&controller, is_enabled, body).await })
    },
    DeleteAcls(body) => {
        let (controller, is_enabled) = (api.0.controller.clone(), api.0.authorizer.is_some());
        Serving::later(async move { acls::delete(&controller, is_enabled, body).await })
    },
    DescribeConfigs(body) => {
        let image = api.0.metadata.image();
        Serving::ready(describe::describe_configs(&image, &api.0.config, &body))
    },
    ListConfigResources(body) => {
        let image = api.0.metadata.image();
        Serving::ready(configs::list_config_resources(&image, context.version, &body))
    },
    AlterConfigs(body) => {
        let api = api.clone();
        Serving::later(async move { configs::alter_configs(&api.altering(), body).await })
    },
    IncrementalAlterConfigs(body) => {
        let api = api.clone();
        Serving::later(async move {
            configs::incremental_alter_configs(&api.altering(), body).await
        })
    },
    OffsetCommit(body) => {
        let api = api.clone();
        Serving::later(async move {
            group_offsets::commit(&api.coordination().groups, &api.image(), &context, body).await
        })
    },
    OffsetFetch(body) => {
        let api = api.clone();
        Serving::later(async move {
            group_offsets::fetch(&api.coordination().groups, &api.image(), context.version, body).await
        })
    },
    TxnOffsetCommit(body) => {
        let api = api.clone();
        Serving::later(async move {
            let Coordination { groups, txns, .. } = api.coordination();
            group_offsets::txn_commit(groups, txns, &api.image(), &context, body).await
        })
    },
    FindCoordinator(body) => {
        let api = api.clone();
        Serving::later(async move {
            find_coordinator::find(&api.image(), &api.coordination().ensure, &context, body).await
        })
    },
    JoinGroup(body) => {
        let api = api.clone();
        Serving::later(async move {
            group::join(&api.coordination().groups, context, body).await
        })
    },
    SyncGroup(body) => {
        let api = api.clone();
        Serving::later(async move {
            group::sync(&api.coordination().groups, context.version, body).await
        })
    },
    Heartbeat(body) => {
        let api = api.clone();
        Serving::later(async move {
            group::heartbeat(&api.coordination().groups, body).await
        })
    },
    LeaveGroup(body) => {
        let api = api.clone();
        Serving::later(async move {
            group::leave(&api.coordination().groups, context.version, body).await
        })
    },
    DescribeGroups(body) => {
        let api = api.clone();
        Serving::later(async move {
            group::describe(&api.coordination().groups, context.version, body).await
        })
    },
    ListGroups(body) => {
        let api = api.clone();
        Serving::later(async move {
            group::list(&api.coordination().groups, body).await
        })
    },
    DeleteGroups(body) => {
        let api = api.clone();
        Serving::later(async move {
            group::delete(&api.coordination().groups, body).await
        })
    },
    OffsetDelete(body) => {
        let api = api.clone();
        Serving::later(async move {
            group_offsets::delete(&api.coordination().groups, &api.image(), body).await
        })
    },
    ConsumerGroupHeartbeat(body) => {
        let api = api.clone();
        let sight = api.gate(&context).map_or(Sight::ALL, |gate| gate.sight());
        Serving::later(async move {
            if !features::has_consumer_groups(&api.image()) {
                return features::heartbeat_refused();
            }
            consumer_group::heartbeat(&api.coordination().groups, context, sight, body).await
        })
    },
    ConsumerGroupDescribe(body) => {
        let api = api.clone();
        Serving::later(async move {
            if !features::has_consumer_groups(&api.image()) {
                return features::description_refused(body);
            }
            consumer_group::describe(&api.coordination().groups, body).await
        })
    },
    InitProducerId(body) => {
        let api = api.clone();
        Serving::later(async move {
            let Coordination { txns, ids, .. } = api.coordination();
            producer_id::init(txns, ids, context.version, body).await
        })
    },
    AddPartitionsToTxn(body) => {
        let api = api.clone();
        Serving::later(async move {
            txn::add_partitions(&api.coordination().txns, &api.image(), context.version, body).await
        })
    },
    AddOffsetsToTxn(body) => {
        let api = api.clone();
        Serving::later(async move {
            let Coordination { groups, txns, .. } = api.coordination();
            txn::add_offsets(txns, groups, context.version, body).await
        })
    },
    EndTxn(body) => {
        let api = api.clone();
        Serving::later(async move {
            let Coordination { txns, ids, .. } = api.coordination();
            txn::end(txns, ids, context.version, body).await
        })
    },
    WriteTxnMarkers(body) => {
        let api = api.clone();
        Serving::later(async move {
            txn::write_markers(&api.coordination().markers, body).await
        })
    },
    AlterReplicaLogDirs(body) => {
        Serving::later(log_dirs::alter_replica_log_dirs(api.clone(), body))
    },
    ElectLeaders(body) => {
        let controller = api.0.controller.clone();
        Serving::later(async move { elections::elect_leaders(&controller, body).await })
    },
    AlterPartitionReassignments(body) => {
        let controller = api.0.controller.clone();
        Serving::later(async move { reassignments::alter(&controller, body).await })
    },
    ListPartitionReassignments(body) => {
        Serving::ready(reassignments::list(&api.image(), body))
    },
    DescribeQuorum(body) => {
        let own = BrokerId(api.0.config.node_id);
        let facts = api.0.controller.quorum();
        Serving::ready(quorum::describe(context.version, &facts, own, context.now.wall, body))
    },
    UpdateFeatures(body) => {
        let controller = api.0.controller.clone();
        Serving::later(async move {
            features::update_features(&controller, context.version, body).await
        })
    },
    UnregisterBroker(body) => {
        let controller = api.0.controller.clone();
        Serving::later(async move { brokers::unregister(&controller, body).await })
    },
    DescribeTopicPartitions(body) => {
        let limit = api.0.config.max_request_partition_size_limit;
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let (gate, listener) = (api.gate(&context), &context.session.listener);
        let sees = |name: &str| gate.as_ref().is_none_or(|gate| gate.sees(name));
        Serving::ready(topic_partitions::describe(&api.image(), listener, limit, sees, body))
    },
    DescribeProducers(body) => {
        Serving::later(transactions::describe_producers(api.clone(), body))
    },
    DescribeTransactions(body) => {
        let api = api.clone();
        Serving::later(async move {
            transactions::describe(&api.coordination().txns, body).await
        })
    },
    DescribeUserScramCredentials(body) => Serving::ready(scram::describe(&api.image(), &body)),
    AlterUserScramCredentials(body) => {
        let controller = api.0.controller.clone();
        Serving::later(async move { scram::alter(&controller, body).await })
    },
    SaslHandshake(_) => Serving::ready(sasl::handshake()),
    SaslAuthenticate(_) => Serving::ready(sasl::authenticate()),
    ListTransactions(body) => {
        let api = api.clone();
        Serving::later(async move { transactions::list(&api.coordination().txns, body).await })
    },
}

impl Api {
    /// The APIs over these rooms. Ids of fetch sessions are drawn from `ids`.
    pub(crate) fn new(
        machine: Machine,
        metadata: MetadataHandle,
        controller: ControllerHandle,
        partitions: Partitions,
        coordination: Coordination,
        meters: Meters,
        ids: Lot,
    ) -> Self {
        let Meters { quotas, metrics, trail, budget } = meters;
        let Machine { config, stores, volume } = machine;
        let slots = config.max_incremental_fetch_session_cache_slots;
        let count_max = usize::try_from(slots).unwrap_or(usize::MAX);
        let fetch_sessions = Mutex::new(FetchSessions::new(count_max, ids));
        let authorizer = Authorizer::new(&config).map(Arc::new);
        let inter_broker_listener = config.inter_broker_listener();
        Self(Arc::new(Rooms {
            config,
            stores,
            volume,
            metadata,
            controller,
            partitions,
            coordination,
            quotas,
            metrics,
            aside: Aside::new(budget.clone()),
            budget,
            lanes: Lanes::default(),
            authorizer,
            inter_broker_listener,
            trail,
            fetch_sessions,
        }))
    }

    /// What settings are altered by.
    fn altering(&self) -> configs::Altering<'_> {
        let Rooms { controller, metadata, config, stores, .. } = &*self.0;
        configs::Altering { controller, metadata, config, stores }
    }

    fn coordination(&self) -> &Coordination {
        &self.0.coordination
    }

    fn aside(&self) -> &Aside {
        &self.0.aside
    }

    fn lanes(&self) -> &Lanes {
        &self.0.lanes
    }

    fn image(&self) -> Arc<Image> {
        self.0.metadata.image()
    }

    fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    fn partitions(&self) -> &Partitions {
        &self.0.partitions
    }

    fn fetch_sessions(&self) -> MutexGuard<'_, FetchSessions> {
        self.0.fetch_sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Most bytes of records in one response.
    fn budget(&self) -> &Budget {
        &self.0.budget
    }

    fn fetch_bytes_max(&self) -> usize {
        usize::try_from(self.0.config.fetch_max_bytes).unwrap_or(usize::MAX)
    }

    /// Who leads a partition, by its topic's name.
    fn leader(&self, topic: &str, index: PartitionIndex) -> Option<(BrokerId, LeaderEpoch)> {
        let image = self.0.metadata.image();
        let partition = image.partition(topic, index)?;
        Some((partition.leader, partition.leader_epoch))
    }

    /// Who leads a partition, by its topic's id.
    fn leader_by_id(
        &self,
        topic: TopicId,
        index: PartitionIndex,
    ) -> Option<(BrokerId, LeaderEpoch)> {
        let image = self.0.metadata.image();
        let partition = image.topic_by_id(topic)?.partition(index)?;
        Some((partition.leader, partition.leader_epoch))
    }

    async fn metadata(&self, context: &Context, body: MetadataRequest) -> MetadataResponse {
        let Rooms { metadata, controller, config, quotas, .. } = &*self.0;
        let listener = &context.session.listener;
        let mutations = Mutations::new(quotas, context, i16::MAX);
        let request = (context.version, body);
        metadata::metadata(metadata, controller, config, listener, mutations, request).await
    }

    fn versions(&self, version: i16, body: &ApiVersionsRequest) -> AnyResponse {
        let image = self.0.metadata.image();
        let own = BrokerId(self.0.config.node_id);
        versions::answer(version, body, ROUTED, &image, own).into()
    }
}

impl Serve for Api {
    fn serve(&self, request: Request) -> Serving {
        let Request { context, body } = request;
        let (body, amend) = match self.judge(&context, body) {
            Verdict::Serve(body, amend) => (body, amend),
            Verdict::Refuse(response) => return Serving::ready(response),
            Verdict::Close(reason) => return Serving::Ready(Answer::Close(reason)),
        };
        let serving = match changes::watch(&body) {
            None => route(self, context, body),
            Some(watch) => {
                let session = context.session.clone();
                self.watched(session, watch, route(self, context, body))
            }
        };
        match amend {
            None => serving,
            Some(amend) => serving.amended(amend),
        }
    }

    /// Batches for one partition are written at one go.
    fn together<T>(serve: impl FnOnce() -> T) -> T {
        gather(serve)
    }

    fn unsupported_api_versions(&self) -> AnyResponse {
        versions::unsupported(ROUTED).into()
    }

    fn is_timed(&self) -> bool {
        self.0.quotas.has(QuotaKind::Request)
    }

    fn settle(&self, spent: &Spent<'_>, answer: &mut Answer) -> Duration {
        let Rooms { quotas, metrics, .. } = &*self.0;
        metrics.answered(spent.api, spent.request_bytes, spent.taken);
        let Some(response) = answer.response_mut() else {
            return quotas::charge(quotas, spent, 0);
        };
        let fetched_bytes = quotas::fetched_bytes(response);
        let charged = quotas::charge(quotas, spent, fetched_bytes);
        if fetched_bytes > 0 {
            metrics.fetched(fetched_bytes);
        }
        response.each_error(&mut |code| {
            if code != 0 {
                metrics.failed(spent.api, code);
            }
        });
        // Some were told by what served them already.
        let told = u64::try_from(response.throttle_time_ms()).unwrap_or(0);
        let silent = charged.max(Duration::from_millis(told));
        if charged > Duration::ZERO {
            response.set_throttle_time_ms(quotas::throttle_ms(silent));
        }
        if silent > Duration::ZERO {
            metrics.throttled(spent.api, silent);
        }
        silent
    }

    fn sent(&self, bytes: usize) {
        self.0.metrics.sent(bytes);
    }

    fn connected(&self) {
        self.0.metrics.connected();
    }

    fn disconnected(&self) {
        self.0.metrics.disconnected();
    }

    fn authenticated(&self, is_proved: bool) {
        self.0.metrics.authenticated(is_proved);
    }

    fn audit(&self, event: &Event) {
        self.0.trail.note(event);
    }

    fn refused(&self) {
        self.0.metrics.refused();
    }
}
