//! What one operation reveals.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::{Check, Misuse};

/// Misuses found by one operation.
pub(super) struct Found<'a> {
    device: &'a Arc<str>,
    pub(super) list: Vec<Misuse>,
}

impl<'a> Found<'a> {
    pub(super) fn of(device: &'a Arc<str>) -> Self {
        Self { device, list: Vec::new() }
    }

    pub(super) fn add(&mut self, check: Check, detail: String) {
        self.list.push(Misuse { check, device: Arc::clone(self.device), detail });
    }

    pub(super) fn add_if(&mut self, wrong: bool, check: Check, detail: impl FnOnce() -> String) {
        if wrong {
            self.add(check, detail());
        }
    }
}
