//! Records of sites.

use crate::{StoreError, WriteTx};

pub(crate) fn create(_tx: &WriteTx) -> Result<(), StoreError> {
    Ok(())
}
