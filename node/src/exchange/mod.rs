//! Parts of the exchange loop.

pub(crate) mod incoming;
pub(crate) mod links;
pub(crate) mod manifest_hunt;
pub(crate) mod members;
pub(crate) mod session;
#[cfg(test)]
mod tests;
