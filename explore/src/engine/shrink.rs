//! From a failing path to a short one.

use super::path::Path;

/// Runs that shrinking one path may take.
const RUNS: usize = 4_000;

/// Shortens `path` by delta debugging: cuts its tail, takes runs of answers out or sets them to 0, lowers what is left.
/// `fails` runs a candidate, and gives the path up to the violation when it is still the same one.
pub(super) fn shrink(path: Path, mut fails: impl FnMut(&Path) -> Option<Path>) -> Path {
    let mut best = path;
    let mut runs = 0;
    loop {
        let before = best.clone();
        let mut attempt = |best: &mut Path, answers: Vec<u32>| {
            let candidate = Path::new(answers);
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
        let mut size = best.answers().len().max(1).next_power_of_two();
        while size > 0 {
            let mut start = 0;
            while start < best.answers().len() {
                let answers = best.answers().to_vec();
                let end = (start + size).min(answers.len());
                let mut without = answers.clone();
                without.drain(start..end);
                let mut zeroed = answers;
                zeroed[start..end].fill(0);
                if !attempt(&mut best, without) && !attempt(&mut best, zeroed) {
                    start = end;
                }
            }
            size /= 2;
        }
        for at in 0..best.answers().len() {
            for lower in [1, 2] {
                let mut answers = best.answers().to_vec();
                if let Some(answer) = answers.get_mut(at).filter(|a| **a > lower) {
                    *answer = if lower == 1 { 1 } else { *answer - 1 };
                    attempt(&mut best, answers);
                }
            }
        }
        if best == before || runs >= RUNS {
            return best;
        }
    }
}
