//! Reading a file in windows, plain or compressed alike.
//!
//! A window is a run of a file's (decompressed) bytes around a position: some bytes before it, to see that
//! the file is still the one that was read, and the bytes from it on. A plain file is read where one asks.
//! A compressed one can only be read forward: it is decompressed from its start, and what precedes the
//! position is passed over. Several compressed members in one file are one content; a file that ends in the
//! middle, or is damaged, is readable up to there and says so. Whether a file is compressed is told by
//! its first two bytes, never by its name. Shell.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use bytes::Bytes;
use connect::sdk::Timestamp;
use flate2::bufread::GzDecoder;

use super::mark::{Digest, HEAD_BYTES, Mark, TAIL_BYTES};
use super::tracker::{Content, Head, Likeness, Observed, Place};

/// The first bytes of a gzip member.
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
/// How much of a compressed file is read at once.
const COMPRESSED_BYTES: usize = 128 * 1024;

/// Some bytes of a file.
#[derive(Debug)]
pub(crate) struct Window {
    /// What was read.
    pub(crate) bytes: Bytes,
    /// Where the asked position is in `bytes`.
    pub(crate) from: usize,
    /// Why there is nothing behind `bytes`. `None`: there may be.
    pub(crate) end: Option<End>,
}

/// How a file's content ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Properly; for now, if it grows.
    Whole,
    /// In the middle of a compressed stream.
    Truncated,
    /// With bytes that cannot be decompressed; why.
    Damaged(String),
}

/// An open file.
#[derive(Debug)]
pub(crate) struct Source {
    file: File,
    /// Of a compressed file.
    gzip: Option<Gzip>,
}

impl Source {
    /// Opens the file at `path`, which must be a regular one.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        // Opening a pipe would wait for its writer: look first.
        if !std::fs::metadata(path)?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        let mut file = File::open(path)?;
        let mut magic = Vec::with_capacity(GZIP_MAGIC.len());
        let limit = u64::try_from(GZIP_MAGIC.len()).expect("two");
        file.by_ref().take(limit).read_to_end(&mut magic)?;
        let gzip = if magic == GZIP_MAGIC { Some(Gzip::new(&file)?) } else { None };
        Ok(Self { file, gzip })
    }

    /// True when the content is decompressed on reading.
    pub(crate) fn is_compressed(&self) -> bool {
        self.gzip.is_some()
    }

    /// What the open file is now.
    pub(crate) fn observe(&self, path: &Path) -> io::Result<Observed> {
        observed(path, &self.file.metadata()?).ok_or_else(|| io::ErrorKind::InvalidInput.into())
    }

    /// The bytes from `mark.pos` on, at most `bytes_max` of them, and those that `mark.tail` covers
    /// before. Fewer bytes before than the tail covers: the file is now shorter than `mark.pos`.
    pub(crate) fn window(&mut self, mark: &Mark, bytes_max: usize) -> io::Result<Window> {
        match &mut self.gzip {
            None => plain_window(&mut self.file, mark, bytes_max),
            Some(gzip) => {
                if gzip.start > mark.tail_start() {
                    *gzip = Gzip::new(&self.file)?;
                }
                gzip.window(mark, bytes_max)
            }
        }
    }
}

fn plain_window(file: &mut File, mark: &Mark, bytes_max: usize) -> io::Result<Window> {
    let size = file.metadata()?.len();
    // No more than there is: a window lives as long as the last line cut out of it.
    let left = usize::try_from(size.saturating_sub(mark.pos)).unwrap_or(usize::MAX);
    let limit = mark.tail.len + left.min(bytes_max);
    let mut bytes = Vec::with_capacity(limit);
    file.seek(SeekFrom::Start(mark.tail_start()))?;
    file.take(u64::try_from(limit).expect("a window is small")).read_to_end(&mut bytes)?;
    let end = (bytes.len() < limit || left <= bytes_max).then_some(End::Whole);
    Ok(Window { from: mark.tail.len.min(bytes.len()), bytes: bytes.into(), end })
}

/// A compressed file on its way through.
#[derive(Debug)]
struct Gzip {
    /// `None` once the end was reached.
    decoder: Option<GzDecoder<BufReader<File>>>,
    /// Decompressed and still needed.
    held: Vec<u8>,
    /// Where `held` begins in the decompressed content.
    start: u64,
    end: Option<End>,
}

impl Gzip {
    fn new(file: &File) -> io::Result<Self> {
        let mut file = file.try_clone()?;
        file.seek(SeekFrom::Start(0))?;
        let decoder = GzDecoder::new(BufReader::with_capacity(COMPRESSED_BYTES, file));
        Ok(Self { decoder: Some(decoder), held: Vec::new(), start: 0, end: None })
    }

    fn window(&mut self, mark: &Mark, bytes_max: usize) -> io::Result<Window> {
        // 1. Pass over what lies before the window.
        while self.start < mark.tail_start() {
            let behind = usize::try_from(mark.tail_start() - self.start).unwrap_or(usize::MAX);
            let passed = behind.min(self.held.len());
            self.held.drain(..passed);
            self.start += u64::try_from(passed).expect("held bytes are few");
            if passed < behind
                && self.fill(behind.saturating_sub(passed).min(COMPRESSED_BYTES))? == 0
            {
                break;
            }
        }
        // 2. Fill the window.
        let wanted = mark.tail.len + bytes_max;
        while self.held.len() < wanted && self.fill(wanted - self.held.len())? > 0 {}
        let is_short = self.start < mark.tail_start();
        let bytes =
            if is_short { Vec::new() } else { self.held[..self.held.len().min(wanted)].to_vec() };
        let end = if self.held.len() <= wanted { self.end.clone() } else { None };
        Ok(Window { from: mark.tail.len.min(bytes.len()), bytes: bytes.into(), end })
    }

    /// Decompresses at most `bytes_max` more; returns how many. 0: the end.
    fn fill(&mut self, bytes_max: usize) -> io::Result<usize> {
        loop {
            let Some(mut decoder) = self.decoder.take() else { return Ok(0) };
            let before = self.held.len();
            let limit = u64::try_from(bytes_max).expect("a window is small");
            let read = decoder.by_ref().take(limit).read_to_end(&mut self.held);
            let filled = self.held.len() - before;
            match read {
                Ok(_) if filled > 0 => {
                    self.decoder = Some(decoder);
                    return Ok(filled);
                }
                // The member's end. What follows is another member, or padding, which gzip ignores too.
                Ok(_) => {
                    let mut rest = decoder.into_inner();
                    if rest.fill_buf()?.first() == Some(&GZIP_MAGIC[0]) {
                        self.decoder = Some(GzDecoder::new(rest));
                    } else {
                        self.end = Some(End::Whole);
                    }
                }
                Err(error) => {
                    self.end = Some(match error.kind() {
                        io::ErrorKind::UnexpectedEof => End::Truncated,
                        io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => {
                            End::Damaged(error.to_string())
                        }
                        _ => return Err(error),
                    });
                    return Ok(filled);
                }
            }
        }
    }
}

/// What `metadata` says of the file at `path`. `None`: not a regular file.
pub(crate) fn observed(path: &Path, metadata: &std::fs::Metadata) -> Option<Observed> {
    let btime =
        metadata.created().ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
    let btime = btime.and_then(|age| u64::try_from(age.as_nanos()).ok()).unwrap_or(0);
    let changed =
        metadata.ctime().saturating_mul(1000).saturating_add(metadata.ctime_nsec() / 1_000_000);
    metadata.is_file().then(|| Observed {
        path: path.to_owned(),
        place: Place { dev: metadata.dev(), ino: metadata.ino(), btime },
        size: metadata.len(),
        changed: Timestamp(changed),
    })
}

/// The mark of a plain file's first `size` bytes.
fn plain_whole(source: &mut Source, size: u64) -> io::Result<Mark> {
    let len = |bytes: usize| usize::try_from(size).unwrap_or(usize::MAX).min(bytes);
    let head = source.window(&Mark::START, len(HEAD_BYTES))?.bytes;
    let tail = Digest { len: len(TAIL_BYTES), ..Digest::EMPTY };
    let tail = source.window(&Mark { tail, pos: size, ..Mark::START }, 0)?;
    let tail = Digest::of(&tail.bytes[..tail.from]);
    let mark = Mark { head: Digest::of(&head), tail, pos: size, line_open: false };
    // Shrunk meanwhile: the next scan sees it as it is then.
    if mark.is_consistent() { Ok(mark) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// Looks into files by opening them; remembers those that could not be opened.
#[derive(Debug, Default)]
pub(crate) struct Opener {
    /// Files that could not be read, and why.
    pub(crate) failed: Vec<(Observed, io::Error)>,
}

impl Opener {
    fn look<T>(
        &mut self,
        file: &Observed,
        look: impl FnOnce(&mut Source) -> io::Result<T>,
    ) -> Option<T> {
        let looked = Source::open(&file.path).and_then(|mut source| {
            // Between scan and open the path may have gone to another file.
            let is_same = source.observe(&file.path)?.place == file.place;
            if is_same { look(&mut source).map(Some) } else { Ok(None) }
        });
        match looked {
            Ok(seen) => seen,
            Err(error) => {
                self.failed.push((file.clone(), error));
                None
            }
        }
    }
}

impl Content for Opener {
    fn head(&mut self, file: &Observed) -> Option<Head> {
        self.look(file, |source| {
            let window = source.window(&Mark::START, HEAD_BYTES)?;
            let is_broken = window.end == Some(End::Truncated);
            Ok(Head {
                bytes: window.bytes.to_vec(),
                is_compressed: source.is_compressed(),
                is_broken,
            })
        })
    }

    fn likeness(&mut self, file: &Observed, mark: &Mark) -> Likeness {
        let likeness = self.look(file, |source| {
            let head = source.window(&Mark::START, mark.head.len)?.bytes;
            if head.len() < mark.head.len {
                return Ok(Likeness::Shorter);
            }
            if Digest::of(&head) != mark.head {
                return Ok(Likeness::Different);
            }
            let tail = source.window(mark, 0)?;
            Ok(match tail.from {
                len if len < mark.tail.len => Likeness::Shorter,
                len if Digest::of(&tail.bytes[..len]) != mark.tail => Likeness::Different,
                _ => Likeness::Same,
            })
        });
        likeness.unwrap_or(Likeness::Unreadable)
    }

    fn whole(&mut self, file: &Observed) -> Option<Mark> {
        self.look(file, |source| {
            if !source.is_compressed() {
                return plain_whole(source, file.size);
            }
            let mut mark = Mark::START;
            loop {
                let window = source.window(&mark, COMPRESSED_BYTES)?;
                mark.advance(&window.bytes, window.from, window.bytes.len());
                if window.end.is_some() {
                    return Ok(mark);
                }
            }
        })
    }
}

const _: () = assert!(TAIL_BYTES <= HEAD_BYTES);
