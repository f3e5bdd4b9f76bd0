//! Actions of a driver that run during unwinding.

use alloc::boxed::Box;
use alloc::string::String;

use super::{Entry, ResourceKind, UnwindCtx};
use crate::event::Outcome;

/// Ledger entry of a closure. The closure owns what it uses ([`MmioHandle`](super::MmioHandle), not
/// [`Mmio`](super::Mmio)), so nothing that it captures can dangle, whatever was released before.
pub(crate) struct Action {
    pub(crate) what: &'static str,
    pub(crate) run: Box<dyn FnOnce() + Send + Sync>,
}

impl Entry for Action {
    fn kind(&self) -> ResourceKind {
        ResourceKind::Action
    }

    fn what(&self) -> String {
        self.what.into()
    }

    fn backend(&self) -> String {
        "driver".into()
    }

    fn release(self: Box<Self>, _: &mut UnwindCtx<'_>) -> Outcome {
        (self.run)();
        Outcome::Returned
    }
}
