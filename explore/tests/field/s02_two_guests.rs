//! S02: two guests, two devices, one IOMMU group.
use bindery::addr::DeviceAddr;
use bindery::dma::DmaMemory;
use bindery::iommu::{OwnerId, Prot};
use bindery_drivers::vfio::{OpenError, Session, Vfio};
use bindery_sim::board::Stuck;

use super::dma::*;

const RW: Prot = Prot::READ.union(Prot::WRITE);
const NIC: &str = "acme-nic";
const AT: DeviceAddr = DeviceAddr(0x10_0000);

/// The disk and a network device of one group, both in the pass-through owner's hands.
fn given() -> Rig {
    let r = rig();
    r.machine.settle();
    r.add_master(NIC, 5, 929, |_| ());
    r.machine.settle();
    r.give_both();
    r
}

impl Rig {
    fn give_both(&self) {
        self.machine.unbind(SATA, "sata_rcar").unwrap();
        self.machine.unbind(NIC, "acme_master").unwrap();
        self.give(SATA);
        self.give(NIC);
        assert_eq!(self.group_of(SATA), self.group_of(NIC));
    }

    fn open_as(&self, name: &str, owner: &OwnerId) -> Result<Session, OpenError> {
        Vfio::open_as(&self.machine.client::<Vfio>(name).unwrap(), owner)
    }
}

#[test]
fn s02_one_guests_device_does_not_reach_the_other_guests_memory() {
    let r = given();
    let (first, second) = (OwnerId::new("guest 1"), OwnerId::new("guest 2"));
    let open = r.open_as(SATA, &first).unwrap();
    let refused = r.open_as(NIC, &second).unwrap_err().to_string();
    assert!(refused.contains("guest 1"), "the holder is named: {refused}");
    assert!(r.events().iter().any(|e| e.contains("guest 1") && e.contains("guest 2")), "reported by an event");
    // Nor one that says nothing of who it is.
    let refused = r.open(NIC).unwrap_err().to_string();
    assert!(refused.contains("guest 1"), "{refused}");
    drop(open);
    // In turns they may.
    let open = r.open_as(NIC, &second).unwrap();
    let secret = DmaMemory::allocate(r.machine.memory(), 4096).unwrap();
    open.map(AT, &secret, 0, 4096, RW).unwrap();
    assert!(r.open_as(SATA, &first).unwrap_err().to_string().contains("guest 2"));
    drop(open);
    let _open = r.open_as(SATA, &first).unwrap();
    assert_eq!(r.reach(SATA_UTLB, AT.0, true), None, "P7: nothing of the other one's is left");
    assert_eq!(r.machine.promises().broken(), []);
}

#[test]
fn s02_the_same_name_is_not_the_same_guest() {
    let r = given();
    let _open = r.open_as(SATA, &OwnerId::new("guest")).unwrap();
    assert!(r.open_as(NIC, &OwnerId::new("guest")).is_err());
}

#[test]
fn s02_one_guest_with_two_devices_has_one_address_space() {
    let r = given();
    let guest = OwnerId::new("guest 1");
    let (disk, nic) = (r.open_as(SATA, &guest).unwrap(), r.open_as(NIC, &guest.clone()).unwrap());
    let ram = DmaMemory::allocate(r.machine.memory(), 4096).unwrap();
    disk.map(AT, &ram, 0, 4096, RW).unwrap();
    assert_eq!((r.reach(SATA_UTLB, AT.0, true), r.reach(5, AT.0, true)), (Some(ram.phys()), Some(ram.phys())));
    assert!(nic.map(AT, &ram, 0, 4096, RW).is_err(), "taken");
    let info = r.machine.groups().into_iter().find(|g| g.id() == r.group_of(SATA)).unwrap().info();
    assert_eq!(info.holder.map(|(name, open)| (name.to_string(), open)), Some(("guest 1".into(), 2)));
    drop(disk);
    assert_eq!(r.reach(5, AT.0, true), None, "maps go with the session that made them");
    assert!(r.open_as(SATA, &OwnerId::new("guest 2")).is_err(), "its other device holds the group");
    drop(nic);
    let _second = r.open_as(SATA, &OwnerId::new("guest 2")).unwrap();
    assert_eq!(r.machine.promises().broken(), []);
}

#[test]
fn s02_a_device_that_is_closed_with_an_unconfirmed_unmap_is_blocked_while_its_owner_uses_another() {
    let r = given();
    let guest = OwnerId::new("guest 1");
    let (disk, nic) = (r.open_as(SATA, &guest).unwrap(), r.open_as(NIC, &guest).unwrap());
    let ram = DmaMemory::allocate(r.machine.memory(), 4096).unwrap();
    disk.map(AT, &ram, 0, 4096, RW).unwrap();
    let other = AT.0 + 0x1000;
    nic.map(DeviceAddr(other), &ram, 0, 4096, RW).unwrap();
    assert_eq!(r.reach(SATA_UTLB, AT.0, true), Some(ram.phys()), "and now the IOTLB has it");
    r.board.set_stuck(Stuck::IpmmuFlush, true);
    drop(disk);
    let reaches = |utlb| (r.reach(utlb, AT.0, true), r.reach(utlb, other, true));
    assert_eq!(reaches(SATA_UTLB), (None, None), "closed, and its unmap is not confirmed: blocked");
    assert_eq!(reaches(5).1, Some(ram.phys()), "the other device goes on");
    r.board.set_stuck(Stuck::IpmmuFlush, false);
    let _disk = r.open_as(SATA, &guest).unwrap();
    assert_eq!(reaches(SATA_UTLB), (None, Some(ram.phys())), "open again once it is, in its owner's address space");
    assert_eq!(r.machine.promises().broken(), []);
}

#[test]
fn s02_taken_back_while_open_the_group_is_free_for_the_next_owner() {
    let r = given();
    let (first, second) = (OwnerId::new("guest 1"), OwnerId::new("guest 2"));
    let revoked = r.open_as(SATA, &first).unwrap();
    r.machine.unbind(SATA, "vfio-platform").unwrap();
    let _open = r.open_as(NIC, &second).unwrap();
    // The late end of a session that was cut off is nobody's loss.
    drop(revoked);
    assert!(r.open_as(NIC, &first).is_err());
    r.machine.bind(SATA, "vfio-platform").unwrap();
    assert!(r.open_as(SATA, &first).unwrap_err().to_string().contains("guest 2"));
    assert_eq!(r.machine.promises().broken(), []);
}

#[test]
fn s02_the_host_does_not_get_one_of_them_back_while_a_guest_has_the_other() {
    let r = given();
    let _s = r.open_as(NIC, &OwnerId::new("guest 1")).unwrap();
    r.machine.unbind(SATA, "vfio-platform").unwrap();
    r.machine.device(SATA).unwrap().set_driver_override(None);
    let e = r.machine.bind(SATA, "sata_rcar").unwrap_err().to_string();
    assert!(e.contains("pass-through") && e.contains("guest 1"), "{e}");
    assert_eq!(r.reach(SATA_UTLB, 0x1000, true), None, "blocked");
}

/// F45: owners that open and close the devices of one group at the same time.
#[test]
fn f45_two_owners_open_devices_of_one_group_at_once() {
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    let r = given();
    let (inside, opened) = (AtomicUsize::new(0), [AtomicUsize::new(0), AtomicUsize::new(0)]);
    std::thread::scope(|scope| {
        for (n, (name, utlb)) in [(SATA, SATA_UTLB), (NIC, 5)].into_iter().enumerate() {
            let (r, inside, opened) = (&r, &inside, &opened);
            scope.spawn(move || {
                let owner = OwnerId::new(&format!("guest {n}"));
                let page = DmaMemory::allocate(r.machine.memory(), 4096).unwrap();
                for _ in 0..500 {
                    let Ok(session) = r.open_as(name, &owner) else {
                        std::thread::yield_now();
                        continue;
                    };
                    assert_eq!(inside.swap(n + 1, SeqCst), 0, "P7: both owners have the group");
                    assert_eq!(r.reach(utlb, AT.0, true), None, "P7: nothing of the other one's is left");
                    session.map(AT, &page, 0, 4096, RW).unwrap();
                    assert_eq!(r.reach(utlb, AT.0, true), Some(page.phys()));
                    opened[n].fetch_add(1, SeqCst);
                    inside.store(0, SeqCst);
                    drop(session);
                }
            });
        }
    });
    assert!(opened.iter().all(|n| n.load(SeqCst) > 0), "{opened:?}");
    assert_eq!((r.machine.promises().broken(), r.machine.quarantine()), (vec![], vec![]));
}
