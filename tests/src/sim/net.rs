//! A network that is slow, breaks, and does both as its seed says.
//!
//! Each write travels for a drawn delay and arrives in order, as in TCP. A cut resets both ends:
//! what was on the way is lost, and neither side learns what the other has read. A host that is
//! down refuses connections and has lost all it had. Delays run on tokio's paused clock.
//!
//! Invariant: bytes of one direction arrive in the order written, or not at all.
//!
//! Shell.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Buf, Bytes};
use client::net::{BoxStream, Connector, Endpoint};
use protocol::rng::Rng;
use protocol::time::Clock;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;
use tokio::time::Sleep;

/// Bytes on the way in one direction before the writer waits.
const WINDOW_BYTES: usize = 256 << 10;
/// Connections that wait to be accepted; the next one is refused.
const BACKLOG_MAX: usize = 128;

/// How slow the network is.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// The least time that a write travels.
    pub delay_min: Duration,
    /// Added at most, drawn evenly.
    pub delay_spread: Duration,
}

impl Default for Weather {
    fn default() -> Self {
        Self { delay_min: Duration::from_micros(100), delay_spread: Duration::from_millis(2) }
    }
}

/// The network. Clones are the same one.
#[derive(Clone)]
pub struct SimNet {
    /// A lock, as each stream's two ends live in two tasks; never held across an await.
    state: Arc<Mutex<State>>,
    clock: Clock,
}

struct State {
    rng: Rng,
    weather: Weather,
    listeners: BTreeMap<Endpoint, mpsc::Sender<(SimStream, Endpoint)>>,
    links: BTreeMap<u64, Link>,
    links_opened: u64,
    /// A digest of all that was ever written, when and on which connection: the run's trace.
    trace: u64,
}

struct Link {
    target: Endpoint,
    pipes: [Pipe; 2],
}

/// One direction of a connection.
type Pipe = Arc<Mutex<PipeState>>;

#[derive(Default)]
struct PipeState {
    /// What is on the way: when it arrives, and the bytes.
    queue: VecDeque<(Duration, Bytes)>,
    queued_bytes: usize,
    last_arrival: Duration,
    /// The writer is done: the reader gets what is on the way, then the end.
    finished: bool,
    /// The connection was cut: both ends get an error at once.
    cut: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl PipeState {
    fn wake(&mut self) {
        for waker in [self.reader.take(), self.writer.take()].into_iter().flatten() {
            waker.wake();
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SimNet {
    /// A network without hosts, whose delays follow from `seed`.
    #[must_use]
    pub fn new(seed: u64, weather: Weather, clock: Clock) -> Self {
        let state = State {
            rng: Rng::new(seed),
            weather,
            listeners: BTreeMap::new(),
            links: BTreeMap::new(),
            links_opened: 0,
            trace: 0,
        };
        Self { state: Arc::new(Mutex::new(state)), clock }
    }

    /// Listens on `endpoint`, in place of whoever did before.
    #[must_use]
    pub fn listen(&self, endpoint: Endpoint) -> SimListener {
        let (sender, incoming) = mpsc::channel(BACKLOG_MAX);
        locked(&self.state).listeners.insert(endpoint.clone(), sender);
        SimListener { endpoint, incoming }
    }

    /// A digest of all that was ever written, when and on which connection. Two runs that differ in
    /// anything that a broker or client says differ in it.
    #[must_use]
    pub fn trace(&self) -> u64 {
        locked(&self.state).trace
    }

    /// Cuts one connection, drawn from the network's seed; false when there is none.
    pub fn cut_one(&self) -> bool {
        let mut state = locked(&self.state);
        let count = u64::try_from(state.links.len()).expect("a count of links fits 64 bits");
        let at = usize::try_from(state.rng.below(count)).expect("below a usize");
        let Some(&id) = state.links.keys().nth(at) else { return false };
        let link = state.links.remove(&id).expect("the key was just read");
        drop(state);
        cut(&link);
        true
    }

    /// Takes the host behind `endpoint` off the network: its listener is gone, its connections
    /// are cut.
    pub fn down(&self, endpoint: &Endpoint) {
        let mut state = locked(&self.state);
        state.listeners.remove(endpoint);
        let (gone, kept) = std::mem::take(&mut state.links)
            .into_iter()
            .partition(|(_, it)| it.target == *endpoint);
        state.links = kept;
        drop(state);
        let gone: BTreeMap<u64, Link> = gone;
        gone.values().for_each(cut);
    }
}

fn cut(link: &Link) {
    for pipe in &link.pipes {
        let mut pipe = locked(pipe);
        pipe.cut = true;
        pipe.queue.clear();
        pipe.wake();
    }
}

#[async_trait::async_trait]
impl Connector for SimNet {
    async fn connect(&self, endpoint: &Endpoint) -> io::Result<BoxStream> {
        let (delay, sender) = {
            let mut state = locked(&self.state);
            (state.delay(), state.listeners.get(endpoint).cloned())
        };
        tokio::time::sleep(delay).await;
        let refused = || io::Error::new(io::ErrorKind::ConnectionRefused, endpoint.to_string());
        let sender = sender.ok_or_else(refused)?;
        let pipes: [Pipe; 2] = Default::default();
        let mut state = locked(&self.state);
        state.links_opened += 1;
        let id = state.links_opened;
        state.links.insert(id, Link { target: endpoint.clone(), pipes: pipes.clone() });
        drop(state);
        let [forth, back] = pipes;
        let ours = SimStream::new(self.clone(), id, back.clone(), forth.clone());
        let theirs = SimStream::new(self.clone(), id, forth, back);
        let peer = Endpoint::new("client", u16::try_from(id % 65_536).expect("below 65536"));
        sender.try_send((theirs, peer)).map_err(|_| refused())?;
        Ok(Box::new(ours))
    }
}

impl State {
    fn note(&mut self, link: u64, now: Duration, bytes: &[u8]) {
        let mut digest = self.trace ^ link.rotate_left(32);
        digest ^= u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        // FNV-1a: any change of any byte changes all that follows.
        for byte in bytes {
            digest = (digest ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
        self.trace = digest.wrapping_mul(0x0100_0000_01b3);
    }

    fn delay(&mut self) -> Duration {
        let spread = u64::try_from(self.weather.delay_spread.as_micros()).unwrap_or(u64::MAX);
        self.weather.delay_min + Duration::from_micros(self.rng.below(spread))
    }
}

/// Accepts connections to one endpoint.
pub struct SimListener {
    endpoint: Endpoint,
    incoming: mpsc::Receiver<(SimStream, Endpoint)>,
}

impl SimListener {
    /// Where it listens.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The next connection and who opened it. Dropping the future loses none.
    ///
    /// # Errors
    /// `NotConnected` once the host was taken down.
    pub async fn accept(&mut self) -> io::Result<(BoxStream, Endpoint)> {
        let gone = || io::Error::from(io::ErrorKind::NotConnected);
        let (stream, peer) = self.incoming.recv().await.ok_or_else(gone)?;
        Ok((Box::new(stream), peer))
    }
}

/// One end of a connection.
pub struct SimStream {
    net: SimNet,
    id: u64,
    incoming: Pipe,
    outgoing: Pipe,
    /// Fires when the first piece on the way arrives.
    arrival: Option<Pin<Box<Sleep>>>,
}

impl SimStream {
    fn new(net: SimNet, id: u64, incoming: Pipe, outgoing: Pipe) -> Self {
        Self { net, id, incoming, outgoing, arrival: None }
    }
}

impl AsyncRead for SimStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let now = self.net.clock.now().monotonic;
            let incoming = Arc::clone(&self.incoming);
            let mut pipe = locked(&incoming);
            if pipe.cut {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
            let Some((arrival, bytes)) = pipe.queue.front_mut() else {
                if pipe.finished {
                    return Poll::Ready(Ok(()));
                }
                pipe.reader = Some(cx.waker().clone());
                return Poll::Pending;
            };
            if *arrival <= now {
                let count = bytes.len().min(buf.remaining());
                buf.put_slice(&bytes[..count]);
                bytes.advance(count);
                if bytes.is_empty() {
                    pipe.queue.pop_front();
                }
                pipe.queued_bytes -= count;
                if let Some(writer) = pipe.writer.take() {
                    writer.wake();
                }
                return Poll::Ready(Ok(()));
            }
            let wait = *arrival - now;
            // A cut while the first piece is on the way must wake the reader too.
            pipe.reader = Some(cx.waker().clone());
            drop(pipe);
            let mut sleep = Box::pin(tokio::time::sleep(wait));
            let fired = sleep.as_mut().poll(cx).is_ready();
            self.arrival = Some(sleep);
            if !fired {
                return Poll::Pending;
            }
        }
    }
}

impl AsyncWrite for SimStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let now = self.net.clock.now().monotonic;
        let delay = {
            let mut state = locked(&self.net.state);
            state.note(self.id, now, buf);
            state.delay()
        };
        let mut pipe = locked(&self.outgoing);
        if pipe.cut || pipe.finished {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let room = WINDOW_BYTES - pipe.queued_bytes.min(WINDOW_BYTES);
        if room == 0 {
            pipe.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let count = room.min(buf.len());
        let arrival = (now + delay).max(pipe.last_arrival);
        pipe.last_arrival = arrival;
        pipe.queue.push_back((arrival, Bytes::copy_from_slice(&buf[..count])));
        pipe.queued_bytes += count;
        if let Some(reader) = pipe.reader.take() {
            reader.wake();
        }
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut pipe = locked(&self.outgoing);
        pipe.finished = true;
        pipe.wake();
        Poll::Ready(Ok(()))
    }
}

impl Drop for SimStream {
    fn drop(&mut self) {
        {
            let mut pipe = locked(&self.outgoing);
            pipe.finished = true;
            pipe.wake();
        }
        // Nobody will read what still comes in: the other side's writes fail from now on.
        let mut pipe = locked(&self.incoming);
        pipe.finished = true;
        pipe.wake();
        drop(pipe);
        locked(&self.net.state).links.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use protocol::time::Timestamp;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    fn net() -> SimNet {
        SimNet::new(1, Weather::default(), client::time::virtual_clock(Timestamp(0)))
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_arrive_late_and_in_order() {
        let net = net();
        let endpoint = Endpoint::new("broker", 1);
        let mut listener = net.listen(endpoint.clone());
        let mut ours = net.connect(&endpoint).await.unwrap();
        let (mut theirs, _) = listener.accept().await.unwrap();
        for byte in 0..50_u8 {
            ours.write_all(&[byte]).await.unwrap();
        }
        drop(ours);
        let mut got = Vec::new();
        theirs.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, (0..50).collect::<Vec<u8>>());
    }

    #[tokio::test(start_paused = true)]
    async fn a_host_that_goes_down_resets_its_connections_and_refuses_new_ones() {
        let net = net();
        let endpoint = Endpoint::new("broker", 1);
        let mut listener = net.listen(endpoint.clone());
        let mut ours = net.connect(&endpoint).await.unwrap();
        let (_theirs, _) = listener.accept().await.unwrap();
        net.down(&endpoint);
        let mut got = [0];
        assert_eq!(ours.read(&mut got).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        let refused = net.connect(&endpoint).await.err().map(|error| error.kind());
        assert_eq!(refused, Some(io::ErrorKind::ConnectionRefused));
    }
}
