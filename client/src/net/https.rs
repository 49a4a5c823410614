//! One request over HTTPS: as much as is needed to get keys and tokens from who issues them.
//!
//! The server's certificate is verified, against the roots that this machine trusts or others.
//! Redirects are not followed, answers are bounded in bytes and time, and no error repeats what
//! came: it may be a secret, or somebody else's (CVE-2025-27817). Shell.

#[cfg(any(test, feature = "check"))]
pub mod testing;

use std::sync::Arc;
use std::time::Duration;

use protocol::secret::Secret;
use protocol::security::store::Pem;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::tcp::TcpConnector;
use super::tls::{TlsConnector, TlsError, TlsOptions};
use super::{BoxStream, Connector, Endpoint};

/// 10 s: from connecting to the last byte, unless told otherwise.
const EXCHANGE_MAX: Duration = Duration::from_secs(10);
/// 64 KiB: the longest head of an answer.
const HEAD_BYTES_MAX: usize = 64 << 10;

/// Why there is no answer. None of it says what the answer was.
#[derive(Debug, thiserror::Error)]
pub enum HttpsError {
    /// Not a URL of HTTPS.
    #[error("expected https://host/path")]
    Url,
    /// The roots of certificates cannot be had.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The network, or the certificate.
    #[error("no connection, or a broken one: {0}")]
    Io(#[from] std::io::Error),
    /// It took too long.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// The server says no, or points elsewhere.
    #[error("the server answered with status {0}")]
    Status(u16),
    /// The answer is none of HTTP, or too long.
    #[error("the answer is not HTTP, or longer than {0} bytes")]
    Answer(usize),
}

/// How to ask.
#[derive(Clone, Debug)]
pub struct Https {
    /// The roots of the server's certificate, read at each exchange. `None`: those that this
    /// machine trusts.
    pub roots: Option<Pem>,
    /// From connecting to the last byte.
    pub patience: Duration,
}

impl Default for Https {
    fn default() -> Self {
        Self { roots: None, patience: EXCHANGE_MAX }
    }
}

impl Https {
    /// Trusts what `roots` have signed. `None`: what those that this machine trusts have signed.
    #[must_use]
    pub fn with_roots(roots: Option<Pem>) -> Self {
        Self { roots, ..Self::default() }
    }

    /// What is at `url`, `body_bytes_max` bytes at most.
    ///
    /// # Errors
    /// See [`HttpsError`]; the network's may be retried.
    pub async fn get(&self, url: &str, body_bytes_max: usize) -> Result<Vec<u8>, HttpsError> {
        self.exchange(url, "GET", "", &Secret::new(""), body_bytes_max).await
    }

    /// What `url` answers to a form; `authorization` is sent in the header of that name.
    ///
    /// # Errors
    /// See [`HttpsError`]; the network's may be retried.
    pub async fn post_form(
        &self,
        url: &str,
        authorization: &Secret,
        form: &Secret,
        body_bytes_max: usize,
    ) -> Result<Vec<u8>, HttpsError> {
        let head = format!(
            "Authorization: {}\r\nContent-Type: application/x-www-form-urlencoded\r\n\
             Content-Length: {}\r\n",
            authorization.expose(),
            form.expose().len()
        );
        self.exchange(url, "POST", &head, form, body_bytes_max).await
    }

    async fn exchange(
        &self,
        url: &str,
        method: &str,
        head: &str,
        body: &Secret,
        body_bytes_max: usize,
    ) -> Result<Vec<u8>, HttpsError> {
        let (endpoint, path) = parts(url).ok_or(HttpsError::Url)?;
        let options = TlsOptions { roots: self.roots.clone(), ..TlsOptions::default() };
        let connector = TlsConnector::new(Arc::new(TcpConnector), &options)?;
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {endpoint}\r\nAccept: application/json\r\n\
             User-Agent: millstream\r\nConnection: close\r\n{head}\r\n{}",
            body.expose()
        );
        let asked = async {
            let mut stream = connector.connect(&endpoint).await?;
            stream.write_all(request.as_bytes()).await?;
            stream.flush().await?;
            read_answer(&mut stream, body_bytes_max).await
        };
        timeout(self.patience, asked).await.map_err(|_| HttpsError::Timeout(self.patience))?
    }
}

/// Host, port and path of a URL.
fn parts(url: &str) -> Option<(Endpoint, &str)> {
    let rest = url.strip_prefix("https://")?;
    let (place, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let is_clean = |text: &str| text.bytes().all(|it| it.is_ascii_graphic());
    // Names and passwords in a URL end up in logs.
    if place.contains('@') || !is_clean(place) || !is_clean(path) || path.starts_with('?') {
        return None;
    }
    let has_port = place.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let endpoint = if has_port { place.to_owned() } else { format!("{place}:443") };
    let path = if path.is_empty() { "/" } else { path };
    Some((endpoint.parse().ok()?, path))
}

async fn read_answer(stream: &mut BoxStream, max: usize) -> Result<Vec<u8>, HttpsError> {
    let mut answer = Vec::new();
    // The coding of chunks adds less than as much again.
    let bytes_max = HEAD_BYTES_MAX + 2 * max;
    loop {
        let mut room = [0; 4096];
        let count = match stream.read(&mut room).await {
            Ok(count) => count,
            // Many servers close without TLS's own goodbye; what came must be whole by itself.
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => 0,
            Err(error) => return Err(error.into()),
        };
        if count == 0 {
            break;
        }
        answer.extend_from_slice(&room[..count]);
        if answer.len() > bytes_max {
            return Err(HttpsError::Answer(max));
        }
        if is_whole(&answer) {
            break;
        }
    }
    body_of(&answer, max)
}

/// The head's lines, and what follows it.
fn head_of(answer: &[u8]) -> Option<(&str, &[u8])> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    Some((str::from_utf8(&answer[..end]).ok()?, &answer[end + 4..]))
}

/// The value of a header, its name in small letters.
fn header<'a>(head: &'a str, wanted: &str) -> Option<&'a str> {
    let mut pairs = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    pairs.find(|(name, _)| name.trim().eq_ignore_ascii_case(wanted)).map(|(_, value)| value.trim())
}

fn is_chunked(head: &str) -> bool {
    header(head, "transfer-encoding").is_some_and(|it| it.eq_ignore_ascii_case("chunked"))
}

fn is_whole(answer: &[u8]) -> bool {
    let Some((head, rest)) = head_of(answer) else { return false };
    if is_chunked(head) {
        return rest.ends_with(b"0\r\n\r\n");
    }
    let length = header(head, "content-length").and_then(|it| it.parse().ok());
    length.is_some_and(|length: usize| rest.len() >= length)
}

fn body_of(answer: &[u8], max: usize) -> Result<Vec<u8>, HttpsError> {
    let refuse = || HttpsError::Answer(max);
    let (head, rest) = head_of(answer).ok_or_else(refuse)?;
    let mut words = head.split(' ');
    let is_http = words.next().is_some_and(|word| word.starts_with("HTTP/1."));
    let status = words.next().and_then(|word| word.parse::<u16>().ok());
    let status = status.filter(|_| is_http).ok_or_else(refuse)?;
    if status != 200 {
        return Err(HttpsError::Status(status));
    }
    let body = if is_chunked(head) {
        unchunked(rest).ok_or_else(refuse)?
    } else if let Some(length) = header(head, "content-length") {
        let length: usize = length.parse().map_err(|_| refuse())?;
        rest.get(..length).ok_or_else(refuse)?.to_vec()
    } else {
        rest.to_vec()
    };
    if body.len() > max { Err(refuse()) } else { Ok(body) }
}

fn unchunked(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|window| window == b"\r\n")?;
        let line = str::from_utf8(&rest[..end]).ok()?;
        let size = usize::from_str_radix(line.split(';').next()?.trim(), 16).ok()?;
        rest = &rest[end + 2..];
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(rest.get(..size)?);
        rest = rest.get(size..)?.strip_prefix(b"\r\n")?;
    }
}

#[cfg(test)]
mod tests;
