//! Space that a growing file has on the disk before anything is written there.
//!
//! To write where a file system has set space aside takes half of what it takes to have it found block by
//! block: 0.09 s of a processor for a gigabyte instead of 0.18, by pieces of 1 MiB on ext4. So who writes
//! much finds some ahead: an eighth of what the segment has, 16 MiB at most, and none before it has
//! 8 MiB, or ten thousand logs with little in each would fill the disk. The file is no longer for it, nor can
//! anything else be read there. Where there is none to be had, files grow as they are written.
//!
//! What was not used is given back when the segment is complete. Pure.

/// 16 MiB: of more, nothing is saved.
pub(super) const SPACE_BYTES_MAX: u64 = 16 << 20;
/// A segment with less than this part of the most has none set aside.
const FIRST_PART: u64 = 2;
/// So much of a segment is set aside at once, but never less than this part of the most.
const STEP_PART: u64 = 8;

/// Of a segment that keeps `bytes`: whether space may have been set aside for it, now or before a crash.
pub(super) fn may_have_some(bytes: u64, space_max: u64) -> bool {
    space_max > 0 && bytes >= space_max / FIRST_PART
}

/// How far space should be set aside before `count` bytes are written from `at` on, in a file that is to
/// become as long as `length_max` and has space up to `until`. `None`: what there is will do.
pub(super) fn wanted(
    at: u64,
    count: u64,
    until: u64,
    length_max: u64,
    space_max: u64,
) -> Option<u64> {
    let end = at.saturating_add(count);
    if end <= until || !may_have_some(at, space_max) {
        return None;
    }
    let step = (at / STEP_PART).clamp(space_max / STEP_PART, space_max);
    Some(end.saturating_add(step).min(length_max)).filter(|&wanted| wanted > end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn space_is_set_aside_for_who_writes_much() {
        const MIB: u64 = 1 << 20;
        let cases = [
            ("too little is there", (8 * MIB - 1, MIB, 0, 99 * MIB), None),
            ("the least", (8 * MIB, MIB, 0, 99 * MIB), Some(11 * MIB)),
            ("an eighth", (32 * MIB, MIB, 0, 99 * MIB), Some(37 * MIB)),
            ("the most", (800 * MIB, MIB, 0, 999 * MIB), Some(817 * MIB)),
            ("there is enough", (32 * MIB, MIB, 33 * MIB, 99 * MIB), None),
            ("there is a byte too little", (32 * MIB, MIB, 33 * MIB - 1, 99 * MIB), Some(37 * MIB)),
            ("as far as the segment goes", (32 * MIB, MIB, 0, 35 * MIB), Some(35 * MIB)),
            ("the last write", (32 * MIB, MIB, 0, 33 * MIB), None),
            ("a write that is too large", (32 * MIB, 9 * MIB, 0, 33 * MIB), None),
        ];
        for (name, (at, count, until, length_max), want) in cases {
            let found = wanted(at, count, until, length_max, SPACE_BYTES_MAX);
            assert_eq!(found, want, "{name}");
        }
        assert_eq!(wanted(32 * MIB, MIB, 0, 99 * MIB, 0), None, "none at all");
    }
}
