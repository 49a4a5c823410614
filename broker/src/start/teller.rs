//! What is told at the port of metrics: what was counted, and what the rooms say when asked.
//!
//! Sizes and counts are gathered when somebody reads them and at no other time. Whoever does not
//! answer in time is left out of the page rather than hold it up. A broker is ready while its log
//! directory works and the cluster has a controller. Shell.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use protocol::ids::BrokerId;

use super::Rooms;
use crate::auth::trail::Trail;
use crate::budget::Budget;
use crate::config::BrokerConfig;
use crate::disk::Disk;
use crate::group::{self, Groups};
use crate::log::DirHandle;
use crate::metadata::Image;
use crate::metrics::{self, Metrics, Page, write_counters};
use crate::net::http::{Later, Tell};
use crate::partition::{PartitionHandle, Partitions};
use crate::txn::{self, Txns};

/// How long rooms may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// What the kernel counts the time of processes in, per second: the same on every Linux.
const TICKS_PER_SECOND: u64 = 100;

/// Access to all that is told. Cheap to clone.
#[derive(Clone)]
pub(super) struct Teller {
    pub(super) config: Arc<BrokerConfig>,
    pub(super) counted: Arc<Metrics>,
    pub(super) trail: Trail,
    pub(super) budget: Budget,
    pub(super) rooms: Rooms,
    pub(super) partitions: Partitions,
    pub(super) groups: Groups,
    pub(super) txns: Txns,
    pub(super) dir: DirHandle,
    pub(super) disk: Arc<dyn Disk>,
}

impl Tell for Teller {
    fn metrics(&self) -> Later<String> {
        Box::pin(self.clone().page())
    }

    fn unready(&self) -> Option<String> {
        if let Some(error) = &*self.dir.health().borrow() {
            return Some(format!("the log directory failed: {error}"));
        }
        let has_controller = self.rooms.controller.active() != BrokerId::NONE;
        (!has_controller).then(|| "there is no active controller".to_owned())
    }
}

impl Teller {
    async fn page(self) -> String {
        let mut page = Page::default();
        write_counters(&mut page, &self.counted);
        let (audited, withheld) = self.trail.counts();
        page.each(metrics::AUDITED, "event", audited);
        page.one(metrics::AUDIT_WITHHELD, withheld);
        self.write_budget(&mut page);
        let image = self.rooms.metadata.image();
        let led = self.partitions.all();
        self.write_cluster(&mut page, &image, &led);
        let sizes = tokio::time::timeout(PATIENCE, sizes(&led)).await.unwrap_or_default();
        page.each(metrics::LOG_SIZE, "topic", sizes.iter().map(|(topic, size)| (&**topic, size)));
        let failed = u8::from(self.dir.health().borrow().is_some());
        page.one(metrics::OFFLINE_DIRS, failed);
        if let Ok(free) = self.disk.free_bytes(&self.config.data_dir()) {
            page.one(metrics::FREE_BYTES, free);
        }
        let states = tokio::time::timeout(PATIENCE, self.group_states()).await.unwrap_or_default();
        page.each(metrics::GROUPS, "state", states);
        let states = tokio::time::timeout(PATIENCE, self.txn_states()).await.unwrap_or_default();
        page.each(metrics::TRANSACTIONS, "state", states);
        write_process(&mut page);
        page.each(metrics::BUILD, "version", [(env!("CARGO_PKG_VERSION"), 1)]);
        page.into_text()
    }

    fn write_budget(&self, page: &mut Page) {
        let budget = &self.budget;
        let used = budget.used();
        page.one(metrics::MEMORY_TOTAL, budget.total());
        page.one(metrics::MEMORY_USED, used);
        page.one(metrics::MEMORY_AVAILABLE, budget.total().saturating_sub(used));
        page.one(metrics::MEMORY_WAITING, budget.waiting());
        page.one(metrics::MEMORY_WAITS, budget.waits());
        page.one(metrics::MEMORY_CLOSED, budget.closed_slow());
    }

    fn write_cluster(&self, page: &mut Page, image: &Image, led: &[PartitionHandle]) {
        let own = BrokerId(self.config.node_id);
        let partitions = || image.topics().flat_map(|topic| &topic.partitions);
        let is_held = |it: &&crate::metadata::Partition| it.replicas.contains(&own);
        page.one(metrics::PARTITIONS, partitions().filter(is_held).count());
        page.one(metrics::LEADERS, led.len());
        let in_sync = |handle: &PartitionHandle| {
            let at = handle.partition();
            let partition = image.partition(&at.topic, at.partition)?;
            Some((partition.isr.len(), partition.replicas.len()))
        };
        let is_under_min = |handle: &&PartitionHandle| {
            let min = usize::try_from(handle.config().min_insync_replicas).unwrap_or(1);
            in_sync(handle).is_some_and(|(isr, _)| isr < min)
        };
        let is_under_replicated =
            |handle: &&PartitionHandle| in_sync(handle).is_some_and(|(isr, all)| isr < all);
        page.one(metrics::UNDER_MIN_ISR, led.iter().filter(is_under_min).count());
        page.one(metrics::UNDER_REPLICATED, led.iter().filter(is_under_replicated).count());
        let leaderless = partitions().filter(|it| it.leader == BrokerId::NONE).count();
        page.one(metrics::OFFLINE_PARTITIONS, leaderless);
        page.one(metrics::TOPICS, image.topics().count());
        page.one(metrics::ACTIVE_CONTROLLER, u8::from(self.rooms.controller.active() == own));
        page.one(metrics::METADATA_END, image.end);
    }

    async fn group_states(&self) -> BTreeMap<&'static str, u64> {
        let mut states = BTreeMap::new();
        for reply in self.groups.call_all(|| group::Request::List).await {
            let group::Reply::Listed(shard) = reply else { continue };
            for listed in shard {
                *states.entry(listed.state).or_default() += 1;
            }
        }
        states
    }

    async fn txn_states(&self) -> BTreeMap<&'static str, u64> {
        let all = Arc::new(txn::Filter::default());
        let mut states = BTreeMap::new();
        for reply in self.txns.call_all(|| txn::Request::List(Arc::clone(&all))).await {
            let txn::Reply::Listed(shard) = reply else { continue };
            for (_, _, status) in shard {
                *states.entry(status.name()).or_default() += 1;
            }
        }
        states
    }
}

/// Bytes of logs, by topic.
async fn sizes(led: &[PartitionHandle]) -> BTreeMap<Arc<str>, u64> {
    let mut sizes = BTreeMap::<Arc<str>, u64>::new();
    for handle in led {
        if let Ok(bytes) = handle.size_bytes().await {
            let topic = sizes.entry(handle.partition().topic.clone()).or_default();
            *topic = topic.saturating_add(bytes);
        }
    }
    sizes
}

/// What the kernel says of this process; nothing where there is no /proc.
fn write_process(page: &mut Page) {
    let read = |name: &str| std::fs::read_to_string(format!("/proc/self/{name}")).ok();
    let resident = read("status").and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()
    });
    if let Some(kib) = resident {
        page.one(metrics::RESIDENT, kib.saturating_mul(1024));
    }
    let ticks = read("stat").and_then(|text| {
        // The name in brackets may hold anything; user and kernel time are 12th and 13th after it.
        let (_, rest) = text.rsplit_once(')')?;
        let mut times = rest.split_whitespace().skip(11);
        let (user, kernel) = (times.next()?.parse::<u64>().ok()?, times.next()?.parse().ok()?);
        Some(user.saturating_add(kernel))
    });
    if let Some(ticks) = ticks {
        let rest = Duration::from_millis(ticks % TICKS_PER_SECOND * (1000 / TICKS_PER_SECOND));
        let taken = Duration::from_secs(ticks / TICKS_PER_SECOND).saturating_add(rest);
        page.one(metrics::CPU, metrics::seconds(taken));
    }
    if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
        page.one(metrics::OPEN_FILES, open.count());
    }
}
