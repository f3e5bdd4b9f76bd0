//! The diagram as a list of arrows.

use std::fmt::Write;

use bindery::binding::Phase;

use super::{Counts, edges, times};

/// The diagram as text: one transition a line.
pub fn text(counts: Counts<'_>) -> String {
    let phases = Phase::ALL.iter().map(|phase| phase.to_string().len()).max().unwrap_or(0);
    let labels = edges(counts).map(|(t, _)| t.label.len()).max().unwrap_or(0);
    let mut out = String::new();
    for (t, count) in edges(counts) {
        let (from, to) = (t.from.to_string(), t.to.to_string());
        let line = match count {
            None => format!("{from:phases$} -> {to:phases$}  {}", t.label),
            Some(count) => format!("{from:phases$} -> {to:phases$}  {:labels$}  {}", t.label, times(count)),
        };
        writeln!(out, "{line}").unwrap_or_default();
    }
    out
}
