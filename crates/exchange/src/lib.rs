//! sluice-exchange
