//! Subjects and modes of claims.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use crate::addr::{PAGE_SIZE, PhysAddr};
use crate::description::{NodeId, SupplierKind};

/// Provider of a claimed resource, by node, with its name for messages. Each node has one name, so either identifies
/// it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Provider {
    /// The node.
    pub node: NodeId,
    /// Label and path of the node, or its path.
    pub name: Arc<str>,
}

/// Resource that can be claimed. Two claims meet when their subjects are equal, or are registers that overlap.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Subject {
    /// Device registers, in CPU addresses. Not empty, and not beyond the last address.
    Registers {
        /// First byte.
        base: PhysAddr,
        /// Bytes.
        len: u64,
    },
    /// An interrupt line.
    Interrupt {
        /// The controller; `None` for the machine's own.
        controller: Option<Provider>,
        /// The line, as its controller numbers it.
        line: u32,
    },
    /// A clock, power domain, reset line or regulator.
    Supply {
        /// The provider that switches it.
        provider: Provider,
        /// Kind of supply.
        kind: SupplierKind,
        /// Specifier cells, which select one of the provider's supplies.
        args: Vec<u32>,
    },
    /// A stream of an IOMMU: the bus accesses that carry this stream ID.
    Stream {
        /// The IOMMU.
        iommu: Provider,
        /// The stream ID.
        stream: u32,
    },
    /// An IOMMU group, by number: held by each binding of its devices.
    Group(u32),
    /// The bus behind a bridge, which is reset as a whole, by the bridge's name: held for each device on it or below that a driver
    /// or a user has.
    Bus(Arc<str>),
    /// The address space of the IOMMU group of this number while it is not the kernel's to map: held by the
    /// pass-through owner, once for each of its open devices.
    AddressSpace(u32),
    /// A name in a name space, as in `service bindery::power::Supply of cpg`.
    Name {
        /// The name space.
        space: &'static str,
        /// The name in it.
        name: Arc<str>,
    },
}

impl Subject {
    /// The registers and the rest of their pages, which is what a guest gets that maps them. Saturates at the last
    /// address.
    pub fn whole_pages(base: PhysAddr, len: u64) -> Self {
        let first = base.0 & !(PAGE_SIZE - 1);
        let last = base.0.saturating_add(len.max(1) - 1) | (PAGE_SIZE - 1);
        // The last page of the address space loses its last byte, because the length must fit 64 bits.
        Self::Registers { base: PhysAddr(first), len: (last - first).saturating_add(1) }
    }

    /// True when both are equal, or have registers in common.
    pub fn overlaps(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Registers { base: a, len: a_len }, Self::Registers { base: b, len: b_len }) => {
                if a <= b {
                    b.0 - a.0 < *a_len && *b_len > 0
                } else {
                    a.0 - b.0 < *b_len && *a_len > 0
                }
            }
            (a, b) => a == b,
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registers { base, len } => write!(f, "registers {base} + {len:#x}"),
            Self::Interrupt { controller: None, line } => write!(f, "interrupt line {line}"),
            Self::Interrupt { controller: Some(c), line } => write!(f, "interrupt line {line} of {}", c.name),
            Self::Supply { provider, kind, args } => {
                let kind = match kind {
                    SupplierKind::Clock => "clock",
                    SupplierKind::Power => "power domain",
                    SupplierKind::Reset => "reset line",
                    SupplierKind::Regulator => "regulator",
                    _ => "supply",
                };
                write!(f, "{kind} {args:?} of {}", provider.name)
            }
            Self::Stream { iommu, stream } => write!(f, "stream {stream} of {}", iommu.name),
            Self::Group(id) => write!(f, "IOMMU group {id}"),
            Self::Bus(bridge) => write!(f, "the bus behind {bridge}"),
            Self::AddressSpace(id) => write!(f, "address space of IOMMU group {id}"),
            Self::Name { space, name } => write!(f, "{space} {name}"),
        }
    }
}

/// Sharing mode of a claim.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Mode {
    /// No other holder.
    Exclusive,
    /// Holders that claim it as `Shared` on the same terms, for example the same trigger of an interrupt line. Empty
    /// when there is nothing to agree on.
    Shared(&'static str),
    /// Peer-to-peer DMA by another device, beside the kernel driver of the registers.
    Peer,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exclusive => f.write_str("exclusive"),
            Self::Shared("") => f.write_str("shared"),
            Self::Shared(terms) => write!(f, "shared, {terms}"),
            Self::Peer => f.write_str("peer"),
        }
    }
}
