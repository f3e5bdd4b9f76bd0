//! Pass-through: the host assigns its disk controller to a guest and reclaims it, with the same driver on both sides.
#![allow(clippy::unwrap_used)]
#![allow(clippy::redundant_closure_for_method_calls, reason = "a method is not general enough for `Client::call`")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use bindery::addr::DeviceAddr;
use bindery::control::Tree;
use bindery::dma::DmaMemory;
use bindery::driver::Errno;
use bindery::env::{Env, Width};
use bindery::event::EventKind;
use bindery::iommu::{DomainKind, Owner, Prot};
use bindery::machine::{BindError, Handle, Policy};
use bindery_drivers::sata_rcar::SataRcar;
use bindery_drivers::vfio::{OpenError, Session, Vfio, VfioError};
use bindery_sim::board::Stuck;
use bindery_sim::guest::{GuestEnv, Layout, RAM_LEN};
use bindery_sim::salvator::{GUEST_DEVICE_TREE, Salvator};
use common::{Rig, SATA, numbered_disk};

const OVERRIDE: &str = "/sys/bus/platform/devices/ee300000.sata/driver_override";
const PROBE: &str = "/sys/bus/platform/drivers_probe";

/// Guest with its machine.
struct Guest {
    env: Arc<GuestEnv>,
    machine: Handle,
}

/// Unbinds the host's driver and binds the device to `vfio-platform`, through the control tree.
fn bind_vfio(rig: &Rig) -> Tree {
    let tree = Tree::new(&rig.machine);
    tree.write(OVERRIDE, "vfio-platform\n").unwrap();
    tree.write("/sys/bus/platform/drivers/sata_rcar/unbind", "ee300000.sata\n").unwrap();
    tree.write(PROBE, SATA).unwrap();
    assert_eq!(rig.driver(SATA), Some("vfio-platform"));
    tree
}

/// Unbinds `vfio-platform` and binds the host's driver.
fn rebind_host(rig: &Rig, tree: &Tree) {
    tree.write("/sys/bus/platform/drivers/vfio-platform/unbind", SATA).unwrap();
    tree.write(OVERRIDE, "\n").unwrap();
    tree.write(PROBE, SATA).unwrap();
    assert_eq!(rig.driver(SATA), Some("sata_rcar"));
}

fn open(rig: &Rig) -> Result<Session, OpenError> {
    Vfio::open(&rig.machine.client::<Vfio>(SATA).unwrap())
}

/// Boots a guest on the session.
fn boot(rig: &Rig, session: Session) -> Guest {
    let device = rig.machine.device(SATA).unwrap();
    let layout = Layout::of(device.desc());
    let env = GuestEnv::new(&rig.machine, session, layout, RAM_LEN).unwrap();
    let machine = env.machine(Policy::default());
    machine.add_device_tree(GUEST_DEVICE_TREE).unwrap();
    machine.register(SataRcar);
    machine.settle();
    Guest { env, machine }
}

impl Guest {
    /// Releases the device as soon as the host requests it.
    fn releases_on_request(&self) {
        let (env, machine) = (Arc::downgrade(&self.env), Arc::downgrade(&self.machine));
        let let_go = move || {
            if let Some(machine) = machine.upgrade() {
                machine.unbind(SATA, "sata_rcar").unwrap();
            }
            if let Some(env) = env.upgrade() {
                env.release_device();
            }
        };
        self.env.on_request(let_go).unwrap();
    }

    fn read(&self, lba: u64) -> Option<Vec<u8>> {
        let mut sector = vec![0; 512];
        let port = self.machine.client::<SataRcar>(SATA)?;
        port.call(|p| p.read(lba, &mut sector)).unwrap().ok()?;
        Some(sector)
    }

    fn write(&self, lba: u64, byte: u8) {
        let port = self.machine.client::<SataRcar>(SATA).unwrap();
        port.call(|p| p.write(lba, &[byte; 512]).and_then(|()| p.flush())).unwrap().unwrap();
    }

    fn assert_well(&self) {
        assert_eq!(self.machine.promises().broken(), []);
    }
}

fn host_read(rig: &Rig, lba: u64) -> Vec<u8> {
    let mut sector = vec![0; 512];
    rig.machine.client::<SataRcar>(SATA).unwrap().call(|p| p.read(lba, &mut sector)).unwrap().unwrap();
    sector
}

fn pass_through_states(rig: &Rig) -> Vec<&'static str> {
    let state = |kind| match kind {
        EventKind::PassThrough { state, .. } => Some(state),
        _ => None,
    };
    rig.event_kinds(SATA).into_iter().filter_map(state).collect()
}

fn bound() -> Rig {
    let rig = common::full();
    rig.settle();
    assert_eq!(rig.driver(SATA), Some("sata_rcar"));
    rig
}

#[test]
fn the_same_driver_reads_and_writes_in_the_guest_and_the_host_reads_what_it_wrote() {
    let rig = bound();
    let before = rig.resource_usage();
    let tree = bind_vfio(&rig);
    let guest = boot(&rig, open(&rig).unwrap());
    assert_eq!(guest.machine.device(SATA).unwrap().driver(), Some("sata_rcar"));
    assert_eq!(guest.read(7).unwrap(), 7u16.to_le_bytes().repeat(256));
    guest.write(7, 0xa7);
    assert_eq!(guest.read(7).unwrap(), [0xa7; 512]);
    guest.releases_on_request();

    rig.board.take_events();
    rebind_host(&rig, &tree);
    assert_eq!(pass_through_states(&rig), ["requested", "released"]);
    assert_eq!(host_read(&rig, 7), [0xa7; 512]);
    guest.assert_well();
    drop(guest);
    assert_eq!(rig.resource_usage(), before, "P4");
    rig.assert_well();
}

#[test]
fn a_guest_that_does_not_respond_is_revoked_at_the_deadline() {
    let rig = bound();
    let before = rig.resource_usage();
    let tree = bind_vfio(&rig);
    let guest = boot(&rig, open(&rig).unwrap());
    guest.write(3, 0x33);
    let begun = rig.board.now();
    rig.board.take_events();
    rebind_host(&rig, &tree);
    assert_eq!(pass_through_states(&rig), ["requested", "revoked"]);
    assert!(rig.board.now().since(begun) >= Duration::from_secs(5));

    // Its register accesses fail, and so do its reads; it can still unbind its own driver.
    assert!(!guest.env.has_device());
    assert_eq!(guest.read(3), None);
    assert_eq!(host_read(&rig, 3), [0x33; 512]);
    guest.machine.unbind(SATA, "sata_rcar").unwrap();
    assert_eq!(guest.read(3), None);
    guest.assert_well();
    drop(guest);
    assert_eq!(rig.resource_usage(), before, "P4");
    rig.assert_well();
}

#[test]
fn the_hosts_use_of_an_assigned_group_is_refused_with_the_holders_name() {
    let rig = bound();
    let tree = bind_vfio(&rig);
    let group = rig.machine.groups().into_iter().find(|g| g.info().members.iter().any(|m| &**m == SATA)).unwrap();
    assert_eq!(group.info().owner, Owner::PassThrough(1), "P7");

    let session = open(&rig).unwrap();
    assert_eq!(open(&rig).err(), Some(OpenError::Busy));
    let domain = format!("/sys/kernel/iommu_groups/{}/type", group.id());
    assert_eq!(tree.write(&domain, "identity").unwrap_err().errno, Errno::EPERM);
    let busy = rig.machine.bind(SATA, "vfio-platform");
    assert!(matches!(busy, Err(BindError::Busy { driver: "vfio-platform", .. })), "{busy:?}");
    let other = rig.machine.bind(SATA, "sata_rcar");
    assert!(matches!(other, Err(BindError::NoMatch { .. })), "{other:?}");
    drop(session);
    rig.assert_well();
}

#[test]
fn a_bound_kernel_driver_excludes_the_pass_through_owner() {
    let rig = bound();
    let tree = Tree::new(&rig.machine);
    tree.write(OVERRIDE, "vfio-platform").unwrap();
    let refused = rig.machine.bind(SATA, "vfio-platform");
    assert!(matches!(refused, Err(BindError::Busy { driver: "sata_rcar", .. })), "{refused:?}");
    rig.assert_well();
}

#[test]
fn a_device_without_translation_is_not_passed_through() {
    let policy = Policy { untranslated_dma: true, ..Policy::default() };
    let rig = common::on(Salvator::new().disk(numbered_disk(64)), policy);
    rig.add_board();
    bindery_drivers::register_all(&rig.machine);
    rig.settle();
    let tree = Tree::new(&rig.machine);
    tree.write(OVERRIDE, "vfio-platform").unwrap();
    tree.write("/sys/bus/platform/drivers/sata_rcar/unbind", SATA).unwrap();
    let refused = rig.machine.bind(SATA, "vfio-platform").unwrap_err();
    assert!(refused.to_string().contains("no IOMMU group"), "P7: {refused}");
    rig.assert_well();
}

#[test]
fn a_users_mapped_memory_is_reachable_and_pinned() {
    let rig = bound();
    bind_vfio(&rig);
    let frames = rig.machine.memory().frames();
    let session = open(&rig).unwrap();
    let before = frames.in_use();
    let memory = DmaMemory::allocate(rig.machine.memory(), 8192).unwrap();
    let iova = DeviceAddr(0x10_0000);
    session.map(iova, &memory, 4096, 4096, Prot::READ | Prot::WRITE).unwrap();
    let at = rig.board.translate(0, 2, iova.0, true).map(Result::ok);
    assert_eq!(at, Some(Some(memory.phys() + 4096)));
    assert!(session.map(iova, &memory, 0, 4096, Prot::READ).is_err());
    drop(memory);
    assert!(frames.in_use() >= before + 2, "P2: the map pins the pages");
    session.unmap(iova, 4096).unwrap();
    assert!(rig.board.translate(0, 2, iova.0, true).unwrap().is_err(), "P2");
    assert!(frames.in_use() <= before + 1, "the table may stay, the pages not");
    drop(session);
    rig.board.take_model_errors();
    assert_eq!(rig.machine.promises().broken(), []);
}

#[test]
fn invalid_requests_of_a_user_are_refused_without_effect() {
    let rig = bound();
    bind_vfio(&rig);
    let session = open(&rig).unwrap();
    let memory = DmaMemory::allocate(rig.machine.memory(), 4096).unwrap();
    let at = |iova, offset, len| session.map(DeviceAddr(iova), &memory, offset, len, Prot::READ);
    let all = [(1, 0, 4096), (0x1000, 1, 4096), (0x1000, 0, 0), (0x1000, 0, 8192), (0x1000, 4096, 4096)];
    for (iova, offset, len) in all.into_iter().chain([(u64::MAX - 4095, 0, 8192), (0x1000, u64::MAX - 4095, 4096)]) {
        assert!(matches!(at(iova, offset, len), Err(VfioError::BadRange { .. })), "{iova:#x} {offset:#x} {len:#x}");
    }
    assert!(matches!(at(1 << 40, 0, 4096), Err(VfioError::Map(_))));
    assert_eq!(session.unmap(DeviceAddr(0x1000), 4096), Err(VfioError::NoMap(DeviceAddr(0x1000))));
    assert_eq!(session.read(5, 0, Width::W32), Err(VfioError::NoRegion(5)));
    assert!(matches!(session.read(0, u64::MAX, Width::W32), Err(VfioError::Io(_))));
    assert_eq!(session.set_masked(9, true), Err(VfioError::NoIrq(9)));
    drop(session);
    rig.assert_well();
}

#[test]
fn repeated_pass_through_leaves_nothing_behind() {
    let rig = bound();
    let before = rig.resource_usage();
    for round in 0..20 {
        let tree = bind_vfio(&rig);
        let guest = boot(&rig, open(&rig).unwrap());
        guest.write(round, round as u8 + 1);
        if round % 2 == 0 {
            guest.releases_on_request();
        }
        rebind_host(&rig, &tree);
        assert_eq!(host_read(&rig, round), [round as u8 + 1; 512]);
        drop(guest);
        assert_eq!(rig.resource_usage(), before, "P4, round {round}");
    }
    rig.assert_well();
}

#[test]
fn a_guests_page_is_quarantined_until_the_hosts_iommu_has_confirmed() {
    let rig = bound();
    let tree = bind_vfio(&rig);
    let guest = boot(&rig, open(&rig).unwrap());
    assert!(guest.read(1).is_some());
    rig.board.set_stuck(Stuck::IpmmuFlush, true);
    assert_eq!(guest.read(2), None, "the command has completed, but the unmap of its buffer is not confirmed");
    assert_ne!(guest.machine.quarantine(), [], "P2, in the guest");
    assert_ne!(rig.machine.quarantine(), [], "P2, on the host");
    rig.board.set_stuck(Stuck::IpmmuFlush, false);
    // Both machines retry by timers, and the host's clock drives the guest's.
    let until = rig.board.now() + Duration::from_secs(11);
    while rig.board.now() < until {
        rig.board.advance(until);
    }
    assert_eq!((guest.machine.quarantine(), rig.machine.quarantine()), (vec![], vec![]), "P4");
    guest.assert_well();
    guest.machine.unbind(SATA, "sata_rcar").unwrap();
    drop(guest);
    rebind_host(&rig, &tree);
    rig.assert_well();
}

#[test]
fn the_hosts_clock_runs_the_timers_of_an_idle_guest() {
    let rig = bound();
    let tree = bind_vfio(&rig);
    let guest = boot(&rig, open(&rig).unwrap());
    guest.machine.unbind(SATA, "sata_rcar").unwrap();
    guest.machine.groups()[0].set_kind(DomainKind::Lazy).unwrap();
    guest.machine.bind(SATA, "sata_rcar").unwrap();
    guest.write(1, 0x11);
    let waiting = || guest.machine.groups()[0].domain().unwrap().queued_unmaps();
    assert_ne!(waiting(), 0, "the unmap of the written buffer is queued");
    let until = rig.board.now() + Duration::from_millis(10);
    while rig.board.now() < until {
        rig.board.advance(until);
    }
    assert_eq!(waiting(), 0, "P2");
    guest.assert_well();
    guest.machine.unbind(SATA, "sata_rcar").unwrap();
    drop(guest);
    rebind_host(&rig, &tree);
    rig.assert_well();
}
