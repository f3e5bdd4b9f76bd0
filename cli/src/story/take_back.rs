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
use crate::output::HEADING;
use crate::reporter::Reporter;
use crate::session::{Area, Guest, GuestKind, Session, capacity, pattern, read};

pub(super) fn run(session: &mut Session, reporter: &mut Reporter<'_>) -> Result<()> {
    let Some(sata) = session.sata() else {
        return reporter.skip("there is no disk controller to take back");
    };
    if !session.was_bound {
        return reporter.skip(&format!("{} was not bound by the host's own driver", sata.name()));
    }
    if session.guest.is_none() {
        return rebind(session, reporter, &sata);
    }
    headline(reporter, "the guest is asked, and lets go")?;
    take(session, reporter, &sata, GuestKind::Cooperative)?;

    reporter.gap()?;
    headline(reporter, "once more; this guest does not answer")?;
    must(session, reporter, sata.name(), &driver_file(SataRcar::NAME, "unbind"))?;
    if !give(session, reporter, sata.name())? {
        return reporter.fail("the controller could not be handed over a second time");
    }
    if !start_guest(session, reporter, sata.name(), GuestKind::Unresponsive)? {
        return Ok(());
    }
    reporter.gap()?;
    take(session, reporter, &sata, GuestKind::Unresponsive)
}

fn headline(reporter: &mut Reporter<'_>, text: &str) -> Result<()> {
    let line = reporter.output().paint(HEADING, text);
    reporter.text(line)
}

/// Takes the device back from the guest, and reads what the guest wrote.
fn take(session: &mut Session, reporter: &mut Reporter<'_>, sata: &Device, kind: GuestKind) -> Result<()> {
    let name = sata.name();
    let reach = session.guest.as_ref().map(|g| session.log.mapped("guest", &g.device)).unwrap_or_default();
    let mark = session.log.mark();
    let began = session.host.env().now();
    must(session, reporter, name, &driver_file(Vfio::NAME, "unbind"))?;
    let took = session.host.env().now().since(began);
    let events = session.log.since(mark);
    let host: Vec<_> = events.iter().filter(|r| r.machine == "host").cloned().collect();
    way_back(reporter, &host, name)?;
    reporter.row("elapsed", format_args!("{:.6} s of the board's time", took.as_secs_f64()))?;
    let asked = session.guest.as_ref().is_some_and(Guest::was_asked);
    reporter.expect(asked, "the guest was asked", || "it was not".into())?;
    let still = session.guest.as_ref().is_some_and(Guest::has_device);
    reporter.expect(!still, "the guest has the device no more", || "it still has it".into())?;
    if kind == GuestKind::Unresponsive {
        cut_off(session, reporter, &reach)?;
    }
    session.end_guest();
    rebind(session, reporter, sata)
}

/// What the guest that was cut off can still do: nothing.
fn cut_off(session: &Session, reporter: &mut Reporter<'_>, reach: &[crate::record::Mapped]) -> Result<()> {
    let port = session.guest.as_ref().and_then(Guest::port);
    match port.map(|p| read(&p, Area { lba: 0, sectors: 1 })) {
        Some(Err(error)) => {
            reporter.expect(true, &format!("the guest's driver reads the disk: {error}"), String::new)?;
        }
        other => reporter.fail(&format!("the guest's driver was expected to fail, and said {other:?}"))?,
    }
    let Some(first) = reach.first() else {
        return reporter.fail("the guest had no DMA memory");
    };
    let walk = session.board.translate(0, salvator::SATA_UTLB as usize, first.addr.0, true);
    let blocked = matches!(walk, Some(Err(_)));
    reporter.expect(
        blocked,
        &format!("the controller's DMA to the guest's memory at {} is blocked", first.addr),
        || format!("it arrives: {walk:?}"),
    )?;
    let mark = session.log.mark();
    session.board.run_pending();
    let faults = session.log.since(mark);
    reporter.events(faults.iter().filter(|r| matches!(r.event.kind, bindery::event::EventKind::IommuFault { .. })))
}

/// The host's own driver binds again, and finds on the disk what was last written there.
fn rebind(session: &Session, reporter: &mut Reporter<'_>, sata: &Device) -> Result<()> {
    let name = sata.name();
    if session.host.waiting().iter().any(|w| &*w.device == name) {
        return reporter.skip(&format!("{name} waits for its suppliers"));
    }
    if sata.driver_override().is_some() {
        must(session, reporter, "", &device_file(name, "driver_override"))?;
    }
    must(session, reporter, name, DRIVERS_PROBE)?;
    let Some(port) = session.port() else {
        return reporter.fail(&format!("{name} was not bound again"));
    };
    let Ok(capacity) = capacity(&port) else {
        return reporter.fail("the driver has let go of the disk");
    };
    let (host, guest) = Area::of(capacity);
    let handed_over = session.guests.checked.iter().any(|n| *n > 0);
    let (area, wanted, whose) = if handed_over {
        (guest, pattern("guest", guest), "the guest")
    } else {
        (host, pattern("the file's owner", host), "the file's owner")
    };
    match read(&port, area) {
        Ok(bytes) => {
            compare(reporter, &format!("bound again; the host reads what {whose} wrote to {area}"), &wanted, &bytes)
        }
        Err(error) => reporter.fail(&format!("the host reads: {error}")),
    }
}
