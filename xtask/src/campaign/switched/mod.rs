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
        let first = self.mutants.len();
        let (switched, mutants) = switch(&text, list, first).map_err(|e| broken(e.to_string()))?;
        let end = switched.last().map_or(first, |last| last.all.end);
        self.mutants.extend(mutants.into_iter().cloned());
        self.aside.extend(end..self.mutants.len());
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

/// The places of the mutants of one file, with numbers from `first` on, and all mutants in the order of their numbers: last those
/// that have no place.
fn switch<'m>(text: &str, list: &[&'m Mutant], first: usize) -> Result<(Vec<Switched>, Vec<&'m Mutant>), syn::Error> {
    let (sites, keys) = sites::find(&syn::parse_file(text)?);
    let mut places: BTreeMap<usize, Vec<&Mutant>> = BTreeMap::new();
    let mut aside = Vec::new();
    for mutant in list {
        match keys.get(&(mutant.genre.as_str(), mutant.at.0, mutant.at.1)) {
            Some(site) => places.entry(*site).or_default().push(mutant),
            None => aside.push(*mutant),
        }
    }
    let (mut switched, mut mutants) = (Vec::new(), Vec::new());
    for (site, list) in places {
        let first = first + mutants.len();
        let change = |m: &Mutant| {
            if m.genre == "MatchArm" { Change::DeleteArm } else { Change::To(m.replacement.clone()) }
        };
        let numbered = list.iter().enumerate().map(|(at, mutant)| (first + at, change(mutant))).collect();
        let all = first..first + list.len();
        switched.push(Switched { site: sites[site].clone(), mutants: numbered, all, level: 0 });
        mutants.extend(list);
    }
    mutants.extend(aside);
    Ok((switched, mutants))
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

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::tool::output;

    const PROGRAM: &str = "\
fn sum(a: u32, b: u32) -> u32 {
    a + b * 2
}
fn both(a: bool, b: &mut u32) -> bool {
    a && { *b += 1; *b > 1 }
}
fn pick(n: u32) -> u32 {
    match n {
        1 if n < 5 => 10,
        2 => 20,
        _ => 30,
    }
}
const THREE: u32 = sum(1, 1);
fn main() {
    let mut n = 1;
    let both = (both(false, &mut n), n, !both(true, &mut n), n);
    println!(\"{} {both:?} {} {} {THREE}\", sum(1, 2), pick(1), pick(2));
}
";

    fn mutants() -> Vec<Mutant> {
        let list = [
            ("FnValue", (2, 5), "7"),
            ("BinaryOperator", (2, 7), "-"),
            ("BinaryOperator", (2, 7), "*"),
            ("BinaryOperator", (2, 11), "+"),
            ("BinaryOperator", (5, 7), "||"),
            ("BinaryOperator", (5, 15), "*="),
            ("BinaryOperator", (5, 24), "<"),
            ("BinaryOperator", (5, 24), ">="),
            ("MatchArmGuard", (9, 14), "false"),
            ("BinaryOperator", (9, 16), ">"),
            ("MatchArm", (10, 9), ""),
            ("UnaryOperator", (17, 41), ""),
            ("BinaryOperator", (14, 3), "+"),
        ];
        let mutant = |(genre, at, replacement): (&str, _, &str)| {
            let mut mutant = crate::campaign::mutant::tests::mutant("main.rs", 1);
            (mutant.genre, mutant.at, mutant.replacement) = (genre.into(), at, replacement.into());
            mutant
        };
        list.map(mutant).into()
    }

    /// What the program prints with each mutant that has a switch, by its kind, place and replacement.
    #[test]
    fn a_switched_mutant_does_what_the_mutant_does() {
        let program = PROGRAM.replace("fn sum", "const fn sum");
        let all = mutants();
        let (mut switched, order) = switch(&program, &all.iter().collect::<Vec<_>>(), 0).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let rustc = |words: &[&str]| {
            let mut rustc = Command::new("rustc");
            rustc.args(["--edition=2024", "--cap-lints=allow", "-L", "."]).args(words).current_dir(&folder);
            output(rustc.env("RUSTC_BOOTSTRAP", CRATE)).unwrap();
        };
        fs::write(folder.path().join("switch.rs"), SWITCH).unwrap();
        fs::write(folder.path().join("main.rs"), render::render(&program, &mut switched)).unwrap();
        rustc(&["--crate-type=rlib", "--crate-name", CRATE, "switch.rs"]);
        rustc(&["--extern", CRATE, "main.rs"]);
        let run = |n: String| output(Command::new(folder.path().join("main")).env("MUTANT_ON", n)).unwrap();
        assert_eq!(run(String::from("99")), "5 (false, 1, false, 2) 10 20 3\n");
        let expected = [
            (((2, 5), "7"), "7 (false, 1, false, 2) 10 20 3\n"),
            (((2, 7), "*"), "4 (false, 1, false, 2) 10 20 3\n"),
            (((2, 11), "+"), "5 (false, 1, false, 2) 10 20 3\n"),
            (((5, 7), "||"), "5 (true, 2, false, 2) 10 20 3\n"),
            (((5, 15), "*="), "5 (false, 1, true, 1) 10 20 3\n"),
            (((5, 24), "<"), "5 (false, 1, true, 2) 10 20 3\n"),
            (((5, 24), ">="), "5 (false, 1, false, 2) 10 20 3\n"),
            (((9, 14), "false"), "5 (false, 1, false, 2) 30 20 3\n"),
            (((9, 16), ">"), "5 (false, 1, false, 2) 30 20 3\n"),
            (((10, 9), ""), "5 (false, 1, false, 2) 10 30 3\n"),
            (((17, 41), ""), "5 (false, 1, true, 2) 10 20 3\n"),
        ];
        for ((at, replacement), said) in expected {
            let n = order.iter().position(|m| m.at == at && m.replacement == replacement).unwrap();
            assert_eq!(run(n.to_string()), said, "{at:?} {replacement}");
        }
    }

    #[test]
    fn an_error_is_led_back_to_the_mutant_or_the_place_that_it_is_about() {
        let all = mutants();
        let (mut switched, order) = switch(PROGRAM, &all.iter().collect::<Vec<_>>(), 100).unwrap();
        assert_eq!(order.last().unwrap().at, (14, 3), "what has no place is last");
        assert_eq!(switched.iter().map(|place| place.mutants.len()).sum::<usize>(), order.len() - 1);
        let text = render::render(PROGRAM, &mut switched);
        let number = |at, replacement: &str| {
            100 + order.iter().position(|m| m.at == at && m.replacement == replacement).unwrap()
        };
        let owner = |what: &str| render::owner(&text, text.find(what).unwrap() + what.len() - 1);
        let product = number((2, 11), "+");
        assert_eq!(owner("return 7"), Some((number((2, 5), "7"), Some(number((2, 5), "7")))));
        assert_eq!(owner("left_ + right_/"), Some((product, Some(product))));
        assert_eq!(owner("const THREE"), None);
        let arm = render::first_arm(&text[text.find("match n").unwrap()..]).unwrap();
        assert_eq!(order[arm - 100].at.0, 9);
    }
}
