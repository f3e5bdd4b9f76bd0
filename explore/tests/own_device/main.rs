//! A device model, a driver and a device tree from outside: the device's lifecycle is explored, and its interrupts rise.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bindery::addr::PhysAddr;
use bindery::binding::{Bound, Mmio};
use bindery::dma::Coherent;
use bindery::driver::{Driver, IrqReturn, Match, ProbeError, QuiesceError, Quiesced};
use bindery::irq::Irq;
use bindery::machine::Machine;
use bindery_explore::{Bounded, Lifecycle, boards, device};
use bindery_sim::models::attached::{DeviceBus, DeviceModel, Wiring};

/// Names the device, with its registers, interrupt, clock, power domain, reset line and IOMMU.
const BOARD: &[u8] = include_bytes!("board.dtb");
const NAME: &str = "ee600000.copier";

/// Address of a word. Writing it starts the device, which copies the word behind itself.
const FROM: u64 = 0;
/// Bit 0: done, and the line is high. Writing anything clears it.
const STATUS: u64 = 4;
/// Writing anything stops the device.
const STOP: u64 = 8;

#[derive(Clone, Hash, Default)]
struct Copier {
    from: u32,
    busy: bool,
    done: bool,
}

impl DeviceModel for Copier {
    fn read(&mut self, _: &mut DeviceBus<'_>, offset: u64) -> u32 {
        if offset == STATUS { self.done.into() } else { self.from }
    }

    fn write(&mut self, bus: &mut DeviceBus<'_>, offset: u64, value: u32) {
        match offset {
            FROM => (self.from, self.busy) = (value, true),
            STATUS => self.done = false,
            _ => *self = Self::default(),
        }
        bus.set_line(0, self.done);
        if self.busy { bus.start_timer(0, Duration::from_micros(1)) } else { bus.stop_timer(0) }
    }

    fn timer(&mut self, bus: &mut DeviceBus<'_>, _: u8) {
        let (mut word, from) = ([0; 4], u64::from(self.from));
        self.done = bus.dma_read(0, from, &mut word).is_ok() && bus.dma_write(0, from + 4, &word).is_ok();
        self.busy = false;
        bus.set_line(0, self.done);
    }

    fn accesses(&self, addr: u64, len: u64) -> bool {
        let from = u64::from(self.from);
        self.busy && from < addr + len && addr < from + 8
    }
}

struct CopierDriver;

struct Port<'b> {
    dev: Bound<'b>,
    regs: Mmio<'b>,
    words: Coherent<'b>,
    interrupts: Arc<AtomicU32>,
    _irq: Irq<'b>,
}

impl Driver for CopierDriver {
    const NAME: &'static str = "acme_copier";
    const MATCHES: &'static [Match] = &[Match::compatible("acme,copier")];
    type Data<'b> = Port<'b>;

    fn probe<'b>(&self, dev: Bound<'b>) -> Result<Port<'b>, ProbeError> {
        let regs = dev.mmio(0)?;
        regs.write32(STOP, 0)?;
        dev.mark_quiesced(Quiesced::stopped());
        let words = dev.dma().coherent(4096)?;
        let interrupts = Arc::new(AtomicU32::new(0));
        let (handle, seen) = (regs.handle(), Arc::clone(&interrupts));
        let irq = dev.request_irq(0, move || {
            if !handle.read32(STATUS).is_ok_and(|status| status & 1 != 0) {
                return IrqReturn::None;
            }
            seen.fetch_add(1, Ordering::Relaxed);
            let _ = handle.write32(STATUS, 0);
            IrqReturn::Handled
        })?;
        Ok(Port { dev, regs, words, interrupts, _irq: irq })
    }

    fn quiesce(port: &Port<'_>) -> Result<Quiesced, QuiesceError> {
        port.regs.write32(STOP, 0).map_err(|_| QuiesceError("the registers do not answer"))?;
        Ok(Quiesced::stopped())
    }
}

/// Has the device copy a word, and waits for its interrupt.
fn copy_word(port: &Port<'_>) -> Result<(), String> {
    let before = port.interrupts.load(Ordering::Relaxed);
    port.words.write_bytes(0, &[1, 2, 3, 4, 0, 0, 0, 0]);
    port.regs.write32(FROM, port.words.device_addr().0 as u32).map_err(|error| error.to_string())?;
    let rose = || port.interrupts.load(Ordering::Relaxed) == before + 1;
    if !port.dev.wait_until(Duration::from_micros(100), Duration::from_micros(10), rose) {
        return Err("no interrupt".into());
    }
    let mut copy = [0; 4];
    port.words.read_bytes(4, &mut copy);
    if copy == [1, 2, 3, 4] { Ok(()) } else { Err(format!("the copy is {copy:?}")) }
}

fn copy(machine: &Arc<Machine>) -> Result<(), String> {
    let client = machine.client::<CopierDriver>(NAME).ok_or("not bound")?;
    client.call(copy_word).map_err(|error| error.to_string())?
}

fn lifecycle(line: u32) -> Lifecycle {
    let wiring = Wiring::new("ee600000.copier", PhysAddr(0xee60_0000), 0x1000).line(line).ipmmu(0, 7).module(810);
    let board = boards::salvator_xs().dtb(BOARD.to_vec()).device(wiring, Copier::default()).with(|machine| {
        machine.register(CopierDriver);
    });
    device(NAME).on(board).used_by(copy)
}

/// SPI 140 is line 172 of the interrupt controller.
const LINE: u32 = 172;

#[test]
fn every_promise_holds_on_every_path_of_a_device_from_outside() {
    lifecycle(LINE).faults(1).preemptions(0).check();
}

#[test]
fn a_path_is_printed_with_its_events() {
    let lifecycle = lifecycle(LINE);
    let replay = lifecycle.replay(&lifecycle.engine(), &"-".parse().unwrap()).unwrap();
    let text = replay.to_string();
    assert!(text.contains("bound to acme_copier") && text.contains("its user is served"), "{text}");
    assert!(text.ends_with("no promise was broken on this path"), "{text}");
}

/// The device raises another line than the one that the device tree names.
#[test]
fn an_interrupt_that_does_not_rise_is_a_finding() {
    let lifecycle = lifecycle(LINE + 1).faults(0).preemptions(0);
    let report = lifecycle.run(&lifecycle.engine()).unwrap();
    assert!(!report.passed());
    assert!(report.findings.iter().any(|finding| finding.detail == "no interrupt"), "{report}");
    let replay = lifecycle.replay(&lifecycle.engine(), &report.findings[0].path).unwrap();
    assert!(replay.to_string().ends_with("1 promise was broken on this path"), "{replay}");
}
