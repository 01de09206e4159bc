//! sluice-settings
