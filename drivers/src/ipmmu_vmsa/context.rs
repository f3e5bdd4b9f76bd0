//! A translation context in use: one domain, or the one in which everything is blocked.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use bindery::addr::{DeviceAddr, PhysAddr};
use bindery::env::IoError;
use bindery::iommu::pgtable::{Config, Lpae32, PageTable, TableFrames};
use bindery::iommu::{DomainKind, Gather, IommuError, MapError, Prot, Translation};
use bindery::sync::Mutex;
use bindery::sync::atomic::AtomicBool;

use super::leaf::Leaf;
use super::regs;
use super::root::Root;
use crate::poll::poll;

/// The table pages of a context, in the tree and cut out of it.
pub(super) struct Tables {
    root: Box<PageTable<Lpae32>>,
    /// What was unmapped by calls that the hardware did not confirm, with the number of the flush that would. Bounded
    /// by what was mapped then: the core gives no more memory to a device that has some in quarantine.
    unconfirmed: Vec<(u64, Gather)>,
}

impl Tables {
    /// The hardware has confirmed every flush up to number `ended`: what was cut out before goes back.
    pub(super) fn confirm(&mut self, ended: u64) {
        for (_, gather) in self.unconfirmed.extract_if(.., |(number, _)| *number <= ended) {
            gather.free_tables();
        }
    }
}

/// Where a context is in its life.
enum Life {
    /// In use.
    On(Tables),
    /// Given back.
    Off,
}

impl Life {
    fn tables(&mut self) -> Option<&mut Tables> {
        match self {
            Self::On(tables) => Some(tables),
            Self::Off => None,
        }
    }
}

/// Numbers of the flushes of a context, to let callers share one.
#[derive(Default)]
struct Flushes {
    /// Begun so far.
    begun: u64,
    /// The newest that has ended.
    ended: u64,
}

/// One context of a root. Dropping it switches it off.
pub(super) struct Context {
    pub(super) root: Arc<Root>,
    /// Whose masters it translates for. `None`: for those of all leaves, because nothing is mapped in it.
    pub(super) leaf: Option<Arc<Leaf>>,
    pub(super) number: u8,
    life: Mutex<Life>,
    /// The hardware has confirmed that nothing is left of it.
    forgotten: Arc<AtomicBool>,
    /// Leaf lock: only registers are touched while it is held.
    flushes: Mutex<Flushes>,
}

impl Context {
    /// Makes a context of kind `kind` and switches it on.
    pub(super) fn new(root: &Arc<Root>, leaf: Option<&Arc<Leaf>>, kind: DomainKind) -> Result<Arc<Self>, IommuError> {
        let config = Config { input_bits: regs::INPUT_BITS, output_bits: regs::OUTPUT_BITS, coherent_walk: false };
        let table =
            PageTable::<Lpae32>::new(Arc::<TableFrames>::clone(&root.pages), Arc::clone(root.memory.memory()), config);
        let root_table = Box::new(table.map_err(|_| IommuError::OutOfMemory)?);
        let registers = root_table.registers();
        let tables = Tables { root: root_table, unconfirmed: Vec::new() };
        let context = root.take(kind, |number| {
            Arc::new(Self {
                root: Arc::clone(root),
                leaf: leaf.cloned(),
                number,
                life: Mutex::new(Life::On(tables)),
                forgotten: Arc::default(),
                flushes: Mutex::default(),
            })
        })?;
        context.switch_on(registers.ttbr, registers.mair).map_err(|_| IommuError::Dead)?;
        Ok(context)
    }

    /// Programs the context. What it had cached for its last user was flushed when that one left.
    fn switch_on(&self, ttbr: u64, mair: u32) -> Result<(), IoError> {
        let write = |register, value| self.root.regs.write(self.number, register, value);
        write(regs::IMTTLBR0, ttbr as u32)?;
        write(regs::IMTTUBR0, (ttbr >> 32) as u32)?;
        write(regs::IMTTBCR, regs::IMTTBCR_EAE | regs::IMTTBCR_SL0_LEVEL_1)?;
        write(regs::IMMAIR0, mair)?;
        write(regs::IMSTR, 0)?;
        if let Some(leaf) = &self.leaf {
            leaf.enable(self.number)?;
        }
        write(regs::IMCTR, regs::IMCTR_INTEN | regs::IMCTR_FLUSH | regs::IMCTR_MMUEN)
    }

    /// Makes leaf and root forget the context's translations, leaves IMCTR at `control`, and waits until both have.
    ///
    /// The hardware knows no selective flush, so callers that come while one runs share the next one. Only the root is
    /// asked: its flush begins later and takes longer than the leaf's.
    ///
    /// Returns the number of the newest flush that has ended, or of the one that should have.
    fn flush_with(&self, control: u32) -> Result<u64, u64> {
        let root = &self.root;
        let need = self.flushes.lock().begun + 1;
        let begin = |flushes: &mut Flushes| {
            if let Some(leaf) = &self.leaf {
                leaf.control(self.number, control | regs::IMCTR_FLUSH)?;
            }
            root.regs.write(self.number, regs::IMCTR, control | regs::IMCTR_FLUSH)?;
            flushes.begun += 1;
            Ok::<_, IoError>(())
        };
        let idle = |flushes: &mut Flushes| {
            let idle = root.regs.read(self.number, regs::IMCTR)? & regs::IMCTR_FLUSH == 0;
            if idle {
                flushes.ended = flushes.begun;
            }
            Ok::<_, IoError>(idle)
        };
        let wait = || {
            let begun = poll(
                || root.clock.now(),
                regs::FLUSH_LIMIT,
                || {
                    let mut flushes = self.flushes.lock();
                    if flushes.begun < need && idle(&mut flushes)? {
                        begin(&mut flushes)?;
                    }
                    Ok::<_, IoError>(flushes.begun >= need)
                },
            )?;
            if !begun {
                // The last one hangs. Hardware that has recovered answers when it is asked again.
                begin(&mut self.flushes.lock())?;
            }
            poll(
                || root.clock.now(),
                regs::FLUSH_LIMIT,
                || {
                    let mut flushes = self.flushes.lock();
                    idle(&mut flushes)?;
                    Ok::<_, IoError>(flushes.ended >= need)
                },
            )
        };
        if wait().is_ok_and(|ended: bool| ended) { Ok(self.flushes.lock().ended) } else { Err(need) }
    }
}

impl Translation for Context {
    fn map(&self, iova: DeviceAddr, phys: PhysAddr, len: u64, prot: Prot) -> Result<(), MapError> {
        if self.leaf.is_none() {
            return Err(MapError::Revoked);
        }
        self.life.lock().tables().ok_or(MapError::Revoked)?.root.map(iova, phys, len, prot)
    }

    fn unmap(&self, iova: DeviceAddr, len: u64, gather: &mut Gather) -> Result<(), MapError> {
        self.life.lock().tables().ok_or(MapError::Revoked)?.root.unmap(iova, len, gather)
    }

    fn flush(&self, gather: &mut Gather) -> Result<(), IommuError> {
        match &*self.life.lock() {
            // A context that was given back may be somebody else's by now: only the root touches its registers.
            Life::Off if self.root.is_forgotten(&self.forgotten) => return Ok(()),
            Life::Off => return Err(IommuError::Dead),
            Life::On(tables) if gather.is_empty() && tables.unconfirmed.is_empty() => return Ok(()),
            Life::On(_) => {}
        }
        let flushed = self.flush_with(regs::IMCTR_INTEN | regs::IMCTR_MMUEN);
        let mut life = self.life.lock();
        match (flushed, life.tables()) {
            (Ok(ended), Some(tables)) => tables.confirm(ended),
            (Err(number), Some(tables)) => {
                tables.unconfirmed.push((number, core::mem::take(gather)));
                return Err(IommuError::Dead);
            }
            (result, None) => drop(result.map_err(|_| IommuError::Dead)?),
        }
        Ok(())
    }

    fn retire(&self) {
        // Whoever comes meanwhile finds it off: the lock is not held while the hardware is waited for.
        let Life::On(tables) = core::mem::replace(&mut *self.life.lock(), Life::Off) else { return };
        let confirmed = self.flush_with(0).is_ok();
        if let Some(leaf) = &self.leaf {
            leaf.disabled(self.number);
        }
        self.root.give_back(self.number, tables, Arc::clone(&self.forgotten), confirmed);
    }

    fn resolve(&self, iova: DeviceAddr) -> Option<PhysAddr> {
        self.life.lock().tables()?.root.resolve(iova).map(|(phys, _)| phys)
    }

    fn label(&self) -> String {
        format!("context {}", self.number)
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        self.retire();
    }
}
