//! Where transactions ended lately, for what was verified before.
//!
//! A batch whose transaction was open when its coordinator was asked must not enter behind the marker
//! that ended it meanwhile: neither open the transaction again, nor become part of the producer's
//! next one, for which offsets have no sequence to tell them apart. Bounded: of too many the older
//! half is forgotten, and what was verified before that must be verified anew. Pure.

use std::collections::BTreeMap;

use protocol::ids::{Offset, ProducerId};
use protocol::mutant::{Mutant, is_active};

use super::VerificationGuard;

/// 4096: producers whose last marker is remembered, 100 KB. A guard is held for milliseconds.
const ENDS_MAX: usize = 4096;

/// The last marker of each producer.
#[derive(Debug, Default)]
pub(super) struct Ends {
    markers: BTreeMap<ProducerId, Offset>,
    /// Markers up to here (inclusive) may be forgotten.
    forgotten: Option<Offset>,
    /// How often accepted records were forgotten: guards from before say nothing.
    rollbacks: u64,
}

/// What a guard says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// No marker came since.
    Holds,
    /// This one did.
    EndedAt(Offset),
    /// It is too old to tell.
    TooOld,
}

impl Ends {
    /// A marker of `producer` was accepted at `at`.
    pub(super) fn ended(&mut self, producer: ProducerId, at: Offset) {
        self.markers.insert(producer, at);
        if ENDS_MAX < self.markers.len() {
            let mut offsets: Vec<_> = self.markers.values().copied().collect();
            offsets.sort_unstable();
            let middle = offsets[ENDS_MAX / 2];
            self.markers.retain(|_, at| *at > middle);
            self.forgotten = Some(middle);
        }
    }

    /// Accepted records were forgotten, and markers may be among them.
    pub(super) fn rolled_back(&mut self) {
        *self = Self { rollbacks: self.rollbacks + 1, ..Self::default() };
    }

    /// A guard of now, when the log ends at `log_end`.
    pub(super) fn guard(&self, log_end: Offset) -> VerificationGuard {
        VerificationGuard { log_end, rollbacks: self.rollbacks }
    }

    /// Whether a transaction of `producer` ended since `guard` was taken.
    pub(super) fn since(&self, producer: ProducerId, guard: VerificationGuard) -> Standing {
        if is_active(Mutant::SkipVerificationGuard) {
            return Standing::Holds;
        }
        match self.markers.get(&producer) {
            _ if guard.rollbacks != self.rollbacks => Standing::TooOld,
            Some(marker) if guard.log_end <= *marker => Standing::EndedAt(*marker),
            _ if self.forgotten.is_some_and(|it| guard.log_end <= it) => Standing::TooOld,
            _ => Standing::Holds,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guard_holds_until_a_marker_of_its_producer_comes() {
        let mut ends = Ends::default();
        let before = ends.guard(Offset(5));
        ends.ended(ProducerId(8), Offset(5));
        assert_eq!(ends.since(ProducerId(7), before), Standing::Holds);
        assert_eq!(ends.since(ProducerId(8), before), Standing::EndedAt(Offset(5)));
        assert_eq!(ends.since(ProducerId(8), ends.guard(Offset(6))), Standing::Holds);
    }

    #[test]
    fn a_guard_from_before_what_was_forgotten_is_too_old() {
        let mut ends = Ends::default();
        let before = ends.guard(Offset(0));
        let number = |at: usize| i64::try_from(at).unwrap();
        for at in 0..=ENDS_MAX {
            assert_eq!(ends.since(ProducerId(-1), before), Standing::Holds);
            ends.ended(ProducerId(number(at)), Offset(number(at)));
        }
        assert!(ends.markers.len() <= ENDS_MAX);
        assert_eq!(ends.since(ProducerId(-1), before), Standing::TooOld);
        let now = ends.guard(Offset(number(ENDS_MAX)));
        assert_eq!(ends.since(ProducerId(-1), now), Standing::Holds);
        assert_eq!(
            ends.since(ProducerId(number(ENDS_MAX)), before),
            Standing::EndedAt(now.log_end)
        );
        ends.rolled_back();
        assert_eq!(ends.since(ProducerId(-1), now), Standing::TooOld);
        assert_eq!(ends.since(ProducerId(-1), ends.guard(Offset(9))), Standing::Holds);
    }
}
