//! The gate: counts of each operation, as bench/gate.txt has them.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use super::figures::{Counts, Figures};
use crate::outcome::{Outcome, Trouble};
use crate::tool::root;

/// Instructions may differ by this much: other versions of the C library count a little differently.
const TOLERANCE: f64 = 0.03;

fn file() -> PathBuf {
    root().join("bench/gate.txt")
}

/// Peers are not ours to hold.
fn gated(figures: &Figures) -> impl Iterator<Item = (&str, Counts)> {
    figures
        .counts
        .iter()
        .filter(|(row, _)| row.strip_suffix(".peer").is_none())
        .map(|(row, counts)| (row.as_str(), *counts))
}

/// Writes the file anew.
pub(crate) fn update(figures: &Figures) -> Outcome {
    let mut text =
        String::from("# row, instructions, atomic operations, allocations. Written by `cargo xtask bench --update`.\n");
    for (row, Counts { instructions, atomics, allocations }) in gated(figures) {
        let _ = writeln!(text, "{row} {instructions:.0} {atomics:.1} {allocations:.1}");
    }
    fs::write(file(), text).map_err(|e| Trouble::Broken(format!("{}: {e}", file().display())))
}

/// Compares with the file. What became better by more than the tolerance fails, too: the file must stay true.
pub(crate) fn compare(figures: &Figures) -> Outcome {
    let text = fs::read_to_string(file()).map_err(|e| Trouble::Broken(format!("{}: {e}", file().display())))?;
    let wrong = differences(&text, figures)?;
    if wrong.is_empty() {
        return Ok(());
    }
    let what = "counts differ from bench/gate.txt; if that is meant, run `cargo xtask bench --update` and say why in the commit";
    Err(Trouble::Failed(format!("{} {what}\n{}", wrong.len(), wrong.join("\n"))))
}

fn differences(text: &str, figures: &Figures) -> Result<Vec<String>, Trouble> {
    let mut wrong = Vec::new();
    let mut known = Vec::new();
    for line in text.lines().filter(|l| !l.starts_with('#')) {
        let fields: Vec<&str> = line.split(' ').collect();
        let [row, numbers @ ..] = &fields[..] else { continue };
        let numbers: Vec<f64> = numbers.iter().map_while(|n| n.parse().ok()).collect();
        let [instructions, atomics, allocations] = numbers[..] else {
            return Err(Trouble::Broken(format!("{}: {line}", file().display())));
        };
        known.push(*row);
        let Some(now) = figures.counts.get(*row) else {
            wrong.push(format!("{row}: not measured any more"));
            continue;
        };
        // Whole operations of these, but for those that happen once in many calls.
        let whole = [("atomic operations", atomics, now.atomics), ("allocations", allocations, now.allocations)];
        if (now.instructions - instructions).abs() > instructions * TOLERANCE + 1.0 {
            let change = (now.instructions / instructions - 1.0) * 100.0;
            wrong.push(format!("{row}: {:.0} instructions, not {instructions:.0} ({change:+.1} %)", now.instructions));
        }
        for (unit, was, now) in whole {
            if (now - was).abs() > 0.5_f64.max(was * TOLERANCE) {
                wrong.push(format!("{row}: {now:.1} {unit}, not {was:.1}"));
            }
        }
    }
    wrong.extend(
        gated(figures).filter(|(row, _)| !known.contains(row)).map(|(row, _)| format!("{row}: not in the file")),
    );
    Ok(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_more_than_three_per_cent_is_told_in_both_directions() {
        let mut figures = Figures::default();
        let counts = |instructions| Counts { instructions, atomics: 4.0, allocations: 0.0 };
        for (row, instructions) in
            [("same", 1029.0), ("worse", 1040.0), ("better", 960.0), ("new", 1.0), ("x.peer", 1.0)]
        {
            figures.counts.insert(row.to_owned(), counts(instructions));
        }
        let file = "# comment\nsame 1000 4.0 0.0\nworse 1000 4.0 0.0\nbetter 1000 4.0 2.0\ngone 5 0.0 0.0\n";
        let wrong = differences(file, &figures).unwrap();
        let rows: Vec<_> = wrong.iter().map(|line| line.split(':').next().unwrap()).collect();
        assert_eq!(rows, ["worse", "better", "better", "gone", "new"], "{wrong:#?}");
        assert!(differences("same x 4.0 0.0", &figures).is_err());
    }
}
