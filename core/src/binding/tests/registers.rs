//! Windows of registers with sizes known at compile time.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use super::*;
use crate::binding::{MmioHandle, Register, RegisterArray, RegisterWindow, ResourceError};
use crate::env::IoError;

const CONTROL: Register<u32, 0x00> = Register::new();
const SLOTS: RegisterArray<u32, 0x08, 0x10, 3> = RegisterArray::new();

type Kept = Arc<Mutex<Vec<RegisterWindow<MmioHandle, 0x30>>>>;

struct Windows(Kept);

impl Driver for Windows {
    const NAME: &'static str = "windows";
    const MATCHES: &'static [Match] = &[Match::compatible("acme,widget")];
    type Data<'b> = ();

    fn probe(&self, dev: Bound<'_>) -> Result<(), ProbeError> {
        let regs = dev.mmio(0)?;
        let all = regs.window::<0x30>(0)?;
        all.write(CONTROL, 7)?;
        all.write_at(SLOTS, 2, 9)?;
        assert_eq!((regs.read32(0x00)?, regs.read32(0x28)?), (7, 9));
        let block = regs.window::<4>(0x28)?;
        assert_eq!(block.read(CONTROL)?, 9, "offsets count from the start of the window");
        assert_eq!(all.read_at(SLOTS, 3), Err(IoError::Bad { offset: 0x38, bytes: 4 }));

        let outside = |offset, bytes| ResourceError::OutsideWindow { offset, bytes, len: 64 };
        assert_eq!(regs.window::<0x40>(8).unwrap_err(), outside(8, 0x40), "the registers end before");
        assert_eq!(regs.window::<0x40>(u64::MAX - 7).unwrap_err(), outside(u64::MAX - 7, 0x40));
        assert_eq!(regs.window::<8>(0x24).unwrap_err(), outside(0x24, 8), "not aligned");
        assert!(regs.window::<6>(0x24).is_ok(), "a register of 4 bytes is the widest in it");
        self.0.lock().unwrap().push(all.handle());
        Ok(())
    }

    fn quiesce((): &()) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::never_started())
    }
}

#[test]
fn a_register_window_is_checked_when_it_is_opened_and_its_handle_fails_after_the_binding() {
    let (_, machine, _) = machine();
    let kept = Kept::default();
    machine.register(Windows(Arc::clone(&kept)));
    machine.add_device(widget()).unwrap();
    assert_eq!(machine.settle().bound, 1);
    let window = kept.lock().unwrap().pop().unwrap();
    assert_eq!(window.read(CONTROL), Ok(7));
    machine.unbind("1000.widget", "windows").unwrap();
    assert_eq!(window.read(CONTROL), Err(IoError::Gone), "P5");
    assert_eq!(window.write_at(SLOTS, 0, 1), Err(IoError::Gone), "P5");
    promises_hold(&machine);
}

/// Counts which accesses reach the env's window.
struct Direct(Arc<FakeEnv>);

impl Driver for Direct {
    const NAME: &'static str = "direct";
    const MATCHES: &'static [Match] = &[Match::compatible("acme,widget")];
    type Data<'b> = ();

    fn probe(&self, dev: Bound<'_>) -> Result<(), ProbeError> {
        let calls = || self.0.regs.called.load(Ordering::Relaxed);
        let regs = dev.mmio(0)?;
        let window = regs.window::<0x30>(0)?;
        window.write(CONTROL, 7)?;
        assert_eq!((window.read(CONTROL)?, regs.read16(0)?, calls()), (7, 7, 0), "mapped: without a call");
        let (beyond, across) = (IoError::Bad { offset: 64, bytes: 4 }, IoError::Bad { offset: 2, bytes: 4 });
        assert_eq!((regs.read32(64), regs.write32(2, 1)), (Err(beyond), Err(across)), "the window refuses");
        let calls_before = calls();
        assert_eq!((regs.handle().read32(0)?, calls()), (7, calls_before + 1), "a handle asks the window");
        Ok(())
    }

    fn quiesce((): &()) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::never_started())
    }
}

#[test]
fn mapped_registers_are_reached_without_the_env() {
    let (env, machine, _) = machine();
    machine.register(Direct(env));
    machine.add_device(widget()).unwrap();
    assert_eq!(machine.settle().bound, 1);
}
