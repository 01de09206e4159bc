//! sluice-pacing
