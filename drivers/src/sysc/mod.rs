//! The system controller of R-Car Gen3: power domains (`renesas,rcar-sysc`).

mod regs;

use alloc::sync::Arc;

use bindery::binding::{Bound, MmioHandle};
use bindery::device::SupplierKind;
use bindery::driver::{Driver, Match, ProbeError, QuiesceError, Quiesced};
use bindery::env::IoError;
use bindery::machine::SystemClock;
use bindery::power::{Supply, SupplyError};
use bindery::sync::Mutex;

use crate::poll::poll;
use regs::Area;

/// The driver.
#[derive(Debug)]
pub struct Sysc;

impl Driver for Sysc {
    const NAME: &'static str = "rcar-sysc";
    const MATCHES: &'static [Match] = &[Match::compatible("renesas,r8a7795-sysc")];
    type Data<'b> = ();

    fn probe(&self, dev: Bound<'_>) -> Result<(), ProbeError> {
        let regs = dev.mmio(0)?;
        if regs.size() < regs::WINDOW {
            return Err(ProbeError::Device("the register window is too small"));
        }
        // The controller completes a request only when its interrupt is enabled; masked, it does not reach a CPU. Bits
        // of domains that this driver does not control stay as the firmware left them.
        let all = regs::AREAS.iter().fold(0, |bits, area| bits | area.bit());
        regs.write32(regs::SYSCIMR, regs.read32(regs::SYSCIMR)? | all)?;
        regs.write32(regs::SYSCIER, regs.read32(regs::SYSCIER)? | all)?;
        let domains = Domains { regs: Mutex::new(regs.handle()), clock: dev.system_clock() };
        Ok(dev.provide::<dyn Supply>(Arc::new(domains))?)
    }

    fn quiesce((): &()) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::never_started())
    }
}

/// Provider of power domains.
struct Domains {
    /// Locked for a whole request: the controller handles one at a time.
    regs: Mutex<MmioHandle>,
    clock: SystemClock,
}

impl Supply for Domains {
    fn switch(&self, kind: SupplierKind, args: &[u32], on: bool) -> Result<(), SupplyError> {
        let (SupplierKind::Power, [number]) = (kind, args) else { return Err(SupplyError::NoSuchLine) };
        if *number == regs::ALWAYS_ON {
            return Ok(());
        }
        let area = regs::AREAS.iter().find(|a| a.number == *number).ok_or(SupplyError::NoSuchLine)?;
        let regs = self.regs.lock();
        if self.request(&regs, area, on).is_ok_and(|done| done) { Ok(()) } else { Err(SupplyError::Dead) }
    }
}

impl Domains {
    /// Switches a domain and waits for completion. Returns false when the controller does not complete it in time.
    fn request(&self, regs: &MmioHandle, area: &Area, on: bool) -> Result<bool, IoError> {
        let is_on = regs.read32(area.block + regs::PWRSR)? & area.channel == 0;
        if is_on == on {
            return Ok(true);
        }
        let (ready, register) = if on { (regs::SYSCSR_ON, regs::PWRONCR) } else { (regs::SYSCSR_OFF, regs::PWROFFCR) };
        regs.write32(regs::SYSCISCR, area.bit())?;
        let mut accepted = false;
        for _ in 0..regs::REQUESTS {
            if !poll(|| self.clock.now(), regs::READY, || Ok(regs.read32(regs::SYSCSR)? & ready != 0))? {
                return Ok(false);
            }
            regs.write32(area.block + register, area.channel)?;
            accepted = regs.read32(area.block + regs::PWRER)? & area.channel == 0;
            if accepted {
                break;
            }
        }
        let done =
            accepted && poll(|| self.clock.now(), regs::SWITCH, || Ok(regs.read32(regs::SYSCISR)? & area.bit() != 0))?;
        regs.write32(regs::SYSCISCR, area.bit())?;
        Ok(done)
    }
}
