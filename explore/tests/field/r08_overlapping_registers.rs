//! Two devices whose firmware nodes name the same registers.

use super::kernel::*;
use bindery::binding::{Bound, Mmio};
use bindery::control::Tree;
use bindery::driver::*;

struct Pm;
struct Mbox;
struct Sharer;
macro_rules! drv {
    ($t:ident, $n:literal, $c:literal, $mmio:ident) => {
        impl Driver for $t {
            const NAME: &'static str = $n;
            const MATCHES: &'static [Match] = &[Match::compatible($c)];
            type Data<'b> = Mmio<'b>;
            fn probe<'b>(&self, dev: Bound<'b>) -> Result<Mmio<'b>, ProbeError> {
                let r = dev.$mmio(0)?;
                r.read32(0)?;
                Ok(r)
            }
            fn quiesce(_: &Mmio<'_>) -> Result<Quiesced, QuiesceError> {
                Ok(Quiesced::stopped())
            }
        }
    };
}
drv!(Pm, "pm", "t,pm", mmio);
drv!(Mbox, "mbox", "t,mbox", mmio);
drv!(Sharer, "sharer", "t,sharer", mmio_shared);

const CPG: &str = "e6150000.clock-controller";
const SYSC: u64 = 0xe618_0000;

#[test]
fn the_same_window() {
    let rig = rig();
    rig.machine.register(Pm);
    rig.machine.register(Mbox);
    rig.machine.settle();
    // The clock controller's own registers, which its driver holds.
    for (n, c) in [("a-pm", "t,pm"), ("b-mbox", "t,mbox")] {
        let mut d = dev(n, c);
        d.resources.push(mem(0xe6150000, 0x1000));
        rig.machine.add_device(d).unwrap();
    }
    rig.machine.settle();
    assert_eq!((rig.driver(CPG), rig.driver("a-pm"), rig.driver("b-mbox")), (Some("renesas-cpg-mssr"), None, None));
    let events = rig.events();
    let refused = "b-mbox: registers 0xe6150000 + 0x1000 (exclusive) for mbox refused: \
                   registers 0xe6150000 + 0x1000 are held by e6150000.clock-controller (renesas-cpg-mssr)";
    assert!(events.iter().any(|s| s == refused), "{events:#?}");
    let error = rig.machine.bind("a-pm", "pm").unwrap_err();
    assert_eq!(error.errno(), Errno::EBUSY, "{error}");
    assert!(error.to_string().contains("held by e6150000.clock-controller (renesas-cpg-mssr)"), "{error}");
    let claims = Tree::new(&rig.machine).read("/sys/kernel/bindery/claims").unwrap();
    let line = "registers 0xe6150000 + 0x1000\texclusive\te6150000.clock-controller (renesas-cpg-mssr)\n";
    assert!(claims.contains(line), "{claims}");
    assert_eq!(rig.machine.promises().broken(), []);
}

/// In whatever order, and also when they only overlap: the one that is there keeps them, and when it goes the other may.
#[test]
fn whoever_comes_first_and_only_as_long_as_it_is_there() {
    let rig = rig();
    rig.machine.register(Pm);
    rig.machine.register(Mbox);
    for (n, c, base, len) in [("a-pm", "t,pm", SYSC, 0x200), ("b-mbox", "t,mbox", SYSC + 0x1fc, 0x80)] {
        let mut d = dev(n, c);
        d.resources.push(mem(base, len));
        rig.machine.add_device(d).unwrap();
    }
    rig.machine.unregister("rcar-sysc");
    rig.machine.settle();
    assert_eq!((rig.driver("a-pm"), rig.driver("b-mbox")), (Some("pm"), None));
    rig.machine.unbind("a-pm", "pm").unwrap();
    rig.machine.bind("b-mbox", "mbox").unwrap();
    assert!(rig.machine.bind("a-pm", "pm").unwrap_err().to_string().contains("held by b-mbox (mbox)"));
    rig.machine.remove_device("b-mbox");
    rig.machine.bind("a-pm", "pm").unwrap();
    assert_eq!(rig.machine.promises().broken(), []);
}

#[test]
fn registers_are_shared_when_all_holders_say_so() {
    let rig = rig();
    rig.machine.register(Pm);
    rig.machine.register(Sharer);
    rig.machine.unregister("rcar-sysc");
    for (n, c) in [("a-one", "t,sharer"), ("b-two", "t,sharer"), ("c-pm", "t,pm")] {
        let mut d = dev(n, c);
        d.resources.push(mem(SYSC, 0x400));
        rig.machine.add_device(d).unwrap();
    }
    rig.machine.settle();
    assert_eq!((rig.driver("a-one"), rig.driver("b-two"), rig.driver("c-pm")), (Some("sharer"), Some("sharer"), None));
    rig.machine.unbind("a-one", "sharer").unwrap();
    let error = rig.machine.bind("c-pm", "pm").unwrap_err().to_string();
    assert!(error.contains("held by b-two (sharer), shared"), "{error}");
    rig.machine.unbind("b-two", "sharer").unwrap();
    rig.machine.bind("c-pm", "pm").unwrap();
    assert_eq!(rig.machine.promises().broken(), []);
}

/// A device that can be handed over, with its own clock and reset, and registers at `base`.
fn given(rig: &Rig, name: &str, stream: u32, base: u64, len: u64) {
    let (hc, cpg) = (rig.node("e6570000.mmu"), rig.node(CPG));
    let mut d = dev(name, "t,given");
    d.resources.push(mem(base, len));
    d.suppliers.push(need(hc, bindery::device::SupplierKind::Iommu, "iommus", &[stream]));
    d.suppliers.push(need(cpg, bindery::device::SupplierKind::Clock, "clocks", &[1, 602 + stream]));
    d.suppliers.push(need(cpg, bindery::device::SupplierKind::Reset, "resets", &[602 + stream]));
    rig.machine.add_device(d).unwrap().set_driver_override(Some("vfio-platform"));
}

/// And with a guest: registers that a host's driver holds are not given to it as its own device's.
#[test]
fn owned_by_a_guest() {
    let rig = rig();
    rig.machine.settle();
    rig.machine.unbind(SATA, "sata_rcar").unwrap();
    given(&rig, "given", 9, 0xe6150000, 0x1000);
    rig.machine.settle();
    assert_eq!(rig.driver("given"), None);
    let error = rig.machine.bind("given", "vfio-platform").unwrap_err().to_string();
    assert!(error.contains("held by e6150000.clock-controller (renesas-cpg-mssr)"), "{error}");
    assert_eq!(rig.machine.promises().broken(), []);
}

/// A guest maps whole pages: what else lies on them is neither another's already, nor becomes another's while it has them.
#[test]
fn a_guest_has_whole_pages() {
    let rig = rig();
    rig.machine.settle();
    rig.machine.unbind(SATA, "sata_rcar").unwrap();
    rig.machine.register(Pm);
    rig.machine.register(Sharer);
    // Three windows on one page of the disk controller's block, and one on the next.
    const PAGE: u64 = 0xee30_0000;
    for (name, compatible, base) in
        [("a-pm", "t,pm", PAGE), ("b-sharer", "t,sharer", PAGE), ("c-pm", "t,pm", PAGE + 0x1000)]
    {
        let mut d = dev(name, compatible);
        d.resources.push(mem(base, 0x40));
        rig.machine.add_device(d).unwrap();
    }
    rig.machine.settle();
    // Refused on the way: the first has it, and does not share.
    assert_eq!((rig.driver("a-pm"), rig.driver("b-sharer"), rig.driver("c-pm")), (Some("pm"), None, Some("pm")));
    given(&rig, "given", 9, PAGE + 0x800, 0x40);
    rig.machine.settle();
    let error = rig.machine.bind("given", "vfio-platform").unwrap_err().to_string();
    assert!(error.contains("held by a-pm (pm)"), "they meet within the page: {error}");
    rig.machine.unbind("a-pm", "pm").unwrap();
    rig.machine.bind("b-sharer", "sharer").unwrap();
    let error = rig.machine.bind("given", "vfio-platform").unwrap_err().to_string();
    assert!(error.contains("held by b-sharer (sharer)"), "a guest never shares: {error}");
    rig.machine.unbind("b-sharer", "sharer").unwrap();
    rig.machine.bind("given", "vfio-platform").unwrap();
    assert_eq!(rig.driver("c-pm"), Some("pm"), "the next page is another's");
    for (device, driver) in [("a-pm", "pm"), ("b-sharer", "sharer")] {
        let error = rig.machine.bind(device, driver).unwrap_err().to_string();
        assert!(error.contains("held by given (vfio-platform)"), "{error}");
    }
    // A second guest on the same page.
    given(&rig, "other", 10, PAGE + 0xc00, 0x40);
    let error = rig.machine.bind("other", "vfio-platform").unwrap_err().to_string();
    assert!(error.contains("vfio-platform"), "{error}");
    assert_eq!(rig.machine.promises().broken(), []);
}

/// The interrupt controller's registers, which the machine's env drives itself, and the machine's own RAM.
#[test]
fn supplies_that_no_driver_holds_and_that_stay_on_all_the_same() {
    let rig = rig();
    rig.machine.settle();
    rig.machine.register(Pm);
    let ram = rig.machine.memory().memory().ranges()[0].base.0;
    for (name, base, holder) in [
        ("a-gic", 0xf101_0000, "held by f1010000.interrupt-controller (env)"),
        ("b-ram", ram, "held by the machine (RAM)"),
    ] {
        let mut d = dev(name, "t,pm");
        d.resources.push(mem(base, 0x1000));
        rig.machine.add_device(d).unwrap();
        rig.machine.settle();
        assert_eq!(rig.driver(name), None);
        let error = rig.machine.bind(name, "pm").unwrap_err().to_string();
        assert!(error.contains(holder), "{error}");
    }
    assert_eq!(rig.machine.promises().broken(), []);
}
