//! Sets of tests that a mutant has to pass, the quickest first: most mutants end in the first one.

use super::mutant::Mutant;
use super::tool::BATCH;

/// Tests of one set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Stage {
    pub(super) name: &'static str,
    /// Packages whose tests are run; the mutant's own one when there is none.
    pub(super) packages: &'static [&'static str],
    /// Words for `cargo test`.
    pub(super) cargo: &'static [&'static str],
    /// Names of tests that are left out, because they take long, each with the [subject](Mutant::subject) whose mutants meet it all the same.
    pub(super) skip: &'static [(&'static str, &'static str)],
    /// Seconds that the tests may take.
    pub(super) limit: u64,
}

/// The core's unit tests. Of those that take long, only the area's own ones: 3 s of processor time instead of 32.
const UNIT: Stage = Stage {
    name: "the core's unit tests",
    packages: &["bindery"],
    cargo: &["--lib", "--features=std"],
    skip: &[
        // Ten seconds each, and for page tables alone.
        ("page tables", "pgtable::tests::model"),
        ("machine", "machine::churn::"),
        ("machine", "machine::windows::probing_in_any_order"),
        ("machine", "machine::matching::tests::it_finds"),
        ("irq", "irq::tests::"),
        ("irq", "irq::handler_tests::"),
        ("power", "power::tests::shared::a_line_is_on"),
        ("link", "link::cycles::tests::"),
        ("pci", "pci::tests::random::"),
        ("mem", "mem::"),
        ("control", "control::tests::lifecycle::reads_and_writes_race"),
        ("control", "control::tests::replay::"),
        ("control", "control::tests::faults::a_fault_storm"),
    ],
    limit: 60,
};

/// Tests of the core, the drivers and the explorer that walk whole lifecycles: minutes without optimisation.
const SYSTEM: Stage = Stage {
    name: "tests of whole systems",
    packages: &["bindery", "bindery-drivers", "bindery-explore"],
    cargo: SYSTEM_TESTS,
    skip: &[],
    limit: 1200,
};

/// Names of their files. Not among them: what compiles programs, needs QEMU, compares documents, or takes longer than all others.
const SYSTEM_TESTS: &[&str] = &[
    "--lib",
    "--test=promises",
    "--test=authors",
    "--test=fdt_rules",
    "--test=dma",
    "--test=handover",
    "--test=ipmmu",
    "--test=lifecycle",
    "--test=order",
    "--test=pci",
    "--test=pci_bus_reset",
    "--test=pci_errors",
    "--test=pci_interrupts",
    "--test=pci_pass_through",
    "--test=pci_slots",
    "--test=pci_user_messages",
    "--test=pci_vectors",
    "--test=sata",
    "--test=suppliers",
    "--test=vfio_release",
    "--test=scenarios",
    "--test=field",
];

/// Tests of the package that the mutant belongs to.
const OWN: Stage = Stage { name: "the package's tests", packages: &[], cargo: &["--tests"], skip: &[], limit: 600 };

/// The explorer's quick tests. All of them together take longer than a set may, without optimisation.
const EXPLORER: Stage = Stage {
    name: "the explorer's quick tests",
    packages: &[],
    cargo: &["--lib", "--test=deadlock", "--test=page", "--test=states"],
    skip: &[],
    limit: 120,
};

/// Its small systems, and the device of an outsider.
const SMALL: Stage = Stage {
    name: "the explorer's small systems",
    packages: &[],
    cargo: &["--test=scenarios", "--test=own_device", "--test=binding_model"],
    skip: &[],
    limit: 600,
};

impl Stage {
    /// Number of mutants that it tries in one call of the program. One where it may take minutes, so that a deadline is looked at.
    pub(super) fn batch(&self) -> usize {
        if self.limit <= UNIT.limit { BATCH } else { 1 }
    }
}

/// Sets that `mutant` has to pass, in that order.
pub(super) fn stages(mutant: &Mutant) -> &'static [Stage] {
    match mutant.package.as_str() {
        "bindery" => &[UNIT, SYSTEM],
        "bindery-drivers" => &[OWN, SYSTEM],
        "bindery-explore" => &[EXPLORER, SMALL],
        _ => &[OWN],
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use super::super::mutant::tests::mutant;
    use super::*;

    /// Subjects of the files in `folder`, which is `name` in the tree.
    fn subjects(folder: &Path, name: &str, all: &mut BTreeSet<String>) {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let name = format!("{name}/{}", entry.file_name().display());
            if entry.file_type().unwrap().is_dir() {
                subjects(&entry.path(), &name, all);
            } else {
                all.insert(mutant(&name, 1).subject().to_owned());
            }
        }
    }

    #[test]
    fn a_test_that_is_left_out_for_others_meets_the_mutants_that_it_is_for() {
        let mut all = BTreeSet::new();
        subjects(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../core/src"), "core/src", &mut all);
        for (subject, name) in UNIT.skip {
            assert!(all.contains(*subject), "{name}: nothing is of {subject}");
        }
    }
}
