//! A plain connection: requests go out as they are, answers come in as they are.
//!
//! Shell.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection to a broker.
pub(super) struct Line {
    endpoint: String,
    stream: TcpStream,
    correlation_id: i32,
}

/// What came of a request.
pub(super) enum Heard {
    /// The frame of an answer, without its length.
    Frame(Bytes),
    /// The broker hung up. There is a new connection.
    Closed,
}

impl Line {
    pub(super) fn open(endpoint: &str) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(endpoint).with_context(|| endpoint.to_owned())?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { endpoint: endpoint.to_owned(), stream, correlation_id: 0 })
    }

    /// The id of the next request.
    pub(super) fn next_id(&mut self) -> i32 {
        self.correlation_id += 1;
        self.correlation_id
    }

    /// Sends a frame, its length included. That the broker has hung up shows when it is heard.
    pub(super) fn send(&mut self, frame: &[u8]) {
        drop(self.stream.write_all(frame));
    }

    /// The next answer.
    pub(super) fn hear(&mut self) -> anyhow::Result<Heard> {
        let mut length = [0; 4];
        let heard = self.stream.read_exact(&mut length).and_then(|()| {
            let length = usize::try_from(i32::from_be_bytes(length)).unwrap_or(0);
            let mut frame = vec![0; length];
            self.stream.read_exact(&mut frame).map(|()| frame)
        });
        match heard {
            Ok(frame) => Ok(Heard::Frame(frame.into())),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                bail!("{}: no answer within {PATIENCE:?}", self.endpoint)
            }
            Err(_) => {
                let correlation_id = self.correlation_id;
                *self = Self { correlation_id, ..Self::open(&self.endpoint)? };
                Ok(Heard::Closed)
            }
        }
    }

    /// Waits a little, unless the broker says something unasked for.
    pub(super) fn idle(&self) -> anyhow::Result<()> {
        self.stream.set_read_timeout(Some(Duration::from_millis(20)))?;
        drop(self.stream.peek(&mut [0]));
        self.stream.set_read_timeout(Some(PATIENCE))?;
        Ok(())
    }
}
