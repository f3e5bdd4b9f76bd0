//! Reset lines whose provider is not there, and which a policy lets a device do without.

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::binding::Bound;
use crate::device::{DeviceDesc, Supplier, SupplierKind};
use crate::driver::{Driver, Match, ProbeError, QuiesceError, Quiesced};
use crate::env::fake::FakeEnv;
use crate::machine::{AbsentSuppliers, Handle, Policy};
use crate::power::{Supply, SupplyError};

struct Lines;

impl Supply for Lines {
    fn switch(&self, _: SupplierKind, _: &[u32], _: bool) -> Result<(), SupplyError> {
        Ok(())
    }
}

impl Driver for Lines {
    const NAME: &'static str = "lines";
    const MATCHES: &'static [Match] = &[Match::compatible("t,lines")];
    type Data<'b> = ();
    fn probe(&self, dev: Bound<'_>) -> Result<(), ProbeError> {
        Ok(dev.provide::<dyn Supply>(Arc::new(Self))?)
    }
    fn quiesce((): &()) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::never_started())
    }
}

/// Its device does not stop; it has DMA memory. Its data: whether there is a reset.
struct Stuck;

impl Driver for Stuck {
    const NAME: &'static str = "stuck";
    const MATCHES: &'static [Match] = &[Match::compatible("t,stuck")];
    type Data<'b> = bool;
    fn probe(&self, dev: Bound<'_>) -> Result<bool, ProbeError> {
        dev.mark_quiesced(Quiesced::stopped());
        let _published = dev.dma().coherent(64)?.device_addr();
        Ok(dev.reset_line().is_some())
    }
    fn quiesce(_: &bool) -> Result<Quiesced, QuiesceError> {
        Err(QuiesceError("it goes on"))
    }
}

/// A bound device with reset lines, of which those that are said to be there have a provider.
fn bound(there: &[bool]) -> Handle {
    let machine = FakeEnv::new().machine(Policy { absent_suppliers: AbsentSuppliers::DoWithout, ..Policy::default() });
    machine.register(Lines);
    machine.register(Stuck);
    let mut lines = DeviceDesc::new("lines");
    lines.compatible.push("t,lines".into());
    let here = machine.add_device(lines).unwrap().node();
    let never = machine.with_nodes(|nodes| nodes.find_or_add("/never"));
    let mut desc = DeviceDesc::new("d");
    desc.compatible.push("t,stuck".into());
    for (line, there) in there.iter().enumerate() {
        let node = if *there { here } else { never };
        let (kind, property, args) = (SupplierKind::Reset, "resets".into(), Vec::from([line as u32]));
        desc.suppliers.push(Supplier { node, target: node, kind, property, args });
    }
    machine.add_device(desc).unwrap();
    machine.settle();
    machine.stop_waiting();
    machine.settle();
    machine
}

#[test]
fn a_device_is_reset_by_all_its_lines_or_not_at_all() {
    for there in [&[true, true][..], &[true], &[true, false], &[false, true], &[false]] {
        let machine = bound(there);
        let all = !there.contains(&false);
        assert_eq!(machine.client::<Stuck>("d").unwrap().call(|has| *has).unwrap(), all, "{there:?}");
        machine.unbind("d", "stuck").unwrap();
        // Held in reset it is quiesced; what one line of two does to it, nobody knows (P11).
        assert_eq!(machine.quarantine().is_empty(), all, "{there:?}");
        assert_eq!(machine.pinned_supplies().len(), usize::from(!all && there.contains(&true)), "{there:?}");
        assert_eq!(machine.promises().broken(), [], "{there:?}");
    }
}
