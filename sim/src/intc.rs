//! The interrupt controller: lines, levels, triggers and masks.
//!
//! Lines are numbered as a GIC numbers them: SPI n is line 32 + n. The banked lines 0 to 31 belong to CPUs, not to
//! devices, and do not exist here.

#![forbid(unsafe_code)]

use std::hash::{Hash, Hasher};

use bindery::env::{IrqControl, IrqLine, Trigger};

/// First shared peripheral line.
pub const FIRST_LINE: u32 = 32;
/// One past the last line: a GIC-400 has 480 SPIs.
pub const LINES: u32 = 512;

const WORDS: usize = LINES as usize / 64;

type Set = [u64; WORDS];

/// The state of every line.
#[derive(Debug, Default)]
pub(crate) struct Intc {
    enabled: Set,
    masked: Set,
    edge: Set,
    high: Set,
    /// Edge lines with an undelivered rising edge.
    latched: Set,
}

fn put(set: &mut Set, line: u32, on: bool) {
    let (word, bit) = (line as usize / 64, 1 << (line % 64));
    if on {
        set[word] |= bit;
    } else {
        set[word] &= !bit;
    }
}

fn get(set: &Set, line: u32) -> bool {
    set[line as usize / 64] >> (line % 64) & 1 == 1
}

/// Invalid request to the controller.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ControlError {
    NoSuchLine,
    /// Unmask of a disabled line: on a GIC it would start to fire.
    NotEnabled,
    /// The trigger of an enabled line must not change (GIC architecture 2.0, `GICD_ICFGR`); the line stays enabled with the new one.
    AlreadyEnabled,
}

impl Intc {
    /// Hashes levels, and the configuration of enabled lines.
    pub(crate) fn hash_state(&self, state: &mut impl Hasher) {
        for (word, enabled) in self.enabled.iter().enumerate() {
            let of = |set: &Set| set[word] & enabled;
            (enabled, of(&self.masked), of(&self.edge), of(&self.latched), self.high[word]).hash(state);
        }
    }

    pub(crate) fn exists(line: IrqLine) -> bool {
        (FIRST_LINE..LINES).contains(&line.0)
    }

    pub(crate) fn control(&mut self, line: IrqLine, control: IrqControl) -> Result<(), ControlError> {
        if !Self::exists(line) {
            return Err(ControlError::NoSuchLine);
        }
        let n = line.0;
        match control {
            IrqControl::Enable(trigger) => {
                let before = get(&self.enabled, n);
                put(&mut self.edge, n, trigger == Trigger::EdgeRising);
                put(&mut self.masked, n, false);
                put(&mut self.latched, n, false);
                put(&mut self.enabled, n, true);
                if before {
                    return Err(ControlError::AlreadyEnabled);
                }
            }
            IrqControl::Mask => put(&mut self.masked, n, true),
            IrqControl::Unmask if !get(&self.enabled, n) => return Err(ControlError::NotEnabled),
            IrqControl::Unmask => put(&mut self.masked, n, false),
            IrqControl::Disable => {
                put(&mut self.enabled, n, false);
                put(&mut self.latched, n, false);
            }
        }
        Ok(())
    }

    /// Sets the level that a device drives on its line.
    pub(crate) fn set_level(&mut self, line: u32, high: bool) {
        if high && !get(&self.high, line) && get(&self.edge, line) && get(&self.enabled, line) {
            put(&mut self.latched, line, true);
        }
        put(&mut self.high, line, high);
    }

    /// Number of enabled lines.
    pub(crate) fn enabled(&self) -> usize {
        self.enabled.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// `None` when the line is not enabled, else true when it is masked.
    pub(crate) fn masked(&self, line: u32) -> Option<bool> {
        let on = Self::exists(IrqLine(line)) && get(&self.enabled, line);
        on.then(|| get(&self.masked, line))
    }

    pub(crate) fn level(&self, line: u32) -> bool {
        Self::exists(IrqLine(line)) && get(&self.high, line)
    }

    /// Acknowledges the lowest pending line at or above `from`.
    pub(crate) fn take_pending(&mut self, from: u32) -> Option<u32> {
        let line = self.next_pending(from)?;
        put(&mut self.latched, line, false);
        Some(line)
    }

    /// The lowest pending line at or above `from`.
    pub(crate) fn next_pending(&self, from: u32) -> Option<u32> {
        for word in from as usize / 64..WORDS {
            if self.enabled[word] == 0 {
                continue;
            }
            let mut pending =
                self.enabled[word] & !self.masked[word] & (self.high[word] & !self.edge[word] | self.latched[word]);
            if word == from as usize / 64 {
                pending &= u64::MAX << (from % 64);
            }
            if pending != 0 {
                return Some(word as u32 * 64 + pending.trailing_zeros());
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: IrqLine = IrqLine(137);

    #[test]
    fn a_level_line_is_pending_for_as_long_as_it_is_high_enabled_and_unmasked() {
        let mut intc = Intc::default();
        intc.set_level(LINE.0, true);
        assert_eq!(intc.take_pending(0), None, "not enabled");
        intc.control(LINE, IrqControl::Enable(Trigger::LevelHigh)).unwrap();
        assert_eq!((intc.take_pending(0), intc.take_pending(0)), (Some(137), Some(137)));
        assert_eq!(intc.take_pending(138), None);
        intc.control(LINE, IrqControl::Mask).unwrap();
        assert_eq!(intc.take_pending(0), None);
        intc.control(LINE, IrqControl::Unmask).unwrap();
        assert_eq!(intc.take_pending(0), Some(137));
        intc.set_level(LINE.0, false);
        assert_eq!(intc.take_pending(0), None);
    }

    #[test]
    fn an_edge_line_is_pending_once_per_edge_also_after_being_masked() {
        let mut intc = Intc::default();
        intc.control(LINE, IrqControl::Enable(Trigger::EdgeRising)).unwrap();
        intc.control(LINE, IrqControl::Mask).unwrap();
        intc.set_level(LINE.0, true);
        assert_eq!(intc.take_pending(0), None);
        intc.control(LINE, IrqControl::Unmask).unwrap();
        assert_eq!((intc.take_pending(0), intc.take_pending(0)), (Some(137), None));
        intc.set_level(LINE.0, true);
        assert_eq!(intc.take_pending(0), None, "still high is no new edge");
    }

    #[test]
    fn cpu_lines_and_lines_past_the_end_do_not_exist() {
        let mut intc = Intc::default();
        for n in [0, 31, 512, u32::MAX] {
            assert_eq!(intc.control(IrqLine(n), IrqControl::Mask), Err(ControlError::NoSuchLine));
        }
        assert_eq!(intc.control(LINE, IrqControl::Unmask), Err(ControlError::NotEnabled));
    }
}
