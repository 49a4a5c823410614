//! The source offsets of files, as they are stored.
//!
//! | source partition | source offset |
//! |---|---|
//! | `{"file": "<dev>-<ino>-<btime>-<incarnation>"}` | `dev`, `ino`, `btime` (ns, 0: none), `fp` (hex), `fp_len`, `tail` (hex), `tail_len`, `pos` (decompressed bytes), `line_open`, `path`, `origin`, `gzip_bytes`, `read_at` (ms) |
//!
//! What cannot be understood is refused, never read as something else. Pure.

use std::path::PathBuf;

use connect::sdk::{SourceOffset, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::mark::{Digest, Mark};
use super::tracker::{FileKey, Known, Place};

#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    dev: u64,
    ino: u64,
    btime: u64,
    incarnation: u32,
    fp: String,
    fp_len: usize,
    tail: String,
    tail_len: usize,
    pos: u64,
    line_open: bool,
    path: String,
    origin: String,
    gzip_bytes: Option<u64>,
    read_at: i64,
}

/// A stored offset that is not one of a file source.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadOffset {
    /// It lacks fields, or has others.
    #[error("the offset of {partition} cannot be read: {source}")]
    Unreadable { partition: Value, source: serde_json::Error },
    /// Its fields contradict one another.
    #[error("the offset of {partition} contradicts itself")]
    Inconsistent { partition: Value },
}

/// The source partition of `key`.
pub(crate) fn partition(key: &FileKey) -> Value {
    let Place { dev, ino, btime } = key.place;
    json!({ "file": format!("{dev}-{ino}-{btime}-{}", key.incarnation) })
}

/// What is stored of `key`: `known`, or that it is forgotten.
pub(crate) fn encode(key: &FileKey, known: Option<&Known>) -> SourceOffset {
    let offset = known.map(|known| {
        let stored = Stored {
            dev: key.place.dev,
            ino: key.place.ino,
            btime: key.place.btime,
            incarnation: key.incarnation,
            fp: format!("{:016x}", known.mark.head.hash),
            fp_len: known.mark.head.len,
            tail: format!("{:016x}", known.mark.tail.hash),
            tail_len: known.mark.tail.len,
            pos: known.mark.pos,
            line_open: known.mark.line_open,
            path: known.path.to_string_lossy().into_owned(),
            origin: known.origin.to_string_lossy().into_owned(),
            gzip_bytes: known.gzip_bytes,
            read_at: known.read_at.0,
        };
        serde_json::to_value(stored).expect("numbers and strings are JSON")
    });
    SourceOffset { partition: partition(key), offset }
}

/// What was stored; `None` for a forgotten file.
pub(crate) fn decode(stored: SourceOffset) -> Result<Option<(FileKey, Known)>, BadOffset> {
    let SourceOffset { partition, offset } = stored;
    let Some(offset) = offset else { return Ok(None) };
    let stored: Stored = match serde_json::from_value(offset) {
        Ok(stored) => stored,
        Err(source) => return Err(BadOffset::Unreadable { partition, source }),
    };
    let digest =
        |hex: &str, len| u64::from_str_radix(hex, 16).ok().map(|hash| Digest { hash, len });
    let mark = digest(&stored.fp, stored.fp_len)
        .zip(digest(&stored.tail, stored.tail_len))
        .map(|(head, tail)| Mark { head, tail, pos: stored.pos, line_open: stored.line_open });
    let Some(mark) = mark.filter(Mark::is_consistent) else {
        return Err(BadOffset::Inconsistent { partition });
    };
    let place = Place { dev: stored.dev, ino: stored.ino, btime: stored.btime };
    let known = Known {
        mark,
        path: PathBuf::from(stored.path),
        origin: PathBuf::from(stored.origin),
        gzip_bytes: stored.gzip_bytes,
        read_at: Timestamp(stored.read_at),
    };
    Ok(Some((FileKey { place, incarnation: stored.incarnation }, known)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> (FileKey, Known) {
        let mut mark = Mark::START;
        mark.advance(b"first\nsecond", 0, 12);
        mark.line_open = true;
        let place = Place { dev: 1, ino: u64::MAX, btime: 3 };
        let path = PathBuf::from("/var/log/syslog.1");
        let origin = PathBuf::from("/var/log/syslog");
        let known = Known { mark, path, origin, gzip_bytes: Some(9), read_at: Timestamp(5) };
        (FileKey { place, incarnation: 2 }, known)
    }

    #[test]
    fn what_is_stored_is_read_back() {
        let (key, known) = known();
        assert_eq!(decode(encode(&key, Some(&known))).unwrap(), Some((key, known)));
        assert_eq!(decode(encode(&key, None)).unwrap(), None);
    }

    #[test]
    fn an_offset_that_contradicts_itself_is_refused() {
        let (key, known) = known();
        let mut stored = encode(&key, Some(&known));
        stored.offset.as_mut().unwrap()["pos"] = json!(3);
        assert!(matches!(decode(stored), Err(BadOffset::Inconsistent { .. })));
        let nonsense =
            SourceOffset { partition: partition(&key), offset: Some(json!({ "position": 3 })) };
        assert!(matches!(decode(nonsense), Err(BadOffset::Unreadable { .. })));
    }
}
