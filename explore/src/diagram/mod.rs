//! The state diagram of a binding, made from the core's own table of transitions ([`TRANSITIONS`]), as SVG and as text.
//!
//! A run's coverage counts how often each transition was taken, under its [`coverage_name`]; a diagram that is
//! given them shows them.

mod layout;
mod svg;
#[cfg(test)]
mod tests;
mod text;

use std::collections::BTreeMap;

use bindery::binding::{TRANSITIONS, Transition};

pub use svg::svg;
pub use text::text;

/// The command that writes docs/states.svg and docs/states.txt.
pub const COMMAND: &str = "cargo run -p bindery-explore --bin states -- --update";

/// Number of times that each transition was taken: the [coverage](crate::Report::coverage) of a run. `None`: not counted.
pub type Counts<'a> = Option<&'a BTreeMap<String, u64>>;

/// The name under which a run counts a transition: `transition probing -> bound`.
pub fn coverage_name(transition: &Transition) -> String {
    format!("transition {} -> {}", transition.from, transition.to)
}

/// The transitions, each with the number of times that it was taken, where that is known.
fn edges(counts: Counts<'_>) -> impl Iterator<Item = (&'static Transition, Option<u64>)> + use<'_> {
    TRANSITIONS.iter().map(move |t| (t, counts.map(|counts| counts.get(&coverage_name(t)).copied().unwrap_or(0))))
}

/// `never`, `once`, `12 times`.
fn times(count: u64) -> String {
    match count {
        0 => "never".into(),
        1 => "once".into(),
        n => format!("{n} times"),
    }
}
