//! The thinking of one broker, all of it together, on one heap of events.
//!
//! Partition cores and coordinators' shards as they ship, over a disk, a network and clients that
//! are small models: thousands of lives of a broker in seconds, each from one seed. Crashes take
//! back what was not synced, disks fill up, messages come late, twice or never. After each event
//! every core asserts its invariants; at the end the history is held against what was promised.
//! The slower simulation with real sockets and tasks is elsewhere; what shells do is not seen here.
//!
//! `FAST_SEEDS=5000` runs more lives, `FAST_FROM=1000` others, and `FAST_SEED=17` one of them, and
//! prints all that happens. Pure.

mod actors;
mod history;
mod lanes;
mod links;
mod member;
mod node;
mod part;
mod seat;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use protocol::mutant::{Mutant, activate};
use protocol::rng::Rng;
use protocol::time::{Now, Timestamp};

use actors::{Actor, Answer, Call};
use history::History;
use node::Node;
use part::Part;

/// Partitions by their place: two with data, and those of the coordinators.
const DATA: [usize; 2] = [0, 1];
const OFFSETS: usize = 2;
const TXNS: usize = 3;

/// How long clients and faults go on, in microseconds.
const BUSY_US: u64 = 2_000_000;
/// And how long everything then has to come to rest.
const REST_US: u64 = 30_000_000;

/// What can happen.
#[derive(Debug)]
enum What {
    /// The oldest write of a partition reaches the file.
    Write {
        part: usize,
        life: u32,
    },
    /// What is written of a partition becomes durable.
    Sync {
        part: usize,
        life: u32,
    },
    /// The positions of a coordinator's partition moved.
    Moved {
        part: usize,
        life: u32,
    },
    /// A shard has something to do by time.
    Tick {
        part: usize,
        life: u32,
    },
    /// A marker on its way; `job` is who waits for it, if anyone does.
    Marker {
        part: usize,
        marker: crate::partition::EndTxnMarker,
        job: Option<u64>,
        life: u32,
    },
    /// All markers of a decision are written: the coordinator is told.
    Tell {
        job: u64,
        life: u32,
    },
    /// A request arrives at the broker.
    Request {
        from: usize,
        number: u64,
        connection: u32,
        call: Call,
    },
    /// A transactional batch was let through and enters its partition.
    Enter {
        id: usize,
        life: u32,
    },
    /// Offsets of a transaction that was joined reach the shard of their group.
    Commit {
        from: usize,
        number: u64,
        commit: crate::group::Commit,
        life: u32,
    },
    /// An answer arrives at a client.
    Answer {
        to: usize,
        number: u64,
        answer: Answer,
    },
    /// A client does what it does next, or has waited long enough for this answer.
    Wake {
        actor: usize,
        number: u64,
    },
    Crash,
    Restart,
}

/// Which faults this life has.
#[derive(Clone, Copy, Debug)]
struct Faults {
    crashes: bool,
    late: bool,
    twice: bool,
    lost: bool,
    disk_full: bool,
    /// How long a sync takes at most.
    sync_us: u64,
}

/// A client's connection, for messages that arrive in order.
#[derive(Clone, Copy, Debug, Default)]
struct Link {
    /// Which one it is.
    connection: u32,
    /// When the last message on it arrives.
    last_us: u64,
    /// The broker went away: nothing arrives until the client has noticed.
    is_broken: bool,
}

impl Link {
    /// What was sent on it and did not arrive never will.
    fn cut(&mut self) {
        self.connection += 1;
        self.is_broken = true;
    }
}

struct World {
    rng: Rng,
    faults: Faults,
    at_us: u64,
    next: u64,
    heap: BTreeMap<(u64, u64), What>,
    parts: Vec<Part>,
    node: Option<Node>,
    /// Which incarnation of the broker this is.
    life: u32,
    /// Producer ids handed out.
    ids: i64,
    actors: Vec<Actor>,
    /// Of each client.
    links: Vec<Link>,
    history: History,
    /// What the test asked the groups.
    told: Option<crate::group::Reply>,
    /// Prints all that happens.
    traces: bool,
    /// Of all events: equal for equal seeds.
    digest: u64,
    events: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let faults = Faults {
            crashes: !rng.chance(4),
            late: !rng.chance(3),
            twice: !rng.chance(3),
            lost: !rng.chance(3),
            disk_full: rng.chance(3),
            sync_us: if rng.chance(3) { 40_000 } else { 4_000 },
        };
        let names = [("data", 0), ("data", 1), (crate::group::TOPIC, 0), (crate::txn::TOPIC, 0)];
        let parts = names.map(|(topic, index)| Part::new(topic, index)).into();
        let mut world = Self {
            rng,
            faults,
            at_us: 0,
            next: 0,
            heap: BTreeMap::new(),
            parts,
            node: None,
            life: 0,
            ids: 1000,
            links: Vec::new(),
            actors: actors::cast(),
            history: History::default(),
            told: None,
            traces: number_from_env("FAST_SEED").is_some(),
            digest: 0,
            events: 0,
        };
        world.history.group.is_exact = !faults.late && !faults.twice;
        world.links = vec![Link::default(); world.actors.len()];
        world.seed_worn_producer();
        world.start();
        for actor in 0..world.actors.len() {
            let after = world.rng.below(50_000);
            world.after(after, What::Wake { actor, number: 0 });
        }
        if faults.crashes {
            let after = world.rng.below(1_000_000);
            world.after(after, What::Crash);
        }
        world
    }

    fn now(&self) -> Now {
        let millis = i64::try_from(self.at_us / 1000).unwrap();
        Now {
            monotonic: Duration::from_micros(self.at_us),
            wall: Timestamp(1_700_000_000_000 + millis),
        }
    }

    /// Puts `what` on the heap.
    fn after(&mut self, delay_us: u64, what: What) {
        self.next += 1;
        self.heap.insert((self.at_us + delay_us, self.next), what);
    }

    fn is_busy(&self) -> bool {
        self.at_us < BUSY_US
    }

    /// Runs until everything is at rest, and holds the history against what was promised.
    fn run(&mut self) {
        while let Some(((at, _), what)) = self.heap.pop_first() {
            if BUSY_US + REST_US < at {
                break;
            }
            self.at_us = at;
            self.events += 1;
            if self.traces {
                println!("{at} {what:?}");
            }
            self.happen(what);
            let mut was_stepped = false;
            for part in &mut self.parts {
                if part.was_stepped() {
                    part.check();
                    was_stepped = true;
                }
            }
            if was_stepped {
                self.check_backed();
            }
            let ends = self.parts.iter().map(|it| it.watermarks().log_end.0.unsigned_abs());
            for number in ends.chain([at, self.next]) {
                self.digest = (self.digest ^ number).wrapping_mul(0x100_0000_01b3);
            }
        }
        self.check_at_rest();
    }

    fn happen(&mut self, what: What) {
        match what {
            What::Write { part, life } if life == self.life => self.write(part),
            What::Sync { part, life } if life == self.life => self.sync(part),
            What::Moved { part, life } if life == self.life => self.moved(part),
            What::Tick { part, life } if life == self.life => self.tick(part),
            What::Marker { part, marker, job, life } if life == self.life || job.is_none() => {
                self.marker(part, marker, job);
            }
            What::Tell { job, life } if life == self.life => self.tell(job),
            What::Enter { id, life } if life == self.life => self.enter(id),
            What::Commit { from, number, commit, life } if life == self.life => {
                self.commit(from, number, commit);
            }
            What::Request { from, number, connection, call } => {
                self.request(from, number, connection, call);
            }
            What::Answer { to, number, answer } => self.answered(to, number, Some(answer)),
            What::Wake { actor, number } => self.answered(actor, number, None),
            What::Crash => self.crash(),
            What::Restart => self.start(),
            // Of a life that is over.
            What::Write { .. }
            | What::Sync { .. }
            | What::Moved { .. }
            | What::Tick { .. }
            | What::Marker { .. }
            | What::Tell { .. }
            | What::Commit { .. }
            | What::Enter { .. } => {}
        }
    }

    fn check_at_rest(&mut self) {
        assert!(self.node.is_some(), "the broker is up in the end");
        for part in &self.parts {
            let at = part.watermarks();
            assert_eq!(at.log_end, at.high_watermark, "{}: something is not committed", part.tp);
            assert_eq!(at.last_stable, at.high_watermark, "{}: a transaction hangs", part.tp);
        }
        let read: Vec<_> = DATA.iter().map(|&part| self.parts[part].read_all()).collect();
        let offsets = self.committed_offsets();
        self.history.check(&read, &offsets, &self.log());
    }
}

/// One life from this seed: how many events, and their digest.
fn live(seed: u64) -> (u64, u64) {
    let mut world = World::new(seed);
    world.run();
    (world.events, world.digest)
}

fn number_from_env(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

#[test]
fn a_thousand_lives_keep_every_promise() {
    let seeds = match number_from_env("FAST_SEED") {
        Some(seed) => seed..seed + 1,
        None => {
            let from = number_from_env("FAST_FROM").unwrap_or(0);
            from..from + number_from_env("FAST_SEEDS").unwrap_or(1000)
        }
    };
    let mut events = 0;
    for seed in seeds {
        let lived = catch_unwind(|| live(seed));
        events += lived.unwrap_or_else(|_| panic!("FAST_SEED={seed} replays this")).0;
    }
    assert!(events > 100, "something happened");
}

#[test]
fn the_same_seed_is_the_same_life() {
    for seed in 0..20 {
        assert_eq!(live(seed), live(seed), "seed {seed}");
    }
}

/// After how many lives a mistake is noticed.
fn noticed_after(mutant: Mutant, lives_max: u64) -> Option<u64> {
    activate(Some(mutant));
    let found = (0..lives_max).find(|&seed| catch_unwind(AssertUnwindSafe(|| live(seed))).is_err());
    activate(None);
    found.map(|seed| seed + 1)
}

#[test]
fn each_mistake_is_noticed() {
    const LIVES_MAX: u64 = 200;
    let mut unnoticed = Vec::new();
    for mutant in Mutant::FAST {
        match noticed_after(mutant, LIVES_MAX) {
            Some(lives) => println!("{mutant:?}: {lives} lives"),
            None => unnoticed.push(mutant),
        }
    }
    assert!(unnoticed.is_empty(), "not noticed in {LIVES_MAX} lives: {unnoticed:?}");
}
