//! Behaviour of the IPMMU: registers, translation, faults, interrupts.

use std::hash::{Hash, Hasher};
use std::time::Duration;

use bindery::addr::PhysAddr;

use super::cache::{Hit, Tlb, Walks};
use super::regs::{self, CONTEXTS, Register, UTLBS};
use super::walk::{Mapping, WalkError, walk};
use crate::clock::Timer;
use crate::models::{Bus, NO_ANSWER};

/// Device name of the root in reports.
const ROOT_NAME: &str = "e67b0000.mmu";
/// The root's instance number; leaf n is instance n + 1.
const ROOT: usize = 0;
/// Interrupt for faults of non-secure contexts: SPI 196. SPI 197 is for secure contexts, which this
/// board does not have.
pub(crate) const LINE: u32 = 32 + 196;

/// Duration of a flush. Only a limit is public, 100 us. The root, which drivers poll, completes after the leaves.
const LEAF_FLUSH: Duration = Duration::from_micros(1);
const ROOT_FLUSH: Duration = Duration::from_micros(2);

/// Base address and name of a leaf IPMMU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Leaf {
    /// First byte of its registers.
    pub base: PhysAddr,
    /// Device name.
    pub name: &'static str,
}

/// The leaves in always-on power domains that the board has (`r8a77951.dtsi`).
pub(crate) const LEAVES: [Leaf; 6] = [
    Leaf { base: PhysAddr(0xe657_0000), name: "e6570000.mmu" },
    Leaf { base: PhysAddr(0xe674_0000), name: "e6740000.mmu" },
    Leaf { base: PhysAddr(0xe774_0000), name: "e7740000.mmu" },
    Leaf { base: PhysAddr(0xec67_0000), name: "ec670000.mmu" },
    Leaf { base: PhysAddr(0xffc8_0000), name: "ffc80000.mmu" },
    Leaf { base: PhysAddr(0xfebd_0000), name: "febd0000.mmu" },
];

/// Kind of a translation fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FaultKind {
    /// No valid translation, or the context is disabled.
    Translation,
    /// A write to a read-only mapping, or a mapping without access.
    Permission,
    /// NS or `NSTable` is missing in the tables.
    Secure,
    /// The walk itself failed: the tables are not in RAM.
    Abort,
    /// Two cached translations cover the address.
    MultipleHit,
    /// The IPMMU was removed.
    Gone,
}

/// An access that the IPMMU refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fault {
    /// Kind of fault.
    pub kind: FaultKind,
    /// The device address.
    pub addr: u64,
    /// The context that the micro-TLB selected.
    pub context: u8,
}

#[derive(Debug, Default)]
struct Context {
    /// MMUEN and INTEN; FLUSH reads 1 while its timer runs or it is stuck.
    imctr: u32,
    flushing: bool,
    ttbcr: u32,
    ttbr: u64,
    mair: u32,
    status: u32,
    fault_addr: u64,
    tlb: Tlb,
    walks: Walks,
}

impl Context {
    fn enabled(&self) -> bool {
        self.imctr & regs::IMCTR_MMUEN != 0
    }
}

#[derive(Debug, Default)]
struct Utlb {
    control: u32,
    tlb: Tlb,
    /// The context of the cached translations; all are invalidated together.
    filled_from: u8,
}

#[derive(Debug)]
struct Instance {
    name: &'static str,
    present: bool,
    contexts: [Context; CONTEXTS],
    utlbs: Vec<Utlb>,
}

/// The root and all leaves.
#[derive(Debug)]
pub(crate) struct Ipmmu {
    instances: Vec<Instance>,
    /// Injected fault: a flush of the root never completes.
    pub(crate) stuck: bool,
    /// As `stuck`, of one context alone.
    pub(crate) stuck_context: Option<u8>,
}

impl Default for Ipmmu {
    fn default() -> Self {
        let instance = |name, utlbs| Instance {
            name,
            present: true,
            contexts: Default::default(),
            utlbs: std::iter::repeat_with(Utlb::default).take(utlbs).collect(),
        };
        let leaves = LEAVES.iter().map(|leaf| instance(leaf.name, UTLBS));
        Self {
            instances: std::iter::once(instance(ROOT_NAME, 0)).chain(leaves).collect(),
            stuck: false,
            stuck_context: None,
        }
    }
}

impl Ipmmu {
    /// Hashes the registers of one instance, except table addresses.
    pub(crate) fn hash_state(&self, instance: usize, state: &mut impl Hasher) {
        let i = &self.instances[instance];
        i.present.hash(state);
        for c in &i.contexts {
            // The table registers of a disabled context are written again before it is enabled.
            c.enabled().then_some((c.ttbcr, c.mair)).hash(state);
            (c.imctr, c.flushing, c.status).hash(state);
        }
        i.utlbs.iter().for_each(|u| u.control.hash(state));
    }

    /// Hashes table addresses and the numbers of cached entries.
    pub(crate) fn hash_details(&self, state: &mut impl Hasher) {
        for i in &self.instances {
            for c in &i.contexts {
                (c.enabled().then_some(c.ttbr), c.tlb.len(), c.walks.len()).hash(state);
            }
            i.utlbs.iter().for_each(|u| u.tlb.len().hash(state));
        }
    }

    /// Evicts all cached entries.
    pub(crate) fn evict_translations(&mut self) {
        for i in &mut self.instances {
            i.contexts.iter_mut().for_each(|c| {
                c.tlb.clear();
                c.walks.clear();
            });
            i.utlbs.iter_mut().for_each(|u| u.tlb.clear());
        }
    }

    pub(crate) fn name(&self, instance: usize) -> &'static str {
        self.instances[instance].name
    }

    /// Removes the instance, or inserts it in its power-up state.
    pub(crate) fn set_present(&mut self, bus: &mut Bus<'_>, instance: usize, present: bool) {
        let i = &mut self.instances[instance];
        i.present = present;
        i.contexts = Default::default();
        i.utlbs.iter_mut().for_each(|u| *u = Utlb::default());
        for context in 0..CONTEXTS {
            bus.clock.cancel(Timer::Flush { instance: instance as u8, context: context as u8 });
        }
        self.update_line(bus);
    }

    pub(crate) fn read(&mut self, bus: &mut Bus<'_>, instance: usize, offset: u32) -> u32 {
        let i = &self.instances[instance];
        match regs::decode(offset) {
            Some(Register::Context(n, regs::IMCTR)) => {
                let c = &i.contexts[n];
                c.imctr | if c.flushing { regs::IMCTR_FLUSH } else { 0 }
            }
            Some(Register::Context(n, register)) if instance == ROOT => {
                let c = &i.contexts[n];
                match register {
                    regs::IMTTBCR => c.ttbcr,
                    regs::IMTTLBR0 => c.ttbr as u32,
                    regs::IMTTUBR0 => (c.ttbr >> 32) as u32,
                    regs::IMSTR => c.status,
                    regs::IMMAIR0 => c.mair,
                    regs::IMELAR => c.fault_addr as u32,
                    _ => (c.fault_addr >> 32) as u32,
                }
            }
            Some(Register::UtlbControl(n)) if instance != ROOT => i.utlbs[n].control,
            Some(Register::UtlbAsid(_)) if instance != ROOT => 0,
            _ => {
                bus.error(i.name, format!("read of {offset:#x}: no such register in this instance"));
                NO_ANSWER
            }
        }
    }

    pub(crate) fn write(&mut self, bus: &mut Bus<'_>, instance: usize, offset: u32, value: u32) {
        let name = self.instances[instance].name;
        match regs::decode(offset) {
            Some(Register::Context(n, regs::IMCTR)) => self.write_imctr(bus, instance, n, value),
            Some(Register::Context(n, register)) if instance == ROOT => self.write_context(bus, n, register, value),
            Some(Register::UtlbControl(n)) if instance != ROOT => self.write_utlb(bus, instance, n, value),
            Some(Register::UtlbAsid(_)) if instance != ROOT => {
                if value != 0 {
                    bus.error(name, format!("IMUASID takes 0 only here, not {value:#x}"));
                }
            }
            _ => bus.error(name, format!("write of {value:#x} to {offset:#x}: no such register in this instance")),
        }
    }

    fn write_imctr(&mut self, bus: &mut Bus<'_>, instance: usize, n: usize, value: u32) {
        let i = &mut self.instances[instance];
        let (name, c) = (i.name, &mut i.contexts[n]);
        if value & !(regs::IMCTR_MMUEN | regs::IMCTR_FLUSH | regs::IMCTR_INTEN) != 0 {
            bus.error(name, format!("context {n}: IMCTR {value:#x} sets bits that are not modelled"));
        }
        if n == 0 && value != 0 {
            bus.error(name, format!("context 0 is reserved: IMCTR {value:#x}"));
        }
        let turned_on = value & regs::IMCTR_MMUEN != 0 && !c.enabled();
        if turned_on && instance == ROOT {
            if c.ttbcr & regs::IMTTBCR_EAE == 0 {
                bus.error(name, format!("context {n} enabled without EAE: short descriptors are not modelled"));
            }
            if c.ttbcr & regs::IMTTBCR_SL0 != regs::IMTTBCR_SL0_LEVEL_1 {
                bus.error(name, format!("context {n} enabled with SL0 (bits 7:6) other than level 1"));
            }
        }
        if turned_on && value & regs::IMCTR_FLUSH == 0 {
            bus.error(name, format!("context {n} enabled without FLUSH: its cached translations are undefined"));
        }
        c.imctr = value & (regs::IMCTR_MMUEN | regs::IMCTR_INTEN);
        if value & regs::IMCTR_FLUSH != 0 {
            c.flushing = true;
            let hangs = self.stuck || self.stuck_context == Some(n as u8);
            if !(hangs && instance == ROOT) {
                let after = if instance == ROOT { ROOT_FLUSH } else { LEAF_FLUSH };
                bus.clock.set(Timer::Flush { instance: instance as u8, context: n as u8 }, after);
            }
        }
        self.update_line(bus);
    }

    fn write_context(&mut self, bus: &mut Bus<'_>, n: usize, register: u32, value: u32) {
        let c = &mut self.instances[ROOT].contexts[n];
        if n == 0 {
            return bus.error(ROOT_NAME, format!("context 0 is reserved: {value:#x} to register {register:#x}"));
        }
        if c.enabled() && !matches!(register, regs::IMSTR) {
            bus.error(ROOT_NAME, format!("context {n} is running: register {register:#x} changed under it"));
        }
        match register {
            regs::IMTTBCR => {
                if value & !(regs::IMTTBCR_EAE | regs::IMTTBCR_SL0) != 0 {
                    bus.error(ROOT_NAME, format!("context {n}: IMTTBCR {value:#x} sets bits that Gen3 does not have"));
                }
                c.ttbcr = value;
            }
            regs::IMTTLBR0 => {
                if value & 0x1f != 0 {
                    bus.error(ROOT_NAME, format!("context {n}: table base {value:#x} is not a multiple of 32"));
                }
                c.ttbr = c.ttbr & !0xffff_ffff | u64::from(value & !0x1f);
            }
            regs::IMTTUBR0 => {
                if value & !0xff != 0 {
                    bus.error(ROOT_NAME, format!("context {n}: IMTTUBR0 {value:#x} has more than 40 address bits"));
                }
                c.ttbr = c.ttbr & 0xffff_ffff | u64::from(value & 0xff) << 32;
            }
            regs::IMSTR => {
                c.status &= value;
                if c.status & regs::IMSTR_FAULTS == 0 {
                    c.status = 0;
                    c.fault_addr = 0;
                }
            }
            regs::IMMAIR0 => c.mair = value,
            _ => bus.error(ROOT_NAME, format!("context {n}: register {register:#x} is read only")),
        }
        self.update_line(bus);
    }

    fn write_utlb(&mut self, bus: &mut Bus<'_>, instance: usize, n: usize, value: u32) {
        let i = &mut self.instances[instance];
        if value & !(regs::IMUCTR_MMUEN | regs::IMUCTR_FLUSH | regs::IMUCTR_TTSEL) != 0 {
            bus.error(i.name, format!("uTLB {n}: IMUCTR {value:#x} sets bits that are not modelled"));
        }
        let context = (value & regs::IMUCTR_TTSEL) >> 4;
        if value & regs::IMUCTR_MMUEN != 0 && !(1..CONTEXTS as u32).contains(&context) {
            bus.error(i.name, format!("uTLB {n}: context {context} is reserved or does not exist"));
        }
        let utlb = &mut i.utlbs[n];
        utlb.control = value & (regs::IMUCTR_MMUEN | regs::IMUCTR_TTSEL);
        if value & regs::IMUCTR_FLUSH != 0 {
            utlb.tlb.clear();
        }
    }

    /// Completes a flush: the instance drops the context's cached entries. It may use them until then.
    pub(crate) fn flushed(&mut self, instance: u8, context: u8) {
        let i = &mut self.instances[instance as usize];
        let c = &mut i.contexts[context as usize];
        c.flushing = false;
        c.tlb.clear();
        c.walks.clear();
        i.utlbs.iter_mut().filter(|u| u.filled_from == context).for_each(|u| u.tlb.clear());
    }

    /// Returns true when a cached translation maps to any of the `len` bytes at `base`.
    pub(crate) fn caches_translation_to(&self, base: PhysAddr, len: u64) -> bool {
        self.instances.iter().filter(|i| i.present).any(|i| {
            i.contexts.iter().any(|c| c.tlb.maps_to(base, len)) || i.utlbs.iter().any(|u| u.tlb.maps_to(base, len))
        })
    }

    /// Returns true when the accesses of a master pass through untranslated.
    pub(crate) fn is_bypassed(&self, leaf: usize, utlb: usize) -> bool {
        self.instances[leaf + 1].utlbs[utlb].control & regs::IMUCTR_MMUEN == 0
    }

    /// Translates one access of the master behind micro-TLB `utlb` of leaf `leaf`. The result holds up to the end of
    /// `addr`'s 4 KiB page.
    pub(crate) fn translate(
        &mut self,
        bus: &mut Bus<'_>,
        leaf: usize,
        utlb: usize,
        addr: u64,
        write: bool,
    ) -> Result<PhysAddr, Fault> {
        let instance = &mut self.instances[leaf + 1];
        let u = &mut instance.utlbs[utlb];
        let context = ((u.control & regs::IMUCTR_TTSEL) >> 4) as u8;
        let fault = |kind| Fault { kind, addr, context };
        if !instance.present {
            return Err(fault(FaultKind::Gone));
        }
        if u.control & regs::IMUCTR_MMUEN == 0 {
            return Ok(PhysAddr(addr));
        }
        if !self.instances[ROOT].present {
            return Err(fault(FaultKind::Gone));
        }
        let instance = &mut self.instances[leaf + 1];
        let u = &mut instance.utlbs[utlb];
        let n = context as usize;
        if n == 0 || n >= CONTEXTS {
            return Err(fault(FaultKind::Translation));
        }
        let on_at_leaf = instance.contexts[n].enabled();
        let found = match u.tlb.look_up(addr) {
            Hit::Multiple => Err(FaultKind::MultipleHit),
            hit if on_at_leaf && self.instances[ROOT].contexts[n].enabled() => Ok(hit),
            _ => Err(FaultKind::Translation),
        };
        let result = match found {
            Err(kind) => Err((0, kind)),
            Ok(Hit::One(mapping)) => Ok(mapping),
            Ok(_) => self.fill(bus, leaf, utlb, n, addr),
        };
        let result = match result {
            Ok(m) if write && !m.writable => Err((3, FaultKind::Permission)),
            Ok(m) => Ok(m.phys + (addr - m.iova)),
            Err(e) => Err(e),
        };
        result.map_err(|(level, kind)| {
            self.record(bus, n, level, kind, addr);
            Fault { kind, addr, context }
        })
    }

    /// Looks up the root's cache, then walks the tables. The result is added to both caches.
    fn fill(
        &mut self,
        bus: &mut Bus<'_>,
        leaf: usize,
        utlb: usize,
        n: usize,
        addr: u64,
    ) -> Result<Mapping, (u32, FaultKind)> {
        let c = &mut self.instances[ROOT].contexts[n];
        let mapping = match c.tlb.look_up(addr) {
            Hit::Multiple => return Err((0, FaultKind::MultipleHit)),
            Hit::One(mapping) => mapping,
            Hit::Miss => {
                let mapping = walk(bus.ram, c.ttbr, addr, &mut c.walks).map_err(|(level, why)| {
                    let kind = match why {
                        WalkError::Invalid => FaultKind::Translation,
                        WalkError::Abort => FaultKind::Abort,
                        WalkError::Secure => FaultKind::Secure,
                        WalkError::Access => FaultKind::Permission,
                        WalkError::Reserved(entry) => {
                            let what = format!("context {n}: reserved descriptor {entry:#018x} at level {level}");
                            bus.error(ROOT_NAME, what);
                            FaultKind::Translation
                        }
                    };
                    (level, kind)
                })?;
                c.tlb.add(mapping);
                mapping
            }
        };
        let u = &mut self.instances[leaf + 1].utlbs[utlb];
        u.filled_from = n as u8;
        u.tlb.add(mapping);
        Ok(mapping)
    }

    /// Records a fault. The address is that of the first fault until IMSTR is cleared; further faults only add status bits.
    fn record(&mut self, bus: &mut Bus<'_>, n: usize, level: u32, kind: FaultKind, addr: u64) {
        let bits = match kind {
            FaultKind::Translation => regs::IMSTR_TF | regs::IMSTR_CODE_FORMAT,
            FaultKind::Permission => regs::IMSTR_PF | regs::IMSTR_CODE_PERMISSION,
            FaultKind::Secure => regs::IMSTR_PF | regs::IMSTR_CODE_SECURE,
            FaultKind::Abort => regs::IMSTR_ABORT,
            FaultKind::MultipleHit => regs::IMSTR_MHIT,
            FaultKind::Gone => 0,
        };
        let c = &mut self.instances[ROOT].contexts[n];
        if c.status & regs::IMSTR_FAULTS == 0 {
            c.fault_addr = addr;
            c.status = bits | level << regs::IMSTR_LEVEL_SHIFT;
        } else {
            c.status |= bits & regs::IMSTR_FAULTS;
        }
        self.update_line(bus);
    }

    fn update_line(&mut self, bus: &mut Bus<'_>) {
        let root = &self.instances[ROOT];
        let asserts = |c: &Context| c.imctr & regs::IMCTR_INTEN != 0 && c.status & regs::IMSTR_FAULTS != 0;
        bus.intc.set_level(LINE, root.present && root.contexts.iter().any(asserts));
    }
}
