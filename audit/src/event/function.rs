//! Meaning of traced functions: back-ends of the DMA API, and steps of the driver core.

use std::fmt;

/// The code that serves a DMA allocation or mapping.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Backend {
    /// iommu-dma, and the per-architecture IOMMU code before it.
    Iommu,
    /// Direct mapping: bus address and physical address are the same, but for an offset.
    Direct,
    /// A pool that belongs to the device alone.
    Pool,
    /// DMA ops of an architecture or of the device's own.
    Other,
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Iommu => "the IOMMU back-end",
            Self::Direct => "the direct path",
            Self::Pool => "the device's own pool",
            Self::Other => "other DMA ops",
        })
    }
}

/// Effect of a call on an allocation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Call {
    /// Allocates or maps.
    Take(Backend),
    /// Frees or unmaps.
    Give(Backend),
}

/// Effect of the function `name`; none for one that belongs to no back-end.
pub fn call_of(name: &str) -> Option<Call> {
    let name = name.strip_prefix("__").unwrap_or(name);
    let name = name.split(['.', '+']).next().unwrap_or(name);
    let (backend, verb) = if let Some(verb) = name.strip_prefix("iommu_dma_") {
        (Backend::Iommu, verb)
    } else if let Some(verb) = name.strip_prefix("dma_direct_") {
        (Backend::Direct, verb)
    } else if let Some(verb) = name.strip_prefix("arm_iommu_").or_else(|| name.strip_prefix("arm_coherent_iommu_")) {
        (Backend::Iommu, verb)
    } else if let Some(verb) = name.strip_prefix("arm_dma_").or_else(|| name.strip_prefix("arm_coherent_dma_")) {
        (Backend::Direct, verb)
    } else if name == "iommu_alloc_attrs" || name == "iommu_free_attrs" {
        // arm64's own, up to 5.1.
        (Backend::Iommu, &name["iommu_".len()..])
    } else if name == "dma_alloc_from_dev_coherent" {
        (Backend::Pool, "alloc")
    } else if name == "dma_release_from_dev_coherent" {
        (Backend::Pool, "free")
    } else if matches!(name, "swiotlb_alloc_coherent" | "xen_swiotlb_alloc_coherent" | "intel_alloc_coherent") {
        (Backend::Other, "alloc")
    } else if matches!(name, "swiotlb_free_coherent" | "xen_swiotlb_free_coherent" | "intel_free_coherent") {
        (Backend::Other, "free")
    } else {
        return None;
    };
    let is = |prefix: &str| verb == prefix || verb.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('_'));
    if is("alloc") || is("map") {
        Some(Call::Take(backend))
    } else if is("free") || is("unmap") {
        Some(Call::Give(backend))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backends_are_told_by_names_of_several_kernels() {
        assert_eq!(call_of("iommu_dma_alloc"), Some(Call::Take(Backend::Iommu)));
        assert_eq!(call_of("iommu_dma_unmap_page"), Some(Call::Give(Backend::Iommu)));
        assert_eq!(call_of("__iommu_alloc_attrs"), Some(Call::Take(Backend::Iommu)));
        assert_eq!(call_of("__dma_direct_free_pages"), Some(Call::Give(Backend::Direct)));
        assert_eq!(call_of("dma_direct_alloc"), Some(Call::Take(Backend::Direct)));
        assert_eq!(call_of("arm_iommu_free_attrs"), Some(Call::Give(Backend::Iommu)));
        assert_eq!(call_of("iommu_dma_free.constprop.0"), Some(Call::Give(Backend::Iommu)));
        assert_eq!(call_of("iommu_dma_init_domain"), None);
        assert_eq!(call_of("dma_alloc_attrs"), None);
    }
}
