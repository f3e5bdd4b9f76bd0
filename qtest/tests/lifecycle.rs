//! The driver of `edu` on the simulated board and on QEMU's machines: one source, the same tests.
//!
//! The device is found behind the machine's host bridge.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;
use std::time::Instant;

use bindery::driver::Gone;
use bindery::env::{Env, EnvError, Vector, VectorRequest};
use bindery::machine::{Handle, Machine, Policy};
use bindery::pci::FunctionId;
use bindery_drivers::edu::{Edu, EduError};
use bindery_drivers::pci_host::PciHost;
use bindery_qtest::{Machine as Qemu, QemuEnv};
use bindery_sim::board::Board;
use bindery_sim::interpose::Interpose;
use bindery_sim::virt;
use common::{Bench, Target, qemu, sim};

const EDU: &str = "0000:02:01.0";
const PORT: FunctionId = FunctionId { segment: 0, bus: 0, device: 1, function: 0 };

/// A target without messages.
struct PinsOnly(Arc<dyn Env>);

impl Interpose for PinsOnly {
    fn inner(&self) -> &dyn Env {
        &*self.0
    }

    fn alloc_vectors(&self, _: &VectorRequest<'_>) -> Result<Vec<Vector>, EnvError> {
        Err(EnvError::NoVectors)
    }
}

/// A target whose devices can be pulled out.
trait Removable: Target {
    /// Pulls out the bridge that the device is behind.
    fn pull_bridge(&self);
    fn assert_well(&self);
}

impl Removable for Arc<Board> {
    fn pull_bridge(&self) {
        self.unplug(virt::BRIDGE).unwrap();
    }
    fn assert_well(&self) {
        self.assert_clean();
    }
}

impl Removable for Arc<QemuEnv> {
    fn pull_bridge(&self) {
        self.unplug("br", PORT).unwrap();
    }
    fn assert_well(&self) {
        assert_eq!(self.error(), None);
    }
}

struct Rig<T> {
    bench: Bench<T>,
    machine: Handle,
    /// The host bridge.
    host: String,
}

impl<T: Removable> Rig<T> {
    /// A machine with the device, bound; its interrupts are messages or its pin.
    fn new(target: T, messages: bool) -> Self {
        let bench = Bench::new(target);
        let env = bench.target.env();
        let env = if messages { env } else { Arc::new(PinsOnly(env)).env() };
        let machine = Machine::new(env, Policy::default());
        machine.register(PciHost::default());
        machine.register(Edu { dma_bits: 32 });
        bench.target.describe(&machine);
        machine.settle();
        let host = machine.devices().into_iter().find(|d| d.driver() == Some("pci-host-generic"));
        let host = host.expect("the host bridge is bound").name().to_owned();
        let rig = Self { bench, machine, host };
        assert_eq!(rig.driver(), Some("edu"));
        let edu = rig.machine.device(EDU).unwrap();
        let messages_used = rig.machine.resources(&edu).iter().any(|r| (r.1, &*r.2) == ("vectors", "1 MSI"));
        assert_eq!(messages_used, messages);
        rig
    }

    /// Has the host bridge find its functions again.
    fn find_again(&self) {
        self.machine.unbind(&self.host, "pci-host-generic").unwrap();
        self.machine.bind(&self.host, "pci-host-generic").unwrap();
        self.machine.settle();
    }

    fn driver(&self) -> Option<&'static str> {
        self.machine.device(EDU).and_then(|device| device.driver())
    }

    fn write(&self, at: usize, from: &[u8]) -> Result<Result<(), EduError>, Gone> {
        self.machine.client::<Edu>(EDU).ok_or(Gone)?.call(|port| port.write(at, from))
    }

    fn read(&self, at: usize, to: &mut [u8]) -> Result<Result<(), EduError>, Gone> {
        self.machine.client::<Edu>(EDU).ok_or(Gone)?.call(|port| port.read(at, to))
    }

    fn unbind(&self) {
        self.machine.unbind(EDU, "edu").unwrap();
    }

    fn bind(&self) {
        self.machine.bind(EDU, "edu").unwrap();
    }

    fn assert_well(&self) {
        assert_eq!(self.machine.promises().broken(), []);
        self.bench.target.assert_well();
    }
}

fn is_bound_used_and_unbound<T: Removable>(target: T, messages: bool) {
    let rig = Rig::new(target, messages);
    rig.unbind();
    let before = rig.machine.resource_usage();
    rig.bind();
    let text = b"a source for both targets";
    assert_eq!(rig.write(100, text), Ok(Ok(())));
    let mut back = [0; 27];
    assert_eq!(rig.read(99, &mut back), Ok(Ok(())));
    assert_eq!((&back[1..26], back[0], back[26]), (&text[..], 0, 0));
    for (at, len) in [(4095, 1), (4000, 96), (0, 0), (usize::MAX, 2)] {
        assert_eq!(rig.write(at, &vec![1; len]), Ok(Err(EduError::Outside(at, len))));
    }
    rig.unbind();
    assert_eq!(rig.machine.resource_usage(), before);
    assert_eq!(rig.write(0, b"x").err(), Some(Gone));
    rig.assert_well();
}

/// A transfer that nobody waits for is under way when the binding ends: the end waits for it.
fn unbound_in_the_middle_of_a_transfer<T: Removable>(target: T, messages: bool) {
    let rig = Rig::new(target, messages);
    let ram = rig.bench.target.ram();
    rig.bench.target.write_ram(ram, b"written!");
    rig.bench.transfer(ram.0, 0x4_0000, 8, 1);
    assert_eq!(rig.bench.read(0x98) & 1, 1);
    rig.unbind();
    assert_eq!(rig.bench.read(0x98) & 1, 0, "it was waited for");
    rig.bind();
    let mut back = [0; 8];
    assert_eq!((rig.read(0, &mut back), &back), (Ok(Ok(())), b"written!"));
    rig.assert_well();
}

fn pulled_out_in_the_middle_of_a_transfer<T: Removable>(target: T, messages: bool) {
    let rig = Rig::new(target, messages);
    rig.unbind();
    let mut before = rig.machine.resource_usage();
    // The device itself is what goes.
    let child = format!("(\"child\", \"{EDU}\", \"core\"), ");
    before.bindings.iter_mut().for_each(|b| *b = b.replace(&child, ""));
    rig.bind();
    let ram = rig.bench.target.ram();
    rig.bench.target.write_ram(ram, b"kept....");
    rig.bench.transfer(0x4_0000, ram.0, 8, 7);
    rig.bench.target.pull_bridge();
    assert_eq!(rig.write(0, b"late"), Ok(Err(EduError::Gone)), "before anybody has told the machine");
    rig.machine.device_vanished(EDU);
    assert!(rig.machine.device(EDU).is_none());
    assert_eq!(rig.write(0, b"later"), Err(Gone));
    let mut bytes = [0; 8];
    rig.bench.target.read_ram(ram, &mut bytes);
    assert_eq!((&bytes, rig.machine.resource_usage()), (b"kept....", before));
    // Nothing is found where it was.
    rig.find_again();
    assert!(rig.machine.device(EDU).is_none());
    rig.assert_well();
}

/// Bus mastering is off: the device says that it is done, and no memory has changed.
fn without_bus_mastering<T: Removable>(target: T, messages: bool) {
    let rig = Rig::new(target, messages);
    assert_eq!(rig.write(0, b"secret"), Ok(Ok(())));
    assert_eq!(rig.write(100, b"public"), Ok(Ok(())));
    rig.bench.command(2);
    let mut back = [0; 6];
    if messages {
        // A message is a write to memory, too.
        assert_eq!((rig.read(0, &mut back), &back), (Ok(Err(EduError::TimedOut)), &[0; 6]));
    } else {
        assert_eq!((rig.read(0, &mut back), &back), (Ok(Ok(())), b"public"), "what the memory has had before");
    }
    rig.bench.command(6);
    assert_eq!((rig.read(0, &mut back), &back), (Ok(Ok(())), b"secret"));
    rig.assert_well();
}

fn five_hundred_cycles<T: Removable>(target: T, messages: bool) {
    let rig = Rig::new(target, messages);
    rig.unbind();
    let before = rig.machine.resource_usage();
    let start = Instant::now();
    for cycle in 0..500_u32 {
        rig.bind();
        if cycle % 50 == 0 {
            let mut back = [0; 4];
            assert_eq!(rig.write(8, &cycle.to_le_bytes()), Ok(Ok(())));
            assert_eq!((rig.read(8, &mut back), u32::from_le_bytes(back)), (Ok(Ok(())), cycle));
        }
        rig.unbind();
        assert_eq!(rig.machine.resource_usage(), before, "cycle {cycle}");
    }
    let took = start.elapsed();
    println!("500 lifecycles in {took:?}: {} a second", 500_000 / took.as_millis().max(1));
    rig.assert_well();
}

fn everything<T: Removable>(target: impl Fn() -> T) {
    for messages in [false, true] {
        is_bound_used_and_unbound(target(), messages);
        unbound_in_the_middle_of_a_transfer(target(), messages);
        pulled_out_in_the_middle_of_a_transfer(target(), messages);
        without_bus_mastering(target(), messages);
        five_hundred_cycles(target(), messages);
    }
}

#[test]
fn edu_of_the_board_lives_through_everything() {
    everything(sim);
}

#[test]
#[ignore = "needs qemu-system-x86_64"]
fn edu_of_q35_lives_through_everything() {
    everything(|| qemu(Qemu::Q35));
}

#[test]
#[ignore = "needs qemu-system-aarch64"]
fn edu_of_virt_lives_through_everything() {
    everything(|| qemu(Qemu::Virt));
}
