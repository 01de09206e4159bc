//! Records of tokens.

use crate::{StoreError, WriteTx};

pub(crate) fn create(_tx: &WriteTx) -> Result<(), StoreError> {
    Ok(())
}
