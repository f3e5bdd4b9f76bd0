//! Messages of one function: MSI in its four layouts, and MSI-X.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::super::bus_device::BusFunction;
use super::super::message::MessageRegisters;
use super::super::{Bar, BarKind, ConfigSpace};
use super::super::{Function, FunctionId, Header, Msi, MsiX, Space, Window};
use crate::addr::PhysAddr;
use crate::bus::{BusDevice, BusError, MessageKind, Messages};
use crate::env::fake::FakeEnv;
use crate::env::{Io, IoError, Width};
use crate::machine::Policy;
use crate::sync::SpinLock;
use crate::sync::atomic::Ordering;

const AT: FunctionId = FunctionId { segment: 0, bus: 0, device: 3, function: 0 };
const CAP: u16 = 0x50;
/// The registers of the fake env.
const TABLE_BUS: u64 = 0x8000_0000;

/// Configuration space that remembers, and every write to it in order.
#[derive(Default)]
struct State {
    bytes: Vec<u8>,
    writes: Vec<(u16, u32)>,
    gone: bool,
    /// Accesses after which it is gone.
    left: Option<usize>,
}

impl State {
    /// Counts an access.
    fn count(&mut self) {
        self.gone |= self.left == Some(0);
        self.left = self.left.map(|left| left.saturating_sub(1));
    }
}

struct Config(SpinLock<State>);

impl Config {
    fn new() -> Arc<Self> {
        Arc::new(Self(SpinLock::new(State { bytes: [0; 256].into(), ..State::default() })))
    }

    fn word(&self, at: u16) -> u32 {
        self.read(AT, at, Width::W32).unwrap()
    }

    fn half(&self, at: u16) -> u32 {
        self.read(AT, at, Width::W16).unwrap()
    }
}

impl ConfigSpace for Config {
    fn size(&self) -> u16 {
        256
    }

    fn read(&self, _: FunctionId, offset: u16, width: Width) -> Result<u32, IoError> {
        let mut s = self.0.lock();
        s.count();
        let len = width.bytes() as usize;
        if s.gone {
            return Ok(u32::MAX >> (32 - 8 * len));
        }
        Ok(s.bytes[usize::from(offset)..][..len].iter().rev().fold(0, |value, b| value << 8 | u32::from(*b)))
    }

    fn write(&self, _: FunctionId, offset: u16, width: Width, value: u32) -> Result<(), IoError> {
        let mut s = self.0.lock();
        s.count();
        if s.gone {
            return Ok(());
        }
        let len = width.bytes() as usize;
        s.writes.push((offset, value));
        s.bytes[usize::from(offset)..][..len].copy_from_slice(&value.to_le_bytes()[..len]);
        Ok(())
    }
}

fn function(msi: Option<Msi>, msi_x: Option<MsiX>) -> Function {
    let kind = BarKind::Memory { wide: false, prefetchable: false };
    Function {
        at: AT,
        id: (0x1234, 0x5678),
        subsystem: None,
        class: 0,
        revision: 0,
        header: Header::Device,
        bars: [Bar { index: 2, kind, size: 0x1000, address: Some(TABLE_BUS) }].into(),
        capabilities: Vec::new(),
        port: None,
        slot: false,
        errors: None,
        containment: None,
        msi,
        msi_x,
        interrupt_pin: 1,
        function_reset: false,
    }
}

#[test]
fn msi_is_written_in_each_of_its_layouts_and_masked_where_it_can_be() {
    let fake = FakeEnv::new();
    let machine = fake.machine(Policy::default());
    for (wide, maskable) in [(false, false), (false, true), (true, false), (true, true)] {
        let config = Config::new();
        let msi = Msi { at: CAP, vectors: 8, wide, maskable };
        let bus = BusFunction::new(Arc::clone(&config) as _, machine.system_clock(), &function(Some(msi), None), &[]);
        assert_eq!(bus.messages(), Messages { msi: 8, wide, ..Messages::default() });
        let address = if wide { 0x12_fee0_1000 } else { 0xfee0_1000 };
        let messages: Vec<_> = (0x40..0x44).map(|data| (address, data)).collect();
        bus.enable_messages(MessageKind::Msi, &messages, &*fake).unwrap();
        assert_eq!(config.half(CAP + 2), 1 | 2 << 4, "enabled, four messages");
        assert_eq!(config.word(CAP + 4), 0xfee0_1000);
        let data = CAP + if wide { 12 } else { 8 };
        assert_eq!((config.half(data), !wide || config.word(CAP + 8) == 0x12), (0x40, true));
        // It is enabled last, with all masked.
        assert_eq!(config.0.lock().writes.last().unwrap().0, CAP + 2);
        if maskable {
            assert_eq!(config.word(data + 4), u32::MAX);
            bus.set_message_masked(2, false).unwrap();
            assert_eq!(config.word(data + 4), !4);
            bus.set_message_masked(2, true).unwrap();
            assert_eq!(config.word(data + 4), u32::MAX);
        } else {
            bus.set_message_masked(2, false).unwrap();
        }
        bus.disable_messages().unwrap();
        assert_eq!(config.half(CAP + 2) & 1, 0);
        // What it cannot have.
        let many: Vec<_> = (0..16).map(|data| (address, data)).collect();
        assert_eq!(bus.enable_messages(MessageKind::Msi, &many, &*fake), Err(BusError::Busy));
        let high = [(1 << 32, 0)];
        assert_eq!(bus.enable_messages(MessageKind::Msi, &high, &*fake).is_ok(), wide);
        assert_eq!(bus.enable_messages(MessageKind::MsiX, &high, &*fake), Err(BusError::Busy));
        config.0.lock().gone = true;
        assert_eq!(bus.disable_messages(), Err(BusError::Gone));
    }
}

#[test]
fn the_table_of_msi_x_is_written_while_all_are_masked() {
    let fake = FakeEnv::new();
    let machine = fake.machine(Policy::default());
    let config = Config::new();
    // The fake env's registers have four entries.
    let msi_x = MsiX { at: CAP, vectors: 3, table: (2, 0), pending: (2, 0x800) };
    let windows = [Window { space: Space::Memory, bus: TABLE_BUS, phys: PhysAddr(0x5000), len: 0x1000 }];
    let bus =
        BusFunction::new(Arc::clone(&config) as _, machine.system_clock(), &function(None, Some(msi_x)), &windows);
    assert_eq!(bus.messages(), Messages { msi_x: 3, table: Some((PhysAddr(0x5000), 48)), ..Messages::default() });
    let messages = [(0x1_0000_1040, 7), (0x2040, 9)];
    bus.enable_messages(MessageKind::MsiX, &messages, &*fake).unwrap();
    let entry = |n: u64| [0, 4, 8, 12].map(|at| fake.regs.read(n * 16 + at, Width::W32).unwrap());
    assert_eq!(entry(0), [0x1040, 1, 7, 1]);
    assert_eq!(entry(1), [0x2040, 0, 9, 1]);
    assert_eq!(entry(2)[3], 1, "one that is not used is masked, too");
    let controls: Vec<_> = config.0.lock().writes.iter().map(|(_, value)| *value).collect();
    assert_eq!(controls, [0xc000, 0x8000], "all masked, then each by itself");
    bus.set_message_masked(1, false).unwrap();
    assert_eq!((entry(0)[3], entry(1)[3]), (1, 0));
    bus.set_message_masked(1, true).unwrap();
    assert_eq!(entry(1)[3], 1);
    bus.disable_messages().unwrap();
    assert_eq!(config.half(CAP + 2) & 0x8000, 0);
    bus.set_message_masked(1, false).unwrap();
    assert_eq!(entry(1)[3], 1, "nothing is touched once they are off");
    // A table that the CPU does not reach.
    let none = BusFunction::new(Arc::clone(&config) as _, machine.system_clock(), &function(None, Some(msi_x)), &[]);
    assert_eq!(none.messages().msi_x, 0);
    let too_many = [(0, 0); 4];
    assert_eq!(bus.enable_messages(MessageKind::MsiX, &too_many, &*fake), Err(BusError::Busy));
}

/// At every access of it; then it comes back from a reset.
#[test]
fn messages_stay_off_of_a_function_that_went_while_they_were_switched_off() {
    let fake = FakeEnv::new();
    let msi = Msi { at: CAP, vectors: 8, wide: true, maskable: true };
    let msi_x = MsiX { at: CAP + 0x20, vectors: 3, table: (2, 0), pending: (2, 0x800) };
    let windows = [Window { space: Space::Memory, bus: TABLE_BUS, phys: PhysAddr(0x5000), len: 0x1000 }];
    for kind in [MessageKind::Msi, MessageKind::MsiX] {
        for answered in 0.. {
            let config = Config::new();
            let space: Arc<dyn ConfigSpace + Send + Sync> = Arc::clone(&config) as _;
            let registers = MessageRegisters::new(&space, &function(Some(msi), Some(msi_x)), &windows);
            let mappings = Arc::strong_count(&fake.regs);
            registers.enable(kind, &[(0x1040, 7), (0x1040, 8)], &*fake).unwrap();
            config.0.lock().left = Some(answered);
            let off = registers.disable();
            assert_eq!(Arc::strong_count(&fake.regs), mappings, "the table is unmapped");
            *config.0.lock() = State { bytes: [0; 256].into(), ..State::default() };
            let called = fake.regs.called.load(Ordering::Relaxed);
            registers.restore().unwrap();
            registers.set_masked(1, false).unwrap();
            assert_eq!(config.0.lock().writes, [], "P5: {kind:?}, gone after {answered} accesses");
            assert_eq!(
                fake.regs.called.load(Ordering::Relaxed),
                called,
                "P5: {kind:?}, gone after {answered} accesses"
            );
            if off.is_ok() {
                assert!(answered > 4);
                break;
            }
            assert_eq!(off, Err(BusError::Gone));
        }
    }
}
