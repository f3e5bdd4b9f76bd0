//! Interrupt lines of an env over QEMU: what was raised, and what the core wants to have delivered.

use std::collections::{BTreeMap, BTreeSet};

use bindery::env::{EnvError, IrqControl, IrqLine, Trigger};

/// Number of the first line that is a word of the doorbell page.
pub(crate) const FIRST_MESSAGE: u32 = 1 << 16;
/// Words of the doorbell page.
pub(crate) const MESSAGES: u32 = 1024;

/// Lines that an interrupt controller of QEMU can have.
const LINES: u32 = 1020;

/// Levels of the controller's inputs, as QEMU tells them.
#[derive(Debug, Default)]
pub(crate) struct Inputs {
    high: BTreeSet<u32>,
    /// Inputs that have risen since they were last asked for.
    risen: BTreeSet<u32>,
    /// The input of the machine's clock, which is the env's, and whether it has risen.
    pub(crate) alarm: Option<u32>,
    pub(crate) rang: bool,
}

impl Inputs {
    /// Takes a report: `raise N` or `lower N`. Returns false when it is none.
    pub(crate) fn take(&mut self, report: &str) -> bool {
        let Some((what, number)) = report.split_once(' ') else { return false };
        let Some(input) = number.trim().parse().ok().filter(|n| *n < LINES) else { return false };
        match what {
            "raise" if self.alarm == Some(input) => self.rang = true,
            "lower" if self.alarm == Some(input) => {}
            "raise" if self.high.insert(input) => drop(self.risen.insert(input)),
            "raise" => {}
            "lower" => drop(self.high.remove(&input)),
            _ => return false,
        }
        true
    }
}

/// One enabled line.
#[derive(Debug)]
struct Enabled {
    trigger: Trigger,
    masked: bool,
    /// An edge that was not delivered yet.
    latched: bool,
}

/// The lines that the core has enabled.
#[derive(Debug)]
pub(crate) struct Interrupts {
    /// The line of the controller's first input.
    first: u32,
    high: BTreeSet<u32>,
    enabled: BTreeMap<u32, Enabled>,
    /// Messages that a device has.
    allocated: BTreeSet<u32>,
}

impl Interrupts {
    pub(crate) fn new(first: u32) -> Self {
        Self { first, high: BTreeSet::new(), enabled: BTreeMap::new(), allocated: BTreeSet::new() }
    }

    fn exists(&self, line: u32) -> bool {
        (self.first..self.first + LINES).contains(&line) || (FIRST_MESSAGE..FIRST_MESSAGE + MESSAGES).contains(&line)
    }

    pub(crate) fn control(&mut self, line: IrqLine, control: IrqControl) -> Result<(), EnvError> {
        if !self.exists(line.0) {
            return Err(EnvError::NoSuchLine(line));
        }
        let entry = self.enabled.get_mut(&line.0);
        match (control, entry) {
            (IrqControl::Enable(trigger), _) => {
                self.enabled.insert(line.0, Enabled { trigger, masked: false, latched: false });
            }
            (IrqControl::Disable, _) => drop(self.enabled.remove(&line.0)),
            (IrqControl::Mask, Some(enabled)) => enabled.masked = true,
            (IrqControl::Unmask, Some(enabled)) => enabled.masked = false,
            (IrqControl::Mask | IrqControl::Unmask, None) => {}
        }
        Ok(())
    }

    /// Takes over what QEMU has told.
    pub(crate) fn update(&mut self, inputs: &mut Inputs) {
        for input in std::mem::take(&mut inputs.risen) {
            self.rise(self.first + input);
        }
        self.high = inputs.high.iter().map(|input| self.first + input).collect();
    }

    /// A line has risen.
    fn rise(&mut self, line: u32) {
        if let Some(enabled) = self.enabled.get_mut(&line) {
            enabled.latched = enabled.trigger == Trigger::EdgeRising;
        }
    }

    /// Gives away the lowest messages that nobody has, up to `count`.
    pub(crate) fn allocate(&mut self, count: usize) -> Vec<u32> {
        let found: Vec<u32> = (0..MESSAGES).filter(|n| !self.allocated.contains(n)).take(count).collect();
        self.allocated.extend(&found);
        found
    }

    pub(crate) fn free(&mut self, line: IrqLine) {
        if let Some(n) = line.0.checked_sub(FIRST_MESSAGE) {
            self.allocated.remove(&n);
        }
    }

    /// Looks for messages: `take` takes the word of each that is waited for.
    pub(crate) fn messages(&mut self, mut take: impl FnMut(u32) -> u32) {
        for (line, enabled) in self.enabled.range_mut(FIRST_MESSAGE..) {
            enabled.latched |= take(line - FIRST_MESSAGE) != 0;
        }
    }

    /// The lowest line from `from` on whose interrupt is to be delivered.
    pub(crate) fn pending(&self, from: u32) -> Option<u32> {
        let is_due = |line: u32, e: &Enabled| {
            !e.masked && (e.latched || e.trigger != Trigger::EdgeRising && self.high.contains(&line))
        };
        self.enabled.range(from..).find(|(line, e)| is_due(**line, e)).map(|(line, _)| *line)
    }

    /// Takes it for delivery.
    pub(crate) fn take(&mut self, from: u32) -> Option<u32> {
        let line = self.pending(from)?;
        if let Some(enabled) = self.enabled.get_mut(&line) {
            enabled.latched = false;
        }
        Some(line)
    }

    pub(crate) fn is_high(&self, line: u32) -> bool {
        self.high.contains(&line)
    }
}
