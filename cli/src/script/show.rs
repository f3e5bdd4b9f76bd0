//! Facts that `show` prints.

use bindery::device::Device;
use bindery::env::{Env, RamUse, Width};
use bindery_sim::disk::SECTOR;
use bindery_sim::salvator;

use super::run::Last;
use super::{Facts, promises};
use crate::failure::Result;
use crate::output::{DIM, NAME, count};
use crate::reporter::Reporter;
use crate::session::Session;
use crate::tree::{Report, State};

/// `SStatus` of the disk controller.
const SSTATUS: u64 = 0x1400;

/// Prints `facts`; `last` is what the last command did.
pub(super) fn show(facts: Facts, session: &Session, last: &Last, reporter: &mut Reporter<'_>) -> Result<()> {
    match (facts, session.sata()) {
        (Facts::Machine, _) => machine(session, reporter),
        (Facts::Probes, _) => probes(session, last, reporter),
        (Facts::Memory, _) => memory(session, last, reporter),
        (Facts::Elapsed, _) => {
            reporter.row("elapsed", format_args!("{:.6} s of the board's time", last.elapsed.as_secs_f64()))
        }
        (Facts::Promises, _) => promises::show(session, reporter),
        (Facts::Controller | Facts::Group, None) => reporter.row("controller", "none"),
        (Facts::Controller, Some(sata)) => controller(session, &sata, reporter),
        (Facts::Group, Some(sata)) => {
            let group = session.group(&sata).map(|g| g.info());
            let owner = group.map_or("none".into(), |g| format!("group {}: {}", g.id, g.owner));
            reporter.row("owner", owner)
        }
    }
}

fn machine(session: &Session, reporter: &mut Reporter<'_>) -> Result<()> {
    let report = Report::of(session);
    let c = &report.counts;
    reporter.row("board", report.model.as_deref().unwrap_or("a board without a name"))?;
    let (devices, others, notes) = (count(c.devices, "device"), count(c.others, "other node"), count(c.notes, "note"));
    let bytes = session.blob.bytes.len();
    reporter.row("device tree", format_args!("{}, {bytes} bytes: {devices}, {others}, {notes}", report.origin))?;
    for range in session.host.env().memory().ranges() {
        let what = match range.use_for {
            RamUse::Frames => "page frames",
            RamUse::Contiguous => "contiguous (CMA)",
        };
        reporter.row("memory", format_args!("{} MiB at {}, {what}", range.len >> 20, range.base))?;
    }
    let sectors = session.board.with_disk(|d| d.sectors());
    reporter.row("disk", sectors.map_or("none".into(), |n| format!("{n} sectors of {SECTOR} bytes")))?;
    reporter.row("drivers", session.host.drivers().join(", "))?;
    if session.host.policy().untranslated_dma {
        reporter.row("policy", "untranslated DMA: IOMMUs are left alone")?;
    }
    reporter.gap()?;
    let driven: Vec<_> = report.devices.iter().filter(|d| !d.candidates.is_empty()).collect();
    let (n, links) = (driven.len(), count(c.links, "supplier link"));
    reporter.text(format_args!("{n} of {devices} have a driver; their suppliers ({links} in all):"))?;
    for device in driven {
        let needs = device.suppliers.iter().map(|s| {
            let present = if s.state == "dormant" { "" } else { ", present" };
            format!("{} ({}{present})", s.supplier, s.properties.join(", "))
        });
        let needs: Vec<String> = needs.collect();
        let label = device.label.as_ref().map(|l| format!(" {l}")).unwrap_or_default();
        let width = 36usize.saturating_sub(device.name.chars().count());
        let output = reporter.output();
        let name = format!("{}{}", output.paint(NAME, &device.name), output.column(DIM, label, width));
        let driver = output.column(DIM, device.candidates.join(", "), 18);
        let needs = if needs.is_empty() { "none".into() } else { needs.join(", ") };
        reporter.text(format_args!("{name} {driver} {needs}"))?;
    }
    let present: Vec<&str> = report.devices.iter().filter(|d| d.state == State::Present).map(|d| &*d.name).collect();
    if !present.is_empty() {
        reporter.text(format_args!("present from the start, driven by the board: {}", present.join(", ")))?;
    }
    cycles(session, reporter)
}

fn cycles(session: &Session, reporter: &mut Reporter<'_>) -> Result<()> {
    session.host.cycles().into_iter().try_for_each(|cycle| reporter.row("cycle", cycle.join(" -> ")))
}

fn probes(session: &Session, last: &Last, reporter: &mut Reporter<'_>) -> Result<()> {
    let s = last.settled;
    let (begun, bound, failed, deferrals) = (s.attempts, s.bound, s.failed, s.waiting);
    reporter.row("probes", format_args!("{begun} begun, {bound} bound, {failed} failed; {deferrals} deferrals"))?;
    for waiting in session.host.waiting() {
        let name = reporter.output().paint(NAME, &waiting.device);
        reporter.row("still waits", format_args!("{name} for {}", waiting.on.join(", ")))?;
    }
    cycles(session, reporter)
}

fn controller(session: &Session, sata: &Device, reporter: &mut Reporter<'_>) -> Result<()> {
    let ledger = count(session.host.resources(sata).len(), "resource");
    if let (Some(group), Some(domain)) = (session.group(sata), session.domain(sata)) {
        let info = group.info();
        let kind = info.domain.map(|(_, kind, _)| format!(" ({kind})")).unwrap_or_default();
        let (iommus, label) = (info.iommus.join(" + "), domain.label());
        reporter.row("translation", format_args!("group {} of {iommus}, {label}{kind}", info.id))?;
        let pages = count(domain.iova_in_use() as usize, "page");
        reporter.row("in use", format_args!("{pages} of IOVA, {ledger} on the ledger"))?;
    } else {
        let cma = count(session.memory_in_use().1 as usize, "page");
        reporter.row("translation", "none, by policy")?;
        reporter.row("in use", format_args!("{cma} of CMA, {ledger} on the ledger"))?;
    }
    reporter.row("link", link(session))?;
    let Some(port) = session.port() else { return Ok(()) };
    match port.call(|p| p.identity().clone()) {
        Ok(id) => {
            let disk = format!("{} {}, firmware {}", id.model, id.serial, id.firmware);
            reporter.row("disk", format_args!("{disk}, {} sectors of {} bytes", id.sectors, id.sector_size))
        }
        Err(gone) => reporter.fail(&format!("{}: {gone}", sata.name())),
    }
}

/// The state of the serial link, by the controller's own register (Serial ATA 3.x, 14.1.1).
fn link(session: &Session) -> String {
    let regs = session.board.map_io(salvator::SATA_BASE, SSTATUS + 4);
    let Some(status) = regs.ok().and_then(|r| r.read(SSTATUS, Width::W32).ok()) else {
        return "the controller does not answer".into();
    };
    let speed = match status >> 4 & 0xf {
        1 => "1.5 Gbps",
        2 => "3.0 Gbps",
        3 => "6.0 Gbps",
        _ => "no speed",
    };
    let up = if status & 0xf == 3 { "up" } else { "down" };
    format!("{up}, {speed} (SStatus {status:x})")
}

fn memory(session: &Session, last: &Last, reporter: &mut Reporter<'_>) -> Result<()> {
    let after = session.memory_in_use();
    let before = last.before.as_ref().map_or(after, |before| before.memory);
    reporter.row(
        "memory",
        format_args!("page frames in use {} -> {}, contiguous pages {} -> {}", before.0, after.0, before.1, after.1),
    )?;
    let quarantine = session.host.quarantine();
    reporter.row("quarantine", if quarantine.is_empty() { "empty".into() } else { count(quarantine.len(), "run") })
}
