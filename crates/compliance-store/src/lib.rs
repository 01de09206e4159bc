//! sluice-compliance-store
