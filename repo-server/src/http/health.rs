//! TODO
use crate::state::Shared;
use axum::Router;
pub fn routes() -> Router<Shared> {
    Router::new()
}
