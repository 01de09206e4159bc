//! Body buffers that come back: a chunk is read into memory that an earlier chunk no longer needs.
//!
//! One pool for the whole process, like an allocator: were it one for each connection, memory would grow with the number
//! of peers.

use bytes::{Bytes, BytesMut};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Buffers kept for reuse: what some eight busy connections have in their hands at once. Of 1 MiB mostly, at most 4 MiB,
/// so 12 to 48 MiB.
const BUFFERS_MAX: usize = 12;
/// Smallest buffer: an average chunk, so that chunks of different sizes share buffers.
const BUFFER_BYTES_MIN: usize = 1 << 20;
/// Smaller bodies (`have`, small artifacts) are not worth holding a large buffer for.
const POOLED_BYTES_MIN: usize = 256 << 10;

static SHARED: Buffers = Buffers::new();

/// A pool of at most [`BUFFERS_MAX`] buffers.
#[derive(Debug)]
pub(crate) struct Buffers {
    kept: Mutex<Vec<BytesMut>>,
}

impl Buffers {
    const fn new() -> Self {
        Self { kept: Mutex::new(Vec::new()) }
    }

    /// The process's pool.
    pub(crate) fn shared() -> &'static Self {
        &SHARED
    }

    /// An empty buffer with room for `bytes`. Its place in the pool is free until it is given back.
    pub(crate) fn take(&self, bytes: usize) -> BytesMut {
        if bytes < POOLED_BYTES_MIN {
            return BytesMut::with_capacity(bytes);
        }
        let mut kept = self.kept();
        match kept.iter_mut().position(|buffer| buffer.try_reclaim(bytes)) {
            Some(found) => kept.swap_remove(found),
            None => {
                drop(kept);
                BytesMut::with_capacity(bytes.max(BUFFER_BYTES_MIN))
            }
        }
    }

    /// Hands out what was read; the memory is reused once every clone of the result is dropped. A body may lie in one
    /// buffer with others, so who keeps it for long should copy it.
    pub(crate) fn hand_out(&self, mut buffer: BytesMut) -> Bytes {
        let body = buffer.split().freeze();
        if body.len() >= POOLED_BYTES_MIN {
            let mut kept = self.kept();
            if kept.len() >= BUFFERS_MAX {
                // The oldest one is still held by somebody, who frees it.
                kept.remove(0);
            }
            kept.push(buffer);
        }
        body
    }

    fn kept(&self) -> MutexGuard<'_, Vec<BytesMut>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_body_gives_its_memory_to_the_next_one() {
        let buffers = Buffers::new();
        let mut places = std::collections::HashSet::new();
        for round in 0..100u8 {
            let mut buffer = buffers.take(300_000);
            buffer.extend_from_slice(&vec![round; 300_000]);
            let body = buffers.hand_out(buffer);
            places.insert(body.as_ptr());
            assert!(body.iter().all(|byte| *byte == round));
        }
        assert!(places.len() <= 4, "{}", places.len());
    }

    #[test]
    fn a_body_that_is_still_held_is_never_overwritten() {
        let buffers = Buffers::new();
        let held: Vec<Bytes> = (0..30u8)
            .map(|round| {
                let mut buffer = buffers.take(900_000);
                buffer.extend_from_slice(&vec![round; 900_000]);
                buffers.hand_out(buffer)
            })
            .collect();
        for (round, body) in held.iter().enumerate() {
            assert!(body.iter().all(|byte| *byte == round as u8));
        }
        assert_eq!(buffers.kept().len(), BUFFERS_MAX);
    }
}
