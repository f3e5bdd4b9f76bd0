//! The rules: what each says, why it matters, and which bug of Linux it comes from.

use std::fmt;
use std::str::FromStr;

/// A rule's number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Rule(u8);

/// A rule in words.
#[derive(Debug)]
pub struct Text {
    /// The violation, in a few words.
    pub title: &'static str,
    /// The rule in a sentence.
    pub says: &'static str,
    /// Harm of a violation.
    pub why: &'static str,
    /// Evidence that is needed to judge it.
    pub needs: &'static str,
    /// Commits and reports it comes from; empty where it is the API's own contract.
    pub from: &'static str,
}

/// Number of rules.
pub const COUNT: usize = TEXTS.len();

impl Rule {
    /// Freed without having been allocated.
    pub const NOT_TAKEN: Self = Self(1);
    /// Freed twice.
    pub const TWICE: Self = Self(2);
    /// Freed differently from how it was allocated.
    pub const DIFFERS: Self = Self(3);
    /// Live at the end of an unbind.
    pub const LEAK: Self = Self(4);
    /// Freed by another back-end.
    pub const BACKEND: Self = Self(5);
    /// Managed memory's release and free do not go together.
    pub const MANAGED: Self = Self(6);
    /// Managed resources grow.
    pub const GROWS: Self = Self(7);
    /// Managed resources are not released newest first.
    pub const ORDER: Self = Self(8);
    /// DMA after the tear-down.
    pub const LATE: Self = Self(9);
    /// A fault in a range that was unmapped.
    pub const FAULT: Self = Self(10);
    /// Attachments and groups.
    pub const GROUP: Self = Self(11);
    /// Another back-end at the next probe.
    pub const NEXT_PROBE: Self = Self(12);
    /// Untranslated against the policy.
    pub const IDENTITY: Self = Self(13);
    /// Two mappings share a page.
    pub const SUB_PAGE: Self = Self(14);
    /// A sync is missing.
    pub const SYNC: Self = Self(15);
    /// An invalidation was not confirmed.
    pub const UNCONFIRMED: Self = Self(16);
    /// A tear-down does not end.
    pub const ENDLESS: Self = Self(17);
    /// A mapping's error was not checked.
    pub const UNCHECKED: Self = Self(18);
    /// A tear-down crashes.
    pub const CRASH: Self = Self(19);
    /// A fault in a range that the release of managed memory freed.
    pub const RELEASE_FAULT: Self = Self(20);
    /// Another misuse of the DMA API.
    pub const MISUSE: Self = Self(21);
    /// The bounce buffer is full.
    pub const BOUNCE: Self = Self(22);

    /// All rules, in order.
    pub fn all() -> impl Iterator<Item = Self> {
        (1..=COUNT as u8).map(Self)
    }

    /// Its words.
    pub fn text(self) -> &'static Text {
        &TEXTS[self.index()]
    }

    /// Its place in a table of all rules, from 0.
    pub fn index(self) -> usize {
        usize::from(self.0) - 1
    }

    /// True where a violation is concluded from what is not there: an event that was lost may be it.
    pub(crate) fn needs_every_event(self) -> bool {
        self <= Self::GROUP || self == Self::NEXT_PROBE || self == Self::IDENTITY || self == Self::RELEASE_FAULT
    }

    /// The rules that together say whether a tear-down was clean: all of them must be provable for the whole to be proved.
    pub fn of_cleanness(self) -> bool {
        self <= Self::MANAGED || self == Self::ORDER
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("R{}", self.0))
    }
}

impl FromStr for Rule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.trim_start_matches(['R', 'r'])
            .parse::<u8>()
            .ok()
            .filter(|number| (1..=COUNT as u8).contains(number))
            .map(Self)
            .ok_or_else(|| format!("no rule `{text}`: R1 to R{COUNT}"))
    }
}

const TEXTS: [Text; 22] = [
    Text {
        title: "freed or unmapped without having been allocated or mapped",
        says: "Each dma_free and dma_unmap must name an address that the same device allocated or mapped and still holds. A free of NULL is none.",
        why: "The back-end frees pages, or removes a translation, that belong to somebody else.",
        needs: "dma:* events, those of allocations too, from before the device was probed, without losses.",
        from: "",
    },
    Text {
        title: "freed or unmapped twice",
        says: "An allocation, a mapping or a region that was given back must not be given back again.",
        why: "By then it may belong to another driver or device.",
        needs: "dma:* events; for regions __release_region in the function tracer, or the kernel's own message.",
        from: "",
    },
    Text {
        title: "freed with another size, direction, attribute, CPU address or function",
        says: "What dma_unmap and dma_free are given must be what the mapping was made with.",
        why: "A part stays mapped, a cache is not invalidated, or a wrong page is freed.",
        needs: "dma:* events, or CONFIG_DMA_API_DEBUG.",
        from: "",
    },
    Text {
        title: "still mapped or allocated at the end of an unbind",
        says: "When a driver's unbind is over, nothing that it allocated or mapped may be live.",
        why: "The device can still reach memory that the kernel gives to others, and each cycle leaks more.",
        needs: "dma:* events from before the probe, a free or unmap of any device among them (else frees may not be recorded), and the functions that \
                show the unbind's end; for a device that may have a pool of its own, whose frees leave no event, iommu_dma_alloc and \
                dma_direct_alloc, too; or CONFIG_DMA_API_DEBUG.",
        from: "",
    },
    Text {
        title: "freed through another back-end than it was allocated through",
        says: "The code that frees (IOMMU, direct, the device's own pool) must be the code that allocated.",
        why: "The direct path takes an IOVA for a physical address and frees whatever page has that number. The kernel asks the \
              device at each end and remembers nothing; CONFIG_DMA_API_DEBUG does not see it either.",
        needs: "the function tracer on iommu_dma_alloc, iommu_dma_free, dma_direct_alloc, dma_direct_free; or iommu:map and \
                iommu:unmap beside dma:*; or debug lines.",
        from: "376991db4b64 (unbind: DMA ops were reset before managed memory was released), 0b777eee88d7 (the same where a \
               probe fails), 280e5a301005 (dma_iommu left set)",
    },
    Text {
        title: "managed DMA memory released without a free, or freed by hand",
        says: "The release of managed memory (dmam_release) must free it, and nothing else may: what is freed earlier goes through \
               dmam_free_coherent, which takes it off the device's list.",
        why: "Memory freed by dma_free_coherent and left on the list is freed again at unbind.",
        needs: "dma:*, dma_free among them, and dev:devres_log.",
        from: "",
    },
    Text {
        title: "managed resources that grow with each cycle",
        says: "A device must not hold the same number more of managed resources of the same kinds at each unbind than at the one before, nor add \
               as many again each time that something is done once more between probe and unbind, without removing any.",
        why: "What is allocated as managed outside of probe (in open, reset, resume) is freed at unbind only. A device whose ports come up one \
              after the other adds for each of them, too: that is no growth.",
        needs: "dev:devres_log over four unbinds; or over four additions in one binding, each after a mark of its own: a line that is written to \
                trace_marker before each repetition, the end of a suspend in the log, or power:device_pm_callback_start. \
                device_links_driver_bound where the task that probed goes on.",
        from: "f747313249b7 (dwc2 added one managed resource with each suspend and resume)",
    },
    Text {
        title: "managed resources not released newest first",
        says: "At the end of an unbind or of a failed probe the driver core must release a device's managed resources from the newest to the \
               oldest. A group that a driver releases by itself before (devres_release_group) is judged by itself.",
        why: "A newer resource may use an older one: an interrupt handler the registers, a table the memory pool. Released in another order, it \
              still does when that is gone.",
        needs: "dev:devres_log with addresses (or names that tell the resources apart), and devres_release_all in the function tracer.",
        from: "",
    },
    Text {
        title: "DMA after the tear-down",
        says: "From the end of an unbind to the next probe the device must neither map memory nor access any. A fault of the device after its \
               driver began to leave shows such an access.",
        why: "The memory that the device reaches then belongs to others: to the kernel, or to a virtual machine that the device was given to.",
        needs: "dma:* and the functions of probe and unbind; or faults in the kernel log with a line that shows the driver leaving. A fault more than a \
                minute after that line may be of another driver that came without a word.",
        from: "25f3bcfc54bc, 512881eacfa7 (a group is owned from probe to unbind, so that nobody else gets it meanwhile); pci_device_remove leaves bus \
               mastering on",
    },
    Text {
        title: "a fault inside a range that had been unmapped",
        says: "No fault of a device may lie in a range that its driver had mapped and given back, as long as nobody else was given it: another \
               owner of the device, or a device of the same group.",
        why: "The device was not stopped before its memory was taken away. The IOMMU caught it; without one, or a moment earlier, while the \
              translation was still cached, it would have reached memory that others use by then.",
        needs: "dma:* events and the faults on the same clock: iommu:io_page_fault, or printk:console in the trace. Where invalidation is lazy, \
                the absence of faults says nothing: the device may reach the memory until the flush.",
        from: "",
    },
    Text {
        title: "a group or domain changed under live mappings",
        says: "A device must not leave its group, or be attached to another domain, while mappings are live. A reset that blocks its \
               DMA attaches it twice, and changes nothing.",
        why: "The mappings stay behind in a domain that the device does not use any more.",
        needs: "iommu:* and dma:* events.",
        from: "280e5a301005 (iommu-dma stayed set up for devices whose groups were torn down)",
    },
    Text {
        title: "another back-end at the next probe",
        says: "A device that is probed again must be served by the same back-end, unless its domain changed in between.",
        why: "An error of the IOMMU that is taken for \"no IOMMU\" leaves the device untranslated, and nothing is printed.",
        needs: "two probes of one device with their back-ends, and events/iommu, which shows whether the domain was changed in between; where the \
                second one is direct, a deferral between them is enough.",
        from: "e8e683ae9a73 (a deferral was taken for a missing IOMMU)",
    },
    Text {
        title: "untranslated although it should be translated",
        says: "A device whose group has a translated domain must not be served by the direct path. The default domain type and the \
               group do not tell: an IOMMU driver's def_domain_type may choose identity for a device, and the type can be changed.",
        why: "The IOMMU blocks what it does not translate; or it lets the device reach all memory.",
        needs: "what was mapped (dma:*, and dma_direct_alloc or iommu:map), and one of: the group's type in sysfs (--record saves \
                it, --host TREE reads it); the kernel's line that the set-up failed, or that the device's own domain is \
                translated; with \"Default domain type: Translated\", a mapping by the IOMMU in the same binding or group.",
        from: "",
    },
    Text {
        title: "two mappings share a page",
        says: "Reported as an exposure, never as a violation: a device that may access one of them can access the other.",
        why: "An IOMMU translates whole pages.",
        needs: "dma:dma_map_* with phys_addr.",
        from: "",
    },
    Text {
        title: "a sync before the CPU's read is missing",
        says: "Never decided from a trace: no event records a CPU's read.",
        why: "The CPU reads an old copy out of its cache.",
        needs: "CONFIG_DMA_API_DEBUG sees wrong syncs (R21); missing ones it does not see either.",
        from: "",
    },
    Text {
        title: "an invalidation that was not confirmed",
        says: "An IOMMU must confirm that it dropped a translation before the memory behind it is used for anything else. VT-d's invalidation \
               time-out, AMD's completion wait and IOTLB time-out, and an SMMU's CMD_SYNC time-out say that it did not.",
        why: "The device may still reach the memory through a cached translation, its own or the IOMMU's. A device that has gone, or is powered \
              off, while its cache is flushed is the usual cause; the driver need not be.",
        needs: "the kernel log: these are the kernel's own words, and no event records them.",
        from: "CVE-2026-43161, CVE-2026-43130 (endless waits for the answer of a device that is gone)",
    },
    Text {
        title: "a tear-down that does not end",
        says: "Never decided: while an unbind has not ended, nothing can be said about what it leaves. What it waits for is told.",
        why: "The unbind waits while it holds the device's lock, and everybody else who needs that lock waits, too.",
        needs: "the kernel log: requests of vfio to the user of the device, or a hung task.",
        from: "",
    },
    Text {
        title: "a mapping whose error was not checked",
        says: "dma_mapping_error must be called after each mapping.",
        why: "Where the mapping failed, the device is given an error value as an address.",
        needs: "CONFIG_DMA_API_DEBUG.",
        from: "",
    },
    Text {
        title: "a tear-down that crashes",
        says: "No crash may come from a driver's removal or from the release of its managed resources.",
        why: "What was not released by then stays, and so does the device's lock.",
        needs: "the kernel log with the call trace.",
        from: "376991db4b64, 0b777eee88d7",
    },
    Text {
        title: "a fault inside a range that the release of managed memory freed",
        says: "No fault may lie in a range that the release of managed memory gave back: the device must be stopped before.",
        why: "Managed resources are released after the driver's remove, newest first. An action that stops the device, and was registered before \
              the memory was allocated, runs after the memory is freed.",
        needs: "dev:devres_log, dma:*, and the faults on the same clock (iommu:io_page_fault or printk:console).",
        from: "",
    },
    Text {
        title: "another misuse of the DMA API",
        says: "The kernel's own checks of the DMA API must stay silent.",
        why: "Memory that must not be mapped is mapped (stack, vmalloc, rodata), or a sync is outside its mapping.",
        needs: "CONFIG_DMA_API_DEBUG.",
        from: "",
    },
    Text {
        title: "the bounce buffer has no room",
        says: "Reported, never decided: the count of slots is that of the whole machine.",
        why: "Usage that only rises, across unloads too, looks like mappings that are never unmapped.",
        needs: "the kernel log.",
        from: "",
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_named_by_their_numbers() {
        assert_eq!("R5".parse::<Rule>().unwrap(), Rule::BACKEND);
        assert_eq!(Rule::BOUNCE.to_string(), format!("R{COUNT}"));
        assert!("R0".parse::<Rule>().is_err() && "R23".parse::<Rule>().is_err() && "x".parse::<Rule>().is_err());
    }
}
