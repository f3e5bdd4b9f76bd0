//! docs/mutants.md: what is written there, and whether it still holds.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use bindery::promise::Promise;

use super::hunt::{DEVICE, Hunt, Row};

/// What updates the page.
const COMMAND: &str = "cargo xtask mutants --update";

/// Columns of a row that have to be the same each time: name, history, breaks, seen by, what was seen.
const LASTING: usize = 5;

/// One row for a terminal.
pub(crate) fn line(row: &Row) -> String {
    let name = row.name;
    let paths = format!("{} paths, {} ms", row.paths, row.millis);
    match (&row.kill, row.elsewhere) {
        (Some(kill), _) => format!(
            "killed    {name}: {} {} (path {}, {} deviations, {} answers; {paths})",
            kill.promise, kill.kind, kill.path, kill.deviations, kill.answers
        ),
        (None, Some(who)) => format!("elsewhere {name}: {who} ({paths})"),
        (None, None) => {
            let unsure = row.unsure.as_ref().map_or_else(String::new, |why| format!("; not all was walked: {why}"));
            format!("SURVIVED  {name} ({paths}{unsure})")
        }
    }
}

/// How many of each.
pub(crate) fn summary(hunt: &Hunt) -> String {
    let killed = hunt.rows.iter().filter(|r| r.kill.is_some()).count();
    let elsewhere = hunt.rows.iter().filter(|r| r.kill.is_none() && r.elsewhere.is_some()).count();
    let survived = hunt.rows.len() - killed - elsewhere;
    let seconds = |millis: u64| format!("{}.{} s", millis / 1000, millis % 1000 / 100);
    let control = &hunt.control;
    format!(
        "{} bugs: {killed} killed by the explorer, {elsewhere} noticed by a scenario of drivers/tests/mutants.rs only, \
         {survived} survived; {}. Without any bug: {} paths, {} findings, {}.",
        hunt.rows.len(),
        seconds(hunt.millis),
        control.paths,
        if control.trouble.is_none() { "no" } else { "SOME" },
        seconds(control.millis)
    )
}

/// Text that stands in one cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

fn row(row: &Row) -> String {
    let (seen, what, path, length) = match (&row.kill, row.elsewhere) {
        (Some(kill), _) => (
            kill.promise.clone(),
            cell(&kill.kind),
            format!("`{}`", kill.path),
            format!("{} of {}", kill.deviations, kill.answers),
        ),
        (None, Some(who)) => ("not here".into(), format!("noticed by `{who}`"), "-".into(), "-".into()),
        (None, None) => ("SURVIVED".into(), "nothing".into(), "-".into(), "-".into()),
    };
    let (name, history) = (row.name, cell(row.history));
    let audited = cell(row.audited.as_ref().unwrap_or_else(|why| why));
    format!(
        "| `{name}` | {history} | {} | {seen} | {what} | {audited} | {path} | {length} | {} |",
        row.breaks, row.millis
    )
}

fn render(hunt: &Hunt) -> String {
    let mut page = format!(
        "<!-- Generated: {COMMAND} -->\n# The bugs that the explorer must find\n\n\
         Each bug below was in Linux, or is the plainest of its class. It is put back into the real core \
         (`core/src/mutant.rs`), and the life of `{DEVICE}` is explored as in [explore.md](explore.md): first with nothing \
         going wrong, then with one fault on a path, then with one visitor, then with both. The first path that shows \
         it is shortened, and stands here; `cargo xtask mutants NAME` tells its story. `cargo xtask mutants` fails when a \
         bug is not found, when it is found otherwise than this page says, and when the core without a bug shows anything.\n\n\
         {}\n\n\
         Breaks: the promise that the bug breaks first of all. Seen as: the promise that the explorer saw broken, or who \
         else saw it (the models of the hardware, the DMA checker, a panic, the scenario itself). A bug may be seen by \
         a neighbouring promise first. Auditor: the rules of \
         [audit.md](audit.md) that `bindery audit` finds violated in the trace of that path, or of the path named there; \
         where it sees nothing, why. Length: answers other than the ordinary one, of all answers on the path up to the \
         last of them. Time: milliseconds on one core with others at work, up to the shortened path and the proof that no \
         path with fewer deviations leads there.\n\n\
         | Bug | History | Breaks | Seen as | What was seen | Auditor | Path | Length | ms |\n|---|---|---|---|---|---|---|---|---|\n",
        summary(hunt)
    );
    for one in &hunt.rows {
        page.push_str(&row(one));
        page.push('\n');
    }
    page.push_str("\nThe promises:\n\n");
    for promise in Promise::ALL {
        let _ = writeln!(page, "- {}: {}", promise.id(), promise.title());
    }
    page
}

fn file() -> PathBuf {
    // Cargo names the package's folder; docs stand beside it.
    let package = std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| "explore".into(), PathBuf::from);
    package.join("../docs/mutants.md")
}

/// Writes the page.
pub(crate) fn update(hunt: &Hunt) -> Result<(), String> {
    let file = file();
    std::fs::write(&file, render(hunt)).map_err(|e| format!("cannot write {}: {e}", file.display()))
}

/// Prints the rows.
pub(crate) fn json(hunt: &Hunt) -> Result<(), String> {
    println!("{}", serde_json::to_string_pretty(&hunt.rows).map_err(|e| e.to_string())?);
    Ok(())
}

/// Compares what lasts of each row with the page.
pub(crate) fn compare(hunt: &Hunt) -> Result<(), String> {
    let file = file();
    let page = std::fs::read_to_string(&file).map_err(|e| format!("cannot read {}: {e}", file.display()))?;
    differs(&page, &hunt.rows.iter().map(row).collect::<Vec<_>>(), &file).map_or(Ok(()), Err)
}

fn differs(page: &str, rows: &[String], file: &Path) -> Option<String> {
    let there: Vec<&str> = page.lines().filter(|line| line.starts_with("| `")).collect();
    let lasting = |line: &str| line.split(" | ").take(LASTING).collect::<Vec<_>>().join(" | ");
    let update = format!("update {}: {COMMAND}", file.display());
    if let Some((old, new)) = there.iter().zip(rows).find(|(old, new)| lasting(old) != lasting(new)) {
        return Some(format!("the page has\n  {}\nand the run found\n  {}\n{update}", lasting(old), lasting(new)));
    }
    (there.len() != rows.len())
        .then(|| format!("the page has {} bugs, and there are {}; {update}", there.len(), rows.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_differs_in_what_lasts_and_not_in_times() {
        let rows = ["| `a` | once | P1 | P2 | gone | `0.1` | 1 of 2 | 7 |".to_owned()];
        let file = Path::new("docs/mutants.md");
        assert_eq!(differs("x\n| `a` | once | P1 | P2 | gone | `1` | 1 of 1 | 9 |\n", &rows, file), None);
        let other = differs("| `a` | once | P1 | P3 | gone | `0.1` | 1 of 2 | 7 |", &rows, file);
        assert!(other.is_some_and(|text| text.contains("P3") && text.contains("--update")));
        assert!(differs("", &rows, file).is_some_and(|text| text.contains("0 bugs")));
    }
}
