//! Model of a controller without registers of clocks, power domains, reset lines and regulators.
//!
//! It implements the interface of a supply driver itself. A line is on or off and nothing else, so that tests can compare the
//! lines that are on with the devices that need them. Wired to an [attached device](crate::models::attached), it
//! decides whether the device's registers answer.

#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bindery::binding::Bound;
use bindery::device::{NodeId, SupplierKind};
use bindery::driver::{Driver, Match, ProbeError, QuiesceError, Quiesced};
use bindery::power::{Supply, SupplyError};

/// A line: its kind and its number, the first specifier cell.
pub type LineId = (SupplierKind, u32);

#[derive(Debug, Default, Clone, Copy)]
struct LineState {
    on: bool,
    /// Number of the last switch that changed it, over all lines.
    changed: u64,
    /// Number of times that it was switched off.
    offs: u64,
}

#[derive(Debug, Default)]
struct State {
    lines: BTreeMap<LineId, LineState>,
    switches: u64,
    /// Lines that cannot be switched off.
    stuck: BTreeSet<LineId>,
    /// Microvolts of regulators, as they were set last.
    voltages: BTreeMap<u32, u32>,
}

/// Model of the controller: every line is off after power-up.
#[derive(Debug, Default)]
pub struct PowerController(Mutex<State>);

impl PowerController {
    /// Hardware after power-up.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns true when `line` is on: a clock runs, a domain is powered, a reset line is released.
    pub fn is_on(&self, line: LineId) -> bool {
        self.lock().lines.get(&line).is_some_and(|state| state.on)
    }

    /// The lines that are on.
    pub fn lines_on(&self) -> Vec<LineId> {
        self.lock().lines.iter().filter(|(_, state)| state.on).map(|(line, _)| *line).collect()
    }

    /// Position of the last change of `line` in the order of all changes, from 1; 0 when it was never switched.
    pub fn changed(&self, line: LineId) -> u64 {
        self.lock().lines.get(&line).map_or(0, |state| state.changed)
    }

    /// Number of times that `line` was switched off: a device on a reset line lost its state as often.
    pub fn offs(&self, line: LineId) -> u64 {
        self.lock().lines.get(&line).map_or(0, |state| state.offs)
    }

    /// Microvolts of regulator `number`; `None` before they were set.
    pub fn voltage(&self, number: u32) -> Option<u32> {
        self.lock().voltages.get(&number).copied()
    }

    /// Makes `line` one that cannot be switched off (a reset line: asserted) any more.
    pub fn stick(&self, line: LineId) {
        self.lock().stuck.insert(line);
    }

    /// Returns true when `line` cannot be switched off.
    pub fn is_stuck(&self, line: LineId) -> bool {
        self.lock().stuck.contains(&line)
    }

    /// Repairs the lines that cannot be switched off.
    pub fn unstick(&self) {
        self.lock().stuck.clear();
    }

    /// Hashes which lines are on.
    pub fn hash_state(&self, state: &mut impl Hasher) {
        let inner = self.lock();
        for (line, _) in inner.lines.iter().filter(|(_, state)| state.on) {
            line.hash(state);
        }
        inner.stuck.hash(state);
    }

    /// The interface for the core, which the driver of the controller provides.
    pub fn supply(self: &Arc<Self>) -> Arc<dyn Supply> {
        Arc::new(Lines(Arc::clone(self)))
    }
}

/// Driver of the modelled controllers, compatible with `test,power`; each device is the one with its name.
pub struct PowerDriver(pub BTreeMap<String, Arc<PowerController>>);

impl Driver for PowerDriver {
    const NAME: &'static str = "power";
    const MATCHES: &'static [Match] = &[Match::compatible("test,power")];
    type Data<'b> = ();

    fn probe(&self, dev: Bound<'_>) -> Result<(), ProbeError> {
        let controller = self.0.get(dev.name()).ok_or(ProbeError::NoDevice)?;
        Ok(dev.provide(controller.supply())?)
    }

    fn quiesce((): &()) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::never_started())
    }
}

struct Lines(Arc<PowerController>);

impl Supply for Lines {
    fn switch(&self, kind: SupplierKind, args: &[u32], on: bool) -> Result<(), SupplyError> {
        let number = args.first().copied().unwrap_or(0);
        let mut state = self.0.lock();
        if !on && state.stuck.contains(&(kind, number)) {
            return Err(SupplyError::Dead);
        }
        state.switches += 1;
        let at = state.switches;
        let line = state.lines.entry((kind, number)).or_default();
        if line.on != on {
            line.changed = at;
            line.offs += u64::from(!on);
        }
        line.on = on;
        Ok(())
    }

    fn set_voltage(&self, _: NodeId, args: &[u32], min: u32, _: u32) -> Result<u32, SupplyError> {
        self.0.lock().voltages.insert(args.first().copied().unwrap_or(0), min);
        Ok(min)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLOCK: LineId = (SupplierKind::Clock, 3);
    const RESET: LineId = (SupplierKind::Reset, 3);

    #[test]
    fn a_line_has_its_state_and_its_place_in_the_order_of_changes() {
        let controller = PowerController::new();
        let supply = controller.supply();
        for (line, on) in [(CLOCK, true), (RESET, true), (RESET, true), (RESET, false)] {
            supply.switch(line.0, &[line.1], on).unwrap();
        }
        assert_eq!(controller.lines_on(), [CLOCK]);
        assert_eq!((controller.changed(CLOCK), controller.changed(RESET), controller.offs(RESET)), (1, 4, 1));
        controller.stick(CLOCK);
        assert_eq!(supply.switch(CLOCK.0, &[3], false), Err(SupplyError::Dead));
        assert_eq!(supply.switch(CLOCK.0, &[3], true), Ok(()));
        assert!(controller.is_on(CLOCK) && controller.is_stuck(CLOCK));
        controller.unstick();
        assert_eq!(supply.switch(CLOCK.0, &[3], false), Ok(()));
    }
}
