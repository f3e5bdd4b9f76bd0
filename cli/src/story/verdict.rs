//! Step 7: everything is taken back, and each promise is counted.

use bindery::promise::Promise;

use crate::failure::Result;
use crate::page::{BAD, DIM, GOOD, count};
use crate::record::Line;
use crate::teller::Teller;
use crate::world::{Tally, World};

pub(super) fn run(world: &mut World, teller: &mut Teller<'_>) -> Result<()> {
    world.end_guest();
    let bound = world.host.footprint().bindings.len();
    for driver in world.host.drivers() {
        world.host.unregister(driver);
    }
    let now = world.host.footprint();
    if let Some(fresh) = &world.fresh {
        let what = format!(
            "all drivers removed, {} taken back: the machine is as it was before the first probe",
            count(bound, "binding")
        );
        teller.expect(now == *fresh, &what, || format!("{now:?} instead of {fresh:?}"))?;
    }
    promises(world, teller)?;
    model_errors(world, teller)?;
    teller.gap()?;
    match teller.failures() {
        0 => {
            let checks = Tally::of(&world.host).checked.iter().chain(&world.guests.checked).sum::<u64>();
            let text = teller.page().paint(GOOD, format_args!("No promise was broken, in {checks} checks."));
            teller.text(text)
        }
        n => {
            let text = teller.page().paint(BAD, format_args!("{} above.", count(n as usize, "failure")));
            teller.text(text)
        }
    }
}

/// The table of promises, and a failure for each that was broken.
pub fn promises(world: &World, teller: &mut Teller<'_>) -> Result<()> {
    let host = Tally::of(&world.host);
    teller.gap()?;
    let head = teller.page().paint(DIM, format_args!("{:4} {:30} {:>8} {:>8}", "", "promise", "host", "guests"));
    teller.text(head)?;
    for (at, promise) in Promise::ALL.into_iter().enumerate() {
        let broken: Vec<&String> = host
            .broken
            .iter()
            .chain(&world.guests.broken)
            .filter(|(p, _)| *p == promise)
            .map(|(_, what)| what)
            .collect();
        for (machine, tally) in [("host", &host), ("guest", &world.guests)] {
            teller.mark(&Line::Promise {
                step: "verdict",
                machine,
                promise: promise.id(),
                title: promise.title(),
                checked: tally.checked[at],
                broken: tally.broken.iter().filter(|(p, _)| *p == promise).map(|(_, what)| what.clone()).collect(),
            })?;
        }
        let (on_host, on_guests) = (host.checked[at], world.guests.checked[at]);
        let page = teller.page();
        let verdict = if !broken.is_empty() {
            page.paint(BAD, "BROKEN")
        } else if on_host + on_guests == 0 {
            page.paint(DIM, "nothing here called for it")
        } else {
            page.paint(GOOD, "holds")
        };
        teller.text(format_args!(
            "{:4} {:30} {on_host:>8} {on_guests:>8}   {verdict}",
            promise.id(),
            promise.title()
        ))?;
        for what in broken {
            teller.fail(&format!("{} {}: {what}", promise.id(), promise.title()))?;
        }
    }
    let told = host.broken.len() + world.guests.broken.len();
    let all = host.broken_count + world.guests.broken_count;
    if all > told as u64 {
        teller.fail(&format!("{} more checks did not hold", all - told as u64))?;
    }
    Ok(())
}

/// What was done to the simulated hardware that real hardware does not forgive.
pub fn model_errors(world: &World, teller: &mut Teller<'_>) -> Result<()> {
    let errors = world.board.model_errors();
    for error in &errors {
        let what = error.to_string();
        teller.mark(&Line::ModelError { step: "verdict", what: what.clone() })?;
        teller.fail(&format!("the hardware was misused: {what}"))?;
    }
    if errors.is_empty() { teller.row("hardware", "used as its manual allows, without exception") } else { Ok(()) }
}

/// The verdict in one line, and a failure for each promise that was broken: for runs that are not the story.
pub fn run_quietly(world: &World, teller: &mut Teller<'_>) -> Result<()> {
    let tally = Tally::of(&world.host);
    for (promise, what) in &tally.broken {
        teller.fail(&format!("{} {}: {what}", promise.id(), promise.title()))?;
    }
    let checks = tally.checked.iter().sum::<u64>();
    let kept = Promise::ALL.iter().zip(tally.checked).filter(|(_, n)| *n > 0).count();
    let verdict =
        format!("{} on {}, {} broken", count(checks as usize, "check"), count(kept, "promise"), tally.broken_count);
    teller.row("promises", verdict)?;
    model_errors(world, teller)
}
