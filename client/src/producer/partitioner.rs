//! Which partition a record goes to that names none.
//!
//! By default with a key: by its hash, which all clients share (`protocol::murmur`). Without: one
//! partition at a time, changed when it has received enough bytes, so that batches fill (KIP-480,
//! KIP-794); partitions without a leader are passed over while any other has one. Other ways are
//! those of Kafka's other clients, and the caller's own. Pure.

use std::fmt;
use std::sync::Arc;

use protocol::murmur::partition_of_key;
use protocol::rng::Rng;

use crate::config::Partitioner;

/// A record whose partition is to be chosen.
#[derive(Clone, Copy, Debug)]
pub struct Unplaced<'a> {
    /// Its topic.
    pub topic: &'a str,
    /// Its key; `None`: null.
    pub key: Option<&'a [u8]>,
    /// Its value; `None`: null.
    pub value: Option<&'a [u8]>,
    /// How many partitions the topic has; never 0. It may grow.
    pub partition_count: u32,
}

/// A caller's own choice: must be below the count.
pub(crate) type Choose = dyn Fn(&Unplaced<'_>) -> u32 + Send + Sync;

/// How partitions are chosen.
#[derive(Clone)]
pub(crate) enum Scheme {
    Ours(Partitioner),
    Callers(Arc<Choose>),
}

impl fmt::Debug for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ours(partitioner) => fmt::Debug::fmt(partitioner, f),
            Self::Callers(_) => f.write_str("Callers"),
        }
    }
}

/// Where a record goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    At(u32),
    /// Wherever the others without a place go at present.
    Sticky,
    /// To the next one in turn.
    InTurn,
}

impl Scheme {
    pub(crate) fn choose(&self, record: &Unplaced<'_>) -> Choice {
        let partitioner = match self {
            Self::Callers(choose) => return Choice::At(choose(record)),
            Self::Ours(partitioner) => partitioner,
        };
        match (partitioner, record.key) {
            (Partitioner::Default, Some(key)) => {
                let count = i32::try_from(record.partition_count);
                let count = count.expect("a topic has fewer partitions");
                let partition = partition_of_key(key, count).expect("it has some");
                Choice::At(partition.0.unsigned_abs())
            }
            (Partitioner::ConsistentRandom, Some(key)) if !key.is_empty() => {
                Choice::At(crc32(key) % record.partition_count)
            }
            (Partitioner::RoundRobin, _) => Choice::InTurn,
            (
                Partitioner::Default | Partitioner::UniformSticky | Partitioner::ConsistentRandom,
                _,
            ) => Choice::Sticky,
        }
    }
}

/// The CRC-32 of zlib, reflected.
const POLYNOMIAL: u32 = 0xedb8_8320;

const CRC32: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte: u32 = 0;
    let mut place = 0;
    while place < table.len() {
        let (mut crc, mut bit) = (byte, 0);
        while bit < 8 {
            crc = (crc >> 1) ^ (POLYNOMIAL & (crc & 1).wrapping_neg());
            bit += 1;
        }
        table[place] = crc;
        byte += 1;
        place += 1;
    }
    table
};

/// What librdkafka hashes keys with.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        let [low, ..] = crc.to_le_bytes();
        (crc >> 8) ^ CRC32[usize::from(low ^ byte)]
    };
    !bytes.iter().fold(u32::MAX, step)
}

/// The partition that records without a key of one topic now go to.
#[derive(Clone, Debug)]
pub(crate) struct Sticky {
    rng: Rng,
    current: u32,
    /// Bytes sent to `current` since it was chosen.
    bytes: usize,
}

impl Sticky {
    /// Starts at a partition drawn from `rng`.
    pub(crate) fn new(mut rng: Rng, partition_count: u32) -> Self {
        let current = draw(&mut rng, partition_count);
        Self { rng, current, bytes: 0 }
    }

    /// The partition of the next record. Always below `partition_count`, which may have grown.
    pub(crate) fn current(&self) -> u32 {
        self.current
    }

    /// A record of `bytes` went to the current partition. After `switch_bytes` another one is
    /// drawn among those for which `has_leader` holds, or among all when it holds for none.
    pub(crate) fn sent(
        &mut self,
        bytes: usize,
        switch_bytes: usize,
        partition_count: u32,
        has_leader: impl Fn(u32) -> bool,
    ) {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes >= switch_bytes {
            self.switch(partition_count, has_leader);
        }
    }

    /// Draws another partition: the current one's batch is full, or it lost its leader.
    pub(crate) fn switch(&mut self, partition_count: u32, has_leader: impl Fn(u32) -> bool) {
        self.bytes = 0;
        let start = draw(&mut self.rng, partition_count);
        // The first with a leader, counted from the drawn one.
        self.current = (0..partition_count)
            .map(|step| (start + step) % partition_count)
            .find(|&it| has_leader(it))
            .unwrap_or(start);
    }
}

fn draw(rng: &mut Rng, partition_count: u32) -> u32 {
    assert!(partition_count > 0, "a topic has partitions");
    u32::try_from(rng.below(u64::from(partition_count))).expect("below a 32-bit bound")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(partitioner: Partitioner, key: Option<&str>) -> Choice {
        let key = key.map(str::as_bytes);
        let record = Unplaced { topic: "orders", key, value: None, partition_count: 10 };
        Scheme::Ours(partitioner).choose(&record)
    }

    #[test]
    fn each_partitioner_chooses_as_its_model_does() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926, "the check value of CRC-32");
        let murmur = partition_of_key(b"foobar", 10).unwrap().0.unsigned_abs();
        let of_crc = Choice::At(crc32(b"foobar") % 10);
        for (partitioner, keyed, empty, null) in [
            (Partitioner::Default, Choice::At(murmur), None, Choice::Sticky),
            (Partitioner::UniformSticky, Choice::Sticky, Some(Choice::Sticky), Choice::Sticky),
            (Partitioner::RoundRobin, Choice::InTurn, Some(Choice::InTurn), Choice::InTurn),
            (Partitioner::ConsistentRandom, of_crc, Some(Choice::Sticky), Choice::Sticky),
        ] {
            assert_eq!(choose(partitioner, Some("foobar")), keyed, "{partitioner:?}");
            assert_eq!(choose(partitioner, None), null, "{partitioner:?}");
            if let Some(empty) = empty {
                assert_eq!(choose(partitioner, Some("")), empty, "{partitioner:?}");
            }
        }
        let empty = partition_of_key(b"", 10).unwrap().0.unsigned_abs();
        assert_eq!(choose(Partitioner::Default, Some("")), Choice::At(empty), "a key like others");
    }

    #[test]
    fn records_without_key_stay_until_the_batch_is_full_and_then_move() {
        let mut sticky = Sticky::new(Rng::new(7), 50);
        let first = sticky.current();
        for _ in 0..9 {
            sticky.sent(100, 1_000, 50, |_| true);
            assert_eq!(sticky.current(), first);
        }
        sticky.sent(100, 1_000, 50, |_| true);
        assert_ne!(sticky.current(), first, "one seed in fifty would stay; this one does not");
    }

    #[test]
    fn partitions_without_leader_are_passed_over_while_another_has_one() {
        let mut sticky = Sticky::new(Rng::new(7), 4);
        for _ in 0..100 {
            sticky.switch(4, |it| it == 2);
            assert_eq!(sticky.current(), 2);
        }
        sticky.switch(4, |_| false);
        assert!(sticky.current() < 4);
    }
}
