//! Slots of QEMU's root ports, as the host bridge's driver sees them: `device_del` and `device_add` over QEMU's monitor.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;
use std::time::Duration;

use bindery::env::Env;
use bindery::event::{Cause, EventKind};
use bindery::machine::{Handle, Machine, Policy};
use bindery::pci::FunctionId;
use bindery_drivers::edu::Edu;
use bindery_drivers::pci_host::PciHost;
use bindery_qtest::{Machine as Qemu, Options, QemuEnv};
use common::{DMA_MASK, Target};
use serde_json::{Value, json};

const PORT: FunctionId = FunctionId { segment: 0, bus: 0, device: 1, function: 0 };
const EDU: &str = "0000:01:00.0";

struct Rig {
    target: Arc<QemuEnv>,
    machine: Handle,
    host: String,
}

impl Rig {
    fn new(machine: Qemu, device: Option<&str>) -> Self {
        let options = Options::new(machine).device("pcie-root-port,id=rp,bus=pcie.0,addr=1,chassis=1,slot=1");
        let options = device.into_iter().fold(options, Options::device);
        let target = Arc::new(QemuEnv::start(&options).unwrap());
        let machine = Machine::new(target.env(), Policy::default());
        machine.register(PciHost::default());
        machine.register(Edu { dma_bits: 32 });
        target.describe(&machine);
        machine.settle();
        let host = machine.devices().into_iter().find(|d| d.driver() == Some("pci-host-generic"));
        let host = host.expect("the host bridge is bound").name().to_owned();
        Self { target, machine, host }
    }

    fn check(&self) -> usize {
        let changes = PciHost::check_slots(&self.machine, &self.host).unwrap();
        self.machine.settle();
        // QEMU takes the device out after the slot's power has gone.
        self.target.advance(self.target.now() + Duration::from_millis(1));
        changes
    }

    fn driver(&self) -> Option<&'static str> {
        self.machine.device(EDU).and_then(|device| device.driver())
    }

    #[track_caller]
    fn assert_works(&self) {
        assert_eq!(self.driver(), Some("edu"));
        let client = self.machine.client::<Edu>(EDU).unwrap();
        let mut back = [0; 5];
        client.call(|port| port.write(7, b"bytes")).unwrap().unwrap();
        client.call(|port| port.read(7, &mut back)).unwrap().unwrap();
        assert_eq!(&back, b"bytes");
    }

    fn monitor(&self, command: &str, arguments: &Value) {
        self.target.monitor(command, arguments).unwrap();
    }
}

fn edu() -> Value {
    json!({ "driver": "edu", "id": "edu", "dma_mask": DMA_MASK, "bus": "rp" })
}

/// QEMU asks by the attention button; the driver removes the device and switches the slot off, and QEMU takes it out.
fn by_the_monitor(machine: Qemu) {
    let rig = Rig::new(machine, Some(&format!("edu,id=edu,bus=rp,dma_mask={DMA_MASK:#x}")));
    for _ in 0..3 {
        rig.assert_works();
        assert_eq!(rig.check(), 0);
        rig.monitor("device_del", &json!({ "id": "edu" }));
        assert_eq!((rig.check(), rig.machine.device(EDU).is_none()), (1, true));
        assert_eq!(rig.check(), 0);
        let listed = rig.target.monitor("qom-list", &json!({ "path": "/machine/peripheral" })).unwrap();
        assert!(!listed.to_string().contains("\"edu\""), "QEMU has taken it out: {listed}");
        rig.monitor("device_add", &edu());
        assert_eq!(rig.check(), 1);
    }
    rig.assert_works();
    assert_eq!((rig.machine.promises().broken(), rig.target.error()), (vec![], None));
}

/// It goes without a word, while it is bound.
fn by_surprise(machine: Qemu) {
    let rig = Rig::new(machine, Some(&format!("edu,id=edu,bus=rp,dma_mask={DMA_MASK:#x}")));
    rig.assert_works();
    let causes = Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = Arc::clone(&causes);
    rig.target.on_event(Arc::new(move |event| {
        if let EventKind::Unbound { cause, .. } = &event.kind {
            seen.lock().unwrap().push(*cause);
        }
    }));
    rig.target.unplug("edu", PORT).unwrap();
    assert_eq!((rig.check(), rig.machine.device(EDU).is_none()), (1, true));
    assert_eq!(*causes.lock().unwrap(), [Cause::SurpriseRemoved]);
    assert_eq!((rig.check(), rig.machine.quarantine()), (0, vec![]));
    rig.target.plug("rp", PORT, json!({ "driver": "edu", "id": "edu", "dma_mask": DMA_MASK })).unwrap();
    assert_eq!(rig.check(), 1);
    rig.assert_works();
    assert_eq!((rig.machine.promises().broken(), rig.target.error()), (vec![], None));
}

/// A port that had nothing behind it when it was found has addresses for what comes.
fn into_an_empty_slot(machine: Qemu) {
    let rig = Rig::new(machine, None);
    assert_eq!((rig.check(), rig.driver()), (0, None));
    rig.monitor("device_add", &edu());
    assert_eq!(rig.check(), 1);
    rig.assert_works();
    assert_eq!((rig.machine.promises().broken(), rig.target.error()), (vec![], None));
}

#[test]
#[ignore = "needs qemu-system-x86_64"]
fn slots_of_q35() {
    by_the_monitor(Qemu::Q35);
    by_surprise(Qemu::Q35);
    into_an_empty_slot(Qemu::Q35);
}

#[test]
#[ignore = "needs qemu-system-aarch64"]
fn slots_of_virt() {
    by_the_monitor(Qemu::Virt);
    by_surprise(Qemu::Virt);
    into_an_empty_slot(Qemu::Virt);
}
