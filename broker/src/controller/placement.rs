//! Which brokers hold the replicas of a new partition.
//!
//! Round robin from a random start, so that leaders and followers spread evenly and no broker is
//! first for every topic. The first replica is the preferred leader. Pure.

use protocol::ids::BrokerId;
use protocol::rng::Rng;

/// The replicas of `partition_count` partitions, `replication_factor` each, over `brokers`.
pub(super) fn place(
    brokers: &[BrokerId],
    partition_count: usize,
    replication_factor: usize,
    rng: &mut Rng,
) -> Vec<Vec<BrokerId>> {
    assert!(replication_factor <= brokers.len(), "no broker holds a partition twice");
    let count = u64::try_from(brokers.len()).expect("brokers are few");
    let start = usize::try_from(rng.below(count)).expect("below the number of brokers");
    let replicas = |partition: usize| {
        let nth = |replica: usize| brokers[(start + partition + replica) % brokers.len()];
        (0..replication_factor).map(nth).collect()
    };
    (0..partition_count).map(replicas).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaders_spread_evenly_and_no_broker_holds_a_partition_twice() {
        let brokers: Vec<_> = (1..=5).map(BrokerId).collect();
        for seed in 0..20 {
            let placed = place(&brokers, 10, 3, &mut Rng::new(seed));
            for broker in &brokers {
                let leads = placed.iter().filter(|replicas| replicas[0] == *broker).count();
                let holds = placed.iter().filter(|replicas| replicas.contains(broker)).count();
                assert_eq!((leads, holds), (2, 6));
            }
            for mut replicas in placed {
                replicas.sort_unstable();
                replicas.dedup();
                assert_eq!(replicas.len(), 3);
            }
        }
    }
}
