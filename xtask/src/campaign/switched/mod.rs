//! All mutants in one build, each behind a switch: what costs minutes is the build, and there is one instead of thousands.
//!
//! A mutant is tried with the tests that reach it only: each test is run once by itself, to see which ones it reaches.

mod build;
mod render;
mod sites;
mod trial;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::mutant::Mutant;
use super::stage::Stage;
use crate::outcome::{Outcome, Trouble};
use crate::patches::Scratch;
use render::{Change, Switched};

pub(super) use trial::suite;

/// The crate that the switches ask.
const SWITCH: &str = include_str!("switch.rs");
const CRATE: &str = "mutant_switch";

/// A copy of the tree with mutants in it.
pub(super) struct Switches {
    scratch: Scratch,
    files: BTreeMap<String, (String, Vec<Switched>)>,
    /// By number.
    pub(super) mutants: Vec<Mutant>,
    /// Numbers of those that do not compile, for a reason that has nothing to do with the switch.
    pub(super) unviable: Vec<usize>,
    /// Numbers of those that have no switch: they are tried in a build of their own.
    pub(super) aside: Vec<usize>,
}

impl Switches {
    /// Puts `mutants` into the copy `target/COPY`.
    pub(super) fn prepare(copy: &str, mutants: &[Mutant]) -> Result<Self, Trouble> {
        let scratch = Scratch::prepare(copy)?;
        let mut switches =
            Self { scratch, files: BTreeMap::new(), mutants: Vec::new(), unviable: Vec::new(), aside: Vec::new() };
        let mut by_file: BTreeMap<&str, Vec<&Mutant>> = BTreeMap::new();
        for mutant in mutants {
            by_file.entry(&mutant.file).or_default().push(mutant);
        }
        for (file, list) in by_file {
            switches.put_into(file, &list)?;
        }
        switches.add_crate()?;
        Ok(switches)
    }

    fn put_into(&mut self, file: &str, list: &[&Mutant]) -> Outcome {
        let broken = |why: String| Trouble::Broken(format!("{file}: {why}"));
        let text = fs::read_to_string(self.scratch.tree().join(file)).map_err(|e| broken(e.to_string()))?;
        let (sites, keys) = sites::find(&syn::parse_file(&text).map_err(|e| broken(e.to_string()))?);
        let mut places: BTreeMap<usize, Vec<&Mutant>> = BTreeMap::new();
        let mut aside = Vec::new();
        for mutant in list {
            match keys.get(&(mutant.genre.as_str(), mutant.at.0, mutant.at.1)) {
                Some(site) => places.entry(*site).or_default().push(mutant),
                None => aside.push(*mutant),
            }
        }
        let mut switched = Vec::new();
        for (site, list) in places {
            let first = self.mutants.len();
            let change = |m: &Mutant| {
                if m.genre == "MatchArm" { Change::DeleteArm } else { Change::To(m.replacement.clone()) }
            };
            let mutants = list.iter().enumerate().map(|(at, mutant)| (first + at, change(mutant))).collect();
            self.mutants.extend(list.into_iter().cloned());
            let site = sites[site].clone();
            switched.push(Switched { site, mutants, all: first..self.mutants.len(), level: 0 });
        }
        for mutant in aside {
            self.aside.push(self.mutants.len());
            self.mutants.push(mutant.clone());
        }
        self.files.insert(file.to_owned(), (text, switched));
        Ok(())
    }

    /// Writes the crate that the switches ask, and names it to each package that has mutants.
    fn add_crate(&self) -> Outcome {
        let home = self.scratch.tree().join(CRATE);
        write(&home.join("lib.rs"), SWITCH)?;
        let manifest = format!("[package]\nname = \"{CRATE}\"\nedition = \"2024\"\n[lib]\npath = \"lib.rs\"\n");
        write(&home.join("Cargo.toml"), &manifest)?;
        let edit = |path: PathBuf, from: &str, to: &str| {
            let text = fs::read_to_string(&path).map_err(|e| Trouble::Broken(format!("{}: {e}", path.display())))?;
            write(&path, &text.replacen(from, to, 1))
        };
        edit(self.scratch.tree().join("Cargo.toml"), "members = [", &format!("members = [\"{CRATE}\", "))?;
        let mut packages: Vec<_> = self.files.keys().filter_map(|file| file.split_once("/src/")).collect();
        packages.dedup_by_key(|(package, _)| *package);
        for (package, _) in packages {
            let dependency = format!("\n[dependencies]\n{CRATE} = {{ path = {:?} }}\n", home.display().to_string());
            edit(self.scratch.tree().join(package).join("Cargo.toml"), "\n[dependencies]\n", &dependency)?;
        }
        Ok(())
    }

    fn write_sources(&mut self) -> Outcome {
        for (file, (text, switched)) in &mut self.files {
            write(&self.scratch.tree().join(file), &render::render(text, switched))?;
        }
        Ok(())
    }
}

/// Writes a file, unless it has that text: its time would let it be built anew.
fn write(path: &Path, text: &str) -> Outcome {
    if fs::read_to_string(path).is_ok_and(|there| there == text) {
        return Ok(());
    }
    let parent = path.parent().unwrap_or(path);
    fs::create_dir_all(parent)
        .and_then(|()| fs::write(path, text))
        .map_err(|e| Trouble::Broken(format!("{}: {e}", path.display())))
}
