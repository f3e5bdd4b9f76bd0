//! Models of what races with the way back, in every interleaving up to a bound.

mod ledger;
mod revoke;

use loom::model::Builder;

/// A model that takes many steps: bugs that need more preemptions than four are beyond an exhaustive search of it.
pub(crate) fn of_many_steps() -> Builder {
    let mut model = Builder::new();
    model.preemption_bound = Some(model.preemption_bound.map_or(4, |set| set.min(4)));
    model.max_branches = 100_000;
    model
}
