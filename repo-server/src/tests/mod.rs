//! The routers over real stores: every answer as a client gets it, without a socket.

mod approving;
mod audit_log;
mod ceremonies;
mod deliveries;
mod devices;
mod enrolling;
mod explaining;
mod fleet;
mod openapi_file;
mod origin;
mod overlay;
mod publishing;
mod reporting;
mod restoring;
mod retracting;
mod roles;
mod routes;
mod suspending;
mod tokens;
mod uploading;
mod world;
