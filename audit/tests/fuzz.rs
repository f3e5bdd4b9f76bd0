//! Damaged logs and traces: never a panic, never a byte that a terminal obeys, always a report.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::fs;
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use bindery_audit::{Auditor, Options, input};
use proptest::prelude::*;

/// Lines of all fixtures; of the long traces every few.
fn corpus() -> &'static [Vec<u8>] {
    static LINES: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    LINES.get_or_init(|| {
        let mut files = Vec::new();
        collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures"), &mut files);
        files.sort();
        let mut lines = Vec::new();
        for file in files {
            let mut bytes = Vec::new();
            input::open(&file).unwrap().read_to_end(&mut bytes).unwrap();
            lines.extend(bytes.split(|byte| *byte == b'\n').map(<[u8]>::to_vec));
        }
        lines
    })
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { collect(&path, files) } else { files.push(path) }
    }
}

/// A place in the corpus and how many lines from there.
fn piece() -> impl Strategy<Value = (usize, usize)> {
    (0..corpus().len(), 1..40_usize)
}

#[derive(Clone, Debug)]
enum Damage {
    Byte(usize, u8),
    Cut(usize),
    Drop(usize),
    Twice(usize),
    Swap(usize, usize),
    Join(usize),
    Prefix(usize, &'static str),
    Number(usize, u64),
}

fn damage() -> impl Strategy<Value = Damage> {
    let at = any::<usize>;
    let prefixes = prop::sample::select(vec![
        "> ",
        "[    1.000000] ",
        "\u{1b}[31m",
        "Nov  3 14:22:07 h kernel: ",
        "<4>",
        "+",
        "# ",
        " => ",
        "\r",
        "6,1,1,-;",
        "[",
    ]);
    prop_oneof![
        (at(), any::<u8>()).prop_map(|(at, byte)| Damage::Byte(at, byte)),
        at().prop_map(Damage::Cut),
        at().prop_map(Damage::Drop),
        at().prop_map(Damage::Twice),
        (at(), at()).prop_map(|(a, b)| Damage::Swap(a, b)),
        at().prop_map(Damage::Join),
        (at(), prefixes).prop_map(|(at, prefix)| Damage::Prefix(at, prefix)),
        (at(), prop_oneof![Just(0), Just(1), Just(u64::MAX), Just(u64::MAX - 4095), any::<u64>()])
            .prop_map(|(at, number)| Damage::Number(at, number)),
    ]
}

fn apply(lines: &mut Vec<Vec<u8>>, damage: &Damage) {
    let n = lines.len();
    if n == 0 {
        return;
    }
    match *damage {
        Damage::Byte(at, byte) => {
            let line = &mut lines[at % n];
            if !line.is_empty() {
                let len = line.len();
                line[at / n % len] = byte;
            }
        }
        Damage::Cut(at) => {
            let line = &mut lines[at % n];
            let len = line.len();
            line.truncate(at / n % (len + 1));
        }
        Damage::Drop(at) => drop(lines.remove(at % n)),
        Damage::Twice(at) => {
            let line = lines[at % n].clone();
            lines.insert(at % n, line);
        }
        Damage::Swap(a, b) => lines.swap(a % n, b % n),
        Damage::Join(at) => {
            if at % n + 1 < n {
                let next = lines.remove(at % n + 1);
                lines[at % n].extend(next);
            }
        }
        Damage::Prefix(at, prefix) => {
            let line = &mut lines[at % n];
            *line = [prefix.as_bytes(), line].concat();
        }
        Damage::Number(at, number) => {
            // The first long number of a line.
            let line = String::from_utf8_lossy(&lines[at % n]).into_owned();
            if let Some(start) = line.find("0x").map(|at| at + 2).or_else(|| line.find('=').map(|at| at + 1)) {
                let end = line[start..].find(|c: char| !c.is_ascii_hexdigit()).map_or(line.len(), |end| start + end);
                lines[at % n] = format!("{}{number:x}{}", &line[..start], &line[end..]).into_bytes();
            }
        }
    }
}

fn survives(bytes: Vec<u8>) {
    let mut auditor = Auditor::new(Options::default());
    auditor.read("damaged", Cursor::new(bytes), &mut |_| ()).unwrap();
    let report = auditor.finish();
    let text = report.text(&|_, words| words.to_owned());
    assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
    let json: serde_json::Value = serde_json::from_str(&report.json()).unwrap();
    assert_eq!(json["exit"], report.exit_code());
    assert!(report.junit().contains("<testsuite "));
}

fn cases() -> ProptestConfig {
    // Many more where PROPTEST_CASES asks for them.
    let asked = std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok());
    ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(asked.unwrap_or(600)) }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn damaged_files_are_reported_on(
        pieces in prop::collection::vec(piece(), 1..8),
        damages in prop::collection::vec(damage(), 0..30),
    ) {
        let mut lines = Vec::new();
        for (at, n) in pieces {
            lines.extend(corpus()[at..].iter().take(n).cloned());
        }
        for damage in &damages {
            apply(&mut lines, damage);
        }
        survives(lines.join(&b'\n'));
    }

    #[test]
    fn any_bytes_are_reported_on(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        survives(bytes);
    }
}

#[test]
fn a_recording_that_begins_anywhere_never_shows_a_violation_in_a_clean_trace() {
    for name in [
        "linux-6.1-arm64-smmuv3-ahci-bind-unbind.ftrace.gz",
        "linux-6.12-x86_64-vtd-ahci-nvme-e1000e-handover.ftrace.zst",
    ] {
        let mut bytes = Vec::new();
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/trace").join(name);
        input::open(&path).unwrap().read_to_end(&mut bytes).unwrap();
        let lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
        let mut wrong = std::collections::BTreeMap::new();
        for start in (0..lines.len()).step_by(7) {
            for end in [lines.len(), start + (lines.len() - start) / 2] {
                let mut auditor = Auditor::new(Options::default());
                auditor.read(name, Cursor::new(lines[start..end].join(&b'\n')), &mut |_| ()).unwrap();
                let audited = common::done(auditor);
                for line in audited.text.lines().skip_while(|line| !line.contains("violated: ")).take(2) {
                    wrong
                        .entry(line.chars().filter(|c| !c.is_ascii_digit()).collect::<String>())
                        .or_insert((name, start, end));
                }
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
}
