//! Messages of one function: MSI and MSI-X (*PCI Local Bus Specification* 3.0, 6.8).

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::bus_device::cpu_address;
use super::{ConfigSpace, Function, FunctionId, Msi, MsiX, Window};
use crate::addr::PhysAddr;
use crate::bus::{BusError, MessageKind, Messages};
use crate::env::{Env, Io, IoError, Width};
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Mutex, SpinLock};

/// MSI control: enabled; where the number of messages that are enabled is, as a power of two.
const MSI_ENABLE: u32 = 1;
const MSI_COUNT: u32 = 4;
/// MSI-X control: enabled, and all masked.
const X_ENABLE: u32 = 1 << 15;
const X_MASK: u32 = 1 << 14;
/// Entry of the table: bytes, and offset of the word whose lowest bit masks it.
const ENTRY: u64 = 16;
const ENTRY_CONTROL: u64 = 12;

/// The registers of a function's messages.
pub(super) struct MessageRegisters {
    config: Arc<dyn ConfigSpace + Send + Sync>,
    at: FunctionId,
    msi: Option<Msi>,
    /// With the table's address, where the CPU reaches it.
    msi_x: Option<(MsiX, PhysAddr)>,
    /// What is enabled. Held while masks are changed.
    enabled: SpinLock<Option<Arc<Enabled>>>,
    /// Held while all of the registers are written: by the function's owner, and after a reset, which may be that of a neighbour.
    programming: Mutex<()>,
}

/// Messages that are enabled.
struct Enabled {
    way: Way,
    /// Address and data of each.
    messages: Vec<(u64, u32)>,
    /// Masks, as they are wanted: a reset forgets those of the function. Changed under the lock, so relaxed.
    masked: Vec<AtomicBool>,
}

/// Registers of messages that are enabled.
enum Way {
    Msi(Msi),
    /// With the table.
    MsiX(MsiX, Arc<dyn Io>),
}

impl MessageRegisters {
    pub(super) fn new(config: &Arc<dyn ConfigSpace + Send + Sync>, function: &Function, windows: &[Window]) -> Self {
        let table = |msi_x: MsiX| {
            let bar = function.bars.iter().find(|bar| bar.index == usize::from(msi_x.table.0))?;
            let address = bar.address?.checked_add(msi_x.table.1.into())?;
            Some((msi_x, cpu_address(windows, address)?))
        };
        Self {
            config: Arc::clone(config),
            at: function.at,
            msi: function.msi,
            msi_x: function.msi_x.and_then(table),
            enabled: SpinLock::new(None),
            programming: Mutex::new(()),
        }
    }

    pub(super) fn offer(&self) -> Messages {
        Messages {
            msi: self.msi.map_or(0, |msi| msi.vectors.into()),
            wide: self.msi.is_some_and(|msi| msi.wide),
            msi_x: self.msi_x.map_or(0, |(msi_x, _)| msi_x.vectors.into()),
            table: self.msi_x.map(|(msi_x, table)| (table, u64::from(msi_x.vectors) * ENTRY)),
        }
    }

    fn read(&self, offset: u16, width: Width) -> Result<u32, BusError> {
        self.config.read(self.at, offset, width).map_err(|_: IoError| BusError::Gone)
    }

    fn write(&self, offset: u16, width: Width, value: u32) -> Result<(), BusError> {
        self.config.write(self.at, offset, width, value).map_err(|_: IoError| BusError::Gone)
    }

    /// Writes control, and reads it back: what was written before has arrived, and what the function wrote has (completions do not
    /// pass it).
    fn set_control(&self, cap: u16, set: u32, clear: u32) -> Result<(), BusError> {
        let old = self.read(cap + 2, Width::W16)?;
        if old == 0xffff {
            return Err(BusError::Gone);
        }
        self.write(cap + 2, Width::W16, old & !clear | set)?;
        let now = self.read(cap + 2, Width::W16)?;
        // All ones: it went meanwhile.
        if now == 0xffff { Err(BusError::Gone) } else { Ok(()) }
    }

    pub(super) fn enable(&self, kind: MessageKind, messages: &[(u64, u32)], env: &dyn Env) -> Result<(), BusError> {
        let way = match (kind, self.msi, self.msi_x) {
            (MessageKind::Msi, Some(msi), _) => {
                let wide = msi.wide || messages.iter().all(|(address, _)| *address <= u32::MAX.into());
                Some(Way::Msi(msi)).filter(|_| wide && !messages.is_empty() && messages.len() <= msi.vectors.into())
            }
            (MessageKind::MsiX, _, Some((msi_x, table))) if messages.len() <= msi_x.vectors.into() => {
                let len = u64::from(msi_x.vectors) * ENTRY;
                Some(Way::MsiX(msi_x, env.map_io(table, len).map_err(|_| BusError::Gone)?))
            }
            _ => None,
        };
        let masked = messages.iter().map(|_| AtomicBool::new(true)).collect();
        let enabled = Arc::new(Enabled { way: way.ok_or(BusError::Busy)?, messages: messages.into(), masked });
        let _whole = self.programming.lock();
        // Without the spin lock: a table is long. Nobody masks before it is there.
        self.program(&enabled)?;
        *self.enabled.lock() = Some(enabled);
        Ok(())
    }

    /// Enables again what a reset has switched off, with the masks as they are wanted.
    pub(super) fn restore(&self) -> Result<(), BusError> {
        let _whole = self.programming.lock();
        let Some(enabled) = self.enabled.lock().clone() else { return Ok(()) };
        self.program(&enabled)?;
        for index in 0..enabled.masked.len() {
            // Under the lock, so that a mask that is changed meanwhile is not undone.
            let _same = self.enabled.lock();
            self.write_mask(&enabled, index)?;
        }
        Ok(())
    }

    /// Writes `enabled` with all masked, where the function can mask.
    fn program(&self, enabled: &Enabled) -> Result<(), BusError> {
        match &enabled.way {
            Way::Msi(msi) => self.program_msi(*msi, &enabled.messages),
            Way::MsiX(msi_x, table) => self.program_msi_x(*msi_x, &**table, &enabled.messages),
        }
    }

    fn program_msi(&self, msi: Msi, messages: &[(u64, u32)]) -> Result<(), BusError> {
        let first = messages.first().ok_or(BusError::Busy)?;
        self.set_control(msi.at, 0, MSI_ENABLE | 7 << MSI_COUNT)?;
        self.write(msi.at + 4, Width::W32, first.0 as u32)?;
        if msi.wide {
            self.write(msi.at + 8, Width::W32, (first.0 >> 32) as u32)?;
        }
        self.write(msi.data(), Width::W16, first.1)?;
        if let Some(mask) = msi.mask() {
            self.write(mask, Width::W32, u32::MAX)?;
        }
        self.set_control(msi.at, MSI_ENABLE | messages.len().ilog2() << MSI_COUNT, 0)
    }

    fn program_msi_x(&self, msi_x: MsiX, table: &dyn Io, messages: &[(u64, u32)]) -> Result<(), BusError> {
        // All are masked while the table is written, and then each by itself.
        self.set_control(msi_x.at, X_ENABLE | X_MASK, 0)?;
        let write =
            |offset, value: u32| table.write(offset, Width::W32, value.into()).map_err(|_: IoError| BusError::Gone);
        for n in 0..u64::from(msi_x.vectors) {
            write(n * ENTRY + ENTRY_CONTROL, 1)?;
        }
        for (n, (address, data)) in (0..).zip(messages) {
            for (offset, value) in [(0, *address as u32), (4, (address >> 32) as u32), (8, *data)] {
                write(n * ENTRY + offset, value)?;
            }
        }
        // The table's writes have arrived before the mask of all ends.
        table.read(ENTRY_CONTROL, Width::W32).map_err(|_: IoError| BusError::Gone)?;
        self.set_control(msi_x.at, X_ENABLE, X_MASK)
    }

    /// Switches both kinds off, also what firmware has left on.
    pub(super) fn disable(&self) -> Result<(), BusError> {
        let _whole = self.programming.lock();
        // What is dropped here may unmap the table: not under the lock.
        let enabled = self.enabled.lock().take();
        let msi = self.msi.map_or(Ok(()), |msi| self.set_control(msi.at, 0, MSI_ENABLE));
        let msi_x = self.msi_x.map_or(Ok(()), |(msi_x, _)| self.set_control(msi_x.at, 0, X_ENABLE));
        drop(enabled);
        msi.and(msi_x)
    }

    pub(super) fn set_masked(&self, index: usize, masked: bool) -> Result<(), BusError> {
        let enabled = self.enabled.lock();
        let Some(enabled) = &*enabled else { return Ok(()) };
        let Some(wanted) = enabled.masked.get(index) else { return Ok(()) };
        wanted.store(masked, Ordering::Relaxed);
        self.write_mask(enabled, index)
    }

    /// Writes the mask of one message; the lock is held.
    fn write_mask(&self, enabled: &Enabled, index: usize) -> Result<(), BusError> {
        let is_masked = |at: usize| enabled.masked.get(at).is_none_or(|masked| masked.load(Ordering::Relaxed));
        match &enabled.way {
            Way::Msi(msi) => {
                let Some(mask) = msi.mask() else { return Ok(()) };
                let bits = (0..32).filter(|at| is_masked(*at)).fold(0, |bits, at| bits | 1 << at);
                self.write(mask, Width::W32, bits)?;
                // Read back: no message comes after this.
                self.read(mask, Width::W32).map(drop)
            }
            Way::MsiX(_, table) => {
                let control = index as u64 * ENTRY + ENTRY_CONTROL;
                let gone = |_: IoError| BusError::Gone;
                table.write(control, Width::W32, is_masked(index).into()).map_err(gone)?;
                table.read(control, Width::W32).map(drop).map_err(gone)
            }
        }
    }
}
