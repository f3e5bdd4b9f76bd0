//! A device that was refused to a driver: reported, listed with the reason, and retried when the resource is available again.

use super::dma::*;
use bindery::device::SupplierKind;
use bindery::dma::DmaMemory;
use bindery::driver::*;
use bindery::machine::Policy;

fn why(rig: &Rig, name: &str) -> Vec<String> {
    rig.machine.waiting().into_iter().filter(|w| &*w.device == name).flat_map(|w| w.on).collect()
}

/// A group that a pass-through user owns.
#[test]
fn a_group_is_released_by_its_owner() {
    let r = rig();
    r.machine.settle();
    r.add_master("first", 7, 929, |_| ());
    r.machine.settle();
    assert_eq!(r.driver("first"), Some("acme_master"));
    r.machine.unbind("first", "acme_master").unwrap();
    r.give(SATA);
    r.add_master("second", 8, 930, |_| ());
    r.events();
    assert_eq!(r.machine.settle().bound, 0);
    let expected = "second: not bound to acme_master, refused before its probe: group";
    let events = r.events();
    assert!(events.iter().any(|l| l.starts_with(expected) && l.contains("pass-through")), "{events:?}");
    assert!(
        why(&r, "second").iter().any(|w| w.starts_with("acme_master was refused: group")),
        "{:?}",
        r.machine.waiting()
    );
    // As Linux lists what a driver says of itself, and not as a wait for a supplier.
    let listed = bindery::control::Tree::new(&r.machine).read("/sys/kernel/debug/devices_deferred").unwrap();
    assert!(listed.lines().any(|l| l.starts_with("second\tacme_master: group")), "{listed}");
    // Others that come and go meanwhile change nothing.
    assert_eq!(r.machine.settle().attempts, 0);
    r.machine.unbind(SATA, "vfio-platform").unwrap();
    r.machine.settle();
    assert_eq!(r.driver("second"), Some("acme_master"), "nobody tried again");
    assert!(why(&r, "second").is_empty());
    assert_eq!(r.machine.promises().broken(), []);
}

/// No translation context is left; one comes back.
#[test]
fn a_context_comes_back() {
    // A seventh leaf, whose registers nobody models: the six others take all contexts but the blocked one.
    let base = bindery::addr::PhysAddr(0xe680_0000 + 0x20_0000);
    let board = bindery_sim::salvator::Salvator::new().disk(disk()).fixed(base, 0x1000, 0);
    let r = rig_on(board, Policy::default(), bindery_sim::salvator::DEVICE_TREE, |_| ());
    r.machine.settle();
    let mut leaf = r.machine.device(HC).unwrap().desc().clone();
    leaf.name = "extra.mmu".into();
    leaf.node = None;
    leaf.resources = vec![bindery::device::Resource::Mem { base, len: 0x1000 }];
    r.machine.add_device(leaf).unwrap();
    r.machine.settle();
    let behind = |name: &str, leaf: &str, stream: u32| {
        let mut d = dev(name, "acme,master");
        d.suppliers.push(need(r.node(leaf), SupplierKind::Iommu, "iommus", &[stream]));
        r.machine.add_device(d).unwrap();
        r.machine.settle();
    };
    let leaves =
        r.machine.devices().into_iter().filter(|d| d.driver() == r.driver(HC) && !d.name().starts_with("extra"));
    let names: Vec<String> = leaves.map(|d| d.name().to_string()).collect();
    for (n, leaf) in names.iter().enumerate() {
        behind(&format!("m{n}"), leaf, 1);
    }
    behind("late", "extra.mmu", 0);
    assert!(why(&r, "late").iter().any(|w| w.contains("no free translation context")), "{:?}", r.machine.waiting());
    let first =
        (0..names.len()).map(|n| format!("m{n}")).find(|m| r.driver(m).is_some() && r.group_of(m) != r.group_of(SATA));
    r.machine.unbind(&first.unwrap(), "acme_master").unwrap();
    r.machine.settle();
    assert_eq!(r.driver("late"), Some("acme_master"), "nobody tried again");
    assert!(why(&r, "late").is_empty());
    assert_eq!(r.machine.promises().broken(), []);
}

/// Needs more memory than there is while another driver holds some.
struct Hungry;
impl Driver for Hungry {
    const NAME: &'static str = "hungry";
    const MATCHES: &'static [Match] = &[Match::compatible("t,hungry")];
    type Data<'b> = bindery::dma::Coherent<'b>;
    fn probe<'b>(&self, dev: bindery::binding::Bound<'b>) -> Result<Self::Data<'b>, ProbeError> {
        dev.mark_quiesced(Quiesced::never_started());
        Ok(dev.dma().coherent(64 << 10)?)
    }
    fn quiesce(_: &Self::Data<'_>) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::stopped())
    }
}

#[test]
fn memory_comes_back() {
    let r = rig();
    r.machine.settle();
    r.machine.register(Hungry);
    let mut all = Vec::new();
    for order in (0..24).rev() {
        while let Ok(memory) = DmaMemory::allocate(r.machine.memory(), 4096 << order) {
            all.push(memory);
        }
    }
    for name in ["one", "two"] {
        r.add_master(name, 7, 929, |d| d.compatible = vec!["t,hungry".into()]);
    }
    // Both come short, and do not wake each other for ever.
    let settled = r.machine.settle();
    assert_eq!(settled.bound, 0);
    assert!(settled.attempts < 10, "{settled:?}");
    assert_eq!((why(&r, "one").len(), why(&r, "two").len()), (1, 1), "{:?}", r.machine.waiting());
    assert_eq!(r.machine.settle().attempts, 0);
    drop(all);
    r.machine.settle();
    assert_eq!((r.driver("one"), r.driver("two")), (Some("hungry"), Some("hungry")), "nobody tried again");
    assert_eq!(r.machine.promises().broken(), []);
}

/// Registers that another driver holds.
#[test]
fn a_window_of_registers_is_released() {
    struct Window;
    impl Driver for Window {
        const NAME: &'static str = "window";
        const MATCHES: &'static [Match] = &[Match::compatible("t,window")];
        type Data<'b> = bindery::binding::Mmio<'b>;
        fn probe<'b>(&self, dev: bindery::binding::Bound<'b>) -> Result<Self::Data<'b>, ProbeError> {
            Ok(dev.mmio(0)?)
        }
        fn quiesce(_: &Self::Data<'_>) -> Result<Quiesced, QuiesceError> {
            Ok(Quiesced::never_started())
        }
    }
    let r = rig();
    r.machine.settle();
    r.machine.unbind(SATA, "sata_rcar").unwrap();
    r.machine.register(Window);
    for name in ["one", "two"] {
        let mut d = dev(name, "t,window");
        d.resources.push(mem(bindery_sim::salvator::SATA_BASE.0, 0x1000));
        r.machine.add_device(d).unwrap();
    }
    r.machine.settle();
    assert_eq!((r.driver("one"), r.driver("two")), (Some("window"), None));
    assert!(why(&r, "two").iter().any(|w| w.contains("one")), "{:?}", r.machine.waiting());
    r.machine.unbind("one", "window").unwrap();
    r.machine.settle();
    assert_eq!((r.driver("one"), r.driver("two")), (None, Some("window")), "nobody tried again");
    assert_eq!(r.machine.promises().broken(), []);
}

/// A permanent refusal is reported and listed, and not retried for ever.
#[test]
fn a_stream_that_the_iommu_does_not_have() {
    let r = rig_with(Policy::default(), bindery_sim::salvator::DEVICE_TREE);
    r.machine.settle();
    r.add_master("far", 4000, 929, |_| ());
    r.events();
    r.machine.settle();
    let events = r.events();
    assert!(
        events.iter().any(|l| l.starts_with("far: not bound to acme_master, refused before its probe")),
        "{events:?}"
    );
    assert!(why(&r, "far").iter().any(|w| w.contains("no such stream")), "{:?}", r.machine.waiting());
    r.machine.unbind(SATA, "sata_rcar").unwrap();
    assert_eq!(r.machine.settle().attempts, 0);
    // It is in the control tree's list, too.
    let tree = bindery::control::Tree::new(&r.machine);
    let listed = tree.read("/sys/kernel/debug/devices_deferred").unwrap();
    assert!(listed.contains("far") && listed.contains("no such stream"), "{listed}");
    assert_eq!(r.machine.promises().broken(), []);
}
