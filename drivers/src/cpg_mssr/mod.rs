//! Clock pulse generator, module standby and software reset of R-Car Gen3 (`renesas,cpg-mssr`).
//!
//! Core clocks always run here. A module's clock and its reset line have a bit each, numbered as the device tree
//! numbers them: 815 is bit 15 of register 8. The block is also the power domain of modules that are only clocked
//! (`#power-domain-cells = <0>`).

mod module;
mod regs;

use alloc::sync::Arc;

use bindery::binding::{Bound, MmioHandle};
use bindery::device::SupplierKind;
use bindery::driver::{Driver, Match, ProbeError, QuiesceError, Quiesced};
use bindery::env::{Instant, IoError};
use bindery::machine::SystemClock;
use bindery::power::{Supply, SupplyError};
use bindery::sync::SpinLock;

use crate::poll::poll;
use module::Module;

/// The driver.
///
/// Users may not unbind it by hand: nearly every module's clock depends on it. Linux has no such files for it either, because
/// it registers the driver for one probe only (linux-6.12 `cpg_mssr_init`, `drivers/clk/renesas/renesas-cpg-mssr.c`;
/// `__platform_driver_probe`, `drivers/base/platform.c`).
#[derive(Debug)]
pub struct CpgMssr;

impl Driver for CpgMssr {
    const NAME: &'static str = "renesas-cpg-mssr";
    const MATCHES: &'static [Match] = &[
        Match::compatible("renesas,r8a7795-cpg-mssr"),
        Match::compatible("renesas,r8a7796-cpg-mssr"),
        Match::compatible("renesas,r8a77961-cpg-mssr"),
        Match::compatible("renesas,r8a77965-cpg-mssr"),
        Match::compatible("renesas,r8a77990-cpg-mssr"),
    ];
    const SUPPRESS_BIND_ATTRS: bool = true;
    type Data<'b> = ();

    fn probe(&self, dev: Bound<'_>) -> Result<(), ProbeError> {
        let regs = dev.mmio(0)?;
        if regs.size() < regs::WINDOW {
            return Err(ProbeError::Device("the register window is too small"));
        }
        let clock = dev.system_clock();
        // It is unknown since when an earlier user's lines have been asserted: assume since now.
        let asserted = SpinLock::new([clock.now(); regs::BANKS]);
        let cpg = Cpg { regs: regs.handle(), clock, asserted };
        Ok(dev.provide::<dyn Supply>(Arc::new(cpg))?)
    }

    fn quiesce((): &()) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::never_started())
    }
}

/// Provider of clocks, power and resets.
struct Cpg {
    regs: MmioHandle,
    clock: SystemClock,
    /// Time at which a line of each reset register was last asserted. Also guards the read-modify-write of the stop
    /// registers.
    asserted: SpinLock<[Instant; regs::BANKS]>,
}

impl Supply for Cpg {
    fn switch(&self, kind: SupplierKind, args: &[u32], on: bool) -> Result<(), SupplyError> {
        let module = |number| Module::new(number).ok_or(SupplyError::NoSuchLine);
        let switched = match (kind, args) {
            (SupplierKind::Power, []) | (SupplierKind::Clock, [regs::CORE_CLOCK, _]) => Ok(true),
            (SupplierKind::Clock, [regs::MODULE_CLOCK, number]) => self.clock(module(*number)?, on),
            (SupplierKind::Reset, [number]) => self.reset(module(*number)?, on),
            _ => return Err(SupplyError::NoSuchLine),
        };
        if switched.is_ok_and(|confirmed| confirmed) { Ok(()) } else { Err(SupplyError::Dead) }
    }
}

impl Cpg {
    /// Starts or stops a module's clock. Returns false when it does not start.
    fn clock(&self, module: Module, on: bool) -> Result<bool, IoError> {
        if !on && module.is_critical() {
            return Ok(true);
        }
        let (bank, bit) = (module.bank(), module.bit());
        {
            let _guard = self.asserted.lock();
            let stop = self.regs.read32(regs::SMSTPCR[bank])?;
            self.regs.write32(regs::SMSTPCR[bank], if on { stop & !bit } else { stop | bit })?;
        }
        if !on {
            return Ok(true);
        }
        poll(|| self.clock.now(), regs::CLOCK_START, || Ok(self.regs.read32(regs::MSTPSR[bank])? & bit == 0))
    }

    /// Releases a module's reset line when `on`, else asserts it.
    fn reset(&self, module: Module, on: bool) -> Result<bool, IoError> {
        let (bank, bit) = (module.bank(), module.bit());
        if !on {
            let mut asserted = self.asserted.lock();
            self.regs.write32(regs::SRCR[bank], bit)?;
            asserted[bank] = self.clock.now();
            return Ok(true);
        }
        if self.regs.read32(regs::SRCR[bank])? & bit == 0 {
            return Ok(true);
        }
        // Software must hold the line for a whole cycle of RCLK; the time since it was asserted counts.
        let since = self.asserted.lock()[bank];
        let lasted = self.clock.now().since(since);
        if let Some(rest) = regs::RESET_PULSE.checked_sub(lasted) {
            poll(|| self.clock.now(), rest, || self.regs.read32(regs::SRCR[bank]).map(|_| false))?;
        }
        self.regs.write32(regs::SRSTCLR[bank], bit)?;
        Ok(self.regs.read32(regs::SRCR[bank])? & bit == 0)
    }
}
