//! Body buffers that come back: a chunk is read into memory that an earlier chunk no longer needs.
//!
//! One pool for the whole process, like an allocator: were it one for each connection, memory would grow with the number
//! of peers.

use bytes::{Bytes, BytesMut};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Buffers kept for reuse: what some eight busy connections have in their hands at once. Chunks are 1 MiB on average and
/// 4 MiB at most, so 12 to 48 MiB.
const BUFFERS_MAX: usize = 12;
/// Smaller bodies (`have`, small artifacts) cost the allocator nothing.
const POOLED_BYTES_MIN: usize = 256 << 10;
/// A body never lies in a buffer of more than so many times its length: who keeps it keeps little more than it.
const OVERSIZE_MAX: usize = 2;

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
        let fits = |buffer: &mut BytesMut| buffer.try_reclaim(bytes) && buffer.capacity() <= OVERSIZE_MAX * bytes;
        match kept.iter_mut().position(fits) {
            Some(found) => kept.swap_remove(found),
            None => {
                drop(kept);
                BytesMut::with_capacity(bytes)
            }
        }
    }

    /// Hands out what was read; the memory is reused once every clone of the result is dropped.
    pub(crate) fn hand_out(&self, mut buffer: BytesMut) -> Bytes {
        let body = buffer.split().freeze();
        if body.len() >= POOLED_BYTES_MIN {
            let mut kept = self.kept();
            if kept.len() >= BUFFERS_MAX {
                // The oldest one is still held by somebody, who frees it, or fitted nothing for long.
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
    fn a_small_body_never_lies_in_a_large_buffer() {
        let buffers = Buffers::new();
        let mut large = buffers.take(4 << 20);
        large.extend_from_slice(&vec![1; 4 << 20]);
        drop(buffers.hand_out(large));
        assert!(buffers.take(300_000).capacity() <= 600_000);
        assert!(buffers.take(3 << 20).capacity() == 4 << 20, "while a fitting one is reused");
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
