//! Step 5: the pass-through owner takes the controller, a guest binds the same driver to it, and the host is refused.

use bindery::device::Device;
use bindery::driver::Driver;
use bindery::event::EventKind;
use bindery_drivers::sata_rcar::SataRcar;
use bindery_drivers::vfio::Vfio;

use super::io::compare;
use super::shell::{DRIVERS_PROBE, device_file, driver_file, must, type_in};
use crate::failure::Result;
use crate::page::{WAIT, count};
use crate::teller::Teller;
use crate::world::{Area, Guest, Manner, World, capacity, pattern, read, write};

pub(super) fn run(world: &mut World, teller: &mut Teller<'_>) -> Result<()> {
    let Some(sata) = world.sata() else {
        return teller.skip("there is no disk controller to hand over");
    };
    if !world.sata_works {
        return teller.skip(&format!("{} was not bound by the host's own driver", sata.name()));
    }
    if let Some(holder) = sata.driver() {
        return teller.skip(&format!("{} is held by {holder}", sata.name()));
    }
    if !give(world, teller, sata.name())? {
        return Ok(());
    }
    if !start_guest(world, teller, sata.name(), Manner::LetsGo)? {
        return Ok(());
    }
    meanwhile(world, teller, &sata)
}

/// Hands the device to the pass-through owner, by the user's own words. When the owner does not take it (there is no
/// IOMMU group, no reset line), that is what is told, and everything is put back.
pub(super) fn give(world: &World, teller: &mut Teller<'_>, name: &str) -> Result<bool> {
    let mark = world.tape.mark();
    if !must(world, teller, Vfio::NAME, &device_file(name, "driver_override"))? {
        return Ok(false);
    }
    if let Err(refused) = type_in(world, teller, name, DRIVERS_PROBE)? {
        must(world, teller, "", &device_file(name, "driver_override"))?;
        teller.skip(&refused.error.why)?;
        return Ok(false);
    }
    let events = world.tape.since(mark);
    teller.events(events.iter().filter(|r| {
        matches!(
            r.event.kind,
            EventKind::GroupOwner { .. }
                | EventKind::DomainAttached { .. }
                | EventKind::Bound { .. }
                | EventKind::NotBound { .. }
        )
    }))?;
    let holder = world.host.device(name).and_then(|d| d.driver());
    if holder == Some(Vfio::NAME) {
        return Ok(true);
    }
    teller.fail(&format!("{name} is held by {holder:?}, not by {}", Vfio::NAME))?;
    Ok(false)
}

/// Starts a guest, lets it bind its driver, and lets it write and read the disk.
pub(super) fn start_guest(world: &mut World, teller: &mut Teller<'_>, name: &str, manner: Manner) -> Result<bool> {
    teller.gap()?;
    let mark = world.tape.mark();
    match Guest::start(world, name, manner) {
        Ok(guest) => world.guest = Some(guest),
        Err(error) => {
            teller.fail(&format!("the guest does not start: {error}"))?;
            return Ok(false);
        }
    }
    let Some(guest) = &world.guest else { return Ok(false) };
    let settled = guest.machine.settle();
    let events = world.tape.since(mark);
    teller.events(events.iter().filter(|r| {
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
        teller.fail(&format!("the guest has not bound its driver ({settled:?}) {}", why.join("; ")))?;
        return Ok(false);
    };
    let Ok(capacity) = capacity(&port) else {
        teller.fail("the guest's driver has let go of the disk")?;
        return Ok(false);
    };
    let (host, area) = Area::of(capacity);
    let wanted = pattern("guest", area);
    teller.row(
        "guest",
        format_args!(
            "{} bound, {} of its own",
            count(settled.bound as usize, "device"),
            count(guest.machine.devices().len(), "device")
        ),
    )?;
    // What the host left behind is there, too; on a disk of one sector the guest is about to overwrite it.
    match (read(&port, host), world.image(host)) {
        (Ok(bytes), Some(Ok(file))) => {
            compare(teller, &format!("the guest reads what the host left in {host}"), &file, &bytes)?;
        }
        (Err(error), _) => teller.fail(&format!("the guest reads: {error}"))?,
        _ => teller.fail("the disk image cannot be read")?,
    }
    if let Err(error) = write(&port, area, &wanted) {
        world.blame_the_host(area, &wanted)?;
        teller.fail(&format!("the guest writes: {error}"))?;
    }
    match world.image(area) {
        Some(Ok(file)) => compare(teller, &format!("the guest writes {area}; the file holds it"), &wanted, &file)?,
        _ => teller.fail("the disk image cannot be read")?,
    }
    match read(&port, area) {
        Ok(bytes) => compare(teller, "the guest reads it back: the same", &wanted, &bytes)?,
        Err(error) => teller.fail(&format!("the guest reads: {error}"))?,
    }
    Ok(true)
}

/// What the host tries while the guest has the device: each is refused by name, and the guest does not notice.
fn meanwhile(world: &World, teller: &mut Teller<'_>, sata: &Device) -> Result<()> {
    teller.gap()?;
    teller.text("meanwhile the host tries to use the device:")?;
    let name = sata.name();
    let group = world.host.device_info(sata).group.unwrap_or_default();
    let tries = [
        (name.to_string(), driver_file(SataRcar::NAME, "bind")),
        ("DMA-FQ".into(), format!("/sys/kernel/iommu_groups/{group}/type")),
    ];
    for (value, path) in tries {
        let outcome = type_in(world, teller, &value, &path)?;
        if outcome.is_ok() {
            teller.fail(&format!("the host was let in: {value} > {path}"))?;
        }
    }
    let again = world.host.client::<Vfio>(name).map(|owner| Vfio::open(&owner));
    match again {
        Some(Err(refusal)) => {
            let line = teller.page().paint(WAIT, format_args!("a second user opens the device: {refusal}"));
            teller.text(line)?;
        }
        other => teller.fail(&format!("a second user got in: {other:?}"))?,
    }
    let owner = world.host.groups().into_iter().find(|g| g.id() == group).map(|g| g.info().owner.to_string());
    teller.row("owner", format_args!("group {group}: {}", owner.unwrap_or_default()))?;
    let works = world.guest.as_ref().and_then(Guest::port).map(|p| read(&p, Area { lba: 0, sectors: 1 }));
    teller.expect(matches!(works, Some(Ok(_))), "the guest goes on reading", || format!("{works:?}"))
}
