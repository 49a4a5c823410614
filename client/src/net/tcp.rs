//! Streams over TCP.
//!
//! Names are resolved at each connect, so that a broker that moved is found again; addresses are
//! tried in the resolver's order. Nagle's algorithm is off: requests are written whole, and
//! holding back their last segment would only add latency. Shell.

use std::io;

use tokio::net::TcpStream;

use super::{BoxStream, Connector, Endpoint};

/// Connects over TCP.
#[derive(Clone, Copy, Debug, Default)]
pub struct TcpConnector;

#[async_trait::async_trait]
impl Connector for TcpConnector {
    async fn connect(&self, endpoint: &Endpoint) -> io::Result<BoxStream> {
        let stream = TcpStream::connect((&*endpoint.host, endpoint.port)).await?;
        stream.set_nodelay(true)?;
        Ok(Box::new(stream))
    }
}
