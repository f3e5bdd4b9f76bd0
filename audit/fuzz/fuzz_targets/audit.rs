//! Any bytes as a file: the whole audit, and its report in each form.
#![no_main]

use std::io::Cursor;

use bindery_audit::{Auditor, Options};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut auditor = Auditor::new(Options::default());
    auditor.read("fuzzed", Cursor::new(bytes), &mut |_| ()).expect("reading from memory does not fail");
    let report = auditor.finish();
    let text = report.text(&|_, words| words.to_owned());
    assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "a control byte in the report: {text:?}");
    let json: serde_json::Value = serde_json::from_str(&report.json()).expect("the report is JSON");
    assert_eq!(json["exit"], report.exit_code());
    assert!(report.junit().contains("<testsuite "));
});
