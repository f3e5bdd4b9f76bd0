//! Step 1: what the device tree made, which drivers there are, and who needs whom.

use bindery::env::RamUse;

use crate::failure::Result;
use crate::output::{DIM, NAME, count};
use crate::reporter::Reporter;
use crate::session::Session;
use crate::tree::{Report, State};

pub(super) fn run(session: &mut Session, reporter: &mut Reporter<'_>) -> Result<()> {
    session.register_drivers();
    let report = Report::of(session);
    let c = &report.counts;
    let model = report.model.as_deref().unwrap_or("a board without a name");
    reporter.row("board", format_args!("{model}"))?;
    reporter.row(
        "device tree",
        format_args!(
            "{}, {} bytes: {}, {}, {}",
            report.origin,
            session.blob.bytes.len(),
            count(c.devices, "device"),
            count(c.others, "other node"),
            count(c.notes, "note")
        ),
    )?;
    for range in session.host.env().memory().ranges() {
        let what = match range.use_for {
            RamUse::Frames => "page frames",
            RamUse::Contiguous => "contiguous (CMA)",
        };
        reporter.row("memory", format_args!("{} MiB at {}, {what}", range.len >> 20, range.base))?;
    }
    reporter.row("disk", disk(session))?;
    reporter.row("drivers", session.host.drivers().join(", "))?;
    if session.host.policy().untranslated_dma {
        reporter.row("policy", "untranslated DMA: IOMMUs are left alone")?;
    }
    reporter.gap()?;
    let driven: Vec<_> = report.devices.iter().filter(|d| !d.candidates.is_empty()).collect();
    reporter.text(format_args!(
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
        let output = reporter.output();
        let label = device.label.as_ref().map(|l| format!(" {l}")).unwrap_or_default();
        let width = 36usize.saturating_sub(device.name.chars().count());
        let name = format!("{}{}", output.paint(NAME, &device.name), output.column(DIM, label, width));
        let driver = output.column(DIM, device.candidates.join(", "), 16);
        let needs = if needs.is_empty() { "nothing".into() } else { needs.join(", ") };
        reporter.text(format_args!("{name} {driver} {needs}"))?;
    }
    let present: Vec<&str> = report.devices.iter().filter(|d| d.state == State::Present).map(|d| &*d.name).collect();
    if !present.is_empty() {
        reporter.text(format_args!("there from the start, driven by the board: {}", present.join(", ")))?;
    }
    for cycle in &report.cycles {
        reporter.row("cycle", cycle.join(" -> "))?;
    }
    Ok(())
}

fn disk(session: &Session) -> String {
    let sectors = session.board.with_disk(|d| d.sectors());
    sectors.map_or("none".into(), |n| format!("{n} sectors of {} bytes", bindery_sim::disk::SECTOR))
}
