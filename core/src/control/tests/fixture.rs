//! Fixture: a machine with a bus `soc`, an IOMMU, two disks in one IOMMU group, and a lamp without DMA.

use alloc::sync::Arc;
use std::string::String;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::vec::Vec;

use super::iommu::FakeIommu;
use crate::binding::Bound;
use crate::control::{ControlError, Tree};
use crate::device::{DeviceDesc, Supplier, SupplierKind};
use crate::driver::{DmaOwner, Driver, Errno, Match, ProbeError, QuiesceError, Quiesced};
use crate::env::fake::FakeEnv;
use crate::event::EventKind;
use crate::iommu::Grouping;
use crate::machine::{Handle, Policy};

struct MirrorDriver(Arc<AtomicBool>);

impl Driver for MirrorDriver {
    const NAME: &'static str = "mirror";
    const MATCHES: &'static [Match] = &[Match::compatible("acme,iommu")];
    type Data<'b> = ();
    fn probe(&self, dev: Bound<'_>) -> Result<(), ProbeError> {
        Ok(dev.iommu_provider().provide(Arc::new(FakeIommu {
            name: "10.iommu",
            grouping: Grouping::PerInstance,
            has_lazy_domains: false,
            dead: Arc::clone(&self.0),
        }))?)
    }
    fn quiesce((): &()) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::stopped())
    }
}

type Hook = Arc<dyn Fn() + Send + Sync>;

/// Hooks in the disk's driver: at the end of probe, and at the release of the first and of the last of its resources,
/// with a coherent buffer between them.
#[derive(Clone, Default)]
pub(super) struct Hooks {
    in_probe: Arc<Mutex<Option<Hook>>>,
    in_release: Arc<Mutex<Option<Hook>>>,
    /// Error that the probe returns, if any.
    pub(super) answer: Arc<Mutex<Option<ProbeError>>>,
}

fn run(slot: &Mutex<Option<Hook>>) {
    let hook = slot.lock().unwrap().clone();
    if let Some(hook) = hook {
        hook();
    }
}

impl Hooks {
    pub(super) fn in_probe(&self, hook: impl Fn() + Send + Sync + 'static) {
        *self.in_probe.lock().unwrap() = Some(Arc::new(hook));
    }
    pub(super) fn in_release(&self, hook: impl Fn() + Send + Sync + 'static) {
        *self.in_release.lock().unwrap() = Some(Arc::new(hook));
    }
    pub(super) fn clear(&self) {
        *self.in_probe.lock().unwrap() = None;
        *self.in_release.lock().unwrap() = None;
    }
}

struct Disk(Hooks);

impl Driver for Disk {
    const NAME: &'static str = "disk";
    const MATCHES: &'static [Match] = &[Match::compatible("acme,disk")];
    type Data<'b> = ();
    fn probe(&self, dev: Bound<'_>) -> Result<(), ProbeError> {
        let (first, last) = (self.0.clone(), self.0.clone());
        dev.action("released last", move || run(&last.in_release))?;
        let _ring = dev.dma().coherent(4096)?;
        dev.action("released first", move || run(&first.in_release))?;
        run(&self.0.in_probe);
        let answer = self.0.answer.lock().unwrap().clone();
        answer.map_or(Ok(()), Err)
    }
    fn quiesce((): &()) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::stopped())
    }
}

/// Pass-through driver.
struct Guest;

impl Driver for Guest {
    const NAME: &'static str = "guest";
    const MATCHES: &'static [Match] = &[];
    const DMA: DmaOwner = DmaOwner::PassThrough;
    type Data<'b> = ();
    fn probe(&self, _: Bound<'_>) -> Result<(), ProbeError> {
        Ok(())
    }
    fn quiesce((): &()) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::stopped())
    }
}

/// Driver of the lamp, with `SUPPRESS_BIND_ATTRS`.
pub(super) struct Lamp;

impl Driver for Lamp {
    const NAME: &'static str = "lamp";
    const MATCHES: &'static [Match] = &[Match::compatible("acme,lamp")];
    const SUPPRESS_BIND_ATTRS: bool = true;
    type Data<'b> = ();
    fn probe(&self, _: Bound<'_>) -> Result<(), ProbeError> {
        Ok(())
    }
    fn quiesce((): &()) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::never_started())
    }
}

pub(super) struct Fixture {
    pub(super) env: Arc<FakeEnv>,
    pub(super) machine: Handle,
    pub(super) tree: Tree,
    pub(super) hooks: Hooks,
    /// Makes the IOMMU fail to attach.
    pub(super) dead: Arc<AtomicBool>,
}

pub(super) const DISK: &str = "/sys/devices/platform/soc/20.disk";
pub(super) const DRIVERS: &str = "/sys/bus/platform/drivers";
pub(super) const GROUP: &str = "/sys/kernel/iommu_groups/0";

impl Fixture {
    /// All devices and drivers, but for the IOMMU's driver.
    pub(super) fn waiting() -> Self {
        let env = FakeEnv::new();
        let machine = env.machine(Policy::default());
        let node = |path: &str| machine.with_nodes(|n| n.find_or_add(path));
        let (soc, iommu) = (node("/soc"), node("/soc/iommu@10"));
        let mut desc = DeviceDesc::new("soc");
        (desc.node, desc.compatible) = (Some(soc), Vec::from(["simple-bus".into()]));
        machine.add_device(desc).unwrap();
        for (name, compatible, path, stream) in [
            ("10.iommu", "acme,iommu", "/soc/iommu@10", None),
            ("20.disk", "acme,disk", "/soc/disk@20", Some(2)),
            ("21.disk", "acme,disk", "/soc/disk@21", Some(3)),
            ("30.lamp", "acme,lamp", "/soc/lamp@30", None),
        ] {
            let mut desc = DeviceDesc::new(name);
            (desc.node, desc.parent) = (Some(node(path)), Some(soc));
            desc.compatible.push(compatible.into());
            desc.suppliers.extend(stream.map(|stream| Supplier {
                node: iommu,
                target: iommu,
                kind: SupplierKind::Iommu,
                property: "iommus".into(),
                args: Vec::from([stream]),
            }));
            machine.add_device(desc).unwrap();
        }
        let hooks = Hooks::default();
        machine.register(Disk(hooks.clone()));
        machine.register(Guest);
        machine.settle();
        let tree = Tree::new(&machine);
        Self { env, machine, tree, hooks, dead: Arc::default() }
    }

    /// All devices with a driver bound.
    pub(super) fn bound() -> Self {
        let fixture = Self::waiting();
        fixture.mirror();
        fixture
    }

    /// Registers the IOMMU's driver.
    pub(super) fn mirror(&self) {
        self.machine.register(MirrorDriver(Arc::clone(&self.dead)));
        self.machine.settle();
    }

    pub(super) fn cat(&self, path: &str) -> String {
        self.tree.read(path).unwrap_or_else(|e| panic!("{e}"))
    }

    pub(super) fn echo(&self, value: &str, path: &str) {
        self.tree.write(path, &std::format!("{value}\n")).unwrap_or_else(|e| panic!("{e}"));
        self.machine.settle();
    }

    pub(super) fn has(&self, path: &str) -> bool {
        let (dir, name) = path.rsplit_once('/').unwrap();
        let listed = self.tree.list(dir).is_ok_and(|l| l.iter().any(|e| e.name == name));
        let found = self.tree.read(path).is_ok() || self.tree.list(path).is_ok() || self.tree.read_link(path).is_ok();
        let writable = self.tree.read(path).is_err_and(|e| e.errno == Errno::EACCES);
        assert_eq!(listed, found || writable, "{path}: what is listed can be found and the other way round");
        listed
    }

    /// The events of kind `Control`, as path, value and result.
    pub(super) fn control_events(&self) -> Vec<(String, String, String)> {
        let events = self.env.events.lock().unwrap();
        let one = |k: &EventKind| match k {
            EventKind::Control { path, value, result } => Some((path.clone(), value.clone(), result.clone())),
            _ => None,
        };
        events.iter().filter_map(|e| one(&e.kind)).collect()
    }

    pub(super) fn promises_hold(&self) {
        assert_eq!(self.machine.promises().broken(), []);
    }
}

/// The error number of a failed call.
pub(super) fn errno<T: core::fmt::Debug>(result: Result<T, ControlError>) -> Errno {
    result.unwrap_err().errno
}
