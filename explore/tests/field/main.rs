//! Situations from public bug reports, each with what a right product does (docs/field-reports.md).
//!
//! R numbers: driver core, interrupts, links, supplies. S numbers: DMA, IOMMU, pass-through, firmware, disk. F numbers: a
//! second search.
#![allow(
    clippy::all,
    clippy::pedantic,
    unreachable_pub,
    dead_code,
    reason = "scripts of outside reporters: their sequence of events matters, not their style"
)]

mod dma;
mod held;
mod kernel;
mod toy;

mod f_callbacks;
mod f_contexts;
mod f_control;
mod f_disk;
mod f_firmware;
mod f_interrupts;
mod f_iommu;
mod f_life;
mod f_memory;
mod f_passthrough;
mod f_peers;
mod f_stale;
mod f_supplies;
mod f_time;
mod r01_shared_line_masked;
mod r02_trigger_mismatch;
mod r03_two_iommus;
mod r04_shared_reset;
mod r05_unlinked_supplier;
mod r06_self_removal;
mod r07_children;
mod r07_hub;
mod r08_overlapping_registers;
mod r09_dma_mask;
mod r11_open_file;
mod r12_suspend;
mod r13_waits_for_firmware;
mod r15_cycle;
mod r16_boot_framebuffer;
mod r17_regulator;
mod r19_panics;
mod r20_hotplug_churn;
mod r22_irq_expander;
mod r23_stuck_user;
mod refusals;
mod s01_remap_over_unconfirmed;
mod s02_two_guests;
mod s03_bus_window;
mod s04_lazy_idle;
mod s05_dma_ranges;
mod s06_iommu_map;
mod s07_request_blocks;
mod s08_reset_fails;
mod s09_many_maps;
mod s10_fault_storm;
mod s12_bounce;
mod s14_late_completion;
mod s15_sectors_of_4k;
mod s16_another_disk;
mod s17_gpio_nexus;
mod s19_names;
mod s20_foreign_memory;
mod s21_callbacks;
mod s21_interrupts_of_a_user;
mod s23_status;
mod s24_threads;
mod s26_slices;
mod s27_edges;
mod s28_wrong_counts;
