//! Two devices share a reset line. The first binds alone and takes its `ResetLine`; then the second binds.
use super::kernel::*;
use bindery::binding::Bound;
use bindery::device::SupplierKind;
use bindery::driver::*;
use bindery::power::ResetLine;
use std::sync::{Arc, Mutex};

struct Host;
struct Port {
    reset: Option<ResetLine>,
}
impl Driver for Host {
    const NAME: &'static str = "host";
    const MATCHES: &'static [Match] = &[Match::compatible("t,host")];
    type Data<'b> = Port;
    fn probe(&self, dev: Bound<'_>) -> Result<Port, ProbeError> {
        Ok(Port { reset: dev.reset_line() })
    }
    fn quiesce(p: &Port) -> Result<Quiesced, QuiesceError> {
        match &p.reset {
            Some(r) => r.hold().map_err(|_| QuiesceError("reset")),
            None => Ok(Quiesced::stopped()),
        }
    }
}

fn two(rig: &Rig) {
    rig.machine.register(Host);
    rig.machine.settle();
    let cpg = rig.node("e6150000.clock-controller");
    for name in ["a-host", "b-host"] {
        let mut d = dev(name, "t,host");
        d.suppliers.push(need(cpg, SupplierKind::Clock, "clocks", &[1, 703]));
        d.suppliers.push(need(cpg, SupplierKind::Reset, "resets", &[703]));
        rig.machine.add_device(d).unwrap();
        rig.machine.settle();
        assert_eq!(rig.driver(name), Some("host"));
    }
}

#[test]
fn the_first_is_unbound() {
    let rig = rig();
    two(&rig);
    assert!(rig.board.module_runs(703));
    rig.machine.unbind("a-host", "host").unwrap();
    println!("R04a b bound {:?}, module runs {}; {}", rig.driver("b-host"), rig.board.module_runs(703), rig.verdict());
    assert!(rig.board.module_runs(703), "R04a: b-host is bound and held in reset, nothing said");
}

/// A driver that lets its `ResetLine` escape: it has no lifetime.
struct Leaky(Arc<Mutex<Option<ResetLine>>>);
impl Driver for Leaky {
    const NAME: &'static str = "leaky";
    const MATCHES: &'static [Match] = &[Match::compatible("t,leaky")];
    type Data<'b> = ();
    fn probe(&self, dev: Bound<'_>) -> Result<(), ProbeError> {
        *self.0.lock().unwrap() = dev.reset_line();
        Ok(())
    }
    fn quiesce((): &()) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::stopped())
    }
}

#[test]
fn the_line_outlives_its_binding() {
    let rig = rig();
    let out = Arc::new(Mutex::new(None));
    rig.machine.register(Leaky(Arc::clone(&out)));
    rig.machine.register(Host);
    rig.machine.settle();
    let cpg = rig.node("e6150000.clock-controller");
    let mut d = dev("disputed", "t,leaky");
    d.compatible.push("t,host".into());
    d.suppliers.push(need(cpg, SupplierKind::Clock, "clocks", &[1, 703]));
    d.suppliers.push(need(cpg, SupplierKind::Reset, "resets", &[703]));
    rig.machine.add_device(d).unwrap();
    rig.machine.set_autoprobe(false);
    rig.machine.bind("disputed", "leaky").unwrap();
    rig.machine.unbind("disputed", "leaky").unwrap();
    rig.machine.unregister("leaky");
    rig.machine.bind("disputed", "host").unwrap();
    assert!(rig.board.module_runs(703));
    let said = out.lock().unwrap().as_ref().unwrap().hold();
    println!("R04b stale hold() said {said:?}; module runs {}; {}", rig.board.module_runs(703), rig.verdict());
    assert!(
        rig.board.module_runs(703),
        "R04b: a binding that has ended resets the device of the next one, nothing said"
    );
}

/// With the real disk controller as the second user of the line.
#[test]
fn the_disk_is_reset_by_a_neighbour() {
    use bindery_drivers::sata_rcar::SataRcar;
    let rig = rig();
    rig.machine.register(Host);
    rig.machine.settle();
    rig.machine.unbind(SATA, "sata_rcar").unwrap();
    let cpg = rig.node("e6150000.clock-controller");
    let mut d = dev("a-host", "t,host");
    d.suppliers.push(need(cpg, SupplierKind::Clock, "clocks", &[1, 815]));
    d.suppliers.push(need(cpg, SupplierKind::Reset, "resets", &[815]));
    rig.machine.add_device(d).unwrap();
    rig.machine.settle();
    rig.machine.bind(SATA, "sata_rcar").unwrap();
    let disk = rig.machine.client::<SataRcar>(SATA).unwrap();
    let mut b = [0; 512];
    let before = disk.call(|p| p.read(3, &mut b));
    rig.machine.unbind("a-host", "host").unwrap();
    let after = disk.call(|p| p.read(3, &mut b));
    println!(
        "R04c read before {before:?}, after the neighbour's unbind {after:?}; promises broken {:?}, model errors {}, the first {:?}",
        rig.machine.promises().broken(),
        rig.board.model_errors().len(),
        rig.board.model_errors().first()
    );
    assert!(matches!(after, Ok(Ok(()))), "R04c: the disk controller was reset under its driver");
}

// More of the kind.

use bindery::device::DeviceDesc;
use bindery::power::SupplyError;

const OTHER: u32 = 704;

/// A device on reset lines `resets`, behind the disk controller's IOMMU when `translated`.
fn on_lines(rig: &Rig, name: &str, compatible: &str, resets: &[u32], translated: bool) -> DeviceDesc {
    let cpg = rig.node("e6150000.clock-controller");
    let mut d = dev(name, compatible);
    d.suppliers.push(need(cpg, SupplierKind::Clock, "clocks", &[1, resets[0]]));
    for line in resets {
        d.suppliers.push(need(cpg, SupplierKind::Reset, "resets", &[*line]));
    }
    if translated {
        let sata = rig.machine.device(SATA).unwrap();
        let mmu = sata.desc().suppliers.iter().find(|s| s.kind == SupplierKind::Iommu).unwrap().node;
        d.suppliers.push(need(mmu, SupplierKind::Iommu, "iommus", &[5]));
    }
    d
}

/// A driver that stops its device by its registers, and resets it when it is asked to.
struct Soft;
struct SoftData {
    reset: ResetLine,
    stops: bool,
}
impl Driver for Soft {
    const NAME: &'static str = "soft";
    const MATCHES: &'static [Match] = &[Match::compatible("t,soft"), Match::compatible("t,runs-on")];
    type Data<'b> = SoftData;
    fn probe(&self, dev: Bound<'_>) -> Result<SoftData, ProbeError> {
        let stops = &*dev.desc().compatible[0] == "t,soft";
        if !stops {
            let _known = dev.dma().coherent(64)?.device_addr();
        }
        Ok(SoftData { reset: dev.reset_line().ok_or(ProbeError::NoDevice)?, stops })
    }
    fn quiesce(p: &SoftData) -> Result<Quiesced, QuiesceError> {
        if p.stops { Ok(Quiesced::stopped()) } else { Err(QuiesceError("the stop bit stays set")) }
    }
}

fn soft(devices: &[(&str, &str, &[u32])]) -> Rig {
    let rig = rig();
    rig.machine.register(Soft);
    rig.machine.settle();
    for (name, compatible, resets) in devices {
        rig.machine.add_device(on_lines(&rig, name, compatible, resets, false)).unwrap();
    }
    rig.machine.settle();
    assert!(devices.iter().all(|(name, ..)| rig.driver(name) == Some("soft")));
    rig.events();
    rig
}

fn pulse(rig: &Rig, name: &str) -> Result<Quiesced, SupplyError> {
    rig.machine.client::<Soft>(name).unwrap().call(|p| p.reset.pulse()).unwrap()
}

fn holder(refused: Result<Quiesced, SupplyError>) -> String {
    match refused {
        Err(SupplyError::Held(conflict)) => conflict.holder.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_line_is_released_while_any_of_its_users_is_bound() {
    let rig = soft(&[("a-soft", "t,soft", &[703]), ("b-soft", "t,soft", &[703])]);
    rig.machine.unbind("a-soft", "soft").unwrap();
    assert!(rig.board.module_runs(703));
    rig.machine.bind("a-soft", "soft").unwrap();
    rig.machine.unbind("b-soft", "soft").unwrap();
    assert!(rig.board.module_runs(703));
    rig.machine.unbind("a-soft", "soft").unwrap();
    assert!(!rig.board.module_runs(703), "the last one leaves it in reset");
    assert_eq!(rig.machine.promises().broken(), []);
}

#[test]
fn a_reset_that_would_affect_others_is_refused_with_their_name_and_reported() {
    let rig = soft(&[("a-soft", "t,soft", &[703]), ("b-soft", "t,soft", &[703])]);
    assert_eq!(holder(pulse(&rig, "a-soft")), "b-soft (soft)");
    assert_eq!(holder(pulse(&rig, "b-soft")), "a-soft (soft)");
    let reported = rig.events().into_iter().filter(|l| l.contains("a reset of") && l.contains("refused")).count();
    assert_eq!(reported, 2);
    rig.machine.unbind("b-soft", "soft").unwrap();
    assert!(pulse(&rig, "a-soft").is_ok(), "alone now: asked at each use");
    assert_eq!(rig.machine.promises().broken(), []);
}

#[test]
fn of_several_lines_all_are_pulled_or_none() {
    let rig = soft(&[("a-soft", "t,soft", &[OTHER, 703]), ("b-soft", "t,soft", &[703])]);
    let hold = |name: &str| rig.machine.client::<Soft>(name).unwrap().call(|p| p.reset.hold()).unwrap();
    assert_eq!(holder(hold("a-soft")), "b-soft (soft)");
    assert!(rig.board.module_runs(OTHER), "the line that is its own was not touched");
    rig.machine.unbind("b-soft", "soft").unwrap();
    assert!(hold("a-soft").is_ok());
    assert!(!rig.board.module_runs(OTHER));
    // Somebody else comes while the line is held: it is released, for both.
    rig.machine.bind("b-soft", "soft").unwrap();
    assert!(rig.board.module_runs(703));
    assert_eq!(rig.machine.promises().broken(), []);
}

#[test]
fn a_line_that_is_kept_for_a_device_which_may_still_run_is_not_pulled_by_another() {
    let rig = soft(&[("a-runs-on", "t,runs-on", &[703]), ("b-soft", "t,soft", &[703])]);
    rig.machine.unbind("a-runs-on", "soft").unwrap();
    assert!(rig.machine.pinned_supplies().iter().any(|k| k.device == "a-runs-on"));
    let by = holder(pulse(&rig, "b-soft"));
    assert!(by.contains("a-runs-on") && by.contains("not shown to be quiesced"), "{by}");
    rig.machine.unbind("b-soft", "soft").unwrap();
    assert!(rig.board.module_runs(703), "P11");
    // It is gone from its bus: the line is nobody's.
    rig.machine.device_vanished("a-runs-on");
    assert!(!rig.board.module_runs(703) && rig.machine.pinned_supplies().is_empty());
    assert_eq!(rig.machine.promises().broken(), []);
}

#[test]
fn a_guest_has_its_reset_line_for_itself() {
    let rig = soft(&[("b-soft", "t,soft", &[703])]);
    rig.machine.unbind(SATA, "sata_rcar").unwrap();
    rig.machine.add_device(on_lines(&rig, "given", "t,given", &[703], true)).unwrap();
    rig.machine.device("given").unwrap().set_driver_override(Some("vfio-platform"));
    let refused = rig.machine.bind("given", "vfio-platform").unwrap_err().to_string();
    assert!(refused.contains("b-soft (soft)") && refused.contains("reset line"), "{refused}");
    rig.machine.unbind("b-soft", "soft").unwrap();
    rig.machine.bind("given", "vfio-platform").unwrap();
    let refused = rig.machine.bind("b-soft", "soft").unwrap_err().to_string();
    assert!(refused.contains("given (vfio-platform)"), "{refused}");
    assert!(rig.events().iter().any(|l| l.starts_with("b-soft: ") && l.contains("refused") && l.contains("given")));
    rig.machine.unbind("given", "vfio-platform").unwrap();
    rig.machine.bind("b-soft", "soft").unwrap();
    assert_eq!(rig.machine.promises().broken(), []);
}

#[test]
fn users_of_one_line_come_and_go_and_pull_it_on_many_threads() {
    let rig = soft(&[("a-soft", "t,soft", &[703]), ("b-soft", "t,soft", &[703])]);
    let machine = &rig.machine;
    std::thread::scope(|s| {
        for name in ["a-soft", "b-soft"] {
            s.spawn(move || {
                for _ in 0..50 {
                    let _ = machine.unbind(name, "soft");
                    let _ = machine.bind(name, "soft");
                    let Some(client) = machine.client::<Soft>(name) else { continue };
                    let _ = client.call(|p| p.reset.pulse());
                }
            });
        }
    });
    assert!(rig.board.module_runs(703), "both are bound");
    assert_eq!(rig.machine.promises().broken(), []);
}
