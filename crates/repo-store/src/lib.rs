//! sluice-repo-store
