//! The orders in which Linux releases set a binding up and take it back, as small models that the engine walks.
//!
//! [`table`] is data: the steps of each release, written down from its source. They act on one disk controller behind an
//! IOMMU, its group, its memory. Whoever else may come in between (an unbind of the supplier,
//! a write to the group's `type`, a claim for a guest, a second writer to `unbind`) does so between any two steps. The
//! oracles are the promises P1 to P13; no model knows which bug it has.

mod back;
mod breach;
mod known;
mod life;
mod memory;
mod options;
mod order;
mod others;
pub mod page;
mod setup;
pub mod step;
pub mod table;
#[cfg(test)]
mod tests;
mod translation;
mod world;

pub use known::{Known, known};
pub use options::{Boot, Habit, Options};
pub use order::{Order, UnknownOrder};
use step::Up;

use crate::engine::{Chooser, Engine, Path, Replay, Report, Violation};

/// Walks every life of the model of `order` within `options`.
pub fn find(order: Order, options: &Options) -> Report {
    engine(order, options).run(scenario(order, options))
}

/// Walks one path of the model of `order`, with everything told.
pub fn replay(order: Order, options: &Options, path: &Path) -> Replay {
    engine(order, options).replay(path, scenario(order, options))
}

/// The engine that [`find`] runs, for callers who add a shard, a progress line or a way to cancel.
pub fn engine(order: Order, options: &Options) -> Engine {
    let procedure = order.procedure();
    let mut required: Vec<String> = Vec::new();
    if options.faults > 0 && !options.test_remove {
        required.extend(procedure.up.iter().map(|up| up.mark().to_owned()));
        // What follows the release of managed resources is out of reach where that crashes each time.
        let sure = procedure.unbind.iter().take_while(|&&down| down != step::Down::Devres);
        required.extend(sure.map(|down| down.mark().to_owned()));
    }
    Engine::new(order.name()).faults(options.faults).interrupts(options.interrupts).must_hit(required)
}

/// One life of the device under `order`: bound, perhaps after deferrals, and unbound for a guest.
pub fn scenario(order: Order, options: &Options) -> impl Fn(&Chooser) -> Result<(), Violation> + Sync + use<> {
    let options = options.clone();
    move |chooser| life::life(order, &options, chooser)
}
