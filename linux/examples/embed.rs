//! Plans a hand-over from a program of one's own: what a VMM or a node agent does before it starts a guest.
//!
//! `cargo run -p bindery-linux --example embed -- 0000:02:00.0`
use std::error::Error;
use std::process::ExitCode;

use bindery_linux::face::{Host, helper};
use bindery_linux::plan::{Request, build};
use bindery_linux::{Face, Inventory, System, select::select, usage::Scene};

/// Prints the obstacles of giving a device to VFIO, or else the steps.
pub fn plan(face: &dyn Face, device: &str) -> Result<Vec<String>, Box<dyn Error>> {
    let (inventory, system) = (Inventory::scan(face), System::read(face));
    let request = Request { devices: vec![select(face, &inventory, device)?], ..Request::default() };
    let plan = build(Scene { face, inventory: &inventory, system: &system }, &request);
    let obstacles = plan.findings.obstacles.iter().map(|o| format!("{}: {} (remedy: {})", o.device, o.what, o.remedy));
    let steps = plan.steps.iter().filter(|_| !plan.is_refused()).map(|s| format!("{}: {}", s.device, s.action));
    Ok(obstacles.chain(steps).collect())
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    // Reads that may hang are made by a copy of this program.
    if let Some(code) = helper::intercept() {
        return Ok(code);
    }
    let host = Host::open()?.with_helper("/proc/self/exe");
    let device = std::env::args().nth(1).ok_or("usage: embed DEV")?;
    plan(&host, &device)?.iter().for_each(|line| println!("{line}"));
    Ok(ExitCode::SUCCESS)
}
