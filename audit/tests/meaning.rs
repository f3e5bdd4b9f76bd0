//! Changes that mail programs, terminals and loggers make to a file change no verdict.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::io::{Cursor, Read, Write};
use std::path::Path;

use bindery_audit::{Auditor, Options, input};
use common::{Audited, audit, done};
use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;

/// Fixtures of one shape each, whole enough to be judged.
const FILES: [&str; 9] = [
    "log/01-vtd-journal.log",
    "log/03-amdvi-bound-and-running.log",
    "log/08-dma-api-size-on-arm32.log",
    "log/11-swiotlb-full-with-levels.log",
    "log/16-region-released-twice.log",
    "seed/after.log",
    "seed/before.log",
    "seed/oops.log",
    "trace/linux-6.12-x86_64-vtd-ahci-nvme-e1000e-handover.ftrace.zst",
];

fn text(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
    let mut text = String::new();
    input::open(&path).unwrap().read_to_string(&mut text).unwrap();
    text
}

/// The verdict and the rules that are violated.
fn verdict(audited: &Audited) -> (String, Vec<String>) {
    (audited.report.verdict().to_string(), audited.violated())
}

/// `text` with `prefix` in front of each line.
fn prefixed(text: &str, prefix: &str) -> String {
    text.lines().map(|line| format!("{prefix}{line}")).collect::<Vec<_>>().join("\n")
}

/// Something that is done to one line, and means nothing.
#[derive(Clone, Copy, Debug)]
enum Dress {
    Carriage,
    Colour,
    Erase,
    BlanksBehind,
    Bell,
}

impl Dress {
    fn on(self, line: &str) -> String {
        match self {
            Self::Carriage => format!("{line}\r"),
            Self::Colour => format!("\u{1b}[1;31m{line}\u{1b}[0m"),
            Self::Erase => format!("{line}\u{1b}[K"),
            Self::BlanksBehind => format!("{line}   "),
            Self::Bell => format!("\u{7}{line}"),
        }
    }
}

fn dress() -> impl Strategy<Value = Dress> {
    prop::sample::select(vec![Dress::Carriage, Dress::Colour, Dress::Erase, Dress::BlanksBehind, Dress::Bell])
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(60) })]

    #[test]
    fn what_a_terminal_adds_changes_nothing(file in 0..FILES.len(), dresses in prop::collection::vec(dress(), 1..50)) {
        let plain = text(FILES[file]);
        let dressed: Vec<String> =
            plain.lines().enumerate().map(|(n, line)| dresses[n % dresses.len()].on(line)).collect();
        prop_assert_eq!(verdict(&audit(&dressed.join("\n"))), verdict(&audit(&plain)));
    }

    #[test]
    fn lines_of_other_programs_between_change_nothing(file in 0..FILES.len(), every in 1..9_usize, at in 0..1000_usize) {
        let plain = text(FILES[file]);
        // A whole record of several lines may not be torn apart by what has a prefix of its own in the same form.
        let mut mixed = String::new();
        for (n, line) in plain.lines().enumerate() {
            let next = plain.lines().nth(n + 1).unwrap_or("");
            mixed.push_str(line);
            mixed.push('\n');
            if (n + at) % every == 0 && next.starts_with(['[', 'N', ' ']) && !next.starts_with(" =>") && !next.trim_start().starts_with("r1") {
                mixed.push_str("Nov 03 14:22:06 hv07 systemd[1]: Started exd.service.\n");
            }
        }
        prop_assert_eq!(verdict(&audit(&mixed)), verdict(&audit(&plain)));
    }
}

#[test]
fn a_quoted_file_means_the_same() {
    for name in FILES {
        let plain = text(name);
        for mark in ["> ", ">> ", "> > ", "&gt; "] {
            let quoted = prefixed(&plain, mark);
            assert_eq!(verdict(&audit(&quoted)), verdict(&audit(&plain)), "{name}, {mark:?}");
        }
    }
}

#[test]
fn a_mail_that_is_wrapped_and_quoted_means_the_same() {
    for name in ["log/03-amdvi-bound-and-running.log", "log/11-swiotlb-full-with-levels.log", "seed/before.log"] {
        let plain = text(name);
        for columns in [72, 76, 78] {
            let mut wrapped = String::new();
            for line in plain.lines() {
                let mut width = 0;
                for (n, word) in line.split(' ').enumerate() {
                    if width + word.len() > columns && n > 0 {
                        wrapped.push_str("\n> ");
                        width = 0;
                    } else {
                        wrapped.push_str(if n == 0 { "> " } else { " " });
                    }
                    wrapped.push_str(word);
                    width += word.len() + 1;
                }
                wrapped.push('\n');
            }
            assert_eq!(verdict(&audit(&wrapped)), verdict(&audit(&plain)), "{name}, {columns} columns");
        }
    }
}

#[test]
fn a_capture_with_a_clock_of_its_own_means_the_same() {
    for name in ["log/03-amdvi-bound-and-running.log", "log/08-dma-api-size-on-arm32.log", "seed/oops.log"] {
        let plain = text(name);
        for clock in [
            "2026-11-03 14:22:07.123 ",
            "2026-11-03T14:22:07.123456+01:00 board kernel: ",
            "Nov  3 14:22:07 board kernel: ",
        ] {
            let captured = prefixed(&plain, clock);
            assert_eq!(verdict(&audit(&captured)), verdict(&audit(&plain)), "{name}, {clock:?}");
        }
    }
}

#[test]
fn a_compressed_file_means_the_same_though_it_is_cut_into_members() {
    for name in FILES {
        let plain = text(name);
        let mut bytes = Vec::new();
        for half in [&plain.as_bytes()[..plain.len() / 2], &plain.as_bytes()[plain.len() / 2..]] {
            let mut writer = GzEncoder::new(Vec::new(), Compression::fast());
            writer.write_all(half).unwrap();
            bytes.extend(writer.finish().unwrap());
        }
        let mut auditor = Auditor::new(Options::default());
        auditor.read(name, input::sniff(name, Cursor::new(bytes)).unwrap(), &mut |_| ()).unwrap();
        assert_eq!(verdict(&done(auditor)), verdict(&audit(&plain)), "{name}");
    }
}
