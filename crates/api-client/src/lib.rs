//! sluice-api-client
