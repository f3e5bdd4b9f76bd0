//! Per-binding supply handle: the same trait as the provider's, with uses counted for the binding.

use alloc::sync::{Arc, Weak};

use super::{Line, LineUse, Supply, SupplyError};
use crate::binding::{BindingState, ResourceError};
use crate::claim::Holder;
use crate::device::{Device, NodeId, SupplierKind};

/// Lines of a provider as one binding uses them. Uses that are on when the binding ends are released with its ledger.
pub(crate) struct CountedSupply {
    device: Weak<Device>,
    holder: Holder,
    provider: NodeId,
    supply: Arc<dyn Supply>,
}

impl CountedSupply {
    pub(crate) fn new(bound: &BindingState, provider: NodeId, supply: Arc<dyn Supply>) -> Self {
        Self { device: Arc::downgrade(bound.device()), holder: bound.holder().clone(), provider, supply }
    }

    fn with<R>(&self, act: impl FnOnce(&BindingState) -> Result<R, SupplyError>) -> Result<R, SupplyError> {
        let binding = self.device.upgrade().and_then(|device| device.binding());
        // A later binding of the device, even by the same driver, is a different user.
        let binding = binding.filter(|b| *b.bound().holder() == self.holder).ok_or(SupplyError::Gone)?;
        act(binding.bound())
    }

    /// The line; as firmware lists it for the device, if it does.
    fn line(&self, bound: &BindingState, node: NodeId, kind: SupplierKind, args: &[u32]) -> Line {
        let listed = bound.desc().suppliers.iter().find(|s| {
            s.node == self.provider && s.kind == kind && s.args == args && (node == s.target || node == self.provider)
        });
        let target = listed.map_or(node, |s| s.target);
        Line { provider: self.provider, kind, args: args.into(), target }
    }

    /// The binding's use of the line, made if there is none.
    fn line_use(&self, bound: &BindingState, line: Line) -> Result<Arc<LineUse>, SupplyError> {
        LineUse::of(bound, line, &self.supply).map_err(|error| match error {
            ResourceError::Held(conflict) => SupplyError::Held(conflict),
            ResourceError::Unbinding => SupplyError::Gone,
            _ => SupplyError::Dead,
        })
    }
}

impl Supply for CountedSupply {
    fn switch(&self, kind: SupplierKind, args: &[u32], on: bool) -> Result<(), SupplyError> {
        self.switch_node(self.provider, kind, args, on)
    }

    fn switch_node(&self, node: NodeId, kind: SupplierKind, args: &[u32], on: bool) -> Result<(), SupplyError> {
        self.with(|bound| {
            let line = self.line(bound, node, kind, args);
            if on {
                return self.line_use(bound, line)?.enable(bound.system());
            }
            // Switching off a line that was never on must not make a use, and so a claim, of it.
            let known = super::line_uses(bound).lock().get(&line).cloned();
            known.ok_or(SupplyError::Unbalanced)?.disable(bound.system())
        })
    }

    fn set_voltage(&self, node: NodeId, args: &[u32], min: u32, max: u32) -> Result<u32, SupplyError> {
        self.with(|bound| {
            let line = self.line_use(bound, self.line(bound, node, SupplierKind::Regulator, args))?;
            bound.system().supplies().set_voltage(&line, min, max)
        })
    }
}
