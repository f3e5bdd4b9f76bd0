//! Errors that QEMU injects (`pcie_aer_inject_error`), and slots, as QEMU's root ports signal them: nobody looks at a port.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bindery::event::{Cause, Event, EventKind};
use bindery::machine::{Handle, Machine, Policy};
use bindery::pci::FunctionId;
use bindery_drivers::edu::Edu;
use bindery_drivers::pci_host::PciHost;
use bindery_qtest::{Machine as Qemu, Options, QemuEnv};
use common::{DMA_MASK, Target};
use serde_json::{Value, json};

const PORT: FunctionId = FunctionId { segment: 0, bus: 0, device: 1, function: 0 };
/// What is behind the root port: a switch, with `edu` behind it; both ports report errors.
const UPSTREAM: &str = "0000:01:00.0";
const DOWNSTREAM: &str = "0000:02:00.0";
const EDU: &str = "0000:03:00.0";

struct Rig {
    target: Arc<QemuEnv>,
    machine: Handle,
    events: Arc<Mutex<Vec<Event>>>,
    edu: &'static str,
}

impl Rig {
    /// With `edu` behind a switch, or in the slot of the root port.
    fn new(machine: Qemu, switch: bool) -> Self {
        let options = Options::new(machine).device("pcie-root-port,id=rp,bus=pcie.0,addr=1,chassis=1,slot=1");
        let options = if switch {
            let options = options.device("x3130-upstream,id=up,bus=rp");
            options.device("xio3130-downstream,id=down,bus=up,chassis=2,slot=1")
        } else {
            options
        };
        let (bus, edu) = if switch { ("down", EDU) } else { ("rp", UPSTREAM) };
        let options = options.device(&format!("edu,id=edu,bus={bus},dma_mask={DMA_MASK:#x}"));
        let target = Arc::new(QemuEnv::start(&options).unwrap());
        let machine = Machine::new(target.env(), Policy::default());
        machine.register(PciHost::default());
        machine.register(Edu { dma_bits: 32 });
        let events = Arc::new(Mutex::new(Vec::<Event>::new()));
        let seen = Arc::clone(&events);
        let keep = move |event: &Event| seen.lock().unwrap_or_else(PoisonError::into_inner).push(event.clone());
        target.on_event(Arc::new(keep));
        target.describe(&machine);
        machine.settle();
        // Each port reports errors.
        let logs = |event: &Event| matches!(event.kind, EventKind::Log { .. }) && event.device.as_deref() != Some(edu);
        let mut logs: Vec<_> =
            events.lock().unwrap().drain(..).filter(logs).map(|event| event.kind.to_string()).collect();
        logs.retain(|log| !log.contains("no usable entry"));
        assert_eq!(logs, [""; 0]);
        Self { target, machine, events, edu }
    }

    fn inject(&self, arguments: &str) {
        let line = format!("pcie_aer_inject_error {arguments}");
        let said = self.target.monitor("human-monitor-command", &json!({ "command-line": line })).unwrap();
        assert!(said.as_str().is_some_and(|said| said.starts_with("OK")), "{line}: {said}");
    }

    /// Lets device time pass until `done`.
    #[track_caller]
    fn until(&self, what: &str, done: impl Fn(&Self) -> bool) {
        let clock = self.machine.system_clock();
        for _ in 0..20_000 {
            if done(self) {
                return;
            }
            clock.wait_until(Duration::from_millis(10), Duration::from_millis(10), || false);
            self.machine.run_queued();
            // Work is done on threads.
            std::thread::sleep(Duration::from_millis(2));
        }
        panic!("{what}: {:#?}", self.events.lock().unwrap());
    }

    fn ends(&self) -> Vec<(String, Cause)> {
        let events = self.events.lock().unwrap();
        let end = |event: &Event| match &event.kind {
            EventKind::Unbound { cause, .. } => Some((event.device.as_deref()?.to_owned(), *cause)),
            _ => None,
        };
        events.iter().filter_map(end).collect()
    }

    fn said(&self) -> Vec<String> {
        let events = self.events.lock().unwrap();
        let tells = |event: &&Event| {
            matches!(event.kind, EventKind::BusError { .. } | EventKind::LinkDown { .. } | EventKind::LinkUp)
        };
        let line = |event: &Event| format!("{}: {}", event.device.as_deref().unwrap_or("-"), event.kind);
        events.iter().filter(tells).map(line).collect()
    }

    fn forget(&self) {
        self.events.lock().unwrap().clear();
    }

    #[track_caller]
    fn assert_works(&self) {
        let is_bound =
            |rig: &Self| rig.machine.client::<Edu>(rig.edu).is_some_and(|client| client.call(|_| ()).is_ok());
        self.until("bound again", is_bound);
        let client = self.machine.client::<Edu>(self.edu).unwrap();
        let mut back = [0; 5];
        let written = client.call(|port| port.write(7, b"bytes"));
        assert_eq!((written, self.target.error()), (Ok(Ok(())), None));
        client.call(|port| port.read(7, &mut back)).unwrap().unwrap();
        assert_eq!(&back, b"bytes");
        assert_eq!((self.machine.promises().broken(), self.target.error()), (vec![], None));
    }
}

fn errors(machine: Qemu) {
    let rig = Rig::new(machine, true);
    rig.assert_works();
    let port = PORT.to_string();
    // A correctable one ends nothing. QEMU 7.2 does not tell the root port of it.
    rig.inject("-c down RCVR");
    for (id, at, error, name) in
        [("up", UPSTREAM, "MALF_TLP", "malformed request"), ("down", DOWNSTREAM, "DLP", "data link protocol error")]
    {
        rig.forget();
        rig.inject(&format!("{id} {error}"));
        rig.until("ended", |rig| !rig.ends().is_empty());
        assert_eq!(rig.ends(), [(EDU.to_owned(), Cause::UncorrectableError)]);
        rig.until("up", |rig| rig.said().iter().any(|line| line.ends_with(": link up")));
        rig.assert_works();
        let said = rig.said();
        let told = format!("{at}: fatal error, told to {port}: {name}");
        assert!(said.iter().any(|line| line.starts_with(&told)), "{said:?}");
        assert!(said.iter().any(|line| line.contains("link down")), "{said:?}");
    }
    // One that is not fatal: the devices respond.
    rig.forget();
    rig.inject("down COMP_TIME");
    rig.until("ended", |rig| !rig.ends().is_empty());
    assert_eq!(rig.ends(), [(EDU.to_owned(), Cause::UncorrectableError)]);
    rig.until("up", |rig| rig.said().iter().any(|line| line.ends_with(": link up")));
    rig.assert_works();
    let quiesced = EventKind::Quiesced { how: "stopped".into() };
    assert!(rig.events.lock().unwrap().iter().any(|event| event.kind == quiesced), "its driver has stopped it");
}

/// Slots, without anybody who looks at them.
fn slots(machine: Qemu) {
    let rig = Rig::new(machine, false);
    rig.assert_works();
    let edu: Value = json!({ "driver": "edu", "id": "edu", "dma_mask": DMA_MASK, "bus": "rp" });
    for _ in 0..2 {
        rig.forget();
        rig.target.monitor("device_del", &json!({ "id": "edu" })).unwrap();
        rig.until("removed", |rig| rig.machine.device(rig.edu).is_none());
        assert_eq!(rig.ends(), [(rig.edu.to_owned(), Cause::DeviceRemoved)]);
        let listed = |rig: &Rig| rig.target.monitor("qom-list", &json!({ "path": "/machine/peripheral" })).unwrap();
        rig.until("taken out", |rig| !listed(rig).to_string().contains("\"edu\""));
        rig.target.monitor("device_add", &edu).unwrap();
        rig.assert_works();
    }
}

#[test]
#[ignore = "needs qemu-system-x86_64"]
fn errors_of_q35() {
    errors(Qemu::Q35);
    slots(Qemu::Q35);
}

#[test]
#[ignore = "needs qemu-system-aarch64"]
fn errors_of_virt() {
    errors(Qemu::Virt);
    slots(Qemu::Virt);
}
