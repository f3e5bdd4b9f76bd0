//! F05: an IOMMU with too few translation contexts.

use super::dma::*;

/// The leaves of the board whose masters are free for a test, and a device for each.
const LEAVES: [&str; 7] =
    ["e6740000.mmu", "e7740000.mmu", "e6570000.mmu", "ec670000.mmu", "ffc80000.mmu", "febd0000.mmu", "febe0000.mmu"];

#[test]
fn f05_the_master_that_is_one_too_many_for_the_contexts_waits_and_binds_when_one_is_free() {
    let r = rig();
    r.machine.settle();
    let leaves: Vec<_> = LEAVES.iter().filter(|l| r.driver(l) == Some("ipmmu-vmsa")).collect();
    // The board has more contexts than leaves: all but two are taken, one by a domain that somebody keeps.
    let iommu = r.machine.groups()[0].iommus().remove(0);
    let mut kept = Vec::new();
    while let Ok(domain) = iommu.domain(bindery::iommu::DomainKind::Strict) {
        kept.push(domain);
    }
    r.machine.unbind(SATA, "sata_rcar").unwrap();
    assert!(kept.len() > 1, "{} contexts were free", kept.len());
    kept.pop();
    // The disk's context and one more are free, for three masters of three groups.
    let names = ["master0", "master1", "master2"];
    for (name, leaf) in names.iter().zip(&leaves) {
        let mut d = dev(name, "acme,master");
        d.suppliers.push(need(r.node(leaf), bindery::device::SupplierKind::Iommu, "iommus", &[40]));
        r.machine.add_device(d).unwrap();
        r.machine.settle();
    }
    assert_eq!(names.map(|n| r.driver(n).is_some()), [true, true, false]);
    let waits: Vec<_> = r.machine.waiting().into_iter().map(|w| format!("{w:?}")).collect();
    assert!(waits.iter().any(|w| w.contains("master2") && w.contains("context")), "with its reason: {waits:?}");
    r.machine.remove_device("master0");
    r.machine.settle();
    assert_eq!(r.driver("master2"), Some("acme_master"), "a context is free");
    assert_eq!(r.machine.promises().broken(), []);
}
