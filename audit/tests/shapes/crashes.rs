//! Crashes, and what is around them.

use super::Shape;
use super::Want::{Nothing, Violated};

pub(crate) const SHAPES: &[Shape] = &[
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
