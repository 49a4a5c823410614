//! Listening on TCP.
//!
//! Small answers leave at once (no Nagle). The port may be 0: a free one is taken and told. Shell.

use std::io;
use std::net::SocketAddr;

use client::net::Endpoint;
use tokio::net::TcpListener as Socket;

use super::Listener;
use super::accepted::Accepted;

/// A bound TCP socket that accepts connections.
#[derive(Debug)]
pub struct TcpListener {
    name: String,
    endpoint: Endpoint,
    socket: Socket,
}

impl TcpListener {
    /// Listens on `host` and `port`. An empty host means every interface; port 0 a free one.
    ///
    /// # Errors
    /// When the address does not resolve or is taken.
    pub async fn bind(name: &str, host: &str, port: u16) -> io::Result<Self> {
        // The IPv6 wildcard takes IPv4 connections too, where there is IPv6 at all.
        let hosts: &[&str] = if host.is_empty() { &["::", "0.0.0.0"] } else { &[host] };
        let mut failure = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for host in hosts {
            match Socket::bind((*host, port)).await {
                Ok(socket) => {
                    let port = socket.local_addr()?.port();
                    let endpoint = Endpoint::new(*host, port);
                    return Ok(Self { name: name.to_owned(), endpoint, socket });
                }
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }
}

#[async_trait::async_trait]
impl Listener for TcpListener {
    fn name(&self) -> &str {
        &self.name
    }

    fn endpoint(&self) -> Endpoint {
        self.endpoint.clone()
    }

    async fn accept(&mut self) -> io::Result<(Accepted, Endpoint)> {
        let (stream, peer) = self.socket.accept().await?;
        stream.set_nodelay(true)?;
        Ok((Accepted::Socket(stream), endpoint_of(peer)))
    }
}

/// Where a connection comes from, as settings and access control lists write addresses.
///
/// A socket of IPv6 tells a client of IPv4 as `::ffff:10.0.0.7`: left so, what is bounded or denied
/// for `10.0.0.7` would not hold for it.
fn endpoint_of(peer: SocketAddr) -> Endpoint {
    Endpoint::new(peer.ip().to_canonical().to_string(), peer.port())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn port_zero_is_a_free_port_and_what_is_sent_arrives() {
        let mut listener = TcpListener::bind("PLAINTEXT", "127.0.0.1", 0).await.unwrap();
        let at = listener.endpoint();
        assert_ne!(at.port, 0);
        let mut client = tokio::net::TcpStream::connect((&*at.host, at.port)).await.unwrap();
        let (mut server, peer) = listener.accept().await.unwrap();
        assert_eq!(peer.port, client.local_addr().unwrap().port());
        client.write_all(b"ping").await.unwrap();
        let mut got = [0; 4];
        server.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"ping");
    }

    #[test]
    fn a_client_of_ipv4_is_known_by_that_address_whichever_socket_it_came_by() {
        for (peer, want) in [
            ("10.0.0.7:9", "10.0.0.7"),
            ("[::ffff:10.0.0.7]:9", "10.0.0.7"),
            ("[2001:db8::7]:9", "2001:db8::7"),
        ] {
            assert_eq!(endpoint_of(peer.parse().unwrap()), Endpoint::new(want, 9), "{peer}");
        }
    }
}
