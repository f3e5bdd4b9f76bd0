//! Addressing limits: DMA masks, bus windows, and bounce buffers for memory outside.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::board::{HIGH, LOW, TestBoard};
use crate::addr::{DeviceAddr, PhysAddr};
use crate::device::DmaRange;
use crate::dma::{Attrs, Direction, DmaError};
use crate::driver::{ProbeError, Quiesced};
use crate::env::Caching;
use crate::instrument::FaultPoint;
use crate::iommu::DomainKind;

#[test]
fn a_mask_holds_for_one_binding_only() {
    let board = TestBoard::direct();
    for _ in 0..2 {
        board.run(|dev| {
            let high = dev.state.system().dma_buffer(4096)?;
            let mapped = dev.dma().map(high, Direction::ToDevice)?;
            assert!(mapped.is_bounced(), "each binding starts with a 32-bit mask");
            let high = mapped.unmap()?;
            dev.dma().set_mask(64)?;
            assert!(!dev.dma().map(high, Direction::ToDevice)?.is_bounced());
            assert!(dev.dma().coherent(4096)?.device_addr() >= DeviceAddr(HIGH));
            dev.dma().set_coherent_mask(32)?;
            assert!(dev.dma().coherent(4096)?.device_addr() < DeviceAddr(HIGH));
            Ok(Vec::new())
        });
    }
}

#[test]
fn a_bounced_buffer_keeps_the_bytes_that_the_device_does_not_write() {
    TestBoard::direct().run(|dev| {
        for direction in [Direction::ToDevice, Direction::FromDevice, Direction::Bidirectional] {
            let mut high = dev.state.system().dma_buffer(4096)?;
            high.as_mut_slice().fill(0xaa);
            let mapped = dev.dma().map(high, direction)?;
            assert!(mapped.is_bounced());
            let back = mapped.unmap()?;
            assert!(back.as_slice().iter().all(|b| *b == 0xaa), "{direction:?}");
        }
        Ok(Vec::new())
    });
}

/// The copy has the range where the buffer has it, so that what is in one page stays in one page, and each byte is that byte.
#[test]
fn a_range_in_the_middle_of_a_buffer_is_bounced_byte_by_byte() {
    use crate::mem::access::{read_bytes, write_bytes};
    let board = TestBoard::direct();
    let ram = Arc::clone(&board.ram).dynamic();
    board.run(move |dev| {
        for (range, direction) in [(128..384, Direction::Bidirectional), (4096..8192, Direction::Bidirectional)] {
            let mut high = dev.state.system().dma_buffer(8192)?;
            for (at, byte) in high.as_mut_slice().iter_mut().enumerate() {
                *byte = (at % 251) as u8;
            }
            let before = high.as_slice().to_vec();
            let mapped = dev.dma().map_range(high, range.clone(), direction, Attrs::empty())?;
            assert!(mapped.is_bounced());
            let at = PhysAddr(mapped.device_addr().0);
            let (first, last) = (range.start as usize, range.end as usize);
            let mut seen = alloc::vec![0; last - first];
            read_bytes(&*ram, at, &mut seen, Caching::Uncached).unwrap();
            assert_eq!(seen, before[first..last], "the device reads {range:?}");
            let answer: Vec<u8> = seen.iter().map(|byte| !byte).collect();
            write_bytes(&*ram, at, &answer, Caching::Uncached).unwrap();
            let back = mapped.unmap()?;
            assert_eq!(back.as_slice()[first..last], answer, "the device has written {range:?}");
            assert_eq!((&back.as_slice()[..first], &back.as_slice()[last..]), (&before[..first], &before[last..]));
        }
        Ok(Vec::new())
    });
}

#[test]
fn a_mask_below_all_memory_is_an_error_that_returns_the_buffer() {
    TestBoard::direct().run(|dev| {
        dev.dma().set_mask(16)?;
        assert!(matches!(dev.dma().coherent(4096), Err(DmaError::Memory(_))));
        let buffer = dev.dma().buffer(4096)?;
        let refused = dev.dma().map(buffer, Direction::ToDevice).unwrap_err();
        assert!(matches!(refused.error, DmaError::Memory(_)), "{refused:?}");
        assert_eq!(
            (
                refused.returned.len(),
                dev.state.system().dma_state().bounce_bytes.load(crate::sync::atomic::Ordering::Relaxed)
            ),
            (4096, 0)
        );
        Ok(Vec::new())
    });
}

#[test]
fn a_failed_bounce_allocation_returns_the_buffer() {
    let board = TestBoard::direct();
    let env = Arc::clone(&board.env);
    board.run(move |dev| {
        let buffer = dev.state.system().dma_buffer(4096)?;
        *env.fail_at.lock().unwrap() = Some(env.calls.lock().unwrap().len() + 1);
        let refused = dev.dma().map(buffer, Direction::ToDevice).unwrap_err();
        *env.fail_at.lock().unwrap() = None;
        assert_eq!(refused.error, DmaError::Injected(FaultPoint::BounceAlloc));
        assert!(dev.dma().map(refused.returned, Direction::ToDevice)?.is_bounced());
        Ok(Vec::new())
    });
}

#[test]
fn device_addresses_are_offset_by_the_windows_of_the_bus() {
    let window = |bus, phys, len| DmaRange { bus, phys: PhysAddr(phys), len };
    let board = TestBoard::direct().describe(|d| {
        // Malformed windows, as in bad firmware, and one that covers half of the low RAM.
        d.dma.ranges =
            Vec::from([window(u64::MAX, u64::MAX, u64::MAX), window(0, 0, 0), window(0x8000_0000, LOW, 32 << 12)]);
    });
    board.run(|dev| {
        let low = dev.dma().buffer(8192)?;
        let phys = low.phys();
        let mapped = dev.dma().map(low, Direction::ToDevice)?;
        assert!(!mapped.is_bounced());
        assert_eq!(mapped.device_addr(), DeviceAddr(phys.0 - LOW + 0x8000_0000));
        let shared = dev.dma().coherent(4096)?;
        assert!((0x8000_0000..0x8002_0000).contains(&shared.device_addr().0));
        let outside = dev.dma().map(dev.state.system().dma_buffer(4096)?, Direction::ToDevice)?;
        assert!(outside.is_bounced());
        assert!((0x8000_0000..0x8002_0000).contains(&outside.device_addr().0));
        Ok(Vec::new())
    });
}

#[test]
fn write_combined_memory_is_uncached() {
    let board = TestBoard::direct().describe(|d| d.dma.coherent = true);
    board.run(|dev| {
        let plain = dev.dma().coherent(64)?.memory();
        let combined = dev.dma().coherent_with(64, Attrs::WRITE_COMBINE)?.memory();
        assert!(alloc::format!("{plain:?}").ends_with("Cached)"));
        assert!(alloc::format!("{combined:?}").ends_with("Uncached)"));
        Ok(Vec::new())
    });
}

#[test]
fn a_device_that_was_not_quiesced_leaves_buffer_and_bounce_slot_in_quarantine() {
    let board = TestBoard::direct();
    assert!(!board.bind(|dev| {
        let mapped = dev.dma().map(dev.state.system().dma_buffer(4096)?, Direction::FromDevice)?;
        let _started = mapped.device_addr();
        Err(ProbeError::Device("the device does not answer"))
    }));
    assert_eq!(board.machine.quarantine_table().list().len(), 2, "P11: the buffer and its bounce slot");
    assert_eq!(board.machine.resource_usage().mappings, 0);
    board.unbind();
    assert!(board.bind(|dev| {
        assert!(matches!(dev.dma().buffer(4096), Err(DmaError::Quarantined(8192))));
        dev.mark_quiesced(Quiesced::in_reset());
        dev.dma().buffer(4096)?;
        Ok(Vec::new())
    }));
    assert_eq!(board.machine.quarantine_table().list().len(), 0);
    assert_eq!(board.machine.memory().frames().in_use(), 0);
}

#[test]
fn coherent_memory_is_at_a_multiple_of_what_is_asked_for() {
    for board in [TestBoard::direct(), TestBoard::translated(DomainKind::Strict)] {
        board.run(|dev| {
            let mut taken = Vec::new();
            for (len, align) in [(64, 1), (64, 64), (0x3000, 0x4000), (0x3000, 0x8000), (1, 0x1_0000), (0x5000, 0x1000)]
            {
                // Something in between, so that the next free page is not aligned by chance.
                taken.push(dev.dma().coherent(4096)?);
                let memory = dev.dma().coherent_aligned(len, align)?;
                assert_eq!(memory.len(), len);
                assert!(memory.device_addr().is_aligned(align), "{} {align:#x}", memory.device_addr());
                memory.write_bytes(len - 1, &[1]);
                taken.push(memory);
            }
            assert_eq!(dev.dma().coherent_aligned(0, 0x1_0000).unwrap_err(), DmaError::BadSize(0));
            for align in [0, 3, u64::MAX] {
                assert_eq!(dev.dma().coherent_aligned(64, align).unwrap_err(), DmaError::BadAlignment(align));
            }
            assert!(dev.dma().coherent_aligned(64, 1 << 63).is_err(), "more than there is");
            Ok(Vec::new())
        });
        assert_eq!(board.machine.memory().frames().in_use(), 0);
    }
}

#[test]
fn an_alignment_that_a_bus_has_no_address_of_is_refused_and_keeps_nothing() {
    let board = TestBoard::direct().describe(|d| {
        d.dma.ranges = Vec::from([DmaRange { bus: 0x8000_1000, phys: PhysAddr(LOW), len: 32 << 12 }]);
    });
    board.run(|dev| {
        assert_eq!(dev.dma().coherent_aligned(64, 0x2000).unwrap_err(), DmaError::BadAlignment(0x2000));
        assert_eq!(dev.state.system().memory().frames().in_use(), 0);
        assert!(dev.dma().coherent_aligned(64, 0x1000)?.device_addr().is_aligned(0x1000));
        Ok(Vec::new())
    });
}
