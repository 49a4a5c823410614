//! Consumers of both protocols share a topic while their broker and their own lives are cut short.
//!
//! Consumers come, go, and are dropped as if they had been killed; each commits now and then what it
//! has read. Whoever takes a partition over must not begin before what was acknowledged to have been
//! committed by then, and in the end the group has read whatever was acknowledged to its writer.
//!
//! Shell.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use client::bootstrap::Bootstrap;
use client::config::{Assignor, ConsumerConfig, GroupProtocol, OffsetReset};
use client::consumer::{Consumer, FetchedBatch, Polled};
use harness::sim::world::World;
use protocol::ids::{Offset, TopicPartition};
use protocol::rng::Rng;

use super::{PATIENCE, TOPIC, amid_faults, create_topic, write_chunks};

/// Between two chunks, at most: the consumers have time to come and go.
const PAUSE_MS: u64 = 3_000;
/// Consumers that live at the same time, or try to.
const CONSUMERS: u64 = 3;

/// What all consumers have seen together.
#[derive(Default)]
struct Book {
    read: BTreeSet<String>,
    /// What was acknowledged to be committed.
    committed: BTreeMap<TopicPartition, Offset>,
    /// How often partitions were taken over.
    assignments: u64,
    broken: Option<String>,
}

/// The story.
pub(crate) async fn share(world: &mut World) -> anyhow::Result<()> {
    world.start_broker().await?;
    create_topic(world.bootstrap("admin"), TOPIC).await?;
    let (writing, input) = (world.bootstrap("writer"), world.rng.fork());
    let book = RefCell::new(Book::default());
    let mut lives = Vec::new();
    for number in 0..CONSUMERS {
        let (bootstrap, rng) = (world.bootstrap(&format!("c{number}")), world.rng.fork());
        lives.push(Box::pin(live_and_die(bootstrap, rng, &book)));
    }
    let lives = futures::future::select_all(lives);
    tokio::pin!(lives);
    let work = async {
        tokio::select! {
            biased;
            history = write_chunks(writing, input, PAUSE_MS) => history,
            (never, _, _) = &mut lives => match never {},
        }
    };
    let history = Box::pin(amid_faults(world, work)).await?;
    ensure!(0 < history.kept(), "nothing was acknowledged: the story proves nothing");
    let all_is_read = async {
        while !history.kept_values().all(|it| book.borrow().read.contains(it)) {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    let read = async {
        tokio::select! {
            biased;
            () = all_is_read => {}
            (never, _, _) = &mut lives => match never {},
        }
    };
    let in_time = tokio::time::timeout(PATIENCE, read).await;
    {
        let book = book.borrow();
        if let Some(broken) = &book.broken {
            bail!("{broken} (after {} crashes)", world.crashes());
        }
        in_time.context("something that was acknowledged is never read")?;
        ensure!(0 < book.assignments, "nobody was given a partition: the story proves nothing");
    }
    world.stop().await
}

/// One consumer after another, of either protocol.
async fn live_and_die(bootstrap: Bootstrap, mut rng: Rng, book: &RefCell<Book>) -> Infallible {
    loop {
        let group_protocol =
            if rng.chance(3) { GroupProtocol::Classic } else { GroupProtocol::Consumer };
        let config = ConsumerConfig {
            group_id: Some("readers".to_owned()),
            group_protocol,
            assignor: Assignor::CooperativeSticky,
            auto_offset_reset: OffsetReset::Earliest,
            enable_auto_commit: false,
            request_timeout: Duration::from_secs(5),
            default_api_timeout: Duration::from_secs(20),
            ..ConsumerConfig::default()
        };
        if let Ok(consumer) = Consumer::connect(bootstrap.clone(), config).await {
            live(consumer, &mut rng, book).await;
        }
        tokio::time::sleep(Duration::from_millis(rng.below(3000))).await;
    }
}

async fn live(mut consumer: Consumer, rng: &mut Rng, book: &RefCell<Book>) {
    consumer.subscribe([TOPIC]);
    let mut floors: BTreeMap<TopicPartition, Offset> = BTreeMap::new();
    for _ in 0..20 + rng.below(200) {
        match consumer.poll(Duration::from_millis(500)).await {
            Ok(Polled::Assigned(partitions)) => {
                let mut book = book.borrow_mut();
                book.assignments += 1;
                for at in partitions {
                    let floor = book.committed.get(&at).copied().unwrap_or(Offset::ZERO);
                    floors.insert(at, floor);
                }
            }
            Ok(Polled::Revoked(revoked)) => {
                floors.retain(|at, _| !revoked.partitions.contains(at));
            }
            Ok(Polled::Batches(batches)) => {
                batches.iter().for_each(|batch| note(batch, &floors, book));
                if rng.chance(2) {
                    commit(&mut consumer, &batches, book).await;
                }
            }
            Ok(Polled::Nothing) => {}
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
    // Every other one is dropped as if it had been killed.
    if rng.chance(2) {
        let _ = consumer.close().await;
    }
}

fn note(batch: &FetchedBatch, floors: &BTreeMap<TopicPartition, Offset>, book: &RefCell<Book>) {
    let mut book = book.borrow_mut();
    for record in batch.records().flatten() {
        let floor = floors.get(&batch.tp).copied().unwrap_or(Offset::ZERO);
        if record.offset < floor {
            let offset = record.offset;
            let broken = format!("{} is read at {offset}, though {floor} was committed", batch.tp);
            book.broken.get_or_insert(broken);
        }
        let value = record.value.unwrap_or_default();
        book.read.insert(String::from_utf8_lossy(value).into_owned());
    }
}

async fn commit(consumer: &mut Consumer, batches: &[FetchedBatch], book: &RefCell<Book>) {
    let positions = batches
        .iter()
        .filter_map(|batch| Some((batch.tp.clone(), consumer.position_to_commit(&batch.tp)?)));
    let offsets: BTreeMap<_, _> = positions.collect();
    if consumer.commit(offsets.clone()).await.is_ok() {
        let mut book = book.borrow_mut();
        for (at, committed) in offsets {
            let known = book.committed.entry(at).or_insert(Offset::ZERO);
            *known = committed.offset.max(*known);
        }
    }
}
