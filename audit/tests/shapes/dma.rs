//! The DMA debugging of the kernel, and bounce buffers that are full.

use super::Shape;
use super::Want::{CannotTell, Violated};

pub(crate) const SHAPES: &[Shape] = &[
    Shape {
        source: "boundarydevices/linux#3",
        text: "WARNING:\n/usr/src/linux-2.6-imx/lib/dma-debug.c:865\ncheck_unmap+0x6f8/0x7d8()\n\
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
];
