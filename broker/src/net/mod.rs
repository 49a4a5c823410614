//! Sockets: how requests come in and answers go out.
//!
//! A [`Listener`] yields byte streams: from TCP ([`tcp`]), or from a network inside the process, so
//! that a broker can be embedded or simulated without a socket ([`accepted`]). [`server`] accepts and counts
//! connections and drains them at the end; [`door`] encrypts them and asks who it is where a listener says
//! so; [`connection`] serves one; [`http`] tells metrics and health.
//! Shell.

pub mod accepted;
mod admission;
#[cfg(test)]
mod audit_tests;
pub(crate) mod connection;
pub(crate) mod door;
mod failures;
pub(crate) mod http;
#[cfg(test)]
mod security_tests;
pub(crate) mod server;
mod strangers;
pub mod tcp;
pub(crate) mod tls;

use std::io;

use client::net::Endpoint;
use client::net::memory::MemoryListener;

use accepted::Accepted;

/// Where connections come from.
#[async_trait::async_trait]
pub trait Listener: Send {
    /// The listener's name, which decides what its clients are told to connect to: `PLAINTEXT`.
    fn name(&self) -> &str;

    /// What it is bound to, with the port that it really has.
    fn endpoint(&self) -> Endpoint;

    /// Waits for the next connection; also says who connected. Dropping it loses no connection.
    ///
    /// # Errors
    /// What the network said. The listener can be asked again.
    async fn accept(&mut self) -> io::Result<(Accepted, Endpoint)>;
}

/// The name of a listener that needs none.
pub const PLAINTEXT: &str = "PLAINTEXT";

#[async_trait::async_trait]
impl Listener for MemoryListener {
    fn name(&self) -> &str {
        PLAINTEXT
    }

    fn endpoint(&self) -> Endpoint {
        MemoryListener::endpoint(self).clone()
    }

    async fn accept(&mut self) -> io::Result<(Accepted, Endpoint)> {
        let (stream, peer) = MemoryListener::accept(self).await?;
        Ok((stream.into(), peer))
    }
}
