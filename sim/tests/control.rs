//! The control tree of the Salvator board, with its real device tree and its drivers: the commands in the report of Linux commit 376991db4b64.
#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use bindery::control::{EntryKind, Tree};
use bindery::driver::Errno;
use bindery::instrument::FaultPoint;
use bindery::machine::{Handle, Policy};
use bindery_sim::board::Board;
use bindery_sim::disk::Disk;
use bindery_sim::salvator::{self, Salvator};

const SATA: &str = "/sys/devices/platform/soc/ee300000.sata";
const DRIVERS: &str = "/sys/bus/platform/drivers";

struct Rig {
    board: Arc<Board>,
    machine: Handle,
    tree: Tree,
}

fn rig() -> Rig {
    let board = Salvator::new().disk(Disk::memory(vec![0; 1 << 20])).build();
    let machine = board.machine(Policy::default());
    machine.add_device_tree(salvator::DEVICE_TREE).unwrap();
    bindery_drivers::register_all(&machine);
    machine.settle();
    let tree = Tree::new(&machine);
    Rig { board, machine, tree }
}

impl Rig {
    fn echo(&self, value: &str, path: &str) {
        self.tree.write(path, &format!("{value}\n")).unwrap_or_else(|e| panic!("{e}"));
        self.machine.settle();
    }

    fn errno(&self, value: &str, path: &str) -> Errno {
        self.tree.write(path, &format!("{value}\n")).unwrap_err().errno
    }

    fn cat(&self, path: &str) -> String {
        self.tree.read(path).unwrap_or_else(|e| panic!("{e}"))
    }

    fn driver(&self) -> Option<String> {
        let link = self.tree.read_link(&format!("{SATA}/driver")).ok()?;
        link.rsplit('/').next().map(String::from)
    }

    fn assert_well(&self) {
        assert_eq!(self.machine.promises().broken(), []);
        self.board.assert_clean();
    }
}

/// Each entry on a line: path, then target of a link or permissions.
fn listing(tree: &Tree) -> String {
    let mut text = String::new();
    for (path, entry) in tree.walk() {
        let what = match entry.kind {
            EntryKind::Dir => "/".into(),
            EntryKind::Link { target } => format!(" -> {target}"),
            EntryKind::File { readable, writable } => {
                format!(" {}{}", if readable { "r" } else { "-" }, if writable { "w" } else { "-" })
            }
        };
        writeln!(text, "{path}{what}").unwrap();
    }
    text
}

#[test]
fn the_tree_of_the_board_is_the_one_on_record() {
    let r = rig();
    let record = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/control.txt");
    let now = listing(&r.tree);
    if std::env::var_os("BINDERY_BLESS").is_some() {
        fs::write(&record, &now).unwrap();
    }
    let then = fs::read_to_string(&record).unwrap_or_default();
    let gone: Vec<_> = then.lines().filter(|l| !now.lines().any(|n| n == *l)).collect();
    let new: Vec<_> = now.lines().filter(|l| !then.lines().any(|n| n == *l)).collect();
    assert!(gone.is_empty() && new.is_empty(), "gone: {gone:#?}\nnew: {new:#?}\nBINDERY_BLESS=1 puts it on record");
    assert_eq!(now, then, "the order changed");
}

#[test]
fn the_disk_controller_says_what_it_would_on_the_real_board() {
    let r = rig();
    assert_eq!(r.driver().as_deref(), Some("sata_rcar"));
    assert_eq!(
        r.cat(&format!("{SATA}/uevent")),
        "DRIVER=sata_rcar\nOF_NAME=sata\nOF_FULLNAME=/soc/sata@ee300000\nOF_COMPATIBLE_0=renesas,sata-r8a7795\n\
         OF_COMPATIBLE_1=renesas,rcar-gen3-sata\nOF_COMPATIBLE_N=2\n\
         MODALIAS=of:NsataT(null)Crenesas,sata-r8a7795Crenesas,rcar-gen3-sata\n"
    );
    assert_eq!(r.cat(&format!("{SATA}/iommu_group/type")), "DMA\n");
    assert_eq!(r.cat(&format!("{SATA}/supplier:platform:e6570000.mmu/status")), "active\n");
    let members = r.tree.list(&format!("{SATA}/iommu/devices")).unwrap();
    assert!(members.iter().any(|e| e.name == "ee300000.sata"), "{members:?}");
    let ledger = r.cat("/sys/kernel/bindery/ledger/ee300000.sata");
    assert!(ledger.contains("dma coherent") && ledger.contains("ffff000"), "{ledger}");
    r.assert_well();
}

#[test]
fn a_master_whose_iommu_has_no_memory_for_it_is_listed_until_it_joins() {
    let board = Salvator::new().disk(Disk::memory(vec![0; 1 << 20])).build();
    let machine = board.machine(Policy::default());
    machine.add_device_tree(salvator::DEVICE_TREE).unwrap();
    bindery_drivers::register_all(&machine);
    board.faults().fail_points(&[FaultPoint::TableAlloc]);
    machine.settle();
    board.faults().never();
    let r = Rig { board, tree: Tree::new(&machine), machine };
    let listed = || r.cat("/sys/kernel/bindery/not_joined");
    assert!(listed().contains("ee300000.sata\tno memory for page tables\n"), "{}", listed());
    assert_eq!(r.driver(), None, "P10");
    r.echo("ee300000.sata", "/sys/bus/platform/drivers_probe");
    assert_eq!(r.driver().as_deref(), Some("sata_rcar"));
    assert!(!listed().contains("ee300000.sata") && !listed().is_empty(), "{}", listed());
    r.assert_well();
}

#[test]
fn what_waits_is_listed_with_the_suppliers_that_it_waits_for() {
    let board = Salvator::new().build();
    let machine = board.machine(Policy::default());
    machine.add_device_tree(salvator::DEVICE_TREE).unwrap();
    machine.register(bindery_drivers::sata_rcar::SataRcar);
    machine.settle();
    let tree = Tree::new(&machine);
    let deferred = tree.read("/sys/kernel/debug/devices_deferred").unwrap();
    assert!(deferred.contains("ee300000.sata\tplatform: supplier "), "{deferred}");
    let deferred = tree.read("/sys/kernel/bindery/deferred").unwrap();
    let line = deferred.lines().find(|l| l.starts_with("ee300000.sata\t")).unwrap();
    assert!(line.contains("ipmmu_hc (/soc/mmu@e6570000): no driver") || line.contains("/soc/mmu@e6570000: no driver"));
}

#[test]
fn the_seeds_words_unbind_and_the_hand_over_and_return_are_three_more_lines() {
    let r = rig();
    let type_path = format!("{SATA}/iommu_group/type");
    let group = r.tree.read_link(&format!("{SATA}/iommu_group")).unwrap();
    let before = listing(&r.tree);
    assert_eq!(r.errno("identity", &type_path), Errno::EPERM, "P7: the kernel's");
    assert_eq!(r.errno("ee300000.sata", &format!("{DRIVERS}/vfio-platform/bind")), Errno::ENODEV, "no override yet");
    r.echo("ee300000.sata", &format!("{DRIVERS}/sata_rcar/unbind"));
    assert_eq!(r.driver(), None);
    r.echo("vfio-platform", &format!("{SATA}/driver_override"));
    r.echo("ee300000.sata", "/sys/bus/platform/drivers_probe");
    assert_eq!(r.driver().as_deref(), Some("vfio-platform"));
    assert_eq!(r.errno("identity", &type_path), Errno::EPERM, "P7: the guest's");
    assert_eq!(r.errno("ee300000.sata", &format!("{DRIVERS}/sata_rcar/bind")), Errno::ENODEV, "override");
    assert_eq!(r.errno("ee300000.sata", &format!("{DRIVERS}/vfio-platform/bind")), Errno::EBUSY);
    r.echo("ee300000.sata", &format!("{DRIVERS}/vfio-platform/unbind"));
    r.echo("", &format!("{SATA}/driver_override"));
    r.echo("ee300000.sata", "/sys/bus/platform/drivers_probe");
    assert_eq!(r.driver().as_deref(), Some("sata_rcar"));
    assert_eq!(r.tree.read_link(&format!("{SATA}/iommu_group")).unwrap(), group);
    assert_eq!(listing(&r.tree), before, "P4: after the return the tree is the one of before");
    r.assert_well();
}

#[test]
fn a_supplier_that_is_unbound_takes_its_consumers_links_along() {
    let r = rig();
    r.echo("e6570000.mmu", &format!("{DRIVERS}/ipmmu-vmsa/unbind"));
    assert_eq!(r.driver(), None, "P6");
    assert!(r.tree.read(&format!("{SATA}/waiting_for_supplier")).is_err(), "gone since it was bound, as on Linux");
    assert_eq!(r.cat(&format!("{SATA}/supplier:platform:e6570000.mmu/status")), "dormant\n");
    assert!(r.tree.list(&format!("{SATA}/iommu_group")).is_err());
    assert_eq!(r.errno("ee300000.sata", &format!("{DRIVERS}/sata_rcar/bind")), Errno::EAGAIN);
    r.echo("e6570000.mmu", &format!("{DRIVERS}/ipmmu-vmsa/bind"));
    assert_eq!(r.driver().as_deref(), Some("sata_rcar"), "woken by the arrival");
    r.assert_well();
}

#[test]
fn reading_the_whole_tree_does_not_disturb_bind_and_unbind() {
    let r = rig();
    let done = AtomicBool::new(false);
    thread::scope(|s| {
        s.spawn(|| {
            let mut read = 0;
            while !done.load(Ordering::Relaxed) || read == 0 {
                read += r.tree.walk().filter(|(path, _)| r.tree.read(path).is_ok()).count();
            }
            assert!(read > 100, "{read}");
        });
        for _ in 0..30 {
            r.echo("ee300000.sata", &format!("{DRIVERS}/sata_rcar/unbind"));
            r.echo("ee300000.sata", &format!("{DRIVERS}/sata_rcar/bind"));
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(r.driver().as_deref(), Some("sata_rcar"));
    r.assert_well();
}

#[test]
fn pass_through_drivers_stand_on_the_buses_whose_devices_they_take() {
    let rig = rig();
    let on = |bus: &str| {
        let drivers = rig.tree.list(&format!("/sys/bus/{bus}/drivers")).unwrap().into_iter().map(|entry| entry.name);
        drivers.filter(|name| name.starts_with("vfio")).collect::<Vec<_>>()
    };
    assert_eq!([on("pci"), on("platform"), on("amba")], [["vfio-pci"], ["vfio-platform"], ["vfio-platform"]]);
}
