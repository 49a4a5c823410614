//! A network inside the process.
//!
//! Listeners and connectors meet by endpoint; streams are pairs of bounded buffers, so a reader
//! that stops stops its writer, as TCP does. Nobody listens: connection refused. A listener that
//! is dropped frees its endpoint; streams that it accepted live on. Without delay or loss: the
//! simulator's network adds those. Shell.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::duplex;
use tokio::sync::mpsc;

use super::{BoxStream, Connector, Endpoint};

/// Bytes that one direction of a stream holds before its writer waits: a usual socket buffer.
const BUFFER_BYTES: usize = 64 << 10;

/// Connections that wait to be accepted; the next one is refused.
const BACKLOG_MAX: usize = 128;

/// Where connectors look for listeners. Clones are the same network.
#[derive(Clone, Debug, Default)]
pub struct MemoryNetwork {
    /// A lock, as clones live in many tasks and no task owns the network; held for a look-up.
    listeners: Arc<Mutex<Listeners>>,
}

#[derive(Debug, Default)]
struct Listeners {
    by_endpoint: BTreeMap<Endpoint, mpsc::Sender<(BoxStreamPart, Endpoint)>>,
    /// Counts connections: the port of the connecting side.
    connection_count: u16,
}

/// The listener's half of a stream.
type BoxStreamPart = tokio::io::DuplexStream;

impl MemoryNetwork {
    /// A network without listeners.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Listens on `endpoint` until the listener is dropped.
    ///
    /// # Errors
    /// `AddrInUse` while another listener holds `endpoint`.
    pub fn listen(&self, endpoint: Endpoint) -> io::Result<MemoryListener> {
        let mut listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        if listeners.by_endpoint.contains_key(&endpoint) {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, endpoint.to_string()));
        }
        let (sender, incoming) = mpsc::channel(BACKLOG_MAX);
        listeners.by_endpoint.insert(endpoint.clone(), sender);
        drop(listeners);
        Ok(MemoryListener { endpoint, incoming, network: self.clone() })
    }
}

#[async_trait::async_trait]
impl Connector for MemoryNetwork {
    async fn connect(&self, endpoint: &Endpoint) -> io::Result<BoxStream> {
        let refuse = |why: &str| {
            io::Error::new(io::ErrorKind::ConnectionRefused, format!("{endpoint}: {why}"))
        };
        let mut listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        listeners.connection_count = listeners.connection_count.wrapping_add(1);
        let peer = Endpoint::new("memory", listeners.connection_count);
        let listener = listeners.by_endpoint.get(endpoint).ok_or_else(|| refuse("no listener"))?;
        let (ours, theirs) = duplex(BUFFER_BYTES);
        listener.try_send((theirs, peer)).map_err(|_| refuse("the backlog is full"))?;
        Ok(Box::new(ours))
    }
}

/// Accepts the streams that connect to one endpoint of a [`MemoryNetwork`].
#[derive(Debug)]
pub struct MemoryListener {
    endpoint: Endpoint,
    incoming: mpsc::Receiver<(BoxStreamPart, Endpoint)>,
    network: MemoryNetwork,
}

impl MemoryListener {
    /// The endpoint that this listener holds.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Waits for the next stream; also says who connected. Dropping it loses no connection.
    ///
    /// # Errors
    /// None at present: the network lives as long as its listeners.
    pub async fn accept(&mut self) -> io::Result<(BoxStream, Endpoint)> {
        let (stream, peer) =
            self.incoming.recv().await.ok_or(io::Error::from(io::ErrorKind::NotConnected))?;
        Ok((Box::new(stream), peer))
    }
}

impl Drop for MemoryListener {
    fn drop(&mut self) {
        let mut listeners = self.network.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        listeners.by_endpoint.remove(&self.endpoint);
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn what_one_side_writes_the_other_reads() {
        let network = MemoryNetwork::new();
        let endpoint = Endpoint::new("broker", 1);
        let mut listener = network.listen(endpoint.clone()).unwrap();
        let mut client = network.connect(&endpoint).await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        client.write_all(b"ping").await.unwrap();
        let mut got = [0; 4];
        server.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"ping");
        drop(client);
        assert_eq!(server.read(&mut got).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn connecting_to_nobody_is_refused_before_listening_and_after() {
        let network = MemoryNetwork::new();
        let endpoint = Endpoint::new("broker", 1);
        let kind = |it: io::Result<BoxStream>| it.err().map(|it| it.kind());
        let refused = Some(io::ErrorKind::ConnectionRefused);
        assert_eq!(kind(network.connect(&endpoint).await), refused);
        let listener = network.listen(endpoint.clone()).unwrap();
        assert_eq!(network.listen(endpoint.clone()).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(listener);
        assert_eq!(kind(network.connect(&endpoint).await), refused);
        assert!(network.listen(endpoint).is_ok());
    }
}
