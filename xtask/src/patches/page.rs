//! docs/mutants.md, the list of the repository's patches, made from their headers; and the rows of `--json`.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;

use serde_json::json;

use super::file::{Killer, Patch};
use super::own;
use super::trial::Verdict;
use crate::outcome::{Outcome, Trouble};
use crate::tool::{output, root};

/// Command that updates the page.
const COMMAND: &str = "cargo xtask mutants --update";

const TOP: &str = "\
# Bugs on purpose

A clean result means little unless the checks are known to catch planted bugs. Each file `mutants/NAME.patch` is one: a bug
that Linux had or has, one from a public report, or the simplest of its class. `cargo xtask mutants NAME` applies it to a scratch copy; each
of the commands that it names must then fail, and say what it is expected to say. Without names all are tried.
[developing.md](developing.md) has the format, and which of them CI tries.

Breaks: the promise that the bug breaks first of all (ARCHITECTURE.md has the promises). Seen as: what the output of the
command must say. A neighbouring promise may notice a bug first. `--test lifecycle` is the explorer on the real core and
drivers, with the disk controller of the simulated board. `--test audited` is a second judge: sampled paths of the explorer, as
traces of a kernel, and the rules of [audit.md](audit.md) that the auditor finds violated in them. Where a trace cannot show a
historical bug, the last column says why.
";

/// Writes the page.
pub(crate) fn update() -> Outcome {
    let file = file();
    std::fs::write(&file, render(&own()?)).map_err(|e| Trouble::Broken(format!("{}: {e}", file.display())))
}

/// Checks that each patch still applies and names tests that exist, and that the page lists them all.
pub(crate) fn check() -> Outcome {
    let patches = own()?;
    let stale: Vec<String> = patches.iter().filter_map(does_not_apply).collect();
    if !stale.is_empty() {
        return Err(Trouble::Failed(format!("these patches no longer apply: {}", stale.join("; "))));
    }
    let mut grep = Command::new("git");
    grep.args(["grep", "-howE", "[a-z0-9_]{3,}", "--", "*.rs"]).current_dir(root());
    let words = output(&mut grep)?;
    let words: BTreeSet<&str> = words.lines().collect();
    let lost: Vec<String> = patches.iter().filter_map(|patch| names_no_test(patch, &words)).collect();
    if !lost.is_empty() {
        return Err(Trouble::Failed(format!("these patches name tests that do not exist: {}", lost.join("; "))));
    }
    let file = file();
    let page = std::fs::read_to_string(&file).map_err(|e| Trouble::Broken(format!("{}: {e}", file.display())))?;
    if page == render(&patches) {
        return Ok(());
    }
    Err(Trouble::Failed(format!("{} is not what the patches say: {COMMAND}", file.display())))
}

fn does_not_apply(patch: &Patch) -> Option<String> {
    let mut apply = Command::new("git");
    apply.args(["apply", "--check", "--whitespace=nowarn"]).arg(&patch.path).current_dir(root());
    output(&mut apply).err().map(|trouble| format!("{} ({})", patch.name, trouble.why().trim()))
}

/// Says which of the tests that `patch` names is in none of `words`, the identifiers of all sources: some tests are made by
/// macros. A filter of `cargo test` is a part of a path, so each of its names is a part of an identifier.
fn names_no_test(patch: &Patch, words: &BTreeSet<&str>) -> Option<String> {
    let exists = |name: &str| words.iter().any(|word| word.contains(name));
    let lost = patch.killers.iter().filter_map(Killer::filter).find(|filter| !filter.split("::").all(exists))?;
    Some(format!("{} ({lost})", patch.name))
}

fn file() -> PathBuf {
    root().join("docs/mutants.md")
}

/// Text that stands in one cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

fn render(patches: &[Patch]) -> String {
    let mut page = format!(
        "<!-- Generated: {COMMAND} -->\n{TOP}\n{} bugs.\n\n| Bug | History | Breaks | Killed by | Seen as | Not in a trace |\n|---|---|---|---|---|---|\n",
        patches.len()
    );
    for patch in patches {
        let commands: Vec<_> = patch.killers.iter().map(|k| format!("`cargo {}`", cell(&k.command))).collect();
        let says: Vec<_> =
            patch.killers.iter().filter_map(|k| k.says.as_deref()).map(|s| format!("`{}`", cell(s))).collect();
        let _ = writeln!(
            page,
            "| `{}` | {} | {} | {} | {} | {} |",
            patch.name,
            cell(&patch.history),
            patch.breaks,
            commands.join("; "),
            says.join("; "),
            patch.traceless.as_deref().map(cell).unwrap_or_default()
        );
    }
    page
}

/// One patch and what became of it, as a JSON object.
pub(super) fn row(patch: &Patch, verdict: &Verdict, seconds: u64) -> String {
    json!({
        "name": patch.name,
        "history": patch.history,
        "breaks": patch.breaks,
        "killed": matches!(verdict, Verdict::Killed { .. }),
        "verdict": verdict.to_string(),
        "seconds": seconds,
    })
    .to_string()
}
