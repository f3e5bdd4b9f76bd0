//! One run of the scenario, start to end.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::chooser::Chooser;
use super::execution::Execution;
use super::violation::Violation;

/// Runs the scenario once.
pub(super) fn execute<F>(scenario: &F, run: Execution) -> Chooser
where
    F: Fn(&Chooser) -> Result<(), Violation>,
{
    let chooser = Chooser::new(run);
    match catch_unwind(AssertUnwindSafe(|| scenario(&chooser))) {
        Ok(Ok(())) => {}
        Ok(Err(violation)) => chooser.report(violation),
        Err(payload) => {
            let message = payload.downcast_ref::<&str>().map(|s| (*s).to_owned());
            let message = message.or_else(|| payload.downcast_ref::<String>().cloned());
            chooser.report(Violation::panicked(message.as_deref().unwrap_or("(no message)")));
        }
    }
    chooser
}
