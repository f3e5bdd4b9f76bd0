//! Reset of a bus: what is on it, and behind bridges on it.

use alloc::sync::Arc;
use alloc::vec::Vec;
use std::sync::Mutex;

use super::super::{ConfigSpace, FunctionId, Functions, HostBridge, enumerate};
use super::WINDOWS;
use super::model::{Model, Part};
use crate::bus::{BusDevice, BusError};
use crate::env::fake::FakeEnv;
use crate::env::{IoError, Width};
use crate::machine::Policy;

/// Functions that lose what software has written when their bus is reset.
struct Resettable {
    model: Mutex<Model>,
    /// A function that does not answer after its bus was reset.
    late: Mutex<Option<FunctionId>>,
    reset: Mutex<bool>,
}

impl ConfigSpace for Resettable {
    fn size(&self) -> u16 {
        256
    }

    fn read(&self, at: FunctionId, offset: u16, width: Width) -> Result<u32, IoError> {
        if *self.reset.lock().unwrap() && *self.late.lock().unwrap() == Some(at) {
            return Ok(u32::MAX >> (32 - 8 * width.bytes()));
        }
        self.model.lock().unwrap().read(at, offset, width)
    }

    fn write(&self, at: FunctionId, offset: u16, width: Width, value: u32) -> Result<(), IoError> {
        let model = self.model.lock().unwrap();
        model.write(at, offset, width, value)?;
        if offset == 0x3e && value & 1 << 6 != 0 {
            model.reset_behind(at);
            *self.reset.lock().unwrap() = true;
        }
        Ok(())
    }
}

const fn at(bus: u8, device: u8) -> FunctionId {
    FunctionId { segment: 0, bus, device, function: 0 }
}

#[test]
fn what_is_on_the_bus_and_behind_bridges_on_it_is_as_before() {
    let mut model = Model::new(256);
    let above = model.add(None, 1, 0, Part::bridge().mask(0x3c, 0x0040_0000));
    model.add(Some(above), 0, 0, Part::device().bar(0, 0x1000, 0).bar(1, 0x1_0000, 0xc));
    let below = model.add(Some(above), 1, 0, Part::bridge());
    model.add(Some(below), 3, 0, Part::device().bar(0, 0x2000, 0));
    let config = Arc::new(Resettable { model: Mutex::new(model), late: Mutex::default(), reset: Mutex::default() });
    let host = HostBridge { config: &*config, segment: 0, buses: 0..=255, windows: &WINDOWS };
    let found = enumerate(&host).unwrap();
    let machine = FakeEnv::new().machine(Policy::default());
    let functions = Functions::new(Arc::clone(&config) as _, machine.system_clock(), &WINDOWS, &found);
    let reach = |at| functions.reach(found.function(at).unwrap());
    for bridge in &found.bridges {
        reach(bridge.at).open_bridge().unwrap();
    }
    let device = reach(at(1, 0));
    device.set_bus_master(true).unwrap();
    let everything = || {
        let registers = |f: &super::Function| (0..64).map(move |word| (f.at, 4 * word)).collect::<Vec<_>>();
        let all = found.functions.iter().flat_map(registers);
        all.map(|(at, offset)| (at, offset, config.read(at, offset, Width::W32).unwrap())).collect::<Vec<_>>()
    };
    let before = everything();
    assert_eq!(device.reset(), Ok(false), "it cannot be reset by itself");
    assert_eq!(reach(at(0, 1)).reset_bus(), Ok(false), "a bridge on the host bridge's own bus");
    assert_eq!(everything(), before);
    for late in [None, Some(at(2, 3)), Some(at(1, 1)), Some(at(1, 0))] {
        *config.late.lock().unwrap() = late;
        let came_back = late != Some(at(1, 0));
        assert_eq!(device.reset_bus(), if came_back { Ok(true) } else { Err(BusError::Gone) }, "{late:?}");
        *config.late.lock().unwrap() = None;
        *config.reset.lock().unwrap() = false;
        let same = everything() == before;
        assert_eq!(same, late.is_none(), "{late:?}");
        // What has come back too late is set again by the next reset.
        assert_eq!((device.reset_bus(), everything() == before), (Ok(true), true), "{late:?}");
        *config.reset.lock().unwrap() = false;
    }
    // And by its next driver's binding.
    *config.late.lock().unwrap() = Some(at(1, 0));
    assert_eq!(device.reset_bus(), Err(BusError::Gone));
    *config.late.lock().unwrap() = None;
    device.set_bus_master(true).unwrap();
    assert!(everything() == before);
}
