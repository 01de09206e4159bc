//! Which members hold an overlay connection to this server now.

use sluice_model::MemberKey;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The table; cheap to clone. Bounded by the roster: only its members connect.
#[derive(Clone, Debug, Default)]
pub struct LinkTable(Arc<Mutex<BTreeSet<MemberKey>>>);

impl LinkTable {
    /// A member's first connection is up.
    pub fn up(&self, member: MemberKey) {
        self.lock().insert(member);
    }

    /// A member's last connection is gone.
    pub fn down(&self, member: &MemberKey) {
        self.lock().remove(member);
    }

    /// Whether the member is connected.
    pub fn is_up(&self, member: &MemberKey) -> bool {
        self.lock().contains(member)
    }

    /// How many members are connected.
    pub fn count(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<MemberKey>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
