//! Register offsets and specifier values.
//!
//! Sources: Linux `drivers/clk/renesas/renesas-cpg-mssr.c` (offsets, order of use, the reset pulse),
//! `include/dt-bindings/clock/renesas-cpg-mssr.h` (clock types).

use core::time::Duration;

/// Smallest size of the register window, in bytes.
pub(super) const WINDOW: u64 = 0x9b0;

/// Number of registers of each kind.
pub(super) const BANKS: usize = 12;

/// Module stop status: 1 = stopped. Read only.
pub(super) const MSTPSR: [u64; BANKS] =
    [0x030, 0x038, 0x040, 0x048, 0x04c, 0x03c, 0x1c0, 0x1c4, 0x9a0, 0x9a4, 0x9a8, 0x9ac];
/// System module stop control: 1 = stop.
pub(super) const SMSTPCR: [u64; BANKS] =
    [0x130, 0x134, 0x138, 0x13c, 0x140, 0x144, 0x148, 0x14c, 0x990, 0x994, 0x998, 0x99c];
/// Software reset: writing 1 asserts, 0 does nothing; reads 1 while asserted.
pub(super) const SRCR: [u64; BANKS] =
    [0x0a0, 0x0a8, 0x0b0, 0x0b8, 0x0bc, 0x0c4, 0x1c8, 0x1cc, 0x920, 0x924, 0x928, 0x92c];
/// Software reset clear: writing 1 releases. Write only.
pub(super) const SRSTCLR: [u64; BANKS] =
    [0x940, 0x944, 0x948, 0x94c, 0x950, 0x954, 0x958, 0x95c, 0x960, 0x964, 0x968, 0x96c];

/// First cell of a clock specifier: a core clock.
pub(super) const CORE_CLOCK: u32 = 0;
/// First cell of a clock specifier: a module clock, by module number.
pub(super) const MODULE_CLOCK: u32 = 1;

/// Longest wait for a module's clock to start. The hardware takes a few cycles of the slowest bus clock.
pub(super) const CLOCK_START: Duration = Duration::from_micros(100);
/// Shortest reset pulse: one cycle of RCLK (32.768 kHz) and a margin.
pub(super) const RESET_PULSE: Duration = Duration::from_micros(35);
