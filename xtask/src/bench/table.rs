//! Prints the table.

use std::fs;

use super::figures::Figures;
use super::rows::ROWS;

/// Prints the table as Markdown, with the machine that it was measured on.
pub(crate) fn print(figures: &Figures) {
    println!("Machine: {}.\n", machine());
    println!("| operation | measured | goal | reached |\n|---|---|---|---|");
    let (mut reached, mut all) = (0, 0);
    for row in ROWS {
        let missing = || ("not measured".to_owned(), "-".to_owned(), None);
        let (value, goal, met) = row.measure.show(figures).unwrap_or_else(missing);
        let word = match met {
            Some(true) => "yes",
            Some(false) => "no",
            None => "-",
        };
        reached += usize::from(met == Some(true));
        all += usize::from(met.is_some());
        println!("| {} | {value} | {goal} | {word} |", row.operation);
    }
    println!("\n{reached} of {all} goals reached.");
}

/// The processor, its number of cores, and the compiler.
pub(super) fn machine() -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|l| l.strip_prefix("model name")).and_then(|l| l.split_once(':'));
    let model = model.map_or("unknown processor", |(_, name)| name.trim());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let version = std::process::Command::new("rustc").arg("--version").output().ok();
    let version = version.map(|v| String::from_utf8_lossy(&v.stdout).trim().to_owned()).unwrap_or_default();
    format!("{model}, {cores} cores, {version}")
}
