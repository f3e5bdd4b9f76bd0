//! The real core, on a board without devices of its own, given the same requests.

use std::sync::Arc;

use bindery::addr::{DeviceAddr, PhysAddr};
use bindery::binding::{Bound, Phase};
use bindery::device::{DeviceDesc, NodeId, Supplier, SupplierKind};
use bindery::driver::{DmaOwner, Driver, Match, ProbeError, QuiesceError, Quiesced};
use bindery::iommu::{
    DomainKind, Gather, Geometry, Grouping, Iommu, IommuError, MapError, Owner, Prot, StreamId, Translation,
};
use bindery::machine::{BindError, Handle, Machine, Policy, UnbindError};
use bindery_sim::salvator::Salvator;

use crate::fixture::{self, Fixture, GUEST};
use crate::model::{self, Refused, Request};
use crate::view::{Seen, View};

/// Drivers that need nothing but their device; that of the IOMMU provides translation.
macro_rules! drivers {
    ($($driver:ident $name:literal $matches:expr, $owner:ident;)*) => { $(
        struct $driver;

        impl Driver for $driver {
            const NAME: &'static str = $name;
            const MATCHES: &'static [Match] = $matches;
            const DMA: DmaOwner = DmaOwner::$owner;
            type Data<'b> = ();

            fn probe(&self, dev: Bound<'_>) -> Result<(), ProbeError> {
                if $name == "mmu" {
                    dev.iommu_provider().provide(Arc::new(Mmu))?;
                }
                Ok(())
            }

            fn quiesce((): &()) -> Result<Quiesced, QuiesceError> {
                Ok(Quiesced::never_started())
            }
        }
    )*

    fn register(machine: &Arc<Machine>, driver: fixture::Driver) -> bool {
        match driver {
            $($name => machine.register($driver),)*
            _ => panic!("no driver {driver}"),
        }
    }
    };
}

drivers! {
    Clock "clock" &[Match::compatible("clock")], Kernel;
    MmuDriver "mmu" &[Match::compatible("mmu")], Kernel;
    Master "master" &[Match::compatible("master")], Kernel;
    Leaf "leaf" &[Match::compatible("leaf")], Kernel;
    Guest "guest" &[], PassThrough;
}

/// An IOMMU that nobody does DMA through.
struct Mmu;

impl Iommu for Mmu {
    fn name(&self) -> String {
        "mmu".into()
    }

    fn stream(&self, cells: &[u32]) -> Result<StreamId, IommuError> {
        cells.first().map(|c| StreamId(*c)).ok_or(IommuError::NoSuchStream)
    }

    fn grouping(&self) -> Grouping {
        Grouping::PerInstance
    }

    fn geometry(&self) -> Geometry {
        Geometry { first: DeviceAddr(0), last: DeviceAddr(u32::MAX.into()), page_sizes: 1 << 12, reserved: Vec::new() }
    }

    fn cache_coherent(&self) -> bool {
        true
    }

    fn domain(&self, _: DomainKind) -> Result<Arc<dyn Translation>, IommuError> {
        Ok(Arc::new(Nothing))
    }

    fn attach(&self, _: StreamId, _: &Arc<dyn Translation>) -> Result<(), IommuError> {
        Ok(())
    }
}

/// A translation of nothing.
struct Nothing;

impl Translation for Nothing {
    fn map(&self, iova: DeviceAddr, _: PhysAddr, _: u64, _: Prot) -> Result<(), MapError> {
        Err(MapError::OutOfRange(iova))
    }

    fn unmap(&self, iova: DeviceAddr, _: u64, _: &mut Gather) -> Result<(), MapError> {
        Err(MapError::Missing(iova))
    }

    fn flush(&self, _: &mut Gather) -> Result<(), IommuError> {
        Ok(())
    }

    fn resolve(&self, _: DeviceAddr) -> Option<PhysAddr> {
        None
    }

    fn label(&self) -> String {
        "nothing".into()
    }
}

/// A machine with the devices of `fixture`, or some of them.
pub(crate) struct Real {
    fixture: Fixture,
    machine: Handle,
    nodes: Vec<NodeId>,
}

impl Real {
    pub(crate) fn empty(fixture: Fixture) -> Self {
        let board = Salvator::new().frames(1 << 12).contiguous(1 << 12).build();
        let machine = board.machine(Policy::default());
        let nodes = machine
            .with_nodes(|nodes| fixture.devices.iter().map(|d| nodes.find_or_add(&format!("/{}", d.name))).collect());
        Self { fixture, machine, nodes }
    }

    fn name(&self, d: usize) -> &'static str {
        self.fixture.devices[d].name
    }

    fn desc(&self, d: usize) -> DeviceDesc {
        let spec = &self.fixture.devices[d];
        let mut desc = DeviceDesc::new(spec.name);
        desc.node = Some(self.nodes[d]);
        desc.compatible.push(spec.driver.into());
        desc.suppliers.extend(spec.suppliers.iter().map(|s| Supplier {
            node: self.nodes[*s],
            target: self.nodes[*s],
            kind: if spec.behind == Some(*s) { SupplierKind::Iommu } else { SupplierKind::Other },
            property: "needs".into(),
            args: vec![d as u32],
        }));
        desc
    }

    /// Executes a request.
    pub(crate) fn execute(&self, request: Request) -> Result<(), Refused> {
        let done = |yes: bool, or: Refused| if yes { Ok(()) } else { Err(or) };
        let machine = &self.machine;
        match request {
            Request::Register(driver) => done(register(machine, driver), Refused::Exists),
            Request::Unregister(driver) => done(machine.unregister(driver), Refused::NoDriver),
            Request::Add(d) => machine.add_device(self.desc(d)).map(drop).map_err(|_| Refused::Exists),
            Request::Remove(d) => done(machine.remove_device(self.name(d)), Refused::NoDevice),
            Request::Vanish(d) => done(machine.device_vanished(self.name(d)), Refused::NoDevice),
            Request::Bind(d, driver) => machine.bind(self.name(d), driver).map_err(|e| match e {
                BindError::NoDevice(_) => Refused::NoDevice,
                BindError::NoDriver(_) => Refused::NoDriver,
                BindError::NoMatch { .. } => Refused::NoMatch,
                BindError::Busy { .. } | BindError::Underway { .. } => Refused::Busy,
                BindError::Deferred { .. } => Refused::Deferred,
                BindError::Probe { .. } => Refused::Owned,
            }),
            Request::Unbind(d, driver) => machine.unbind(self.name(d), driver).map_err(|e| match e {
                UnbindError::NoDevice(_) => Refused::NoDevice,
                UnbindError::NotHeld { .. } => Refused::NotHeld,
            }),
            Request::GiveAway(d, given_away) => {
                let device = machine.device(self.name(d)).ok_or(Refused::NoDevice)?;
                device.set_driver_override(given_away.then_some(GUEST));
                Ok(())
            }
            Request::Settle => {
                machine.settle();
                Ok(())
            }
        }
    }

    /// The observable state.
    pub(crate) fn view(&self) -> View {
        let waiting = self.machine.waiting();
        let see = |name: &'static str| {
            let device = self.machine.device(name)?;
            assert!(matches!(device.phase(), Phase::Unbound | Phase::Bound), "{name} is {} at rest", device.phase());
            let mut waits_for: Vec<String> = waiting
                .iter()
                .filter(|w| &*w.device == name)
                .flat_map(|w| w.on.iter().filter_map(|on| Some(on.split_once(':')?.0.trim_matches('/').to_owned())))
                .collect();
            waits_for.sort();
            let mut links: Vec<_> = self
                .machine
                .links(&device)
                .into_iter()
                .map(|l| (l.supplier.trim_matches('/').to_owned(), l.state))
                .collect();
            links.sort();
            Some(Seen { bound: device.phase() == Phase::Bound, holder: device.driver(), waits_for, links })
        };
        let owner = match self.machine.groups().first().map(|g| g.info().owner) {
            None | Some(Owner::None) => model::Owner::Nobody,
            Some(Owner::Kernel(n)) => model::Owner::Kernel(n),
            Some(Owner::PassThrough(n)) => model::Owner::PassThrough(n),
        };
        View { devices: self.fixture.devices.iter().map(|d| (d.name, see(d.name))).collect(), owner }
    }

    /// The promises that were broken so far.
    pub(crate) fn broken(&self) -> Vec<String> {
        self.machine
            .promises()
            .broken()
            .into_iter()
            .map(|(promise, what)| format!("{}: {what}", promise.id()))
            .collect()
    }
}
