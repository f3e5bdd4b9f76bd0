//! A function as a device of the machine: its description, and what the core asks of its bus.

use alloc::format;
use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use super::config::reg;
use super::kept::Kept;
use super::secondary::SecondaryBus;
use super::{Capability, ConfigSpace, Function, FunctionId, Header, Isolation, Space, Window};
use crate::addr::PhysAddr;
use crate::bus::{BusDevice, BusError, MessageKind, Messages};
use crate::context::SystemClock;
use crate::description::{BusKind, DeviceDesc, PciIdentity, ReservedRegion, Resource, Supplier, SupplierKind, Unmet};
use crate::env::{Env, IoError, Width};
use crate::sync::Mutex;

/// Longest time for the completion of a function's accesses, and the interval of looks. A completion takes 50 ms at most by
/// default (PCI Express 5.0, 2.8).
const COMPLETION: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(1));
/// Time after a function-level reset before the function may be accessed (PCI Express 5.0, 6.6.2).
const AFTER_RESET: Duration = Duration::from_millis(100);
/// Longest time from then until it answers (6.6.1).
pub(super) const READY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_millis(10));

impl Function {
    /// Description of the function as a device on the bus `pci`, behind the host bridge that `host` describes and whose addresses are
    /// `windows`: identity, the registers of its memory BARs that have addresses, its streams at IOMMUs by `iommu-map`, the receiver of
    /// its messages by `msi-map`, and the host bridge's DMA properties. A function that `isolation` has in a set with others gets a stream that all of them have, so that
    /// they are one IOMMU group.
    pub fn description(&self, host: &DeviceDesc, windows: &[Window], isolation: &Isolation) -> DeviceDesc {
        let mut desc = DeviceDesc::new(&self.at.to_string());
        desc.bus = BusKind::Pci;
        let mut identity = PciIdentity {
            vendor: self.id.0,
            device: self.id.1,
            subsystem: self.subsystem,
            class: self.class,
            revision: self.revision,
            bars: [].into(),
            bridges: isolation.bridges(self.at).iter().map(|at| at.to_string().into()).collect(),
        };
        for bar in self.bars.iter().filter(|bar| bar.kind != super::BarKind::Io) {
            if let Some(base) = bar.address.and_then(|address| cpu_address(windows, address)) {
                desc.resources.push(Resource::Mem { base, len: bar.size });
                identity.bars.push(bar.index as u8);
            }
        }
        desc.compatible = identity.compatible().map(Into::into).collect();
        desc.pci = Some(identity);
        desc.dma = host.dma.clone();
        // Those are the host bridge's own.
        desc.dma.reserved.clear();
        if self.msi.is_some() || self.msi_x.is_some() {
            desc.dma.reserved.push(ReservedRegion::DOORBELLS);
        }
        // By the ID that reaches the controller: that of the bridge nearest to it, where one puts its own in the function's place.
        let requester = isolation.requesters(self.at).last();
        desc.messages = host.message_map.as_ref().and_then(|map| map.find(requester?.into()));
        let stream = |id: u16| host.requester_stream(id.into());
        let without = isolation.requesters(self.at).find(|id| stream(*id).is_none());
        let any = isolation.requesters(self.at).any(|id| host.maps_requester(id.into()));
        match without {
            None => {
                let own = isolation.requesters(self.at).filter_map(stream);
                let shared = isolation.set(self.at).iter().copied().find_map(stream);
                for (node, args) in own.chain(shared) {
                    let known = |s: &Supplier| s.kind == SupplierKind::Iommu && s.node == node && s.args == args;
                    if !desc.suppliers.iter().any(known) {
                        let (kind, property) = (SupplierKind::Iommu, "iommus".into());
                        desc.suppliers.push(Supplier { node, target: node, kind, property, args });
                    }
                }
            }
            // Some of its accesses, or all, must not run untranslated (P10).
            Some(id) if any => {
                let reason = if host.maps_requester(id.into()) {
                    "which cell counts up with the requester ID is not said".into()
                } else {
                    format!("no entry for requester ID {id:#06x}, by which some of its accesses arrive").into()
                };
                desc.unmet.push(Unmet { property: "iommu-map".into(), kind: SupplierKind::Iommu, reason });
            }
            // The entry that cannot be used may be this function's.
            Some(_) => desc.unmet.extend(host.unmet_behind.iter().cloned()),
        }
        desc
    }
}

/// The CPU's address of a memory address on the bus.
pub(super) fn cpu_address(windows: &[Window], address: u64) -> Option<PhysAddr> {
    windows.iter().filter(|w| w.space != Space::Io).find_map(|w| {
        let offset = address.checked_sub(w.bus).filter(|offset| *offset < w.len)?;
        Some(PhysAddr(w.phys.0 + offset))
    })
}

/// Way to reset a function without its neighbours.
#[derive(Clone, Copy, Debug)]
enum FunctionReset {
    /// By the device control register of the PCI Express capability at this offset.
    Express(u16),
    /// By the capability for conventional devices at this offset.
    Conventional(u16),
}

/// A function, as the core reaches it through its bus.
pub struct BusFunction {
    config: Arc<dyn ConfigSpace + Send + Sync>,
    clock: SystemClock,
    at: FunctionId,
    header: Header,
    /// Offset of the PCI Express capability.
    express: Option<u16>,
    /// Offset of the capability for conventional devices.
    conventional: Option<u16>,
    bars: Vec<super::Bar>,
    reset: Option<FunctionReset>,
    /// What a reset clears.
    kept: Arc<Kept>,
    /// The bus that it is on, when that is behind a bridge.
    bus: Option<Arc<SecondaryBus>>,
    /// Held during a reset, which may sleep.
    resetting: Mutex<()>,
}

impl BusFunction {
    /// `function`, in `config`, behind a host bridge whose addresses are `windows`; nothing is known of its bus.
    #[cfg(all(test, not(loom)))]
    pub(super) fn new(
        config: Arc<dyn ConfigSpace + Send + Sync>,
        clock: SystemClock,
        function: &Function,
        windows: &[Window],
    ) -> Self {
        let kept = Arc::new(Kept::new(&config, function, windows));
        Self::on(None, kept, (config, clock), function)
    }

    pub(super) fn on(
        bus: Option<Arc<SecondaryBus>>,
        kept: Arc<Kept>,
        (config, clock): (Arc<dyn ConfigSpace + Send + Sync>, SystemClock),
        function: &Function,
    ) -> Self {
        let whole = |id, bytes| function.capability(id, false).filter(|at| at + bytes <= 0x100);
        let express = whole(Capability::EXPRESS, 12);
        let conventional = whole(Capability::ADVANCED_FEATURES, 6);
        // Which of the two offers the reset is read again: `function_reset` is true for either.
        let by_express = express.filter(|cap| {
            config
                .read(function.at, cap + 4, Width::W32)
                .is_ok_and(|features| features != u32::MAX && features & 1 << 28 != 0)
        });
        let reset = match (by_express, conventional) {
            _ if !function.function_reset => None,
            (Some(cap), _) => Some(FunctionReset::Express(cap)),
            (None, Some(cap)) => Some(FunctionReset::Conventional(cap)),
            (None, None) => None,
        };
        let bars = function.bars.clone();
        Self {
            config,
            clock,
            at: function.at,
            header: function.header,
            express,
            conventional,
            bars,
            reset,
            kept,
            bus,
            resetting: Mutex::new(()),
        }
    }

    /// Lets a bridge pass on what the functions behind it access, what is for them, and messages of their errors. Their own bus mastering is
    /// theirs.
    ///
    /// # Errors
    ///
    /// [`BusError::Gone`] when it does not respond.
    pub fn open_bridge(&self) -> Result<(), BusError> {
        let control = self.read(reg::BRIDGE_CONTROL, Width::W16)?;
        self.write(reg::BRIDGE_CONTROL, Width::W16, control | reg::PASS_ERRORS)?;
        self.set_command(reg::DECODE_IO | reg::DECODE_MEMORY | reg::BUS_MASTER, 0)
    }

    fn read(&self, offset: u16, width: Width) -> Result<u32, BusError> {
        // A function that is not there reads as all ones, which no register read here can have.
        let all_ones = u32::MAX >> (32 - 8 * width.bytes().min(4));
        let value = self.config.read(self.at, offset, width).map_err(|_: IoError| BusError::Gone)?;
        if value == all_ones { Err(BusError::Gone) } else { Ok(value) }
    }

    fn write(&self, offset: u16, width: Width, value: u32) -> Result<(), BusError> {
        self.config.write(self.at, offset, width, value).map_err(|_: IoError| BusError::Gone)
    }

    fn set_command(&self, set: u32, clear: u32) -> Result<(), BusError> {
        let mut wanted = self.kept.command().lock();
        *wanted = *wanted & !clear | set;
        self.change_command(set, clear)
    }

    /// Changes the register; its lock is held.
    fn change_command(&self, set: u32, clear: u32) -> Result<(), BusError> {
        let old = self.read(reg::COMMAND, Width::W16)?;
        let new = old & !clear | set;
        if new != old {
            self.write(reg::COMMAND, Width::W16, new)?;
        }
        // Read back: the write has arrived, and so have the function's writes to memory that came before the answer (PCI Express
        // 5.0, 2.4.1: completions do not pass them).
        let now = self.read(reg::COMMAND, Width::W16)?;
        // Where it cannot be set, the function makes no accesses.
        if now & clear & reg::BUS_MASTER == 0 { Ok(()) } else { Err(BusError::Busy) }
    }

    /// Waits for the completion of reads that the function has begun.
    fn wait_for_completions(&self) -> Result<(), BusError> {
        // Register and bit "transactions pending".
        let (offset, width, bit) = match (self.express, self.conventional) {
            (Some(cap), _) => (cap + 10, Width::W16, 1 << 5),
            (None, Some(cap)) => (cap + 5, Width::W8, 1),
            (None, None) => return Ok(()),
        };
        let mut last = Ok(0);
        self.clock.wait_until(COMPLETION.0, COMPLETION.1, || {
            last = self.read(offset, width);
            !last.as_ref().is_ok_and(|status| status & bit != 0)
        });
        if last? & bit != 0 { Err(BusError::Busy) } else { Ok(()) }
    }
}

impl BusFunction {
    /// Ends what the function does, and keeps what a reset clears.
    fn prepare_reset(&self) -> Result<(), BusError> {
        {
            let _one_change = self.kept.command().lock();
            self.change_command(reg::NO_PIN, reg::BUS_MASTER)?;
        }
        self.wait_for_completions()?;
        self.kept.save()
    }
}

impl BusDevice for BusFunction {
    fn set_bus_master(&self, on: bool) -> Result<(), BusError> {
        if self.header != Header::Device {
            // A bridge's setting is that of the functions behind it.
            return Ok(());
        }
        let memory = |bar: &&super::Bar| bar.kind != super::BarKind::Io;
        let decode = self.bars.iter().filter(memory).all(|bar| bar.address.is_some());
        let decode = if decode { reg::DECODE_MEMORY } else { 0 };
        // From a reset that it did not come back from in time, it has no addresses.
        self.kept.restore()?;
        if on {
            return self.set_command(decode | reg::BUS_MASTER, 0);
        }
        // Messages are accesses to memory, too; a pin is not.
        self.set_command(decode | reg::NO_PIN, reg::BUS_MASTER)?;
        self.wait_for_completions()
    }

    fn set_interrupt_pin(&self, on: bool) -> Result<(), BusError> {
        let (set, clear) = if on { (0, reg::NO_PIN) } else { (reg::NO_PIN, 0) };
        self.set_command(set, clear)
    }

    fn messages(&self) -> Messages {
        self.kept.messages().offer()
    }

    fn enable_messages(&self, kind: MessageKind, messages: &[(u64, u32)], env: &dyn Env) -> Result<(), BusError> {
        // A reset writes them again.
        let _no_reset = self.resetting.lock();
        self.kept.messages().enable(kind, messages, env)
    }

    fn disable_messages(&self) -> Result<(), BusError> {
        let _no_reset = self.resetting.lock();
        self.kept.messages().disable()
    }

    fn set_message_masked(&self, index: usize, masked: bool) -> Result<(), BusError> {
        self.kept.messages().set_masked(index, masked)
    }

    fn reset(&self) -> Result<bool, BusError> {
        let Some(reset) = self.reset.filter(|_| self.header == Header::Device) else { return Ok(false) };
        let _one_reset = self.resetting.lock();
        self.prepare_reset()?;
        match reset {
            FunctionReset::Express(cap) => {
                let control = self.read(cap + 8, Width::W16)?;
                self.write(cap + 8, Width::W16, control | 1 << 15)?;
            }
            FunctionReset::Conventional(cap) => self.write(cap + 4, Width::W8, 1)?,
        }
        self.clock.wait_until(AFTER_RESET, AFTER_RESET, || false);
        if !self.clock.wait_until(READY.0, READY.1, || self.kept.answers()) {
            return Err(BusError::Gone);
        }
        self.kept.restore().map(|()| true)
    }

    fn reset_bus(&self) -> Result<bool, BusError> {
        let Some(bus) = self.bus.as_ref().filter(|_| self.header == Header::Device) else { return Ok(false) };
        let _one_reset = self.resetting.lock();
        self.prepare_reset()?;
        bus.reset(&self.clock)?;
        if self.kept.is_pending() {
            return Err(BusError::Gone);
        }
        Ok(true)
    }
}
