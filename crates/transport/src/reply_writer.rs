//! Writes replies: paced, in few system calls, each byte counted when it is written.

use crate::counters::{FrameClass, ServeCounters};
use crate::serve::ServeError;
use crate::throttle::{Throttle, pass};
use bytes::Bytes;
use sluice_exchange::frame::{REPLY_HEADER_LEN, Reply, ReplyHeader, TRAILER_LEN};
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncWrite, AsyncWriteExt};

/// A reply that is ready to be sent.
#[derive(Debug)]
pub(crate) struct Outgoing {
    header: [u8; REPLY_HEADER_LEN],
    body: Bytes,
    trailer: Option<[u8; TRAILER_LEN]>,
    class: FrameClass,
    reply: Reply,
}

impl Outgoing {
    /// The trailer is given exactly when the reply announces it.
    pub(crate) fn new(request_id: u32, reply: Reply, body: Bytes, trailer: Option<[u8; TRAILER_LEN]>) -> Self {
        let class = match reply {
            Reply::Chunk { .. } => FrameClass::Chunk,
            Reply::Manifest | Reply::Have => FrameClass::Metadata,
            Reply::NotHere { .. } | Reply::Refused(_) | Reply::Elsewhere { .. } => FrameClass::Other,
        };
        let length = u32::try_from(body.len()).expect("bodies are bounded by their kind");
        let header = ReplyHeader { request_id, reply, length }.encode();
        Self { header, body, trailer, class, reply }
    }

    pub(crate) fn is_refusal(&self) -> bool {
        matches!(self.reply, Reply::Refused(_))
    }

    pub(crate) fn is_not_here(&self) -> bool {
        matches!(self.reply, Reply::NotHere { .. })
    }

    fn len(&self) -> usize {
        self.header.len() + self.body.len() + self.trailer.map_or(0, |trailer| trailer.len())
    }

    /// The parts from byte `from` on, at most `max` bytes in all.
    fn slices(&self, from: usize, max: usize) -> [IoSlice<'_>; 3] {
        let trailer: &[u8] = self.trailer.as_ref().map_or(&[], |trailer| trailer.as_slice());
        let (mut skip, mut left) = (from, max);
        [&self.header[..], &self.body[..], trailer].map(|part| {
            let begin = skip.min(part.len());
            skip -= begin;
            let end = part.len().min(begin + left);
            left -= end - begin;
            IoSlice::new(&part[begin..end])
        })
    }
}

/// The writing side of one served connection.
pub(crate) struct ReplyWriter<W> {
    pub(crate) writer: W,
    pub(crate) pace: Vec<Throttle>,
    pub(crate) counters: Arc<ServeCounters>,
    /// A peer that takes nothing for this long is given up.
    pub(crate) stall_timeout: Duration,
}

impl<W: AsyncWrite + Unpin> ReplyWriter<W> {
    /// Sends the whole reply.
    pub(crate) async fn send(&mut self, reply: &Outgoing) -> Result<(), ServeError> {
        let total = reply.len();
        let mut sent = 0;
        while sent < total {
            let granted = pass(&self.pace, (total - sent) as u64).await as usize;
            let slice_end = sent + granted;
            while sent < slice_end {
                sent += self.write_some(reply, sent, slice_end - sent).await?;
            }
        }
        tokio::time::timeout(self.stall_timeout, self.writer.flush()).await.map_err(|_| self.stalled())??;
        if reply.class == FrameClass::Chunk {
            self.counters.add_chunk();
        }
        Ok(())
    }

    async fn write_some(&mut self, reply: &Outgoing, from: usize, max: usize) -> Result<usize, ServeError> {
        let slices = reply.slices(from, max);
        let writing = async {
            if self.writer.is_write_vectored() {
                self.writer.write_vectored(&slices).await
            } else {
                let first = slices.iter().find(|slice| !slice.is_empty());
                self.writer.write(first.map_or(&[], |slice| slice)).await
            }
        };
        let written = match tokio::time::timeout(self.stall_timeout, writing).await {
            Ok(written) => written?,
            Err(_) => return Err(self.stalled()),
        };
        if written == 0 {
            return Err(io::Error::from(io::ErrorKind::WriteZero).into());
        }
        self.counters.add_written(reply.class, written as u64);
        Ok(written)
    }

    fn stalled(&self) -> ServeError {
        ServeError::Stalled { after: self.stall_timeout }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_window_of_a_reply_is_the_same_bytes() {
        let reply = Outgoing::new(
            7,
            Reply::Chunk { index: 3, trailer: true },
            Bytes::from_static(b"hello chunk"),
            Some([9; TRAILER_LEN]),
        );
        let whole: Vec<u8> = reply.slices(0, usize::MAX >> 1).iter().flat_map(|slice| slice.to_vec()).collect();
        assert_eq!(whole.len(), reply.len());
        for from in 0..=whole.len() {
            for max in [0, 1, 5, 16, 40, 200] {
                let part: Vec<u8> = reply.slices(from, max).iter().flat_map(|slice| slice.to_vec()).collect();
                assert_eq!(part, whole[from..whole.len().min(from + max)]);
            }
        }
    }
}
