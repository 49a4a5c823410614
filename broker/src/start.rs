//! Starting and stopping a broker: the only place where rooms are wired together.
//!
//! A broker starts from the disk upward and listens last, so that whoever reaches it finds it
//! whole; it stops in the reverse order, and leaves the mark of a clean shutdown only when every
//! log is closed. All that comes from outside (disk, network, time, chance) is handed in: the same
//! code runs in production, embedded without a socket, and in a simulation. Shell.

mod coordinators;
mod error;
mod teller;

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use client::net::Endpoint;
use client::net::tls::TlsError;
use protocol::ids::{BrokerEpoch, BrokerId, Offset, TopicId};
use protocol::rng::{Lot, Rng};
use protocol::sasl::Mechanism;
use protocol::sasl::scram::Credential;
use protocol::security::SecurityProtocol;
use protocol::time::Clock;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::mpsc;
use tracing::{info, warn};

use crate::api::{Api, Machine, Meters, Volume};
use crate::auth::shell::Later;
use crate::auth::stores::{Store, Stores};
use crate::auth::trail::Trail;
use crate::auth::{self, DecoyKeyError};
use crate::budget::{Budget, machine_bytes};
use crate::config::{self, BrokerConfig, InitialUser, ListenerSettings, METRICS};
use crate::controller::{self, ControllerError, ControllerHandle, Registration};
use crate::disk::{Disk, RealDisk, read_file};
use crate::limits::{MACHINE_BYTES_UNKNOWN, OPEN_FILES_FEW, OpenFiles, QUORUM_FEED_MAX};
use crate::log::{DirConfig, DirHandle, Found, Identity, LogError, Mode, Shutdown, Started};
use crate::metadata::{self, Image, MetadataHandle};
use crate::metrics::Metrics;
use crate::metrics::disk::TimedDisk;
use crate::net::door::Door;
use crate::net::server::{Limits, Server};
use crate::net::tcp::TcpListener;
use crate::net::tls::TlsDoor;
use crate::net::{Listener, http};
use crate::partition::{Cleaner, Partitions};
use crate::quorum::{self, QuorumConfig, QuorumHandle};
use crate::quota::QuotaHandle;
use coordinators::Coordinators;
pub use error::StartError;
use teller::Teller;

/// The directory of the quorum's files, in the directory of all data.
const QUORUM_DIR: &str = "quorum";

/// The file that says whose the directory of all data is.
const META_FILE: &str = "meta.properties";
/// 64 KiB: more than it ever holds.
const META_BYTES_MAX: u64 = 64 << 10;

/// How long connections may take to finish what they have begun when the broker stops.
const DRAIN_MAX: Duration = Duration::from_secs(10);

/// How long requests may go on waiting for records when the broker stops.
const WAITING_MAX: Duration = Duration::from_millis(200);

/// What a broker is given of the world.
pub struct Outside {
    /// Where data is kept.
    pub disk: Arc<dyn Disk>,
    /// Where connections come from; `None`: TCP, as the settings say.
    pub listeners: Option<Vec<Box<dyn Listener>>>,
    /// What time it is.
    pub clock: Clock,
    /// Where all chance comes from that others may guess.
    pub seed: u64,
    /// Where ids come from that they may not.
    pub ids: Lot,
    /// Where the log's writer runs.
    pub writer: Mode,
    /// What this machine is called: told to clients where a listener has no host of its own.
    pub hostname: String,
}

impl Outside {
    /// The real world: files, TCP, the machine's clock, a seed that no one knows.
    #[must_use]
    pub fn real() -> Self {
        raise_file_limit();
        Self {
            disk: Arc::new(RealDisk),
            listeners: None,
            clock: client::time::real_clock(),
            seed: RandomState::new().hash_one(std::process::id()),
            ids: Lot::new(&auth::shell::chance()),
            writer: Mode::Thread,
            hostname: hostname(),
        }
    }

    /// The real world but for the network: connections come from `listeners` alone.
    #[must_use]
    pub fn embedded(listeners: Vec<Box<dyn Listener>>) -> Self {
        Self { listeners: Some(listeners), ..Self::real() }
    }
}

impl std::fmt::Debug for Outside {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outside").field("disk", &self.disk).field("seed", &self.seed).finish()
    }
}

/// Lets this process have as many files open as it may: each log that is written has up to two.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    // A refusal leaves what there was.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

fn hostname() -> String {
    let read = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = read.trim();
    if name.is_empty() { "localhost".to_owned() } else { name.to_owned() }
}

/// A broker of the log.
#[derive(Debug)]
pub struct Broker;

impl Broker {
    /// Starts a broker; clients can connect when this returns. To be called within a runtime.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(config: BrokerConfig, outside: Outside) -> Result<BrokerHandle, StartError> {
        let Outside { disk, listeners, clock, seed, ids, writer, hostname } = outside;
        let config = Arc::new(config);
        let mut rng = Rng::new(seed);
        let listening = Listening::open(&config, listeners, &*disk).await?;
        let counted = Arc::new(Metrics::default());
        let trail = Trail::start(clock.clone());
        let disk: Arc<dyn Disk> = Arc::new(TimedDisk::new(disk, counted.clone(), clock.clone()));
        let identity = identity(&config, &*disk, &mut ids.of("identity"))?;
        let cluster_id = identity.cluster_id.clone();
        let (dir, found) = open_dir(&config, &disk, identity, (writer, &listening.log_files))?;
        let rooms = Rooms::start(&config, disk.clone(), &cluster_id, (&mut rng, &ids)).await?;
        listening.know(&rooms.metadata, &*disk, &config.data_dir())?;
        // Logs beside an empty metadata log: someone took that away. Nothing is deleted then.
        let is_new = rooms.metadata.image().end == Offset::ZERO;
        let told = config.advertised(&listening.bound, &hostname);
        let epoch = rooms.join(&config, told, &listening.stores(), ids.of("runs")).await?;
        let found = if is_new { Vec::new() } else { found.partitions };
        let image = rooms.metadata.clone();
        let partitions =
            Partitions::start(config.clone(), image, dir.clone(), found, clock.clone()).await;
        let cleaner = Cleaner::start(partitions.clone(), clock.clone(), rng.fork(), writer)?;
        let (budget, quotas) = (budget(&config), QuotaHandle::start(&config, &rooms.metadata));
        let (coordination, coordinators) =
            coordinators::start(&config, &rooms, &partitions, &clock, epoch, (&ids, &budget));
        let api = Api::new(
            machine(&config, &listening, &disk),
            rooms.metadata.clone(),
            rooms.controller.clone(),
            partitions.clone(),
            coordination,
            Meters {
                quotas: quotas.clone(),
                metrics: counted.clone(),
                trail: trail.clone(),
                budget: budget.clone(),
            },
            ids.of("sessions of fetches"),
        );
        let teller = Teller {
            config: config.clone(),
            counted,
            trail: trail.clone(),
            budget: budget.clone(),
            rooms: rooms.clone(),
            partitions: partitions.clone(),
            groups: coordinators.groups(),
            txns: coordinators.txns(),
            dir: dir.clone(),
            disk,
        };
        let endpoints = listening.endpoints();
        let metrics =
            listening.metrics.map(|at| MetricsPort::start(at, (trail, clock.clone()), teller));
        let limits = Limits { config: rooms.metadata.broker_config(&config), quotas, budget };
        let server = Server::start((listening.doors, listening.files), &limits, &api, &clock);
        info!(node_id = config.node_id, "broker started");
        Ok(BrokerHandle {
            endpoints,
            epoch,
            server,
            #[cfg(test)]
            api,
            _coordinators: coordinators,
            cleaner,
            partitions,
            rooms,
            dir,
            metrics,
        })
    }
}

/// Where connections will come from: bound before anything else, so that a port that is taken or a
/// certificate that cannot be used costs nothing; not accepted from before everything else is there.
struct Listening {
    doors: Vec<(Box<dyn Listener>, Door)>,
    /// What their connections may have open: shared with logs, where they are files at all.
    files: Arc<OpenFiles>,
    /// What logs may have open.
    log_files: Arc<OpenFiles>,
    metrics: Option<(TcpListener, http::Guard)>,
    /// The listeners as the settings name them, with the ports that they really have.
    bound: Vec<config::Endpoint>,
    /// To be set before the first client comes.
    later: Arc<Later>,
}

impl Listening {
    async fn open(
        config: &Arc<BrokerConfig>,
        given: Option<Vec<Box<dyn Listener>>>,
        disk: &dyn Disk,
    ) -> Result<Self, StartError> {
        let log_files = share_files(disk);
        let files = if given.is_none() { log_files.clone() } else { OpenFiles::unbounded() };
        let listeners = match given {
            Some(listeners) => listeners,
            None => bind(config).await?,
        };
        let later = Arc::default();
        let metrics = bind_metrics(config, &later).await?;
        let bound = listeners.iter().map(|listener| bound(&**listener)).collect();
        let doors = doors(config, listeners, &later).await?;
        Ok(Self { doors, files, log_files, metrics, bound, later })
    }

    /// From here on `metadata` say who may authenticate. By SCRAM, names that do not exist are challenged
    /// as by the last run of the broker in `dir`.
    fn know(
        &self,
        metadata: &MetadataHandle,
        disk: &dyn Disk,
        dir: &Path,
    ) -> Result<(), DecoyKeyError> {
        let _ = self.later.metadata.set(metadata.clone());
        let sasl = self.doors.iter().filter_map(|(_, door)| door.sasl.as_ref());
        let mut mechanisms = sasl.flat_map(|it| it.mechanisms.keys());
        if mechanisms.any(|it| matches!(it, Mechanism::Scram(_))) {
            let _ = self.later.decoy_key.set(auth::shell::decoy_key(disk, dir)?);
        }
        Ok(())
    }

    /// The certificates of all listeners.
    fn stores(&self) -> Stores {
        let of_metrics = self.metrics.iter().filter_map(|(_, guard)| guard.store());
        self.doors.iter().filter_map(|(_, door)| door.store()).chain(of_metrics).collect()
    }

    fn endpoints(&self) -> Vec<Endpoint> {
        self.doors.iter().map(|(listener, _)| listener.endpoint()).collect()
    }
}

/// A port that tells metrics and health.
#[derive(Debug)]
struct MetricsPort {
    endpoint: Endpoint,
    _port: http::Port,
}

impl MetricsPort {
    fn start(at: (TcpListener, http::Guard), log: (Trail, Clock), teller: Teller) -> Self {
        let (listener, guard) = at;
        let endpoint = listener.endpoint();
        let port = http::start(Box::new(listener), guard, log, Arc::new(teller));
        Self { endpoint, _port: port }
    }
}

/// The rooms of metadata, wired together.
#[derive(Clone, Debug)]
struct Rooms {
    metadata: MetadataHandle,
    quorum: QuorumHandle,
    controller: ControllerHandle,
}

impl Rooms {
    async fn start(
        config: &Arc<BrokerConfig>,
        disk: Arc<dyn Disk>,
        cluster_id: &str,
        (rng, ids): (&mut Rng, &Lot),
    ) -> Result<Self, StartError> {
        let (feed, fed) = mpsc::channel(QUORUM_FEED_MAX);
        let metadata = metadata::start(Image::empty(cluster_id), fed);
        let quorum = QuorumConfig {
            node_id: BrokerId(config.node_id),
            dir: config.data_dir().join(QUORUM_DIR),
            seed: rng.next_u64(),
        };
        let quorum = quorum::start(quorum, disk, feed).await?;
        let chance = (rng.next_u64(), ids.of("topics"));
        let controller =
            controller::start(config.clone(), chance, quorum.clone(), metadata.clone());
        Ok(Self { metadata, quorum, controller })
    }

    /// Makes this run of the broker known to the cluster, with the users that are to exist from the
    /// first start on, and shows the certificates that were altered since.
    async fn join(
        &self,
        config: &BrokerConfig,
        told: Vec<config::Endpoint>,
        stores: &Stores,
        ids: Lot,
    ) -> Result<BrokerEpoch, ControllerError> {
        let registration = registration(config, told, ids);
        let epoch = self.controller.register_broker(registration).await?;
        ensure_users(config, &self.controller).await?;
        // All that was ever altered is known by now.
        stores.reload().await;
        Ok(epoch)
    }
}

/// A broker that runs. Dropping it ends it as a crash would; see [`BrokerHandle::shutdown`].
#[derive(Debug)]
pub struct BrokerHandle {
    endpoints: Vec<Endpoint>,
    epoch: BrokerEpoch,
    server: Server,
    #[cfg(test)]
    api: Api,
    _coordinators: Coordinators,
    cleaner: Cleaner,
    partitions: Partitions,
    rooms: Rooms,
    dir: DirHandle,
    metrics: Option<MetricsPort>,
}

impl BrokerHandle {
    /// Where metrics and health are told over HTTP, with the port that it really has. `None`: they
    /// are not.
    #[must_use]
    pub fn metrics_endpoint(&self) -> Option<&Endpoint> {
        self.metrics.as_ref().map(|port| &port.endpoint)
    }

    /// Where it listens, with the ports that it really has, in the order of its listeners.
    #[must_use]
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// The id of its cluster: the setting `cluster.id`, or what the first start in its directory
    /// made up.
    #[must_use]
    pub fn cluster_id(&self) -> Arc<str> {
        Arc::clone(&self.rooms.metadata.image().cluster_id)
    }

    /// The APIs, for tests of what connections cannot see.
    #[cfg(test)]
    pub(crate) fn api(&self) -> &Api {
        &self.api
    }

    /// The controller, for tests that need topics.
    #[cfg(test)]
    pub(crate) fn controller(&self) -> &ControllerHandle {
        &self.rooms.controller
    }

    /// Resolves when the broker cannot go on: its disk has failed. Shut it down then.
    pub async fn closed(&self) {
        let mut health = self.dir.health();
        // The directory's writer may also have ended.
        let _ = health.wait_for(Option::is_some).await;
    }

    /// Ends the broker in good order: connections finish what they have begun, logs are closed,
    /// and what was written is marked as complete.
    ///
    /// # Errors
    /// When not all could be made durable. The broker has ended nevertheless.
    pub async fn shutdown(self) -> Result<(), LogError> {
        let Self { server, cleaner, partitions, rooms, dir, epoch, .. } = self;
        let stop = async {
            cleaner.stop().await;
            // Requests that wait for records are answered when their partitions stop.
            tokio::time::sleep(WAITING_MAX).await;
            partitions.stop().await;
        };
        tokio::join!(server.drain(DRAIN_MAX), stop);
        rooms.quorum.shutdown().await;
        dir.shutdown(Some(epoch)).await?;
        info!("broker stopped");
        Ok(())
    }
}

async fn bind(config: &BrokerConfig) -> Result<Vec<Box<dyn Listener>>, StartError> {
    let mut listeners: Vec<Box<dyn Listener>> = Vec::new();
    for endpoint in config.listen_on() {
        let bound = TcpListener::bind(&endpoint.listener, &endpoint.host, endpoint.port).await;
        listeners.push(Box::new(bound.map_err(|source| StartError::Listen { endpoint, source })?));
    }
    Ok(listeners)
}

/// Makes the users of SCRAM that are to exist from the first start on.
async fn ensure_users(
    config: &BrokerConfig,
    controller: &ControllerHandle,
) -> Result<(), ControllerError> {
    // Refused when the settings were read, should it name none.
    let users = config.initial_users().unwrap_or_default().into_iter();
    let made = users.map(|user| {
        let InitialUser { hash, name, password, iterations } = user;
        let credential = Credential::of(hash, &password, &auth::shell::salt(), iterations);
        (hash, name, credential)
    });
    let made: Vec<_> = made.collect();
    if made.is_empty() { Ok(()) } else { controller.ensure_credentials(made).await }
}

/// Gives each listener its door. What comes `later` is there before the first client is.
async fn doors(
    config: &Arc<BrokerConfig>,
    listeners: Vec<Box<dyn Listener>>,
    later: &Arc<Later>,
) -> Result<Vec<(Box<dyn Listener>, Door)>, StartError> {
    let mut opened = Vec::new();
    for listener in listeners {
        let name = listener.name().to_owned();
        let settings = config.listener(&name)?;
        if settings.protocol == SecurityProtocol::SaslPlaintext
            && settings.mechanisms.contains_key(&Mechanism::Plain)
        {
            warn!(listener = name, "passwords of SASL PLAIN come in clear: use SASL_SSL");
        }
        let sasl = auth::shell::sasl(&settings, later).await;
        let sasl = sasl.map_err(|source| StartError::Keys { listener: name.clone(), source })?;
        let store = store(config, &name, &settings, later);
        let store = store.map_err(|source| StartError::Tls { listener: name, source })?;
        let store = store.map(Arc::new);
        opened.push((listener, Door::new(settings.protocol, store, sasl, &settings.config)));
    }
    Ok(opened)
}

/// What a listener shows of itself. `None`: it does not encrypt.
fn store(
    config: &Arc<BrokerConfig>,
    listener: &str,
    settings: &ListenerSettings,
    later: &Arc<Later>,
) -> Result<Option<Store>, TlsError> {
    let Some(tls) = &settings.tls else { return Ok(None) };
    let (start, later, name) = (config.clone(), later.clone(), listener.to_owned());
    let now = move || match later.metadata.get() {
        Some(metadata) => metadata.image().broker_config(&start).listener(&name),
        None => start.listener(&name),
    };
    Store::start(listener, tls, &settings.config, Box::new(now)).map(Some)
}

/// What the broker runs on: its certificates, and the volume of its directory of all data.
fn machine(config: &Arc<BrokerConfig>, listening: &Listening, disk: &Arc<dyn Disk>) -> Machine {
    let (dir, disk) = (config.data_dir(), disk.clone());
    let volume = Volume::new(move || Ok((disk.total_bytes(&dir)?, disk.free_bytes(&dir)?)));
    Machine { config: config.clone(), stores: listening.stores(), volume }
}

/// Where metrics are told, and to whom, if the settings say so.
async fn bind_metrics(
    config: &Arc<BrokerConfig>,
    later: &Arc<Later>,
) -> Result<Option<(TcpListener, http::Guard)>, StartError> {
    let Some(endpoint) = config.metrics_endpoint() else { return Ok(None) };
    let security = config.metrics_security()?;
    let store = security.map(|settings| store(config, METRICS, &settings, later));
    let store = store
        .transpose()
        .map_err(|source| StartError::Tls { listener: METRICS.to_owned(), source })?;
    let tls = store.flatten().map(|store| TlsDoor::new(Arc::new(store)));
    let bound = TcpListener::bind(&endpoint.listener, &endpoint.host, endpoint.port).await;
    let bound = bound.map_err(|source| StartError::Listen { endpoint, source })?;
    Ok(Some((bound, http::Guard::new(config, tls))))
}

/// The files that this process may have open, for logs and connections to share.
fn share_files(disk: &dyn Disk) -> Arc<OpenFiles> {
    let most = disk.open_files_max();
    if most < OPEN_FILES_FEW {
        warn!(most, "few files may be open: raise the hard limit (RLIMIT_NOFILE)");
    } else {
        info!(most, "files that may be open are shared between logs and connections");
    }
    OpenFiles::new(most)
}

/// Opens the directory of all data.
fn open_dir(
    config: &BrokerConfig,
    disk: &Arc<dyn Disk>,
    identity: Identity,
    (mode, files): (Mode, &Arc<OpenFiles>),
) -> Result<(DirHandle, Found), LogError> {
    let files = Arc::clone(files);
    let dir_config = DirConfig { path: config.data_dir(), identity, mode, files };
    let Started { handle, found } = DirHandle::start(Arc::clone(disk), dir_config)?;
    if found.shutdown == Shutdown::Unclean && !found.partitions.is_empty() {
        info!("the last shutdown was not clean: logs are recovered as they are opened");
    }
    Ok((handle, found))
}

/// How much memory clients may take: as the settings say, or a quarter of what there is.
fn budget(config: &BrokerConfig) -> Budget {
    let bytes = config
        .memory_budget_bytes
        .unwrap_or_else(|| machine_bytes().unwrap_or(MACHINE_BYTES_UNKNOWN) / 4);
    Budget::new(bytes, config.queued_request_bytes_max())
}

/// How this run of the broker joins the cluster.
fn registration(
    config: &BrokerConfig,
    endpoints: Vec<config::Endpoint>,
    mut ids: Lot,
) -> Registration {
    Registration {
        id: BrokerId(config.node_id),
        incarnation_id: TopicId(ids.next_id()),
        endpoints,
        rack: config.broker_rack.clone(),
    }
}

/// Whose the directory of all data is, or will be.
fn identity(config: &BrokerConfig, disk: &dyn Disk, ids: &mut Lot) -> Result<Identity, StartError> {
    let cluster_id = match &config.cluster_id {
        Some(id) => id.clone(),
        None => stored_cluster_id(disk, &config.data_dir())?
            .unwrap_or_else(|| TopicId(ids.next_id()).to_string()),
    };
    let (node_id, directory_id) = (BrokerId(config.node_id), ids.next_id());
    Ok(Identity { cluster_id, node_id, directory_id })
}

/// A listener as the settings name it, with the port that it really has.
fn bound(listener: &dyn Listener) -> config::Endpoint {
    let Endpoint { host, port } = listener.endpoint();
    config::Endpoint { listener: listener.name().to_owned(), host: host.to_string(), port }
}

/// The id of the cluster that the directory at `path` belongs to. `None`: it is new.
fn stored_cluster_id(disk: &dyn Disk, path: &Path) -> Result<Option<String>, StartError> {
    let path = path.join(META_FILE);
    let text = match read_file(disk, &path, META_BYTES_MAX) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(StartError::File { path, source }),
    };
    let text = String::from_utf8_lossy(&text);
    let id = text.lines().find_map(|line| line.strip_prefix("cluster.id="));
    Ok(id.map(|id| id.trim().to_owned()))
}
