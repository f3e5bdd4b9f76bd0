//! Registers.
//!
//! Source: Linux `drivers/pmdomain/renesas/rcar-sysc.c` (registers, order of use, limits).

use core::time::Duration;

/// Smallest size of the register window, in bytes.
pub(super) const WINDOW: u64 = 0x400;

/// Status of the controller.
pub(super) const SYSCSR: u64 = 0x00;
/// SYSCSR: requests to switch off are accepted.
pub(super) const SYSCSR_OFF: u32 = 1 << 0;
/// SYSCSR: requests to switch on are accepted.
pub(super) const SYSCSR_ON: u32 = 1 << 1;
/// Completed requests, one bit per domain.
pub(super) const SYSCISR: u64 = 0x04;
/// Writing 1 clears a bit of [`SYSCISR`].
pub(super) const SYSCISCR: u64 = 0x08;
/// Interrupt enable: the controller completes requests only of domains whose bit is set.
pub(super) const SYSCIER: u64 = 0x0c;
/// Interrupt mask: completions of domains whose bit is set do not interrupt a CPU.
pub(super) const SYSCIMR: u64 = 0x10;

/// In a domain's block: status, bit set = off.
pub(super) const PWRSR: u64 = 0x00;
/// In a domain's block: request to switch off.
pub(super) const PWROFFCR: u64 = 0x04;
/// In a domain's block: request to switch on.
pub(super) const PWRONCR: u64 = 0x0c;
/// In a domain's block: the request was refused; ask again.
pub(super) const PWRER: u64 = 0x14;

/// Longest wait until a request is accepted.
pub(super) const READY: Duration = Duration::from_micros(100);
/// Number of times that a refused request is repeated.
pub(super) const REQUESTS: usize = 100;
/// Longest wait until a domain has switched.
pub(super) const SWITCH: Duration = Duration::from_millis(1);
