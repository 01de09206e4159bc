//! Reads a stream while what was queued for writing goes out: both directions in one task, without a lock.

use bytes::{Buf, BytesMut};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncBufRead, AsyncWrite, AsyncWriteExt};

pub(crate) struct Duplex<S> {
    stream: S,
    out: BytesMut,
}

impl<S: AsyncBufRead + AsyncWrite + Unpin> Duplex<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, out: BytesMut::new() }
    }

    /// Queues bytes; they leave while something is being read. The caller bounds how much.
    pub(crate) fn queue(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// Appends what can be read now, at most `max` bytes, to `into`; 0 at the end of the stream. Dropping the future
    /// loses nothing.
    pub(crate) async fn read_some(&mut self, into: &mut BytesMut, max: usize) -> io::Result<usize> {
        poll_fn(|cx| self.poll_read_some(cx, into, max)).await
    }

    /// Ends the writing direction.
    pub(crate) async fn shutdown(&mut self) -> io::Result<()> {
        self.stream.shutdown().await
    }

    fn poll_read_some(&mut self, cx: &mut Context<'_>, into: &mut BytesMut, max: usize) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Err(error)) = self.poll_write_out(cx) {
            return Poll::Ready(Err(error));
        }
        let readable = ready!(Pin::new(&mut self.stream).poll_fill_buf(cx))?;
        let taken = readable.len().min(max);
        into.extend_from_slice(&readable[..taken]);
        Pin::new(&mut self.stream).consume(taken);
        Poll::Ready(Ok(taken))
    }

    fn poll_write_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.out.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.out))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.out.advance(written);
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }
}
