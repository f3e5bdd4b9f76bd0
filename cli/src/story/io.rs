//! Step 3: sectors written and read by the controller's DMA, compared with the file.

use bindery::event::EventKind;
use bindery_sim::salvator;

use crate::failure::Result;
use crate::page::count;
use crate::record::Mapped;
use crate::teller::Teller;
use crate::world::{Area, Mismatch, World, capacity, pattern, read, write};

pub(super) fn run(world: &mut World, teller: &mut Teller<'_>) -> Result<()> {
    let Some(port) = world.port() else {
        return teller.skip("no disk: the controller is not bound");
    };
    let Ok(capacity) = capacity(&port) else {
        return teller.fail("the driver has let go of the disk");
    };
    translation(world, teller)?;

    let (area, _) = Area::of(capacity);
    let wanted = pattern("host", area);
    teller.row("area", format_args!("{area}, {} bytes", wanted.len()))?;
    let mark = world.tape.mark();
    let written = write(&port, area, &wanted);
    if written.is_err() {
        world.blame_the_host(area, &wanted)?;
    }
    lent(world, teller, mark)?;
    teller.expect(written.is_ok(), "written by the controller's DMA, and flushed", || said(&written))?;
    let file = world.image(area);
    let file = file.unwrap_or_else(|| Err(std::io::ErrorKind::NotFound.into()));
    match &file {
        Ok(bytes) => compare(teller, "the file holds what was written", &wanted, bytes)?,
        Err(error) => teller.fail(&format!("the disk image cannot be read: {error}"))?,
    }
    match read(&port, area) {
        Ok(bytes) => compare(teller, "read back by DMA: the same", &wanted, &bytes)?,
        Err(error) => teller.fail(&format!("reading back: {error}"))?,
    }
    // The other way round: what somebody else put into the file arrives in memory.
    let outside = pattern("the file's owner", area);
    let changed = world.board.with_disk(|disk| disk.write(area.lba * bindery_sim::disk::SECTOR, &outside));
    if let Some(Err(error)) = changed {
        return teller.fail(&format!("the disk image cannot be written: {error}"));
    }
    match read(&port, area) {
        Ok(bytes) => compare(teller, "changed in the file, read by DMA: what the file holds", &outside, &bytes)?,
        Err(error) => teller.fail(&format!("reading: {error}"))?,
    }
    let beyond = Area { lba: capacity, sectors: 1 };
    let refused = read(&port, beyond);
    teller.expect(refused.is_err(), "a sector behind the end is refused", || "it was read".into())
}

/// The buffers that the driver lent to the controller since `mark`, and whether it has them back.
fn lent(world: &World, teller: &mut Teller<'_>, mark: usize) -> Result<()> {
    let Some(sata) = world.sata() else { return Ok(()) };
    let mut buffers = Vec::new();
    for recorded in world.tape.since(mark) {
        if let EventKind::DmaMapped { kind, addr, phys, size, backend } = recorded.event.kind {
            teller.row("lent", format_args!("{kind} {addr} -> {phys}, {size} bytes, by {backend}"))?;
            buffers.push(addr);
        }
    }
    let still = world.tape.mapped("host", sata.name());
    let left: Vec<_> = still.iter().filter(|m| buffers.contains(&m.addr)).collect();
    let what = format!("{} taken back when the commands ended", count(buffers.len(), "lent buffer"));
    teller.expect(left.is_empty(), &what, || format!("{left:?}"))
}

/// Where the controller's memory is, as the device sees it, and what the IPMMU's own walk makes of it.
fn translation(world: &World, teller: &mut Teller<'_>) -> Result<()> {
    let Some(sata) = world.sata() else { return Ok(()) };
    let holdings = world.host.holdings(&sata);
    let group = world.host.device_info(&sata).group;
    let Some(domain) = group.and_then(|id| world.host.groups().into_iter().find(|g| g.id() == id)?.domain()) else {
        let cma = world.host.memory().cma().map_or(0, |cma| cma.in_use());
        return teller
            .row("translation", format_args!("none, by policy; {} of CMA in use", count(cma as usize, "page")));
    };
    let (mut walked, mut wrong) = (0, Vec::new());
    for Mapped { addr, phys, .. } in world.tape.mapped("host", sata.name()) {
        let walk = world.board.translate(0, salvator::SATA_UTLB as usize, addr.0, false);
        match walk {
            Some(Ok(at)) if at == phys => walked += 1,
            other => wrong.push(format!("{addr}: {other:?}, not {phys}")),
        }
    }
    teller.row(
        "translation",
        format_args!(
            "{}: {} of IOVA in use, {} on the ledger",
            domain.label(),
            count(domain.iova_in_use() as usize, "page"),
            count(holdings.len(), "resource")
        ),
    )?;
    teller.expect(
        wrong.is_empty(),
        &format!("the IPMMU's own walk finds {} where the core put it", count(walked, "DMA area")),
        || wrong.join("; "),
    )
}

pub(super) fn compare(teller: &mut Teller<'_>, what: &str, wanted: &[u8], came: &[u8]) -> Result<()> {
    let mismatch = Mismatch::between(wanted, came);
    teller.expect(mismatch.is_none(), what, || mismatch.map(|m| m.to_string()).unwrap_or_default())
}

fn said<T>(outcome: &std::result::Result<T, String>) -> String {
    outcome.as_ref().err().cloned().unwrap_or_default()
}
