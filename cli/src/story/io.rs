//! Step 3: sectors written and read by the controller's DMA, compared with the file.

use bindery::event::EventKind;
use bindery_sim::salvator;

use crate::failure::Result;
use crate::output::count;
use crate::record::Mapped;
use crate::reporter::Reporter;
use crate::session::{Area, Mismatch, Session, capacity, pattern, read, write};

pub(super) fn run(session: &mut Session, reporter: &mut Reporter<'_>) -> Result<()> {
    let Some(port) = session.port() else {
        return reporter.skip("no disk: the controller is not bound");
    };
    let Ok(capacity) = capacity(&port) else {
        return reporter.fail("the driver has let go of the disk");
    };
    translation(session, reporter)?;

    let (area, _) = Area::of(capacity);
    let wanted = pattern("host", area);
    reporter.row("area", format_args!("{area}, {} bytes", wanted.len()))?;
    let mark = session.log.mark();
    let written = write(&port, area, &wanted);
    if written.is_err() {
        session.check_host_io(area, &wanted)?;
    }
    lent(session, reporter, mark)?;
    reporter.expect(written.is_ok(), "written by the controller's DMA, and flushed", || said(&written))?;
    let file = session.image(area);
    let file = file.unwrap_or_else(|| Err(std::io::ErrorKind::NotFound.into()));
    match &file {
        Ok(bytes) => compare(reporter, "the file holds what was written", &wanted, bytes)?,
        Err(error) => reporter.fail(&format!("the disk image cannot be read: {error}"))?,
    }
    match read(&port, area) {
        Ok(bytes) => compare(reporter, "read back by DMA: the same", &wanted, &bytes)?,
        Err(error) => reporter.fail(&format!("reading back: {error}"))?,
    }
    // The other way round: what somebody else put into the file arrives in memory.
    let outside = pattern("the file's owner", area);
    let changed = session.board.with_disk(|disk| disk.write(area.lba * bindery_sim::disk::SECTOR, &outside));
    if let Some(Err(error)) = changed {
        return reporter.fail(&format!("the disk image cannot be written: {error}"));
    }
    match read(&port, area) {
        Ok(bytes) => compare(reporter, "changed in the file, read by DMA: what the file holds", &outside, &bytes)?,
        Err(error) => reporter.fail(&format!("reading: {error}"))?,
    }
    let beyond = Area { lba: capacity, sectors: 1 };
    let refused = read(&port, beyond);
    reporter.expect(refused.is_err(), "a sector behind the end is refused", || "it was read".into())
}

/// The buffers that the driver lent to the controller since `mark`, and whether it has them back.
fn lent(session: &Session, reporter: &mut Reporter<'_>, mark: usize) -> Result<()> {
    let Some(sata) = session.sata() else { return Ok(()) };
    let mut buffers = Vec::new();
    for entry in session.log.since(mark) {
        if let EventKind::DmaMapped { kind, addr, phys, size, backend } = entry.event.kind {
            reporter.row("lent", format_args!("{kind} {addr} -> {phys}, {size} bytes, by {backend}"))?;
            buffers.push(addr);
        }
    }
    let still = session.log.mapped("host", sata.name());
    let left: Vec<_> = still.iter().filter(|m| buffers.contains(&m.addr)).collect();
    let what = format!("{} taken back when the commands ended", count(buffers.len(), "lent buffer"));
    reporter.expect(left.is_empty(), &what, || format!("{left:?}"))
}

/// Where the controller's memory is, as the device sees it, and what the IPMMU's own walk makes of it.
fn translation(session: &Session, reporter: &mut Reporter<'_>) -> Result<()> {
    let Some(sata) = session.sata() else { return Ok(()) };
    let resources = session.host.resources(&sata);
    let group = session.host.device_info(&sata).group;
    let Some(domain) = group.and_then(|id| session.host.groups().into_iter().find(|g| g.id() == id)?.domain()) else {
        let cma = session.host.memory().cma().map_or(0, |cma| cma.in_use());
        return reporter
            .row("translation", format_args!("none, by policy; {} of CMA in use", count(cma as usize, "page")));
    };
    let (mut walked, mut wrong) = (0, Vec::new());
    for Mapped { addr, phys, .. } in session.log.mapped("host", sata.name()) {
        let walk = session.board.translate(0, salvator::SATA_UTLB as usize, addr.0, false);
        match walk {
            Some(Ok(at)) if at == phys => walked += 1,
            other => wrong.push(format!("{addr}: {other:?}, not {phys}")),
        }
    }
    reporter.row(
        "translation",
        format_args!(
            "{}: {} of IOVA in use, {} on the ledger",
            domain.label(),
            count(domain.iova_in_use() as usize, "page"),
            count(resources.len(), "resource")
        ),
    )?;
    reporter.expect(
        wrong.is_empty(),
        &format!("the IPMMU's own walk finds {} where the core put it", count(walked, "DMA area")),
        || wrong.join("; "),
    )
}

pub(super) fn compare(reporter: &mut Reporter<'_>, what: &str, wanted: &[u8], came: &[u8]) -> Result<()> {
    let mismatch = Mismatch::between(wanted, came);
    reporter.expect(mismatch.is_none(), what, || mismatch.map(|m| m.to_string()).unwrap_or_default())
}

fn said<T>(outcome: &std::result::Result<T, String>) -> String {
    outcome.as_ref().err().cloned().unwrap_or_default()
}
