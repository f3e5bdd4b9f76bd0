//! Drivers of the fixture: IOMMUs, a bus master with DMA memory, and a provider of reset lines.

use std::sync::{Arc, Mutex};

use bindery::addr::PhysAddr;
use bindery::binding::Bound;
use bindery::device::SupplierKind;
use bindery::dma::{Coherent, Direction, DmaBuffer, DmaError, Mapped, MappedResource};
use bindery::driver::{Driver, Match, ProbeError, QuiesceError, Quiesced};
use bindery::power::{Supply, SupplyError};

/// Driver of a provider of reset lines.
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

    fn probe(&self, dev: Bound<'_>) -> Result<(), ProbeError> {
        Ok(dev.provide::<dyn Supply>(Arc::new(Resets))?)
    }

    fn quiesce((): &()) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::never_started())
    }
}

/// Driver of a bus master that allocates and maps DMA memory on request.
pub struct Master;

/// Driver data of a master.
pub struct MasterData<'b> {
    dev: Bound<'b>,
    coherent: Mutex<Vec<Coherent<'b>>>,
    /// Mapping, page, and the CPU address of the bytes.
    streaming: Mutex<Vec<(Mapped<'b>, PhysAddr, usize)>>,
    /// Unmapped buffers, and the CPU address of the bytes.
    own: Mutex<Vec<(DmaBuffer, usize)>>,
    /// Mapped registers of peers, with their page.
    peers: Mutex<Vec<(MappedResource<'b>, u64)>>,
}

impl MasterData<'_> {
    /// Allocates a page of coherent memory.
    pub fn alloc_coherent(&self) -> Result<(), DmaError> {
        let memory = self.dev.dma().coherent(4096)?;
        self.coherent.lock().unwrap().push(memory);
        Ok(())
    }

    pub fn free_coherent(&self) {
        let memory = self.coherent.lock().unwrap().pop();
        if let Some(memory) = memory {
            memory.release();
        }
    }

    /// Maps a new page.
    pub fn map(&self) -> Result<(), DmaError> {
        self.map_buffer(self.dev.dma().buffer(4096)?)
    }

    /// Maps `buffer`, which may belong to another machine.
    pub fn map_buffer(&self, buffer: DmaBuffer) -> Result<(), DmaError> {
        let (page, seen_at) = (buffer.phys(), buffer.as_slice().as_ptr().addr());
        let mapped = self.dev.dma().map(buffer, Direction::FromDevice)?;
        self.streaming.lock().unwrap().push((mapped, page, seen_at));
        Ok(())
    }

    /// Maps the registers at `page`.
    pub fn map_peer(&self, page: u64) -> Result<(), DmaError> {
        let mapped = self.dev.dma().map_resource(PhysAddr(page), 16, Direction::Bidirectional)?;
        self.peers.lock().unwrap().push((mapped, page));
        Ok(())
    }

    pub fn unmap_peer(&self) {
        let peer = self.peers.lock().unwrap().pop();
        let _ = peer.map(|(mapped, _)| mapped.unmap());
    }

    /// Device addresses and pages of mapped registers.
    pub fn peers(&self) -> Vec<(u64, u64)> {
        self.peers.lock().unwrap().iter().map(|(mapped, page)| (mapped.device_addr().0, *page)).collect()
    }

    pub fn unmap(&self) {
        let streaming = self.streaming.lock().unwrap().pop();
        if let Some((mapped, _, seen_at)) = streaming
            && let Ok(buffer) = mapped.unmap()
        {
            self.own.lock().unwrap().push((buffer, seen_at));
        }
    }

    /// Device addresses and pages of all mapped memory.
    pub fn mapped(&self) -> Vec<(u64, u64)> {
        let coherent = self.coherent.lock().unwrap();
        let streaming = self.streaming.lock().unwrap();
        let coherent = coherent.iter().map(|m| (m.device_addr().0, m.memory().phys().0));
        coherent.chain(streaming.iter().map(|(m, page, _)| (m.device_addr().0, page.0))).collect()
    }

    /// Pages that safe code can borrow as a slice now. The slice of an unconfirmed page is a copy.
    pub fn slices(&self) -> Vec<PhysAddr> {
        let own = self.own.lock().unwrap();
        let real = own.iter().filter(|(buffer, seen_at)| buffer.as_slice().as_ptr().addr() == *seen_at);
        real.map(|(buffer, _)| buffer.phys()).collect()
    }

    pub fn drop_buffers(&self) {
        self.own.lock().unwrap().clear();
    }
}

impl Driver for Master {
    const NAME: &'static str = "master";
    const MATCHES: &'static [Match] = &[Match::compatible("test,master")];
    type Data<'b> = MasterData<'b>;

    fn probe<'b>(&self, dev: Bound<'b>) -> Result<MasterData<'b>, ProbeError> {
        dev.mark_quiesced(Quiesced::never_started());
        Ok(MasterData {
            dev,
            coherent: Mutex::default(),
            streaming: Mutex::default(),
            own: Mutex::default(),
            peers: Mutex::default(),
        })
    }

    fn quiesce(_: &MasterData<'_>) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::stopped())
    }
}
