//! `bindery audit` as a user calls it.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::io::Write;
use std::path::PathBuf;
use std::process::Stdio;

use common::{bindery, command};

fn fixture(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../audit/tests/fixtures").join(name);
    path.display().to_string()
}

#[test]
fn exit_codes_tell_clean_violated_and_not_known_apart() {
    assert_eq!(bindery(["audit", &fixture("log/18-clean-life-quoted.log")]).code, 0);
    assert_eq!(bindery(["audit", &fixture("seed/before.log")]).code, 1);
    assert_eq!(bindery(["audit", &fixture("log/17-events-lost.log")]).code, 3);
    assert_eq!(bindery(["audit", "--allow-unknown", &fixture("log/17-events-lost.log")]).code, 0);
    assert_eq!(bindery(["audit", "--allow-unknown", &fixture("seed/before.log")]).code, 1);
    bindery(["audit", "no-such-file"]).refused(&["no-such-file"]);
}

#[test]
fn json_and_junit_hold_the_verdict() {
    let json = bindery(["audit", "--json", &fixture("seed/before.log")]);
    let value: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!((value["schema"].as_u64(), value["verdict"].as_str()), (Some(1), Some("violated")));
    assert_eq!(value["devices"][0]["lives"][0]["findings"][0]["known"]["commit"], "376991db4b64");
    let junit = bindery(["audit", "--junit", &fixture("log/17-events-lost.log")]).out;
    assert!(junit.contains("<skipped message=\"cannot tell: ") && !junit.contains("<failure"), "{junit}");
    let junit = bindery(["audit", "--junit", &fixture("seed/before.log")]).out;
    assert!(junit.contains("<failure") && junit.contains("R19"), "{junit}");
}

#[test]
fn rules_are_listed_and_explained() {
    let rules = bindery(["audit", "--rules"]).good();
    assert!(rules.lines().count() >= 22 && rules.contains("R5   freed through another back-end"), "{rules}");
    let text = bindery(["audit", "--explain", "R5"]).good();
    assert!(text.contains("Why: ") && text.contains("376991db4b64"), "{text}");
    bindery(["audit", "--explain", "R99"]).refused(&["R99"]);
}

#[test]
fn standard_input_is_read_compressed_and_plain() {
    for name in ["log/18-clean-life-quoted.log", "trace/linux-6.12-x86_64-vtd-ahci-nvme-e1000e-handover.ftrace.zst"] {
        let mut child = command().arg("audit").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(&std::fs::read(fixture(name)).unwrap()).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && text.starts_with("standard input: "), "{text}");
    }
}

#[test]
fn binary_traces_are_refused_with_the_command_that_reads_them() {
    let dir = std::env::temp_dir().join(format!("bindery-audit-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let path = dir.join("trace.dat");
    std::fs::write(&path, b"\x17\x08\x44tracing6\0").unwrap();
    bindery(["audit", path.to_str().unwrap()]).refused(&["trace-cmd report"]);
    let patterns = dir.join("patterns");
    std::fs::write(&patterns, "alloc no device").unwrap();
    bindery(["audit", "--patterns", patterns.to_str().unwrap(), "-"]).refused(&["line 1", "{device}"]);
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn the_simulators_own_trace_is_audited_clean() {
    let dir = std::env::temp_dir().join(format!("bindery-ftrace-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let path = dir.join("trace");
    bindery(["run", "--quiet", "--ftrace", path.to_str().unwrap()]).good();
    let audited = bindery(["audit", path.to_str().unwrap()]);
    assert!(!audited.out.contains("violated"), "{}", audited.out);
    assert!(audited.out.contains("ee300000.sata, life 1") && audited.out.contains("R5  proved"), "{}", audited.out);
    std::fs::remove_dir_all(&dir).unwrap();
}
