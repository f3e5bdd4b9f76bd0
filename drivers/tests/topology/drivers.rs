//! The drivers of the test's world: IOMMUs, a bus master with DMA memory, and a provider of reset lines.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bindery::addr::PhysAddr;
use bindery::binding::Bound;
use bindery::device::SupplierKind;
use bindery::dma::{Coherent, Direction, DmaBuffer, DmaError, Mapped, MappedResource};
use bindery::driver::{Driver, Match, ProbeError, QuiesceError, Quiesced};
use bindery::power::{Supply, SupplyError};

use crate::mmu::Mmu;

/// Offers the IOMMU of its device's name.
pub struct MmuDriver(pub BTreeMap<String, Arc<Mmu>>);

impl Driver for MmuDriver {
    const NAME: &'static str = "mmu";
    const MATCHES: &'static [Match] = &[Match::compatible("test,mmu")];
    type Data<'b> = ();

    fn probe(&self, dev: &Bound) -> Result<(), ProbeError> {
        let mmu = &self.0[dev.name()];
        mmu.reset();
        Ok(dev.provide_iommu(mmu.iommu())?)
    }

    fn quiesce((): &()) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::never_started())
    }
}

/// Resets whatever it is asked to.
pub struct ResetDriver;

struct Resets;

impl Supply for Resets {
    fn switch(&self, _: SupplierKind, _: &[u32], _: bool) -> Result<(), SupplyError> {
        Ok(())
    }
}

impl Driver for ResetDriver {
    const NAME: &'static str = "reset";
    const MATCHES: &'static [Match] = &[Match::compatible("test,reset")];
    type Data<'b> = ();

    fn probe(&self, dev: &Bound) -> Result<(), ProbeError> {
        Ok(dev.provide::<dyn Supply>(Arc::new(Resets))?)
    }

    fn quiesce((): &()) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::never_started())
    }
}

/// Owns DMA memory, as it is told to.
pub struct Master;

/// What a master holds.
pub struct Held<'b> {
    dev: &'b Bound,
    shared: Mutex<Vec<Coherent<'b>>>,
    /// With the page, and where the CPU sees it.
    lent: Mutex<Vec<(Mapped<'b>, PhysAddr, usize)>>,
    /// Taken back: the CPU's own.
    own: Mutex<Vec<(DmaBuffer, usize)>>,
    /// Registers of others, with their page.
    peers: Mutex<Vec<(MappedResource<'b>, u64)>>,
}

impl Held<'_> {
    /// Takes a page that the device shares.
    pub fn share(&self) -> Result<(), DmaError> {
        let memory = self.dev.dma().coherent(4096)?;
        self.shared.lock().unwrap().push(memory);
        Ok(())
    }

    pub fn unshare(&self) {
        let memory = self.shared.lock().unwrap().pop();
        if let Some(memory) = memory {
            memory.release();
        }
    }

    /// Lends the device a page.
    pub fn lend(&self) -> Result<(), DmaError> {
        self.lend_this(self.dev.dma().buffer(4096)?)
    }

    /// Lends the device `buffer`, which may be another machine's.
    pub fn lend_this(&self, buffer: DmaBuffer) -> Result<(), DmaError> {
        let (page, seen_at) = (buffer.phys(), buffer.as_slice().as_ptr().addr());
        let mapped = self.dev.dma().map(buffer, Direction::FromDevice)?;
        self.lent.lock().unwrap().push((mapped, page, seen_at));
        Ok(())
    }

    /// Lets the device reach the registers at `page`.
    pub fn reach_peer(&self, page: u64) -> Result<(), DmaError> {
        let mapped = self.dev.dma().map_resource(PhysAddr(page), 16, Direction::Bidirectional)?;
        self.peers.lock().unwrap().push((mapped, page));
        Ok(())
    }

    pub fn leave_peer(&self) {
        let peer = self.peers.lock().unwrap().pop();
        let _ = peer.map(|(mapped, _)| mapped.unmap());
    }

    /// Device address and page of registers that the device reaches.
    pub fn peers(&self) -> Vec<(u64, u64)> {
        self.peers.lock().unwrap().iter().map(|(mapped, page)| (mapped.device_addr().0, *page)).collect()
    }

    pub fn take_back(&self) {
        let lent = self.lent.lock().unwrap().pop();
        if let Some((mapped, _, seen_at)) = lent
            && let Ok(buffer) = mapped.unmap()
        {
            self.own.lock().unwrap().push((buffer, seen_at));
        }
    }

    /// Device address and page of what the device has.
    pub fn mapped(&self) -> Vec<(u64, u64)> {
        let shared = self.shared.lock().unwrap();
        let lent = self.lent.lock().unwrap();
        let shared = shared.iter().map(|m| (m.device_addr().0, m.memory().phys().0));
        shared.chain(lent.iter().map(|(m, page, _)| (m.device_addr().0, page.0))).collect()
    }

    /// Pages that safe code looks at as a slice at this moment. One whose end is not confirmed is looked at as a copy.
    pub fn slices(&self) -> Vec<PhysAddr> {
        let own = self.own.lock().unwrap();
        let real = own.iter().filter(|(buffer, seen_at)| buffer.as_slice().as_ptr().addr() == *seen_at);
        real.map(|(buffer, _)| buffer.phys()).collect()
    }

    pub fn drop_own(&self) {
        self.own.lock().unwrap().clear();
    }
}

impl Driver for Master {
    const NAME: &'static str = "master";
    const MATCHES: &'static [Match] = &[Match::compatible("test,master")];
    type Data<'b> = Held<'b>;

    fn probe<'b>(&self, dev: &'b Bound) -> Result<Held<'b>, ProbeError> {
        dev.mark_quiesced(Quiesced::never_started());
        Ok(Held {
            dev,
            shared: Mutex::default(),
            lent: Mutex::default(),
            own: Mutex::default(),
            peers: Mutex::default(),
        })
    }

    fn quiesce(_: &Held<'_>) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::stopped())
    }
}
