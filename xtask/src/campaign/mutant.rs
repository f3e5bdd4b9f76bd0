//! Mutants as `cargo mutants` lists them, and the choice among them.

use std::collections::BTreeMap;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;

use serde_json::Value;

use crate::outcome::Trouble;

/// Modules of the core of which every mutant is tried.
const WHOLE: [&str; 6] = ["binding", "dma", "iommu", "link", "power", "vfio"];

/// Number of mutants tried of everything else.
const ELSEWHERE: usize = 300;

/// Seed of the order and of the sample: the same mutants for everybody.
const SEED: u64 = 11;

/// One change of one function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mutant {
    /// `FILE:LINE:COLUMN: CHANGE`, by which `cargo mutants` finds it.
    pub(super) name: String,
    pub(super) package: String,
    pub(super) file: String,
    /// Hash of its file: a result holds for this text only.
    pub(super) text: u64,
    /// Kind of the change, as the list calls it, and where it is.
    pub(super) genre: String,
    pub(super) at: (u64, u64),
    /// What is put there.
    pub(super) replacement: String,
}

impl Mutant {
    /// The mutants in the answer to `cargo mutants --list --json`, with the files below `tree`.
    pub(super) fn read_list(json: &str, tree: &Path) -> Result<Vec<Self>, Trouble> {
        let broken = |why: String| Trouble::Broken(format!("cargo mutants --list: {why}"));
        let list: Vec<Value> = serde_json::from_str(json).map_err(|e| broken(e.to_string()))?;
        let mut texts = BTreeMap::new();
        let mut mutants = Vec::new();
        for entry in &list {
            let field = |name: &str| {
                entry[name].as_str().map(str::to_owned).ok_or_else(|| broken(format!("a mutant without {name}")))
            };
            let file = field("file")?;
            let (text, tests) = if let Some(known) = texts.get(&file) {
                *known
            } else {
                let read = fs::read_to_string(tree.join(&file)).map_err(|e| broken(format!("{file}: {e}")))?;
                *texts.entry(file.clone()).or_insert((hash(&read.as_bytes()), first_line_of_tests(&read)))
            };
            let start = &entry["span"]["start"];
            let (Some(line), Some(column)) = (start["line"].as_u64(), start["column"].as_u64()) else {
                return Err(broken("a mutant without a place".into()));
            };
            // The program takes `cfg(all(test, ...))` for code.
            if tests.is_none_or(|first| line < first) {
                let (genre, replacement) = (field("genre")?, field("replacement")?);
                let (name, package) = (field("name")?, field("package")?);
                mutants.push(Self { name, package, file, text, genre, at: (line, column), replacement });
            }
        }
        Ok(mutants)
    }

    /// Name of the core's module or of the package that it belongs to.
    pub(super) fn area(&self) -> &str {
        match self.file.strip_prefix("core/src/").or_else(|| self.file.strip_prefix("drivers/src/")) {
            Some(inside) => {
                let first = inside.split('/').next().unwrap_or(inside);
                first.strip_suffix(".rs").unwrap_or(first)
            }
            None => &self.package,
        }
    }

    /// Name by which [`Stage::skip`](super::stage::Stage::skip) knows what it changes: as [`area`](Self::area), but page tables have tests of
    /// their own.
    pub(super) fn subject(&self) -> &str {
        if self.file.starts_with("core/src/iommu/pgtable/") { "page tables" } else { self.area() }
    }

    fn is_of_the_whole(&self) -> bool {
        WHOLE.contains(&self.area())
    }
}

/// Mutants of a campaign, in the order in which they are tried: each beginning of it is a sample without bias.
pub(super) fn campaign(mut mutants: Vec<Mutant>) -> Vec<Mutant> {
    shuffle(&mut mutants, SEED);
    let mut left = ELSEWHERE;
    mutants.retain(|mutant| {
        mutant.is_of_the_whole() || {
            let taken = left > 0;
            left = left.saturating_sub(1);
            taken
        }
    });
    // What must be tried in full goes first.
    mutants.sort_by_key(|mutant| !mutant.is_of_the_whole());
    mutants
}

/// Brings `mutants` into an order that depends on their names and on `seed` only.
pub(super) fn shuffle(mutants: &mut [Mutant], seed: u64) {
    mutants.sort_by_cached_key(|mutant| (hash(&(seed, place_free(&mutant.name))), mutant.name.clone()));
}

/// The line at which the tests at the end of a file begin, from 1 on.
fn first_line_of_tests(text: &str) -> Option<u64> {
    let begins = |line: &str| line.starts_with("mod tests {") || line.starts_with("mod loom_tests {");
    text.lines().position(begins).map(|at| at as u64 + 1)
}

/// The name without line and column, which move with any edit above.
fn place_free(name: &str) -> String {
    name.splitn(4, ':').enumerate().filter(|(at, _)| !matches!(at, 1 | 2)).map(|(_, part)| part).collect()
}

fn hash(of: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn mutant(file: &str, line: usize) -> Mutant {
        Mutant {
            name: format!("{file}:{line}:5: replace f -> bool with true"),
            package: "bindery".into(),
            file: file.into(),
            text: 1,
            genre: "FnValue".into(),
            at: (line as u64, 5),
            replacement: "true".into(),
        }
    }

    #[test]
    fn all_of_the_named_modules_and_a_sample_of_the_others() {
        let mut all: Vec<_> = (0..500).map(|line| mutant("core/src/dma/pool.rs", line)).collect();
        all.extend((0..500).map(|line| mutant(&format!("core/src/irq/{line}.rs"), line)));
        all.extend((0..20).map(|line| mutant("drivers/src/vfio/mod.rs", line)));
        let chosen = campaign(all);
        assert_eq!(chosen.len(), 500 + 20 + ELSEWHERE);
        assert!(chosen[..520].iter().all(Mutant::is_of_the_whole));
        assert!(chosen[520..].iter().all(|m| m.area() == "irq"));
    }

    #[test]
    fn an_edit_above_leaves_the_order_as_it_is() {
        let order = |moved: usize| {
            let mut list: Vec<_> = (0..50).map(|n| mutant(&format!("core/src/irq/{n}.rs"), n + moved)).collect();
            shuffle(&mut list, SEED);
            list.into_iter().map(|m| m.file).collect::<Vec<_>>()
        };
        assert_eq!(order(0), order(7));
    }

    #[test]
    fn what_is_in_the_tests_of_a_file_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.rs"), "fn f() {}\n\n#[cfg(all(test, not(loom)))]\nmod tests {\n}\n").unwrap();
        let entry = |line: u64| {
            format!(
                r#"{{"name": "{line}", "package": "p", "file": "a.rs", "genre": "FnValue", "replacement": "0",
                "span": {{"start": {{"line": {line}, "column": 1}}}}}}"#
            )
        };
        let list = Mutant::read_list(&format!("[{}, {}]", entry(1), entry(4)), folder.path()).unwrap();
        assert_eq!(list.iter().map(|m| m.name.as_str()).collect::<Vec<_>>(), ["1"]);
    }

    #[test]
    fn a_list_that_lacks_a_field_says_which() {
        let trouble = Mutant::read_list(r#"[{"name": "a"}]"#, Path::new("/")).unwrap_err();
        assert!(trouble.why().contains("without file"), "{trouble:?}");
    }
}
