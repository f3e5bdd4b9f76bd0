//! The clock pulse generator's module stop and software reset registers (`renesas,r8a7795-cpg-mssr`).
//!
//! Twelve registers of 32 modules each. Module number `mnn` of the device trees (SATA is 815) is bit `nn` of register
//! `m`. Offsets: Linux `drivers/clk/renesas/renesas-cpg-mssr.c`, arrays `mstpsr`, `smstpcr`, `srcr`, macro `SRSTCLR`.

use std::hash::{Hash, Hasher};
use std::time::Duration;

use super::{Bus, NO_ANSWER};
use crate::clock::Timer;

/// Device name in reports.
pub const NAME: &str = "e6150000.clock-controller";

/// Bytes of the register window.
pub(crate) const WINDOW: u64 = 0x1000;

/// Number of registers of each kind.
const BANKS: usize = 12;

/// Module stop status, one register per bank: 1 = stopped. Read only.
const MSTPSR: [u32; BANKS] = [0x030, 0x038, 0x040, 0x048, 0x04c, 0x03c, 0x1c0, 0x1c4, 0x9a0, 0x9a4, 0x9a8, 0x9ac];
/// System module stop control: 1 = stop.
const SMSTPCR: [u32; BANKS] = [0x130, 0x134, 0x138, 0x13c, 0x140, 0x144, 0x148, 0x14c, 0x990, 0x994, 0x998, 0x99c];
/// Software reset: writing 1 asserts; reads 1 while asserted.
const SRCR: [u32; BANKS] = [0x0a0, 0x0a8, 0x0b0, 0x0b8, 0x0bc, 0x0c4, 0x1c8, 0x1cc, 0x920, 0x924, 0x928, 0x92c];
/// Software reset clear: writing 1 releases. Write only.
const SRSTCLR: [u32; BANKS] = [0x940, 0x944, 0x948, 0x94c, 0x950, 0x954, 0x958, 0x95c, 0x960, 0x964, 0x968, 0x96c];

/// One register, decoded from its offset, with its bank.
#[derive(Clone, Copy)]
enum Register {
    None,
    Status(usize),
    Control(usize),
    Reset(usize),
    ResetClear(usize),
}

/// The register at each offset, divided by 4.
static REGISTERS: [Register; WINDOW as usize / 4] = {
    let mut registers = [Register::None; WINDOW as usize / 4];
    let mut bank = 0;
    while bank < BANKS {
        registers[MSTPSR[bank] as usize / 4] = Register::Status(bank);
        registers[SMSTPCR[bank] as usize / 4] = Register::Control(bank);
        registers[SRCR[bank] as usize / 4] = Register::Reset(bank);
        registers[SRSTCLR[bank] as usize / 4] = Register::ResetClear(bank);
        bank += 1;
    }
    registers
};

fn decode(offset: u32) -> Register {
    REGISTERS.get(offset as usize / 4).copied().unwrap_or(Register::None)
}

/// Modules with a stop bit on the R-Car H3, per bank (U-Boot `r8a7795.h`, `MSTPn_BITS`). The boot loader leaves them
/// stopped, so that a driver that does not enable its clock fails.
const STOPPED_AT_BOOT: [u32; BANKS] = [
    0x0064_0800,
    0xf3ee_9390,
    0x340f_afdc,
    0xd80c_7cdf,
    0x8000_0184,
    0x40bf_ff46,
    0xe5fb_eecf,
    0x39ff_ff0e,
    0x01f1_9ff4,
    0xffdf_ffff,
    0xfffe_ffe0,
    0x0000_0000,
];

/// Start-up time of a module's clock. Not in the public part of the manual; drivers poll MSTPSR.
const START: Duration = Duration::from_micros(1);
/// Shortest reset pulse: one cycle of RCLK, 32.768 kHz.
const MIN_RESET_NS: u64 = 30_518;

/// A module by its number, as device trees write it: 815 is bank 8, bit 15.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Module(u32);

impl Module {
    /// The module `number`, if there is a bit for it.
    pub const fn new(number: u32) -> Option<Self> {
        if number / 100 < BANKS as u32 && number % 100 < 32 { Some(Self(number)) } else { None }
    }

    fn place(self) -> (usize, u32) {
        ((self.0 / 100) as usize, 1 << (self.0 % 100))
    }
}

/// The model.
#[derive(Debug)]
pub(crate) struct Cpg {
    stop: [u32; BANKS],
    stopped: [u32; BANKS],
    reset: [u32; BANKS],
    /// Time of the last assertion of a reset line, per bank.
    reset_since: [u64; BANKS],
    /// Injected fault: module clocks never start.
    pub(crate) stuck: bool,
}

impl Cpg {
    /// Hashes the state of clocks and resets.
    pub(crate) fn hash_state(&self, state: &mut impl Hasher) {
        (self.stop, self.stopped, self.reset, self.stuck).hash(state);
    }
}

impl Default for Cpg {
    fn default() -> Self {
        Self {
            stop: STOPPED_AT_BOOT,
            stopped: STOPPED_AT_BOOT,
            reset: [0; BANKS],
            reset_since: [0; BANKS],
            stuck: false,
        }
    }
}

impl Cpg {
    /// Returns true when `module` is clocked and not in reset, so that its registers work.
    pub(crate) fn running(&self, module: Module) -> bool {
        self.clocked(module) && !self.in_reset(module)
    }

    pub(crate) fn clocked(&self, module: Module) -> bool {
        let (bank, bit) = module.place();
        self.stopped[bank] & bit == 0
    }

    pub(crate) fn in_reset(&self, module: Module) -> bool {
        let (bank, bit) = module.place();
        self.reset[bank] & bit != 0
    }

    pub(crate) fn read(&mut self, bus: &mut Bus<'_>, offset: u32) -> u32 {
        match decode(offset) {
            Register::Status(bank) => self.stopped[bank],
            Register::Control(bank) => self.stop[bank],
            Register::Reset(bank) => self.reset[bank],
            Register::ResetClear(_) | Register::None => {
                bus.error(NAME, format!("read of {offset:#x}: no register, or write only"));
                NO_ANSWER
            }
        }
    }

    pub(crate) fn write(&mut self, bus: &mut Bus<'_>, offset: u32, value: u32) {
        match decode(offset) {
            Register::Control(bank) => self.set_stop(bus, bank, value),
            Register::Reset(bank) => {
                self.reset[bank] |= value;
                self.reset_since[bank] = bus.clock.now().0;
            }
            Register::ResetClear(bank) => self.clear_reset(bus, bank, value),
            Register::Status(_) | Register::None => {
                bus.error(NAME, format!("write of {value:#x} to {offset:#x}: no register, or read only"));
            }
        }
    }

    fn set_stop(&mut self, bus: &mut Bus<'_>, bank: usize, value: u32) {
        self.stop[bank] = value;
        self.stopped[bank] |= value;
        if self.stopped[bank] != value {
            bus.clock.set(Timer::ModuleClocks, START);
        }
    }

    fn clear_reset(&mut self, bus: &mut Bus<'_>, bank: usize, value: u32) {
        let released = self.reset[bank] & value;
        if released != 0 && bus.clock.now().0 - self.reset_since[bank] < MIN_RESET_NS {
            bus.error(
                NAME,
                format!("reset of bank {bank} bits {released:#x} lasted less than one RCLK cycle (30.5 us)"),
            );
        }
        self.reset[bank] &= !value;
    }

    /// Starts enabled clocks.
    pub(crate) fn clocks_started(&mut self) {
        if !self.stuck {
            self.stopped = self.stop;
        }
    }
}
