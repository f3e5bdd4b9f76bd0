//! A run of several steps: progress while it goes on, a summary at the end.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use crate::outcome::{Outcome, Trouble};

/// Outcome of one step.
enum Ending {
    Passed,
    Failed(String),
    LeftOut(String),
}

struct Step {
    name: String,
    ending: Ending,
    took: Duration,
}

/// Runs steps and keeps their results. A step that fails does not keep the later ones from running: one run tells
/// everything that is wrong.
pub(crate) struct Session {
    start: Instant,
    steps: Vec<Step>,
    colour: bool,
    /// Nothing may be left out.
    strict: bool,
}

impl Session {
    /// Starts the clock. With `CI=true` in the environment, a step that is left out counts as failed.
    pub(crate) fn new() -> Self {
        let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        let strict = std::env::var_os("CI").is_some_and(|v| v == "true" || v == "1");
        Self { start: Instant::now(), steps: Vec::new(), colour, strict }
    }

    /// Runs `work` under the name `name`.
    pub(crate) fn step(&mut self, name: &str, work: impl FnOnce() -> Outcome) {
        eprintln!("{}", self.paint("1;36", &format!("==> [{}] {name}", clock(self.start.elapsed()))));
        let start = Instant::now();
        let ending = match work() {
            Ok(()) => Ending::Passed,
            Err(Trouble::Failed(why) | Trouble::Broken(why)) => Ending::Failed(why),
            Err(Trouble::Skipped(why)) => Ending::LeftOut(why),
        };
        match &ending {
            Ending::Passed => {}
            Ending::Failed(why) => eprintln!("{}", self.paint("1;31", &format!("{name}: failed: {why}"))),
            Ending::LeftOut(why) => eprintln!("{}", self.paint("1;33", &format!("{name}: left out: {why}"))),
        }
        self.steps.push(Step { name: name.to_owned(), ending, took: start.elapsed() });
    }

    /// Prints the summary and says how the whole run ended.
    pub(crate) fn finish(self) -> Outcome {
        let width = self.steps.iter().map(|s| s.name.len()).max().unwrap_or(0);
        eprintln!("{}", self.paint("1;36", &format!("==> [{}] summary", clock(self.start.elapsed()))));
        let (mut failed, mut left_out) = (Vec::new(), Vec::new());
        let mut whys = Vec::new();
        for Step { name, ending, took } in &self.steps {
            let (colour, word) = match ending {
                Ending::Passed => ("32", "ok"),
                Ending::Failed(_) => ("1;31", "FAILED"),
                Ending::LeftOut(_) => ("1;33", "left out"),
            };
            eprintln!("    {name:width$}  {:>7}  {}", clock(*took), self.paint(colour, word));
            match ending {
                Ending::Passed => {}
                Ending::Failed(why) => {
                    failed.push(name.as_str());
                    whys.push(format!("{name}: {why}"));
                }
                Ending::LeftOut(why) => left_out.push(format!("{name}: {}", first_line(why))),
            }
        }
        let passed = self.steps.len() - failed.len() - left_out.len();
        eprintln!("{passed} passed, {} failed, in {}", failed.len(), clock(self.start.elapsed()));
        eprintln!("left out: {}{}", left_out.len(), in_brackets(&left_out));
        // Once more at the end: many see the end of a long log only.
        for why in &whys {
            eprintln!("{}", self.paint("1;31", why));
        }
        if !failed.is_empty() {
            return Err(Trouble::Failed(failed.join(", ")));
        }
        if self.strict && !left_out.is_empty() {
            return Err(Trouble::Failed("CI=true, and something was left out".into()));
        }
        Ok(())
    }

    fn paint(&self, colour: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

fn clock(time: Duration) -> String {
    format!("{}:{:02}.{}", time.as_secs() / 60, time.as_secs() % 60, time.subsec_millis() / 100)
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

fn in_brackets(list: &[String]) -> String {
    if list.is_empty() { String::new() } else { format!(" ({})", list.join("; ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(strict: bool) -> Session {
        Session { start: Instant::now(), steps: Vec::new(), colour: false, strict }
    }

    #[test]
    fn a_failed_step_fails_the_run_and_later_steps_still_run() {
        let mut s = session(false);
        let mut ran = false;
        s.step("bad", || Err(Trouble::Failed("on purpose".into())));
        s.step("good", || {
            ran = true;
            Ok(())
        });
        assert!(ran);
        assert!(matches!(s.finish(), Err(Trouble::Failed(names)) if names == "bad"));
    }

    #[test]
    fn what_is_left_out_fails_only_the_strict_run() {
        for strict in [false, true] {
            let mut s = session(strict);
            s.step("trees", || Err(Trouble::Skipped("not root".into())));
            assert_eq!(s.finish().is_err(), strict);
        }
    }

    #[test]
    fn times_are_minutes_and_seconds() {
        assert_eq!(clock(Duration::from_millis(83_450)), "1:23.4");
    }
}
