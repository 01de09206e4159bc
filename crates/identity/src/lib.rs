//! sluice-identity
