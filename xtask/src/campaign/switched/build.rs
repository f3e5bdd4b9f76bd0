//! Builds of the copy: what does not compile loses its switch, until everything does.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::{CRATE, Stage, Switches, render};
use crate::outcome::Trouble;
use crate::patches::PROFILE;

/// Builds in a row that may fail.
const ROUNDS: usize = 40;

/// Errors that a mutant's own text has without a switch as well: types, names, traits.
const PLAIN: [&str; 12] =
    ["E0277", "E0308", "E0369", "E0368", "E0412", "E0425", "E0432", "E0433", "E0599", "E0600", "E0614", "E0015"];

/// A program of tests.
#[derive(Clone)]
pub(super) struct Program {
    pub(super) path: PathBuf,
    /// Folder of its package, where `cargo test` starts it.
    pub(super) home: PathBuf,
}

impl Switches {
    /// Builds the tests of `stage` for mutants of `package`.
    pub(super) fn build(&mut self, stage: &Stage, package: &str) -> Result<Vec<Program>, Trouble> {
        for round in 0..ROUNDS {
            self.write_sources()?;
            let messages = self.cargo(stage, package)?;
            let errors: Vec<&Value> = messages.iter().filter(|m| m["message"]["level"] == "error").collect();
            if errors.is_empty() {
                let finished = messages.iter().any(|m| m["reason"] == "build-finished" && m["success"] == true);
                let programs = messages.iter().filter_map(program).collect();
                return if finished { Ok(programs) } else { Err(Trouble::Broken("the switches do not build".into())) };
            }
            let given_up = self.give_up(&errors)?;
            println!("round {round}: {} errors, {given_up} places or mutants given up", errors.len());
            if given_up == 0 {
                let said: Vec<_> = errors.iter().filter_map(|m| m["message"]["rendered"].as_str()).take(5).collect();
                return Err(Trouble::Broken(format!("errors that are no mutant's:\n{}", said.concat())));
            }
        }
        Err(Trouble::Broken(format!("the switches do not build after {ROUNDS} rounds")))
    }

    fn cargo(&self, stage: &Stage, package: &str) -> Result<Vec<Value>, Trouble> {
        let mut cargo = Command::new("cargo");
        cargo.args(["test", "--no-run", "--message-format=json", "--quiet"]);
        let own = [package];
        for package in if stage.packages.is_empty() { &own } else { stage.packages } {
            cargo.args(["--package", package]);
        }
        cargo.args(PROFILE);
        // Tests of whole systems are run a thousand times for each time they are built.
        if stage.packages.len() > 1 {
            cargo.args(["--config", "profile.dev.opt-level=2"]);
        }
        cargo.args(stage.cargo).current_dir(self.scratch.tree());
        cargo
            .env("CARGO_TARGET_DIR", self.scratch.build())
            .env("CARGO_INCREMENTAL", "1")
            .env("CARGO_PROFILE_DEV_DEBUG", "0")
            // A constant may ask a switch, too, with a feature that is not stable.
            .env("RUSTC_BOOTSTRAP", CRATE)
            .env("RUSTFLAGS", "--cap-lints=allow")
            .env_remove("CARGO")
            .env_remove("RUSTC")
            .stdin(Stdio::null())
            .stderr(Stdio::inherit());
        let said = cargo.output().map_err(|e| Trouble::Broken(format!("cargo test: {e}")))?;
        Ok(String::from_utf8_lossy(&said.stdout).lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
    }

    /// Gives up whatever the errors are about. Returns to how many of them that led.
    fn give_up(&mut self, errors: &[&Value]) -> Result<usize, Trouble> {
        let (mut mutants, mut sites) = (BTreeSet::new(), BTreeSet::new());
        for error in errors {
            let message = &error["message"];
            let (primary, others): (Vec<_>, Vec<_>) =
                list(&message["spans"]).partition(|span| span["is_primary"] == true);
            // Without an arm that always matches: the span is of the value, and the arms follow.
            let arms = message["code"]["code"] == "E0004";
            for span in primary.into_iter().chain(others) {
                let Some((site, mutant)) = self.owner(span, arms)? else { continue };
                match mutant {
                    Some(mutant) if is_plain(message) => _ = mutants.insert(mutant),
                    _ => _ = sites.insert(site),
                }
                break;
            }
        }
        let count = mutants.len() + sites.len();
        for (_, switched) in self.files.values_mut() {
            for place in switched {
                if sites.contains(&place.all.start) {
                    place.level += 1;
                    if place.level > place.site.kind.last_level() {
                        self.aside.extend(place.mutants.drain(..).map(|(n, _)| n));
                    }
                }
                let (unviable, others) = place.mutants.drain(..).partition(|(n, _)| mutants.contains(n));
                place.mutants = others;
                let unviable: Vec<(usize, _)> = unviable;
                self.unviable.extend(unviable.into_iter().map(|(n, _)| n));
            }
        }
        Ok(count)
    }

    /// Whom an error is about.
    fn owner(&self, span: &Value, arms: bool) -> Result<Option<(usize, Option<usize>)>, Trouble> {
        let mut span = span;
        // In a macro: where it is called.
        while span["expansion"]["span"].is_object() {
            span = &span["expansion"]["span"];
        }
        let (Some(file), Some(at)) = (span["file_name"].as_str(), span["byte_start"].as_u64()) else { return Ok(None) };
        if !self.files.contains_key(file) {
            return Ok(None);
        }
        let path = self.scratch.tree().join(file);
        let text = fs::read_to_string(&path).map_err(|e| Trouble::Broken(format!("{}: {e}", path.display())))?;
        let at = at as usize;
        Ok(if arms { render::first_arm(&text[at..]).map(|site| (site, None)) } else { render::owner(&text, at) })
    }
}

/// True when a mutant would have this error without a switch as well.
fn is_plain(message: &Value) -> bool {
    match message["code"]["code"].as_str() {
        Some(code) => PLAIN.contains(&code),
        None => message["message"].as_str().is_some_and(|text| text.starts_with("cannot find macro")),
    }
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn program(message: &Value) -> Option<Program> {
    let path = message["executable"].as_str()?.into();
    let home = PathBuf::from(message["manifest_path"].as_str()?).parent()?.to_owned();
    (message["profile"]["test"] == true).then_some(Program { path, home })
}
