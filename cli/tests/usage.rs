//! Help, completions and wrong usage.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use common::{bindery, bindery_to, closed_pipe, full_device};

#[test]
fn every_command_has_help_that_documents_the_exit_codes() {
    for args in [
        &["--help"][..],
        &["run", "--help"],
        &["tree", "--help"],
        &["explore", "--help"],
        &["audit", "--help"],
        &["completions", "--help"],
    ] {
        let help = bindery(args).good();
        assert!(help.contains("Exit codes:\n  0 ") && help.contains("Usage: bindery"), "{args:?}: {help}");
    }
}

#[test]
fn help_that_cannot_be_written_is_a_failure_and_a_reader_that_left_is_none() {
    for args in [&["--help"][..], &["--version"], &["explore", "--help"]] {
        bindery_to(full_device(), args).refused(&["cannot write standard output: No space left on device"]);
        let ran = bindery_to(closed_pipe(), args);
        assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{args:?}");
    }
}

#[test]
fn the_exit_code_survives_a_reader_that_leaves() {
    let left = |args: &[&str]| {
        let ran = bindery_to(closed_pipe(), args);
        assert_eq!(ran.err, "", "{args:?}");
        ran.code
    };
    assert_eq!(left(&["explore", "--model", "linux-5.0-rc5"]), 1);
    assert_eq!(left(&["explore", "--model", "linux-5.0-rc5", "--json"]), 1);
    assert_eq!(left(&["explore", "--model", "linux-5.0-rc5", "--replay", "-"]), 1);
    assert_eq!(left(&["explore", "--model", "bindery"]), 0);
    assert_eq!(left(&["audit", concat!(env!("CARGO_MANIFEST_DIR"), "/../audit/tests/fixtures/seed/before.log")]), 1);
    for args in [&["run"][..], &["run", "--json"], &["tree"], &["completions", "bash"]] {
        assert_eq!(left(args), 0, "{args:?}");
    }
}

#[test]
fn completions_name_the_commands() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let text = bindery(["completions", shell]).good();
        assert!(text.contains("tree") && text.contains("completions"), "{shell}");
    }
}

#[test]
fn wrong_usage_ends_with_2() {
    bindery(["frobnicate"]).refused(&["frobnicate"]);
    bindery(["tree", "--dtb"]).refused(&["--dtb"]);
    bindery(["run", "--iommu", "perhaps"]).refused(&["perhaps", "on, off"]);
}
