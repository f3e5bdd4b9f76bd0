//! The system controller of R-Car Gen3: power domains (`renesas,rcar-sysc`).

mod areas;
mod regs;

use alloc::sync::Arc;

use bindery::binding::{Bound, MmioHandle};
use bindery::device::SupplierKind;
use bindery::driver::{Driver, Match, ProbeError, QuiesceError, Quiesced};
use bindery::env::IoError;
use bindery::machine::SystemClock;
use bindery::power::{Supply, SupplyError};
use bindery::sync::SpinLock;

use crate::poll::poll;
use areas::Area;

/// The driver.
#[derive(Debug)]
pub struct Sysc;

impl Driver for Sysc {
    const NAME: &'static str = "rcar-sysc";
    const MATCHES: &'static [Match] = &[
        Match::compatible("renesas,r8a7795-sysc"),
        Match::compatible("renesas,r8a7796-sysc"),
        Match::compatible("renesas,r8a77961-sysc"),
        Match::compatible("renesas,r8a77965-sysc"),
        Match::compatible("renesas,r8a77990-sysc"),
    ];
    type Data<'b> = ();

    fn probe(&self, dev: Bound<'_>) -> Result<(), ProbeError> {
        let regs = dev.mmio(0)?;
        if regs.size() < regs::WINDOW {
            return Err(ProbeError::Device("the register window is too small"));
        }
        // The controller completes a request only when its interrupt is enabled; masked, it does not reach a CPU. Bits
        // of domains that this driver does not control stay as the firmware left them.
        let areas = areas::of(dev.desc().compatible.iter().map(|name| &**name));
        let all = areas.iter().fold(0, |bits, area| bits | area.bit());
        regs.write32(regs::SYSCIMR, regs.read32(regs::SYSCIMR)? | all)?;
        regs.write32(regs::SYSCIER, regs.read32(regs::SYSCIER)? | all)?;
        let state = SpinLock::new(State { regs: regs.handle(), used: 0 });
        let domains = Domains { areas, state, clock: dev.system_clock() };
        Ok(dev.provide::<dyn Supply>(Arc::new(domains))?)
    }

    fn quiesce((): &()) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::never_started())
    }
}

/// Provider of power domains.
struct Domains {
    areas: &'static [Area],
    /// Locked for a whole request: the controller handles one at a time.
    state: SpinLock<State>,
    clock: SystemClock,
}

struct State {
    regs: MmioHandle,
    /// Interrupt bits of the domains that have users of their own.
    used: u32,
}

impl Supply for Domains {
    fn switch(&self, kind: SupplierKind, args: &[u32], on: bool) -> Result<(), SupplyError> {
        let (SupplierKind::Power, [number]) = (kind, args) else { return Err(SupplyError::NoSuchLine) };
        if *number == areas::ALWAYS_ON {
            return Ok(());
        }
        let area = self.area(*number).ok_or(SupplyError::NoSuchLine)?;
        let mut state = self.state.lock();
        let before = state.used;
        state.used = if on { before | area.bit() } else { before & !area.bit() };
        let switched = if on { self.enter(&state.regs, area) } else { self.leave(&state, area) };
        if switched.is_ok_and(|done| done) {
            return Ok(());
        }
        state.used = before;
        if on {
            // Domains around it that were switched on for it. What does not answer here either stays on.
            let _ = self.leave(&state, area);
        }
        Err(SupplyError::Dead)
    }
}

impl Domains {
    fn area(&self, number: u32) -> Option<&'static Area> {
        self.areas.iter().find(|a| a.number == number)
    }

    /// Switches a domain on, after the domains that it is in.
    fn enter(&self, regs: &MmioHandle, area: &Area) -> Result<bool, IoError> {
        if let Some(parent) = self.area(area.parent)
            && !self.enter(regs, parent)?
        {
            return Ok(false);
        }
        self.request(regs, area, true)
    }

    /// Switches a domain off unless it is used, or a domain in it; then in the same way the domain that it is in.
    fn leave(&self, state: &State, area: &Area) -> Result<bool, IoError> {
        if self.areas.iter().any(|a| state.used & a.bit() != 0 && self.is_in(a, area.number)) {
            return Ok(true);
        }
        let off = self.request(&state.regs, area, false)?;
        match self.area(area.parent) {
            Some(parent) if off => self.leave(state, parent),
            _ => Ok(off),
        }
    }

    /// True when `area` is the domain `number`, or in it.
    fn is_in(&self, area: &Area, number: u32) -> bool {
        area.number == number || self.area(area.parent).is_some_and(|parent| self.is_in(parent, number))
    }

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
