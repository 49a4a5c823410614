//! One simulated world: a machine with a broker on it, a network, a clock, and what goes wrong.
//!
//! Everything follows from the seed. A crash takes the broker and its connections, and of the disk
//! what was not synced (a power cut) or nothing (a kill); then the machine comes back and the same
//! broker starts over what is left.
//!
//! Shell.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use broker::config::BrokerConfig;
use broker::disk::SimDisk;
use broker::net::Listener;
use broker::net::accepted::Accepted;
use broker::{Broker, BrokerHandle, Mode, Outside};
use client::bootstrap::Bootstrap;
use client::net::Endpoint;
use protocol::rng::{Lot, Rng};
use protocol::time::{Clock, Timestamp};

use super::mounted::Mounted;
use super::net::{SimListener, SimNet, Weather};

/// When the world begins: 2026-01-01 00:00 UTC.
const BEGINNING: Timestamp = Timestamp(1_767_225_600_000);

/// What may go wrong, and how often.
#[derive(Clone, Copy, Debug)]
pub struct Faults {
    /// Between two faults, on average.
    pub every: Duration,
    /// One fault in so many is a power cut; 0: none.
    pub power_cut_one_in: u64,
    /// One fault in so many is a killed broker; 0: none.
    pub kill_one_in: u64,
}

impl Faults {
    /// Drawn from `rng`: each seed has its own mixture, some have none of a kind.
    pub fn draw(rng: &mut Rng) -> Self {
        Self {
            every: Duration::from_millis(200 + rng.below(3000)),
            power_cut_one_in: [0, 2, 4][usize::try_from(rng.below(3)).expect("below 3")],
            kill_one_in: [0, 2, 4][usize::try_from(rng.below(3)).expect("below 3")],
        }
    }
}

/// The world.
pub struct World {
    /// Where further chance comes from.
    pub rng: Rng,
    /// What time it is.
    pub clock: Clock,
    /// The network.
    pub net: SimNet,
    /// The broker's disk.
    pub disk: SimDisk,
    endpoint: Endpoint,
    settings: Vec<(String, String)>,
    broker: Option<BrokerHandle>,
    crashes: u64,
    /// The disk will die, or has: the machine must be started anew.
    is_doomed: bool,
    /// False for all that a crash has ended.
    is_alive: Arc<AtomicBool>,
}

struct SimAccept(SimListener);

#[async_trait::async_trait]
impl Listener for SimAccept {
    fn name(&self) -> &str {
        broker::net::PLAINTEXT
    }

    fn endpoint(&self) -> Endpoint {
        self.0.endpoint().clone()
    }

    async fn accept(&mut self) -> std::io::Result<(Accepted, Endpoint)> {
        let (stream, peer) = self.0.accept().await?;
        Ok((stream.into(), peer))
    }
}

/// Runs `story` in the world of `seed`, to its end; also gives the trace of the run.
pub fn run<T>(
    seed: u64,
    settings: &[(&str, &str)],
    story: impl AsyncFnOnce(&mut World) -> T,
) -> (T, u64) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without I/O needs nothing of the machine");
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        let mut world = World::new(seed, settings);
        let told = story(&mut world).await;
        (told, world.net.trace())
    })
}

impl World {
    fn new(seed: u64, settings: &[(&str, &str)]) -> Self {
        let mut rng = Rng::new(seed);
        let clock = client::time::virtual_clock(BEGINNING);
        let net = SimNet::new(rng.next_u64(), Weather::default(), clock.clone());
        let disk = SimDisk::new(rng.next_u64());
        let own = [("log.dir", "/data"), ("group.initial.rebalance.delay.ms", "0")];
        let settings = own.iter().chain(settings).map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        let endpoint = Endpoint::new("broker", 9092);
        let settings = settings.collect();
        Self {
            rng,
            clock,
            net,
            disk,
            endpoint,
            settings,
            broker: None,
            crashes: 0,
            is_doomed: false,
            is_alive: Arc::new(AtomicBool::new(true)),
        }
    }

    /// Starts the broker over what the disk holds.
    ///
    /// # Errors
    /// When it does not start: a defect, whatever the disk has been through.
    pub async fn start_broker(&mut self) -> anyhow::Result<()> {
        let config = BrokerConfig::from_pairs(self.settings.clone()).context("settings")?;
        let listener = SimAccept(self.net.listen(self.endpoint.clone()));
        let seed = self.rng.next_u64();
        let outside = Outside {
            disk: Arc::new(Mounted::new(self.disk.clone(), Arc::clone(&self.is_alive))),
            listeners: Some(vec![Box::new(listener)]),
            clock: self.clock.clone(),
            seed,
            ids: Lot::of_seed(seed),
            writer: Mode::Inline,
            hostname: "broker".to_owned(),
        };
        self.broker = Some(Broker::start(config, outside).await.context("broker")?);
        Ok(())
    }

    /// The broker is gone at once: killed, or with its power cut.
    pub fn crash(&mut self, power_cut: bool) {
        self.crashes += 1;
        self.is_doomed = false;
        self.is_alive.store(false, Ordering::Relaxed);
        self.is_alive = Arc::new(AtomicBool::new(true));
        self.net.down(&self.endpoint);
        if power_cut {
            self.disk.crash();
        } else {
            self.disk.kill();
        }
        // Its tasks end with their handle; what they still try meets a dead disk and network.
        drop(self.broker.take());
    }

    /// Makes sure that the broker runs: the last fault may have left it down.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn recover(&mut self) -> anyhow::Result<()> {
        if self.is_doomed {
            self.crash(true);
        }
        match self.broker {
            Some(_) => Ok(()),
            None => self.start_broker().await,
        }
    }

    /// How often the broker has crashed.
    #[must_use]
    pub fn crashes(&self) -> u64 {
        self.crashes
    }

    /// Stops the broker in good order.
    ///
    /// # Errors
    /// When it could not make everything durable.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        let broker = self.broker.take().context("the broker runs")?;
        broker.shutdown().await.context("shutdown")?;
        self.net.down(&self.endpoint);
        Ok(())
    }

    /// How a client of this world finds the broker.
    pub fn bootstrap(&mut self, client_id: &str) -> Bootstrap {
        let connector = Arc::new(self.net.clone());
        let seed = self.rng.next_u64();
        Bootstrap::new([self.endpoint.clone()], connector, self.clock.clone(), seed)
            .client_id(client_id)
    }

    /// The power fails in the middle of some write or sync to come; what the broker still says
    /// until the machine is quite dead may reach its clients.
    async fn die_at_the_disk(&mut self) {
        self.is_doomed = true;
        self.disk.crash_at(1 + self.rng.below(60));
        for _ in 0..200 {
            tokio::time::sleep(Duration::from_micros(self.rng.below(6000))).await;
            if self.disk.is_dead() {
                return;
            }
        }
    }

    /// Lets things go wrong, for as long as it is polled.
    ///
    /// # Errors
    /// When the broker does not come back.
    pub async fn suffer(&mut self, faults: Faults) -> anyhow::Result<std::convert::Infallible> {
        loop {
            let spread = u64::try_from(faults.every.as_millis() * 2).unwrap_or(u64::MAX);
            tokio::time::sleep(Duration::from_millis(1 + self.rng.below(spread))).await;
            let power_cut = self.rng.chance(faults.power_cut_one_in);
            let kill = self.rng.chance(faults.kill_one_in);
            if power_cut || kill {
                if power_cut && self.rng.chance(2) {
                    self.die_at_the_disk().await;
                }
                self.crash(power_cut);
                tokio::time::sleep(Duration::from_millis(self.rng.below(500))).await;
                self.start_broker().await?;
            } else {
                self.net.cut_one();
            }
        }
    }
}
