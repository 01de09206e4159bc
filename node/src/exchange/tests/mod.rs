//! The data plane over real sockets, stores and databases: an origin, some nodes of one site, and what goes wrong.

mod laboratory;
mod scenarios;
