//! Interrupt vectors of a device: messages (MSI-X, MSI), or the interrupts that its description has.
//!
//! [`Bound::vectors`] negotiates a number with what the device's bus offers and what the env has. The env supplies address and data of each
//! message, the bus writes them into the device, and where an IOMMU translates the device's accesses, the doorbell's page is mapped
//! in its domain. Each vector is a line of the env, so handlers are requested as for any interrupt
//! ([`request_irq`](Bound::request_irq)). docs/decisions/0018-vectors.md has the reasons.
//!
//! Revocation (P5): a vector is masked and its handler drained when its request ends; the set, which is older in the ledger, then
//! disables messages, gives the vectors back, and last unmaps the doorbell.

use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::marker::PhantomData;
use core::ops::RangeInclusive;

use crate::addr::{DeviceAddr, PhysAddr};
use crate::binding::{Bound, Entry, ResourceError, ResourceKind, UnwindCtx};
use crate::bus::MessageKind;
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

impl fmt::Display for VectorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Line => "lines",
            Self::Msi => "MSI",
            Self::MsiX => "MSI-X",
        })
    }
}

/// The vectors of a device: request each by its number with [`Bound::request_irq`]. The binding owns them, or the devres group by
/// whose handle they were acquired; then they are requested by that handle, or by that of a group in it.
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
        self.choose(&[VectorKind::MsiX, VectorKind::Msi, VectorKind::Line], counts, cpus)
    }

    /// As [`vectors`](Self::vectors), by `kind` and no other.
    ///
    /// # Errors
    ///
    /// As [`vectors`](Self::vectors).
    pub fn vectors_by(&self, kind: VectorKind, counts: RangeInclusive<usize>) -> Result<Vectors<'b>, ResourceError> {
        self.choose(&[kind], counts, &[])
    }

    /// Number of vectors that the device and its description have for each kind of signal. What the target has is asked by
    /// [`vectors`](Self::vectors).
    pub fn vector_count(&self, kind: VectorKind) -> usize {
        let device = self.state.device();
        let offer = || device.bus().map(|bus| bus.messages()).unwrap_or_default();
        match kind {
            VectorKind::Line => device.desc().resources.iter().filter(|r| !matches!(r, Resource::Mem { .. })).count(),
            VectorKind::Msi => offer().msi,
            VectorKind::MsiX => offer().msi_x,
        }
    }

    /// The first of `kinds` that has enough.
    fn choose(
        &self,
        kinds: &[VectorKind],
        counts: RangeInclusive<usize>,
        cpus: &[usize],
    ) -> Result<Vectors<'b>, ResourceError> {
        let (min, max) = (*counts.start(), *counts.end());
        let device = self.state.device();
        let refuse = |error: VectorError| ResourceError::Vectors(Box::new(error));
        if min == 0 || max < min {
            return Err(refuse(VectorError::Range { min, max }));
        }
        if self.state.slots.get::<VectorLines>().is_some() || self.state.system().irqs().has_lines(device) {
            return Err(refuse(VectorError::InUse { device: device.name().into() }));
        }
        let mut given = 0;
        for &kind in kinds {
            let most = self.vector_count(kind);
            let (by, count) = match kind {
                // A power of two: the one that holds all, where the device has it.
                VectorKind::Msi => (MessageKind::Msi, max.min(1 << 5).next_power_of_two().min(most)),
                VectorKind::MsiX => (MessageKind::MsiX, max.min(most)),
                VectorKind::Line if most >= min => {
                    return Ok(Vectors { count: most.min(max), kind, binding: PhantomData });
                }
                VectorKind::Line => continue,
            };
            if count < min {
                continue;
            }
            let consecutive = by == MessageKind::Msi;
            let wide = !consecutive || device.bus().is_some_and(|bus| bus.messages().wide);
            let request = VectorRequest { device: device.desc(), count, consecutive, wide, cpus };
            match self.messages(by, &request, min)? {
                Ok(got) => return Ok(Vectors { count: got.min(max), kind, binding: PhantomData }),
                Err(got) => given = got.max(given),
            }
        }
        let [msi_x, msi, lines] =
            [VectorKind::MsiX, VectorKind::Msi, VectorKind::Line].map(|kind| self.vector_count(kind));
        Err(refuse(VectorError::TooFew { device: device.name().into(), min, msi_x, msi, lines, given }))
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
        let count = vectors.len();
        // What is acquired here goes back when a step fails.
        let mut entry = VectorsEntry { kind, vectors, doorbells: Vec::new() };
        if count < min || count == 0 || !right {
            entry.give_back(&mut UnwindCtx { bound: self.state, quiesced: None });
            return Ok(Err(if right { count } else { 0 }));
        }
        let messages = match self.doorbells(request.wide, &mut entry) {
            Ok(messages) => messages,
            Err(error) => {
                entry.give_back(&mut UnwindCtx { bound: self.state, quiesced: None });
                return Err(error);
            }
        };
        let lines = entry.vectors.iter().map(|vector| vector.line).collect();
        let id = self.state.push(self.tag, entry)?;
        self.state.slots.put(Arc::new(VectorLines { lines, tag: self.tag }));
        if let Err(error) = bus.enable_messages(kind, &messages, system.env()) {
            if let Some(entry) = self.state.ledger.take(id) {
                self.state.release_with(id, entry, None);
            }
            return Err(error.into());
        }
        Ok(Ok(count))
    }

    /// Address and data of each message, as the device writes them. `entry` gets the mappings, on an error, too.
    fn doorbells(&self, wide: bool, entry: &mut VectorsEntry) -> Result<Vec<(u64, u32)>, ResourceError> {
        // Each page is mapped once: its address, and the device's.
        let mut pages: Vec<(PhysAddr, DeviceAddr)> = Vec::new();
        let mut messages = Vec::with_capacity(entry.vectors.len());
        for vector in &entry.vectors {
            let (page, offset) = (vector.address.page_start(), vector.address.page_offset());
            let known = pages.iter().find(|(known, _)| *known == page).map(|(_, mapped)| *mapped);
            let mapped = if let Some(mapped) = known {
                mapped
            } else {
                let doorbell = self.dma().map_doorbell(vector.address, wide);
                let (at, mapping) = doorbell.map_err(|error| ResourceError::Doorbell(Box::new(error)))?;
                entry.doorbells.extend(mapping);
                let at = DeviceAddr(at.0 - offset);
                pages.push((page, at));
                at
            };
            messages.push((mapped.0 + offset, vector.data));
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

/// Ledger entry of a device's messages, with the mappings of their doorbells.
struct VectorsEntry {
    kind: MessageKind,
    vectors: Vec<Vector>,
    doorbells: Vec<Box<dyn Entry>>,
}

impl VectorsEntry {
    /// Gives back vectors that the device does not send, or not any more.
    fn give_back(self, ctx: &mut UnwindCtx<'_>) -> Outcome {
        ctx.bound.system().env().free_vectors(ctx.bound.desc(), &self.vectors);
        let mut outcome = Outcome::Returned;
        for doorbell in self.doorbells {
            let released = doorbell.release(ctx);
            if released != Outcome::Returned {
                outcome = released;
            }
        }
        outcome
    }
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
        let doorbells = self.doorbells.iter().map(|doorbell| format!(", doorbell {}", doorbell.what()));
        format!("{} {kind}", self.vectors.len()) + &doorbells.collect::<String>()
    }

    fn backend(&self) -> String {
        let doorbells = self.doorbells.iter().map(|doorbell| format!(", {}", doorbell.backend()));
        "env".to_owned() + &doorbells.collect::<String>()
    }

    fn release(self: Box<Self>, ctx: &mut UnwindCtx<'_>) -> Outcome {
        let bound = ctx.bound;
        // Its handlers are newer entries: none is left. One that is gone sends nothing.
        let _ = bound.device().bus().map(|bus| bus.disable_messages());
        drop(bound.slots.take::<VectorLines>());
        self.give_back(ctx)
    }
}
