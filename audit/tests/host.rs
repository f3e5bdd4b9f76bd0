//! A saved listing of sysfs ties streams to devices.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::fs;
use std::io::Cursor;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use bindery_audit::host::Host;
use bindery_audit::{Auditor, Options};
use common::trace::{DEV, Trace};
use common::{Audited, done};

/// A folder that goes with the test.
struct Tree(PathBuf);

impl Tree {
    fn new(name: &str) -> Self {
        let root = std::env::temp_dir().join(format!("bindery-audit-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        fs::create_dir_all(&root).unwrap();
        Self(root)
    }

    fn link(&self, from: &str, to: &str) -> &Self {
        let from = self.0.join("sys").join(from);
        fs::create_dir_all(from.parent().unwrap()).unwrap();
        symlink(to, from).unwrap();
        self
    }

    fn cells(&self, at: &str, cells: &[u32]) -> &Self {
        let at = self.0.join("sys").join(at);
        fs::create_dir_all(at.parent().unwrap()).unwrap();
        fs::write(at, cells.iter().flat_map(|cell| cell.to_be_bytes()).collect::<Vec<u8>>()).unwrap();
        self
    }

    fn folder(&self, at: &str) -> &Self {
        fs::create_dir_all(self.0.join("sys").join(at)).unwrap();
        self
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn audit(tree: &Path, text: &str) -> Audited {
    let host = Host::read(tree).unwrap();
    let mut auditor = Auditor::new(Options { host, ..Options::default() });
    auditor.read("text", Cursor::new(text.as_bytes().to_vec()), &mut |_| ()).unwrap();
    done(auditor)
}

#[test]
fn a_platform_device_is_told_by_its_iommus_property() {
    let tree = Tree::new("platform");
    tree.folder("devices/platform/soc/a600000.usb")
        .link("bus/platform/devices/a600000.usb", "../../../devices/platform/soc/a600000.usb")
        .link("devices/platform/soc/a600000.usb/iommu_group", "../../../../kernel/iommu_groups/7")
        .link("devices/platform/soc/a600000.usb/iommu", "../../16000000.iommu/iommu/16000000.iommu")
        .cells("devices/platform/soc/a600000.usb/of_node/iommus", &[5, 0x540, 5, 0x541]);
    let text = "[  100.000000] exusb a600000.usb: driver unbound\n\
                [  100.004001] arm-smmu 16000000.iommu: Unhandled context fault: fsr=0x402, iova=0x7ffc0000, fsynr=0x10, cbfrsynra=0x541, cb=3\n";
    audit(&tree.0, text).violates(&["R9"]).says(&["a600000.usb", "4 ms"]).hides(&["nothing in the file ties"]);
    // Another stream, and another IOMMU, are still nobody's.
    audit(&tree.0, &text.replace("0x541", "0x542")).cannot_tell().says(&["stream 0x542"]);
    audit(&tree.0, &text.replace("16000000", "17000000")).cannot_tell().says(&["17000000.iommu"]);
}

#[test]
fn a_pci_device_is_told_by_its_bridges_iommu_map_and_the_iommus_own_name() {
    let tree = Tree::new("pci");
    let device = "devices/platform/40000000.pcie/pci0000:00/0000:00:02.0/0000:03:00.0";
    tree.folder(device)
        .link("bus/pci/devices/0000:03:00.0", &format!("../../../{device}"))
        .link(&format!("{device}/iommu"), "../../../../../virtual/iommu/smmu3.0x000000002b400000")
        .folder("devices/virtual/iommu/smmu3.0x000000002b400000")
        .link("devices/virtual/iommu/smmu3.0x000000002b400000/device", "../../../platform/arm-smmu-v3.1.auto")
        .cells("devices/platform/40000000.pcie/of_node/iommu-map", &[0, 9, 0x1000, 0x10000]);
    let words = |iommu: &str| {
        let line = |n: u32, words: &str| format!("[  812.4102{n}] arm-smmu-v3 {iommu}: {words}\n");
        format!(
            "[  812.401877] igb 0000:03:00.0: removed PHC on enp3s0\n{}{}{}{}{}",
            line(33, "event 0x10 received:"),
            line(34, "\t0x0000130000000010"),
            line(35, "\t0x0000020000000000"),
            line(36, "\t0x00000000fdf43000"),
            line(37, "\t0x0000000000000000")
        )
    };
    for iommu in ["arm-smmu-v3.1.auto", "2b400000.iommu"] {
        audit(&tree.0, &words(iommu)).violates(&["R9"]).says(&["0000:03:00.0", "0xfdf43000"]);
    }
    audit(&tree.0, &words("arm-smmu-v3.0.auto")).cannot_tell().says(&["stream 0x1300"]);
}

#[test]
fn a_tree_without_devices_is_refused() {
    let tree = Tree::new("empty");
    tree.folder("bus");
    assert!(Host::read(&tree.0).unwrap_err().to_string().contains("bus/*/devices"));
}

#[test]
fn a_recorders_listing_ties_streams_as_the_tree_does() {
    let listed = "# sysfs 0000:03:00.0 bus=pci driver=igb group=3 iommu=smmu3.0x000000002b400000 iommu-device=2b400000.iommu \
                  streams=0x300 at=devices/pci0000:00/0000:03:00.0\n";
    let log = "[  812.401877] igb 0000:03:00.0: removed PHC on enp3s0\n\
               [  812.410233] arm-smmu-v3 2b400000.iommu: event 0x10 received:\n\
               [  812.410241] arm-smmu-v3 2b400000.iommu: \t0x0000030000000010\n\
               [  812.410249] arm-smmu-v3 2b400000.iommu: \t0x0000020800000000\n\
               [  812.410256] arm-smmu-v3 2b400000.iommu: \t0x00000000fdf43000\n\
               [  812.410263] arm-smmu-v3 2b400000.iommu: \t0x0000000000000000\n";
    common::audit(&format!("{listed}{log}")).violates(&["R9"]).says(&["0xfdf43000"]).hides(&["--host"]);
    common::audit(log).cannot_tell().says(&["--host"]);
}

#[test]
fn a_saved_tree_tells_the_type_of_a_group() {
    let text = |boot: &str| {
        let mut t = Trace::new();
        t.line(boot).probe().line("dma_direct_alloc <-dma_alloc_attrs").line(&format!(
            "dma_alloc: {DEV} dir=BIDIRECTIONAL dma_addr=7cfff000 size=2048 virt_addr=00000000dead0001 flags=GFP_KERNEL attrs="
        ));
        t.text.clone()
    };
    let with = |kind: &str, boot: &str| {
        let tree = Tree::new(&format!("type-{kind}"));
        tree.folder("kernel/iommu_groups/7").folder("bus/pci/devices");
        fs::write(tree.0.join("sys/kernel/iommu_groups/7/type"), format!("{kind}\n")).unwrap();
        tree.link(&format!("devices/pci0000:00/{DEV}/iommu_group"), "../../../kernel/iommu_groups/7");
        tree.link(&format!("bus/pci/devices/{DEV}"), &format!("../../../devices/pci0000:00/{DEV}"));
        audit(&tree.0, &text(boot))
    };
    let translated = "console: iommu: Default domain type: Translated";
    with("DMA-FQ", translated).violates(&["R13"]);
    assert!(with("identity", translated).violated().is_empty());
    // VFIO owns the group, or its type is another one.
    assert!(with("blocked", translated).violated().is_empty());
}
