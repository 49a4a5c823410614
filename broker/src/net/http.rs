//! The port of metrics and health: as much of HTTP/1.0 as a scraper or a supervisor needs.
//!
//! `GET` and `HEAD` of `/metrics`, `/health/live` and `/health/ready`; each connection is answered
//! once and closed. Heads are bounded in bytes and time, connections in number; nothing else of a
//! request is read. Where the settings name credentials, every path but `/health/live` is told to
//! who brings them alone: what is asked is looked at only after that. Shell.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use client::net::Endpoint;
use protocol::secret::Secret;
use protocol::security::SecurityProtocol;
use protocol::time::Clock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::{AbortHandle, JoinSet};
use tracing::{debug, info, warn};

use super::Listener;
use super::accepted::Accepted;
use super::failures::Failures;
use super::tls::TlsDoor;
use crate::auth::Session;
use crate::auth::audit::Event;
use crate::auth::lines::Lines;
use crate::auth::stores::Store;
use crate::auth::trail::Trail;
use crate::config::{BrokerConfig, METRICS};
use crate::limits::METRICS_CONNECTIONS_MAX;

/// 8 KiB: the longest head of a request. Longer ones are refused.
const HEAD_BYTES_MAX: usize = 8 << 10;
/// How long a connection may take from its first byte to its last.
const EXCHANGE_MAX: Duration = Duration::from_secs(10);
/// Where a supervisor asks whether the process lives.
const LIVE: &str = "/health/live";
const UNAUTHORIZED: &str = "401 Unauthorized";

/// A page to come.
pub(crate) type Later<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What is told.
pub(crate) trait Tell: Send + Sync + 'static {
    /// The page of metrics.
    fn metrics(&self) -> Later<String>;

    /// Nothing when requests can be served, else why not.
    fn unready(&self) -> Option<String>;
}

/// Who may ask.
#[derive(Debug, Default)]
pub(crate) struct Guard {
    /// How connections are encrypted. `None`: not.
    tls: Option<TlsDoor>,
    /// What the header `Authorization` may be. Empty: whoever asks is answered.
    headers: Vec<Secret>,
}

impl Guard {
    /// As the settings say.
    pub(crate) fn new(config: &BrokerConfig, tls: Option<TlsDoor>) -> Self {
        let basic = config
            .metrics_basic_auth
            .iter()
            .map(|it| Secret::new(format!("Basic {}", BASE64_STANDARD.encode(it.expose()))));
        let bearer = config.metrics_bearer_token.iter();
        let bearer = bearer.map(|it| Secret::new(format!("Bearer {}", it.expose())));
        Self { tls, headers: basic.chain(bearer).collect() }
    }

    /// What the port shows of itself. `None`: it does not encrypt.
    pub(crate) fn store(&self) -> Option<Arc<Store>> {
        self.tls.as_ref().map(TlsDoor::store)
    }

    /// Nothing when who sent this head may ask, else why not.
    fn refusal(&self, head: &[u8]) -> Option<&'static str> {
        if self.headers.is_empty() {
            return None;
        }
        let Some(shown) = authorization(head) else { return Some("no Authorization was sent") };
        // Each is compared, in a time that does not tell how much of it is right.
        let matching = self.headers.iter().filter(|known| **known == shown).count();
        (matching == 0).then_some("the Authorization is wrong")
    }
}

/// The header `Authorization`, its scheme written as it is in general. `None`: there is none, or
/// more than one.
fn authorization(head: &[u8]) -> Option<Secret> {
    let lines = std::str::from_utf8(head).ok()?.split("\r\n").skip(1);
    let mut shown = lines.filter_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("authorization").then_some(value.trim())
    });
    let value = shown.next().filter(|_| shown.next().is_none())?;
    let (scheme, rest) = value.split_once(' ')?;
    let known = ["Basic", "Bearer"].into_iter().find(|it| it.eq_ignore_ascii_case(scheme))?;
    Some(Secret::new(format!("{known} {}", rest.trim())))
}

/// A port of metrics. Dropping it closes the port.
#[derive(Debug)]
pub(crate) struct Port(AbortHandle);

impl Drop for Port {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Tells what `teller` knows to whom `guard` lets in of those whom `listener` accepts.
pub(crate) fn start(
    listener: Box<dyn Listener>,
    guard: Guard,
    (trail, clock): (Trail, Clock),
    teller: Arc<dyn Tell>,
) -> Port {
    info!(endpoint = %listener.endpoint(), "telling metrics and health");
    let desk = Arc::new(Desk { guard, trail, teller });
    Port(tokio::spawn(run(listener, clock, desk)).abort_handle())
}

/// What connections are answered from.
struct Desk {
    guard: Guard,
    trail: Trail,
    teller: Arc<dyn Tell>,
}

async fn run(mut listener: Box<dyn Listener>, clock: Clock, desk: Arc<Desk>) {
    let (lines, failures) = (Lines::default(), Failures::new(&*listener, &clock));
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            accepted = listener.accept() => match accepted {
                Ok((_, peer)) if connections.len() >= METRICS_CONNECTIONS_MAX => {
                    if lines.may_tell(clock.now().monotonic, &peer.host) {
                        warn!(%peer, "too many connections ask for metrics");
                    } else {
                        debug!(%peer, "too many connections ask for metrics");
                    }
                }
                Ok((stream, peer)) => {
                    let desk = desk.clone();
                    connections.spawn(async move {
                        let exchange = pin!(desk.exchange(stream, &peer));
                        let ended = tokio::time::timeout(EXCHANGE_MAX, exchange).await;
                        debug!(%peer, ?ended, "metrics were asked for");
                    });
                }
                Err(error) => failures.pause(&error).await,
            },
        }
    }
}

impl Desk {
    async fn exchange(&self, stream: Accepted, peer: &Endpoint) -> std::io::Result<()> {
        let mut stream = match &self.guard.tls {
            None => stream,
            Some(tls) => match tls.accept(stream).await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    self.note_refused(peer, error.to_string());
                    return Ok(());
                }
            },
        };
        let head = read_head(&mut stream).await?;
        let line = head.as_deref().and_then(request_line);
        let (status, body) = match (line, &head) {
            (Some(line), Some(head)) => self.answer(line, head, peer).await,
            (_, _) => ("400 Bad Request", "no request of HTTP\n".to_owned()),
        };
        let challenge = match status {
            UNAUTHORIZED => "WWW-Authenticate: Basic realm=\"metrics\"\r\n",
            _ => "",
        };
        let head = format!(
            "HTTP/1.0 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n\
             Content-Length: {}\r\n{challenge}Connection: close\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).await?;
        if line.is_none_or(|(method, _)| method != "HEAD") {
            stream.write_all(body.as_bytes()).await?;
        }
        stream.shutdown().await
    }

    /// Status and body. That the process lives is told to everybody: it is what who asks for it
    /// knows by being answered.
    async fn answer(
        &self,
        (method, path): (&str, &str),
        head: &[u8],
        peer: &Endpoint,
    ) -> (&'static str, String) {
        let path = path.split('?').next().unwrap_or(path);
        let is_asking = matches!(method, "GET" | "HEAD");
        if let Some(why) = self.guard.refusal(head)
            && !(is_asking && path == LIVE)
        {
            self.note_refused(peer, why.to_owned());
            return (UNAUTHORIZED, "credentials are needed\n".to_owned());
        }
        if is_asking {
            answer(path, &*self.teller).await
        } else {
            ("405 Method Not Allowed", "GET and HEAD alone\n".to_owned())
        }
    }

    fn note_refused(&self, peer: &Endpoint, why: String) {
        let protocol = match self.guard.tls {
            Some(_) => SecurityProtocol::Ssl,
            None => SecurityProtocol::Plaintext,
        };
        let session = Session::anonymous(METRICS, protocol, peer.clone());
        self.trail.note(&Event::unproved(&session, None, why));
    }
}

async fn answer(path: &str, teller: &dyn Tell) -> (&'static str, String) {
    const OK: &str = "200 OK";
    match path {
        "/metrics" => (OK, teller.metrics().await),
        LIVE => (OK, "live\n".to_owned()),
        "/health/ready" => match teller.unready() {
            None => (OK, "ready\n".to_owned()),
            Some(reason) => ("503 Service Unavailable", format!("{reason}\n")),
        },
        _ => ("404 Not Found", "/metrics, /health/live, /health/ready\n".to_owned()),
    }
}

/// All up to the empty line. `None`: it is too long, or ends before.
async fn read_head(stream: &mut Accepted) -> std::io::Result<Option<Vec<u8>>> {
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
    use client::net::Connector;
    use client::net::memory::MemoryNetwork;
    use protocol::time::Timestamp;
    use tracing_subscriber::filter::LevelFilter;

    use super::*;
    use crate::api::Logged;
    use crate::limits::{AUDIT_EVENTS_OF_SOURCE_MAX, AUDIT_WINDOW};

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
        trail: Trail,
        _port: Port,
    }

    fn asked(unready: Option<&'static str>, headers: &[&str]) -> Asked {
        let network = MemoryNetwork::new();
        let at = Endpoint::new("broker", 9644);
        let listener = Box::new(network.listen(at.clone()).unwrap());
        let guard =
            Guard { tls: None, headers: headers.iter().map(|it| Secret::new(*it)).collect() };
        let clock = client::time::virtual_clock(Timestamp(0));
        let trail = Trail::start(clock.clone());
        let port = start(listener, guard, (trail.clone(), clock), Arc::new(Fake(unready)));
        Asked { network, at, trail, _port: port }
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
        let port = asked(None, &[]);
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
        let port = asked(Some("the disk failed"), &[]);
        let answer = port.ask("GET /health/ready HTTP/1.1\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.0 503 "), "{answer}");
        assert!(answer.ends_with("the disk failed\n"), "{answer}");
        assert!(port.ask("GET /health/live HTTP/1.1\r\n\r\n").await.starts_with("HTTP/1.0 200 "));
    }

    const BASIC: &str = "Basic YTpj";
    const BEARER: &str = "Bearer canary";

    #[tokio::test(start_paused = true)]
    async fn who_brings_no_credentials_or_wrong_ones_is_told_nothing_on_any_path() {
        let port = asked(Some("the disk failed"), &[BASIC, BEARER]);
        let mut refused = 0;
        for line in [
            "GET /metrics",
            "GET /metrics?a",
            "GET /health/ready",
            "HEAD /health/ready",
            "GET /",
            "GET /health/live/",
            "GET //health/live",
            "GET /nothing",
            "POST /metrics",
            "POST /health/live",
            "DELETE /",
        ] {
            for header in [
                "",
                "Authorization: \r\n",
                "Authorization: Basic\r\n",
                "Authorization: Basic YTpk\r\n",
                "Authorization: Basic YTpjYw==\r\n",
                "Authorization: Bearer YTpj\r\n",
                "Authorization: Bearer canar\r\n",
                "Authorization: canary\r\n",
                "X-Authorization: Bearer canary\r\n",
                // Two that could be meant: neither is believed.
                "Authorization: Bearer canary\r\nAuthorization: Bearer x\r\n",
            ] {
                let answer = port.ask(&format!("{line} HTTP/1.1\r\n{header}\r\n")).await;
                assert!(answer.starts_with("HTTP/1.0 401 "), "{line} {header}: {answer}");
                assert!(answer.contains("WWW-Authenticate: Basic"), "{answer}");
                assert!(!answer.contains("disk") && !answer.contains("canary"), "{answer}");
                refused += 1;
            }
        }
        let (kinds, _) = port.trail.counts();
        assert_eq!(kinds[0], ("authentication", refused));
        // That the process lives is no secret.
        let live = port.ask("GET /health/live HTTP/1.1\r\n\r\n").await;
        assert!(live.starts_with("HTTP/1.0 200 "), "{live}");
    }

    #[tokio::test(start_paused = true)]
    async fn who_brings_credentials_is_answered() {
        let port = asked(None, &[BASIC, BEARER]);
        for header in [
            "Authorization: Basic YTpj",
            "authorization:basic  YTpj ",
            "AUTHORIZATION: BEARER canary",
            "Accept: */*\r\nAuthorization: Bearer canary",
        ] {
            let answer = port.ask(&format!("GET /metrics HTTP/1.1\r\n{header}\r\n\r\n")).await;
            assert!(answer.starts_with("HTTP/1.0 200 "), "{header}: {answer}");
            let other = port.ask(&format!("PUT /metrics HTTP/1.1\r\n{header}\r\n\r\n")).await;
            assert!(other.starts_with("HTTP/1.0 405 "), "{header}: {other}");
        }
        assert_eq!(port.trail.counts().0[0], ("authentication", 0));
    }

    #[tokio::test(start_paused = true)]
    async fn who_keeps_the_port_busy_does_not_fill_the_log() {
        let logged = Logged::from(LevelFilter::WARN);
        let port = asked(None, &[]);
        let mut kept = Vec::new();
        for _ in 0..METRICS_CONNECTIONS_MAX {
            kept.push(port.network.connect(&port.at).await.unwrap());
        }
        for _ in 0..100 {
            let mut stream = port.network.connect(&port.at).await.unwrap();
            let _ = stream.read_to_string(&mut String::new()).await;
        }
        let text = logged.text();
        let refused = text.lines().filter(|it| it.contains("too many connections")).count();
        assert_eq!(u32::try_from(refused).unwrap(), AUDIT_EVENTS_OF_SOURCE_MAX, "{text}");
        tokio::time::sleep(AUDIT_WINDOW + Duration::from_secs(1)).await;
        assert!(logged.text().contains(r#""count":80,"#), "{}", logged.text());
    }

    #[test]
    fn the_settings_say_what_may_be_brought() {
        let pairs = [("metrics.basic.auth", "a:c"), ("metrics.bearer.token", "canary")];
        let guard = Guard::new(&BrokerConfig::from_pairs(pairs).unwrap(), None);
        assert_eq!(guard.headers, [Secret::new(BASIC), Secret::new(BEARER)]);
        assert!(!format!("{guard:?}").contains("canary"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_without_an_end_is_given_up() {
        let port = asked(None, &[]);
        let endless = "x".repeat(HEAD_BYTES_MAX + 1);
        let refused = port.ask(&format!("GET /{endless}")).await;
        assert!(refused.is_empty() || refused.starts_with("HTTP/1.0 400 "), "{refused}");
        assert_eq!(port.ask("GET /metrics HTTP/1.1\r\n").await, "");
    }
}
