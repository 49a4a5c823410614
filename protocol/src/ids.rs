//! The identifiers of Kafka's world as types, so that no two can be mistaken for one another.
//!
//! Ends are exclusive everywhere: the *log end offset* is where the next record will go. Raw
//! integers appear only in wire messages; they become these types at the edge.
//!
//! Pure.

use std::fmt;
use std::sync::Arc;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl From<$inner> for $name {
            fn from(raw: $inner) -> Self {
                Self(raw)
            }
        }
    };
}

id! {
    /// The position of a record in its partition. Ends are exclusive.
    Offset(i64)
}
id! {
    /// Which leader of a partition: raised at every change of leader. `-1`: unknown.
    LeaderEpoch(i32)
}
id! {
    /// Which version of a partition's in-sync set: raised at every change of it.
    PartitionEpoch(i32)
}
id! {
    /// A partition of a topic, counted from 0.
    PartitionIndex(i32)
}
id! {
    /// A broker of the cluster. `-1`: none.
    BrokerId(i32)
}
id! {
    /// Which registration of a broker: a newer one fences the older. `-1`: none. KIP-631.
    BrokerEpoch(i64)
}
id! {
    /// An idempotent or transactional producer. `-1`: none. KIP-98.
    ProducerId(i64)
}
id! {
    /// Which incarnation of a producer id: a newer one fences the older. `-1`: none. KIP-98.
    ProducerEpoch(i16)
}
id! {
    /// The position of a record among those of one producer epoch in one partition.
    /// Counts from 0 and wraps from 2^31-1 to 0. `-1`: none. KIP-98.
    Sequence(i32)
}
id! {
    /// Which leadership of a coordinator's partition wrote a transaction marker. KIP-98.
    CoordinatorEpoch(i32)
}
id! {
    /// Which completed join of a classic consumer group. `-1`: no group.
    GenerationId(i32)
}

impl Offset {
    /// The offset before any record.
    pub const ZERO: Self = Self(0);
    /// Kafka's "no offset".
    pub const NONE: Self = Self(-1);

    /// This offset moved forward by `count` records; saturates at the largest offset.
    #[must_use]
    pub fn plus(self, count: i64) -> Self {
        Self(self.0.saturating_add(count))
    }
}

impl BrokerId {
    /// Kafka's "no broker": a partition's leader while it has none.
    pub const NONE: Self = Self(-1);
}

impl LeaderEpoch {
    /// Kafka's "leader epoch not known".
    pub const NONE: Self = Self(-1);
}

impl ProducerId {
    /// Kafka's "not an idempotent producer".
    pub const NONE: Self = Self(-1);

    /// True for a real producer id.
    #[must_use]
    pub fn is_some(self) -> bool {
        self.0 >= 0
    }
}

impl ProducerEpoch {
    /// Kafka's "not an idempotent producer".
    pub const NONE: Self = Self(-1);
    /// The last epoch that a client may be given: one more is kept to fence it. KIP-360.
    pub const CLIENT_MAX: Self = Self(i16::MAX - 1);
}

impl Sequence {
    /// Kafka's "not an idempotent producer".
    pub const NONE: Self = Self(-1);

    /// The sequence `count` records later; wraps from 2^31-1 to 0.
    #[must_use]
    pub fn plus(self, count: i32) -> Self {
        Self(self.0.wrapping_add(count) & i32::MAX)
    }
}

/// What tells a topic from a later one of the same name. All zero: none. KIP-516.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicId(pub [u8; 16]);

impl TopicId {
    /// Kafka's "no topic id".
    pub const ZERO: Self = Self([0; 16]);

    /// True for a real topic id.
    #[must_use]
    pub fn is_some(self) -> bool {
        self != Self::ZERO
    }
}

impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A partition by its topic's name. Prints as `orders-3`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// The topic's name.
    pub topic: Arc<str>,
    /// Which of its partitions.
    pub partition: PartitionIndex,
}

impl TopicPartition {
    /// The partition `partition` of `topic`.
    pub fn new(topic: impl Into<Arc<str>>, partition: i32) -> Self {
        Self { topic: topic.into(), partition: PartitionIndex(partition) }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sequence_wraps_to_zero_after_the_largest() {
        assert_eq!(Sequence(i32::MAX).plus(1), Sequence(0));
        assert_eq!(Sequence(i32::MAX - 1).plus(3), Sequence(1));
        assert_eq!(Sequence(5).plus(2), Sequence(7));
    }
}
