//! Sets of tests that a mutant has to pass, the quickest first: most mutants end in the first one.

use super::mutant::Mutant;

/// Tests of one set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Stage {
    pub(super) name: &'static str,
    /// Packages whose tests are run; the mutant's own one when there is none.
    pub(super) packages: &'static [&'static str],
    /// Words for `cargo test`.
    pub(super) cargo: &'static [&'static str],
    /// Names of tests that are left out, because they take long and are about something else.
    pub(super) skip: &'static [&'static str],
    /// Seconds that the tests may take.
    pub(super) limit: u64,
}

/// The core's unit tests, but for those that take seconds each: 3 s instead of 27.
const UNIT: Stage = Stage {
    name: "the core's unit tests",
    packages: &["bindery"],
    cargo: &["--lib", "--features=std"],
    skip: &["pgtable::tests::model", "machine::churn::every_table", "in_every_order"],
    limit: 120,
};

/// All tests of the core, the drivers and the explorer, but for those that compile programs.
const SYSTEM: Stage = Stage {
    name: "tests of whole systems",
    packages: &["bindery", "bindery-drivers", "bindery-explore"],
    cargo: &["--tests"],
    skip: &["breaking_a_rule_of_the_api_does_not_compile"],
    limit: 1200,
};

/// Tests of the package that the mutant belongs to.
const OWN: Stage = Stage { name: "the package's tests", packages: &[], cargo: &["--tests"], skip: &[], limit: 600 };

/// Sets that `mutant` has to pass, in that order.
pub(super) fn stages(mutant: &Mutant) -> &'static [Stage] {
    match mutant.package.as_str() {
        "bindery" => &[UNIT, SYSTEM],
        "bindery-drivers" => &[OWN, SYSTEM],
        _ => &[OWN],
    }
}
