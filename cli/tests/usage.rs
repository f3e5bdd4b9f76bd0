//! Help, completions and wrong usage.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use common::bindery;

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
