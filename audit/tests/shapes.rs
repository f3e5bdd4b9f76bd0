//! Logs in the shapes in which people paste them: lines made up after public reports, each with the verdict that was stated
//! before the auditor was run. docs/audit-shapes.md lists the sources.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use common::audit;

/// The verdict on a whole file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Want {
    /// These rules are violated.
    Violated(&'static [&'static str]),
    CannotTell,
    Nothing,
}
use Want::{CannotTell, Nothing, Violated};

struct Shape {
    /// The report after which it is made.
    source: &'static str,
    text: &'static str,
    want: Want,
    /// Must be said.
    says: &'static [&'static str],
    /// Must not be said.
    hides: &'static [&'static str],
}

const SHAPES: &[Shape] = &[
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
        says: &["0xa09d60c8", "stream 0x40"],
        hides: &[],
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
        says: &["2 faults", "0x9c001000", "while vfio has it"],
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
        says: &["0000:06:00.0", "an address that is not told"],
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
        says: &["0xfffc7000", "device that is not named"],
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
        source: "boundarydevices/linux#3",
        text: "WARNING:\n/home/b/work/linux-2.6-imx/lib/dma-debug.c:865\ncheck_unmap+0x6f8/0x7d8()\n\
               net eth0: DMA-API: device driver tries to free DMA memory it\n has not allocated [device address=0x00000000443d7041] [size=2048\n\
               [<80025f60>](warn_slowpath_common+0x0/0x6c) from [<80026070>](warn_slowpath_fmt+0x38/0x40)\n",
        want: Violated(&["R1"]),
        says: &["0x443d7041", "frees memory that it had not allocated"],
        hides: &[],
    },
    Shape {
        source: "SoftRoCE/rxe-dev#38",
        text: "[  235.091672] WARNING: CPU: 1 PID: 2873 at lib/dma-debug.c:601     debug_dma_assert_idle+0x198/0x210()\n\
               [  235.091674] exnet 0000:00:07.0: DMA-API: cpu touching an active dma mapped cacheline     [cln=0x000000001f405881]\n",
        want: Violated(&["R21"]),
        says: &["0000:00:07.0"],
        hides: &[],
    },
    Shape {
        source: "anholt/linux#111",
        text: "[   60.017128] exdrm soc:gpu: DMA-API: cpu touching an active dma mapped cacheline [cln=0x0000000000194b81]\n\
               [   60.046053] ------------[ cut here ]------------\n\
               [   60.068318] WARNING: CPU: 0 PID: 468 at lib/dma-debug.c:614 debug_dma_assert_idle+0x1f0/0x260\n",
        want: Violated(&["R21"]),
        says: &["soc:gpu", "exdrm"],
        hides: &[],
    },
    Shape {
        source: "notro/tinydrm#15",
        text: "    [   23.750467] DMA-API: exdmac_pci 0000:00:15.0: device driver maps memory from stack [probable addr=000000001e49186d]\n    \
               [   23.750529] WARNING: CPU: 1 PID: 1296 at kernel/dma/debug.c:1161 check_for_stack+0xb7/0x190\n    \
               [   23.750605] CPU: 1 PID: 1296 Comm: modprobe Not tainted 5.0.0-rc7+ #236\n    \
               [   23.750620] RIP: 0010:check_for_stack+0xb7/0x190\n",
        want: Violated(&["R21"]),
        says: &["maps memory from stack", "0000:00:15.0"],
        hides: &["R19"],
    },
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
        source: "openbmc/openbmc#2276",
        text: "[17979.700000] Unable to handle kernel NULL pointer dereference at virtual address 000000de\n\
               [17979.700000] pgd = 9d6a4000\n\
               [17979.700000] Internal error: Oops: 17 [#1] ARM\n\
               [17979.700000] CPU: 0 PID: 3408 Comm: sh Not tainted 4.10.17 #1521\n\
               [17979.700000] PC is at exmap_write+0x14/0x6c\n\
               [17979.700000] LR is at exps_remove+0x28/0x2c\n\
               [17979.700000] pc : [<80258204>]    lr : [<8030e754>]    psr: a0000013\n\
               [17979.700000] Process sh (pid: 3408, stack limit = 0x9d44e188)\n\
               [17979.700000] [<80258204>] (exmap_write) from [<8030e754>] (exps_remove+0x28/0x2c)\n\
               [17979.700000] [<8030e754>] (exps_remove) from [<80310000>] (i2c_device_remove+0x4c/0xb0)\n\
               [17979.700000] [<80310000>] (i2c_device_remove) from [<80320000>] (device_release_driver_internal+0x160/0x208)\n\
               [17979.700000] [<80320000>] (device_release_driver_internal) from [<80330000>] (unbind_store+0xc4/0x100)\n\
               [17979.700000] ---[ end trace 0000000000000000 ]---\n",
        want: Violated(&["R19"]),
        says: &["exmap_write", "sh, 3408"],
        hides: &["R5"],
    },
    Shape {
        source: "linux-sunxi/linux-sunxi#190",
        text: "May 19 08:25:02 localhost kernel: [  613.708838] Unable to handle kernel NULL pointer dereference at virtual address 00000019\n\
               May 19 08:25:02 localhost kernel: [  613.736905] Internal error: Oops: 17 [#1] PREEMPT ARM\n\
               May 19 08:25:02 localhost kernel: [  613.770077] CPU: 0    Not tainted  (3.4.90+ #1)\n\
               May 19 08:25:02 localhost kernel: [  613.777827] PC is at release_resource+0x14/0x98\n\
               May 19 08:25:02 localhost kernel: [  613.785568] LR is at release_resource+0x10/0x98\n\
               May 19 08:25:02 localhost kernel: [  613.798943] pc : [<c0038754>]    lr : [<c0038750>]    psr: 80000113\n\
               May 19 08:25:02 localhost kernel: [  613.814325] r10: dfa94240  r9 : dfa1a400  r8 : c0661aa8\n\
               May 19 08:25:02 localhost kernel: [  615.146062] Process bash (pid: 2597, stack limit = 0xde0ea2e8)\n\
               May 19 08:25:02 localhost kernel: [  615.200000] [<c0038754>] (release_resource+0x14/0x98) from [<c0300000>] (exemac_remove+0x60/0xa0)\n\
               May 19 08:25:02 localhost kernel: [  615.210000] [<c0300000>] (exemac_remove+0x60/0xa0) from [<c0290000>] (platform_drv_remove+0x18/0x1c)\n\
               May 19 08:25:02 localhost kernel: [  615.220000] [<c0290000>] (platform_drv_remove+0x18/0x1c) from [<c0280000>] (__device_release_driver+0x70/0xcc)\n\
               May 19 08:25:02 localhost kernel: [  615.230000] [<c0280000>] (__device_release_driver+0x70/0xcc) from [<c027f000>] (driver_unbind+0x9c/0xc0)\n",
        want: Violated(&["R19"]),
        says: &["release_resource", "bash, 2597"],
        hides: &["R5"],
    },
    Shape {
        source: "openbmc/linux#209",
        text: "[58555.808770] unbinding exsmc...\n\
               [58555.810676] 8<--- cut here ---\n\
               [58555.810885] Unable to handle kernel NULL pointer dereference at virtual address 00000231\n\
               [58555.811944] Internal error: Oops: 5 [#1] ARM\n\
               [58555.812487] CPU: 0 PID: 1101 Comm: sh Not tainted 5.14.11-dirty #309\n\
               [58555.813205] PC is at klist_next+0x10/0xac\n\
               [58555.813420] LR is at device_for_each_child+0x3c/0x98\n\
               [58555.816500] [<801f38f8>] (klist_next) from [<802407b0>] (device_for_each_child+0x3c/0x98)\n\
               [58555.816600] [<802407b0>] (device_for_each_child) from [<80277e4c>] (spi_unregister_controller+0x38/0x14c)\n\
               [58555.816700] [<80277e4c>] (spi_unregister_controller) from [<80250000>] (release_nodes+0x40/0x90)\n\
               [58555.816800] [<80250000>] (release_nodes) from [<80250100>] (devres_release_all+0x90/0xd8)\n",
        want: Violated(&["R19"]),
        says: &["the release of managed resources", "klist_next"],
        hides: &["R5"],
    },
    Shape {
        source: "openbmc/linux#179",
        text: "root@exbmc:~# [  100.885399] Unable to handle kernel NULL pointer dereference at virtual address 00000061\n\
               [  100.902799] Internal error: Oops: 17 [#1] ARM\n\
               [  100.907191] CPU: 0 PID: 1422 Comm: openpower-proc- Tainted: G        W         5.1.6-dirty #1\n\
               [  100.921911] PC is at device_del+0x40/0x370\n\
               [  100.926017] LR is at device_del+0x38/0x370\n\
               [  100.930111] pc : [<80411de8>]    lr : [<80411de0>]    psr: 60000013\n\
               [  101.000213] [<80411de8>] (device_del) from [<80412118>] (device_unregister+0x0/0x20)\n\
               [  101.000300] [<80412118>] (device_unregister) from [<8050f000>] (exfsi_remove+0x20/0x60)\n\
               [  101.000400] [<8050f000>] (exfsi_remove) from [<80417000>] (device_release_driver_internal+0x100/0x1c0)\n",
        want: Violated(&["R19"]),
        says: &["device_del", "1 | Unable to handle kernel NULL pointer"],
        hides: &[],
    },
    Shape {
        source: "openbmc/linux#153",
        text: "root@ex-bmc:/sys/devices/platform/exfsi/driver# echo exfsi >unbind \n\
               [  229.011519] ------------[ cut here ]------------\n\
               [  229.014946] WARNING: CPU: 0 PID: 890 at drivers/base/core.c:818 device_release+0x94/0xa4\n\
               [  229.020844] Device 'exfsi0' does not have a release() function, it is broken and must be fixed.\n\
               [  229.027063] CPU: 0 PID: 890 Comm: sh Not tainted 4.13.16-dirty #5\n\
               [  229.036209] [<80109194>] (unwind_backtrace) from [<8010647c>] (show_stack+0x20/0x24)\n\
               [  229.063899] [<80374690>] (device_release) from [<80587594>] (kobject_put+0xd0/0x1ec)\n\
               [  229.088564] [<8045323c>] (exfsi_remove) from [<8037c2bc>] (platform_drv_remove+0x34/0x4c)\n\
               [  229.095100] [<8037c2bc>] (platform_drv_remove) from [<8037a000>] (device_release_driver_internal+0x160/0x208)\n",
        want: Nothing,
        says: &["a warning in a tear-down"],
        hides: &["violated"],
    },
    Shape {
        source: "thesofproject/linux#3041",
        text: "[  390.076500] BUG: kernel NULL pointer dereference, address: 0000000000000019\n\
               [  390.076600] #PF: supervisor read access in kernel mode\n\
               [  390.076700] Oops: 0000 [#1] PREEMPT SMP NOPTI\n\
               [  390.076750] CPU: 2 PID: 1984 Comm: modprobe Tainted: G        W         5.13.0-rc6 #12\n\
               [  390.076800] RIP: 0010:exboard_remove+0x1b/0x40 [snd_soc_ex]\n\
               [  390.076994] Call Trace:\n\
               [  390.077026]  device_release_driver_internal+0x83/0x1d0\n\
               [  390.077073]  driver_detach+0x42/0x90\n\
               [  390.077112]  bus_remove_driver+0x53/0xd0\n\
               [  390.077229]  ? exit_to_user_mode_prepare+0x2f/0x150\n\
               [  390.077360] RIP: 0033:0x7fe12020f35b\n\
               [  390.077700] ---[ end trace 0000000000000000 ]---\n",
        want: Violated(&["R19"]),
        says: &["exboard_remove", "modprobe, 1984"],
        hides: &["a failed probe"],
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
        source: "thesofproject/linux#2857",
        text: "[ 1163.839859] kernel: ==================================================================\n\
               [ 1163.839872] kernel: BUG: KASAN: use-after-free in exsdw_exit+0x8d/0x130 [soundwire_ex]\n\
               [ 1163.839891] kernel: Read of size 4 at addr ffff88811141a4e9 by task rmmod/15452\n\
               [ 1163.839900] kernel: \n\
               [ 1163.839910] kernel: CPU: 1 PID: 15452 Comm: rmmod Not tainted 5.12.0-rc7 #1\n\
               [ 1163.839911] kernel: Call Trace:\n\
               [ 1163.839912] kernel:  dump_stack+0x9c/0xcf\n\
               [ 1163.839913] kernel:  kasan_report.cold+0x37/0x7c\n\
               [ 1163.839914] kernel:  exsdw_exit+0x8d/0x130 [soundwire_ex]\n\
               [ 1163.839915] kernel:  pci_device_remove+0x5c/0xf0\n\
               [ 1163.839916] kernel:  device_release_driver_internal+0x13c/0x230\n\
               [ 1163.839917] kernel:  driver_detach+0x7a/0xd0\n\
               [ 1163.840863] kernel: The buggy address belongs to the object at ffff88811141a000\n                        which belongs to the cache kmalloc-2k of size 2048\n",
        want: Violated(&["R19"]),
        says: &["exsdw_exit", "the unbind"],
        hides: &["dump_stack,"],
    },
    Shape {
        source: "linux-ia64/linux-ia64#14",
        text: "[   19.874251] exgpu 0000:c2:00.0: vgaarb: deactivate vga console\n\
               [   19.874251] exgpu 0000:c2:00.0: probe with driver exgpu failed with error -22\n\
               [   19.874251] ------------[ cut here ]------------\n\
               [   19.874251] WARNING: CPU: 0 PID: 293 at lib/refcount.c:28 refcount_warn_saturate+0x170/0x380\n\
               [   19.874251] refcount_t: underflow; use-after-free.\n",
        want: Nothing,
        says: &["its probe failed with error -22"],
        hides: &["R19"],
    },
    Shape {
        source: "openbmc/linux#203",
        text: "# echo 1e788000.serial > unbind\n\
               [ 9471.114671] Trying to free nonexistent resource <000000001e789000-000000001e78903f>\n",
        want: Violated(&["R2"]),
        says: &["0x1e789000"],
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
        source: "GrapheneOS/os-issue-tracker#5427",
        text: "[ 3137.693700][ T6872] BUG: KASAN: invalid-access in exgpu_kctx_init+0x58/0x248 [exgpu]\n\
               [ 3137.693708][ T6872] Call trace:\n\
               [ 3137.693710][ T6872]  dump_backtrace+0x10c/0x214\n\
               [ 3137.693762][ T6872]  exgpu_kctx_init+0x58/0x248 [exgpu]\n\
               [ 3137.694728][ T6872]  exgpu_ioctl+0xba0/0x7050 [exgpu]\n\
               [ 3137.694994][ T6872] SMP: stopping secondary CPUs\n\
               [ 3137.695008][    C7] debug\n",
        want: Nothing,
        says: &["a crash that is not in a tear-down"],
        hides: &["violated"],
    },
    Shape {
        source: "openwrt/openwrt#24360",
        text: "<4>[  564.696716] Unhandled kernel unaligned access[#1]:\n\
               <4>[  564.701613] CPU: 3 UID: 0 PID: 10138 Comm: ash Tainted: G           O       6.12.94 #0\n\
               <4>[  564.717465] $ 0   : 00000000 00000001 6b6b6b6b 849b4d38\n\
               <4>[  564.764245] epc   : 801c2530 devres_release_all+0x58/0x370\n\
               <4>[  564.771629] ra    : 801de840 device_release_driver_internal+0xe8/0x2a0\n\
               <4>[  564.790000] Call Trace:\n\
               <4>[  564.790001] [<801c2530>] devres_release_all+0x58/0x370\n\
               <4>[  564.790002] [<801de840>] device_release_driver_internal+0xe8/0x2a0\n\
               <4>[  564.790003] [<801de900>] unbind_store+0x90/0xc0\n",
        want: Violated(&["R19"]),
        says: &["devres_release_all", "ash, 10138"],
        hides: &[],
    },
    Shape {
        source: "openwrt/ubox#6",
        text: "[  335.462668] CPU 0 Unable to handle kernel paging request at virtual address 702e1c61, epc == 801c2530, ra == 80001db0\n\
               [  335.473640] Oops[#1]:\n\
               [  335.475973] CPU: 0 UID: 0 PID: 3559 Comm: sh Tainted: G           O       6.12.45 #0\n\
               [  335.541426] epc   : 801c2530 exmac_remove+0x20/0x100\n\
               [  335.545349] ra    : 80001db0 platform_remove+0x10/0x18\n\
               [  335.550519] Status: 1100f403\tKERNEL EXL IE \n\
               [  335.560000] Call Trace:\n\
               [  335.560001] [<801c2530>] exmac_remove+0x20/0x100\n\
               [  335.560002] [<80001db0>] device_release_driver_internal+0x10/0x18\n",
        want: Violated(&["R19"]),
        says: &["exmac_remove", "sh, 3559"],
        hides: &[],
    },
    Shape {
        source: "lwfinger/rtl8192ee#3",
        text: "exwifi 0000:05:00.0: swiotlb buffer is full (sz: 4000 bytes), total 32768 (slots), used 32768 (slots)\n\nDmesg starts flooding with this ^\n",
        want: CannotTell,
        says: &["32768 of 32768", "whole machine's"],
        hides: &["violated"],
    },
    Shape {
        source: "google-coral/edgetpu#408",
        text: "`[  437.548691] exusb 38200000.usb3: swiotlb buffer is full (sz: 16384 bytes)`\n\
               `[  437.555402] exusb 38200000.usb3: DMA: Out of SW-IOMMU space for 16384 bytes ` \n",
        want: CannotTell,
        says: &["38200000.usb3", "bounce buffer is full"],
        hides: &["rises to 0"],
    },
    Shape {
        source: "raspberrypi/linux#3416",
        text: "[   17.606731] exgpu fec00000.gpu: swiotlb buffer is full (sz: 536576 bytes), total 32768 (slots), used 3487 (slots)\n\
               [   17.606812] exgpu fec00000.gpu: overflow 0x0000000040898000+536576 of DMA mask 7ffffffff bus mask 3fffffff\n\
               [   17.606867] ------------[ cut here ]------------\n\
               [   17.606903] WARNING: CPU: 2 PID: 500 at kernel/dma/direct.c:35 report_addr+0x38/0xa0\n",
        want: CannotTell,
        says: &["536576 bytes is too large"],
        hides: &["R19", "is full"],
    },
    Shape {
        source: "Dstack-TEE/dstack#1192",
        text: "virtio-pci 0000:00:02.0: swiotlb buffer is full (sz: 262144 bytes),\ntotal 524288 (slots), used 523564 (slots)\n",
        want: CannotTell,
        says: &["523564 of 524288"],
        hides: &["too large"],
    },
    Shape {
        source: "pop-os/system76-dkms#7",
        text: "    [18939.653800] BUG: unable to handle kernel NULL pointer dereference at 0000000000000041\n    \
               [18939.653810] Oops: 0000 [#1] PREEMPT SMP PTI\n    \
               [18939.653820] CPU: 4 PID: 9001 Comm: modprobe Tainted: G           OE     5.0.13 #1\n    \
               [18939.653830] RIP: 0010:sysfs_remove_link_from_group+0x5/0x20\n    \
               [18939.653855] Call Trace:\n    \
               [18939.653857]  iommu_device_unlink+0x2b/0x60\n    \
               [18939.653859]  intel_iommu_remove_device+0x4c/0x70\n    \
               [18939.653866]  device_del+0x22a/0x310\n    \
               [18939.653870]  exlap_remove+0x20f/0x260 [exlap]\n    \
               [18939.653871]  platform_drv_remove+0x22/0x40\n    \
               [18939.653873]  device_release_driver_internal+0x154/0x220\n",
        want: Violated(&["R19"]),
        says: &["sysfs_remove_link_from_group", "modprobe, 9001"],
        hides: &[],
    },
    Shape {
        source: "WCHSoftGroup/ch34x_mphsi_master_linux#14",
        text: "step3, rmmod exspi.\nThe following message is showed , the kernel is working wrongly.\n\
               [  530.615391] Internal error: Oops: 0000000096000044 [#1] SMP\n\
               [  530.619564] CPU: 2 PID: 1873 Comm: rmmod Tainted: G    B      O       6.1.115-vendor #1\n\
               [  530.620785] pstate: 20400009 (nzCv daif +PAN -UAO -TCO -DIT -SSBS BTYPE=--)\n\
               [  530.621445] pc : exspi_batch_buffer_free+0xc4/0x114 [exspi]\n\
               [  530.622099] lr : exspi_batch_buffer_free+0x108/0x114 [exspi]\n\
               [  530.622748] sp : ffff80000c22bb70\n\
               [  530.630000] Call trace:\n\
               [  530.630001]  exspi_batch_buffer_free+0xc4/0x114 [exspi]\n\
               [  530.630002]  exspi_disconnect+0x50/0x90 [exspi]\n\
               [  530.630003]  usb_unbind_interface+0x78/0x290\n\
               [  530.630004]  device_release_driver_internal+0x1d8/0x230\n\
               [  530.630005]  driver_detach+0x54/0xa0\n",
        want: Violated(&["R19"]),
        says: &["exspi_batch_buffer_free", "rmmod, 1873"],
        hides: &["R5"],
    },
    Shape {
        source: "a web page that shows a crash with blanks about its offsets",
        text: "[153.081557] Unable to handle kernel paging request at virtual address 1800180018000\n\
               [153.121058] Internal error: Oops: 96000004 [#1] PREEMPT SMP\n\
               [ 153.135082] CPU: 3 PID: 2723 Comm: sh Tainted: G O 4.14.61 #14\n\
               [ 153.156928] PC is at exdrv_stop + 0x18/0x38\n\
               [153.161461] LR is at devm_action_release + 0x14/0x20\n\
               [153.170000] Call trace:\n\
               [153.170001] exdrv_stop + 0x18/0x38\n\
               [153.170002] devm_action_release + 0x14/0x20\n\
               [153.170003] release_nodes + 0x1b0/0x220\n\
               [153.170004] devres_release_all + 0x34/0x58\n",
        want: Violated(&["R19"]),
        says: &["exdrv_stop", "the release of managed resources"],
        hides: &[],
    },
];

fn wanted(shape: &Shape) -> Result<(), String> {
    let audited = audit(shape.text);
    let (want, code) = match shape.want {
        Violated(_) => ("violated", 1),
        CannotTell => ("cannot tell", 3),
        Nothing => ("nothing to judge", 3),
    };
    let told = (audited.report.verdict().to_string(), audited.report.exit_code());
    if told != (want.to_owned(), code) {
        return Err(format!("wanted {want} ({code}), and it is {} ({})\n{}", told.0, told.1, audited.text));
    }
    if let Violated(rules) = shape.want {
        let found = audited.violated();
        if found != rules {
            return Err(format!("wanted {rules:?}, and it is {found:?}\n{}", audited.text));
        }
    }
    if let Some(word) = shape.says.iter().find(|word| !audited.text.contains(**word)) {
        return Err(format!("{word:?} is not said\n{}", audited.text));
    }
    shape
        .hides
        .iter()
        .find(|word| audited.text.contains(**word))
        .map_or(Ok(()), |word| Err(format!("{word:?} is said\n{}", audited.text)))
}

#[test]
fn each_shape_gets_the_verdict_that_was_stated() {
    let wrong: Vec<String> = SHAPES
        .iter()
        .filter_map(|shape| wanted(shape).err().map(|why| format!("== {}: {why}", shape.source)))
        .collect();
    assert!(wrong.is_empty(), "{} of {} are wrong\n{}", wrong.len(), SHAPES.len(), wrong.join("\n"));
}
