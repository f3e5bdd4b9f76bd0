//! Tear-down models: the orders in which Linux releases set a binding up and tear it down.
//!
//! `releases` is data: the steps of Linux 6.12, taken from its source, and other releases as deltas from it. They act on one
//! disk controller behind an IOMMU, its group, its memory. Concurrent operations (an unbind of the supplier, a write to the
//! group's `type`, a claim for a guest, a second writer to `unbind`) may run between any two steps. The oracles (`breach`)
//! are the promises P1 to P13; no model knows which bug it has, `known` names it afterwards.

mod breach;
mod concurrent;
mod kernel;
mod known;
mod lifecycle;
mod memory;
mod model;
mod options;
pub mod page;
pub mod procedure;
mod releases;
mod set_up;
pub mod step;
mod tear_down;
#[cfg(test)]
mod tests;
mod texts;
mod translation;

pub use known::{Known, known};
pub use model::{Model, UnknownModel};
pub use options::{Boot, DriverVariant, Options};
use procedure::Procedure;
use step::{SetUp, TearDown};

use crate::engine::{Bounded, Chooser, Engine, Path, Replay, Report, Violation};

/// Explores every lifecycle of `model` within `options`.
pub fn find(model: Model, options: &Options) -> Report {
    engine(model, options).run(scenario(model, options))
}

/// Replays one path of `model` with logging on.
pub fn replay(model: Model, options: &Options, path: &Path) -> Replay {
    engine(model, options).replay(path, scenario(model, options))
}

/// The engine that [`find`] runs, for callers who add a shard, a progress line or a way to cancel.
pub fn engine(model: Model, options: &Options) -> Engine {
    let engine = Engine::new(model.name()).faults(options.faults).preemptions(options.preemptions);
    if options.faults == 0 || options.test_remove {
        return engine;
    }
    let Procedure { up, unbind, .. } = model.procedure();
    // Steps after the release of managed resources are out of reach where that always crashes.
    let reached = unbind.iter().take_while(|&&down| down != TearDown::Devres);
    engine.require(up.iter().map(|up| up.coverage_point()).chain(reached.map(|down| down.coverage_point())))
}

/// One lifecycle of the device under `model`: bound, perhaps after deferrals, and unbound for a guest.
pub fn scenario(model: Model, options: &Options) -> impl Fn(&Chooser) -> Result<(), Violation> + Sync + use<> {
    let (procedure, options) = (model.procedure(), options.clone());
    move |chooser| lifecycle::run(&procedure, &options, chooser)
}
