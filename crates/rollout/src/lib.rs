//! sluice-rollout
