//! Tests of the routers over real stores.
