//! A Streams app counts words while its broker and its own life are cut short.
//!
//! The app is dropped and started again at random, as if it had been killed; its output must be that
//! of an app that never was: per word the counts 1, 2, 3, … in order, each once, and a copy of each
//! input record, once.
//!
//! Shell.

use std::collections::BTreeMap;
use std::time::Duration;

use ::streams::topology::Topology;
use ::streams::{App, I64, Store, StreamsBuilder, Topic, Utf8};
use anyhow::{Context, bail, ensure};
use client::admin::{Admin, NewTopic};
use client::bootstrap::Bootstrap;
use client::config::ProducerConfig;
use harness::read::read_all;
use harness::sim::world::World;
use protocol::rng::Rng;
use protocol::time::Timestamp;

use super::{PARTITIONS, amid_faults, idempotent};

const WORDS: &str = "words";
const COUNTS: &str = "counts";
/// Rounds of writing; about half a minute.
const ROUNDS: u64 = 100;
const KINDS: u64 = 7;

fn topology() -> anyhow::Result<Topology> {
    let words = Topic::new(WORDS, Utf8, Utf8);
    let counts = Topic::new(COUNTS, Utf8, Utf8);
    let builder = StreamsBuilder::new();
    builder
        .stream(&words)
        .group_by_key()
        .count(Store::kv("counts", Utf8, I64))
        .to_stream()
        .map(|word: String, count| (word.clone(), format!("{word}={count}")))
        .to(&counts);
    Ok(builder.build()?)
}

/// The story.
pub(crate) async fn count(world: &mut World) -> anyhow::Result<()> {
    world.start_broker().await?;
    let admin = Admin::connect(world.bootstrap("admin"), Duration::from_secs(60)).await?;
    for name in [WORDS, COUNTS] {
        admin.create_topic(NewTopic::new(name, PARTITIONS)).await.context("create the topic")?;
    }
    let writing = world.bootstrap("writer");
    let (app, mut rng) = (world.bootstrap("app"), world.rng.fork());
    let mut input = rng.fork();
    let work = async {
        let (written, lived) =
            tokio::join!(write(writing, &mut input), live_and_die(app, &mut rng));
        written.and(lived)
    };
    Box::pin(amid_faults(world, work)).await?;
    // In peace, it must come to the end of its input.
    finish(world.bootstrap("app")).await?;
    let words = read_all(world.bootstrap("reader"), WORDS, true).await?;
    let counts = read_all(world.bootstrap("reader"), COUNTS, true).await?;
    check(words.iter().map(Vec::len).sum(), &counts)?;
    world.stop().await
}

/// Words come a few at a time, for as long as the app lives and dies.
async fn write(bootstrap: Bootstrap, rng: &mut Rng) -> anyhow::Result<()> {
    let mut connected = None;
    for _ in 0..ROUNDS {
        tokio::time::sleep(Duration::from_millis(rng.below(600))).await;
        let mut producer = match connected.take() {
            Some(producer) => producer,
            None => match idempotent(bootstrap.clone(), ProducerConfig::default(), WORDS).await {
                Ok(producer) => producer,
                Err(_) => continue,
            },
        };
        for _ in 0..1 + rng.below(5) {
            let word = format!("w{}", rng.below(KINDS));
            let at = Timestamp(1_767_225_600_000);
            producer
                .append(WORDS, None, at, Some(word.as_bytes()), Some(b"x"), &[])
                .context("append")?;
        }
        // What is not acknowledged may be there or not: the app counts what is there.
        if producer.flush().await.is_ok() {
            connected = Some(producer);
        }
    }
    Ok(())
}

fn app(bootstrap: Bootstrap) -> anyhow::Result<App> {
    Ok(App::new("counter", topology()?)
        .connect_with(bootstrap)
        .instance_id("one")
        .session_timeout(Duration::from_secs(6))
        .transaction_timeout(Duration::from_secs(10))
        .commit_interval(Duration::from_millis(50)))
}

/// Runs the app for a while and drops it in the middle of whatever it does, several times.
async fn live_and_die(bootstrap: Bootstrap, rng: &mut Rng) -> anyhow::Result<()> {
    for _ in 0..3 + rng.below(3) {
        // Longer than a session: what a dead member held is free again by then.
        let life = Duration::from_millis(200 + rng.below(16_000));
        let lived = async {
            // A start that fails, as while the broker is down, is a short life.
            let Ok((handle, worker)) =
                app(bootstrap.clone().seed(rng.next_u64()))?.run_local().await
            else {
                return Ok(());
            };
            worker.await;
            drop(handle);
            anyhow::Ok(())
        };
        // Its time is up: it is gone, as by kill -9.
        if let Ok(ended) = tokio::time::timeout(life, lived).await {
            ended?;
        }
    }
    Ok(())
}

/// Runs the app until it has caught up with its input.
async fn finish(bootstrap: Bootstrap) -> anyhow::Result<()> {
    let admin = Admin::connect(bootstrap.clone(), Duration::from_secs(60)).await?;
    let ends = harness::read::ends_of(bootstrap.clone(), WORDS).await?;
    drop(admin);
    let (handle, worker) = app(bootstrap)?.run_local().await.context("start the app")?;
    let caught_up = tokio::time::timeout(Duration::from_secs(600), handle.caught_up(&ends));
    tokio::select! {
        biased;
        reached = caught_up => reached.context("the app never caught up")??,
        () = worker => bail!("the app ended: {:?}", handle.state()),
    }
    Ok(())
}

fn check(words: usize, read: &[Vec<String>]) -> anyhow::Result<()> {
    ensure!(0 < words, "nothing was written: the story proves nothing");
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for value in read.iter().flatten() {
        let (word, count) = value.split_once('=').context("word=count")?;
        let count: usize = count.parse()?;
        let before = counts.insert(word, count).unwrap_or(0);
        ensure!(count == before + 1, "{word}: {count} follows {before}");
    }
    let total: usize = counts.values().sum();
    ensure!(total == words, "{total} of {words} words were counted: {counts:?}");
    Ok(())
}
