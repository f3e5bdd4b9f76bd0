//! Step 6: the host takes the device back, from a guest that lets go and from one that does not answer.

use bindery::device::Device;
use bindery::driver::Driver;
use bindery_drivers::sata_rcar::SataRcar;
use bindery_drivers::vfio::Vfio;
use bindery_sim::salvator;

use super::hand_over::{give, start_guest};
use super::io::compare;
use super::shell::{DRIVERS_PROBE, device_file, driver_file, must};
use super::unbind::way_back;
use crate::failure::Result;
use crate::page::HEAD;
use crate::teller::Teller;
use crate::world::{Area, Guest, Manner, World, capacity, pattern, read};

pub(super) fn run(world: &mut World, teller: &mut Teller<'_>) -> Result<()> {
    let Some(sata) = world.sata() else {
        return teller.skip("there is no disk controller to take back");
    };
    if !world.sata_works {
        return teller.skip(&format!("{} was not bound by the host's own driver", sata.name()));
    }
    if world.guest.is_none() {
        return rebind(world, teller, &sata);
    }
    headline(teller, "the guest is asked, and lets go")?;
    take(world, teller, &sata, Manner::LetsGo)?;

    teller.gap()?;
    headline(teller, "once more; this guest does not answer")?;
    must(world, teller, sata.name(), &driver_file(SataRcar::NAME, "unbind"))?;
    if !give(world, teller, sata.name())? {
        return teller.fail("the controller could not be handed over a second time");
    }
    if !start_guest(world, teller, sata.name(), Manner::Ignores)? {
        return Ok(());
    }
    teller.gap()?;
    take(world, teller, &sata, Manner::Ignores)
}

fn headline(teller: &mut Teller<'_>, text: &str) -> Result<()> {
    let line = teller.page().paint(HEAD, text);
    teller.text(line)
}

/// Takes the device back from the guest, and reads what the guest wrote.
fn take(world: &mut World, teller: &mut Teller<'_>, sata: &Device, manner: Manner) -> Result<()> {
    let name = sata.name();
    let reach = world.guest.as_ref().map(|g| world.tape.mapped("guest", &g.device)).unwrap_or_default();
    let mark = world.tape.mark();
    let began = world.host.env().now();
    must(world, teller, name, &driver_file(Vfio::NAME, "unbind"))?;
    let took = world.host.env().now().since(began);
    let events = world.tape.since(mark);
    let host: Vec<_> = events.iter().filter(|r| r.machine == "host").cloned().collect();
    way_back(teller, &host, name)?;
    teller.row("took", format_args!("{:.6} s of the board's time", took.as_secs_f64()))?;
    let asked = world.guest.as_ref().is_some_and(Guest::was_asked);
    teller.expect(asked, "the guest was asked", || "it was not".into())?;
    let still = world.guest.as_ref().is_some_and(Guest::has_device);
    teller.expect(!still, "the guest has the device no more", || "it still has it".into())?;
    if manner == Manner::Ignores {
        cut_off(world, teller, &reach)?;
    }
    world.end_guest();
    rebind(world, teller, sata)
}

/// What the guest that was cut off can still do: nothing.
fn cut_off(world: &World, teller: &mut Teller<'_>, reach: &[crate::record::Mapped]) -> Result<()> {
    let port = world.guest.as_ref().and_then(Guest::port);
    match port.map(|p| read(&p, Area { lba: 0, sectors: 1 })) {
        Some(Err(error)) => teller.expect(true, &format!("the guest's driver reads the disk: {error}"), String::new)?,
        other => teller.fail(&format!("the guest's driver was expected to fail, and said {other:?}"))?,
    }
    let Some(first) = reach.first() else {
        return teller.fail("the guest had no DMA memory");
    };
    let walk = world.board.translate(0, salvator::SATA_UTLB as usize, first.addr.0, true);
    let blocked = matches!(walk, Some(Err(_)));
    teller.expect(
        blocked,
        &format!("the controller's DMA to the guest's memory at {} is blocked", first.addr),
        || format!("it arrives: {walk:?}"),
    )?;
    let mark = world.tape.mark();
    world.board.run_pending();
    let faults = world.tape.since(mark);
    teller.events(faults.iter().filter(|r| matches!(r.event.kind, bindery::event::EventKind::IommuFault { .. })))
}

/// The host's own driver binds again, and finds on the disk what was last written there.
fn rebind(world: &World, teller: &mut Teller<'_>, sata: &Device) -> Result<()> {
    let name = sata.name();
    if world.host.waiting().iter().any(|w| &*w.device == name) {
        return teller.skip(&format!("{name} waits for its suppliers"));
    }
    if sata.driver_override().is_some() {
        must(world, teller, "", &device_file(name, "driver_override"))?;
    }
    must(world, teller, name, DRIVERS_PROBE)?;
    let Some(port) = world.port() else {
        return teller.fail(&format!("{name} was not bound again"));
    };
    let Ok(capacity) = capacity(&port) else {
        return teller.fail("the driver has let go of the disk");
    };
    let (host, guest) = Area::of(capacity);
    let handed_over = world.guests.checked.iter().any(|n| *n > 0);
    let (area, wanted, whose) = if handed_over {
        (guest, pattern("guest", guest), "the guest")
    } else {
        (host, pattern("the file's owner", host), "the file's owner")
    };
    match read(&port, area) {
        Ok(bytes) => {
            compare(teller, &format!("bound again; the host reads what {whose} wrote to {area}"), &wanted, &bytes)
        }
        Err(error) => teller.fail(&format!("the host reads: {error}")),
    }
}
