//! Seeded simulation: broker, clients and applications in one process, on a paused clock.
//!
//! Each story runs over many seeds; `SEED=17` replays one, `SEEDS=1000` runs more. A failure names
//! its story and seed. The mutants are deliberate mistakes, each of which some seed must catch.
//!
//! Shell.

mod stories;

use harness::sim::world;
use protocol::mutant::{Mutant, activate};
use stories::{STORIES, Story};

/// Seeds of each story in an ordinary run.
const SEEDS: u64 = 70;
/// Seeds after which a mutant must have been caught.
const MUTANT_SEEDS_MAX: u64 = 100;

fn environment(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    let number = text.parse();
    Some(number.unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// With `TRACE` set, to directives such as `debug`, the world tells what happens in it.
fn listen() {
    if let Ok(directives) = std::env::var("TRACE") {
        let filter = tracing_subscriber::EnvFilter::new(directives);
        // A second call finds the first one's subscriber in place.
        let _ = tracing_subscriber::fmt().with_env_filter(filter).without_time().try_init();
    }
}

/// The story's verdict on one seed, and the run's trace.
fn play(story: &Story, seed: u64) -> (Result<(), String>, u64) {
    listen();
    let (told, trace) = world::run(seed, story.settings, story.run);
    (told.map_err(|error| format!("{error:#}")), trace)
}

fn over_seeds(name: &str) {
    let story = STORIES.iter().find(|it| it.name == name).expect("a story of this name");
    let first = environment("SEED");
    let seeds = match first {
        Some(seed) => seed..seed + 1,
        None => 0..environment("SEEDS").unwrap_or(SEEDS),
    };
    for seed in seeds {
        let (verdict, _) = play(story, seed);
        if let Err(broken) = verdict {
            panic!("{name}: {broken}\nreplay: SEED={seed} tests/run simulation");
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for story in STORIES {
        let (first, second) = (play(story, 7), play(story, 7));
        assert_eq!(first, second, "{}: two runs of one seed differ", story.name);
        assert_ne!(first.1, play(story, 8).1, "{}: seeds make no difference", story.name);
    }
}

#[test]
fn what_was_acknowledged_is_there_once() {
    over_seeds("produce");
}

#[test]
fn transactions_are_all_or_nothing() {
    over_seeds("transactions");
}

#[test]
fn a_group_of_both_protocols_reads_all_and_forgets_no_commit() {
    over_seeds("groups");
}

#[test]
fn a_streams_app_counts_each_record_once() {
    over_seeds("streams");
}

/// Each mistake, and the story that must notice it. Aborts that leave the app alive are rare here:
/// what a store keeps of them is looked for among the integration tests.
const SUSPECTS: [(Mutant, &str); 3] = [
    (Mutant::AckBeforeWrite, "produce"),
    (Mutant::ForgetProducersOnRecovery, "produce"),
    (Mutant::OffsetsOutsideTransaction, "streams"),
];

/// The first seed at which the story notices the mistake.
fn caught_by(mutant: Mutant, name: &str) -> Option<u64> {
    let story = STORIES.iter().find(|it| it.name == name).expect("a story of this name");
    (0..MUTANT_SEEDS_MAX).find(|seed| {
        activate(Some(mutant));
        // A mistake may also break an invariant of ours: that is caught, too.
        let played = std::panic::catch_unwind(|| play(story, *seed).0);
        activate(None);
        !matches!(played, Ok(Ok(())))
    })
}

#[test]
fn every_mutant_is_caught_by_some_seed() {
    for (mutant, story) in SUSPECTS {
        let caught = caught_by(mutant, story);
        println!("{mutant:?}: {story}, seed {caught:?}");
        assert!(caught.is_some(), "{mutant:?} went unnoticed for {MUTANT_SEEDS_MAX} seeds");
    }
}
