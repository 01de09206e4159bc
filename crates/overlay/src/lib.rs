//! sluice-overlay
