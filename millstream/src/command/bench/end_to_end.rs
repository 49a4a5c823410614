//! `millstream bench end-to-end`: how long a record takes from when it was due to the hands of a
//! consumer that waits for it. Shell.

use std::time::Duration;

use protocol::time::Clock;

use super::Load;
use super::consume::Receiver;
use super::histogram::Histogram;
use super::metronome::Schedule;
use super::produce::{Generator, WARM_UP, number};
use super::report::{Report, Since};
use super::target::Target;
use super::usage::CpuTime;

/// Records per second when nobody says how many.
const RATE: f64 = 1000.0;

pub(super) async fn run(load: &Load) -> anyhow::Result<()> {
    let rate = load.rate.unwrap_or(RATE);
    let load = &Load { rate: Some(rate), ..load.clone() };
    let mut target = Target::reach(load).await?;
    let topic = target.fresh_topic(load).await?;
    let clock = target.bootstrap().clock;
    let mut generator = Generator::connect(&target, load, &topic).await?;
    let receiver = Receiver::connect(&target, load, &topic).await?;
    let records = load.seconds.map_or(load.records, |it| Schedule::count(rate, it));
    let cpu = CpuTime::now()?;
    let started = clock.now().monotonic;
    let schedule = Schedule::new(started, rate);
    let arrivals = Arrivals {
        schedule,
        partitions: load.partitions,
        counted_from: started + WARM_UP,
        latency: Histogram::new(),
        left: records,
    };
    let receiving = tokio::spawn(arrivals.receive(receiver, clock.clone()));
    generator.at_rate(&schedule, rate, records, &clock, |_, _| {}).await?;
    let latency = receiving.await??;
    let elapsed = clock.now().monotonic.saturating_sub(started);
    let report = Report {
        what: format!("end to end {}", load.words()),
        records,
        bytes: load.bytes(records)?,
        elapsed,
        latency: Some((&latency, Since::Due)),
        used: target.used(CpuTime::now()? - cpu)?,
    };
    load.print(&report)?;
    drop(generator);
    target.leave().await
}

/// What the consumer sees of the generator's records.
struct Arrivals {
    schedule: Schedule,
    partitions: i32,
    counted_from: Duration,
    latency: Histogram,
    left: u64,
}

impl Arrivals {
    /// Receives all records; yields how long they took.
    async fn receive(mut self, mut receiver: Receiver, clock: Clock) -> anyhow::Result<Histogram> {
        while self.left > 0 {
            let batches = receiver.receive().await?;
            let now = clock.now().monotonic;
            for batch in batches {
                let partition = batch.tp.partition.0;
                for record in batch.records() {
                    self.arrived(now, number(partition, record?.offset, self.partitions));
                }
            }
        }
        Ok(self.latency)
    }

    fn arrived(&mut self, now: Duration, number: Option<u64>) {
        self.left = self.left.saturating_sub(1);
        let Some(number) = number else { return };
        let due = self.schedule.due(number);
        if self.counted_from <= due {
            self.latency.add(now.saturating_sub(due), 1);
        }
    }
}
