//! Facts that `show` prints.

use bindery::device::Device;
use bindery::env::{Env, RamUse, Width};
use bindery_sim::board::Board;
use bindery_sim::disk::SECTOR;
use bindery_sim::salvator;

use super::run::Last;
use super::{Facts, promises};
use crate::failure::Result;
use crate::output::{DIM, NAME, count};
use crate::reporter::Reporter;
use crate::session::{EDU_SECTORS, Port, Session};
use crate::tree::{self, Report, State};

/// `SStatus` of the disk controller.
const SSTATUS: u64 = 0x1400;

/// Prints `facts`; `last` is what the last command did.
pub(super) fn show(facts: Facts, session: &Session, last: &Last, reporter: &mut Reporter<'_>) -> Result<()> {
    match (facts, session.device()) {
        (Facts::Machine, _) => machine(session, reporter),
        (Facts::Probes, _) => probes(session, last, reporter),
        (Facts::Memory, _) => memory(session, last, reporter),
        (Facts::Elapsed, _) => {
            reporter.row("elapsed", format_args!("{:.6} s of the board's time", last.elapsed.as_secs_f64()))
        }
        (Facts::Promises, _) => promises::show(session, reporter),
        (Facts::Controller | Facts::Group, None) => reporter.row("controller", "none"),
        (Facts::Controller, Some(device)) => controller(session, &device, reporter),
        (Facts::Group, Some(device)) => {
            let group = session.group(&device).map(|g| g.info());
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
    match session.blob.bytes.len() {
        0 => reporter.row("device tree", format_args!("none: the host bridge is known ({devices})"))?,
        bytes => {
            let origin = &report.origin;
            reporter.row("device tree", format_args!("{origin}, {bytes} bytes: {devices}, {others}, {notes}"))?;
        }
    }
    for range in session.host.env().memory().ranges() {
        let what = match range.use_for {
            RamUse::Frames => "page frames",
            RamUse::Contiguous => "contiguous (CMA)",
            RamUse::Kept => "kept by the target",
        };
        reporter.row("memory", format_args!("{} MiB at {}, {what}", range.len >> 20, range.base))?;
    }
    if let Some(board) = session.target.board() {
        let sectors = board.with_disk(|d| d.sectors());
        reporter.row("disk", sectors.map_or("none".into(), |n| format!("{n} sectors of {SECTOR} bytes")))?;
    }
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
        let needs = if needs.is_empty() { "none".into() } else { needs.join(", ") };
        let name = tree::name(device, 36, reporter.output());
        let driver = reporter.output().column(DIM, device.candidates.join(", "), 18);
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

fn controller(session: &Session, device: &Device, reporter: &mut Reporter<'_>) -> Result<()> {
    let group = session.group(device).and_then(|group| Some((group.info(), group.domain()?)));
    let (translation, memory) = if let Some((info, domain)) = group {
        let kind = info.domain.map(|(_, kind, _)| format!(" ({kind})")).unwrap_or_default();
        let (iommus, label) = (info.iommus.join(" + "), domain.label());
        let pages = count(domain.iova_in_use() as usize, "page");
        (format!("group {} of {iommus}, {label}{kind}", info.id), format!("{pages} of IOVA"))
    } else {
        let pages = count(session.host.resource_usage().contiguous as usize, "page");
        let why = if session.host.policy().untranslated_dma { "none, by policy" } else { "none: no IOMMU" };
        (why.into(), format!("{pages} of CMA"))
    };
    reporter.row("translation", translation)?;
    let ledger = count(session.host.resources(device).len(), "resource");
    reporter.row("in use", format_args!("{memory}, {ledger} on the ledger"))?;
    let client = match session.port() {
        Some(Port::Disk(client)) => client,
        Some(Port::Edu(_)) => {
            let sectors = count(EDU_SECTORS as usize, "sector");
            return reporter.row("buffer", format_args!("taken for {sectors} of {SECTOR} bytes"));
        }
        None => return Ok(()),
    };
    reporter.row("link", session.target.board().map_or("none".into(), |board| link(board)))?;
    match client.call(|p| p.identity().clone()) {
        Ok(id) => {
            let disk = format!("{} {}, firmware {}", id.model, id.serial, id.firmware);
            reporter.row("disk", format_args!("{disk}, {} sectors of {} bytes", id.sectors, id.sector_size))
        }
        Err(gone) => reporter.fail(&format!("{}: {gone}", device.name())),
    }
}

/// The state of the serial link, by the controller's own register (Serial ATA 3.x, 14.1.1).
fn link(board: &Board) -> String {
    let regs = board.map_io(salvator::SATA_BASE, SSTATUS + 4);
    let Some(status) = regs.ok().and_then(|r| r.read(SSTATUS, Width::W32).ok()) else {
        return "the controller does not answer".into();
    };
    let speeds = ["no speed", "1.5 Gbps", "3.0 Gbps", "6.0 Gbps"];
    let speed = speeds.get((status >> 4 & 0xf) as usize).unwrap_or(&speeds[0]);
    let up = if status & 0xf == 3 { "up" } else { "down" };
    format!("{up}, {speed} (SStatus {status:x})")
}

fn memory(session: &Session, last: &Last, reporter: &mut Reporter<'_>) -> Result<()> {
    let now = session.host.resource_usage();
    let before = last.before.as_ref().map_or(&now, |before| &before.usage);
    let frames = format!("page frames in use {} -> {}", before.frames, now.frames);
    reporter.row("memory", format_args!("{frames}, contiguous pages {} -> {}", before.contiguous, now.contiguous))?;
    let quarantine = session.host.quarantine();
    reporter.row("quarantine", if quarantine.is_empty() { "empty".into() } else { count(quarantine.len(), "run") })
}
