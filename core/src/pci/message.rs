//! Messages of one function: MSI and MSI-X (*PCI Local Bus Specification* 3.0, 6.8).

use alloc::sync::Arc;

use super::bus_device::cpu_address;
use super::{ConfigSpace, Function, FunctionId, Msi, MsiX, Window};
use crate::addr::PhysAddr;
use crate::bus::{BusError, MessageKind, Messages};
use crate::env::{Env, Io, IoError, Width};
use crate::sync::SpinLock;

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
    enabled: SpinLock<Option<Enabled>>,
}

/// Messages that are enabled.
enum Enabled {
    Msi(Msi),
    /// The table.
    MsiX(Arc<dyn Io>),
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
        }
    }

    pub(super) fn offer(&self) -> Messages {
        Messages {
            msi: self.msi.map_or(0, |msi| msi.vectors.into()),
            wide: self.msi.is_some_and(|msi| msi.wide),
            msi_x: self.msi_x.map_or(0, |(msi_x, _)| msi_x.vectors.into()),
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
        // Without the lock: the table is mapped, which may sleep, and is long. Nobody masks before it is there.
        let enabled = match (kind, self.msi, self.msi_x) {
            (MessageKind::Msi, Some(msi), _) => self.enable_msi(msi, messages)?,
            (MessageKind::MsiX, _, Some((msi_x, table))) => self.enable_msi_x(msi_x, table, messages, env)?,
            _ => return Err(BusError::Busy),
        };
        *self.enabled.lock() = Some(enabled);
        Ok(())
    }

    fn enable_msi(&self, msi: Msi, messages: &[(u64, u32)]) -> Result<Enabled, BusError> {
        let first = messages.first().ok_or(BusError::Busy)?;
        let fits = messages.len() <= msi.vectors.into() && (msi.wide || first.0 <= u32::MAX.into());
        if !fits {
            return Err(BusError::Busy);
        }
        self.set_control(msi.at, 0, MSI_ENABLE | 7 << MSI_COUNT)?;
        self.write(msi.at + 4, Width::W32, first.0 as u32)?;
        if msi.wide {
            self.write(msi.at + 8, Width::W32, (first.0 >> 32) as u32)?;
        }
        self.write(msi.data(), Width::W16, first.1)?;
        if let Some(mask) = msi.mask() {
            self.write(mask, Width::W32, u32::MAX)?;
        }
        self.set_control(msi.at, MSI_ENABLE | messages.len().ilog2() << MSI_COUNT, 0)?;
        Ok(Enabled::Msi(msi))
    }

    fn enable_msi_x(
        &self,
        msi_x: MsiX,
        table: PhysAddr,
        messages: &[(u64, u32)],
        env: &dyn Env,
    ) -> Result<Enabled, BusError> {
        if messages.len() > msi_x.vectors.into() {
            return Err(BusError::Busy);
        }
        let len = u64::from(msi_x.vectors) * ENTRY;
        let registers = env.map_io(table, len).map_err(|_| BusError::Gone)?;
        // All are masked while the table is written, and then each by itself.
        self.set_control(msi_x.at, X_ENABLE | X_MASK, 0)?;
        let write =
            |offset, value: u32| registers.write(offset, Width::W32, value.into()).map_err(|_: IoError| BusError::Gone);
        for n in 0..u64::from(msi_x.vectors) {
            write(n * ENTRY + ENTRY_CONTROL, 1)?;
        }
        for (n, (address, data)) in (0..).zip(messages) {
            for (offset, value) in [(0, *address as u32), (4, (address >> 32) as u32), (8, *data)] {
                write(n * ENTRY + offset, value)?;
            }
        }
        // The table's writes have arrived before the mask of all ends.
        registers.read(ENTRY_CONTROL, Width::W32).map_err(|_: IoError| BusError::Gone)?;
        self.set_control(msi_x.at, X_ENABLE, X_MASK)?;
        Ok(Enabled::MsiX(registers))
    }

    /// Switches both kinds off, also what firmware has left on.
    pub(super) fn disable(&self) -> Result<(), BusError> {
        // What is dropped here may unmap the table: not under the lock.
        let enabled = self.enabled.lock().take();
        let msi = self.msi.map_or(Ok(()), |msi| self.set_control(msi.at, 0, MSI_ENABLE));
        let msi_x = self.msi_x.map_or(Ok(()), |(msi_x, _)| self.set_control(msi_x.at, 0, X_ENABLE));
        drop(enabled);
        msi.and(msi_x)
    }

    pub(super) fn set_masked(&self, index: usize, masked: bool) -> Result<(), BusError> {
        let enabled = self.enabled.lock();
        match &*enabled {
            Some(Enabled::Msi(msi)) => {
                let Some(mask) = msi.mask().filter(|_| index < 32) else { return Ok(()) };
                let old = self.read(mask, Width::W32)?;
                let bit = 1 << index;
                self.write(mask, Width::W32, if masked { old | bit } else { old & !bit })?;
                // Read back: no message comes after this.
                self.read(mask, Width::W32).map(drop)
            }
            Some(Enabled::MsiX(table)) => {
                let control = index as u64 * ENTRY + ENTRY_CONTROL;
                let gone = |_: IoError| BusError::Gone;
                table.write(control, Width::W32, masked.into()).map_err(gone)?;
                table.read(control, Width::W32).map(drop).map_err(gone)
            }
            None => Ok(()),
        }
    }
}
