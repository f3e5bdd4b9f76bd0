//! Logs of a device's life: groups, deferred probes, VFIO, hung tasks, resets.

use super::Shape;
use super::Want::{CannotTell, Nothing, Violated};

pub(crate) const SHAPES: &[Shape] = &[
    Shape {
        source: "kata-containers/runtime#1669",
        text: "I get this in dmesg:\n\n> vfio-pci 0000:5d:00.0: Relaying device request to user\n\n# Actual result\n",
        want: CannotTell,
        says: &["0000:5d:00.0", "waits for the user"],
        hides: &["violated"],
    },
    Shape {
        source: "VoltCyclone/PCILeechFWGenerator#560",
        text: "[  188.562656] vfio-pci 0000:02:00.0: resetting\n[  188.673718] vfio-pci 0000:02:00.0: reset done\n\
               [  194.862669] vfio-pci 0000:02:00.0: No device request channel registered, blocked until released by user\n  \
               16:38:14 | ERROR  | [VFIO] Failed to open VFIO device\n",
        want: CannotTell,
        says: &["no channel to ask it"],
        hides: &["violated"],
    },
    Shape {
        source: "spdk/spdk#2811",
        text: "vfio-pci 0000:66:00.0: Device is currently in use, task \"bash\" (249852) blocked until device is released\n",
        want: CannotTell,
        says: &["0000:66:00.0", "until the user gives the device back"],
        hides: &["violated"],
    },
    Shape {
        source: "spdk/spdk#645",
        text: "[92652.834090] INFO: task bash:7787 blocked for more than 120 seconds.\n\
               [92652.835087]       Tainted: G           O    4.14.0-9.el7.x86_64 #1\n\
               [92652.836061] \"echo 0 > /proc/sys/kernel/hung_task_timeout_secs\" disables this message.\n\
               [92652.837013] bash            D    0  7787   7784 0x00000080\n\
               [92652.837015] Call Trace:\n\
               [92652.837023]  ? __schedule+0x2a1/0x8a0\n\
               [92652.837025]  schedule+0x32/0x80\n\
               [92652.837030]  vfio_del_group_dev+0x37a/0x3c0 [vfio]\n\
               [92652.837040]  vfio_pci_remove+0x1b/0x90 [vfio_pci]\n\
               [92652.837044]  pci_device_remove+0x3b/0xc0\n\
               [92652.837048]  device_release_driver_internal+0x148/0x210\n\
               [92652.837051]  unbind_store+0xb3/0xe0\n",
        want: CannotTell,
        says: &["bash (7787)", "vfio_del_group_dev", "not over in this file"],
        hides: &["violated"],
    },
    Shape {
        source: "cloud-hypervisor/cloud-hypervisor#8284",
        text: "2026-05-28T12:24:00.184239+00:00 vm-17 kernel: INFO: task kworker/u48:7:1511 blocked for more than 122 seconds.\n\
               2026-05-28T12:24:00.184239+00:00 vm-17 kernel:       Tainted: P           OE      6.8.0-111-generic #111-Ubuntu\n\
               2026-05-28T12:24:00.184240+00:00 vm-17 kernel:  worker_thread+0x306/0x440\n\
               2026-05-28T12:24:00.184240+00:00 vm-17 kernel:  ? __pfx_worker_thread+0x10/0x10\n\
               2026-05-28T12:24:00.184240+00:00 vm-17 kernel:  </TASK>\n",
        want: Nothing,
        says: &["kworker/u48:7 (1511)"],
        hides: &["tear-down is not over"],
    },
    Shape {
        source: "gnif/vendor-reset#66",
        text: "`[  892.983937] vfio-pci 0000:08:00.0: EX_RESET: reset result = 0`\n\
               `[  893.004144] DMAR: VT-d detected Invalidation Completion Error: SID 0`\n\
               `[  893.004146] DMAR: QI HEAD: UNKNOWN qw0 = 0x0, qw1 = 0x0`\n\
               `[  893.004266] DMAR: VT-d detected Invalidation Time-out Error: SID 0`\n\
               `[  893.004269] DMAR: Invalidation Time-out Error (ITE) cleared`\n",
        want: Violated(&["R16"]),
        says: &["Invalidation Time-out Error: SID 0"],
        hides: &["cleared`"],
    },
    Shape {
        source: "chenhuacai/linux#2",
        text: "```\n[    0.365917] iommu: Default domain type: Translated \n[    0.365921] iommu: DMA domain TLB invalidation policy: strict mode \n```\n",
        want: Nothing,
        says: &["invalidation is strict"],
        hides: &[],
    },
    Shape {
        source: "map220v/sm8550-mainline#3",
        text: "[    0.321071] platform 800000.dma-controller: Adding to iommu group 2\n\
               [    0.324962] rtc-ex c400000.spmi:pmic@0:rtc@6100: setting system clock to 1970-01-06T03:07:24 UTC (443244)\n\
               [   10.325094] platform a600000.usb: deferred probe pending: exdwc3: failed to get phys\n",
        want: Nothing,
        says: &["a600000.usb", "exdwc3: failed to get phys"],
        hides: &["violated"],
    },
    Shape {
        source: "kernelci/kernelci-project#218",
        text: "platform MXEX7A:00: deferred probe pending\nAMDEX2:00        exdai-card: devm_snd_soc_register_card(acp) failed\n",
        want: Nothing,
        says: &["MXEX7A:00", "its probe is deferred"],
        hides: &[],
    },
    Shape {
        source: "single-GPU pass-through: a graphics driver lets go, VFIO takes over",
        text: "[ 5001.000001] amdgpu 0000:0a:00.0: amdgpu: amdgpu: finishing device.\n\
               [ 5002.100001] [drm] amdgpu: ttm finalized\n\
               [ 5010.000001] vfio-pci 0000:0a:00.0: enabling device (0002 -> 0003)\n\
               [ 5011.500001] vfio-pci 0000:0a:00.0: AMD-Vi: Event logged [IO_PAGE_FAULT domain=0x0017 address=0xdeadb000 flags=0x0030]\n",
        want: CannotTell,
        says: &["0xdeadb000", "while vfio owns it"],
        hides: &["violated"],
    },
    Shape {
        source: "a driver that says nothing when it leaves, and VFIO",
        text: "[   12.000001] exsound 0000:0a:00.1: enabling device (0000 -> 0002)\n\
               [ 5010.000001] vfio-pci 0000:0a:00.1: enabling device (0002 -> 0003)\n",
        want: CannotTell,
        says: &["0000:0a:00.1 (exsound)", "a kernel log alone"],
        hides: &["violated"],
    },
    Shape {
        source: "VT-d since 6.0 names the requester of a time-out",
        text: "[  893.004144] DMAR: DRHD: handling fault status reg 40\n\
               [  893.004146] DMAR: VT-d detected Invalidation Time-out Error: SID 300\n",
        want: Violated(&["R16"]),
        says: &["0000:03:00.0"],
        hides: &["not tied to a device"],
    },
];
