//! `bindery tree`: the devices of a machine, their drivers, what they need, and the IOMMU groups that they fall into.

mod draw;
mod report;

pub use draw::draw;
pub use report::{Counts, DeviceRow, GroupRow, OtherRow, Report, State, SupplierRow};

use crate::failure::Result;
use crate::page::Page;
use crate::world::{Setup, World};

/// Makes the machine, probes what can be probed, and shows what came of it.
pub fn run(setup: &Setup, json: bool, page: &mut Page<'_>) -> Result<()> {
    let mut world = World::new(setup)?;
    world.read_device_tree()?;
    world.register_drivers();
    world.host.settle();
    let report = Report::of(&world);
    if json {
        let text = serde_json::to_string_pretty(&report).unwrap_or_else(|e| e.to_string());
        page.raw(text.as_bytes())?;
        page.raw(b"\n")
    } else {
        draw(&report, page)
    }
}
