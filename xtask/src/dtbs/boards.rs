//! `cargo xtask dtbs --boards`: the main job on the trees of real boards with a chip of the simulated one's family.
//!
//! Debian's kernel packages do not have these trees, because Debian's kernel does not support the boards. They are built from the
//! kernel's source, as Debian packages it, each time; none of it is stored in the repository.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use super::fetch::source;
use crate::outcome::{Outcome, Trouble};
use crate::tool::{exists, output, target};

/// Steps of the main job that need the disk controller.
const DISK: &[&str] = &["probe", "io", "unbind", "hand-over", "return"];

/// Trees, each with the steps of the main job that are not possible, or not as a whole: of the board that is simulated, and of those with
/// the other chips of its family. The M3-N's tree puts the disk controller behind no IOMMU; the others have none.
const BOARDS: [(&str, &[&str]); 5] = [
    ("r8a77951-salvator-xs", &[]),
    ("r8a77960-salvator-xs", DISK),
    ("r8a77961-salvator-xs", DISK),
    ("r8a77965-salvator-xs", &["hand-over"]),
    ("r8a77990-ebisu", DISK),
];

/// Clock and power controllers of all of them: a tree gets past them when both are bound.
const CONTROLLERS: [&str; 2] = ["e6150000.clock-controller", "e6180000.system-controller"];

/// Builds each tree and runs the main job on it.
pub(super) fn run() -> Outcome {
    for program in ["cpp", "dtc"] {
        if !exists(program) {
            return Err(Trouble::Skipped(format!("{program} is not installed: trees are built with it")));
        }
    }
    let source = source()?;
    let mut failed = Vec::new();
    for (tree, skipped) in BOARDS {
        match main_job(&build(&source, tree)?, skipped) {
            Ok(without_model) => println!("{tree}: {without_model} devices without a model, skipped: {skipped:?}"),
            Err(why) => failed.push(format!("{tree}: {why}")),
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(Trouble::Failed(failed.join("; "))) }
}

/// Compiles the tree called `name`, as the kernel's build does: through the C preprocessor.
fn build(source: &Path, name: &str) -> Result<PathBuf, Trouble> {
    let folder = target().join("dtbs/boards");
    let broken = |e| Trouble::Broken(format!("{}: {e}", folder.display()));
    fs::create_dir_all(&folder).map_err(broken)?;
    let (text, blob) = (folder.join(format!("{name}.dts")), folder.join(format!("{name}.dtb")));
    let trees = source.join("arch/arm64/boot/dts/renesas");
    let mut cpp = Command::new("cpp");
    cpp.args(["-nostdinc", "-undef", "-x", "assembler-with-cpp", "-I"]).arg(source.join("include"));
    output(cpp.arg(trees.join(format!("{name}.dts"))).arg(&text))?;
    output(Command::new("dtc").args(["-q", "-I", "dts", "-O", "dtb", "-o"]).arg(&blob).arg(&text))?;
    Ok(blob)
}

/// Runs the main job with the tree `blob`: number of devices that the simulated board has no model for, or what does not hold.
fn main_job(blob: &Path, skipped: &[&str]) -> Result<usize, String> {
    let mut bindery = Command::new(target().join("debug/bindery"));
    bindery.args(["run", "--json", "--dtb"]).arg(blob).stdin(Stdio::null());
    let ran = bindery.output().map_err(|e| e.to_string())?;
    let text = String::from_utf8_lossy(&ran.stdout);
    let lines: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let named = |event: &str| lines.iter().find(|line| line["event"] == event);
    if let Some(failed) = named("failed") {
        return Err(failed["what"].to_string());
    }
    if !ran.status.success() {
        return Err(format!("{}: {}", ran.status, String::from_utf8_lossy(&ran.stderr).trim()));
    }
    for controller in CONTROLLERS {
        if !lines.iter().any(|line| line["event"] == "bound" && line["device"] == controller) {
            return Err(format!("{controller} is not bound"));
        }
    }
    let seen = named("end").map_or(&Value::Null, |end| &end["skipped"]);
    if *seen != serde_json::json!(skipped) {
        return Err(format!("not possible, or not as a whole: {seen}, and {skipped:?} expected"));
    }
    let without_model = named("without-model").and_then(|line| line["devices"].as_array());
    without_model.map(Vec::len).ok_or_else(|| "the verdict names no device without a model".into())
}
