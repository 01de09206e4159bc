//! Routes of the device listener below `/device/v1`: callers are devices, known by the key of their TLS connection.

use crate::state::Shared;
use axum::Router;

/// All of them. Handlers take `Extension<DeviceCaller>`.
pub fn routes() -> Router<Shared> {
    Router::new()
}
