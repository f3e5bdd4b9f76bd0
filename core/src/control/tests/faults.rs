//! Rate limiting of IOMMU faults: of several devices behind one IOMMU, and across unbinds.

use alloc::sync::Arc;
use core::time::Duration;
use std::collections::BTreeMap;
use std::format;
use std::string::{String, ToString};
use std::sync::Mutex;
use std::vec::Vec;

use crate::addr::{DeviceAddr, PhysAddr};
use crate::binding::Bound;
use crate::device::{DeviceDesc, Supplier, SupplierKind};
use crate::driver::{DmaOwner, Driver, Match, ProbeError, QuiesceError, Quiesced};
use crate::env::fake::FakeEnv;
use crate::iommu::{
    Accessor, DomainKind, FaultReport, Gather, Geometry, Grouping, Iommu, IommuError, MapError, Prot, RefusedAccess,
    StreamId, Translation,
};
use crate::machine::{Handle, Policy};

/// Translation of each stream.
type Streams = Arc<Mutex<BTreeMap<u32, Arc<dyn Translation>>>>;

/// An IOMMU with one group per stream that translates nothing.
struct Wall(Streams);

/// A domain of it.
struct Space(DomainKind);

impl Translation for Space {
    fn map(&self, _: DeviceAddr, _: PhysAddr, _: u64, _: Prot) -> Result<(), MapError> {
        Ok(())
    }
    fn unmap(&self, _: DeviceAddr, _: u64, _: &mut Gather) -> Result<(), MapError> {
        Ok(())
    }
    fn flush(&self, _: &mut Gather) -> Result<(), IommuError> {
        Ok(())
    }
    fn resolve(&self, _: DeviceAddr) -> Option<PhysAddr> {
        None
    }
    fn label(&self) -> String {
        format!("a {} space", self.0)
    }
}

impl Iommu for Wall {
    fn name(&self) -> String {
        "wall".into()
    }
    fn stream(&self, cells: &[u32]) -> Result<StreamId, IommuError> {
        cells.first().copied().map(StreamId).ok_or(IommuError::NoSuchStream)
    }
    fn grouping(&self) -> Grouping {
        Grouping::PerStream
    }
    fn geometry(&self) -> Geometry {
        let (first, last) = (DeviceAddr(0x1000), DeviceAddr(0xffff_ffff));
        Geometry { first, last, page_sizes: 0x1000, reserved: Vec::new() }
    }
    fn cache_coherent(&self) -> bool {
        true
    }
    fn domain(&self, kind: DomainKind) -> Result<Arc<dyn Translation>, IommuError> {
        Ok(Arc::new(Space(kind)))
    }
    fn attach(&self, stream: StreamId, domain: &Arc<dyn Translation>) -> Result<(), IommuError> {
        self.0.lock().unwrap().insert(stream.0, Arc::clone(domain));
        Ok(())
    }
}

struct WallDriver(Streams);

impl Driver for WallDriver {
    const NAME: &'static str = "wall";
    const MATCHES: &'static [Match] = &[Match::compatible("acme,wall")];
    type Data<'b> = Bound<'b>;
    fn probe<'b>(&self, dev: Bound<'b>) -> Result<Bound<'b>, ProbeError> {
        dev.iommu_provider().provide(Arc::new(Wall(Arc::clone(&self.0))))?;
        Ok(dev)
    }
    fn quiesce(_: &Bound<'_>) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::never_started())
    }
}

macro_rules! drivers {
    ($($driver:ident $name:literal $owner:ident,)*) => { $(
        struct $driver;
        impl Driver for $driver {
            const NAME: &'static str = $name;
            const MATCHES: &'static [Match] = &[];
            const DMA: DmaOwner = DmaOwner::$owner;
            type Data<'b> = ();
            fn probe(&self, _: Bound<'_>) -> Result<(), ProbeError> {
                Ok(())
            }
            fn quiesce((): &()) -> Result<Quiesced, QuiesceError> {
                Ok(Quiesced::stopped())
            }
        }
    )* };
}

/// Maps a page in probe.
struct Mapper;

impl Driver for Mapper {
    const NAME: &'static str = "mapper";
    const MATCHES: &'static [Match] = &[];
    type Data<'b> = ();
    fn probe(&self, dev: Bound<'_>) -> Result<(), ProbeError> {
        drop(dev.dma().coherent(0x1000)?);
        Ok(())
    }
    fn quiesce((): &()) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::stopped())
    }
}

drivers! { Host "host" Kernel, Guest "guest" PassThrough, }

struct Fixture {
    env: Arc<FakeEnv>,
    machine: Handle,
    streams: Streams,
}

/// Devices and their streams. The last two share one, so the IOMMU cannot distinguish them.
const DEVICES: [(&str, u32); 4] = [("a", 1), ("b", 2), ("c", 3), ("d", 3)];

fn fixture() -> Fixture {
    let env = FakeEnv::new();
    let machine = env.machine(Policy::default());
    let node = machine.with_nodes(|n| n.find_or_add("/wall"));
    let mut wall = DeviceDesc::new("wall");
    (wall.node, wall.compatible) = (Some(node), Vec::from(["acme,wall".into()]));
    machine.add_device(wall).unwrap();
    for (name, stream) in DEVICES {
        let mut desc = DeviceDesc::new(name);
        let (kind, property) = (SupplierKind::Iommu, "iommus".into());
        desc.suppliers.push(Supplier { node, target: node, kind, property, args: Vec::from([stream]) });
        machine.add_device(desc).unwrap();
    }
    let streams = Streams::default();
    machine.register(WallDriver(Arc::clone(&streams)));
    machine.register(Host);
    machine.register(Mapper);
    machine.register(Guest);
    machine.settle();
    Fixture { env, machine, streams }
}

impl Fixture {
    fn bind(&self, device: &str, driver: &str) {
        self.machine.device(device).unwrap().set_driver_override(Some(driver));
        self.machine.bind(device, driver).unwrap();
    }

    /// Reports `count` refused accesses by `stream`, `pause` apart.
    fn fault(&self, stream: u32, count: u64, pause: Duration) {
        let translation = Arc::clone(&self.streams.lock().unwrap()[&stream]);
        for at in 0..count {
            let addr = DeviceAddr(0x1000 * (at + 1));
            let report = |dev: &Bound<'_>| {
                let by = Accessor::Through(&translation);
                let access = RefusedAccess { by, addr, write: true, reason: "no translation" };
                drop(dev.iommu_provider().fault_reporter().report(&access));
            };
            self.machine.client::<WallDriver>("wall").unwrap().call(report).unwrap();
            self.env.advance(crate::env::Env::now(&*self.env) + pause);
        }
    }

    /// Events since the last call: the number of single faults, and the lines about fault storms.
    fn reported(&self) -> (usize, Vec<String>) {
        let events = core::mem::take(&mut *self.env.events.lock().unwrap());
        let line = |e: &crate::event::Event| format!("{}: {}", e.device.as_deref().unwrap_or("-"), e.kind);
        let lines: Vec<String> = events.iter().map(line).collect();
        let storms = lines.iter().filter(|l| l.contains("IOMMU fault storm")).map(String::to_string);
        (
            lines.iter().filter(|l| l.contains("IOMMU fault at") || l.contains("no translation")).count(),
            storms.collect(),
        )
    }

    fn counts(&self) -> Vec<(String, u64, u64)> {
        self.machine.fault_counts().into_iter().map(|f| (f.device.to_string(), f.total, f.suppressed)).collect()
    }
}

const QUICK: Duration = Duration::from_micros(10);

#[test]
fn a_fault_storm_of_one_device_does_not_suppress_faults_of_others() {
    // A guest and a host driver behind one IOMMU, in either role, and two unbound devices.
    for (stormy, other) in [("guest", "host"), ("host", "guest"), ("", "")] {
        let w = fixture();
        for (device, driver) in [("a", stormy), ("b", other)].iter().filter(|(_, driver)| !driver.is_empty()) {
            w.bind(device, driver);
        }
        w.reported();
        w.fault(1, 5_000, QUICK);
        let (faults, storms) = w.reported();
        assert_eq!(faults, 10, "{stormy} {other}");
        assert!((1..6).contains(&storms.len()) && storms[0].starts_with("a: "), "{storms:?}");
        w.fault(2, 3, QUICK);
        assert_eq!(w.reported(), (3, Vec::new()), "{stormy} {other}: each one is reported");
        assert_eq!(w.counts(), [("a".into(), 5_000, 4_990), ("b".into(), 3, 0)]);
    }
}

#[test]
fn a_fault_storm_of_indistinguishable_devices_does_not_suppress_faults_of_others() {
    let w = fixture();
    w.bind("c", "host");
    w.bind("d", "host");
    w.bind("a", "host");
    w.reported();
    w.fault(3, 1_000, QUICK);
    let (faults, storms) = w.reported();
    assert!(faults == 10 && storms[0].starts_with("wall: "), "{storms:?}");
    w.fault(1, 3, QUICK);
    assert_eq!(w.reported(), (3, Vec::new()));
    assert_eq!(w.counts(), [("a".into(), 3, 0), ("wall".into(), 1_000, 990)]);
    // With one of them removed, the faults are the other one's.
    w.machine.remove_device("d");
    assert_eq!(w.reported().1, ["wall: IOMMU fault storm over: 990 faults suppressed"]);
    w.fault(3, 2, QUICK);
    assert_eq!(w.reported(), (2, Vec::new()));
    assert_eq!(w.counts(), [("a".into(), 3, 0), ("c".into(), 2, 0)]);
}

#[test]
fn a_new_fault_storm_is_reported_again() {
    let w = fixture();
    w.bind("a", "guest");
    for round in 0..3 {
        w.reported();
        w.fault(1, 500, QUICK);
        let (faults, storms) = w.reported();
        assert_eq!(faults, 10, "round {round}");
        let ended = storms.iter().filter(|s| s.contains("over: 491 faults suppressed")).count();
        assert_eq!(
            ended,
            usize::from(round > 0),
            "the count of the last one is reported when the next begins: {storms:?}"
        );
        w.fault(1, 1, Duration::from_secs(6));
    }
}

#[test]
fn a_lasting_fault_storm_is_reported_once_in_each_period() {
    let w = fixture();
    w.bind("a", "guest");
    w.reported();
    // One fault a second, for an hour.
    w.fault(1, 3_600, Duration::from_secs(1));
    let (faults, storms) = w.reported();
    assert!((10 + 55..10 + 65).contains(&faults), "{faults}");
    assert!(storms.len() < 70, "{}", storms.len());
}

#[test]
fn an_unbind_reports_the_suppressed_faults_and_resets_the_limit() {
    let w = fixture();
    w.bind("a", "guest");
    w.reported();
    w.fault(1, 300, QUICK);
    w.reported();
    w.machine.unbind("a", "guest").unwrap();
    assert_eq!(w.reported().1, ["a: IOMMU fault storm over: 290 faults suppressed"]);
    // The faults continue while the device is blocked and unbound.
    w.fault(1, 100, QUICK);
    assert_eq!(w.reported().0, 10);
    w.bind("a", "host");
    w.fault(1, 2, QUICK);
    assert_eq!(w.counts(), [("a".into(), 402, 92)], "of the storm that goes on");
    w.machine.unbind("a", "host").unwrap();
    w.machine.remove_device("a");
    assert_eq!(w.counts(), [], "P4");
    assert_eq!(w.machine.promises().broken(), []);
}

impl Fixture {
    /// Reports a refused write to the page that [`Mapper`] gets.
    fn refuse(&self, by: Accessor<'_>) -> FaultReport {
        let access = RefusedAccess { by, addr: DeviceAddr(0xffff_f008), write: true, reason: "no translation" };
        let report = |dev: &Bound<'_>| dev.iommu_provider().fault_reporter().report(&access).unwrap();
        self.machine.client::<WallDriver>("wall").unwrap().call(report).unwrap()
    }

    fn refuse_stream(&self, stream: u32) -> (Vec<String>, Option<String>, bool) {
        let found = self.refuse(Accessor::Stream(StreamId(stream)));
        (found.devices.iter().map(ToString::to_string).collect(), found.mapping, found.certain)
    }
}

/// Each had the first address from the top, one after the other or at the same time.
#[test]
fn a_streams_fault_is_explained_by_its_own_history_although_others_had_the_address() {
    let f = fixture();
    for device in ["a", "b"] {
        f.bind(device, "mapper");
        f.machine.unbind(device, "mapper").unwrap();
    }
    let freed = |device: &str| Some(format!("coherent at 0xfffff000, 0x1000 bytes, mapped and freed by {device}"));
    let own = |device: &str, mapping| (Vec::from([device.to_string()]), mapping, true);
    assert_eq!(f.refuse_stream(1), own("a", freed("a")));
    assert_eq!(f.refuse_stream(2), own("b", freed("b")));
    f.bind("b", "mapper");
    assert_eq!(f.refuse_stream(1), own("a", freed("a")));
    let live = Some("coherent of b at 0xfffff000, still mapped".to_string());
    assert_eq!(f.refuse_stream(2), own("b", live));
    assert_eq!(f.refuse_stream(77), (Vec::new(), None, false), "nobody has it");
}

#[test]
fn an_explanation_is_a_guess_where_another_device_may_have_made_the_access() {
    let f = fixture();
    // Two devices of one stream.
    f.bind("c", "mapper");
    f.machine.unbind("c", "mapper").unwrap();
    let freed = |device: &str| Some(format!("coherent at 0xfffff000, 0x1000 bytes, mapped and freed by {device}"));
    assert_eq!(f.refuse_stream(3), (Vec::from(["c".to_string(), "d".to_string()]), freed("c"), false));
    // The other one's, when the one that had it has gone.
    assert!(f.machine.remove_device("c"));
    assert_eq!(f.refuse_stream(3), (Vec::from(["d".to_string()]), freed("c"), false));
    // The IOMMU tells the translation and not the stream.
    f.bind("a", "mapper");
    let through = Arc::clone(&f.streams.lock().unwrap()[&1]);
    let found = f.refuse(Accessor::Through(&through));
    assert_eq!((found.devices, found.certain), (Vec::from(["a".into()]), true));
    f.machine.unbind("a", "mapper").unwrap();
    f.bind("b", "mapper");
    f.machine.unbind("b", "mapper").unwrap();
    let blocked = Arc::clone(&f.streams.lock().unwrap()[&1]);
    let shared = Arc::ptr_eq(&blocked, &f.streams.lock().unwrap()[&2]);
    let found = f.refuse(Accessor::Through(&blocked));
    assert_eq!(found.certain, !shared);
    core::mem::take(&mut *f.env.events.lock().unwrap());
    f.refuse(Accessor::Through(&blocked));
    f.refuse(Accessor::Stream(StreamId(2)));
    let lines: Vec<String> = f.env.events.lock().unwrap().iter().map(|e| e.kind.to_string()).collect();
    let told = |maybe: &str, by: &str, of: &str| {
        format!(
            "wall refused a write at 0xfffff008{by}: no translation; {maybe}coherent at 0xfffff000, 0x1000 bytes, mapped and freed by {of}"
        )
    };
    assert_eq!(lines, [told(if shared { "perhaps " } else { "" }, "", "a"), told("", " by stream 0x2", "b")]);
}
