//! Interrupt remapping: without it a device can forge interrupts, and VFIO refuses to attach it.

use crate::face::Face;

/// True when MSIs are known not to be remapped; unknown counts as remapped.
pub(super) fn not_remapped(face: &dyn Face) -> bool {
    let allowed = face.try_text("/sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts");
    if allowed.is_some_and(|text| text.trim().starts_with(['Y', '1'])) {
        return false;
    }
    if face.try_text("/proc/interrupts").is_some_and(|text| plain_msi_only(&text)) {
        return true;
    }
    // Bit 3 of a VT-d unit's extended capability register says that it can remap.
    let units = face.names("/sys/class/iommu").into_iter().filter(|name| name.starts_with("dmar"));
    let able: Vec<bool> = units
        .filter_map(|unit| face.try_text(&format!("/sys/class/iommu/{unit}/intel-iommu/ecap")))
        .filter_map(|text| u64::from_str_radix(text.trim().trim_start_matches("0x"), 16).ok())
        .map(|ecap| ecap & 1 << 3 != 0)
        .collect();
    !able.is_empty() && !able.contains(&true)
}

/// x86 names the chips of remapped interrupts `IR-PCI-MSI`, and those of others `PCI-MSI`.
fn plain_msi_only(interrupts: &str) -> bool {
    interrupts.contains("PCI-MSI") && !interrupts.contains("IR-") && interrupts.contains("IO-APIC")
}

#[cfg(test)]
mod tests {
    use super::plain_msi_only;

    #[test]
    fn remapped_interrupts_have_their_own_chip() {
        assert!(plain_msi_only(" 1: 0 IO-APIC 1-edge i8042\n24: 0 PCI-MSI 1 ahci\n"));
        assert!(!plain_msi_only(" 1: 0 IR-IO-APIC 1-edge i8042\n24: 0 IR-PCI-MSI 1 ahci\n"));
        assert!(!plain_msi_only("24: 0 ITS-PCI-MSI 1 ahci\n"), "arm64");
    }
}
