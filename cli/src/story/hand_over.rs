//! Step 5: the pass-through owner takes the controller, a guest binds the same driver to it, and the host is refused.

use bindery::device::Device;
use bindery::driver::Driver;
use bindery::event::EventKind;
use bindery_drivers::sata_rcar::SataRcar;
use bindery_drivers::vfio::Vfio;

use super::io::compare;
use super::shell::{DRIVERS_PROBE, device_file, driver_file, must, type_in};
use crate::failure::Result;
use crate::output::{WARNING, count};
use crate::reporter::Reporter;
use crate::session::{Area, Guest, GuestKind, Session, capacity, pattern, read, write};

pub(super) fn run(session: &mut Session, reporter: &mut Reporter<'_>) -> Result<()> {
    let Some(sata) = session.sata() else {
        return reporter.skip("there is no disk controller to hand over");
    };
    if !session.was_bound {
        return reporter.skip(&format!("{} was not bound by the host's own driver", sata.name()));
    }
    if let Some(holder) = sata.driver() {
        return reporter.skip(&format!("{} is held by {holder}", sata.name()));
    }
    if !give(session, reporter, sata.name())? {
        return Ok(());
    }
    if !start_guest(session, reporter, sata.name(), GuestKind::Cooperative)? {
        return Ok(());
    }
    meanwhile(session, reporter, &sata)
}

/// Hands the device to the pass-through owner, by the user's own words. When the owner does not take it (there is no
/// IOMMU group, no reset line), that is what is told, and everything is put back.
pub(super) fn give(session: &Session, reporter: &mut Reporter<'_>, name: &str) -> Result<bool> {
    let mark = session.log.mark();
    if !must(session, reporter, Vfio::NAME, &device_file(name, "driver_override"))? {
        return Ok(false);
    }
    if let Err(refused) = type_in(session, reporter, name, DRIVERS_PROBE)? {
        must(session, reporter, "", &device_file(name, "driver_override"))?;
        reporter.skip(&refused.error.why)?;
        return Ok(false);
    }
    let events = session.log.since(mark);
    reporter.events(events.iter().filter(|r| {
        matches!(
            r.event.kind,
            EventKind::GroupOwner { .. }
                | EventKind::DomainAttached { .. }
                | EventKind::Bound { .. }
                | EventKind::NotBound { .. }
        )
    }))?;
    let holder = session.host.device(name).and_then(|d| d.driver());
    if holder == Some(Vfio::NAME) {
        return Ok(true);
    }
    reporter.fail(&format!("{name} is held by {holder:?}, not by {}", Vfio::NAME))?;
    Ok(false)
}

/// Starts a guest, lets it bind its driver, and lets it write and read the disk.
pub(super) fn start_guest(
    session: &mut Session,
    reporter: &mut Reporter<'_>,
    name: &str,
    kind: GuestKind,
) -> Result<bool> {
    reporter.gap()?;
    let mark = session.log.mark();
    match Guest::start(session, name, kind) {
        Ok(guest) => session.guest = Some(guest),
        Err(error) => {
            reporter.fail(&format!("the guest does not start: {error}"))?;
            return Ok(false);
        }
    }
    let Some(guest) = &session.guest else { return Ok(false) };
    let settled = guest.machine.settle();
    let events = session.log.since(mark);
    reporter.events(events.iter().filter(|r| {
        r.machine == "guest"
            && matches!(
                r.event.kind,
                EventKind::Deferred { .. }
                    | EventKind::Bound { .. }
                    | EventKind::NotBound { .. }
                    | EventKind::GroupJoined { .. }
                    | EventKind::DomainAttached { .. }
                    | EventKind::DmaMapped { .. }
                    | EventKind::Log { .. }
            )
    }))?;
    let Some(port) = guest.port() else {
        let why = guest.machine.waiting().into_iter().map(|w| format!("{} waits for {}", w.device, w.on.join(", ")));
        let why: Vec<String> = why.collect();
        reporter.fail(&format!("the guest has not bound its driver ({settled:?}) {}", why.join("; ")))?;
        return Ok(false);
    };
    let Ok(capacity) = capacity(&port) else {
        reporter.fail("the guest's driver has let go of the disk")?;
        return Ok(false);
    };
    let (host, area) = Area::of(capacity);
    let wanted = pattern("guest", area);
    reporter.row(
        "guest",
        format_args!(
            "{} bound, {} of its own",
            count(settled.bound as usize, "device"),
            count(guest.machine.devices().len(), "device")
        ),
    )?;
    // What the host left behind is there, too; on a disk of one sector the guest is about to overwrite it.
    match (read(&port, host), session.image(host)) {
        (Ok(bytes), Some(Ok(file))) => {
            compare(reporter, &format!("the guest reads what the host left in {host}"), &file, &bytes)?;
        }
        (Err(error), _) => reporter.fail(&format!("the guest reads: {error}"))?,
        _ => reporter.fail("the disk image cannot be read")?,
    }
    if let Err(error) = write(&port, area, &wanted) {
        session.check_host_io(area, &wanted)?;
        reporter.fail(&format!("the guest writes: {error}"))?;
    }
    match session.image(area) {
        Some(Ok(file)) => compare(reporter, &format!("the guest writes {area}; the file holds it"), &wanted, &file)?,
        _ => reporter.fail("the disk image cannot be read")?,
    }
    match read(&port, area) {
        Ok(bytes) => compare(reporter, "the guest reads it back: the same", &wanted, &bytes)?,
        Err(error) => reporter.fail(&format!("the guest reads: {error}"))?,
    }
    Ok(true)
}

/// What the host tries while the guest has the device: each is refused by name, and the guest does not notice.
fn meanwhile(session: &Session, reporter: &mut Reporter<'_>, sata: &Device) -> Result<()> {
    reporter.gap()?;
    reporter.text("meanwhile the host tries to use the device:")?;
    let name = sata.name();
    let group = session.host.device_info(sata).group.unwrap_or_default();
    let tries = [
        (name.to_string(), driver_file(SataRcar::NAME, "bind")),
        ("DMA-FQ".into(), format!("/sys/kernel/iommu_groups/{group}/type")),
    ];
    for (value, path) in tries {
        let outcome = type_in(session, reporter, &value, &path)?;
        if outcome.is_ok() {
            reporter.fail(&format!("the host was let in: {value} > {path}"))?;
        }
    }
    let again = session.host.client::<Vfio>(name).map(|owner| Vfio::open(&owner));
    match again {
        Some(Err(refusal)) => {
            let line = reporter.output().paint(WARNING, format_args!("a second user opens the device: {refusal}"));
            reporter.text(line)?;
        }
        other => reporter.fail(&format!("a second user got in: {other:?}"))?,
    }
    let owner = session.host.groups().into_iter().find(|g| g.id() == group).map(|g| g.info().owner.to_string());
    reporter.row("owner", format_args!("group {group}: {}", owner.unwrap_or_default()))?;
    let works = session.guest.as_ref().and_then(Guest::port).map(|p| read(&p, Area { lba: 0, sectors: 1 }));
    reporter.expect(matches!(works, Some(Ok(_))), "the guest goes on reading", || format!("{works:?}"))
}
