//! Events of a trace.

use std::fmt;

use super::devres::Devres;

/// Direction of a mapping.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dir {
    /// Both.
    Bidirectional,
    /// The device reads.
    ToDevice,
    /// The device writes.
    FromDevice,
    /// None, or a word that is not known.
    None,
}

impl Dir {
    pub(super) fn of(text: &str) -> Self {
        match text.strip_prefix("DMA_").unwrap_or(text) {
            "BIDIRECTIONAL" => Self::Bidirectional,
            "TO_DEVICE" => Self::ToDevice,
            "FROM_DEVICE" => Self::FromDevice,
            _ => Self::None,
        }
    }

    /// The direction that the kernel numbers so.
    pub(crate) fn of_number(number: Option<u64>) -> Self {
        match number {
            Some(0) => Self::Bidirectional,
            Some(1) => Self::ToDevice,
            Some(2) => Self::FromDevice,
            _ => Self::None,
        }
    }
}

impl fmt::Display for Dir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bidirectional => "BIDIRECTIONAL",
            Self::ToDevice => "TO_DEVICE",
            Self::FromDevice => "FROM_DEVICE",
            Self::None => "NONE",
        })
    }
}

/// Functions of the DMA API that go together.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    /// `dma_alloc_attrs`, `dma_free_attrs`.
    Coherent,
    /// `dma_alloc_pages`, `dma_free_pages`.
    Pages,
    /// `dma_alloc_noncontiguous`, `dma_free_noncontiguous`.
    Sgt,
    /// `dma_map_page` and its kind, `dma_map_phys` later.
    Single,
    /// `dma_map_resource`.
    Resource,
    /// `dma_map_sg`.
    Sg,
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Coherent => "coherent memory",
            Self::Pages => "pages",
            Self::Sgt => "non-contiguous memory",
            Self::Single => "a single mapping",
            Self::Resource => "a mapped resource",
            Self::Sg => "a scatterlist",
        })
    }
}

/// Attributes that must be the same at both ends; others only ask for something.
pub mod attrs {
    /// `DMA_ATTR_NO_KERNEL_MAPPING`.
    pub const NO_KERNEL_MAPPING: u8 = 1;
    /// `DMA_ATTR_FORCE_CONTIGUOUS`.
    pub const FORCE_CONTIGUOUS: u8 = 2;
    /// `DMA_ATTR_WRITE_COMBINE`.
    pub const WRITE_COMBINE: u8 = 4;
    /// `DMA_ATTR_MMIO`.
    pub const MMIO: u8 = 8;

    /// The attributes in the kernel's own bits.
    pub(crate) fn of_bits(bits: u64) -> u8 {
        [(2, WRITE_COMBINE), (4, NO_KERNEL_MAPPING), (6, FORCE_CONTIGUOUS)]
            .iter()
            .fold(0, |all, (bit, name)| if bits >> bit & 1 == 1 { all | name } else { all })
    }

    /// The attributes in `text`, as `A|B`.
    pub(in crate::event) fn of(text: &str) -> u8 {
        text.split('|').fold(0, |bits, name| {
            bits | match name.trim().trim_start_matches("DMA_ATTR_") {
                "NO_KERNEL_MAPPING" => NO_KERNEL_MAPPING,
                "FORCE_CONTIGUOUS" => FORCE_CONTIGUOUS,
                "WRITE_COMBINE" => WRITE_COMBINE,
                "MMIO" => MMIO,
                _ => 0,
            }
        })
    }
}

/// One end of a mapping or allocation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Op<'a> {
    /// The device's name.
    pub device: &'a str,
    /// Functions that were called.
    pub family: Family,
    /// Direction.
    pub dir: Dir,
    /// DMA address; of a scatterlist the first one.
    pub addr: Option<u64>,
    /// Bytes; of a scatterlist all together.
    pub size: Option<u64>,
    /// CPU address as printed, hashed or not; none where it is hidden.
    pub virt: Option<u64>,
    /// Physical address, where one is printed.
    pub phys: Option<u64>,
    /// Bits of [`attrs`].
    pub attrs: u8,
    /// The list of physical addresses of a scatterlist, as printed.
    pub list: &'a str,
    /// DMA addresses of a scatterlist, as printed.
    pub addrs: &'a str,
    /// Sizes of a scatterlist, as printed.
    pub sizes: &'a str,
    /// True where the last field that the kernel prints is there: the line was not cut.
    pub whole: bool,
}

/// An event of a trace.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event<'a> {
    /// Memory was allocated or mapped.
    Take(Op<'a>),
    /// Memory was freed or unmapped.
    Give(Op<'a>),
    /// A mapping failed.
    Failed(Op<'a>),
    /// The IOMMU maps a range.
    IommuMap {
        /// First address.
        start: u64,
        /// Address behind the last.
        end: u64,
    },
    /// The IOMMU unmaps a range.
    IommuUnmap {
        /// First address.
        start: u64,
        /// Address behind the last.
        end: u64,
        /// Bytes that were unmapped.
        unmapped: Option<u64>,
    },
    /// A device joins or leaves a group.
    Group {
        /// The device.
        device: &'a str,
        /// The group's number.
        group: Option<u64>,
        /// True when it joins.
        joins: bool,
    },
    /// A device is attached to a domain, or detached.
    Domain {
        /// The device.
        device: &'a str,
        /// True when it is attached.
        attached: bool,
    },
    /// The IOMMU reports a fault.
    Fault {
        /// The device, where the IOMMU's driver knows it.
        device: &'a str,
        /// Address.
        iova: u64,
    },
    /// A managed resource is added, removed, or released.
    Devres(Devres<'a>),
    /// A function is called.
    Function {
        /// Its name.
        name: &'a str,
        /// Its caller.
        caller: &'a str,
    },
    /// The kernel log gets a message.
    Console(&'a str),
    /// The next lines are the stack of the event before.
    StackHead,
    /// A line that user space wrote.
    Mark(&'a str),
    /// Power management calls a device's driver: the device goes to sleep, or wakes up.
    Slept {
        /// The device.
        device: &'a str,
    },
    /// A kprobe event of the recorder.
    Probe {
        /// Its name, without `bindery_`.
        name: &'a str,
        /// Fetched arguments.
        payload: &'a str,
    },
    /// A bounce buffer is used for a device's mapping.
    Bounced {
        /// The device.
        device: &'a str,
        /// Bytes.
        size: Option<u64>,
    },
    /// The IOMMU's or a device's own cache of translations is flushed, for a device.
    Flushed {
        /// The device, where it is named.
        device: &'a str,
        /// First address.
        start: u64,
        /// Last address.
        last: u64,
    },
    /// A managed resource whose operation is printed as a pointer: the tool could not read the kernel's strings.
    DevresUnread,
    /// An event that the tool could not print.
    Unread,
    /// Another event.
    Other(&'a str),
}
