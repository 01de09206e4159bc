//! sluice-state-store
