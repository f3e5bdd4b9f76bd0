//! Stress test: bindings, removals, driver registrations, pass-through, clients and readers race on one machine.
//!
//! `BINDERY_THREADS_SECONDS` sets the duration (default: 3). A watchdog aborts the process with a report when a thread
//! has made no step for a long time, which is a deadlock.

mod common;

use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bindery::machine::{Machine, Policy};
use bindery_drivers::ipmmu_vmsa::IpmmuVmsa;
use bindery_drivers::sata_rcar::SataRcar;
use bindery_drivers::vfio::Vfio;
use bindery_sim::salvator::Salvator;
use common::fixture::Fixture;
use common::{CPG, IPMMU_HC, IPMMU_MM, SATA};

/// Duration of one step after which a thread counts as deadlocked.
const STALL_LIMIT: Duration = Duration::from_mins(1);
/// Sectors of the disk.
const SECTORS: u16 = 4096;

/// Pseudo-random numbers, different for each thread and the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }

    fn one_of<'a>(&mut self, names: &[&'a str]) -> &'a str {
        names[self.below(names.len() as u64) as usize]
    }
}

/// State shared by the threads.
struct Arena {
    fixture: Fixture,
    /// Completed reads of the disk.
    reads: AtomicU64,
}

impl Arena {
    fn machine(&self) -> &std::sync::Arc<Machine> {
        &self.fixture.rig.machine
    }
}

/// One step of a thread. Errors are ignored: concurrent actions may cause them.
type Act = fn(&Arena, &mut Random);

const ACTS: [(&str, Act); 9] = [
    ("bind and unbind", |w, random| {
        let driver = random.one_of(&["sata_rcar", "ipmmu-vmsa", "vfio-platform"]);
        let device = random.one_of(&[SATA, IPMMU_HC, IPMMU_MM]);
        let verb = random.one_of(&["bind", "unbind"]);
        let _ = w.fixture.tree.write(&format!("/sys/bus/platform/drivers/{driver}/{verb}"), device);
    }),
    ("settle", |w, _| {
        w.machine().settle();
    }),
    ("settle again", |w, _| {
        w.machine().settle();
    }),
    ("remove and add devices", |w, random| {
        let desc = &w.fixture.descs[random.below(w.fixture.descs.len() as u64) as usize];
        match random.below(8) {
            0 => drop(w.machine().device_vanished(&desc.name)),
            _ => drop(w.machine().remove_device(&desc.name)),
        }
        let _ = w.machine().add_device(desc.clone());
    }),
    ("unregister and register drivers", |w, random| match random.below(3) {
        0 => {
            w.machine().unregister("sata_rcar");
            w.machine().register(SataRcar);
        }
        1 => {
            w.machine().unregister("ipmmu-vmsa");
            w.machine().register(IpmmuVmsa);
        }
        _ => {
            w.machine().unregister("vfio-platform");
            w.machine().register(Vfio::default());
        }
    }),
    ("pass through and reclaim", |w, random| {
        let Some(device) = w.machine().device(SATA) else { return };
        let to = random.one_of(&["vfio-platform", ""]);
        device.set_driver_override(Some(to).filter(|d| !d.is_empty()));
        if let Some(holder) = device.driver() {
            let _ = w.machine().unbind(SATA, holder);
        }
        let _ = w.machine().probe(SATA);
        if let Some(client) = w.machine().client::<Vfio>(SATA)
            && let Ok(session) = Vfio::open(&client)
        {
            let _ = session.reset();
        }
    }),
    ("read the disk", read_the_disk),
    ("read the disk again", read_the_disk),
    ("read all state", |w, random| {
        let machine = w.machine();
        match random.below(5) {
            0 => {
                for device in machine.devices() {
                    let _ = (machine.device_info(&device), machine.links(&device), machine.resources(&device));
                }
            }
            1 => drop(machine.resource_usage()),
            2 => drop((machine.waiting(), machine.cycles(), machine.quarantine())),
            3 => machine.groups().iter().for_each(|g| drop(g.info())),
            _ => w.fixture.tree.walk().for_each(drop),
        }
    }),
];

fn read_the_disk(w: &Arena, random: &mut Random) {
    if w.fixture.read_the_disk(random.below(u64::from(SECTORS))) {
        w.reads.fetch_add(1, Ordering::Relaxed);
    } else {
        thread::yield_now();
    }
}

/// Progress of a thread, for the watchdog.
#[derive(Default)]
struct Pulse {
    steps: AtomicU64,
    ended: AtomicBool,
}

/// Aborts when a thread is deadlocked; a join would wait for ever.
fn watch(pulses: &[Pulse]) {
    let mut last: Vec<(u64, Instant)> = vec![(u64::MAX, Instant::now()); pulses.len()];
    while !pulses.iter().all(|p| p.ended.load(Ordering::Relaxed)) {
        thread::sleep(Duration::from_millis(50));
        for (pulse, (steps, since)) in pulses.iter().zip(&mut last) {
            let now = pulse.steps.load(Ordering::Relaxed);
            if now != *steps || pulse.ended.load(Ordering::Relaxed) {
                (*steps, *since) = (now, Instant::now());
            } else if since.elapsed() > STALL_LIMIT {
                eprintln!("deadlock: a thread made no step for {STALL_LIMIT:?}\n{}", report(pulses));
                std::process::abort();
            }
        }
    }
}

fn report(pulses: &[Pulse]) -> String {
    let mut text = String::new();
    for ((name, _), pulse) in ACTS.iter().zip(pulses) {
        let _ = writeln!(text, "  {name}: {} steps", pulse.steps.load(Ordering::Relaxed));
    }
    text
}

fn race(arena: &Arena, time: Duration) {
    let pulses: Vec<Pulse> = ACTS.iter().map(|_| Pulse::default()).collect();
    let end = Instant::now() + time;
    thread::scope(|scope| {
        scope.spawn(|| watch(&pulses));
        for (n, ((_, act), pulse)) in ACTS.iter().zip(&pulses).enumerate() {
            scope.spawn(move || {
                // Set even when the action panics, so that the watchdog does not report a deadlock.
                let _told = DoneGuard(pulse);
                let mut random = Random(0x9e37_79b9_7f4a_7c15 + n as u64);
                while Instant::now() < end {
                    act(arena, &mut random);
                    pulse.steps.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    eprintln!("{}  reads: {}", report(&pulses), arena.reads.load(Ordering::Relaxed));
}

struct DoneGuard<'a>(&'a Pulse);

impl Drop for DoneGuard<'_> {
    fn drop(&mut self) {
        self.0.ended.store(true, Ordering::Relaxed);
    }
}

fn seconds() -> u64 {
    std::env::var("BINDERY_THREADS_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(3)
}

fn race_and_recover(policy: Policy) {
    let fixture = Fixture::new(Salvator::new().cpus(4), SECTORS, policy, &[CPG]);
    let arena = Arena { fixture, reads: AtomicU64::new(0) };
    race(&arena, Duration::from_secs(seconds()));
    arena.fixture.assert_recovered();
}

#[test]
fn races_behind_the_iommu_end_in_a_settled_machine_with_nothing_left() {
    race_and_recover(Policy::default());
}

#[test]
fn races_without_translation_end_in_a_settled_machine_with_nothing_left() {
    race_and_recover(Policy { untranslated_dma: true, ..Policy::default() });
}
