//! Plans a hand-over from a program of one's own: what a VMM or a node agent does before it starts a guest.
//!
//! `cargo run -p bindery-linux --example embed -- 0000:02:00.0`

use std::process::ExitCode;

use bindery_linux::check::Target;
use bindery_linux::face::{Host, helper};
use bindery_linux::plan::{Request, build};
use bindery_linux::select::select;
use bindery_linux::usage::Scene;
use bindery_linux::{Inventory, System};

fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    // Writes and reads that may hang are made by a copy of this program.
    if let Some(code) = helper::intercept() {
        return Ok(code);
    }
    let word = std::env::args().nth(1).ok_or("usage: embed DEV")?;
    let host = Host::open()?.with_helper("/proc/self/exe");
    let (inventory, system) = (Inventory::scan(&host), System::read(&host));
    let request = Request {
        devices: vec![select(&host, &inventory, &word)?],
        to: Target::Vfio,
        hold_siblings: false,
        force_in_use: Vec::new(),
        noiommu: false,
        owner: None,
    };
    let plan = build(Scene { face: &host, inventory: &inventory, system: &system }, &request);
    for obstacle in &plan.findings.obstacles {
        println!("{}: {} ({})", obstacle.device, obstacle.what, obstacle.remedy);
    }
    for step in &plan.steps {
        println!("{}: {}", step.device, step.action);
    }
    Ok(if plan.is_refused() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
