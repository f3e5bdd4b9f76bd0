//! Views of mappings, in any order, dropped or forgotten: CPU and device see each other's bytes (P13).

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use std::sync::Mutex;

use proptest::prelude::*;

use super::board::{TestBoard, ToyMmu};
use crate::addr::{DeviceAddr, PhysAddr};
use crate::binding::Bound;
use crate::dma::{CpuView, Direction, DmaBuffer, DmaError};
use crate::driver::ProbeError;
use crate::env::Caching;
use crate::iommu::DomainKind;
use crate::mem::access;
use crate::mem::fake::FakeMemory;

/// Bytes that are looked at, across two pages.
const BYTES: [usize; 4] = [0, 7, 4095, 4096];
const LEN: u64 = 8192;

#[derive(Clone, Copy, Debug)]
enum Step {
    /// The CPU reads all, writes one byte, and drops the view or forgets it.
    View { at: usize, byte: u8, forget: bool },
    /// The device writes a byte, and reads all.
    Device { at: usize, byte: u8 },
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum How {
    Owned,
    Borrowed,
}

/// What both see.
struct Shared {
    plain: [u8; BYTES.len()],
    mmu: Arc<ToyMmu>,
    ram: Arc<FakeMemory>,
    wrong: Option<String>,
}

impl Shared {
    fn compare(&mut self, who: &str, seen: [u8; BYTES.len()]) {
        if seen != self.plain {
            let wrong = format!("{who} sees {seen:?} instead of {:?}", self.plain);
            self.wrong.get_or_insert(wrong);
        }
    }

    fn view(&mut self, mut view: CpuView<'_>, (at, byte, forget): (usize, u8, bool)) {
        self.compare("the CPU", BYTES.map(|at| view[at]));
        view[BYTES[at]] = byte;
        self.plain[at] = byte;
        if forget {
            core::mem::forget(view);
        }
    }

    fn device(&mut self, base: DeviceAddr, at: usize, byte: u8) {
        let mmu = Arc::clone(&self.mmu);
        let place = |at: DeviceAddr| mmu.state.lock().unwrap().dma_reachable(at).unwrap_or(PhysAddr(at.0));
        let read = |at: usize| {
            let mut read = [0];
            access::read_bytes(&*self.ram, place(base + at as u64), &mut read, Caching::Cached).unwrap();
            read[0]
        };
        let seen = BYTES.map(read);
        self.compare("the device", seen);
        access::write_bytes(&*self.ram, place(base + BYTES[at] as u64), &[byte], Caching::Cached).unwrap();
        self.plain[at] = byte;
    }
}

fn owned(dev: Bound<'_>, buffer: DmaBuffer, steps: &[Step], shared: &mut Shared) -> Result<DmaBuffer, ProbeError> {
    let mut mapped = dev.dma().map(buffer, Direction::Bidirectional)?;
    for step in steps {
        match *step {
            Step::View { at, byte, forget } => shared.view(mapped.sync_for_cpu(), (at, byte, forget)),
            Step::Device { at, byte } => shared.device(mapped.device_addr(), at, byte),
        }
    }
    Ok(mapped.unmap()?)
}

fn borrowed(dev: Bound<'_>, buffer: &mut DmaBuffer, steps: &[Step], shared: &mut Shared) -> Result<(), ProbeError> {
    dev.dma().scope(|scope| {
        let mut mapped = scope.map(buffer, Direction::Bidirectional)?;
        for step in steps {
            match *step {
                Step::View { at, byte, forget } => shared.view(mapped.sync_for_cpu(), (at, byte, forget)),
                Step::Device { at, byte } => shared.device(mapped.device_addr(), at, byte),
            }
        }
        Ok::<_, DmaError>(())
    })??;
    Ok(())
}

fn step() -> impl Strategy<Value = Step> {
    let view = (0..BYTES.len(), any::<u8>(), any::<bool>());
    prop_oneof![
        2 => view.prop_map(|(at, byte, forget)| Step::View { at, byte, forget }),
        1 => (0..BYTES.len(), any::<u8>()).prop_map(|(at, byte)| Step::Device { at, byte }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 2 } else { 256 }, failure_persistence: None, ..ProptestConfig::default()
    })]

    #[test]
    fn cpu_and_device_see_each_others_bytes_whatever_becomes_of_views(
        kind in prop::option::of(prop_oneof![Just(DomainKind::Strict), Just(DomainKind::Lazy)]),
        high in any::<bool>(),
        how in prop_oneof![Just(How::Owned), Just(How::Borrowed)],
        steps in prop::collection::vec(step(), 0..8),
    ) {
        let board = kind.map_or_else(TestBoard::direct, TestBoard::translated);
        let (mmu, ram, wrong) = (Arc::clone(&board.mmu), Arc::clone(&board.ram), Arc::new(Mutex::new(None)));
        let to = Arc::clone(&wrong);
        board.run(move |dev| {
            // Above the mask it is bounced.
            let mut buffer = if high { dev.state.system().dma_buffer(LEN)? } else { dev.dma().buffer(LEN)? };
            let plain = [0; BYTES.len()];
            let mut shared = Shared { plain, mmu: Arc::clone(&mmu), ram: Arc::clone(&ram), wrong: None };
            match how {
                How::Owned => buffer = owned(dev, buffer, &steps, &mut shared)?,
                How::Borrowed => borrowed(dev, &mut buffer, &steps, &mut shared)?,
            }
            let bytes = buffer.as_slice();
            shared.compare("whoever has the buffer next", BYTES.map(|at| bytes[at]));
            *to.lock().unwrap() = shared.wrong;
            Ok(Vec::new())
        });
        prop_assert_eq!(wrong.lock().unwrap().clone(), None);
        prop_assert_eq!(board.machine.dma_misuses(), []);
    }
}
