//! `iommu-map`.
use super::dma::*;
use bindery::binding::Bound;
use bindery::device::{Nodes, SupplierKind};
use bindery::driver::*;
use bindery::firmware::fdt::describe;
use bindery::machine::Policy;
use bindery_sim::salvator::Salvator;

struct Bridge;
impl Driver for Bridge {
    const NAME: &'static str = "acme_bridge";
    const MATCHES: &'static [Match] = &[Match::compatible("acme,host-bridge")];
    type Data<'b> = ();
    fn probe(&self, dev: Bound<'_>) -> Result<(), ProbeError> {
        let _ = dev;
        Ok(())
    }
    fn quiesce((): &()) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::never_started())
    }
}

#[test]
fn a_host_bridge_that_does_no_dma_itself_can_be_bound() {
    let blob = include_bytes!("trees/s06_host_bridge.dtb");
    let r = rig_on(
        Salvator::new().disk(disk()).fixed(bindery::addr::PhysAddr(0xfe00_0000), 0x8_0000, 0),
        Policy::default(),
        blob,
        |_| (),
    );
    r.machine.register(Bridge);
    r.machine.settle();
    println!("{:?}", r.events().into_iter().filter(|l| l.starts_with("fe000000.pcie")).collect::<Vec<_>>());
    println!("bind: {:?}; {}", r.machine.bind("fe000000.pcie", "acme_bridge").map_err(|e| e.to_string()), r.verdict());
    assert_eq!(r.driver("fe000000.pcie"), Some("acme_bridge"), "the map is for what lies behind the bridge");
}

#[test]
fn entries_are_as_long_as_the_iommu_says() {
    let mut nodes = Nodes::default();
    let d = describe(include_bytes!("trees/s06_two_cells.dtb"), &mut nodes).unwrap();
    let bridge = d.devices.iter().find(|d| d.compatible.iter().any(|c| &**c == "acme,host-bridge")).unwrap();
    let links: Vec<_> = bridge
        .suppliers
        .iter()
        .filter(|s| s.kind == SupplierKind::Iommu)
        .map(|s| (nodes.name(s.node), s.args.clone()))
        .collect();
    println!("{links:x?}; notes {:?}", d.notes.iter().map(ToString::to_string).collect::<Vec<_>>());
    assert!(
        links.iter().all(|(n, _)| n.contains("iommu@10000")) && links.len() == 2,
        "entries of five cells were read as entries of four: {links:x?}"
    );
}
