//! The guest in which the kernels were recorded: its device tree, and stand-ins for its stock drivers.

use alloc::sync::Arc;

use super::super::iommu::FakeIommu;
use crate::binding::Bound;
use crate::control::Tree;
use crate::device::{NodeId, SupplierKind};
use crate::driver::{Driver, Match, ProbeError, QuiesceError, Quiesced};
use crate::env::fake::FakeEnv;
use crate::iommu::Grouping;
use crate::machine::{Handle, Policy};
use crate::power::{Supply, SupplyError};

/// A reset line that is never asserted.
struct Line;

impl Supply for Line {
    fn switch(&self, _: SupplierKind, _: &[u32], _: bool) -> Result<(), SupplyError> {
        Ok(())
    }
    fn set_voltage(&self, _: NodeId, _: &[u32], min: u32, _: u32) -> Result<u32, SupplyError> {
        Ok(min)
    }
}

macro_rules! driver {
    ($type:ident, $name:literal, $suppress:literal, [$($compatible:literal),*], $probe:expr) => {
        struct $type;

        impl Driver for $type {
            const NAME: &'static str = $name;
            const MATCHES: &'static [Match] = &[$(Match::compatible($compatible)),*];
            const SUPPRESS_BIND_ATTRS: bool = $suppress;
            type Data<'b> = ();
            fn probe(&self, dev: Bound<'_>) -> Result<(), ProbeError> {
                $probe(dev)
            }
            fn quiesce((): &()) -> Result<Quiesced, QuiesceError> {
                Ok(Quiesced::stopped())
            }
        }
    };
}

driver!(FixedRegulator, "reg-fixed-voltage", false, ["regulator-fixed"], |dev: Bound<'_>| {
    Ok(dev.provide::<dyn Supply>(Arc::new(Line))?)
});
driver!(PmBus, "simple-pm-bus", false, ["simple-pm-bus", "simple-bus"], |dev: Bound<'_>| {
    // linux-6.12 `drivers/bus/simple-pm-bus.c`: a bus of another kind that is a simple-bus as well has its own driver.
    let compatible = dev.property("compatible").unwrap_or_default();
    let mut all = compatible.split(|b| *b == 0);
    if all.next() != Some(b"simple-bus") && all.any(|c| c == b"simple-bus") {
        return Err(ProbeError::NoDevice);
    }
    Ok(dev.provide::<dyn Supply>(Arc::new(Line))?)
});
driver!(FixedClock, "of_fixed_clk", false, ["fixed-clock"], |dev: Bound<'_>| {
    if dev.property("clock-frequency").is_none() {
        return Err(ProbeError::Device("no clock-frequency"));
    }
    Ok(dev.provide::<dyn Supply>(Arc::new(Line))?)
});
driver!(SmmuDriver, "arm-smmu-v3", true, ["arm,smmu-v3"], |dev: Bound<'_>| {
    Ok(dev.iommu_provider().provide(Arc::new(FakeIommu {
        name: "9050000.smmuv3",
        grouping: Grouping::PerStream,
        has_lazy_domains: true,
        dead: Arc::default(),
    }))?)
});
driver!(Gic, "gic", true, ["arm,gic-v3"], |_: Bound<'_>| Ok(()));
// Other built-in drivers, whose devices the recording only shows to be bound.
driver!(
    BuiltIn,
    "built-in",
    false,
    ["pci-host-ecam-generic", "qemu,fw-cfg-mmio", "arm,armv8-pmuv3", "arm,psci-1.0"],
    |_: Bound<'_>| Ok(())
);

/// The guest after its boot.
pub(super) fn boot() -> (Arc<FakeEnv>, Handle, Tree) {
    let env = FakeEnv::new();
    let machine = env.machine(Policy::default());
    let blob = include_bytes!("guest.dtb");
    machine.add_device_tree(blob).unwrap();
    machine.register(Gic);
    machine.register(FixedClock);
    machine.register(FixedRegulator);
    machine.register(PmBus);
    machine.register(SmmuDriver);
    machine.register(BuiltIn);
    machine.settle();
    let tree = Tree::new(&machine);
    (env, machine, tree)
}
