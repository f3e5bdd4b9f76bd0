//! Error reporting and containment: registers of a root port and of a device below it.

use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;
use std::sync::Mutex;

use super::super::{
    ConfigSpace, ContainedBy, ErrorRegisters, Errors, FunctionId, Functions, HostBridge, Port, Received, Severity,
    enumerate,
};
use super::WINDOWS;
use super::model::{Model, Part};
use crate::bus::{BusDevice, BusError};
use crate::env::fake::FakeEnv;
use crate::env::{IoError, Width};
use crate::machine::{Handle, Policy};

/// Offsets of the PCI Express, error and containment capabilities.
const EXPRESS: usize = 0x40;
const AER: usize = 0x100;
const DPC: usize = 0x140;

const PORT: FunctionId = at(0);
const DEVICE: FunctionId = at(1);

const fn at(bus: u8) -> FunctionId {
    FunctionId { segment: 0, bus, device: 0, function: 0 }
}

struct Shared(Mutex<Option<Model>>);

impl ConfigSpace for Shared {
    fn size(&self) -> u16 {
        4096
    }

    fn read(&self, at: FunctionId, offset: u16, width: Width) -> Result<u32, IoError> {
        let ones = u32::MAX >> (32 - 8 * width.bytes());
        self.0.lock().unwrap().as_ref().map_or(Ok(ones), |model| model.read(at, offset, width))
    }

    fn write(&self, at: FunctionId, offset: u16, width: Width, value: u32) -> Result<(), IoError> {
        self.0.lock().unwrap().as_ref().map_or(Ok(()), |model| model.write(at, offset, width, value))
    }
}

/// With the capability for errors, in which a device's severities are the default ones.
fn reporting(part: Part, next: u32) -> Part {
    let part = part.word(AER, 0x0001_0001 | next << 20).clears(AER + 4, u32::MAX).mask(AER + 8, u32::MAX);
    let part = part.mask(AER + 0xc, u32::MAX).word(AER + 0xc, 0x0046_2030).clears(AER + 0x10, 0xffff);
    part.mask(AER + 0x14, 0xffff).mask(AER + 0x2c, 7).clears(AER + 0x30, 0x7f)
}

/// A root port with a slot, whose link is up.
fn port() -> Part {
    let part = Part::bridge().capability(EXPRESS as u8, 0x10, 0).byte(EXPRESS + 2, 0x42).byte(EXPRESS + 3, 1);
    let part = part.word(EXPRESS + 0xc, 1 << 20).word(EXPRESS + 0x10, 1 << 29).mask(EXPRESS + 8, 0xf);
    let part = part.word(EXPRESS + 0x18, 1 << 22).mask(EXPRESS + 0x18, 0x1fff).clears(EXPRESS + 0x18, 0x011f_0000);
    let part = reporting(part.mask(0x3c, 0x0043_0000), DPC as u32);
    part.word(DPC, 0x0001_001d).mask(DPC + 4, 0xffff_0000).clears(DPC + 8, 0x0f)
}

struct Rig {
    config: Arc<Shared>,
    machine: Handle,
    functions: Functions,
    port: Port,
    device: ErrorRegisters,
}

impl Rig {
    fn new() -> Self {
        let mut model = Model::new(4096);
        let above = model.add(None, 0, 0, port());
        let device = Part::device().capability(EXPRESS as u8, 0x10, 0).byte(EXPRESS + 2, 2).mask(EXPRESS + 8, 0xf);
        model.add(Some(above), 0, 0, reporting(device, 0));
        let config = Arc::new(Shared(Mutex::new(Some(model))));
        let host = HostBridge { config: &*config, segment: 0, buses: 0..=255, windows: &WINDOWS };
        let found = enumerate(&host).unwrap();
        assert_eq!((found.functions.len(), &found.problems[..]), (2, &[][..]));
        let machine = FakeEnv::new().machine(Policy::default());
        let functions = Functions::new(Arc::clone(&config) as _, machine.system_clock(), &WINDOWS, &found);
        let port = functions.port(&found.functions[0]).unwrap();
        assert!(functions.port(&found.functions[1]).is_none(), "a device is no port");
        let device = functions.errors(&found.functions[1]).unwrap();
        Self { config, machine, functions, port, device }
    }

    fn happen(&self, at: FunctionId, offset: usize, bits: u32) {
        self.config.0.lock().unwrap().as_ref().unwrap().happen(at, offset, bits);
    }

    fn word(&self, at: FunctionId, offset: usize) -> u32 {
        self.config.read(at, offset as u16, Width::W32).unwrap()
    }

    /// What can be signalled: by the slot, for errors, for containment.
    fn armed(&self) -> (u32, u32, u32) {
        let slot = self.word(PORT, EXPRESS + 0x18) & 0xffff;
        (slot, self.word(PORT, AER + 0x2c), self.word(PORT, DPC + 4) >> 16)
    }
}

#[test]
fn errors_are_told_apart_by_severity_and_mask_and_taken_once() {
    let rig = Rig::new();
    rig.happen(DEVICE, AER + 4, 1 << 4);
    rig.device.enable().unwrap();
    assert_eq!(rig.device.take(), Ok(Errors::default()), "from before");
    assert_eq!(rig.word(DEVICE, EXPRESS + 8) & 0xf, 7);
    // Malformed is fatal, a completion timeout is not, and a completer abort is masked.
    rig.config.write(DEVICE, AER as u16 + 8, Width::W32, 1 << 15).unwrap();
    rig.happen(DEVICE, AER + 4, 1 << 18 | 1 << 14 | 1 << 15);
    rig.happen(DEVICE, AER + 0x10, 1 << 6);
    rig.happen(DEVICE, AER + 0x18, 18);
    rig.happen(DEVICE, AER + 0x1c, 0x4000_0001);
    let taken = rig.device.take().unwrap();
    let expected = Errors { fatal: 1 << 18, non_fatal: 1 << 14, correctable: 1 << 6, header: [0x4000_0001, 0, 0, 0] };
    assert_eq!((taken, taken.severity()), (expected, Some(Severity::Fatal)));
    let text = "malformed request, completion timeout, bad request (request 40000001 00000000 00000000 00000000)";
    assert_eq!(taken.to_string(), text);
    assert_eq!((rig.device.take(), rig.word(DEVICE, AER + 4)), (Ok(Errors::default()), 0), "the masked one, too");
    // One that nobody has named, without a header: the log is an older one's.
    rig.happen(DEVICE, AER + 4, 1 << 31);
    let taken = rig.device.take().unwrap();
    assert_eq!((taken.severity(), taken.to_string()), (Some(Severity::NonFatal), "error 31".into()));
    assert!(!taken.is_surprise_down() && Errors { fatal: 1 << 5, ..Errors::default() }.is_surprise_down());
}

#[test]
fn a_root_port_knows_the_first_sender_and_that_there_were_others() {
    let rig = Rig::new();
    let errors = rig.port.errors().unwrap();
    errors.enable().unwrap();
    assert_eq!(errors.take_received(), Ok(Received::default()));
    rig.happen(PORT, AER + 0x30, 0b101_1111);
    rig.happen(PORT, AER + 0x34, 0x0100_0208);
    let all = Received { correctable: Some(0x208), uncorrectable: Some(0x100), fatal: true, several: true };
    assert_eq!(errors.take_received(), Ok(all));
    assert_eq!(errors.take_received(), Ok(Received::default()));
    rig.happen(PORT, AER + 0x30, 0b10_0100);
    let one = Received { correctable: None, uncorrectable: Some(0x100), fatal: false, several: false };
    assert_eq!(errors.take_received(), Ok(one));
    assert_eq!(rig.device.take_received(), Ok(Received::default()), "a device receives nothing");
}

#[test]
fn a_port_is_disarmed_by_what_has_happened_and_by_nothing_else() {
    let rig = Rig::new();
    let (off, on) = ((0, 0, 0), (0x1029, 7, 8));
    assert!(rig.port.signals());
    assert_eq!(rig.port.arm(true), Ok(false));
    assert_eq!(rig.armed(), on);
    assert!(!rig.port.disarm());
    assert_eq!(rig.armed(), on);
    // The attention button, a link; errors of both kinds; containment.
    for (offset, bits) in
        [(EXPRESS + 0x18, 1 << 16), (EXPRESS + 0x18, 1 << 24), (AER + 0x30, 1), (AER + 0x30, 1 << 5), (DPC + 8, 8)]
    {
        rig.happen(PORT, offset, bits);
        assert!(rig.port.disarm());
        assert_eq!(rig.armed(), off);
        assert_eq!(rig.port.arm(true), Ok(true), "what has happened may not be signalled");
        rig.config.write(PORT, offset as u16, Width::W32, bits).unwrap();
        assert_eq!(rig.port.arm(true), Ok(false));
        assert!(!rig.port.disarm());
    }
    rig.port.arm(false).unwrap();
    assert_eq!(rig.armed(), (0x1029, 6, 8));
    rig.happen(PORT, AER + 0x30, 1);
    assert_eq!(rig.port.arm(false), Ok(false));
    assert!(!rig.port.disarm(), "correctable errors are not signalled: another device on its line has");
    rig.port.silence().unwrap();
    assert_eq!(rig.armed(), (0, 0, 0));
    rig.happen(PORT, DPC + 8, 8);
    assert!(!rig.port.disarm(), "nothing is signalled");
    rig.port.arm(false).unwrap();
    rig.port.watch().unwrap();
    assert_eq!(rig.armed(), (0x1029, 6, 9), "fatal errors alone are contained");
}

#[test]
fn a_link_is_taken_down_once_and_no_reset_brings_it_up_before_its_time() {
    let rig = Rig::new();
    let clock = rig.machine.system_clock();
    let device = {
        let host = HostBridge { config: &*rig.config, segment: 0, buses: 0..=255, windows: &WINDOWS };
        let found = enumerate(&host).unwrap();
        rig.functions.reach(found.function(DEVICE).unwrap())
    };
    let in_reset = || rig.word(PORT, 0x3c) >> 16 & 1 << 6 != 0;
    assert_eq!((rig.port.contained(), rig.port.contain(), in_reset()), (Ok(None), Ok(()), true));
    assert_eq!((device.reset_bus(), in_reset()), (Err(BusError::Gone), true));
    assert_eq!((rig.port.contain(), rig.port.release(&clock), in_reset()), (Ok(()), Ok(true), false));
    assert_eq!((device.reset_bus(), in_reset()), (Ok(true), false));
    // The port has done so by itself: no reset is needed. Its link stays up in this model, so it cannot be let go.
    for (status, by) in [
        (1, ContainedBy::Port),
        (3, ContainedBy::NonFatal(0x100)),
        (5, ContainedBy::Fatal(0x100)),
        (7, ContainedBy::Other),
    ] {
        rig.config.write(PORT, DPC as u16 + 8, Width::W32, 1).unwrap();
        rig.happen(PORT, DPC + 8, 0x0100_0000 | status);
        assert_eq!((rig.port.contained(), rig.port.contain(), in_reset()), (Ok(Some(by)), Ok(()), false));
        assert_eq!(device.reset_bus(), Err(BusError::Gone));
        assert_eq!(rig.port.release(&clock), Err(BusError::Busy));
        rig.config.write(PORT, DPC as u16 + 8, Width::W32, 0x7).unwrap();
    }
}

#[test]
fn a_port_that_is_gone_says_so_and_is_disarmed_for_nobody() {
    let rig = Rig::new();
    *rig.config.0.lock().unwrap() = None;
    let errors = rig.port.errors().unwrap();
    assert_eq!((errors.take(), errors.take_received()), (Err(BusError::Gone), Err(BusError::Gone)));
    assert_eq!((errors.enable(), rig.port.arm(true)), (Err(BusError::Gone), Err(BusError::Gone)));
    assert!(!rig.port.disarm());
    assert_eq!((rig.port.contained(), rig.port.contain()), (Err(BusError::Gone), Err(BusError::Gone)));
    assert_eq!(rig.port.release(&rig.machine.system_clock()), Err(BusError::Gone));
}

#[test]
fn capabilities_that_do_not_fit_or_have_no_link_are_told_and_left_out() {
    let last = |id: u32, at: usize| Part::device().word(0x100, (at as u32) << 20 | 0x1_000b).word(at, 0x1_0000 | id);
    let one = |part: Part| {
        let mut model = Model::new(4096);
        model.add(None, 1, 0, part);
        let found = enumerate(&super::host(&model)).unwrap();
        let said: Vec<_> = found.problems.iter().map(ToString::to_string).collect();
        (found.functions[0].errors, found.functions[0].containment, said)
    };
    let cut = |what, at: usize| {
        alloc::vec![alloc::format!("0000:00:01.0: {what} at {at:#x}: reaches past the end of configuration space")]
    };
    assert_eq!(one(last(1, 0xfd4)), (Some(0xfd4), None, Vec::new()));
    assert_eq!(one(last(1, 0xfd8)), (None, None, cut("advanced error reporting", 0xfd8)));
    assert_eq!(one(last(0x1d, 0xff8)), (None, None, cut("downstream port containment", 0xff8)));
    let text = "0000:00:01.0: downstream port containment at 0xff0: the function is no port with a link below it";
    assert_eq!(one(last(0x1d, 0xff0)), (None, None, alloc::vec![text.into()]));
    // A root port's is longer.
    let root = |at: usize| {
        let part = Part::bridge().capability(0x40, 0x10, 0).byte(0x42, 0x42);
        part.word(0x100, (at as u32) << 20 | 0x1_000b).word(at, 0x1_0001)
    };
    assert_eq!(one(root(0xfc8)), (Some(0xfc8), None, Vec::new()));
    assert_eq!(one(root(0xfcc)), (None, None, cut("advanced error reporting", 0xfcc)));
}
