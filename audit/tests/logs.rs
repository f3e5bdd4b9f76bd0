//! Kernel logs of other kinds, shapes and kernels than the fixtures.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use common::audit;

#[test]
fn a_bad_page_in_a_failed_probe_looks_like_the_second_half_of_the_fix() {
    let audited = audit(
        "[   14.412022] BUG: Bad page state in process swapper/0  pfn:313f5\n\
         [   14.466006] CPU: 49 PID: 1 Comm: swapper/0 Not tainted 5.1.0-rc1 #1433\n\
         [   14.482806] Call trace:\n\
         [   14.485252]  dump_backtrace+0x0/0x118\n\
         [   14.495540]  bad_page+0xe4/0x13c\n\
         [   14.520002]  __free_pages+0x30/0x44\n\
         [   14.527940]  dma_direct_free+0x24/0x38\n\
         [   14.531700]  dma_free_attrs+0x9c/0xd8\n\
         [   14.535360]  dmam_release+0x20/0x28\n\
         [   14.538850]  release_nodes+0x17c/0x220\n\
         [   14.542600]  devres_release_all+0x34/0x54\n\
         [   14.546620]  really_probe+0xc4/0x2c8\n",
    );
    audited.violates(&["R19"]).says(&["R5  cannot tell", "0b777eee88d7", "__free_pages"]);
}

#[test]
fn the_same_fault_with_and_without_its_stream_tied_to_a_device() {
    let left = "[  812.401877] igb 0000:03:00.0: removed PHC on enp3s0\n";
    let named = "[  812.410233] arm-smmu-v3 arm-smmu-v3.1.auto: event: F_TRANSLATION client: 0000:03:00.0 sid: 0x300 ssid: 0x0 iova: 0xfdf43000 ipa: 0x0\n";
    audit(&format!("{left}{named}")).violates(&["R9"]).cites("R9", &[1, 2]);
    let stream = "[  100.004001] arm-smmu fd800000.smmu: Unhandled context fault: fsr=0x402, iova=0x7ffc0000, fsynr=0x10, cbfrsynra=0x870, cb=3\n";
    audit(&format!("{left}{stream}")).cannot_tell().says(&["stream 0x870", "0x7ffc0000"]);
    audit("[  100.0000] ipmmu-vmsa e67b0000.mmu: Unhandled fault: status 0x00000101 iova 0xfffff000\n")
        .cannot_tell()
        .says(&["0xfffff000", "e67b0000.mmu"]);
}

#[test]
fn faults_while_vfio_has_the_device_are_its_users() {
    let audited = audit(
        "[  612.100000] vfio-pci 0000:02:00.0: enabling device (0400 -> 0403)\n\
         [  613.102940] DMAR: [DMA Read] Request device [02:00.0] fault addr fe000000 [fault reason 06] PTE Read access is not set\n\
         [  613.102944] DMAR:[DMA Write] Request device [02:00.0] fault addr fe000000\n\
         [  613.102944] DMAR:[fault reason 05] PTE Write access is not set\n",
    );
    audited.nothing().says(&["2 faults", "while vfio owns it"]);
}

#[test]
fn faults_after_a_rebind_are_not_the_old_drivers() {
    let audited = audit(
        "[  612.100000] e1000e 0000:00:1f.6 eth0: removed PHC\n\
         [  613.000000] e1000e 0000:00:1f.6: enabling device (0000 -> 0002)\n\
         [  613.102940] DMAR: [DMA Read] Request device [00:1f.6] fault addr fe000000 [fault reason 06] PTE Read access is not set\n",
    );
    audited.cannot_tell().hides(&["R9  violated"]);
}

#[test]
fn records_of_kmsg_with_their_keys() {
    let audited = audit(
        "6,1234,5678901234,-;e1000e 0000:00:1f.6 enp0s31f6: removed PHC\n SUBSYSTEM=pci\n DEVICE=+pci:0000:00:1f.6\n\
         3,1235,5678911234,-;DMAR: [DMA Write NO_PASID] Request device [00:1f.6] fault addr 0xfd3a4000 [fault reason 0x05] PTE\n",
    );
    audited.violates(&["R9"]).says(&["10 ms", "2 that continue others"]);
}

#[test]
fn dma_api_debugging_of_every_kind() {
    let of = |words: &str| audit(&format!("[    5.152714] DMA-API: exeth 0000:04:00.0: {words}\n"));
    of("device driver tries to free DMA memory it has not allocated [device address=0x1000] [size=64 bytes]")
        .violates(&["R1"]);
    of("device driver frees DMA memory with wrong function [device address=0x1000] [size=64 bytes]").violates(&["R3"]);
    of("device driver failed to check map error[device address=0x1000] [size=64 bytes] [mapped as single]")
        .violates(&["R18"]);
    of("mapping sg segment longer than device claims to support [len=131072] [max=65536]").violates(&["R21"]);
    let old = "[ 1.000000] e1000e 0000:00:19.0: DMA-API: device driver frees DMA memory with different size [map size=1 bytes] [unmap size=2 bytes]\n";
    audit(old).violates(&["R3"]).says(&["maps 1 bytes and unmaps 2"]);
    audit("[    0.000000] DMA-API: debugging out of memory - disabling\n").nothing().says(&["silence proves nothing"]);
}

#[test]
fn invalidations_that_were_not_confirmed() {
    for line in [
        "AMD-Vi: Completion-Wait loop timed out",
        "AMD-Vi: Event logged [IOTLB_INV_TIMEOUT device=0000:0a:00.0 address=0x100200b30]",
        "DMAR: VT-d detected Invalidation Time-out Error: SID 0",
        "arm-smmu-v3 arm-smmu-v3.0.auto: CMD_SYNC timeout at 0x00000b1c [hwprod 0x00000b1c, hwcons 0x00000b1b]",
    ] {
        audit(&format!("Feb 10 07:12:41 h kernel: {line}\n")).violates(&["R16"]).cites("R16", &[1]);
    }
}

#[test]
fn a_use_after_free_in_a_managed_action_is_a_crash_of_the_release() {
    let audited = audit(
        "[  222.000002] BUG: KASAN: slab-use-after-free in exdrv_stop+0x30/0x90 [exdrv]\n\
         [  222.000005] Call Trace:\n\
         [  222.000009]  kasan_report+0xd9/0x110\n\
         [  222.000010]  exdrv_stop+0x30/0x90 [exdrv]\n\
         [  222.000011]  devm_action_release+0x3e/0x60\n\
         [  222.000012]  release_nodes+0x63/0x100\n\
         [  222.000013]  devres_release_all+0xf5/0x160\n",
    );
    audited.violates(&["R19"]).says(&["exdrv_stop"]).hides(&["R5"]);
}

#[test]
fn words_of_people_are_no_log() {
    audit("Hi all,\n\nthe unbind of 0000:00:1f.6 crashed; DMA faults came later.\nBUG or not?\n").nothing();
    audit("").nothing();
}

#[test]
fn probes_that_failed_or_wait_are_facts() {
    let audited = audit(
        "[    1.500000] platform ee300000.sata: deferred probe pending: platform: supplier e67b0000.mmu not ready\n\
         [    2.200000] sata_rcar: probe of ee300000.sata failed with error -22\n",
    );
    audited.nothing().says(&["supplier e67b0000.mmu not ready", "failed with error -22"]);
}
