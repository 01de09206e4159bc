//! The last reason why the node does less than it should, for its status and for people.

use std::sync::{Arc, Mutex, PoisonError};

/// Shared by those who notice and those who report. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Trouble(Arc<Mutex<Option<String>>>);

impl Trouble {
    /// Something is wrong: `why`, in words for people. Logged when it is news.
    pub fn set(&self, why: String) {
        let mut current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if current.as_ref() != Some(&why) {
            tracing::warn!(trouble = %why, "this node does less than it should");
            *current = Some(why);
        }
    }

    /// It works again.
    pub fn clear(&self) {
        let mut current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(was) = current.take() {
            tracing::info!(trouble = %was, "over");
        }
    }

    /// What is wrong now.
    pub fn get(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
