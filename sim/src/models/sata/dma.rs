//! The controller's DMA engine: descriptor fetches and data transfers, all through the IPMMU.

use super::regs;
use crate::models::Bus;
use crate::models::ipmmu::Ipmmu;

/// The controller's place behind the IPMMUs (`r8a77951.dtsi`: `iommus = <&ipmmu_hc 2>`).
pub(super) const LEAF: usize = 0;
pub(super) const UTLB: usize = 2;

/// Bytes transferred at a time. Other events happen in between, so that a mapping can be removed during a transfer.
pub(crate) const CHUNK: usize = 16 * 1024;

/// Position of the engine in the descriptor table.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Engine {
    /// Started and not ended: STATUS.ACT.
    pub(crate) active: bool,
    /// Address of the next descriptor.
    next: u32,
    /// Next address in the current segment, and bytes left in it.
    pub(crate) addr: u32,
    pub(crate) left: u32,
    /// The current segment is the last one.
    pub(crate) last: bool,
}

/// Failure of a DMA transfer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum DmaError {
    /// The IPMMU refused an access, or there is no RAM at the address.
    Bus,
    /// The table ended before the device's data did.
    TableTooShort,
    /// A descriptor's length is zero, odd, or more than 512 MiB.
    Length(u32),
}

impl Engine {
    pub(crate) fn start(table: u32) -> Self {
        Self { active: true, next: table, ..Self::default() }
    }

    /// Returns true once a descriptor was fetched.
    pub(crate) fn in_segment(&self) -> bool {
        self.left > 0 || self.last
    }

    /// Returns true when all segments are used up.
    pub(crate) fn at_end(&self) -> bool {
        self.last && self.left == 0
    }

    /// Bytes left in the current segment; fetches the next descriptor when there are none.
    pub(crate) fn segment(&mut self, bus: &mut Bus<'_>, ipmmu: &mut Ipmmu, coherent: bool) -> Result<u32, DmaError> {
        if self.left > 0 {
            return Ok(self.left);
        }
        if self.last {
            return Err(DmaError::TableTooShort);
        }
        let mut prd = [0; regs::PRD_BYTES as usize];
        access(bus, ipmmu, self.next, &mut Data::In(&mut prd), coherent)?;
        let [a0, a1, a2, a3, l0, l1, l2, l3] = prd;
        let (word, length) = (u32::from_le_bytes([a0, a1, a2, a3]), u32::from_le_bytes([l0, l1, l2, l3]));
        if length == 0 || length % 2 != 0 || length > regs::PRD_MAX {
            return Err(DmaError::Length(length));
        }
        self.next = self.next.wrapping_add(regs::PRD_BYTES as u32);
        (self.addr, self.left, self.last) = (word & !regs::PRD_END, length, word & regs::PRD_END != 0);
        Ok(length)
    }

    /// Returns true when the engine is going to access any of the `len` bytes at device address `base`: in its current
    /// segment, or the next descriptor.
    pub(crate) fn accesses(&self, base: u64, len: u64) -> bool {
        let touches =
            |at: u32, bytes: u32| u64::from(at) < base.saturating_add(len) && base < u64::from(at) + u64::from(bytes);
        self.active && (touches(self.addr, self.left) || !self.last && touches(self.next, regs::PRD_BYTES as u32))
    }

    /// Advances by `bytes` within the current segment.
    pub(crate) fn advance(&mut self, bytes: u32) {
        self.addr = self.addr.wrapping_add(bytes);
        self.left -= bytes.min(self.left);
    }
}

/// Data of one access, as seen from the device.
pub(crate) enum Data<'a> {
    /// Memory to device.
    In(&'a mut [u8]),
    /// Device to memory.
    Out(&'a [u8]),
}

impl Data<'_> {
    fn len(&self) -> usize {
        match self {
            Self::In(b) => b.len(),
            Self::Out(b) => b.len(),
        }
    }
}

/// Transfers `data` at device address `addr`, page by page through the IPMMU.
pub(crate) fn access(
    bus: &mut Bus<'_>,
    ipmmu: &mut Ipmmu,
    addr: u32,
    data: &mut Data<'_>,
    coherent: bool,
) -> Result<(), DmaError> {
    let mut done = 0;
    while done < data.len() {
        let at = u64::from(addr) + done as u64;
        // The engine has 32 address bits.
        if at > u64::from(u32::MAX) {
            return Err(DmaError::Bus);
        }
        let write = matches!(data, Data::Out(_));
        let phys = ipmmu.translate(bus, LEAF, UTLB, at, write).map_err(|_| DmaError::Bus)?;
        let end = data.len().min(done + (4096 - (at % 4096)) as usize);
        match data {
            Data::In(buf) => bus.ram.dma_read(phys, &mut buf[done..end], coherent),
            Data::Out(buf) => bus.ram.dma_write(phys, &buf[done..end], coherent),
        }
        .map_err(|_| DmaError::Bus)?;
        done = end;
    }
    Ok(())
}
