//! sluice-content-store
