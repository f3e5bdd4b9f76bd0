//! Flushes of several threads in one domain that take time, or are lost. A flush that has joined others, or that others have joined,
//! gives pages back only once the IOMMU has forgotten them; what is asked is the model's IOTLB and table, not the core.

use std::sync::Arc;

#[cfg(not(shuttle))]
use std::thread;

use bindery::addr::{DeviceAddr, PAGE_SIZE, PhysAddr};
use bindery::binding::Bound;
use bindery::device::{DeviceDesc, Supplier, SupplierKind};
use bindery::dma::Direction;
use bindery::driver::{Driver, Match, ProbeError, QuiesceError, Quiesced};
use bindery::instrument::Instrument;
use bindery::iommu::{DomainKind, Grouping};
use bindery::machine::{Handle, Machine, Policy};
use bindery_sim::salvator::Salvator;
#[cfg(shuttle)]
use shuttle::thread;

use crate::races::{at_once, in_many_orders};
use bindery_sim::mmu::{Fault, Mmu, MmuDriver, Reachable};

const DEVICE: &str = "lender";
const STREAM: u32 = 1;
/// Races on one machine, by turns in a strict and in a lazy domain.
const ROUNDS: usize = if cfg!(shuttle) { 8 } else { 60 };

/// Driver that maps and unmaps pages on request.
struct Lender;

struct Lent<'b>(Bound<'b>);

impl Driver for Lender {
    const NAME: &'static str = "lender";
    const MATCHES: &'static [Match] = &[Match::compatible("test,lender")];
    type Data<'b> = Lent<'b>;

    fn probe<'b>(&self, dev: Bound<'b>) -> Result<Lent<'b>, ProbeError> {
        dev.mark_quiesced(Quiesced::never_started());
        Ok(Lent(dev))
    }

    fn quiesce(_: &Lent<'_>) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::stopped())
    }
}

/// Asked by the core when it frees memory.
struct Looks(Arc<Mmu>);

impl Instrument for Looks {
    fn dma_reachable(&self, base: PhysAddr, len: u64) -> bool {
        let reaches = |page: &(u64, u64)| page.1 < base.0 + len && base.0 < page.1 + PAGE_SIZE;
        match self.0.reachable(STREAM) {
            Reachable::Everything => true,
            Reachable::Pages(pages) => pages.iter().any(reaches),
        }
    }
}

struct Rig {
    machine: Handle,
    mmu: Arc<Mmu>,
    looks: Arc<Looks>,
}

impl Rig {
    fn new() -> Self {
        let mmu = Mmu::new("mmu0", Grouping::PerInstance);
        mmu.during_flushes(|| (0..3).for_each(|_| thread::yield_now()));
        let looks = Arc::new(Looks(Arc::clone(&mmu)));
        let board = Salvator::new().frames(1 << 20).contiguous(1 << 20).build();
        let machine = Machine::with_instrument(board, Policy::default(), Arc::<Looks>::clone(&looks));
        machine.register(MmuDriver([("mmu0".to_owned(), Arc::clone(&mmu))].into()));
        machine.register(Lender);
        let mut desc = DeviceDesc::new("mmu0");
        desc.compatible.push("test,mmu".into());
        let node = machine.add_device(desc).unwrap().node();
        machine.settle();
        machine.set_autoprobe(false);
        let mut desc = DeviceDesc::new(DEVICE);
        desc.compatible.push("test,lender".into());
        let (kind, property) = (SupplierKind::Iommu, "iommus".into());
        desc.suppliers.push(Supplier { node, target: node, kind, property, args: vec![STREAM] });
        machine.add_device(desc).unwrap();
        Self { machine, mmu, looks }
    }

    fn with<R>(&self, act: impl for<'x> FnOnce(&Lent<'x>) -> R) -> R {
        self.machine.client::<Lender>(DEVICE).unwrap().call(act).unwrap()
    }

    /// Lends a page to the device and takes it back, which is refused while some wait for a flush.
    fn lend(&self) {
        self.with(|lent| {
            let Ok(buffer) = lent.0.dma().buffer(PAGE_SIZE) else { return };
            let (page, bytes) = (buffer.phys(), buffer.as_slice().as_ptr());
            let Ok(mapped) = lent.0.dma().map(buffer, Direction::FromDevice) else { return };
            let DeviceAddr(_) = mapped.device_addr();
            let Ok(buffer) = mapped.unmap() else { return self.retry() };
            // A lazy domain is flushed for the first one. If that is lost, the second one asks again.
            for _ in 0..2 {
                let is_lent = buffer.as_slice().as_ptr() == bytes;
                assert!(
                    !is_lent || !self.looks.dma_reachable(page, PAGE_SIZE),
                    "P2: the device reaches what the CPU has"
                );
            }
        });
    }

    /// Asks the IOMMU for what it has not confirmed.
    fn retry(&self) {
        self.with(|lent| lent.0.mark_quiesced(Quiesced::stopped()));
    }

    fn round(&self, kind: DomainKind, lost: usize) {
        self.machine.groups()[0].set_kind(kind).unwrap();
        self.machine.bind(DEVICE, Lender::NAME).unwrap();
        if let Some(more) = lost.checked_sub(1) {
            self.mmu.fail(Fault::Flush, more as u32);
        }
        at_once(
            self,
            &[&Self::lend, &Self::lend, &|r| {
                r.lend();
                r.retry();
            }],
        );
        assert_eq!(self.machine.promises().broken(), [], "{kind} {lost}");
        self.mmu.clear_faults();
        self.retry();
        assert_eq!(self.machine.quarantine(), [], "{kind} {lost}");
        self.machine.unbind(DEVICE, Lender::NAME).unwrap();
        assert_eq!(self.mmu.reachable(STREAM), Reachable::nothing(), "{kind} {lost}");
        assert_eq!(self.machine.promises().broken(), [], "{kind} {lost}");
    }
}

#[test]
fn threads_that_join_each_others_flushes_have_no_page_that_the_device_reaches() {
    in_many_orders(|| {
        let r = Rig::new();
        for round in 0..ROUNDS {
            r.round([DomainKind::Strict, DomainKind::Lazy][round % 2], round / 2 % 4);
        }
    });
}
