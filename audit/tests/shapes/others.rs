//! IOMMUs of systems on chips and of virtual machines, and what IOMMUs say that is no fault of a mapping.

use super::Shape;
use super::Want::{CannotTell, Nothing, Violated};

pub(crate) const SHAPES: &[Shape] = &[
    Shape {
        source: "AsahiLinux/linux, apple-dart",
        text: "[  101.342518] apple-dart 38b304000.iommu: translation fault: status:0x80000808 stream:3 code:0x8 (NO PTE FOR IOVA) at 0xffff8000\n",
        want: CannotTell,
        says: &["38b304000.iommu", "stream 0x3", "0xffff8000"],
        hides: &["violated"],
    },
    Shape {
        source: "virtio-iommu of a guest",
        text: "[   44.120031] virtio_iommu virtio3: page fault from EP 8 at 0xfffff000 [W]\n\
               [   44.120040] virtio_iommu virtio3: domain fault from EP 16\n",
        want: CannotTell,
        says: &["virtio3", "stream 0x8", "0xfffff000", "stream 0x10"],
        hides: &["violated"],
    },
    Shape {
        source: "RISC-V IOMMU as a platform device",
        text: "[   91.004410] riscv-iommu 3010000.iommu: Fault 15 devid: 0x8 iotval: ff9d3000 iotval2: 0\n",
        want: CannotTell,
        says: &["3010000.iommu", "stream 0x8", "0xff9d3000"],
        hides: &["violated"],
    },
    Shape {
        source: "RISC-V IOMMU as a PCI device, after a driver has left",
        text: "[   90.100000] exnet 0000:00:02.0 eth0: removed PHC\n\
               [   91.004410] riscv-iommu-pci 0000:00:01.0: Fault 13 devid: 0x10 iotval: fffef000 iotval2: 0\n",
        want: CannotTell,
        says: &["0000:00:01.0", "stream 0x10", "0xfffef000", "Probable: 0000:00:02.0"],
        hides: &["violated"],
    },
    Shape {
        source: "sun50i-iommu",
        text: "[   17.601412] sun50i-iommu 30f0000.iommu: Page fault for 0x00000000fff12000 (master 3, dir wr)\n",
        want: CannotTell,
        says: &["30f0000.iommu", "stream 0x3", "0xfff12000"],
        hides: &["violated"],
    },
    Shape {
        source: "exynos-sysmmu, which names the device",
        text: "[  310.204104] exynos-sysmmu 14650000.sysmmu: 14450000.mixer: [READ] PAGE FAULT occurred at 0x20000000\n",
        want: CannotTell,
        says: &["14450000.mixer", "0x20000000", "reads"],
        hides: &["violated"],
    },
    Shape {
        source: "exynos-sysmmu, older words, after the unbind",
        text: "[  310.000004] exynos-mixer 14450000.mixer: driver removed\n\
               [  310.204104] exynos-sysmmu 14650000.sysmmu: 14450000.mixer: PAGE FAULT occurred at 0x20000000\n",
        want: Violated(&["R9"]),
        says: &["14450000.mixer", "0x20000000"],
        hides: &["R10"],
    },
    Shape {
        source: "grate-driver/xf86-video-opentegra#60, with the words of a translation",
        text: "[   12.710021] tegra-mc 70019000.memory-controller: display0a: read @0xfe056b40: Page fault (SMMU translation error [--S])\n\
               [   12.710090] tegra_mc_irq: 41 callbacks suppressed\n",
        want: CannotTell,
        says: &["70019000.memory-controller", "display0a", "0xfe056b40"],
        hides: &["violated"],
    },
    Shape {
        source: "grate-driver/xf86-video-opentegra#60",
        text: "tegra-mc 7000f000.memory-controller: idxsrd2: read @0x00801000: EMEM address decode error (EMEM decode error)\n",
        want: Nothing,
        says: &[],
        hides: &["violated", "R9"],
    },
    Shape {
        source: "SMMUv2 since 6.13, in a commit message without its first line",
        text: "\tqcom_geni_serial 988000.serial: serial engine reports 0 RX bytes in!\n\
               \tarm-smmu 15000000.iommu: FSR    = 00000402 [Format=2 TF], SID=0x563\n\
               \tarm-smmu 15000000.iommu: FSYNR0 = 00210013 [S1CBNDX=33 WNR PLVL=3]\n",
        want: CannotTell,
        says: &["15000000.iommu", "stream 0x563"],
        hides: &["violated"],
    },
    Shape {
        source: "SMMUv2 since 6.13, whole, quoted and wrapped",
        text: "> [  157.561842] arm-smmu 15000000.iommu: Unhandled context fault: fsr=0x402\n\
               > ,iova=0xd65504710, fsynr=0x100011, cbfrsynra=0x19, cb=6\n\
               > [  157.574842] arm-smmu 15000000.iommu: FSR    = 00000402 [Format=2 TF],\n\
               > SID=0x19\n\
               > [  157.582181] arm-smmu 15000000.iommu: FSYNR0 = 00100011 [S1CBNDX=16 WNR\n\
               > PLVL=1]\n",
        want: CannotTell,
        says: &["1 fault of 15000000.iommu", "stream 0x19", "0xd65504710"],
        hides: &["violated"],
    },
    Shape {
        source: "SMMUv3 since 6.13: record and its words are one fault",
        text: "[  611.020010] exnet 0001:01:00.0 enP1p1s0: removed PHC\n\
               [  611.120011] arm-smmu-v3 arm-smmu-v3.0.auto: event 0x10 received:\n\
               [  611.120014] arm-smmu-v3 arm-smmu-v3.0.auto: \t0x0000010000000010\n\
               [  611.120017] arm-smmu-v3 arm-smmu-v3.0.auto: \t0x0000020000000000\n\
               [  611.120020] arm-smmu-v3 arm-smmu-v3.0.auto: \t0x00000000fffc1000\n\
               [  611.120023] arm-smmu-v3 arm-smmu-v3.0.auto: \t0x0000000000000000\n\
               [  611.120026] arm-smmu-v3 arm-smmu-v3.0.auto: event: F_TRANSLATION client: 0001:01:00.0 sid: 0x100 ssid: 0x0 iova: 0xfffc1000 ipa: 0x0\n\
               [  611.120029] arm-smmu-v3 arm-smmu-v3.0.auto: unpriv data write s1 \"Input address caused fault\" stag: 0x0\n",
        want: Violated(&["R9"]),
        says: &["0001:01:00.0", "still writes", "1 fault (SMMUv3) at 0xfffc1000"],
        hides: &["nothing in the file ties streams"],
    },
    Shape {
        source: "SMMUv3 since 6.13: a stream that no device has",
        text: "[   12.120011] arm-smmu-v3 2b400000.iommu: event 0x04 received:\n\
               [   12.120014] arm-smmu-v3 2b400000.iommu: \t0x0000020800000004\n\
               [   12.120017] arm-smmu-v3 2b400000.iommu: \t0x0000000000000000\n\
               [   12.120020] arm-smmu-v3 2b400000.iommu: \t0x0000000000000000\n\
               [   12.120023] arm-smmu-v3 2b400000.iommu: \t0x0000000000000000\n\
               [   12.120026] arm-smmu-v3 2b400000.iommu: event: C_BAD_STE client: (unassigned sid) sid: 0x208 ssid: 0x0\n",
        want: CannotTell,
        says: &["1 fault of 2b400000.iommu", "stream 0x208"],
        hides: &["violated", "2 faults"],
    },
    Shape {
        source: "VT-d, an interrupt that was blocked",
        text: "[   77.102312] DMAR: DRHD: handling fault status reg 2\n\
               [   77.102317] DMAR: [INTR-REMAP] Request device [f0:1f.7] fault index 0x1a [fault reason 0x26] Blocked an interrupt request due to source-id verification failure\n",
        want: Nothing,
        says: &[],
        hides: &["violated", "still"],
    },
    Shape {
        source: "AMD-Vi, requests that are no page faults",
        text: "[   31.330251] AMD-Vi: Event logged [INVALID_DEVICE_REQUEST device=0000:2a:00.0 pasid=0x00000 address=0xfffffffdf8000000 flags=0x0a00]\n\
               [   31.330262] AMD-Vi: Event logged [ILLEGAL_DEV_TABLE_ENTRY device=44:00.0 pasid=0x00000 address=0xfffffffdf8000000 flags=0x0080]\n",
        want: CannotTell,
        says: &["0000:2a:00.0", "0000:44:00.0", "INVALID_DEVICE_REQUEST"],
        hides: &["violated"],
    },
    Shape {
        source: "Marvell-switching/sonic-marvell-binaries#84",
        text: "<dmesg>\n\
               [  815.089014] DMAR: [DMA Read] Request device [06:00.0] PASID ffffffff fault addr 1a5e12000 [fault reason 06] PTE Read access is not set\n\
               [  827.262614] DMAR: DRHD: handling fault status reg 402\n\
               [  827.267919] DMAR: [DMA Read] Request device [06:00.0] PASID ffffffff fault addr 1a5e05000 [fault reason 06] PTE Read access is not set\n\
               </dmesg>\n",
        want: CannotTell,
        says: &["0000:06:00.0", "2 faults (VT-d) at 0x1a5e12000, 0x1a5e05000"],
        hides: &["violated"],
    },
    Shape {
        source: "a web page on AMD-Vi under load: `Dec 8 10:02:17 kernel:`",
        text: "Dec 8 10:02:17 kernel: AMD-Vi: Completion-Wait loop timed out\n\
               Dec 8 10:02:17 kernel: AMD-Vi: Completion-Wait loop timed out\n\
               Dec 8 10:02:22 kernel: watchdog: BUG: soft lockup - CPU#46 stuck for 22s! [swapper/46:0]\n",
        want: Violated(&["R16"]),
        says: &["not confirmed"],
        hides: &["R19"],
    },
];
