//! P9 on the board: forgotten handles leak memory, and no scarce resource.
#![allow(clippy::unwrap_used)]

mod common;

use bindery::binding::Bound;
use bindery::driver::{Driver, Match, ProbeError, QuiesceError, Quiesced};
use common::SATA;

/// Driver that forgets every handle.
struct Forgetful;

impl Driver for Forgetful {
    const NAME: &'static str = "forgetful";
    const MATCHES: &'static [Match] = &[Match::compatible("renesas,rcar-gen3-sata")];
    type Data<'b> = ();

    fn probe(&self, dev: Bound<'_>) -> Result<(), ProbeError> {
        core::mem::forget(dev.dma().coherent(4096)?);
        core::mem::forget(dev.mmio(0)?);
        core::mem::forget(dev.irq(0)?);
        Ok(())
    }

    fn quiesce((): &()) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::never_started())
    }
}

#[test]
fn forgotten_handles_occupy_no_translation_context() {
    let rig = common::bare();
    rig.add_board();
    bindery_drivers::register_all(&rig.machine);
    rig.machine.unregister("sata_rcar");
    rig.machine.register(Forgetful);
    rig.settle();
    rig.machine.unbind(SATA, "forgetful").unwrap();
    let before = rig.resource_usage();
    // More often than the hardware has contexts.
    for _ in 0..20 {
        rig.machine.bind(SATA, "forgetful").unwrap();
        rig.machine.unbind(SATA, "forgetful").unwrap();
    }
    let after = rig.resource_usage();
    assert_eq!(after.frames - before.frames, 20, "one page for each forgotten buffer, and no table");
    assert_eq!((after.irqs, after.groups), (before.irqs, before.groups));
    rig.assert_well();
}
