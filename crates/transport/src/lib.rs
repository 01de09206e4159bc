//! sluice-transport
