//! The least that a broker can do and still satisfy a producer and a consumer of librdkafka.
//!
//! `null-broker PORT DIR PARTITIONS`: one thread a connection, each batch checked and written to a
//! file by one call, fetched by `sendfile`, an index in memory, no recovery, no replicas, no groups.
//! Every topic is the same one. What it reaches is what client, loopback and kernel allow at that
//! minute; a real broker is measured against it. Whatever it does not understand ends the
//! connection. It reuses no code of the broker, so that a mistake there does not move the limit.
//!
//! Shell.

mod wire;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use wire::{Request, Response};

const PRODUCE: i16 = 0;
const FETCH: i16 = 1;
const LIST_OFFSETS: i16 = 2;
const METADATA: i16 = 3;
const API_VERSIONS: i16 = 18;
const INIT_PRODUCER_ID: i16 = 22;

/// What it speaks: key, oldest and newest version. None of them is flexible but ApiVersions 3.
const APIS: [(i16, i16, i16); 6] = [
    (PRODUCE, 3, 7),
    (FETCH, 4, 4),
    (LIST_OFFSETS, 1, 1),
    (METADATA, 0, 4),
    (API_VERSIONS, 0, 3),
    (INIT_PRODUCER_ID, 0, 1),
];

/// 100 MB: no request is larger.
const REQUEST_BYTES_MAX: usize = 100 << 20;

/// A batch as the index knows it: its first offset, where it lies, how long it is.
struct Batch {
    base: i64,
    at: u64,
    bytes: u64,
}

#[derive(Default)]
struct Log {
    end: i64,
    bytes: u64,
    batches: Vec<Batch>,
}

struct Partition {
    file: File,
    log: Mutex<Log>,
}

struct Broker {
    port: i32,
    partitions: Vec<Partition>,
    /// How many batches have come, for those who wait for the next.
    appended: Mutex<u64>,
    wake: Condvar,
}

/// A part of a file that follows a response: partition, position, length.
type Tail = Option<(usize, u64, usize)>;

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, port, dir, partitions] = arguments.as_slice() else {
        return Err(io::Error::other("usage: null-broker PORT DIR PARTITIONS"));
    };
    let port = port.parse::<u16>().map_err(io::Error::other)?;
    let count = partitions.parse::<usize>().map_err(io::Error::other)?;
    fs::create_dir_all(dir)?;
    let partitions = (0..count).map(|index| Partition::new(Path::new(dir), index));
    let broker = Arc::new(Broker {
        port: i32::from(port),
        partitions: partitions.collect::<io::Result<_>>()?,
        appended: Mutex::new(0),
        wake: Condvar::new(),
    });
    for stream in TcpListener::bind(("127.0.0.1", port))?.incoming() {
        let (broker, stream) = (Arc::clone(&broker), stream?);
        std::thread::spawn(move || {
            // The end of a connection is nothing to speak of.
            let _ = broker.serve(stream);
        });
    }
    Ok(())
}

impl Partition {
    fn new(dir: &Path, index: usize) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(true);
        let file = file.open(dir.join(format!("{index}.log")))?;
        Ok(Self { file, log: Mutex::default() })
    }

    fn log(&self) -> std::sync::MutexGuard<'_, Log> {
        self.log.lock().expect("no thread panics while it holds the log")
    }

    /// Gives the batch its offset and writes it.
    fn append(&self, batch: &mut [u8]) -> io::Result<i64> {
        let count = wire::verify(batch)?;
        let mut log = self.log();
        let (base, at) = (log.end, log.bytes);
        batch[..8].copy_from_slice(&base.to_be_bytes());
        self.file.write_all_at(batch, at)?;
        let bytes = u64::try_from(batch.len()).expect("a length fits");
        log.batches.push(Batch { base, at, bytes });
        log.end += i64::from(count);
        log.bytes += bytes;
        Ok(base)
    }

    /// Where the whole batches from `offset` on lie, up to `bytes_max` but at least one.
    fn find(&self, offset: i64, bytes_max: u64) -> Option<(u64, u64)> {
        let log = self.log();
        if offset >= log.end {
            return None;
        }
        let first = log.batches.partition_point(|batch| batch.base <= offset) - 1;
        let mut bytes = 0;
        for batch in &log.batches[first..] {
            if bytes > 0 && bytes + batch.bytes > bytes_max {
                break;
            }
            bytes += batch.bytes;
        }
        Some((log.batches[first].at, bytes))
    }
}

impl Broker {
    fn serve(&self, mut stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut request = Vec::new();
        let mut response = Response::default();
        loop {
            let mut prefix = [0; 4];
            stream.read_exact(&mut prefix)?;
            let bytes = usize::try_from(u32::from_be_bytes(prefix)).unwrap_or(usize::MAX);
            if bytes > REQUEST_BYTES_MAX {
                return Err(io::ErrorKind::InvalidData.into());
            }
            if request.len() < bytes {
                request.resize(bytes, 0);
            }
            stream.read_exact(&mut request[..bytes])?;
            let (is_wanted, tail) = self.answer(&mut request[..bytes], &mut response)?;
            if !is_wanted {
                continue;
            }
            stream.write_all(response.framed(tail.map_or(0, |(.., bytes)| bytes)))?;
            if let Some((partition, at, bytes)) = tail {
                self.send(&stream, partition, at, bytes)?;
            }
        }
    }

    fn send(&self, stream: &TcpStream, partition: usize, at: u64, bytes: usize) -> io::Result<()> {
        let (mut at, mut left) = (at, bytes);
        while left > 0 {
            let file = &self.partitions[partition].file;
            match rustix::fs::sendfile(stream, file, Some(&mut at), left)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                sent => left -= sent,
            }
        }
        Ok(())
    }

    /// Fills in the response; tells whether one is wanted, and what follows it.
    fn answer(&self, request: &mut [u8], response: &mut Response) -> io::Result<(bool, Tail)> {
        let mut request = Request::new(request);
        let (key, version, correlation) = (request.i16()?, request.i16()?, request.i32()?);
        request.text()?;
        response.begin(correlation);
        match key {
            PRODUCE => return Ok((self.produce(&mut request, version, response)?, None)),
            FETCH => return Ok((true, self.fetch(&mut request, response)?)),
            LIST_OFFSETS => self.list_offsets(&mut request, response)?,
            METADATA => self.metadata(&mut request, version, response)?,
            API_VERSIONS => api_versions(version, response),
            INIT_PRODUCER_ID => init_producer_id(response),
            _ => return Err(io::ErrorKind::Unsupported.into()),
        }
        Ok((true, None))
    }

    fn partition(&self, index: i32) -> io::Result<(usize, &Partition)> {
        let index = usize::try_from(index).unwrap_or(usize::MAX);
        self.partitions.get(index).map(|it| (index, it)).ok_or(io::ErrorKind::NotFound.into())
    }

    fn produce(
        &self,
        request: &mut Request<'_>,
        version: i16,
        to: &mut Response,
    ) -> io::Result<bool> {
        request.text()?;
        let acks = request.i16()?;
        request.i32()?;
        let mut batches = 0;
        let topics = request.i32()?;
        to.i32(topics);
        for _ in 0..topics {
            to.text(request.text()?);
            let partitions = request.i32()?;
            to.i32(partitions);
            for _ in 0..partitions {
                let index = request.i32()?;
                let base = self.partition(index)?.1.append(request.bytes()?)?;
                to.i32(index).i16(0).i64(base).i64(-1);
                if version >= 5 {
                    to.i64(0);
                }
                batches += 1;
            }
        }
        to.i32(0);
        *self.appended.lock().expect("nobody panics") += batches;
        self.wake.notify_all();
        Ok(acks != 0)
    }

    /// Serves one partition that has records, as a file's part comes last; the others seem empty.
    fn fetch(&self, request: &mut Request<'_>, to: &mut Response) -> io::Result<Tail> {
        request.i32()?;
        let wait = Duration::from_millis(u64::try_from(request.i32()?).unwrap_or_default());
        let bytes_min = request.i32()?;
        let bytes_max = request.i32()?;
        request.i8()?;
        let mut topic = String::new();
        let mut wanted = Vec::new();
        for _ in 0..request.i32()? {
            topic = request.text()?.to_owned();
            for _ in 0..request.i32()? {
                let (index, offset, most) = (request.i32()?, request.i64()?, request.i32()?);
                wanted.push((self.partition(index)?.0, index, offset, most.min(bytes_max)));
            }
        }
        let until = Instant::now() + wait;
        let picked = loop {
            let before = *self.appended.lock().expect("nobody panics");
            // In turn, so that no partition is left behind.
            let turn = usize::try_from(before).unwrap_or_default() % wanted.len().max(1);
            let (front, back) = wanted.split_at(turn);
            let found = back.iter().chain(front).find_map(|&(at, index, offset, most)| {
                let most = u64::try_from(most).unwrap_or_default();
                self.partitions[at].find(offset, most).map(|part| (at, index, part))
            });
            let left = until.saturating_duration_since(Instant::now());
            if found.is_some() || bytes_min <= 0 || left.is_zero() {
                break found;
            }
            let guard = self.appended.lock().expect("nobody panics");
            if *guard == before {
                let _ = self.wake.wait_timeout(guard, left).expect("nobody panics");
            }
        };
        to.i32(0).i32(1).text(&topic).i32(i32::try_from(wanted.len()).map_err(io::Error::other)?);
        let chosen = picked.map(|(_, index, _)| index);
        for &(at, index, ..) in wanted.iter().filter(|&&(_, index, ..)| Some(index) != chosen) {
            self.fetched(to, at, index, 0);
        }
        let Some((at, index, (position, bytes))) = picked else { return Ok(None) };
        self.fetched(to, at, index, i32::try_from(bytes).map_err(io::Error::other)?);
        Ok(Some((at, position, usize::try_from(bytes).map_err(io::Error::other)?)))
    }

    fn fetched(&self, to: &mut Response, at: usize, index: i32, bytes: i32) {
        let end = self.partitions[at].log().end;
        to.i32(index).i16(0).i64(end).i64(end).i32(-1).i32(bytes);
    }

    fn list_offsets(&self, request: &mut Request<'_>, to: &mut Response) -> io::Result<()> {
        request.i32()?;
        let topics = request.i32()?;
        to.i32(topics);
        for _ in 0..topics {
            to.text(request.text()?);
            let partitions = request.i32()?;
            to.i32(partitions);
            for _ in 0..partitions {
                let (index, time) = (request.i32()?, request.i64()?);
                let end = self.partition(index)?.1.log().end;
                to.i32(index).i16(0).i64(-1).i64(if time == -2 { 0 } else { end });
            }
        }
        Ok(())
    }

    fn metadata(
        &self,
        request: &mut Request<'_>,
        version: i16,
        to: &mut Response,
    ) -> io::Result<()> {
        if version >= 3 {
            to.i32(0);
        }
        to.i32(1).i32(1).text("127.0.0.1").i32(self.port);
        if version >= 1 {
            to.i16(-1);
        }
        if version >= 2 {
            to.text("null");
        }
        if version >= 1 {
            to.i32(1);
        }
        let topics = request.i32()?.max(0);
        to.i32(topics);
        for _ in 0..topics {
            to.i16(0).text(request.text()?);
            if version >= 1 {
                to.i8(0);
            }
            to.i32(i32::try_from(self.partitions.len()).map_err(io::Error::other)?);
            for index in 0..i32::try_from(self.partitions.len()).map_err(io::Error::other)? {
                to.i16(0).i32(index).i32(1).i32(1).i32(1).i32(1).i32(1);
            }
        }
        Ok(())
    }
}

fn api_versions(version: i16, to: &mut Response) {
    let count = i8::try_from(APIS.len()).expect("there are few");
    to.i16(0);
    if version >= 3 {
        to.i8(count + 1);
    } else {
        to.i32(i32::from(count));
    }
    for (key, oldest, newest) in APIS {
        to.i16(key).i16(oldest).i16(newest);
        if version >= 3 {
            to.i8(0);
        }
    }
    if version >= 1 {
        to.i32(0);
    }
    if version >= 3 {
        to.i8(0);
    }
}

fn init_producer_id(to: &mut Response) {
    to.i32(0).i16(0).i64(1).i16(0);
}
