//! Shrinking of failing paths.

use super::path::Path;

/// Runs that shrinking one path may take.
const RUNS: usize = 4_000;

/// Shortens `path` by delta debugging: cuts its tail, removes runs of choices or sets them to 0, lowers the remaining ones.
/// `fails` runs a candidate, and gives the path up to the violation when it is still the same one.
pub(super) fn shrink(path: Path, mut fails: impl FnMut(&Path) -> Option<Path>) -> Path {
    let mut best = path;
    let mut runs = 0;
    loop {
        let before = best.clone();
        let mut attempt = |best: &mut Path, choices: Vec<u32>| {
            let candidate = Path::new(choices);
            if candidate.cost() >= best.cost() || runs >= RUNS {
                return false;
            }
            runs += 1;
            match fails(&candidate) {
                Some(found) if found.cost() < best.cost() => {
                    *best = found;
                    true
                }
                _ => false,
            }
        };
        let mut size = best.choices().len().max(1).next_power_of_two();
        while size > 0 {
            let mut start = 0;
            while start < best.choices().len() {
                let choices = best.choices().to_vec();
                let end = (start + size).min(choices.len());
                let mut without = choices.clone();
                without.drain(start..end);
                let mut zeroed = choices;
                zeroed[start..end].fill(0);
                if !attempt(&mut best, without) && !attempt(&mut best, zeroed) {
                    start = end;
                }
            }
            size /= 2;
        }
        for at in 0..best.choices().len() {
            for lower in [1, 2] {
                let mut choices = best.choices().to_vec();
                if let Some(choice) = choices.get_mut(at).filter(|a| **a > lower) {
                    *choice = if lower == 1 { 1 } else { *choice - 1 };
                    attempt(&mut best, choices);
                }
            }
        }
        if best == before || runs >= RUNS {
            return best;
        }
    }
}
