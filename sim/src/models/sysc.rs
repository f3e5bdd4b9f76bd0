//! The system controller's power domains (`renesas,r8a7795-sysc`), for a board without cameras and
//! GPU: always-on (32, no registers), A3VP and A3IR.
//!
//! Offsets and bits: Linux `drivers/soc/renesas/rcar-sysc.c` and `r8a7795-sysc.c`.

use std::time::Duration;

use super::{Bus, NO_ANSWER};
use crate::clock::Timer;

/// Device name in reports.
pub const NAME: &str = "e6180000.system-controller";

/// Number of domains that can be switched.
pub const DOMAINS: usize = 2;
/// The always-on domain's number in `power-domains`.
pub const ALWAYS_ON: u32 = 32;

/// Ready for requests: bit 0 to switch off, bit 1 to switch on.
const SYSCSR: u32 = 0x00;
/// Completed requests.
const SYSCISR: u32 = 0x04;
/// Writing 1 clears a bit of `SYSCISR`.
const SYSCISCR: u32 = 0x08;
/// Interrupt enable: requests to other domains are never completed.
const SYSCIER: u32 = 0x0c;
/// Interrupt mask.
const SYSCIMR: u32 = 0x10;

/// Per domain: status (bit set = off), off request, on request, request error.
const PWRSR: u32 = 0x00;
const PWROFFCR: u32 = 0x04;
const PWROFFSR: u32 = 0x08;
const PWRONCR: u32 = 0x0c;
const PWRONSR: u32 = 0x10;
const PWRER: u32 = 0x14;

/// A domain: number (also its interrupt bit) and register block; all of them use channel bit 0.
struct Area {
    number: u32,
    block: u32,
}

const AREAS: [Area; DOMAINS] = [Area { number: 9, block: 0x340 }, Area { number: 24, block: 0x180 }];

/// Duration of switching a domain.
const SWITCH: Duration = Duration::from_micros(20);

#[derive(Clone, Copy, Default, Hash, Debug)]
struct Domain {
    on: bool,
    /// Target state of a running request.
    wanted: Option<bool>,
}

/// The model. All switchable domains are off at boot.
#[derive(Debug, Default, Hash)]
pub(crate) struct Sysc {
    domains: [Domain; DOMAINS],
    isr: u32,
    ier: u32,
    imr: u32,
    /// Injected fault: requests are never completed.
    pub(crate) stuck: bool,
}

impl Sysc {
    /// Returns true when domain `number` is on; `None` when the board has no such domain.
    pub(crate) fn powered(&self, number: u32) -> Option<bool> {
        if number == ALWAYS_ON {
            return Some(true);
        }
        AREAS.iter().position(|a| a.number == number).map(|i| self.domains[i].on)
    }

    fn locate(offset: u32) -> Option<(usize, u32)> {
        let domain = AREAS.iter().position(|a| (a.block..a.block + 0x18).contains(&offset))?;
        Some((domain, offset - AREAS[domain].block))
    }

    pub(crate) fn read(&mut self, bus: &mut Bus<'_>, offset: u32) -> u32 {
        match offset {
            SYSCSR if self.domains.iter().any(|d| d.wanted.is_some()) => return 0,
            SYSCSR => return 0b11,
            SYSCISR => return self.isr,
            SYSCIER => return self.ier,
            SYSCIMR => return self.imr,
            _ => {}
        }
        if let Some((domain, register)) = Self::locate(offset) {
            let state = self.domains[domain];
            match register {
                PWRSR => return u32::from(!state.on),
                PWROFFSR => return u32::from(state.wanted == Some(false)),
                PWRONSR => return u32::from(state.wanted == Some(true)),
                PWRER => return 0,
                _ => {}
            }
        }
        bus.error(NAME, format!("read of {offset:#x}: no register, or write only"));
        NO_ANSWER
    }

    pub(crate) fn write(&mut self, bus: &mut Bus<'_>, offset: u32, value: u32) {
        match offset {
            SYSCISCR => return self.isr &= !value,
            SYSCIER => return self.ier = value,
            SYSCIMR => return self.imr = value,
            _ => {}
        }
        if let Some((domain, register @ (PWROFFCR | PWRONCR))) = Self::locate(offset) {
            return self.request(bus, domain, register == PWRONCR, value);
        }
        bus.error(NAME, format!("write of {value:#x} to {offset:#x}: no register, or read only"));
    }

    fn request(&mut self, bus: &mut Bus<'_>, domain: usize, on: bool, value: u32) {
        let number = AREAS[domain].number;
        if value != 1 {
            return bus
                .error(NAME, format!("power request {value:#x} to domain {number}, which has channel bit 0 only"));
        }
        if self.domains.iter().any(|d| d.wanted.is_some()) {
            return bus.error(NAME, format!("power request to domain {number} while another one runs"));
        }
        if self.ier >> number & 1 == 0 {
            return bus.error(NAME, format!("power request to domain {number}, which SYSCIER does not enable"));
        }
        self.domains[domain].wanted = Some(on);
        if !self.stuck {
            bus.clock.set(Timer::Power(domain as u8), SWITCH);
        }
    }

    /// Completes a request.
    pub(crate) fn switched(&mut self, domain: u8) {
        let state = &mut self.domains[domain as usize];
        if let Some(on) = state.wanted.take() {
            state.on = on;
            self.isr |= 1 << AREAS[domain as usize].number;
        }
    }
}
