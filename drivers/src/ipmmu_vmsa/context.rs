//! A translation context in use: of one domain, or the blocked one.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use bindery::addr::{DeviceAddr, PhysAddr};
use bindery::env::IoError;
use bindery::iommu::pgtable::{BLOCK_SIZES, Config, Lpae32, PageTable, TableFrames};
use bindery::iommu::{DomainKind, Gather, IommuError, Lease, MapError, Prot, Translation};
use bindery::sync::SpinLock;
use bindery::sync::atomic::AtomicBool;

use super::leaf::Leaf;
use super::regs;
use super::root::Root;
use crate::poll::poll;

/// Page tables of a context: the live tree, and tables removed from it.
pub(super) struct Tables {
    root: Box<PageTable<Lpae32>>,
    /// Tables removed by unmaps that the hardware did not confirm, with the number of the flush that would. Bounded by
    /// the mappings of that time: the core gives no more memory to a device that has some in quarantine.
    unconfirmed: Vec<(u64, Gather)>,
}

impl Tables {
    /// Frees the tables removed before flush number `completed`, which the hardware has confirmed.
    pub(super) fn confirm(&mut self, completed: u64) {
        for (_, gather) in self.unconfirmed.extract_if(.., |(number, _)| *number <= completed) {
            gather.free_tables();
        }
    }
}

/// State of a context.
enum State {
    /// In use.
    Active(Tables),
    /// Returned to the root. Another domain may use the hardware context by now.
    Retired,
}

impl State {
    fn tables(&mut self) -> Option<&mut Tables> {
        match self {
            Self::Active(tables) => Some(tables),
            Self::Retired => None,
        }
    }
}

/// Counters of a context's flushes, by which concurrent callers share one.
#[derive(Default)]
struct Flushes {
    /// Flushes started so far.
    started: u64,
    /// Number of the newest completed flush.
    completed: u64,
}

/// One context of a root. Dropping it disables it.
pub(super) struct Context {
    pub(super) root: Arc<Root>,
    /// The leaf whose masters it translates for. `None` for the blocked context, which all leaves share because nothing
    /// is mapped in it.
    pub(super) leaf: Option<Arc<Leaf>>,
    pub(super) number: u8,
    state: SpinLock<State>,
    /// Set when the hardware has confirmed that it caches nothing of the context.
    invalidated: Arc<AtomicBool>,
    /// Leaf lock: only registers are touched while it is held.
    flushes: SpinLock<Flushes>,
}

impl Context {
    /// Allocates a context for a domain of this kind and enables it.
    pub(super) fn new(root: &Arc<Root>, leaf: Option<&Arc<Leaf>>, kind: DomainKind) -> Result<Arc<Self>, IommuError> {
        let config = Config {
            input_bits: regs::INPUT_BITS,
            output_bits: regs::OUTPUT_BITS,
            block_sizes: BLOCK_SIZES,
            coherent_walk: false,
        };
        let table =
            PageTable::<Lpae32>::new(Arc::<TableFrames>::clone(&root.pages), Arc::clone(root.memory.memory()), config);
        let root_table = Box::new(table.map_err(|_| IommuError::OutOfMemory)?);
        let registers = root_table.registers();
        let tables = Tables { root: root_table, unconfirmed: Vec::new() };
        let context = root.allocate(kind, |number| {
            Arc::new(Self {
                root: Arc::clone(root),
                leaf: leaf.cloned(),
                number,
                state: SpinLock::new(State::Active(tables)),
                invalidated: Arc::default(),
                flushes: SpinLock::default(),
            })
        })?;
        context.enable(registers.ttbr, registers.mair).map_err(|_| IommuError::Dead)?;
        Ok(context)
    }

    /// Programs and enables the context. Translations of its previous user were flushed when it was disabled.
    fn enable(&self, ttbr: u64, mair: u32) -> Result<(), IoError> {
        let (regs, number) = (&self.root.regs, self.number);
        regs.write(number, regs::IMTTLBR0, ttbr as u32)?;
        regs.write(number, regs::IMTTUBR0, (ttbr >> 32) as u32)?;
        regs.write(number, regs::IMTTBCR, regs::IMTTBCR_EAE | regs::IMTTBCR_SL0_LEVEL_1)?;
        regs.write(number, regs::IMMAIR0, mair)?;
        regs.write(number, regs::IMSTR, 0)?;
        if let Some(leaf) = &self.leaf {
            leaf.enable(number)?;
        }
        regs.write(number, regs::IMCTR, regs::IMCTR_INTEN | regs::IMCTR_FLUSH | regs::IMCTR_MMUEN)
    }

    /// Invalidates the context's cached translations in leaf and root, leaves IMCTR at `control`, and waits for completion.
    ///
    /// The hardware has no selective flush, so callers that arrive while one runs share the next one. Only the root is
    /// polled: its flush starts later and takes longer than the leaf's.
    ///
    /// Returns the number of the newest completed flush, or, when it did not complete in time, of the one awaited.
    fn flush_with(&self, control: u32) -> Result<u64, u64> {
        let root = &self.root;
        let need = self.flushes.lock().started + 1;
        let start = |flushes: &mut Flushes| {
            if let Some(leaf) = &self.leaf {
                leaf.control(self.number, control | regs::IMCTR_FLUSH)?;
            }
            root.regs.write(self.number, regs::IMCTR, control | regs::IMCTR_FLUSH)?;
            flushes.started += 1;
            Ok::<_, IoError>(())
        };
        let idle = |flushes: &mut Flushes| {
            let idle = root.regs.read(self.number, regs::IMCTR)? & regs::IMCTR_FLUSH == 0;
            if idle {
                flushes.completed = flushes.started;
            }
            Ok::<_, IoError>(idle)
        };
        let wait = || {
            let started = poll(
                || root.clock.now(),
                regs::FLUSH_LIMIT,
                || {
                    let mut flushes = self.flushes.lock();
                    if flushes.started < need && idle(&mut flushes)? {
                        start(&mut flushes)?;
                    }
                    Ok::<_, IoError>(flushes.started >= need)
                },
            )?;
            if !started {
                // The previous flush hangs. Hardware that has recovered completes a new one.
                start(&mut self.flushes.lock())?;
            }
            poll(
                || root.clock.now(),
                regs::FLUSH_LIMIT,
                || {
                    let mut flushes = self.flushes.lock();
                    idle(&mut flushes)?;
                    Ok::<_, IoError>(flushes.completed >= need)
                },
            )
        };
        if wait().is_ok_and(|completed: bool| completed) { Ok(self.flushes.lock().completed) } else { Err(need) }
    }
}

impl Translation for Context {
    fn map(&self, iova: DeviceAddr, phys: PhysAddr, len: u64, prot: Prot) -> Result<(), MapError> {
        if self.leaf.is_none() {
            return Err(MapError::Revoked);
        }
        self.state.lock().tables().ok_or(MapError::Revoked)?.root.map(iova, phys, len, prot)
    }

    fn map_runs(
        &self,
        iova: DeviceAddr,
        runs: &mut dyn Iterator<Item = (PhysAddr, u64)>,
        prot: Prot,
    ) -> Result<(), (u64, MapError)> {
        let mut state = self.state.lock();
        let tables = state.tables().filter(|_| self.leaf.is_some()).ok_or((0, MapError::Revoked))?;
        tables.root.map_runs(iova, runs, prot)
    }

    fn unmap(&self, iova: DeviceAddr, len: u64, gather: &mut Gather) -> Result<(), MapError> {
        self.state.lock().tables().ok_or(MapError::Revoked)?.root.unmap(iova, len, gather)
    }

    fn remove(&self, iova: DeviceAddr, len: u64, gather: &mut Gather) -> Result<bool, MapError> {
        self.state.lock().tables().ok_or(MapError::Revoked)?.root.remove(iova, len, gather)
    }

    fn lease(&self, iova: DeviceAddr, len: u64) -> Option<Lease> {
        let mut state = self.state.lock();
        state.tables().filter(|_| self.leaf.is_some())?.root.lease(iova, len)
    }

    fn end_lease(&self, iova: DeviceAddr, len: u64, gather: &mut Gather) -> Result<bool, MapError> {
        self.state.lock().tables().ok_or(MapError::Revoked)?.root.end_lease(iova, len, gather)
    }

    fn flush(&self, gather: &mut Gather) -> Result<(), IommuError> {
        match &*self.state.lock() {
            // A retired context may have another user by now, so only the root touches its registers.
            State::Retired if self.root.is_invalidated(&self.invalidated) => return Ok(()),
            State::Retired => return Err(IommuError::Dead),
            State::Active(tables) if gather.is_empty() && tables.unconfirmed.is_empty() => return Ok(()),
            State::Active(_) => {}
        }
        let flushed = self.flush_with(regs::IMCTR_INTEN | regs::IMCTR_MMUEN);
        let mut state = self.state.lock();
        match (flushed, state.tables()) {
            (Ok(completed), Some(tables)) => tables.confirm(completed),
            (Err(number), Some(tables)) => {
                tables.unconfirmed.push((number, core::mem::take(gather)));
                return Err(IommuError::Dead);
            }
            (result, None) => drop(result.map_err(|_| IommuError::Dead)?),
        }
        Ok(())
    }

    fn retire(&self) {
        // The lock is not held while waiting for the hardware: concurrent callers see the retired state.
        let State::Active(tables) = core::mem::replace(&mut *self.state.lock(), State::Retired) else { return };
        let confirmed = self.flush_with(0).is_ok();
        if let Some(leaf) = &self.leaf {
            leaf.disabled(self.number);
        }
        self.root.release(self.number, tables, Arc::clone(&self.invalidated), confirmed);
    }

    fn resolve(&self, iova: DeviceAddr) -> Option<PhysAddr> {
        self.state.lock().tables()?.root.resolve(iova).map(|(phys, _)| phys)
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
