//! Models of races with unwinding, in every interleaving up to a bound.

mod ledger;
mod revoke;

use loom::model::Builder;

/// Builder for models of many steps: an exhaustive search of them is limited to four preemptions.
pub(crate) fn of_many_steps() -> Builder {
    let mut model = Builder::new();
    model.preemption_bound = Some(model.preemption_bound.map_or(4, |set| set.min(4)));
    model.max_branches = 100_000;
    model
}
