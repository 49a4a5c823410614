//! The port of metrics and health: as much of HTTP/1.0 as a scraper or a supervisor needs.
//!
//! `GET` and `HEAD` of `/metrics`, `/health/live` and `/health/ready`; each connection is answered
//! once and closed. Heads are bounded in bytes and time, connections in number; nothing else of a
//! request is read. There is no authentication: listen on loopback, or behind something. Shell.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use client::net::BoxStream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::{AbortHandle, JoinSet};
use tracing::{debug, info, warn};

use super::Listener;
use crate::limits::METRICS_CONNECTIONS_MAX;

/// 8 KiB: the longest head of a request. Longer ones are refused.
const HEAD_BYTES_MAX: usize = 8 << 10;
/// How long a connection may take from its first byte to its last.
const EXCHANGE_MAX: Duration = Duration::from_secs(10);
/// How long to wait after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A page to come.
pub(crate) type Later<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What is told.
pub(crate) trait Tell: Send + Sync + 'static {
    /// The page of metrics.
    fn metrics(&self) -> Later<String>;

    /// Nothing when requests can be served, else why not.
    fn unready(&self) -> Option<String>;
}

/// A port of metrics. Dropping it closes the port.
#[derive(Debug)]
pub(crate) struct Port(AbortHandle);

impl Drop for Port {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Tells what `teller` knows to whoever `listener` accepts.
pub(crate) fn start(listener: Box<dyn Listener>, teller: Arc<dyn Tell>) -> Port {
    info!(endpoint = %listener.endpoint(), "telling metrics and health");
    Port(tokio::spawn(run(listener, teller)).abort_handle())
}

async fn run(mut listener: Box<dyn Listener>, teller: Arc<dyn Tell>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            accepted = listener.accept() => match accepted {
                Ok((_, peer)) if connections.len() >= METRICS_CONNECTIONS_MAX => {
                    warn!(%peer, "too many connections ask for metrics");
                }
                Ok((stream, peer)) => {
                    let teller = teller.clone();
                    connections.spawn(async move {
                        let exchange = pin!(exchange(stream, &*teller));
                        let ended = tokio::time::timeout(EXCHANGE_MAX, exchange).await;
                        debug!(%peer, ?ended, "metrics were asked for");
                    });
                }
                Err(error) => {
                    warn!(%error, "could not accept a connection for metrics");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
}

async fn exchange(mut stream: BoxStream, teller: &dyn Tell) -> std::io::Result<()> {
    let head = read_head(&mut stream).await?;
    let line = head.as_deref().and_then(request_line);
    let (status, body) = match line {
        None => ("400 Bad Request", "no request of HTTP\n".to_owned()),
        Some(("GET" | "HEAD", path)) => answer(path, teller).await,
        Some(_) => ("405 Method Not Allowed", "GET and HEAD alone\n".to_owned()),
    };
    let head = format!(
        "HTTP/1.0 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    if line.is_none_or(|(method, _)| method != "HEAD") {
        stream.write_all(body.as_bytes()).await?;
    }
    stream.shutdown().await
}

async fn answer(path: &str, teller: &dyn Tell) -> (&'static str, String) {
    const OK: &str = "200 OK";
    match path.split('?').next().unwrap_or(path) {
        "/metrics" => (OK, teller.metrics().await),
        "/health/live" => (OK, "live\n".to_owned()),
        "/health/ready" => match teller.unready() {
            None => (OK, "ready\n".to_owned()),
            Some(reason) => ("503 Service Unavailable", format!("{reason}\n")),
        },
        _ => ("404 Not Found", "/metrics, /health/live, /health/ready\n".to_owned()),
    }
}

/// All up to the empty line. `None`: it is too long, or ends before.
async fn read_head(stream: &mut BoxStream) -> std::io::Result<Option<Vec<u8>>> {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let mut room = [0; 1024];
        match stream.read(&mut room).await? {
            0 => return Ok(None),
            count => head.extend_from_slice(&room[..count]),
        }
        if head.len() > HEAD_BYTES_MAX {
            return Ok(None);
        }
    }
    Ok(Some(head))
}

/// Method and path.
fn request_line(head: &[u8]) -> Option<(&str, &str)> {
    let line = head.split(|&byte| byte == b'\r').next()?;
    let mut words = std::str::from_utf8(line).ok()?.split(' ');
    let (method, path) = (words.next()?, words.next()?);
    words.next().filter(|version| version.starts_with("HTTP/1"))?;
    Some((method, path))
}

#[cfg(test)]
mod tests {
    use client::net::memory::MemoryNetwork;
    use client::net::{Connector, Endpoint};

    use super::*;

    struct Fake(Option<&'static str>);

    impl Tell for Fake {
        fn metrics(&self) -> Later<String> {
            Box::pin(async { "some 1\n".to_owned() })
        }

        fn unready(&self) -> Option<String> {
            self.0.map(str::to_owned)
        }
    }

    struct Asked {
        network: MemoryNetwork,
        at: Endpoint,
        _port: Port,
    }

    fn asked(unready: Option<&'static str>) -> Asked {
        let network = MemoryNetwork::new();
        let at = Endpoint::new("broker", 9644);
        let listener = Box::new(network.listen(at.clone()).unwrap());
        Asked { network, at, _port: start(listener, Arc::new(Fake(unready))) }
    }

    impl Asked {
        async fn ask(&self, request: &str) -> String {
            let mut stream = self.network.connect(&self.at).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            // A refusal may come before the request has been read.
            let _ = stream.read_to_string(&mut answer).await;
            answer
        }
    }

    #[tokio::test(start_paused = true)]
    async fn metrics_and_health_are_told_to_who_asks_for_them() {
        let port = asked(None);
        let check = async |request: &str, status: &str, body: &str| {
            let answer = port.ask(&format!("{request}\r\nHost: me\r\n\r\n")).await;
            assert!(answer.starts_with(&format!("HTTP/1.0 {status} ")), "{request}: {answer}");
            let (head, told) = answer.split_once("\r\n\r\n").unwrap();
            assert_eq!(told, body, "{request}");
            assert!(head.contains("Content-Length: "), "{head}");
        };
        check("GET /metrics HTTP/1.1", "200", "some 1\n").await;
        check("GET /metrics?name=x HTTP/1.0", "200", "some 1\n").await;
        check("HEAD /metrics HTTP/1.1", "200", "").await;
        check("GET /health/live HTTP/1.1", "200", "live\n").await;
        check("GET /health/ready HTTP/1.1", "200", "ready\n").await;
        check("GET / HTTP/1.1", "404", "/metrics, /health/live, /health/ready\n").await;
        check("POST /metrics HTTP/1.1", "405", "GET and HEAD alone\n").await;
        check("nonsense", "400", "no request of HTTP\n").await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_broker_that_cannot_serve_is_live_and_not_ready() {
        let port = asked(Some("the disk failed"));
        let answer = port.ask("GET /health/ready HTTP/1.1\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.0 503 "), "{answer}");
        assert!(answer.ends_with("the disk failed\n"), "{answer}");
        assert!(port.ask("GET /health/live HTTP/1.1\r\n\r\n").await.starts_with("HTTP/1.0 200 "));
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_without_an_end_is_given_up() {
        let port = asked(None);
        let endless = "x".repeat(HEAD_BYTES_MAX + 1);
        let refused = port.ask(&format!("GET /{endless}")).await;
        assert!(refused.is_empty() || refused.starts_with("HTTP/1.0 400 "), "{refused}");
        assert_eq!(port.ask("GET /metrics HTTP/1.1\r\n").await, "");
    }
}
