//! Compile-fail tests of the rules of the API that the compiler enforces.
//!
//! The messages are pinned to the tool chain of rust-toolchain.toml. After changing either, look at what
//! `TRYBUILD=overwrite cargo test -p bindery --test ui` writes, and keep it only if it still names the rule.

#[test]
fn breaking_a_rule_of_the_api_does_not_compile() {
    let cases = trybuild::TestCases::new();
    cases.pass("tests/ui_good/*.rs");
    cases.compile_fail("tests/ui/*.rs");
}
