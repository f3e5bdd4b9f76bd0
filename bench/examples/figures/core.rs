//! Registers, interrupts, matching, and many devices.

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bindery::addr::PhysAddr;
use bindery::binding::{Bound, Mmio};
use bindery::device::{DeviceDesc, Resource};
use bindery::driver::{Driver, IrqReturn, Match, ProbeError, QuiesceError, Quiesced};
use bindery::env::{IrqLine, Trigger};
use bindery::machine::{Machine, Policy};
use bindery_bench::Idle;
use bindery_bench::target::Target;

use super::session::Session;

/// Driver with registers and an interrupt.
struct Wired;

impl Driver for Wired {
    const NAME: &'static str = "wired";
    const MATCHES: &'static [Match] = &[Match::compatible("bench,wired")];
    type Data<'b> = (Mmio<'b>, bindery::irq::Irq<'b>);

    fn probe<'b>(&self, dev: Bound<'b>) -> Result<Self::Data<'b>, ProbeError> {
        dev.mark_quiesced(Quiesced::never_started());
        Ok((dev.mmio(0)?, dev.request_irq(0, || IrqReturn::Handled)?))
    }

    fn quiesce(_: &Self::Data<'_>) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::never_started())
    }
}

pub(crate) fn registers_and_interrupts(session: &Session) {
    let target = Target::new(1 << 20, false);
    let machine = Machine::new(Arc::clone(&target) as _, Policy { check_dma: false, ..Policy::default() });
    let mut desc = DeviceDesc::new("wired");
    desc.compatible.push("bench,wired".into());
    desc.resources.push(Resource::Mem { base: PhysAddr(0x1000), len: 64 });
    desc.resources.push(Resource::Irq { line: IrqLine(3), trigger: Trigger::LevelHigh });
    machine.add_device(desc).expect("the name is new");
    machine.register(Wired);
    machine.settle();
    let client = machine.client::<Wired>("wired").expect("it is bound");
    let raw = AtomicU32::new(0);
    client
        .call(|(registers, _)| {
            session.compare(
                "register.read",
                10_000,
                || {
                    black_box(registers.read32(black_box(4)).unwrap_or(0));
                },
                || {
                    black_box(black_box(&raw).load(Ordering::Relaxed));
                },
            );
            session.compare(
                "register.write",
                10_000,
                || assert_eq!(registers.write32(black_box(4), 1), Ok(())),
                || black_box(&raw).store(1, Ordering::Relaxed),
            );
        })
        .expect("it stays bound");
    let sink = target.sink().expect("the machine is connected");
    session.count("interrupt", 1000, || sink.interrupt(IrqLine(3)));
    drop(client);
}

/// Driver of 16,000 ids.
struct Many;

impl Driver for Many {
    const NAME: &'static str = "many";
    const MATCHES: &'static [Match] = &MANY;
    type Data<'b> = ();

    fn probe(&self, _: Bound<'_>) -> Result<(), ProbeError> {
        Err(ProbeError::Device("never probed"))
    }

    fn quiesce((): &()) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::never_started())
    }
}

const IDS: usize = 16_000;
const ID_BYTES: usize = 11;

/// `acme,d00000`, `acme,d00001`, ...
static NAMES: [[u8; ID_BYTES]; IDS] = {
    let mut names = [*b"acme,d00000"; IDS];
    let mut n = 0;
    while n < IDS {
        let (mut rest, mut at) = (n, ID_BYTES);
        while at > 6 {
            at -= 1;
            names[n][at] = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        n += 1;
    }
    names
};
static MANY: [Match; IDS] = {
    let mut matches = [Match::compatible(""); IDS];
    let mut n = 0;
    while n < IDS {
        matches[n] = match std::str::from_utf8(&NAMES[n]) {
            Ok(name) => Match::compatible(name),
            Err(_) => panic!("the names are ASCII"),
        };
        n += 1;
    }
    matches
};

/// Finds the driver of a device among 16,000 ids; the peer is a hash map of the same names.
pub(crate) fn matching(session: &Session) {
    let target = Target::new(1 << 20, false);
    let machine = Machine::new(target as _, Policy::default());
    machine.register(Many);
    machine.set_autoprobe(false);
    let mut devices = Vec::new();
    for n in (0..IDS).step_by(160) {
        let mut desc = DeviceDesc::new(&format!("d{n}"));
        desc.compatible.push(String::from_utf8_lossy(&NAMES[n]).into());
        devices.push(machine.add_device(desc).expect("the name is new"));
    }
    let names: Vec<Arc<str>> = devices.iter().map(|d| Arc::clone(&d.desc().compatible[0])).collect();
    let map: HashMap<&str, usize> = MANY
        .iter()
        .enumerate()
        .filter_map(|(n, m)| if let Match::Compatible(name) = m { Some((*name, n)) } else { None })
        .collect();
    let (mut next, mut next_peer) = (0, 0);
    session.compare(
        "match.16000",
        1000,
        || {
            black_box(machine.candidates(&devices[next]).next());
            next = (next + 1) % devices.len();
        },
        || {
            black_box(map.get(&*names[next_peer]));
            next_peer = (next_peer + 1) % names.len();
        },
    );
}

/// Enumerates, binds and unbinds so many devices.
pub(crate) fn devices(session: &Session, count: u32) {
    let names: Vec<String> = (0..count).map(|n| format!("d{n}")).collect();
    let machine = Machine::new(Target::new(1 << 20, false) as _, Policy { check_dma: false, ..Policy::default() });
    machine.register(Idle);
    let resident = resident_bytes();
    let start = std::time::Instant::now();
    let mut next = 0;
    // Not warmed up: the devices exist once.
    let mut add = || {
        let mut desc = DeviceDesc::new(&names[next]);
        desc.compatible.push("bench,idle".into());
        machine.add_device(desc).expect("the name is new");
        next += 1;
    };
    session.once("devices", count, &mut || {
        (0..count).for_each(|_| add());
        assert_eq!(machine.settle().bound, u64::from(count));
        if let (Some(before), Some(after)) = (resident, resident_bytes()) {
            session.figure("devices.bytes", after.saturating_sub(before) as f64 / f64::from(count));
        }
        machine.unregister("idle");
    });
    session.figure("devices.seconds", start.elapsed().as_secs_f64());
}

/// Memory of this process that is in RAM. Linux only.
fn resident_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    Some(text.split_whitespace().nth(1)?.parse::<u64>().ok()? * 4096)
}
