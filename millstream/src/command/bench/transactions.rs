//! `millstream bench transactions`: how long a transaction of one record takes, from its begin until its commit is
//! acknowledged, one after the other. Shell.

use anyhow::ensure;

use super::Load;
use super::histogram::Histogram;
use super::produce::{Generator, WARM_UP};
use super::report::{Report, Since};
use super::target::Target;
use super::usage::CpuTime;

pub(super) async fn run(load: &Load) -> anyhow::Result<()> {
    load.without_rate()?;
    ensure!(load.acks == "all" || load.acks == "-1", "transactions need --acks all");
    let mut target = Target::reach(load).await?;
    let topic = target.fresh_topic(load).await?;
    let clock = target.bootstrap().clock;
    let mut generator = Generator::transactional(&target, load, &topic).await?;
    let cpu = CpuTime::now()?;
    let started = clock.now();
    let end = load.seconds.map(|it| started.monotonic + it);
    let counted_from = started.monotonic + WARM_UP;
    let mut latency = Histogram::new();
    let (mut number, mut began) = (0, started);
    while end.map_or(number < load.records, |end| began.monotonic < end) {
        generator.transact(number, began.wall).await?;
        number += 1;
        let now = clock.now();
        if counted_from <= began.monotonic {
            latency.add(now.monotonic.saturating_sub(began.monotonic), 1);
        }
        began = now;
    }
    let report = Report {
        what: format!("transactions of one record, {}", load.words()),
        records: number,
        bytes: load.bytes(number)?,
        elapsed: began.monotonic.saturating_sub(started.monotonic),
        latency: Some((&latency, Since::Begin)),
        used: target.used(CpuTime::now()? - cpu)?,
    };
    load.print(&report)?;
    drop(generator);
    target.leave().await
}
