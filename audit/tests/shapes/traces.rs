//! Traces in the forms in which they get out of a machine, and names of later kernels.

use super::Shape;
use super::Want::Violated;

pub(crate) const SHAPES: &[Shape] = &[
    Shape {
        source: "ftrace_dump_on_oops: the ring buffer on the console behind the oops",
        text: "[   31.100000] Unable to handle kernel paging request at virtual address ffffffbf029ffffc\n\
               [   31.100010] Internal error: Oops: 0000000096000006 [#1] SMP\n\
               [   31.100020] CPU: 1 PID: 201 Comm: sh Not tainted 6.1.0 #1\n\
               [   31.100030] pc : __free_pages+0x8/0x58\n\
               [   31.100040] Call trace:\n\
               [   31.100050]  __free_pages+0x8/0x58\n\
               [   31.100060]  dma_direct_free+0x14/0x24\n\
               [   31.100070]  dmam_release+0x18/0x20\n\
               [   31.100080]  release_nodes+0x25c/0x28c\n\
               [   31.100090]  devres_release_all+0x48/0x4c\n\
               [   31.100100] ---[ end trace 0000000000000000 ]---\n\
               [   31.100110] Dumping ftrace buffer:\n\
               [   31.100120] ---------------------------------\n\
               [   31.100130]   insmod-157       0d..1. 20100000us : devres_log: 0000:05:00.0 ADD 00000000a1b2c3d4 devm_kzalloc_release (312 bytes)\n\
               [   31.100131]   insmod-157       0..... 20100031us : iommu_dma_alloc <-dma_alloc_attrs\n\
               [   31.100132]   insmod-157       0..... 20100040us : map: IOMMU: iova=0x00000000ffff0000 - 0x00000000ffff1000 paddr=0x000000003d470000 size=4096\n\
               [   31.100133]   insmod-157       0..... 20100052us : dma_alloc: 0000:05:00.0 dir=BIDIRECTIONAL dma_addr=ffff0000 size=4096 virt_addr=00000000deadb001 flags=GFP_KERNEL attrs=\n\
               [   31.100134]   insmod-157       0d..1. 20100060us : devres_log: 0000:05:00.0 ADD 00000000a1b2c3e0 dmam_release (32 bytes)\n\
               [   31.100135]       sh-201       1..... 31000000us : device_release_driver_internal <-unbind_store\n\
               [   31.100136]       sh-201       1..... 31000010us!: arch_teardown_dma_ops <-device_release_driver_internal\n\
               [   31.100137]       sh-201       1d..1. 31000410us : devres_log: 0000:05:00.0 REL 00000000a1b2c3e0 dmam_release (32 bytes)\n\
               [   31.100138]       sh-201       1..... 31000422us : dma_free: 0000:05:00.0 dir=BIDIRECTIONAL dma_addr=ffff0000 size=4096 virt_addr=00000000deadb001 attrs=\n\
               [   31.100139]       sh-201       1..... 31000425us : dma_direct_free <-dmam_release\n\
               [   31.100140] ---------------------------------\n",
        want: Violated(&["R5", "R19"]),
        says: &["376991db4b64", "0000:05:00.0", "allocated through the IOMMU"],
        hides: &["not understood"],
    },
    Shape {
        source: "names of 6.18, indented as code",
        text: "After unbind one receive buffer stays mapped:\n\
               \n    \
               insmod-157     [000] .....    20.100000: really_probe <-__driver_probe_device\n    \
               insmod-157     [000] d..1.    20.100001: devres_log: 0000:05:00.0 ADD 00000000a1b2c3d4 devm_kzalloc_release (312 bytes)\n    \
               insmod-157     [000] .....    20.100040: map: IOMMU: iova=0x00000000fffe0000 - 0x00000000fffe1000 paddr=0x000000003d471000 size=4096\n    \
               insmod-157     [000] .....    20.100052: dma_map_phys: 0000:05:00.0 dir=FROM_DEVICE dma_addr=fffe0000 size=2048 phys_addr=3d471000 attrs=\n    \
               insmod-157     [000] .....    20.100060: map: IOMMU: iova=0x00000000fffd0000 - 0x00000000fffd1000 paddr=0x000000003d472000 size=4096\n    \
               insmod-157     [000] .....    20.100062: dma_map_phys: 0000:05:00.0 dir=FROM_DEVICE dma_addr=fffd0000 size=2048 phys_addr=3d472000 attrs=MMIO|NEW_NAME\n        \
               sh-201     [001] .....    31.000000: device_release_driver_internal <-unbind_store\n        \
               sh-201     [001] .....    31.000410: unmap: IOMMU: iova=0x00000000fffe0000 - 0x00000000fffe1000 size=4096 unmapped_size=4096\n        \
               sh-201     [001] .....    31.000412: dma_unmap_phys: 0000:05:00.0 dir=FROM_DEVICE dma_addr=fffe0000 size=2048 attrs=\n        \
               sh-201     [001] .....    31.000450: device_unbind_cleanup <-device_release_driver_internal\n        \
               sh-201     [001] .....    31.000451: devres_release_all <-device_unbind_cleanup\n        \
               sh-201     [001] d..1.    31.000460: devres_log: 0000:05:00.0 REL 00000000a1b2c3d4 devm_kzalloc_release (312 bytes)\n        \
               sh-201     [001] .....    31.000502: device_links_driver_cleanup <-device_release_driver_internal\n",
        want: Violated(&["R4"]),
        says: &["0xfffd0000", "2048 bytes"],
        hides: &["R1  violated", "R6"],
    },
    Shape {
        source: "7.0 with its debugging of pages that are mapped",
        text: "[  140.000001] ------------[ cut here ]------------\n\
               [  140.000002] WARNING: drivers/iommu/iommu-debug-pagealloc.c:71 at __iommu_debug_check_unmapped+0x68/0x90, CPU#2: modprobe/733\n\
               [  140.000020] Call trace:\n\
               [  140.000021]  __iommu_debug_check_unmapped+0x68/0x90 (P)\n\
               [  140.000022]  __free_frozen_pages+0x3f4/0x6a8\n\
               [  140.000023]  exnet_remove+0x40/0x90 [exnet]\n\
               [  140.000024] ---[ end trace 0000000000000000 ]---\n\
               [  140.000025] iommu: Detected page leak!\n\
               [  140.000026] page_owner tracks the page as allocated\n",
        want: Violated(&["R4"]),
        says: &["an IOMMU still maps it"],
        hides: &["R19"],
    },
];
