//! One authenticated connection, whatever carries it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, BufReader, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio_rustls::TlsStream;

use crate::quic::QuicStream;

/// Below TLS, because rustls reads at most 4 KiB from the socket at a time.
pub(crate) type BufferedTcp = BufReader<TcpStream>;

/// A connection to a peer that proved its key. Reading through [`AsyncBufRead`] copies once less.
#[derive(Debug)]
pub struct DeviceStream {
    carried: Carried,
    /// The place in the listener's connection cap; free again when the stream is dropped.
    _permit: Option<OwnedSemaphorePermit>,
}

#[derive(Debug)]
enum Carried {
    Tls(Box<TlsStream<BufferedTcp>>),
    Quic(Box<QuicStream>),
}

impl DeviceStream {
    pub(crate) fn over_tls(stream: TlsStream<BufferedTcp>, permit: Option<OwnedSemaphorePermit>) -> Self {
        Self { carried: Carried::Tls(Box::new(stream)), _permit: permit }
    }

    pub(crate) fn over_quic(stream: QuicStream, permit: Option<OwnedSemaphorePermit>) -> Self {
        Self { carried: Carried::Quic(Box::new(stream)), _permit: permit }
    }
}

macro_rules! delegate {
    ($self:ident, $stream:ident => $call:expr) => {
        match &mut $self.get_mut().carried {
            Carried::Tls($stream) => {
                let $stream = Pin::new($stream.as_mut());
                $call
            }
            Carried::Quic($stream) => {
                let $stream = Pin::new($stream.as_mut());
                $call
            }
        }
    };
}

impl AsyncRead for DeviceStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let available = ready!(self.as_mut().poll_fill_buf(cx))?;
        let moved = available.len().min(buf.remaining());
        buf.put_slice(&available[..moved]);
        self.consume(moved);
        Poll::Ready(Ok(()))
    }
}

impl AsyncBufRead for DeviceStream {
    fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        delegate!(self, stream => stream.poll_fill_buf(cx))
    }

    fn consume(self: Pin<&mut Self>, bytes: usize) {
        delegate!(self, stream => stream.consume(bytes));
    }
}

impl AsyncWrite for DeviceStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        delegate!(self, stream => stream.poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        delegate!(self, stream => stream.poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        matches!(self.carried, Carried::Tls(_))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self, stream => stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self, stream => stream.poll_shutdown(cx))
    }
}
