//! Step 1: what the device tree made, which drivers there are, and who needs whom.

use bindery::env::RamUse;

use crate::failure::Result;
use crate::page::{DIM, NAME, count};
use crate::teller::Teller;
use crate::tree::{Report, State};
use crate::world::World;

pub(super) fn run(world: &mut World, teller: &mut Teller<'_>) -> Result<()> {
    world.register_drivers();
    let report = Report::of(world);
    let c = &report.counts;
    let model = report.model.as_deref().unwrap_or("a board without a name");
    teller.row("board", format_args!("{model}"))?;
    teller.row(
        "device tree",
        format_args!(
            "{}, {} bytes: {}, {}, {}",
            report.origin,
            world.blob.bytes.len(),
            count(c.devices, "device"),
            count(c.others, "other node"),
            count(c.notes, "note")
        ),
    )?;
    for range in world.host.env().memory().ranges() {
        let what = match range.use_for {
            RamUse::Frames => "page frames",
            RamUse::Contiguous => "contiguous (CMA)",
        };
        teller.row("memory", format_args!("{} MiB at {}, {what}", range.len >> 20, range.base))?;
    }
    teller.row("disk", disk(world))?;
    teller.row("drivers", world.host.drivers().join(", "))?;
    if world.host.policy().untranslated_dma {
        teller.row("policy", "untranslated DMA: IOMMUs are left alone")?;
    }
    teller.gap()?;
    let driven: Vec<_> = report.devices.iter().filter(|d| !d.candidates.is_empty()).collect();
    teller.text(format_args!(
        "{} of {} have a driver; what they need ({} in all):",
        driven.len(),
        count(c.devices, "device"),
        count(c.links, "supplier link")
    ))?;
    for device in driven {
        let needs: Vec<String> = device
            .suppliers
            .iter()
            .map(|s| {
                let by: Vec<&str> = s.properties.iter().map(|p| &**p).collect();
                let there = if s.state == "dormant" { "" } else { ", there" };
                format!("{} ({}{there})", s.supplier, by.join(", "))
            })
            .collect();
        let page = teller.page();
        let label = device.label.as_ref().map(|l| format!(" {l}")).unwrap_or_default();
        let width = 36usize.saturating_sub(device.name.chars().count());
        let name = format!("{}{}", page.paint(NAME, &device.name), page.column(DIM, label, width));
        let driver = page.column(DIM, device.candidates.join(", "), 16);
        let needs = if needs.is_empty() { "nothing".into() } else { needs.join(", ") };
        teller.text(format_args!("{name} {driver} {needs}"))?;
    }
    let present: Vec<&str> = report.devices.iter().filter(|d| d.state == State::Present).map(|d| &*d.name).collect();
    if !present.is_empty() {
        teller.text(format_args!("there from the start, driven by the board: {}", present.join(", ")))?;
    }
    for cycle in &report.cycles {
        teller.row("cycle", cycle.join(" -> "))?;
    }
    Ok(())
}

fn disk(world: &World) -> String {
    let sectors = world.board.with_disk(|d| d.sectors());
    sectors.map_or("none".into(), |n| format!("{n} sectors of {} bytes", bindery_sim::disk::SECTOR))
}
