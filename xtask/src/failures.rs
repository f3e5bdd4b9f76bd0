//! Failed tests, read from what `cargo test` writes while it runs.

use std::io::{self, BufRead, Write};

/// Tests of one report that are quoted, and lines of each: a summary stays one.
const TESTS: usize = 10;
const LINES: usize = 15;

/// Names of the tests that failed, and what each of them said.
#[derive(Default)]
pub(crate) struct Failures {
    names: Vec<String>,
    /// A line with the test's name, and its own lines below.
    said: Vec<Vec<String>>,
    /// The lines that follow belong to the last test in `said`.
    inside: bool,
}

impl Failures {
    /// Copies `from` to `to` up to its end, line by line, and reads it on the way.
    pub(crate) fn copy(mut from: impl BufRead, mut to: impl Write) -> io::Result<Self> {
        let (mut failures, mut line) = (Self::default(), Vec::new());
        while from.read_until(b'\n', &mut line)? > 0 {
            // A reader that has left must not end the tests.
            let _ = to.write_all(&line).and_then(|()| to.flush());
            failures.line(String::from_utf8_lossy(&line).trim_end());
            line.clear();
        }
        Ok(failures)
    }

    fn line(&mut self, line: &str) {
        if let Some(name) = line.strip_prefix("test ").and_then(|l| l.strip_suffix(" ... FAILED")) {
            self.names.push(name.to_owned());
        } else if let Some(name) = line.strip_prefix("---- ").and_then(|l| l.strip_suffix(" stdout ----")) {
            self.inside = true;
            self.said.push(vec![format!("{name}:")]);
        } else if line == "failures:" || line.starts_with("test result: ") {
            self.inside = false;
        } else if let Some(said) =
            self.said.last_mut().filter(|said| self.inside && said.len() <= LINES && !line.is_empty())
        {
            said.push(format!("    {line}"));
        }
    }

    /// The first test that failed, and how many more; nothing without one.
    pub(crate) fn short(&self) -> Option<String> {
        match self.names.as_slice() {
            [] => None,
            [one] => Some(one.clone()),
            [first, rest @ ..] => Some(format!("{first} and {} more", rest.len())),
        }
    }

    /// Each test that failed, with the first lines of what it said.
    pub(crate) fn lines(&self) -> Vec<String> {
        let quoted = self.said.iter().take(TESTS).flatten().cloned();
        let silent =
            self.names.iter().filter(|name| !self.said.iter().any(|said| said[0].trim_end_matches(':') == *name));
        let more = self.said.len().checked_sub(TESTS).filter(|more| *more > 0);
        quoted.chain(silent.cloned()).chain(more.map(|more| format!("and {more} more"))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "running 3 tests\ntest a::b ... FAILED\ntest c ... ok\ntest d ... FAILED\n\nfailures:\n\n\
        ---- a::b stdout ----\n\nthread 'a::b' (7) panicked at x.rs:1:2:\nno\n\n---- d stdout ----\nnote\n\nfailures:\n    \
        a::b\n    d\n\ntest result: FAILED. 1 passed; 2 failed; 0 ignored\n";

    #[test]
    fn failed_tests_are_named_with_what_they_said_and_nothing_is_kept_back() {
        let mut copy = Vec::new();
        let failures = Failures::copy(OUTPUT.as_bytes(), &mut copy).unwrap();
        assert_eq!(copy, OUTPUT.as_bytes());
        assert_eq!(failures.short().as_deref(), Some("a::b and 1 more"));
        let lines = ["a::b:", "    thread 'a::b' (7) panicked at x.rs:1:2:", "    no", "d:", "    note"];
        assert_eq!(failures.lines(), lines);
    }

    #[test]
    fn a_summary_stays_short() {
        let failed = |i: usize| format!("---- t{i} stdout ----\n{}", "word\n".repeat(100));
        let text: String = (0..TESTS + 2).map(failed).collect();
        let failures = Failures::copy(text.as_bytes(), io::sink()).unwrap();
        assert_eq!(failures.lines().len(), TESTS * (LINES + 1) + 1);
        assert_eq!(failures.lines().last().unwrap(), "and 2 more");
    }

    #[test]
    fn a_test_that_said_nothing_is_named() {
        let failures = Failures::copy("test quiet ... FAILED\n".as_bytes(), io::sink()).unwrap();
        assert_eq!(failures.lines(), ["quiet"]);
        assert_eq!(Failures::default().short(), None);
    }
}
