//! The tests of the log are held against mistakes that they must notice.

use std::panic::{AssertUnwindSafe, catch_unwind};

use protocol::mutant::{Mutant, activate};

const SUSPECTS: [(Mutant, fn()); 5] = [
    (Mutant::KeepCleanMark, super::shell::an_orderly_stop_is_known_at_the_next_start_and_only_then),
    (Mutant::SkipDirSync, super::plain_appends_survive_a_crash_at_any_operation),
    (Mutant::RetryFailedSync, super::shell::after_a_failed_sync_nothing_is_ever_acknowledged_again),
    (Mutant::BelieveVoidNotes, super::what_was_taken_down_before_the_log_was_cut_is_void),
    (Mutant::CompactUnstable, super::compaction::cleaning_survives_a_crash_at_any_operation),
];

#[test]
fn each_mistake_is_noticed() {
    for (mutant, test) in SUSPECTS {
        activate(Some(mutant));
        let noticed = catch_unwind(AssertUnwindSafe(test)).is_err();
        activate(None);
        assert!(noticed, "{mutant:?}");
    }
}
