//! What moved on exchange connections, counted where the bytes pass. Shared by all connections that are given the same
//! counters (for instance one set for each site).

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Default)]
        pub struct $name { $($(#[$field_doc])* $field: AtomicU64),+ }

        impl $name {
            $($(#[$field_doc])* pub fn $field(&self) -> u64 { self.$field.load(Ordering::Relaxed) })+
        }
    };
}

counters! {
    /// What was sent.
    ServeCounters {
        /// Requests read.
        requests,
        /// Every byte written: headers, bodies and trailers, of frames that were cut too.
        sent_bytes,
        /// Bytes of chunk frames: header, body and trailer, of frames that were cut too.
        chunk_frame_bytes,
        /// Whole chunks sent.
        chunks,
        /// Bytes of manifest and `have` frames.
        metadata_frame_bytes,
        /// Chunks and manifests that were not here.
        not_here,
        /// Requests refused.
        refused,
    }
}

counters! {
    /// What was received.
    ReceiveCounters {
        /// Every byte read from the connection: headers, bodies and trailers, of frames that were cut too.
        read_bytes,
        /// Bytes of chunk frames, of frames that were cut too.
        chunk_frame_bytes,
        /// Whole chunks received, right or wrong.
        chunks,
        /// Bytes of manifest and `have` frames.
        metadata_frame_bytes,
    }
}

/// What a frame is counted as.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum FrameClass {
    Chunk,
    Metadata,
    Other,
}

impl ServeCounters {
    pub(crate) fn add_request(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn add_written(&self, class: FrameClass, bytes: u64) {
        self.sent_bytes.fetch_add(bytes, Ordering::Relaxed);
        match class {
            FrameClass::Chunk => self.chunk_frame_bytes.fetch_add(bytes, Ordering::Relaxed),
            FrameClass::Metadata => self.metadata_frame_bytes.fetch_add(bytes, Ordering::Relaxed),
            FrameClass::Other => 0,
        };
    }

    pub(crate) fn add_chunk(&self) {
        self.chunks.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn add_not_here(&self) {
        self.not_here.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn add_refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }
}

impl ReceiveCounters {
    pub(crate) fn add_read(&self, bytes: u64) {
        self.read_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn add_frame_part(&self, class: FrameClass, bytes: u64) {
        match class {
            FrameClass::Chunk => self.chunk_frame_bytes.fetch_add(bytes, Ordering::Relaxed),
            FrameClass::Metadata => self.metadata_frame_bytes.fetch_add(bytes, Ordering::Relaxed),
            FrameClass::Other => 0,
        };
    }

    pub(crate) fn add_chunk(&self) {
        self.chunks.fetch_add(1, Ordering::Relaxed);
    }
}
