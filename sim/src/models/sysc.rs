//! The system controller's power domains (`renesas,r8a7795-sysc`): always-on (32, no registers), and all others that hold no CPU.
//!
//! Offsets, bits and parents: Linux `drivers/soc/renesas/rcar-sysc.c` and `r8a7795-sysc.c`, of the H3 from ES2.0 on.

use std::time::Duration;

use super::{Bus, NO_ANSWER};
use crate::clock::Timer;

/// Device name in reports.
pub const NAME: &str = "e6180000.system-controller";

/// Number of domains that can be switched.
pub const DOMAINS: usize = 10;
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

/// A domain: number (also its interrupt bit), register block, channel bit there, and the number of the domain that it is in.
struct Area {
    number: u32,
    block: u32,
    bit: u32,
    parent: u32,
}

const fn area(number: u32, block: u32, bit: u32, parent: u32) -> Area {
    Area { number, block, bit, parent }
}

const AREAS: [Area; DOMAINS] = [
    area(9, 0x340, 0, ALWAYS_ON),
    area(24, 0x180, 0, ALWAYS_ON),
    area(14, 0x380, 0, ALWAYS_ON),
    area(26, 0x3c0, 1, 14),
    area(17, 0x100, 0, ALWAYS_ON),
    area(18, 0x100, 1, 17),
    area(19, 0x100, 2, 18),
    area(20, 0x100, 3, 19),
    area(22, 0x100, 4, 20),
    area(13, 0x240, 0, ALWAYS_ON),
];

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

    /// Block and register at `offset`.
    fn locate(offset: u32) -> Option<(u32, u32)> {
        let block = AREAS.iter().map(|a| a.block).find(|block| (*block..block + 0x18).contains(&offset))?;
        Some((block, offset - block))
    }

    /// Channel bits of the domains of `block` that `which` selects.
    fn channels(&self, block: u32, which: impl Fn(&Domain) -> bool) -> u32 {
        let here = AREAS.iter().zip(&self.domains).filter(|(a, d)| a.block == block && which(d));
        here.fold(0, |bits, (a, _)| bits | 1 << a.bit)
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
        if let Some((block, register)) = Self::locate(offset) {
            match register {
                PWRSR => return self.channels(block, |d| !d.on),
                PWROFFSR => return self.channels(block, |d| d.wanted == Some(false)),
                PWRONSR => return self.channels(block, |d| d.wanted == Some(true)),
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
        if let Some((block, register @ (PWROFFCR | PWRONCR))) = Self::locate(offset) {
            return self.request(bus, block, register == PWRONCR, value);
        }
        bus.error(NAME, format!("write of {value:#x} to {offset:#x}: no register, or read only"));
    }

    fn request(&mut self, bus: &mut Bus<'_>, block: u32, on: bool, value: u32) {
        let Some(domain) = AREAS.iter().position(|a| a.block == block && value == 1 << a.bit) else {
            return bus
                .error(NAME, format!("power request {value:#x} at {block:#x}, where no domain has just this channel"));
        };
        let number = AREAS[domain].number;
        if self.domains.iter().any(|d| d.wanted.is_some()) {
            return bus.error(NAME, format!("power request to domain {number} while another one runs"));
        }
        if self.ier >> number & 1 == 0 {
            return bus.error(NAME, format!("power request to domain {number}, which SYSCIER does not enable"));
        }
        let parent = AREAS[domain].parent;
        if on && self.powered(parent) == Some(false) {
            return bus.error(NAME, format!("domain {number} is switched on in domain {parent}, which is off"));
        }
        let child = AREAS.iter().find(|a| a.parent == number && self.powered(a.number) == Some(true));
        if let Some(child) = child.filter(|_| !on) {
            return bus
                .error(NAME, format!("domain {number} is switched off around domain {}, which is on", child.number));
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
