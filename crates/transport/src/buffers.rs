//! Body buffers that come back: a chunk is read into memory that an earlier chunk no longer needs.

use bytes::{Bytes, BytesMut};

/// Buffers kept for reuse on one connection; more chunks than that may be out, they just cost an allocation.
const BUFFERS_MAX: usize = 4;
/// Smallest buffer: an average chunk, so that chunks of different sizes share buffers.
const BUFFER_BYTES_MIN: usize = 1 << 20;

/// The buffers of one connection: at most [`BUFFERS_MAX`] of the largest body that they held.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    kept: Vec<BytesMut>,
    next_evicted: usize,
}

impl Buffers {
    /// An empty buffer with room for `bytes`. Its place in the pool is free until it is given back.
    pub(crate) fn take(&mut self, bytes: usize) -> BytesMut {
        // Small bodies (`have`, small artifacts) are not worth holding a large buffer for.
        if bytes < BUFFER_BYTES_MIN / 16 {
            return BytesMut::with_capacity(bytes);
        }
        match self.kept.iter_mut().position(|buffer| buffer.try_reclaim(bytes)) {
            Some(found) => self.kept.swap_remove(found),
            None => BytesMut::with_capacity(bytes.max(BUFFER_BYTES_MIN)),
        }
    }

    /// Hands out what was read; the memory is reused once every clone of the result is dropped.
    pub(crate) fn hand_out(&mut self, mut buffer: BytesMut) -> Bytes {
        let body = buffer.split().freeze();
        if body.len() >= BUFFER_BYTES_MIN / 16 {
            if self.kept.len() < BUFFERS_MAX {
                self.kept.push(buffer);
            } else {
                self.next_evicted = (self.next_evicted + 1) % BUFFERS_MAX;
                self.kept[self.next_evicted] = buffer;
            }
        }
        body
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_body_gives_its_memory_to_the_next_one() {
        let mut buffers = Buffers::default();
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
        let mut buffers = Buffers::default();
        let held: Vec<Bytes> = (0..20u8)
            .map(|round| {
                let mut buffer = buffers.take(100_000);
                buffer.extend_from_slice(&vec![round; 100_000]);
                buffers.hand_out(buffer)
            })
            .collect();
        for (round, body) in held.iter().enumerate() {
            assert!(body.iter().all(|byte| *byte == round as u8));
        }
        assert!(buffers.kept.len() <= BUFFERS_MAX);
    }
}
