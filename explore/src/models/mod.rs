//! Tear-down models: the orders in which Linux releases set a binding up and tear it down.
//!
//! [`table`] is data: the steps of each release, taken from its source. They act on one disk controller behind an
//! IOMMU, its group, its memory. Concurrent operations (an unbind of the supplier,
//! a write to the group's `type`, a claim for a guest, a second writer to `unbind`) may run between any two steps. The
//! oracles are the promises P1 to P13; no model knows which bug it has.

mod breach;
mod kernel;
mod known;
mod lifecycle;
mod memory;
mod model;
mod options;
mod others;
pub mod page;
mod set_up;
pub mod step;
pub mod table;
mod tear_down;
#[cfg(test)]
mod tests;
mod translation;

pub use known::{Known, known};
pub use model::{Model, UnknownModel};
pub use options::{Boot, Habit, Options};
use step::SetUp;

use crate::engine::{Chooser, Engine, Path, Replay, Report, Violation};

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
    let procedure = model.procedure();
    let mut required: Vec<String> = Vec::new();
    if options.faults > 0 && !options.test_remove {
        required.extend(procedure.up.iter().map(|up| up.mark().to_owned()));
        // What follows the release of managed resources is out of reach where that crashes each time.
        let sure = procedure.unbind.iter().take_while(|&&down| down != step::TearDown::Devres);
        required.extend(sure.map(|down| down.mark().to_owned()));
    }
    Engine::new(model.name()).faults(options.faults).preemptions(options.preemptions).require(required)
}

/// One lifecycle of the device under `model`: bound, perhaps after deferrals, and unbound for a guest.
pub fn scenario(model: Model, options: &Options) -> impl Fn(&Chooser) -> Result<(), Violation> + Sync + use<> {
    let options = options.clone();
    move |chooser| lifecycle::run(model, &options, chooser)
}
