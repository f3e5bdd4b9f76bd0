//! Holders of groups and services: in the table of claims, in refusals, in the tree.

use alloc::sync::Arc;
use std::format;
use std::string::{String, ToString};
use std::sync::Mutex;
use std::vec::Vec;

use super::fixture::Fixture;
use crate::binding::{Bound, ResourceError};
use crate::claim::{Mode, Subject};
use crate::dma::DeviceHold;
use crate::driver::{DmaOwner, Driver, Match, ProbeError, QuiesceError, Quiesced};
use crate::iommu::OwnerId;

/// Result of opening the device.
type Held = Result<DeviceHold, String>;

/// Pass-through driver that opens its device in probe, for the owner that the test sets.
#[derive(Clone)]
struct Opener(Arc<Mutex<(OwnerId, Vec<Held>)>>);

impl Driver for Opener {
    const NAME: &'static str = "opener";
    const MATCHES: &'static [Match] = &[];
    const DMA: DmaOwner = DmaOwner::PassThrough;
    type Data<'b> = ();

    fn probe(&self, dev: Bound<'_>) -> Result<(), ProbeError> {
        let mut state = self.0.lock().unwrap();
        let owner = state.0.clone();
        state.1.push(dev.pass_through().unwrap().hold_group(&owner).map_err(|e| e.to_string()));
        Ok(())
    }

    fn quiesce((): &()) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::stopped())
    }
}

/// Both disks unbound, with `driver_override` set to the opener.
fn opened(owner: &OwnerId) -> (Fixture, Opener) {
    let w = Fixture::bound();
    let opener = Opener(Arc::new(Mutex::new((owner.clone(), Vec::new()))));
    w.machine.register(opener.clone());
    for disk in ["20.disk", "21.disk"] {
        w.machine.unbind(disk, "disk").unwrap();
        w.machine.device(disk).unwrap().set_driver_override(Some("opener"));
    }
    (w, opener)
}

#[test]
fn claims_list_bindings_and_owner_of_a_group_and_its_streams() {
    let guest = OwnerId::new("guest 1");
    let (w, opener) = opened(&guest);
    w.machine.bind("20.disk", "opener").unwrap();
    let claims = w.cat("/sys/kernel/bindery/claims");
    let expected = "stream 2 of 10.iommu\tshared, pass-through\t20.disk (opener)\n\
                    IOMMU group 0\tshared, pass-through\t20.disk (opener)\n\
                    address space of IOMMU group 0\texclusive\tguest 1 (pass-through owner)\n\
                    service IOMMU translation of 10.iommu\texclusive\t10.iommu (mirror)\n";
    assert_eq!(claims, expected);
    opener.0.lock().unwrap().1.clear();
    assert!(!w.cat("/sys/kernel/bindery/claims").contains("address space"), "it is closed");
    w.machine.unbind("20.disk", "opener").unwrap();
    assert_eq!(w.cat("/sys/kernel/bindery/claims").lines().count(), 1, "P4");
    w.promises_hold();
}

#[test]
fn a_refused_bind_names_the_holder_of_the_group() {
    let (w, opener) = opened(&OwnerId::new("guest 1"));
    w.machine.device("21.disk").unwrap().set_driver_override(None);
    w.machine.bind("21.disk", "disk").unwrap();
    let refused = w.machine.bind("20.disk", "opener").unwrap_err().to_string();
    assert!(refused.contains("group 0 is owned by kernel drivers (1), held by 21.disk (disk)"), "{refused}");
    w.machine.unbind("21.disk", "disk").unwrap();
    w.machine.bind("20.disk", "opener").unwrap();
    let refused = w.machine.bind("21.disk", "disk").unwrap_err().to_string();
    assert!(refused.contains("pass-through (1), held by guest 1"), "{refused}");
    opener.0.lock().unwrap().1.clear();
    let refused = w.machine.bind("21.disk", "disk").unwrap_err().to_string();
    assert!(refused.contains("pass-through (1), held by 20.disk (opener)"), "nobody has it open: {refused}");
    w.promises_hold();
}

#[test]
fn dropping_a_stale_group_hold_does_not_release_a_later_one() {
    let (first, second) = (OwnerId::new("guest 1"), OwnerId::new("guest 2"));
    let (w, opener) = opened(&first);
    w.machine.bind("20.disk", "opener").unwrap();
    let stale = opener.0.lock().unwrap().1.pop().unwrap().unwrap();
    w.machine.unbind("20.disk", "opener").unwrap();
    assert!(!w.cat("/sys/kernel/bindery/claims").contains("guest 1"), "P4: with the last binding, kept or not");
    w.machine.bind("20.disk", "opener").unwrap();
    drop(stale);
    opener.0.lock().unwrap().0 = second;
    w.machine.bind("21.disk", "opener").unwrap();
    let refused = opener.0.lock().unwrap().1.pop().unwrap().unwrap_err();
    assert!(refused.contains("held by guest 1"), "P7: {refused}");
    w.promises_hold();
}

/// Driver that provides each service twice.
struct Twice;

impl Driver for Twice {
    const NAME: &'static str = "twice";
    const MATCHES: &'static [Match] = &[];
    type Data<'b> = ();

    fn probe(&self, dev: Bound<'_>) -> Result<(), ProbeError> {
        dev.provide(Arc::new(1_u32))?;
        let refused = dev.provide(Arc::new(2_u32)).unwrap_err();
        let ResourceError::Held(conflict) = &refused else { panic!("{refused}") };
        assert!(matches!(conflict.subject, Subject::Name { .. }) && conflict.mode == Mode::Exclusive);
        assert_eq!(format!("{refused}"), "service u32 of 30.lamp is held by 30.lamp (twice)");
        Ok(dev.provide(Arc::new(3_u64))?)
    }

    fn quiesce((): &()) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::never_started())
    }
}

#[test]
fn claims_list_the_provider_of_a_service() {
    let w = Fixture::bound();
    w.machine.register(Twice);
    w.machine.device("30.lamp").unwrap().set_driver_override(Some("twice"));
    w.machine.bind("30.lamp", "twice").unwrap();
    let claims = w.cat("/sys/kernel/bindery/claims");
    assert!(claims.contains("service u32 of 30.lamp\texclusive\t30.lamp (twice)"), "{claims}");
    assert!(w.machine.unbind("30.lamp", "twice").is_ok());
    assert!(!w.cat("/sys/kernel/bindery/claims").contains("lamp"), "P4");
    w.promises_hold();
}
