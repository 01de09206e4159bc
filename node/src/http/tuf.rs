//! Being written.

/// The routes.
pub fn routes() -> axum::Router<super::NodeHttp> {
    axum::Router::new()
}
