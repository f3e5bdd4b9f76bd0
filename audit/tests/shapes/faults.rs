//! Faults that IOMMUs report, and IOMMUs that do not answer.

use super::Shape;
use super::Want::{CannotTell, Nothing, Violated};

pub(crate) const SHAPES: &[Shape] = &[
    Shape {
        source: "qualcomm/fastrpc#353",
        text: "0x000000000177AAFA |    863.168579:   arm-smmu 16000000.iommu: Unhandled context fault: fsr=0x402, iova=0xfd6ff000, fsynr=0x540013, cbfrsynra=0x18c3, cb=9\n\
               0x000000000177AB84 |    863.170593:   arm-smmu 16000000.iommu: FSR    = 00000402 [TF ], SID=0x18c3\n\
               0x000000000177AB99 |    863.171480:   arm-smmu 16000000.iommu: soft iova-to-phys=0x0000000000000000\n",
        want: CannotTell,
        says: &["1 fault of 16000000.iommu", "stream 0x18c3", "0xfd6ff000"],
        hides: &["2 faults"],
    },
    Shape {
        source: "openwrt/mt76#1007",
        text: "arm_smmu_context_fault: 71 callbacks suppressed\n\
               arm-smmu 6000000.iommu: Unhandled context fault: fsr=0x402, iova=0xff2cf000, fsynr=0x300003, cbfrsynra=0x40a, cb=11\n\
               arm-smmu 6000000.iommu: Stack trace:\n\
               CPU: 0 UID: 0 PID: 1582 Comm: exwifi-tx phy0 Not tainted 6.12.22 #29\n\
               Call trace:\n dump_backtrace+0x98/0x120\n arm_smmu_context_fault+0x110/0x138\n exwifi_tx_worker+0x1c/0x150 [exwifi]\n",
        want: CannotTell,
        says: &["stream 0x40a", "71 messages of arm_smmu_context_fault"],
        hides: &["crash"],
    },
    Shape {
        source: "sm7150-mainline/linux#61",
        text: "[    0.561258] arm-smmu 16000000.iommu: FSYNR0 = 007c0020 [S1CBNDX=124 PNU PLVL=0]\n\
               [    0.561287] arm-smmu 16000000.iommu: Unhandled context fault: fsr=0x402, iova=0x9c4b8000, fsynr=0x7c0020, cbfrsynra=0x810, cb=7\n\
               [    0.561295] arm-smmu 16000000.iommu: FSR    = 00000402 [Format=2 TF], SID=0x810\n\
               [    0.561303] arm-smmu 16000000.iommu: FSYNR0 = 007c0020 [S1CBNDX=124 PNU PLVL=0]\n\
               [    0.561323] arm-smmu 16000000.iommu: Unhandled context fault: fsr=0x402, iova=0x9c4b8d00, fsynr=0x7c0020, cbfrsynra=0xc41, cb=7\n",
        want: CannotTell,
        says: &["stream 0x810", "stream 0xc41"],
        hides: &[],
    },
    Shape {
        source: "commaai/agnos-kernel-sdm845#120",
        text: "[ 1440.122844] arm-smmu 16000000.apps-smmu: Unhandled context fault: iova=0xa09d60c8, fsr=0x40000402, fsynr=0x300003, cb=5\n\
               [ 1440.122880] arm-smmu 16000000.apps-smmu: FAR    = 00000000a09d60c8\n\
               [ 1440.122904] arm-smmu 16000000.apps-smmu: FSR    = 40000402 [TF SS ]\n\
               [ 1440.122946] arm-smmu 16000000.apps-smmu: SOFTWARE TABLE WALK FAILED! Looks like 16000000.apps-smmu accessed an unmapped address!\n\
               [ 1440.122986] arm-smmu 16000000.apps-smmu: SID=0x40\n",
        want: CannotTell,
        says: &["stream 0x40, address 0xa09d60c8"],
        hides: &[],
    },
    Shape {
        source: "the same, with another CPU's line between",
        text: "[ 1440.122844] arm-smmu 16000000.apps-smmu: Unhandled context fault: iova=0xa09d60c8, fsr=0x40000402, fsynr=0x300003, cb=5\n\
               [ 1440.122851] usb 1-1: new high-speed USB device number 2 using xhci_hcd\n\
               [ 1440.122880] arm-smmu 16000000.apps-smmu: FAR    = 00000000a09d60c8\n\
               [ 1440.122986] arm-smmu 16000000.apps-smmu: SID=0x40\n",
        want: CannotTell,
        says: &["1 fault of 16000000.apps-smmu: an unnamed stream, address 0xa09d60c8"],
        hides: &["stream 0x40"],
    },
    Shape {
        source: "opencomputeproject/OpenNetworkLinux#897",
        text: "    [10672.868940] DMAR: [DMA Write] Request device [00:13.0] fault addr 0 [fault reason 05] PTE Write access is not set\n    \
               [10672.869183] DMAR: DRHD: handling fault status reg 2\n    \
               [10672.869188] DMAR: [DMA Write] Request device [00:13.0] fault addr 0 [fault reason 05] PTE Write access is not set\n    \
               [10677.928602] dmar_fault: 2474 callbacks suppressed\n    \
               [10677.928604] DMAR: DRHD: handling fault status reg 2\n",
        want: CannotTell,
        says: &["0000:00:13.0", "at 0x0", "2474"],
        hides: &["violated"],
    },
    Shape {
        source: "patmagauran/i915ovmfPkg#23",
        text: "[  139.513963] DMAR: DRHD: handling fault status reg 3\n\
               [  144.480629] dmar_fault: 893 callbacks suppressed\n\
               [  144.480641] vfio-pci 0000:00:02.0: vfio_ecap_init: hiding ecap 0x1b@0x100\n\
               [  144.497303] DMAR: [DMA Read] Request device [00:02.0] PASID ffffffff fault addr 9c001000 [fault reason 06] PTE Read access is not set\n\
               [  144.513969] DMAR: [DMA Read] Request device [00:02.0] PASID ffffffff fault addr 9c001000 [fault reason 06] PTE Read access is not set\n",
        want: Nothing,
        says: &["2 faults", "0x9c001000", "while vfio owns it"],
        hides: &[],
    },
    Shape {
        source: "patmagauran/i915ovmfPkg#16",
        text: "[  228.845965] DMAR: [DMA Write] Request device [00:02.0] PASID ffffffff fault addr 0 [fault reason 02] Present bit in context entry is clear\n",
        want: CannotTell,
        says: &["Present bit in context entry is clear", "nothing is torn down"],
        hides: &[],
    },
    Shape {
        source: "Avnu/igb_avb#11",
        text: "\tDMAR: [DMA Read] Request device [06:00.0] fault addr ffxxxxxx [fault reason 06] PTE Read access is not set\n",
        want: CannotTell,
        says: &["0000:06:00.0", "an unknown address"],
        hides: &["0xff"],
    },
    Shape {
        source: "thesofproject/sof-test#744",
        text: "[    0.938401] kernel: DMAR: [DMA Read NO_PASID] Request device [0x00:0x02.0] fault addr 0x70ad4000 [fault reason 0x07] Next page table ptr is invalid\n",
        want: CannotTell,
        says: &["0000:00:02.0", "0x70ad4000"],
        hides: &["0x00:0x02.0,"],
    },
    Shape {
        source: "Dasharo/dasharo-issues#641",
        text: "[    0.361089] DMAR: [DMA Read NO_PASID] Request device [00:02.0] fault addr 0x7cd81000 [fault reason 0x01] Present bit in root entry is clear\n\
               [    0.361100] DMAR: DRHD: handling fault status reg 3\n",
        want: CannotTell,
        says: &["nothing is torn down"],
        hides: &["R9  violated"],
    },
    Shape {
        source: "Dasharo/dasharo-issues#1134",
        text: "[   40.182570] exwifi_pci 0000:01:00.0: AMD-Vi: Event logged [IO_PAGE_FAULT domain=0x000d address=0xcff49551 flags=0x0070]\n\
               [   54.820661] exwifi_pci 0000:01:00.0: AMD-Vi: Event logged [IO_PAGE_FAULT domain=0x000d address=0xcece9e51 flags=0x0070]\n",
        want: CannotTell,
        says: &["2 faults (AMD-Vi)", "writes"],
        hides: &["direction that the record does not tell"],
    },
    Shape {
        source: "pcengines/apu2-documentation#240",
        text: "kernel: [   13.134460] AMD-Vi: Event logged [\n\
               kernel: [   13.137925] INVALID_DEVICE_REQUEST device=00:00.1 address=0x000000fdf8000020 flags=0x0a00]\n\
               kernel: [  221.562629] AMD-Vi: Event logged [\n\
               kernel: [  221.565929] IO_PAGE_FAULT device=05:00.0 domain=0x0012 address=0x00000000ff6101b1 flags=0x0070]\n\
               kernel: [  221.565938] AMD-Vi: Event logged [\n\
               kernel: [  221.569235] IO_PAGE_FAULT device=05:00.0 domain=0x0012 address=0x00000000ff6101c1 flags=0x0070]\n",
        want: CannotTell,
        says: &["0000:05:00.0", "2 faults (AMD-Vi) at 0xff6101b1"],
        hides: &[],
    },
    Shape {
        source: "amd/xdna-driver#181",
        text: "AMD-Vi: Event logged [IO_PAGE_FAULT domain=0x001a address=0xfffc7000 flags=0x0050]\n",
        want: CannotTell,
        says: &["0xfffc7000", "an unnamed device"],
        hides: &[],
    },
    Shape {
        source: "pop-os/pop#853",
        text: "[   10.919601] amd_iommu_report_page_fault: 96 callbacks suppressed\n\
               [   10.919607] nvme 0000:01:00.0: AMD-Vi: Event logged [IO_PAGE_FAULT domain=0x0000 address=0xfc18a000 flags=0x0000]\n",
        want: CannotTell,
        says: &["at least 1 fault", "96", "direction that the record does not tell"],
        hides: &[],
    },
    Shape {
        source: "gnif/vendor-reset#81",
        text: "Jun 15 11:59:16   kernel: iommu ivhd0: AMD-Vi: Event logged [IOTLB_INV_TIMEOUT device=0000:0c:00.0 address=0x1002147e1]\n\
               Jun 15 11:59:17   kernel: AMD-Vi: Completion-Wait loop timed out\n",
        want: Violated(&["R16"]),
        says: &["0000:0c:00.0", "not tied to a device"],
        hides: &[],
    },
    Shape {
        source: "endlessm/linux#460",
        text: "Apr 09 11:28:59 ex kernel: AMD-Vi: Completion-Wait loop timed out\n\
               Apr 09 11:28:59 ex kernel: iommu ivhd0: AMD-Vi: Event logged [IOTLB_INV_TIMEOUT device=01:00.0 address=0x216d8e621]\n",
        want: Violated(&["R16"]),
        says: &["0000:01:00.0"],
        hides: &[],
    },
    Shape {
        source: "rockchip-linux/kernel#102",
        text: "[   12.000000] rk_iommu ff930300.iommu: Page fault at 0x00af2000 of type read\n\
               [   12.000010] rk_iommu ff930300.iommu: iova = 0x00af2000: dte_index: 0x2 pte_index: 0x2f1 page_offset: 0x0\n",
        want: CannotTell,
        says: &["1 fault of ff930300.iommu", "0xaf2000"],
        hides: &["2 faults"],
    },
    Shape {
        source: "rockchip-linux/mpp#736",
        text: "rk_iommu 27920f00.iommu: Page fault at 0x0000000002010041 of type read\n\
               rk_iommu 27920f00.iommu: iova = 0x0000000002010041: dte_index: 0x8 pte_index: 0x10 page_offset: 0x41\n\
               rga: 0      0     : IOMMU intr fault, IOVA[0x2010041], STATUS[0x24b]\n\
               rga: 0      0     : RGA IOMMU: page fault! Please check the memory size.\n",
        want: CannotTell,
        says: &["1 fault of 27920f00.iommu", "0x2010041"],
        hides: &["2 faults"],
    },
    Shape {
        source: "JeffyCN/rockchip_mirrors#12",
        text: "```\n[   42.213800] rk_iommu ff650800.iommu: Page fault at 0x0000000004382011 of type write\n\
               [   42.215438] rk_iommu ff650800.iommu: mmu_dte_addr: 0x000000003da7c000 dte@0x000000003da7c040: 0x000000 valid: 0 pte@0x0000000000000000: 0x000000 valid: 0 page@0x0000000000000000 flags: 0x0\n\
               [   42.216918] rk-vcodec ff650000.vpu_service: vcodec, fault addr 0x04382011 status 6b\n```\n",
        want: CannotTell,
        says: &["ff650800.iommu", "0x4382011"],
        hides: &["2 faults"],
    },
];
