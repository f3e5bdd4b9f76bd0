//! Traces as a stock kernel writes them, line by line.

use std::fmt::Write;

use super::{Audited, audit};

pub const DEV: &str = "0000:05:00.0";

/// A trace that is written line by line; each line is a microsecond later.
pub struct Trace {
    pub text: String,
    micros: u64,
    task: &'static str,
}

impl Trace {
    pub fn new() -> Self {
        Self { text: "# tracer: function\n#\n".into(), micros: 20_100_000, task: "insmod-157     [000]" }
    }

    pub fn line(&mut self, body: &str) -> &mut Self {
        self.micros += 1;
        let (seconds, micros) = (self.micros / 1_000_000, self.micros % 1_000_000);
        writeln!(self.text, "      {} .....    {seconds}.{micros:06}: {body}", self.task).unwrap();
        self
    }

    pub fn later(&mut self, micros: u64) -> &mut Self {
        self.micros += micros;
        self
    }

    pub fn by(&mut self, task: &'static str) -> &mut Self {
        self.task = task;
        self
    }

    pub fn probe(&mut self) -> &mut Self {
        self.by("insmod-157     [000]").line("really_probe <-__driver_probe_device");
        self.devres("ADD", 0xa0, "devm_kzalloc_release", 312)
    }

    pub fn devres(&mut self, op: &str, node: u64, name: &str, size: u64) -> &mut Self {
        self.line(&format!("devres_log: {DEV} {op} 00000000a1b2c3{node:02x} {name} ({size} bytes)"))
    }

    pub fn alloc(&mut self, addr: u64, size: u64) -> &mut Self {
        self.line("iommu_dma_alloc <-dma_alloc_attrs");
        self.line(&format!("map: IOMMU: iova={addr:#018x} - {:#018x} paddr=0x000000003d470000 size=4096", addr + 4096));
        self.line(&format!(
            "dma_alloc: {DEV} dir=BIDIRECTIONAL dma_addr={addr:x} size={size} virt_addr=00000000dead{:04x} flags=GFP_KERNEL attrs=",
            addr >> 12 & 0xffff
        ))
    }

    pub fn managed(&mut self, addr: u64, node: u64) -> &mut Self {
        self.alloc(addr, 4096).devres("ADD", node, "dmam_release", 32)
    }

    pub fn free_event(&mut self, addr: u64, size: u64) -> &mut Self {
        self.line(&format!(
            "dma_free: {DEV} dir=BIDIRECTIONAL dma_addr={addr:x} size={size} virt_addr=00000000dead{:04x} attrs=",
            addr >> 12 & 0xffff
        ))
    }

    pub fn unmap(&mut self, addr: u64) -> &mut Self {
        self.line(&format!("unmap: IOMMU: iova={addr:#018x} - {:#018x} size=4096 unmapped_size=4096", addr + 4096))
    }

    pub fn free(&mut self, addr: u64, size: u64) -> &mut Self {
        self.free_event(addr, size).line("iommu_dma_free <-exdrv_remove").unmap(addr)
    }

    pub fn map_page(&mut self, addr: u64, size: u64, dir: &str) -> &mut Self {
        let page = addr & !4095;
        self.line(&format!("map: IOMMU: iova={page:#018x} - {:#018x} paddr=0x000000003d470000 size=4096", page + 4096));
        self.line(&format!(
            "dma_map_page: {DEV} dir={dir} dma_addr={addr:x} size={size} phys_addr=3d4700{:02x} attrs=",
            addr & 0xff
        ))
    }

    pub fn unmap_page(&mut self, addr: u64, size: u64, dir: &str) -> &mut Self {
        self.unmap(addr & !4095);
        self.line(&format!("dma_unmap_page: {DEV} dir={dir} dma_addr={addr:x} size={size} attrs="))
    }

    /// Memory of another device that is allocated and freed: frees are recorded.
    pub fn elsewhere(&mut self) -> &mut Self {
        let other = "0000:07:00.0";
        self.by("nvme-90        [000]").line("iommu_dma_alloc <-dma_alloc_attrs");
        self.line("map: IOMMU: iova=0x00000000ee000000 - 0x00000000ee001000 paddr=0x000000003d47f000 size=4096");
        self.line(&format!(
            "dma_alloc: {other} dir=BIDIRECTIONAL dma_addr=ee000000 size=4096 virt_addr=00000000beef0001 flags=GFP_KERNEL attrs="
        ));
        self.line(&format!(
            "dma_free: {other} dir=BIDIRECTIONAL dma_addr=ee000000 size=4096 virt_addr=00000000beef0001 attrs="
        ));
        self.line("iommu_dma_free <-dma_free_attrs");
        self.line("unmap: IOMMU: iova=0x00000000ee000000 - 0x00000000ee001000 size=4096 unmapped_size=4096")
    }

    pub fn unbind(&mut self) -> &mut Self {
        self.later(1_000_000).by("sh-201         [001]").line("device_release_driver_internal <-unbind_store")
    }

    pub fn cleanup(&mut self) -> &mut Self {
        self.line("device_unbind_cleanup <-device_release_driver_internal");
        self.line("devres_release_all <-device_unbind_cleanup")
    }

    pub fn release(&mut self, addr: u64, node: u64) -> &mut Self {
        self.devres("REL", node, "dmam_release", 32)
            .free_event(addr, 4096)
            .line("iommu_dma_free <-dmam_release")
            .unmap(addr)
    }

    pub fn end(&mut self) -> &mut Self {
        self.devres("REL", 0xa0, "devm_kzalloc_release", 312);
        self.line("device_links_driver_cleanup <-device_release_driver_internal")
    }

    pub fn audit(&self) -> Audited {
        audit(&self.text)
    }
}
