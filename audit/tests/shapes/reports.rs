//! Reports of other architectures, of later kernels, and of tools that rewrite them.

use super::Shape;
use super::Want::{CannotTell, Nothing, Violated};

pub(crate) const SHAPES: &[Shape] = &[
    Shape {
        source: "starfive-tech/Fedora_on_StarFive#26, at the removal of a driver",
        text: "[  214.006912] Unable to handle kernel NULL pointer dereference at virtual address 0000000000000010\n\
               [  214.015602] Oops [#1]\n\
               [  214.017912] Modules linked in: exspi(-)\n\
               [  214.023050] CPU: 2 PID: 411 Comm: rmmod Not tainted 6.6.20+ #8\n\
               [  214.034190] epc : clk_unprepare+0x8/0x24\n\
               [  214.038101]  ra : exspi_remove+0x22/0x44 [exspi]\n\
               [  214.043042] epc : ffffffff8062ef1c ra : ffffffff0127e0a2 sp : ffffffc800a6bc70\n\
               [  214.050233]  gp : ffffffff814ff9f0 tp : ffffffd8c1b8d100 t0 : ffffffff80c04ae0\n\
               [  214.120101] status: 0000000200000120 badaddr: 0000000000000010 cause: 000000000000000d\n\
               [  214.128114] [<ffffffff8062ef1c>] clk_unprepare+0x8/0x24\n\
               [  214.133481] [<ffffffff0127e0a2>] exspi_remove+0x22/0x44 [exspi]\n\
               [  214.139455] [<ffffffff80740ff2>] platform_remove+0x24/0x38\n\
               [  214.144986] [<ffffffff8073e2a8>] device_release_driver_internal+0x18c/0x1f4\n\
               [  214.152002] [<ffffffff8073e380>] driver_detach+0x44/0x7c\n\
               [  214.157341] ---[ end trace 0000000000000000 ]---\n",
        want: Violated(&["R19"]),
        says: &["clk_unprepare", "rmmod, 411"],
        hides: &["R5"],
    },
    Shape {
        source: "linuxppc/issues, an oops while managed memory is released",
        text: "BUG: Kernel NULL pointer dereference on read at 0x00000048\n\
               Faulting instruction address: 0xc00000000010a2f4\n\
               Oops: Kernel access of bad area, sig: 11 [#1]\n\
               LE PAGE_SIZE=64K MMU=Radix SMP NR_CPUS=2048 NUMA pSeries\n\
               Modules linked in: exnet(-)\n\
               CPU: 5 PID: 3873 Comm: drmgr Not tainted 5.19.0 #1\n\
               NIP:  c00000000010a2f4 LR: c00000000010a2d0 CTR: c000000000060720\n\
               REGS: c000000053d87790 TRAP: 0300   Not tainted  (5.19.0)\n\
               MSR:  8000000000009033 <SF,EE,ME,IR,DR,RI,LE>  CR: 24002244  XER: 20040000\n\
               CFAR: c00000000010a2d4 DAR: 0000000000000048 DSISR: 40000000 IRQMASK: 0\n\
               GPR00: c00000000010a2d0 c000000053d87a30 c000000002a10700 0000000000000000\n\
               NIP [c00000000010a2f4] iommu_free_coherent+0x44/0x120\n\
               LR [c00000000010a2d0] iommu_free_coherent+0x20/0x120\n\
               Call Trace:\n\
               [c000000053d87a30] [c000000053d87a70] 0xc000000053d87a70 (unreliable)\n\
               [c000000053d87a90] [c0000000001c8b34] dma_free_attrs+0x74/0x100\n\
               [c000000053d87af0] [c0000000008f0e10] dmam_release+0x30/0x50\n\
               [c000000053d87b20] [c0000000008f0e10] release_nodes+0x80/0x110\n\
               [c000000053d87b70] [c0000000008f1b20] devres_release_all+0xd0/0x150\n\
               [c000000053d87bd0] [c0000000008ea0a4] device_unbind_cleanup+0x24/0xb0\n\
               [c000000053d87c00] [c0000000008ebb14] device_release_driver_internal+0x274/0x340\n",
        want: Violated(&["R19"]),
        says: &["iommu_free_coherent", "release of managed resources", "drmgr, 3873"],
        hides: &["376991db4b64"],
    },
    Shape {
        source: "linuxppc/issues#459",
        text: "  ------------[ cut here ]------------\n\
               WARNING: CPU: 3 PID: 3873 at arch/powerpc/kernel/iommu.c:830 \n\
               iommu_tce_table_put+0x20/0x170\n\
               Modules linked in: rpcrdma sunrpc rdma_ucm ib_srpt ib_isert \n\
               iscsi_target_mod target_core_mod ib_iser ib_umad rdma_cm ib_ipoib iw_cm \n\
               CPU: 3 PID: 3873 Comm: drmgr Not tainted 5.19.0-autotest #1\n\
               NIP:  c000000000062380 LR: c0000000000fd9e8 CTR: c000000000060720\n\
               NIP [c000000000062380] iommu_tce_table_put+0x20/0x170\n\
               LR [c0000000000fd9e8] pseries_pci_remove+0x88/0xb0\n",
        want: Nothing,
        says: &[],
        hides: &["violated", "R19"],
    },
    Shape {
        source: "ayourtch/nat46#62",
        text: "# rmmod exmod\n\
               exmod: deleting device (bmr1)\n\
               ==================================================================\n\
               BUG: KASAN: slab-out-of-bounds in exmod_destroy_all+0x6c/0xcc [exmod]\n\
               Read of size 4 at addr ffffff8003db1a00 by task rmmod/11731\n\
               \n\
               CPU: 0 UID: 0 PID: 11731 Comm: rmmod Tainted: P                    6.18.0 #1 PREEMPT\n\
               Tainted: [P]=PROPRIETARY_MODULE\n\
               Call trace:\n \
               show_stack+0x14/0x1c (C)\n \
               dump_stack_lvl+0x6c/0x80\n \
               print_report+0xf8/0x5cc\n \
               kasan_report+0xac/0xe8\n \
               __asan_load4+0x90/0xb0\n \
               exmod_destroy_all+0x6c/0xcc [exmod]\n \
               exmod_exit+0x54/0x1020 [exmod]\n \
               __arm64_sys_delete_module+0x1f8/0x3a4\n \
               el0t_64_sync+0x154/0x158\n",
        want: Nothing,
        says: &["not in a tear-down"],
        hides: &["violated"],
    },
    Shape {
        source: "multipath-tcp/mptcp_net-next#433, functions with files in the place of offsets",
        text: "[ 1502.520319][T14140] ==================================================================\n\
               [1502.527398][T14140] BUG: KASAN: slab-use-after-free in exdrv_stop (drivers/net/exdrv.c:286) \n\
               [ 1502.534436][T14140] Read of size 8 at addr ffff88800853aa88 by task bash/14140\n\
               [ 1502.543122][T14140] CPU: 1 PID: 14140 Comm: bash Tainted: G                 N 6.5.0 #1\n\
               [ 1502.558322][T14140] Call Trace:\n\
               [ 1502.561155][T14140]  <TASK>\n\
               [1502.563628][T14140] dump_stack_lvl (lib/dump_stack.c:107) \n\
               [1502.567645][T14140] print_address_description.constprop.0 (mm/kasan/report.c:365) \n\
               [1502.573319][T14140] ? exdrv_stop (drivers/net/exdrv.c:286) \n\
               [1502.586379][T14140] kasan_report (mm/kasan/report.c:590) \n\
               [1502.590618][T14140] exdrv_stop (drivers/net/exdrv.c:286) \n\
               [1502.594000][T14140] exdrv_remove (drivers/net/exdrv.c:411) exdrv\n\
               [1502.597001][T14140] pci_device_remove (drivers/pci/pci-driver.c:474) \n\
               [1502.600002][T14140] device_release_driver_internal (drivers/base/dd.c:1272 drivers/base/dd.c:1295) \n\
               [1502.603003][T14140] unbind_store (drivers/base/bus.c:245) \n\
               [ 1502.606004][T14140]  </TASK>\n",
        want: Violated(&["R19"]),
        says: &["exdrv_stop", "bash, 14140"],
        hides: &[],
    },
    Shape {
        source: "syzbot: inlined functions, files behind the offsets",
        text: "==================================================================\n\
               BUG: KASAN: slab-use-after-free in exusb_work+0x1c4/0x2f0 drivers/usb/misc/exusb.c:214\n\
               Write of size 8 at addr ffff888034a6c0f8 by task kworker/1:3/5870\n\
               \n\
               CPU: 1 UID: 0 PID: 5870 Comm: kworker/1:3 Not tainted 6.17.0-syzkaller #0 PREEMPT(full) \n\
               Workqueue: events exusb_work\n\
               Call Trace:\n \
               <TASK>\n \
               __dump_stack lib/dump_stack.c:94 [inline]\n \
               dump_stack_lvl+0x116/0x1f0 lib/dump_stack.c:120\n \
               print_report+0xcd/0x630 mm/kasan/report.c:482\n \
               kasan_report+0xe0/0x110 mm/kasan/report.c:595\n \
               exusb_work+0x1c4/0x2f0 drivers/usb/misc/exusb.c:214\n \
               process_one_work+0x9cf/0x1b70 kernel/workqueue.c:3236\n \
               </TASK>\n\
               \n\
               Allocated by task 9:\n \
               kasan_save_stack+0x33/0x60 mm/kasan/common.c:47\n \
               devm_kmalloc+0xa5/0x260 drivers/base/devres.c:864\n \
               exusb_probe+0x8a/0x6d0 drivers/usb/misc/exusb.c:411\n\
               \n\
               Freed by task 9:\n \
               kasan_save_stack+0x33/0x60 mm/kasan/common.c:47\n \
               kfree+0x2b4/0x4d0 mm/slub.c:4894\n \
               release_nodes drivers/base/devres.c:506 [inline]\n \
               devres_release_all+0x15a/0x1c0 drivers/base/devres.c:535\n \
               device_unbind_cleanup drivers/base/dd.c:549 [inline]\n \
               device_release_driver_internal+0x3f0/0x610 drivers/base/dd.c:1290\n\
               \n\
               Last potentially related work creation:\n \
               kasan_save_stack+0x33/0x60 mm/kasan/common.c:47\n",
        want: Violated(&["R19"]),
        says: &["had freed", "exusb_work", "kworker/1:3, 5870"],
        hides: &[],
    },
    Shape {
        source: "intel/lkvs#397: a whole oops in one line, with its times",
        text: "Unload exioctl driver will meet BUG as following: \" [  203.429071] Will unload driver. [  203.429244] BUG: unable to handle page fault for address: ffffc9000447fbd4 [  203.429247] #PF: supervisor read access in kernel mode [  203.429253] Oops: 0000 [#1] PREEMPT SMP NOPTI [  203.429256] CPU: 8 PID: 4469 Comm: rmmod Tainted: G           O       6.7.0-rc7+ #15 [  203.429259] RIP: 0010:string_nocheck+0x16/0x90 [  203.429280] Call Trace: [  203.429281]  <TASK> [  203.429283]  ? __die+0x23/0x70 [  203.429290]  exioctl_remove+0x31/0x60 [exioctl] [  203.429295]  device_release_driver_internal+0x19f/0x200 [  203.429300]  driver_detach+0x44/0x90 [  203.429305]  </TASK>\n",
        want: Violated(&["R19"]),
        says: &["string_nocheck", "rmmod, 4469"],
        hides: &[],
    },
    Shape {
        source: "CachyOS/linux-cachyos#1023: vfio-pci of 7.2 crashes while it lets go",
        text: "Sep 05 18:11:02 box kernel: vfio-pci 0000:03:00.0: resetting\n\
               Sep 05 18:11:03 box kernel: Oops: general protection fault, probably for non-canonical address 0xdffffc000000008c: 0000 [#1] SMP PTI\n\
               Sep 05 18:11:03 box kernel: CPU: 11 UID: 0 PID: 9120 Comm: rpc-libvirtd Not tainted 7.2.2-1 #1 PREEMPT(full)\n\
               Sep 05 18:11:03 box kernel: RIP: 0010:vfio_pci_core_sriov_configure+0x2b/0x1d0 [vfio_pci_core]\n\
               Sep 05 18:11:03 box kernel: Call Trace:\n\
               Sep 05 18:11:03 box kernel:  <TASK>\n\
               Sep 05 18:11:03 box kernel:  vfio_pci_core_unregister_device+0x2e/0x90 [vfio_pci_core]\n\
               Sep 05 18:11:03 box kernel:  vfio_pci_remove+0x15/0x20 [vfio_pci]\n\
               Sep 05 18:11:03 box kernel:  pci_device_remove+0x44/0xb0\n\
               Sep 05 18:11:03 box kernel:  device_release_driver_internal+0x19e/0x200\n\
               Sep 05 18:11:03 box kernel:  unbind_store+0xa4/0xb0\n\
               Sep 05 18:11:03 box kernel:  </TASK>\n",
        want: Violated(&["R19"]),
        says: &["vfio_pci_core_sriov_configure", "rpc-libvirtd, 9120"],
        hides: &[],
    },
    Shape {
        source: "AsahiLinux/linux#591: 7.1 warns of an unmap that finds nothing",
        text: "[  411.204110] ------------[ cut here ]------------\n\
               [  411.204118] WARNING: drivers/iommu/dma-iommu.c:829 at __iommu_dma_unmap+0x164/0x180, CPU#4: sh/4410\n\
               [  411.204130] Modules linked in:\n\
               [  411.204141] CPU: 4 UID: 0 PID: 4410 Comm: sh Not tainted 7.1.6-1-1-ARCH #1 PREEMPT(full)\n\
               [  411.204150] pc : __iommu_dma_unmap+0x164/0x180\n\
               [  411.204155] lr : __iommu_dma_unmap+0xdc/0x180\n\
               [  411.204160] Call trace:\n\
               [  411.204163]  __iommu_dma_unmap+0x164/0x180 (P)\n\
               [  411.204168]  dma_unmap_phys+0x1ac/0x2a0\n\
               [  411.204174]  dma_unmap_resource+0x18/0x28\n\
               [  411.204180]  exsep_remove+0x48/0x80\n\
               [  411.204186]  platform_remove+0x30/0x58\n\
               [  411.204192]  device_release_driver_internal+0x1cc/0x228\n\
               [  411.204198]  unbind_store+0xb4/0xc0\n\
               [  411.204260] ---[ end trace 0000000000000000 ]---\n",
        want: Violated(&["R1"]),
        says: &["exsep_remove", "not mapped, or no longer"],
        hides: &["R19"],
    },
    Shape {
        source: "DMA API debugging of 6.19, words before its warning",
        text: "[   88.412001] ------------[ cut here ]------------\n\
               [   88.412006] DMA-API: exnet 0000:03:00.0: device driver tries to free DMA memory it has not allocated [device address=0x00000000fff3c000] [size=1514 bytes]\n\
               [   88.412012] WARNING: kernel/dma/debug.c:1012 at check_unmap+0x4f8/0x9d0, CPU#5: ip/2214\n\
               [   88.412120] CPU: 5 UID: 0 PID: 2214 Comm: ip Not tainted 6.19.0 #1 PREEMPT(full)\n\
               [   88.412130] RIP: 0010:check_unmap+0x4f8/0x9d0\n\
               [   88.412140] Call Trace:\n\
               [   88.412141]  <TASK>\n\
               [   88.412143]  debug_dma_unmap_phys+0x9f/0xd0\n\
               [   88.412148]  exnet_clean_tx+0x84/0x110 [exnet]\n\
               [   88.412154]  exnet_close+0x62/0xa0 [exnet]\n\
               [   88.412160]  </TASK>\n",
        want: Violated(&["R1"]),
        says: &["0000:03:00.0", "0xfff3c000", "freed in exnet_clean_tx"],
        hides: &["R19"],
    },
    Shape {
        source: "lkml 2026-05: a counter of DMA API debugging is full",
        text: "[  101.100000] DMA-API: exceeded 7 overlapping mappings of cacheline 0x0000000004c1ab40\n\
               [  101.100004] WARNING: kernel/dma/debug.c:465 at add_dma_entry+0x394/0x410, CPU#1: fio/1220\n\
               [  101.100090] RIP: 0010:add_dma_entry+0x394/0x410\n\
               [  101.100110] Call Trace:\n\
               [  101.100120]  debug_dma_map_phys+0x7c/0xe0\n\
               [  101.100130]  nvme_map_data+0x120/0x4c0 [nvme]\n",
        want: Nothing,
        says: &["exceeded 7 overlapping"],
        hides: &["violated"],
    },
    Shape {
        source: "bugzilla 215740: cachelines that overlap on x86",
        text: "[    6.101001] DMA-API: xhci_hcd 0000:00:14.0: cacheline tracking EEXIST, overlapping mappings aren't supported\n\
               [    6.101006] WARNING: CPU: 3 PID: 201 at kernel/dma/debug.c:570 add_dma_entry+0x1d6/0x2a0\n\
               [    6.101100] CPU: 3 PID: 201 Comm: kworker/3:2 Not tainted 5.17.1 #1\n\
               [    6.101110] RIP: 0010:add_dma_entry+0x1d6/0x2a0\n\
               [    6.101130]  debug_dma_map_page+0x7a/0xd0\n\
               [    6.101140]  usb_hcd_map_urb_for_dma+0x3b4/0x4f0\n",
        want: CannotTell,
        says: &["0000:00:14.0", "coherent"],
        hides: &["violated"],
    },
    Shape {
        source: "a hung unbind of 6.17 with the owner of the lock",
        text: "[ 1209.600010] INFO: task sh:812 blocked for more than 120 seconds.\n\
               [ 1209.600020]       Not tainted 6.17.4 #1\n\
               [ 1209.600030] \"echo 0 > /proc/sys/kernel/hung_task_timeout_secs\" disables this message.\n\
               [ 1209.600040] task:sh              state:D stack:0     pid:812   tgid:812   ppid:790    task_flags:0x400100 flags:0x00000002\n\
               [ 1209.600050] Call Trace:\n\
               [ 1209.600060]  __schedule+0x4a0/0x1200\n\
               [ 1209.600070]  schedule+0x27/0xd0\n\
               [ 1209.600080]  __mutex_lock.constprop.0+0x2a1/0x640\n\
               [ 1209.600090]  device_release_driver_internal+0x3e/0x200\n\
               [ 1209.600100]  unbind_store+0xa4/0xb0\n\
               [ 1209.600110] INFO: task sh:812 is blocked on a mutex likely owned by task rmmod:640.\n\
               [ 1209.600120] task:rmmod           state:D stack:0     pid:640   tgid:640   ppid:600    task_flags:0x400100 flags:0x00000002\n\
               [ 1209.600130] Call Trace:\n\
               [ 1209.600140]  __schedule+0x4a0/0x1200\n\
               [ 1209.600150]  schedule_timeout+0xbd/0xe0\n\
               [ 1209.600160]  wait_for_completion+0x8f/0x140\n\
               [ 1209.600170]  exdrv_remove+0x5c/0x90 [exdrv]\n\
               [ 1209.600180]  pci_device_remove+0x44/0xb0\n\
               [ 1209.600190]  device_release_driver_internal+0x19e/0x200\n\
               [ 1209.600200]  driver_detach+0x4a/0x90\n",
        want: CannotTell,
        says: &["sh (812)", "rmmod (640)", "exdrv_remove"],
        hides: &["violated"],
    },
    Shape {
        source: "radxa/kernel#415: a vendor's process behind the time",
        text: "[  187.432546] [pid:10974,cpu1,bash]exwifi 0001:01:00.0: driver unbound\n\
               [  187.442554] [pid:10974,cpu1,bash]Unable to handle kernel paging request at virtual address ffff80008a3c1000\n\
               [  187.452560] [pid:10974,cpu1,bash]Internal error: Oops: 0000000096000007 [#1] PREEMPT SMP\n\
               [  187.462567] [pid:10974,cpu1,bash]CPU: 1 PID: 10974 Comm: bash Tainted: G           O       6.1.44 #1\n\
               [  187.472575] [pid:10974,cpu1,bash]pc : exwifi_free_irq+0x24/0x70 [exwifi]\n\
               [  187.482581] [pid:10974,cpu1,bash]Call trace:\n\
               [  187.492589] [pid:10974,cpu1,bash] exwifi_free_irq+0x24/0x70 [exwifi]\n\
               [  187.502597] [pid:10974,cpu1,bash] devm_action_release+0x1c/0x28\n\
               [  187.502601] [pid:10974,cpu1,bash] release_nodes+0x68/0x100\n\
               [  187.502605] [pid:10974,cpu1,bash] devres_release_all+0x98/0x100\n",
        want: Violated(&["R19"]),
        says: &["0001:01:00.0", "exwifi_free_irq", "release of managed resources"],
        hides: &[],
    },
];
