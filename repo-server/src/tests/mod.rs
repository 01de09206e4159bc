//! The routers over real stores: every answer as a client gets it, without a socket.

mod approving;
mod fleet;
mod publishing;
mod retracting;
mod routes;
mod uploading;
mod world;
