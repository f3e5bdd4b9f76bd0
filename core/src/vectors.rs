//! Interrupt vectors of a device: messages (MSI-X, MSI), or the interrupts that its description has.
//!
//! [`Bound::vectors`] negotiates a number with what the device's bus offers and what the env has. The env supplies address and data of each
//! message, the bus writes them into the device, and where an IOMMU translates the device's accesses, the doorbell's page is mapped
//! in its domain. Each vector is a line of the env, so handlers are requested as for any interrupt
//! ([`request_irq`](Bound::request_irq)). docs/decisions/0018-vectors.md has the reasons.
//!
//! Revocation (P5): a vector is masked and its handler drained when its request ends; the set, which is older in the ledger, then
//! disables messages, and gives the vectors back; the mapping of the doorbell goes last.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::marker::PhantomData;
use core::ops::RangeInclusive;

use crate::addr::PAGE_SIZE;
use crate::binding::{Bound, Entry, ResourceError, ResourceKind, UnwindCtx};
use crate::bus::{BusDevice, MessageKind};
use crate::device::Resource;
use crate::env::{Vector, VectorRequest};
pub use crate::error::VectorError;
use crate::event::Outcome;
use crate::instrument::FaultPoint;
use crate::irq::VectorLines;

/// How a device signals its vectors.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum VectorKind {
    /// By the lines that its description has: a pin, or lines of a platform device.
    Line,
    /// By messages that count up (MSI).
    Msi,
    /// By messages of a table (MSI-X).
    MsiX,
}

/// The vectors of a device: request each by its number with [`Bound::request_irq`]. The binding owns them.
#[derive(Clone, Copy, Debug)]
pub struct Vectors<'b> {
    count: usize,
    kind: VectorKind,
    binding: PhantomData<&'b ()>,
}

impl Vectors<'_> {
    /// Their number, at least the lowest one that was asked for.
    #[expect(clippy::len_without_is_empty, reason = "there is at least one")]
    pub const fn len(&self) -> usize {
        self.count
    }

    /// How the device signals them.
    pub const fn kind(&self) -> VectorKind {
        self.kind
    }
}

impl<'b> Bound<'b> {
    /// Gives the device as many interrupt vectors as there are, up to the highest of `counts`: MSI-X if it can, else MSI, else the
    /// interrupts of its description (a PCI function's pin; all lines of a platform device). From then on
    /// [`request_irq(n)`](Self::request_irq) is about vector `n`. A vector is masked while nobody has requested it, where
    /// the device can mask it.
    ///
    /// ```
    /// use bindery::driver::IrqReturn;
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/example.rs")); }
    /// # example::bind(|dev| {
    /// for queue in 0..dev.vectors(1..=4)?.len() {
    ///     dev.request_irq(queue, move || {
    ///         // ... look at the completions of the queue ...
    ///         IrqReturn::Handled
    ///     })?;
    /// }
    /// # Ok(())
    /// # });
    /// ```
    ///
    /// # Errors
    ///
    /// [`ResourceError::Vectors`] when there are fewer than the lowest of `counts`, or when the device has vectors or a requested
    /// interrupt already; those of mapping the doorbell as [`ResourceError::Iommu`] or [`ResourceError::Doorbell`].
    pub fn vectors(&self, counts: RangeInclusive<usize>) -> Result<Vectors<'b>, ResourceError> {
        self.vectors_near(counts, &[])
    }

    /// As [`vectors`](Self::vectors), for these CPUs in turn: vector `n` for `cpus[n % cpus.len()]`. A hint.
    ///
    /// # Errors
    ///
    /// As [`vectors`](Self::vectors).
    pub fn vectors_near(&self, counts: RangeInclusive<usize>, cpus: &[usize]) -> Result<Vectors<'b>, ResourceError> {
        let (min, max) = (*counts.start(), *counts.end());
        let device = self.state.device();
        let refuse = |error: VectorError| ResourceError::Vectors(Box::new(error));
        if min == 0 || max < min {
            return Err(refuse(VectorError::Range { min, max }));
        }
        if self.state.slots.get::<VectorLines>().is_some() || self.state.system().irqs().has_lines(device) {
            return Err(refuse(VectorError::InUse { device: device.name().into() }));
        }
        let offer = device.bus().map(|bus| bus.messages()).unwrap_or_default();
        let mut given = 0;
        for (kind, most) in [(MessageKind::MsiX, offer.msi_x), (MessageKind::Msi, offer.msi)] {
            let count = match kind {
                // A power of two: the one that holds all, where the device has it.
                MessageKind::Msi => max.min(1 << 5).next_power_of_two().min(most),
                MessageKind::MsiX => max.min(most),
            };
            if count < min {
                continue;
            }
            let consecutive = kind == MessageKind::Msi;
            let desc = device.desc();
            let request = VectorRequest { device: desc, count, consecutive, wide: offer.wide || !consecutive, cpus };
            match self.messages(kind, &request, min)? {
                Ok(got) => {
                    let kind = if consecutive { VectorKind::Msi } else { VectorKind::MsiX };
                    return Ok(Vectors { count: got.min(max), kind, binding: PhantomData });
                }
                Err(got) => given = got.max(given),
            }
        }
        let lines = device.desc().resources.iter().filter(|r| !matches!(r, Resource::Mem { .. })).count();
        if lines >= min {
            return Ok(Vectors { count: lines.min(max), kind: VectorKind::Line, binding: PhantomData });
        }
        let device = device.name().into();
        Err(refuse(VectorError::TooFew { device, min, msi_x: offer.msi_x, msi: offer.msi, lines, given }))
    }

    /// Has the env supply messages, and enables them. The inner error is the number that the env has, when it is below `min`.
    fn messages(
        &self,
        kind: MessageKind,
        request: &VectorRequest<'_>,
        min: usize,
    ) -> Result<Result<usize, usize>, ResourceError> {
        let Some(bus) = self.state.device().bus() else { return Ok(Err(0)) };
        let system = self.state.system();
        // None left, as the target may say: the device has its pin then.
        let none = self.state.check(FaultPoint::VectorAlloc).is_err();
        let vectors = if none { Vec::new() } else { system.env().alloc_vectors(request).unwrap_or_default() };
        let right = vectors.len() <= request.count && (!request.consecutive || is_consecutive(&vectors));
        if vectors.len() < min || vectors.is_empty() || !right {
            let got = vectors.len();
            system.env().free_vectors(request.device, &vectors);
            return Ok(Err(if right { got } else { 0 }));
        }
        let count = vectors.len();
        // What is acquired here goes back together when a step fails.
        let group = Bound::new(self.state, 0).devres_group();
        if let Err(error) = group.bound().signal_by(&**bus, kind, request, vectors) {
            group.release();
            return Err(error);
        }
        Ok(Ok(count))
    }

    /// Has the device send `vectors`. On an error, what was acquired for them is left to the caller.
    fn signal_by(
        &self,
        bus: &dyn BusDevice,
        kind: MessageKind,
        request: &VectorRequest<'_>,
        vectors: Vec<Vector>,
    ) -> Result<(), ResourceError> {
        let env = self.state.system().env();
        // The set's entry comes after the mapping of its doorbell, so that the device is silenced before that goes.
        let messages =
            self.doorbells(request.wide, &vectors).inspect_err(|_| env.free_vectors(request.device, &vectors))?;
        let lines = vectors.iter().map(|vector| vector.line).collect();
        self.state.push(self.tag, VectorsEntry { kind, vectors })?;
        self.state.slots.put(Arc::new(VectorLines(lines)));
        Ok(bus.enable_messages(kind, &messages, env)?)
    }

    /// Address and data of each message, as the device writes them.
    fn doorbells(&self, wide: bool, vectors: &[Vector]) -> Result<Vec<(u64, u32)>, ResourceError> {
        // Each page is mapped once: its address, and the device's.
        let mut pages: Vec<(u64, u64)> = Vec::new();
        let mut messages = Vec::with_capacity(vectors.len());
        for vector in vectors {
            let offset = vector.address.0 % PAGE_SIZE;
            let page = vector.address.0 - offset;
            let known = pages.iter().find(|(known, _)| *known == page).map(|(_, mapped)| *mapped);
            let mapped = if let Some(mapped) = known {
                mapped
            } else {
                let at = self.dma().map_doorbell(vector.address, wide);
                let at = at.map_err(|error| ResourceError::Doorbell(Box::new(error)))?.0 - offset;
                pages.push((page, at));
                at
            };
            messages.push((mapped + offset, vector.data));
        }
        Ok(messages)
    }
}

/// One address, and data that counts up from a multiple of the number, a power of two.
fn is_consecutive(vectors: &[Vector]) -> bool {
    let Some(first) = vectors.first() else { return true };
    let follows = |(n, v): (usize, &Vector)| v.address == first.address && v.data == first.data.wrapping_add(n as u32);
    vectors.len().is_power_of_two()
        && (first.data as usize).is_multiple_of(vectors.len())
        && u16::try_from(first.data as usize + vectors.len() - 1).is_ok()
        && vectors.iter().enumerate().all(follows)
}

/// Ledger entry of a device's messages.
struct VectorsEntry {
    kind: MessageKind,
    vectors: Vec<Vector>,
}

impl Entry for VectorsEntry {
    fn kind(&self) -> ResourceKind {
        ResourceKind::Vectors
    }

    fn what(&self) -> String {
        let kind = match self.kind {
            MessageKind::Msi => "MSI",
            MessageKind::MsiX => "MSI-X",
        };
        format!("{} {kind}", self.vectors.len())
    }

    fn backend(&self) -> String {
        "env".into()
    }

    fn release(self: Box<Self>, ctx: &mut UnwindCtx<'_>) -> Outcome {
        let bound = ctx.bound;
        // Its handlers are newer entries: none is left. One that is gone sends nothing.
        let _ = bound.device().bus().map(|bus| bus.disable_messages());
        drop(bound.slots.take::<VectorLines>());
        bound.system().env().free_vectors(bound.desc(), &self.vectors);
        Outcome::Returned
    }
}
