//! Ports: their interrupts, and what has happened at them.
//!
//! The handler of a port's interrupt switches it off and schedules the host bridge's work item, which looks at all ports, deals with what
//! it finds, and switches the interrupts on again: what happens meanwhile is signalled then.

use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::ops::RangeInclusive;
use core::time::Duration;

use bindery::binding::DevresGroup;
use bindery::bus::Departure;
use bindery::env::Instant;
use bindery::pci::{ErrorRegisters, Errors, Function, FunctionId, Functions, Header, Port, Severity, Topology};
use bindery::sync::atomic::{AtomicBool, Ordering};

use super::Host;

/// Most recoveries of what is below a port in this time; then it stays as it is until somebody asks for a look.
const RECOVERIES: (usize, Duration) = (3, Duration::from_mins(1));
/// Most errors in this time that end no binding; then they are not signalled for as long.
const HARMLESS: (u32, Duration) = (16, Duration::from_secs(1));

/// A port that is watched.
pub(super) struct Watched<'b> {
    pub(super) port: Arc<Port>,
    /// Has its interrupt.
    pub(super) interrupt: Option<DevresGroup<'b>>,
    /// Its link went down while it had no slot that would tell when a device comes.
    pub(super) lost: bool,
    /// Times of the last recoveries.
    recoveries: Vec<Instant>,
    /// What is not recovered before somebody asks for it.
    pub(super) given_up: Option<Change>,
    /// Begin of the time in which harmless errors are counted, and their number.
    harmless: (Instant, u32),
    /// It has signalled something since its interrupt was switched on.
    pub(super) signalled: Arc<AtomicBool>,
    /// Something has happened that may have been signalled.
    happened: bool,
    /// As `harmless`, of signals for which there is no reason to be seen.
    vain: (Instant, u32),
}

impl<'b> Watched<'b> {
    pub(super) fn new(port: Arc<Port>, signalled: Arc<AtomicBool>, interrupt: Option<DevresGroup<'b>>) -> Self {
        let none = (Instant(0), 0);
        Self {
            port,
            interrupt,
            lost: false,
            recoveries: Vec::new(),
            given_up: None,
            harmless: none,
            signalled,
            happened: false,
            vain: none,
        }
    }

    /// Counts a recovery. False when there were too many.
    pub(super) fn may_recover(&mut self, now: Instant) -> bool {
        self.recoveries.retain(|at| now.since(*at) < RECOVERIES.1);
        let may = self.recoveries.len() < RECOVERIES.0;
        if may {
            self.recoveries.push(now);
        }
        may
    }

    /// Forgets recoveries: somebody asks for another one.
    pub(super) fn forget_recoveries(&mut self) -> Option<Change> {
        self.recoveries.clear();
        self.given_up.take()
    }

    /// Counts an error that ends no binding. True for those that are told.
    fn count_harmless(&mut self, now: Instant) -> bool {
        count(&mut self.harmless, now) <= HARMLESS.0
    }

    /// Time until which harmless errors are not signalled.
    pub(super) fn muted_until(&self, now: Instant) -> Option<Instant> {
        end_of(self.harmless, now)
    }

    /// Time until which its interrupt stays off: it signals again and again what nobody sees. Asked once for each look.
    pub(super) fn silent_until(&mut self, now: Instant) -> Option<Instant> {
        let (signalled, happened) =
            (self.signalled.swap(false, Ordering::Relaxed), core::mem::take(&mut self.happened));
        if signalled && !happened {
            count(&mut self.vain, now);
        }
        end_of(self.vain, now)
    }
}

/// Counts one more in this time.
fn count(counted: &mut (Instant, u32), now: Instant) -> u32 {
    if now.since(counted.0) >= HARMLESS.1 {
        *counted = (now, 0);
    }
    counted.1 += 1;
    counted.1
}

/// The end of the time in which there were too many.
fn end_of((begun, count): (Instant, u32), now: Instant) -> Option<Instant> {
    let until = begun + HARMLESS.1;
    (count >= HARMLESS.0 && now < until).then_some(until)
}

/// How what is below a port comes back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Recovery {
    /// As a slot says.
    None,
    /// Its link is let up again.
    Link,
    /// One function is added again, and reset by its next binding.
    Function(FunctionId),
}

/// What is to be done about what is below a port.
pub(super) struct Change {
    pub(super) port: FunctionId,
    /// The buses behind the port.
    pub(super) numbers: RangeInclusive<u8>,
    /// Names of the devices that are to be removed, those behind others first.
    pub(super) gone: Vec<String>,
    pub(super) how: Departure,
    pub(super) recovery: Recovery,
    /// The slot is switched on for a device without power.
    pub(super) switch_on: bool,
    /// There is a device that is to be found.
    pub(super) came: bool,
}

impl Change {
    /// True when what is on the bus `bus` goes with it.
    fn covers(&self, bus: u8) -> bool {
        !matches!(self.recovery, Recovery::Function(_)) && !self.gone.is_empty() && self.numbers.contains(&bus)
    }

    pub(super) fn is_planned(&self) -> bool {
        self.how == Departure::Orderly
    }
}

/// The bridge that leads to `bus`, with the functions above it, the nearest one first.
fn above(found: &Topology, bus: u8) -> impl Iterator<Item = &Function> {
    let up =
        |f: &&Function| found.bridge_to(f.at.bus).filter(|b| b.at.bus < f.at.bus).and_then(|b| found.function(b.at));
    core::iter::successors(found.bridge_to(bus).and_then(|b| found.function(b.at)), up)
}

/// The nearest port with a link below it, at or above `function`.
fn port_of<'t>(found: &'t Topology, function: &'t Function) -> Option<&'t Function> {
    let is_port = |f: &&Function| f.port.is_some_and(bindery::pci::PortKind::has_link_below);
    core::iter::once(function).chain(above(found, function.at.bus)).find(is_port)
}

/// All that is on the buses `numbers`, what is behind others first.
fn behind(found: &Topology, numbers: &RangeInclusive<u8>) -> Vec<String> {
    found.functions.iter().rev().filter(|f| numbers.contains(&f.at.bus)).map(|f| f.at.to_string()).collect()
}

impl<'b> Host<'b> {
    /// Looks at all ports, outer ones first: what is behind a port that has gone is not asked.
    pub(super) fn look(&self, (found, functions): (&Topology, &Functions), watched: &mut [Watched<'b>]) -> Vec<Change> {
        let mut changes: Vec<Change> = Vec::new();
        for watched in watched {
            let at = watched.port.at();
            if changes.iter().any(|change| change.covers(at.bus)) {
                continue;
            }
            let Some(bridge) = found.bridges.iter().find(|bridge| bridge.at == at) else { continue };
            let numbers = bridge.secondary..=bridge.subordinate;
            // A port that does not respond is behind one that tells of it.
            match watched.port.contained() {
                Err(_) => continue,
                Ok(Some(by)) if watched.given_up.is_none() => {
                    watched.happened = true;
                    self.contained(found, functions, watched, by, &mut changes);
                    continue;
                }
                Ok(_) => {}
            }
            self.errors(found, functions, watched, &mut changes);
            if watched.given_up.is_some() {
                changes.extend(Self::exchanged(watched));
                continue;
            }
            if changes.iter().any(|change| change.covers(*numbers.start())) {
                continue;
            }
            changes.extend(Self::slot(found, watched, numbers));
        }
        changes
    }

    /// A port has taken its link down by itself.
    fn contained(
        &self,
        found: &Topology,
        functions: &Functions,
        watched: &Watched<'_>,
        by: bindery::pci::ContainedBy,
        changes: &mut Vec<Change>,
    ) {
        let at = watched.port.at();
        // What is below cannot be asked any more.
        let own = found.function(at).and_then(|port| functions.errors(port)).and_then(|own| own.take().ok());
        if let Some((severity, errors)) = own.and_then(|own| Some((own.severity()?, own))) {
            self.dev.report_error(&at.to_string(), severity.name(), &at, &errors);
        }
        let reporter = |id: u16| {
            let known = found.functions.iter().find(|f| f.at.requester_id() == id);
            known.map_or_else(
                || alloc::format!("a function with requester ID {id:#06x}, which nobody has"),
                |f| f.at.to_string(),
            )
        };
        let reason = match by {
            bindery::pci::ContainedBy::Port => "contained, for an error of the port".to_string(),
            bindery::pci::ContainedBy::NonFatal(id) => {
                alloc::format!("contained, for a non-fatal error of {}", reporter(id))
            }
            bindery::pci::ContainedBy::Fatal(id) => alloc::format!("contained, for a fatal error of {}", reporter(id)),
            bindery::pci::ContainedBy::Other => "contained".to_string(),
        };
        self.take_link_down(found, &watched.port, &reason, Departure::Contained, changes);
    }

    /// Takes the link below a port down, and has what is below removed.
    fn take_link_down(
        &self,
        found: &Topology,
        port: &Port,
        reason: &dyn fmt::Display,
        how: Departure,
        changes: &mut Vec<Change>,
    ) {
        let at = port.at();
        let Some(bridge) = found.bridges.iter().find(|bridge| bridge.at == at) else { return };
        let numbers = bridge.secondary..=bridge.subordinate;
        // Without that there is no proof, and drivers have to stop their devices.
        let down = port.contain();
        let how = if down.is_ok() { how } else { Departure::Failed };
        match down {
            Ok(()) => self.dev.report_link(&at.to_string(), Some(reason)),
            Err(error) => self.dev.log(format_args!("the link below {at}, for {reason}: {error}")),
        }
        changes.retain(|change| !numbers.contains(change.numbers.start()));
        let gone = behind(found, &numbers);
        changes.push(Change { port: at, numbers, gone, how, recovery: Recovery::Link, switch_on: false, came: true });
    }

    /// Errors that were reported to a root port.
    fn errors(&self, found: &Topology, functions: &Functions, watched: &mut Watched<'_>, changes: &mut Vec<Change>) {
        let port = Arc::clone(&watched.port);
        let Some(received) = port.errors().and_then(|errors| errors.take_received().ok()) else { return };
        let senders = [received.correctable, received.uncorrectable];
        if senders == [None; 2] {
            return;
        }
        watched.happened = true;
        let (at, now) = (port.at(), self.dev.system_clock().now());
        let below = |f: &&Function| f.at == at || above(found, f.at.bus).any(|port| port.at == at);
        let named = |f: &&Function| senders.contains(&Some(f.at.requester_id()));
        let all = || found.functions.iter().filter(below);
        // An ID that names nobody is no reason to ask nobody, and of several senders the first one alone is named.
        let known = senders.into_iter().flatten().all(|id| all().any(|f| f.at.requester_id() == id));
        let asked = all().filter(|f| received.several || !known || named(f));
        let registers = asked.filter_map(|f| Some((f, functions.errors(f)?)));
        let taken = |(f, registers): (_, ErrorRegisters)| Some((f, registers.take().ok()?));
        let admitted: Vec<(&Function, Errors)> = registers.filter_map(taken).collect();
        let mut ends = false;
        for (function, errors) in &admitted {
            let Some(severity) = errors.severity() else { continue };
            let harmless = severity == Severity::Correctable;
            if !harmless || watched.count_harmless(now) {
                self.dev.report_error(&function.at.to_string(), severity.name(), &at, errors);
            }
            if harmless {
                continue;
            }
            ends = true;
            self.end(found, functions, function, (errors, severity), changes);
        }
        if ends || received.uncorrectable.is_none() {
            return;
        }
        if received.fatal {
            let reason = "a fatal error that no function below admits";
            self.dev.report_error(&at.to_string(), Severity::Fatal.name(), &at, &reason);
            self.take_link_down(found, &port, &reason, Departure::Contained, changes);
        } else if watched.count_harmless(now) {
            let what = "an error that no function below admits";
            self.dev.report_error(&at.to_string(), Severity::NonFatal.name(), &at, &what);
        }
    }

    /// Ends bindings for an uncorrectable error of `function`.
    fn end(
        &self,
        found: &Topology,
        functions: &Functions,
        function: &Function,
        (errors, severity): (&Errors, Severity),
        changes: &mut Vec<Change>,
    ) {
        let Some(port) = port_of(found, function) else { return };
        // What goes already, goes.
        if changes.iter().any(|change| change.covers(function.at.bus) || change.port == port.at && change.came) {
            return;
        }
        let Some(link) = functions.port(port) else { return };
        if severity == Severity::Fatal {
            let (reason, how) = if errors.is_surprise_down() {
                ("it went down by itself".to_string(), Departure::LinkDown)
            } else {
                (alloc::format!("a fatal error of {}", function.at), Departure::Contained)
            };
            return self.take_link_down(found, &link, &reason, how, changes);
        }
        let Some(bridge) = found.bridges.iter().find(|bridge| bridge.at == port.at) else { return };
        let numbers = bridge.secondary..=bridge.subordinate;
        let (how, at) = (Departure::Failed, function.at);
        let change = if function.header == Header::Device {
            let recovery = Recovery::Function(at);
            if changes.iter().any(|change| change.recovery == recovery) {
                return;
            }
            Change {
                port: port.at,
                numbers,
                gone: [at.to_string()].into(),
                how,
                recovery,
                switch_on: false,
                came: false,
            }
        } else {
            // A request from below, or for what is below, was lost on its way: whose, nobody knows.
            let gone = behind(found, &numbers);
            Change { port: port.at, numbers, gone, how, recovery: Recovery::Link, switch_on: false, came: true }
        };
        changes.push(change);
    }

    /// Another device is below a port that was left alone: it is tried.
    fn exchanged(watched: &mut Watched<'_>) -> Option<Change> {
        let slot = watched.port.slot()?;
        let state = slot.look().ok();
        watched.happened |= state.is_some_and(|state| state.changed || state.attention);
        let state = state.filter(|state| state.changed && !state.link_failed && state.present);
        state.and_then(|_| watched.forget_recoveries())
    }

    /// What has become of a slot, or of the link of a port without one.
    fn slot(found: &Topology, watched: &mut Watched<'_>, numbers: RangeInclusive<u8>) -> Option<Change> {
        let port = &watched.port;
        let is_known = found.functions.iter().any(|f| numbers.contains(&f.at.bus));
        let change = |how, leaves: bool, switch_on, came| {
            let gone = if leaves { behind(found, &numbers) } else { Vec::new() };
            (leaves || came).then(|| Change {
                port: port.at(),
                numbers: numbers.clone(),
                gone,
                how,
                recovery: Recovery::None,
                switch_on,
                came,
            })
        };
        let Some(slot) = port.slot() else {
            let up = port.is_link_up().ok()?;
            let (leaves, came) = (is_known && !up, !is_known && up && watched.lost);
            let change = change(Departure::LinkDown, leaves, false, came);
            watched.lost = (watched.lost || leaves) && !came;
            return change;
        };
        let state = slot.look().ok()?;
        watched.happened |= state.changed || state.attention;
        let planned = state.attention && state.occupied && !state.changed;
        let leaves = is_known && (planned || state.changed || !state.occupied);
        let switch_on = !is_known && state.present && !state.occupied && state.attention;
        let came = state.occupied && !(is_known && planned) && (!is_known || leaves) || switch_on;
        let how = match (planned, state.link_failed) {
            (true, _) => Departure::Orderly,
            (false, true) => Departure::LinkDown,
            (false, false) => Departure::Vanished,
        };
        change(how, leaves, switch_on, came)
    }
}
