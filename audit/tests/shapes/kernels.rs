//! Words of kernels from 5.0 to 7.x, and of architectures, that nothing before was made after.

use super::Shape;
use super::Want::{CannotTell, Nothing, Violated};

pub(crate) const SHAPES: &[Shape] = &[
    Shape {
        source: "netdev 2026, a network card's module is removed: SMMUv3 of ACPI names the client",
        text: "[   70.355743] arm-smmu-v3 arm-smmu-v3.7.auto: event 0x10 received:\n\
               [   70.361893] arm-smmu-v3 arm-smmu-v3.7.auto:  0x0003060000000010\n\
               [   70.367948] arm-smmu-v3 arm-smmu-v3.7.auto:  0x0000020000000000\n\
               [   70.374002] arm-smmu-v3 arm-smmu-v3.7.auto:  0x00000000ff9bd000\n\
               [   70.380055] arm-smmu-v3 arm-smmu-v3.7.auto:  0x0000000000000000\n\
               [   70.386109] arm-smmu-v3 arm-smmu-v3.7.auto: event: F_TRANSLATION client: 0001:06:00.0 sid: 0x30600 ssid: 0x0 iova: 0xff9bd000 ipa: 0x0\n\
               [   70.398531] arm-smmu-v3 arm-smmu-v3.7.auto: unpriv data write s1 \"Input address caused fault\" stag: 0x0\n",
        want: CannotTell,
        says: &["0001:06:00.0", "1 fault (SMMUv3) at 0xff9bd000 (writes"],
        hides: &["violated", "2 faults"],
    },
    Shape {
        source: "linux-pci 2025, five quotes deep, wrapped into one line with the next message",
        text: "> > > > > > arm-smmu-v3 490d0000.iommu: event 0x10 received:\n\
               > > > > > > arm-smmu-v3 490d0000.iommu:      0x0000001200000010\n\
               > > > > > > arm-smmu-v3 490d0000.iommu:      0x0000020a00000000\n\
               > > > > > > arm-smmu-v3 490d0000.iommu:      0x000000009b0cd000\n\
               > > > > > > arm-smmu-v3 490d0000.iommu:      0x0000000000000000\n\
               > > > > > > arm-smmu-v3 490d0000.iommu: event: F_TRANSLATION client: 0000:01:00.0 sid: 0x12 ssid: 0x0 iova: 0x9b0cd000 ipa: 0x0\n\
               > > > > > > arm-smmu-v3 490d0000.iommu: priv data read s1 \"Input address caused fault\" stag: 0x0 exnet 0000:03:00.0\n\
               > > > > > > enp3s0: Link is Down\n",
        want: CannotTell,
        says: &["0000:01:00.0", "1 fault (SMMUv3) at 0x9b0cd000 (reads"],
        hides: &["violated", "2 faults"],
    },
    Shape {
        source: "linux-nvme 2025, the record's first line is missing",
        text: "  arm-smmu-v3 fc900000.iommu:      0x0000010000000010\n  \
               arm-smmu-v3 fc900000.iommu:      0x0000020000000000\n  \
               arm-smmu-v3 fc900000.iommu:      0x000000090000f080\n  \
               arm-smmu-v3 fc900000.iommu:      0x0000000000000000\n  \
               arm-smmu-v3 fc900000.iommu: event: F_TRANSLATION client: 0000:01:00.0 sid: 0x100 ssid: 0x0 iova: 0x90000f080 ipa: 0x0\n  \
               arm-smmu-v3 fc900000.iommu: unpriv data write s1 \"Input address caused fault\" stag: 0x0\n",
        want: CannotTell,
        says: &["0000:01:00.0", "1 fault (SMMUv3) at 0x90000f080 (writes"],
        hides: &["violated"],
    },
    Shape {
        source: "linux-pci 2026: IPMMU, quoted and indented",
        text: ">>\n\
               >>    ipmmu-vmsa eed40000.iommu: Unhandled fault: status 0x00001502 iova 0xfe001000\n\
               >>\n\
               >> followed by the system becoming unresponsive.\n",
        want: CannotTell,
        says: &["eed40000.iommu", "0xfe001000"],
        hides: &["violated"],
    },
    Shape {
        source: "IPMMU: the walk of the page table fails",
        text: "[   88.100001] sata_rcar ee300000.sata: driver unbound\n\
               [   88.100101] ipmmu-vmsa e67b0000.iommu: Page Table Walk Abort @0xfffff000\n\
               [   88.100201] ipmmu-vmsa e67b0000.iommu: Unhandled fault: status 0x00000002 iova 0xfffff000\n",
        want: CannotTell,
        says: &["e67b0000.iommu", "0xfffff000"],
        hides: &["R9   violated"],
    },
    Shape {
        source: "VT-d with a process's address space",
        text: "[  101.100001] DMAR: DRHD: handling fault status reg 40\n\
               [  101.100002] DMAR: [DMA Read PASID 0x1a] Request device [6a:01.0] fault addr 0x7f3a1c000000 [fault reason 0x71] SM: Present bit in first-level paging entry is clear\n",
        want: CannotTell,
        says: &["0000:6a:01.0", "0x7f3a1c000000", "reads"],
        hides: &["violated"],
    },
    Shape {
        source: "VT-d of 4.x, the reason on a line of its own",
        text: "[  101.100000] e1000e 0000:00:1f.6 enp0s31f6: removed PHC\n\
               [  101.100001] DMAR: DRHD: handling fault status reg 2\n\
               [  101.100002] DMAR: DMAR:[DMA Read] Request device [00:1f.6] fault addr fd3a4000 \n\
               [  101.100003] DMAR:[fault reason 06] PTE Read access is not set\n",
        want: Violated(&["R9"]),
        says: &["0000:00:1f.6", "0xfd3a4000", "still reads"],
        hides: &[],
    },
    Shape {
        source: "AMD-Vi of an SNP host: a page of another owner",
        text: "[  204.118000] vfio-pci 0000:06:00.0: Event logged [RMP_PAGE_FAULT vmg_tag=0x0000, gpa=0x7f3a000, flags_rmp=0x0000, flags=0x0020]\n",
        want: CannotTell,
        says: &["0000:06:00.0", "0x7f3a000"],
        hides: &["violated"],
    },
    Shape {
        source: "AMD-Vi since 6.x: unknown event, raw words",
        text: "[  204.118000] e1000e 0000:06:00.0 eth0: removed PHC\n\
               [  204.119000] AMD-Vi: Event logged [UNKNOWN event[0]=0x00000600 event[1]=0xb0000000 event[2]=0x00000000 event[3]=0x00000000\n",
        want: CannotTell,
        says: &["0000:06:00.0"],
        hides: &["violated"],
    },
    Shape {
        source: "SMMUv2: a global fault",
        text: "[   12.104001] arm-smmu 5000000.iommu: Unexpected global fault, this could be serious\n\
               [   12.104002] arm-smmu 5000000.iommu: \tGFSR 0x80000002, GFSYNR0 0x00000002, GFSYNR1 0x00000c41, GFSYNR2 0x00000000\n\
               [   12.104003] arm-smmu 5000000.iommu: Blocked unknown Stream ID 0xc41; boot with \"arm-smmu.disable_bypass=0\" to allow, but this may have security implications\n",
        want: CannotTell,
        says: &["5000000.iommu", "stream 0xc41"],
        hides: &["violated"],
    },
    Shape {
        source: "SMMUv3: its command queue does not answer",
        text: "[  401.100001] arm-smmu-v3 arm-smmu-v3.0.auto: CMD_SYNC timeout at 0x01000b5c [hwprod 0x01000b5d, hwcons 0x01000b2a]\n",
        want: Violated(&["R16"]),
        says: &["CMD_SYNC timeout"],
        hides: &[],
    },
    Shape {
        source: "VT-d 6.x: a device that is gone does not answer either",
        text: "[  401.100001] pcieport 0000:00:1c.0: pciehp: Slot(0): Card not present\n\
               [  401.200001] DMAR: VT-d detected Invalidation Time-out Error: SID 300\n\
               [  401.200002] DMAR: QI HEAD: Device-TLB Invalidation qw0 = 0x30000000003, qw1 = 0x7ffffffffffff001\n\
               [  401.200003] DMAR: QI PRIOR: Invalidation Wait qw0 = 0x200000025, qw1 = 0x100357f30\n\
               [  401.200004] DMAR: Invalidation Time-out Error (ITE) cleared\n",
        want: Violated(&["R16"]),
        says: &["0000:03:00.0"],
        hides: &["cleared"],
    },
    Shape {
        source: "netdev 2020: virtual functions go away, no times, addresses blotted out",
        text: "$ echo 0 > /sys/bus/pci/devices/0000\\:00\\:00.0/sriov_numvfs\n\
               DMA-API: pci 0000:00:01.0: device driver has pending DMA allocations while released from device [count=1]\n\
               One of leaked entries details: [size=2048 bytes] [mapped with DMA_BIDIRECTIONAL] [mapped as coherent]\n\
               WARNING: CPU: 0 PID: 2547 at kernel/dma/debug.c:853 dma_debug_device_change+0x174/0x1c8\n\
               (...)\n\
               Call trace:\n \
               dma_debug_device_change+0x174/0x1c8\n \
               blocking_notifier_call_chain+0x74/0xa8\n \
               device_release_driver_internal+0x18c/0x1f0\n \
               device_release_driver+0x20/0x30\n \
               pci_stop_bus_device+0x8c/0xd0\n",
        want: Violated(&["R4"]),
        says: &["0000:00:01.0", "2048 bytes"],
        hides: &["R19"],
    },
    Shape {
        source: "linux-scsi 2023: one line in the words of a commit",
        text: "A fix for:\n\nDMA-API: pci 0000:83:00.0: device driver has pending DMA allocations while released from device [count=1]\n\nFixes: 32d457d5a2af (\"scsi: exhba: config requests\")\n",
        want: Violated(&["R4"]),
        says: &["0000:83:00.0"],
        hides: &[],
    },
    Shape {
        source: "intel-wired-lan 2022: no device, a time without brackets, the function in front",
        text: "Without this change it is possible to see when unloading interface:\n\
               74626.583369: dma_debug_device_change: device driver has pending DMA allocations while released from device [count=32]\n\
               One of leaked entries details: [device address=0x0000000b27ff8000] [size=4096 bytes] [mapped with DMA_BIDIRECTIONAL] [mapped as coherent]\n",
        want: Violated(&["R4"]),
        says: &["32", "0xb27ff8000"],
        hides: &[],
    },
    Shape {
        source: "DMA API debugging: a mapping's error is not checked",
        text: "[   45.100000] DMA-API: exnet 0000:03:00.0: device driver failed to check map error[device address=0x00000000fffb8000] [size=66 bytes] [mapped as single]\n\
               [   45.100001] WARNING: CPU: 1 PID: 0 at kernel/dma/debug.c:1036 check_unmap+0x4a6/0x9a0\n",
        want: Violated(&["R18"]),
        says: &["0000:03:00.0", "0xfffb8000"],
        hides: &[],
    },
    Shape {
        source: "DMA API debugging: a segment is too long",
        text: "[   45.100000] DMA-API: exnvme 0000:04:00.0: mapping sg segment longer than device claims to support [len=524288] [max=65536]\n\
               [   45.100001] WARNING: CPU: 1 PID: 311 at kernel/dma/debug.c:1234 debug_dma_map_sg+0x2a6/0x310\n",
        want: Violated(&["R21"]),
        says: &["0000:04:00.0", "longer than device claims to support"],
        hides: &[],
    },
    Shape {
        source: "DMA API debugging gave up, and a driver left",
        text: "[   12.000001] DMA-API: preallocated 65536 debug entries\n\
               [   12.000002] DMA-API: debugging enabled by kernel config\n\
               [   44.000001] DMA-API: cacheline tracking ENOMEM, dma-debug disabled\n\
               [   45.100000] e1000e 0000:00:1f.6 enp0s31f6: removed PHC\n",
        want: CannotTell,
        says: &["0000:00:1f.6"],
        hides: &["violated", "proved:"],
    },
    Shape {
        source: "strongtz/i915-sriov-dkms#395: a warning in the removal that goes on",
        text: "[   35.533827] ------------[ cut here ]------------\n\
               [   35.533832] WARNING: CPU: 23 PID: 1546 at arch/x86/mm/ioremap.c:460 iounmap+0x34/0x110\n\
               [   35.533844] Modules linked in: exgpu\n\
               [   35.533950] CPU: 23 UID: 0 PID: 1546 Comm: rpc-libvirtd Tainted: P           OE      6.14.8-2-pve #1\n\
               [   35.533953] RIP: 0010:iounmap+0x34/0x110\n\
               [   35.533970] Call Trace:\n\
               [   35.533972]  <TASK>\n\
               [   35.533974]  exgpu_remove+0x1f/0x40 [exgpu]\n\
               [   35.533990]  pci_device_remove+0x44/0xc0\n\
               [   35.533994]  device_release_driver_internal+0x1a6/0x210\n\
               [   35.534000]  unbind_store+0xa4/0xb0\n\
               [   35.534030]  </TASK>\n\
               [   35.534031] ---[ end trace 0000000000000000 ]---\n",
        want: Nothing,
        says: &["iounmap"],
        hides: &["violated"],
    },
    Shape {
        source: "rockchip-linux/kernel#171: arm64 with its stack dumped, removal of a USB controller",
        text: "[  279.420001] Unable to handle kernel paging request at virtual address 8000000008\n\
               [  279.420002] Internal error: Oops: 96000004 [#1] PREEMPT SMP\n\
               [  279.420003] CPU: 4 PID: 811 Comm: bash Not tainted 4.4.154 #5\n\
               [  279.420004] PC is at kobject_uevent_env+0x58/0x4d0\n\
               [  279.420005] LR is at kobject_uevent_env+0x50/0x4d0\n\
               [  279.611012] ff40: 000000558f3bbbf0 0000007fa8968028 0000007fa8a50a70 0000000000000001\n\
               [  279.675251] Call trace:\n\
               [  279.685096] Exception stack(0xffffffc07af2f8a0 to 0xffffffc07af2f9d0)\n\
               [  279.695510] f8a0: ffffffc06f4ca000 0000008000000000 ffffffc07af2fa70 ffffff800825ee48\n\
               [  279.805510] [<ffffff800825ee48>] kobject_uevent_env+0x58/0x4d0\n\
               [  279.815510] [<ffffff80085c1f04>] device_del+0x1a4/0x220\n\
               [  279.825510] [<ffffff80085c8e04>] platform_device_unregister+0x24/0x40\n\
               [  279.835510] [<ffffff800871f024>] exdwc_host_exit+0x24/0x40\n\
               [  279.845510] [<ffffff800871a9b4>] exdwc_remove+0x44/0xc0\n\
               [  279.855510] [<ffffff80085c7b58>] platform_drv_remove+0x28/0x50\n\
               [  279.865510] [<ffffff80085c5b14>] __device_release_driver+0x84/0xe0\n\
               [  279.875510] [<ffffff80085c4c6c>] unbind_store+0xec/0x110\n",
        want: Violated(&["R19"]),
        says: &["kobject_uevent_env", "bash, 811"],
        hides: &[],
    },
    Shape {
        source: "an oops of s390",
        text: "[  312.001001] Unable to handle kernel pointer dereference in virtual kernel address space\n\
               [  312.001002] Failing address: 0000000000000000 TEID: 0000000000000483\n\
               [  312.001003] Fault in home space mode while using kernel ASCE.\n\
               [  312.001004] Oops: 0004 ilc:3 [#1] SMP\n\
               [  312.001005] Modules linked in: exccw(-)\n\
               [  312.001006] CPU: 1 PID: 1402 Comm: rmmod Not tainted 6.6.0 #1\n\
               [  312.001007] Krnl PSW : 0704e00180000000 000003ff80123456 (exccw_remove+0x2e/0x90 [exccw])\n\
               [  312.001008] Krnl GPRS: 0000000000000000 0000000000000001 0000000000000000 0000000000000000\n\
               [  312.001009] Call Trace:\n\
               [  312.001010]  [<000003ff80123456>] exccw_remove+0x2e/0x90 [exccw]\n\
               [  312.001011]  [<00000000a1b2c3d4>] ccw_device_remove+0x6c/0x150\n\
               [  312.001012]  [<00000000a1b2c3e4>] device_release_driver_internal+0x1e0/0x2a0\n\
               [  312.001013]  [<00000000a1b2c3f4>] driver_detach+0x70/0xc8\n\
               [  312.001014] Last Breaking-Event-Address:\n\
               [  312.001015]  [<00000000a1b2c400>] kfree+0x100/0x200\n",
        want: Violated(&["R19"]),
        says: &["exccw_remove", "rmmod, 1402"],
        hides: &[],
    },
    Shape {
        source: "an oops of LoongArch, while managed memory is released",
        text: "[   61.001001] CPU 2 Unable to handle kernel paging request at virtual address 0000000000000000, era == 9000000000a1b2c4, ra == 9000000000a1b300\n\
               [   61.001002] Oops[#1]:\n\
               [   61.001003] CPU: 2 PID: 512 Comm: bash Not tainted 6.9.0 #1\n\
               [   61.001004] pc 9000000000a1b2c4 ra 9000000000a1b300 tp 900000010a0c4000 sp 900000010a0c7b50\n\
               [   61.001005]    ra: 9000000000a1b300 dma_direct_free+0x40/0x80\n\
               [   61.001006]   ERA: 9000000000a1b2c4 __free_pages+0x4/0x60\n\
               [   61.001007]  CRMD: 000000b0 (PLV0 -IE -DA +PG DACF=CC DACM=CC -WE)\n\
               [   61.001008] Process bash (pid: 512, threadinfo=00000000a1b2c3d4, task=00000000b2c3d4e5)\n\
               [   61.001009] Call Trace:\n\
               [   61.001010] [<9000000000a1b2c4>] __free_pages+0x4/0x60\n\
               [   61.001011] [<9000000000a1b300>] dma_direct_free+0x40/0x80\n\
               [   61.001012] [<9000000000c0ffee>] dmam_release+0x18/0x30\n\
               [   61.001013] [<9000000000c0ffff>] devres_release_all+0xa4/0x100\n\
               [   61.001014] [<9000000000c10010>] device_unbind_cleanup+0x18/0x70\n\
               [   61.001015] [<9000000000c10020>] device_release_driver_internal+0x1cc/0x230\n",
        want: Violated(&["R19"]),
        says: &["__free_pages", "376991db4b64", "bash, 512"],
        hides: &["R5   violated"],
    },
    Shape {
        source: "jnicolson/gasket-builder#8: a crash of 6.12 behind a close, not in a tear-down",
        text: "Mar 14 01:58:52 home kernel: BUG: unable to handle page fault for address: 0000000000010000\n\
               Mar 14 01:58:52 home kernel: #PF: supervisor read access in kernel mode\n\
               Mar 14 01:58:52 home kernel: #PF: error_code(0x0000) - not-present page\n\
               Mar 14 01:58:52 home kernel: Oops: Oops: 0000 [#1] PREEMPT SMP PTI\n\
               Mar 14 01:58:52 home kernel: CPU: 1 UID: 0 PID: 4659 Comm: excam.review_ Tainted: G           OE      6.12.73+deb13-amd64 #1  Debian 6.12.73-1\n\
               Mar 14 01:58:52 home kernel: RIP: 0010:task_work_run+0x50/0x90\n\
               Mar 14 01:58:52 home kernel: Call Trace:\n\
               Mar 14 01:58:52 home kernel:  <TASK>\n\
               Mar 14 01:58:52 home kernel:  syscall_exit_to_user_mode+0x1f7/0x210\n\
               Mar 14 01:58:52 home kernel:  do_syscall_64+0x8e/0x190\n\
               Mar 14 01:58:52 home kernel:  </TASK>\n",
        want: Nothing,
        says: &["not in a tear-down"],
        hides: &["violated"],
    },
    Shape {
        source: "a removal that spins with interrupts off",
        text: "[  700.000001] watchdog: BUG: soft lockup - CPU#2 stuck for 26s! [bash:1234]\n\
               [  700.000002] Modules linked in: exnet\n\
               [  700.000003] CPU: 2 PID: 1234 Comm: bash Tainted: G             L     6.6.30 #1\n\
               [  700.000004] RIP: 0010:exnet_stop+0x44/0x90 [exnet]\n\
               [  700.000005] Call Trace:\n\
               [  700.000006]  <IRQ>\n\
               [  700.000007]  watchdog_timer_fn+0x1b8/0x230\n\
               [  700.000008]  </IRQ>\n\
               [  700.000009]  <TASK>\n\
               [  700.000010]  exnet_remove+0x22/0x60 [exnet]\n\
               [  700.000011]  pci_device_remove+0x3e/0xa0\n\
               [  700.000012]  device_release_driver_internal+0x19c/0x200\n\
               [  700.000013]  unbind_store+0xa4/0xb0\n\
               [  700.000014]  </TASK>\n",
        want: CannotTell,
        says: &["bash", "1234", "not over in this file"],
        hides: &["violated"],
    },
    Shape {
        source: "NVIDIA/open-gpu-kernel-modules#535: vfio waits for a device to wake up",
        text: "vfio-pci 0000:01:00.0: not ready 1023ms after resume; waiting\n\
               vfio-pci 0000:01:00.0: not ready 2047ms after resume; waiting\n\
               vfio-pci 0000:01:00.0: not ready 65535ms after resume; giving up\n\
               vfio-pci 0000:01:00.0: Unable to change power state from D3cold to D0, device inaccessible\n",
        want: Nothing,
        says: &[],
        hides: &["violated"],
    },
    Shape {
        source: "thesofproject/sof-test#719: the log of managed resources of CONFIG_DEBUG_DEVRES",
        text: "[   91.001001] exsnd 0000:00:1f.3: DEVRES ADD 00000000a1b2c3d4 devm_kzalloc_release (312 bytes)\n\
               [   91.001002] exsnd 0000:00:1f.3: DEVRES ADD 00000000a1b2c3e4 pcim_release (64 bytes)\n\
               [   95.001001] exsnd 0000:00:1f.3: DEVRES REL 00000000a1b2c3e4 pcim_release (64 bytes)\n\
               [   95.001002] exsnd 0000:00:1f.3: DEVRES REL 00000000a1b2c3d4 devm_kzalloc_release (312 bytes)\n",
        want: CannotTell,
        says: &["0000:00:1f.3"],
        hides: &["violated"],
    },
];
