//! Bus mastering and resets of one function.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::super::bus_device::BusFunction;
use super::super::{Bar, BarKind, Capability, ConfigSpace, Function, FunctionId, Header};
use crate::bus::{BusDevice, BusError};
use crate::env::fake::FakeEnv;
use crate::env::{IoError, Width};
use crate::machine::Policy;
use crate::sync::SpinLock;

const AT: FunctionId = FunctionId { segment: 0, bus: 1, device: 0, function: 0 };
const EXPRESS: u16 = 0x40;
const FEATURES: u16 = 0x60;
/// Access control services, which are in the extended part.
const SERVICES: u16 = 0x100;

/// What a function does beyond remembering.
#[derive(Default)]
struct State {
    bytes: Vec<u8>,
    present: bool,
    /// Looks at "transactions pending" that find it set after bus mastering went off.
    pending: u32,
    /// Looks at the vendor ID that find the function not ready after a reset.
    not_ready: u32,
    /// The command register keeps the bit of bus mastering.
    stuck: bool,
    resets: u32,
}

struct Config(SpinLock<State>);

impl Config {
    fn new(express: bool) -> Arc<Self> {
        let mut state = State { bytes: [0; 512].into(), present: true, ..State::default() };
        let mut put = |at: u16, value: u32| state.bytes[usize::from(at)..][..4].copy_from_slice(&value.to_le_bytes());
        put(0, 0x11e8_1234);
        put(0x10, 0x1000_0000);
        if express {
            put(EXPRESS + 4, 1 << 28);
            put(EXPRESS + 8, 0x2810);
        }
        Arc::new(Self(SpinLock::new(state)))
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.0.lock());
    }

    fn word(&self, at: u16) -> u32 {
        let s = self.0.lock();
        u32::from_le_bytes(s.bytes[usize::from(at)..][..4].try_into().unwrap())
    }
}

impl ConfigSpace for Config {
    fn size(&self) -> u16 {
        512
    }

    fn read(&self, at: FunctionId, offset: u16, width: Width) -> Result<u32, IoError> {
        let mut s = self.0.lock();
        let mask = u32::MAX >> (32 - 8 * width.bytes());
        if at != AT || !s.present {
            return Ok(mask);
        }
        if offset == 0 && s.not_ready > 0 {
            s.not_ready -= 1;
            return Ok(0xffff_0001 & mask);
        }
        if (offset == EXPRESS + 10 || offset == FEATURES + 5) && s.pending > 0 {
            s.pending -= 1;
            return Ok(if offset == FEATURES + 5 { 1 } else { 1 << 5 });
        }
        let bytes: Vec<u8> = s.bytes[usize::from(offset)..].iter().copied().take(width.bytes() as usize).collect();
        Ok(bytes.iter().rev().fold(0, |value, byte| value << 8 | u32::from(*byte)))
    }

    fn write(&self, _: FunctionId, offset: u16, width: Width, value: u32) -> Result<(), IoError> {
        let mut s = self.0.lock();
        let value = if offset == 4 && s.stuck { value | 4 } else { value };
        let reset = (offset == EXPRESS + 8 && value & 1 << 15 != 0) || (offset == FEATURES + 4 && value & 1 != 0);
        if reset {
            s.resets += 1;
            for register in [
                0x04..0x06,
                0x10..0x28,
                0x3c..0x40,
                usize::from(EXPRESS + 8)..usize::from(EXPRESS + 10),
                usize::from(SERVICES + 4)..usize::from(SERVICES + 8),
            ] {
                s.bytes[register].fill(0);
            }
            return Ok(());
        }
        for (byte, value) in
            s.bytes[usize::from(offset)..].iter_mut().zip(value.to_le_bytes()).take(width.bytes() as usize)
        {
            *byte = value;
        }
        Ok(())
    }
}

fn function(header: Header, caps: &[(u16, u16)]) -> Function {
    Function {
        at: AT,
        id: (0x1234, 0x11e8),
        subsystem: None,
        class: 0,
        revision: 0,
        header,
        bars: [Bar {
            index: 0,
            kind: BarKind::Memory { wide: false, prefetchable: false },
            size: 4096,
            address: Some(0x1000_0000),
        }]
        .into(),
        capabilities: caps
            .iter()
            .map(|(id, at)| Capability { id: *id, at: *at, extended: false })
            .chain([Capability { id: Capability::ACCESS_CONTROL, at: SERVICES, extended: true }])
            .collect(),
        port: None,
        slot: false,
        errors: None,
        containment: None,
        msi: None,
        msi_x: None,
        interrupt_pin: 0,
        function_reset: !caps.is_empty(),
    }
}

fn device(config: &Arc<Config>, function: &Function) -> BusFunction {
    let machine = FakeEnv::new().machine(Policy::default());
    BusFunction::new(Arc::clone(config) as _, machine.system_clock(), function, &[])
}

const BOTH: [(&[(u16, u16)], bool); 2] =
    [(&[(Capability::EXPRESS, EXPRESS)], true), (&[(Capability::ADVANCED_FEATURES, FEATURES)], false)];

#[test]
fn bus_mastering_is_off_when_the_accesses_under_way_have_ended() {
    for (caps, express) in BOTH {
        let config = Config::new(express);
        let device = device(&config, &function(Header::Device, caps));
        device.set_bus_master(true).unwrap();
        assert_eq!(config.word(4) & 0x407, 0b110, "it masters, decodes memory, and its pin is as it was");
        config.change(|s| s.pending = 5);
        assert_eq!(device.set_bus_master(false), Ok(()));
        assert_eq!((config.word(4) & 0x407, config.0.lock().pending), (0x402, 0), "the five looks were waited for");
        config.change(|s| s.pending = u32::MAX);
        assert_eq!(device.set_bus_master(false), Err(BusError::Busy));
        config.change(|s| (s.pending, s.stuck) = (0, true));
        device.set_bus_master(true).unwrap();
        assert_eq!(device.set_bus_master(false), Err(BusError::Busy), "the bit stays set");
        config.change(|s| s.present = false);
        assert_eq!(
            (device.set_bus_master(false), device.set_bus_master(true)),
            (Err(BusError::Gone), Err(BusError::Gone))
        );
    }
}

#[test]
fn a_reset_leaves_the_registers_where_they_were_and_what_the_core_has_set() {
    for (caps, express) in BOTH {
        let config = Config::new(express);
        let device = device(&config, &function(Header::Device, caps));
        device.set_bus_master(true).unwrap();
        config.change(|s| s.not_ready = 3);
        let control = config.word(EXPRESS + 8);
        config.write(AT, SERVICES + 6, Width::W16, 0x1d).unwrap();
        assert_eq!(device.reset(), Ok(true));
        assert_eq!(config.word(SERVICES + 4) >> 16, 0x1d, "it is as isolated as before (P7)");
        assert_eq!((config.word(0x10), config.word(4) & 0x406), (0x1000_0000, 0x406));
        assert_eq!((config.word(EXPRESS + 8), config.0.lock().resets), (control, 1));
        config.change(|s| s.pending = u32::MAX);
        assert_eq!(device.reset(), Err(BusError::Busy), "a reset with reads under way confuses who answers them");
        config.change(|s| (s.pending, s.not_ready) = (0, u32::MAX));
        assert_eq!(device.reset(), Err(BusError::Gone), "it does not come back");
        config.change(|s| s.not_ready = 0);
        assert_eq!(config.word(0x10), 0);
        assert_eq!((device.reset(), config.word(0x10)), (Ok(true), 0x1000_0000), "it has come back late");
        assert_eq!(config.word(4) & 0x404, 0x404, "access to memory as the core wants it, after all");
        device.set_bus_master(false).unwrap();
        assert_eq!((device.reset(), config.word(4) & 0x404), (Ok(true), 0x400));
    }
}

#[test]
fn the_pin_is_on_only_between_its_first_and_its_last_user() {
    let config = Config::new(true);
    let device = device(&config, &function(Header::Device, &[(Capability::EXPRESS, EXPRESS)]));
    device.set_bus_master(false).unwrap();
    device.set_bus_master(true).unwrap();
    assert_eq!(config.word(4) & 0x404, 0x404, "nobody has requested its interrupt");
    device.set_interrupt_pin(true).unwrap();
    assert_eq!(config.word(4) & 0x406, 6);
    device.set_interrupt_pin(false).unwrap();
    assert_eq!(config.word(4) & 0x406, 0x406);
    device.set_interrupt_pin(true).unwrap();
    assert_eq!(device.reset(), Ok(true));
    assert_eq!(config.word(4) & 0x404, 4, "it has its user still");
    device.set_interrupt_pin(false).unwrap();
    assert_eq!((device.reset(), config.word(4) & 0x404), (Ok(true), 0x404));
    config.change(|s| s.present = false);
    assert_eq!(device.set_interrupt_pin(false), Err(BusError::Gone));
}

#[test]
fn what_has_no_reset_or_no_addresses_or_is_a_bridge_is_left_as_it_is() {
    let config = Config::new(false);
    let mut plain = function(Header::Device, &[]);
    assert_eq!(device(&config, &plain).reset(), Ok(false));
    plain.bars[0].address = None;
    device(&config, &plain).set_bus_master(true).unwrap();
    assert_eq!(config.word(4) & 6, 4, "it must not answer at an address that it was not given");
    let bridge = device(&config, &function(Header::Bridge, &[]));
    bridge.open_bridge().unwrap();
    bridge.set_bus_master(false).unwrap();
    assert_eq!(config.word(4) & 7, 7, "what is behind it goes on");
    assert_eq!(bridge.reset(), Ok(false));
}
