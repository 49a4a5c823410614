//! What a commit remembers, and how its outcome is known for certain.
//!
//! Beside each input's offset a commit stores a *witness*: who committed, the how-manieth commit of
//! the task it is, and the stream times of the task and its windowed operators. The offsets are
//! part of the transaction, so the witness becomes visible exactly if the transaction committed.
//! If the answer to EndTxn is lost, reading the offsets back, once the transaction is over, says
//! which way it went; nothing has to be guessed, wiped or rebuilt. After a restart the stream times
//! keep closed windows closed.
//!
//! As text, in the metadata of the offset: `ms1;<writer>;<commit>;<stream time>;<name>=<time>;…`
//! with writer and commit in hexadecimal. Pure.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use protocol::time::Timestamp;

/// What a commit of a task remembers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Witness {
    /// Who committed: chance, drawn once per worker.
    pub writer: u64,
    /// Counts the commits of the task; goes on from owner to owner.
    pub commit: u64,
    /// The task's stream time. -1: none.
    pub stream_time: Timestamp,
    /// The stream time of each windowed operator, by its store's name.
    pub times: BTreeMap<Arc<str>, Timestamp>,
}

const VERSION: &str = "ms1";

impl Witness {
    /// The text form, for an offset's metadata.
    #[must_use]
    pub fn encode(&self) -> String {
        let Self { writer, commit, stream_time, times } = self;
        let mut text = format!("{VERSION};{writer:x};{commit:x};{stream_time}");
        for (name, time) in times {
            write!(text, ";{name}={time}").expect("a String takes all");
        }
        text
    }

    /// Reads the text form. `None` for what others wrote, Kafka Streams for one.
    #[must_use]
    pub fn decode(text: &str) -> Option<Self> {
        let mut parts = text.split(';');
        if parts.next()? != VERSION {
            return None;
        }
        let writer = u64::from_str_radix(parts.next()?, 16).ok()?;
        let commit = u64::from_str_radix(parts.next()?, 16).ok()?;
        let stream_time = Timestamp(parts.next()?.parse().ok()?);
        let times = parts.map(|part| {
            let (name, time) = part.split_once('=')?;
            Some((Arc::from(name), Timestamp(time.parse().ok()?)))
        });
        Some(Self { writer, commit, stream_time, times: times.collect::<Option<_>>()? })
    }
}

/// Where a task stands between two commits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Processing; `changed` says whether there is anything to commit.
    Open {
        /// Something was processed or written since the last commit.
        changed: bool,
    },
    /// Everything is written and this witness sent; nothing may be processed until it is settled.
    Prepared(Witness),
}

/// How a transaction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All of it is visible.
    Committed,
    /// None of it is.
    Aborted,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_witness_survives_its_text_form() {
        let times = [("revenue", 170_000), ("a.b-c_d", -1)];
        let witness = Witness {
            writer: u64::MAX,
            commit: 42,
            stream_time: Timestamp(169_000),
            times: times.map(|(name, time)| (Arc::from(name), Timestamp(time))).into(),
        };
        let text = witness.encode();
        assert_eq!(text, "ms1;ffffffffffffffff;2a;169000;a.b-c_d=-1;revenue=170000");
        assert_eq!(Witness::decode(&text), Some(witness));
    }

    #[test]
    fn what_others_wrote_is_not_a_witness() {
        for text in ["", "AgAAAZ", "ms2;0;0;0", "ms1;0;0", "ms1;0;0;x", "ms1;0;0;0;name"] {
            assert_eq!(Witness::decode(text), None, "{text:?}");
        }
    }
}
