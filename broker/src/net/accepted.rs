//! A connection's bytes, and what more a socket can do than others: send a file without reading it.
//! Shell.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context as Polling, Poll, ready};

use client::net::BoxStream;
use rustix::fs::sendfile;
use rustix::net::{SendFlags, send};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

use crate::disk::File;

/// 1 MiB: what the kernel is asked to send at once; then others on this thread have a turn.
const SENT_AT_ONCE_BYTES_MAX: usize = 1 << 20;

/// What a listener accepted.
pub enum Accepted {
    /// A socket whose bytes go out as they are.
    Socket(TcpStream),
    /// Anything else: encrypted, or no socket at all.
    Stream(BoxStream),
}

impl Accepted {
    /// True when [`poll_send`](Self::poll_send) may be asked.
    pub(crate) fn sends_files(&self) -> bool {
        matches!(self, Self::Socket(_))
    }

    /// Writes some of `bytes`, after which more will be written at once: the two need not go apart.
    ///
    /// # Errors
    /// What the network says.
    pub(crate) fn poll_write_before(
        &mut self,
        polling: &mut Polling<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Socket(socket) => {
                poll_try(socket, polling, || Ok(send(&*socket, bytes, SendFlags::MORE)?))
            }
            Self::Stream(stream) => Pin::new(stream).poll_write(polling, bytes),
        }
    }

    /// Sends some of the `count` bytes of `file` from `at` on.
    ///
    /// # Errors
    /// What the network or the disk says; `UnexpectedEof` when the file ends before, `Unsupported` for
    /// what is no socket or no real file.
    pub(crate) fn poll_send(
        &mut self,
        polling: &mut Polling<'_>,
        file: &dyn File,
        at: u64,
        count: usize,
    ) -> Poll<io::Result<usize>> {
        let (Self::Socket(socket), Some(fd)) = (self, file.fd()) else {
            return Poll::Ready(Err(io::ErrorKind::Unsupported.into()));
        };
        let sent = ready!(poll_try(socket, polling, || {
            let mut at = at;
            Ok(sendfile(&*socket, fd, Some(&mut at), count.min(SENT_AT_ONCE_BYTES_MAX))?)
        }))?;
        let ended = || io::Error::from(io::ErrorKind::UnexpectedEof);
        Poll::Ready((sent > 0).then_some(sent).ok_or_else(ended))
    }
}

/// Carries `out` out as soon as the socket takes anything.
fn poll_try(
    socket: &TcpStream,
    polling: &mut Polling<'_>,
    mut out: impl FnMut() -> io::Result<usize>,
) -> Poll<io::Result<usize>> {
    loop {
        ready!(socket.poll_write_ready(polling))?;
        match socket.try_io(Interest::WRITABLE, &mut out) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            carried_out => return Poll::Ready(carried_out),
        }
    }
}

impl From<BoxStream> for Accepted {
    fn from(stream: BoxStream) -> Self {
        Self::Stream(stream)
    }
}

impl AsyncRead for Accepted {
    fn poll_read(
        self: Pin<&mut Self>,
        polling: &mut Polling<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Socket(socket) => Pin::new(socket).poll_read(polling, buf),
            Self::Stream(stream) => Pin::new(stream).poll_read(polling, buf),
        }
    }
}

impl AsyncWrite for Accepted {
    fn poll_write(
        self: Pin<&mut Self>,
        polling: &mut Polling<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Socket(socket) => Pin::new(socket).poll_write(polling, bytes),
            Self::Stream(stream) => Pin::new(stream).poll_write(polling, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        polling: &mut Polling<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Socket(socket) => Pin::new(socket).poll_write_vectored(polling, slices),
            Self::Stream(stream) => Pin::new(stream).poll_write_vectored(polling, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Socket(socket) => socket.is_write_vectored(),
            Self::Stream(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, polling: &mut Polling<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Socket(socket) => Pin::new(socket).poll_flush(polling),
            Self::Stream(stream) => Pin::new(stream).poll_flush(polling),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, polling: &mut Polling<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Socket(socket) => Pin::new(socket).poll_shutdown(polling),
            Self::Stream(stream) => Pin::new(stream).poll_shutdown(polling),
        }
    }
}
