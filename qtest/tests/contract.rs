//! What the core relies on of an env, held by the simulated board and by QEMU alike.
// UNSAFETY: memory windows are raw pointers, which these tests read and write as the core does.
#![allow(clippy::unwrap_used)]
#![expect(unsafe_code, reason = "dereferences windows of RAM under the contract of `Memory::window`")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bindery::addr::{PAGE_SIZE, PhysAddr};
use bindery::env::{Caching, Env, EnvError, Instant, IoError, IrqControl, IrqLine, Trigger, Width};
use bindery::sync::Waiter;
use bindery_qtest::Machine as Qemu;
use common::{Bench, Target, qemu, sim};

fn memory_is_what_its_ranges_say(env: &dyn Env) {
    let memory = env.memory();
    let ranges = memory.ranges();
    let mut end = PhysAddr(0);
    for range in &ranges {
        assert!(range.base >= end && range.base.0 % PAGE_SIZE == 0 && range.len % PAGE_SIZE == 0 && range.len > 0);
        end = range.base + range.len;
        let window = |at, len| memory.window(at, len, Caching::Cached);
        let whole = window(range.base, range.len).expect("a whole range has a window");
        assert_eq!(whole.0.as_ptr() as usize % PAGE_SIZE as usize, 0, "aligned as the address is");
        let uncached = memory.window(range.base, PAGE_SIZE, Caching::Uncached).unwrap();
        // SAFETY: `window` vouches for a page at each pointer, and nobody else uses the target's RAM.
        unsafe {
            uncached.0.as_ptr().write(7);
            assert_eq!(uncached.0.as_ptr().read(), 7);
            whole.0.as_ptr().add(range.len as usize - 1).write(9);
        }
        let last = window(PhysAddr(end.0 - 1), 1).unwrap();
        // SAFETY: as above, for one byte.
        assert_eq!(unsafe { last.0.as_ptr().read() }, 9, "two windows show the same byte");
        assert!(window(PhysAddr(end.0 - 1), 2).is_none() || ranges.iter().any(|r| r.base == end), "past the end");
        assert!(window(range.base, u64::MAX).is_none());
    }
    assert!(memory.window(PhysAddr(u64::MAX), 1, Caching::Cached).is_none());
    assert!(!ranges.is_empty() && Arc::ptr_eq(&memory, &env.memory()), "the same object every time");
}

fn registers_are_mapped_and_checked(bench: &Bench<impl Target>) {
    let env = &bench.env;
    let ram = bench.target.ram();
    for (base, len) in [(ram, 16), (bench.target.pci().0.0, 0), (PhysAddr(u64::MAX - 3), 16)] {
        assert_eq!(env.map_io(base, len).err(), Some(EnvError::NoSuchRegisters { base, len }));
    }
    let regs = &bench.regs;
    for (offset, width) in
        [(regs.size(), Width::W32), (regs.size() - 4, Width::W64), (2, Width::W32), (u64::MAX, Width::W8)]
    {
        let bad = IoError::Bad { offset, bytes: width.bytes() as u8 };
        assert_eq!((regs.read(offset, width), regs.write(offset, width, 0)), (Err(bad), Err(bad)));
    }
    assert_eq!(regs.read(0, Width::W32), Ok(0x0100_00ed));
    regs.write(4, Width::W32, 0xffff_ffff_1234_5678).unwrap();
    assert_eq!(regs.read(4, Width::W32), Ok(0xedcb_a987), "only the low half is written");
}

fn time_passes_in_waits(bench: &Bench<impl Target>) {
    let env = &bench.env;
    let waiter = Waiter::of_this_thread();
    let (start, token) = (env.now(), waiter.token());
    let until = start + Duration::from_millis(20);
    while env.now() < until {
        env.wait(&token, until);
    }
    assert!(env.now() < until + Duration::from_millis(1));
    token.waker().wake();
    let now = env.now();
    env.wait(&token, now + Duration::from_secs(1000));
    assert!(env.now() < now + Duration::from_millis(1), "a token that is past ends a wait at once");
    env.wait(&waiter.token(), now);
    // A deadline of the receiver is kept, and not earlier.
    let deadline = env.now() + Duration::from_millis(3);
    *bench.sink.deadline.lock().unwrap() = Some(deadline);
    let until = env.now() + Duration::from_millis(50);
    while env.now() < until {
        env.wait(&waiter.token(), until);
    }
    let timers = std::mem::take(&mut *bench.sink.timers.lock().unwrap());
    assert!(
        timers.len() == 1 && timers[0] >= deadline && timers[0] < deadline + Duration::from_millis(1),
        "{timers:?}"
    );
}

/// Another thread ends a wait that would have no end.
fn a_thread_ends_a_wait(env: &Arc<dyn Env>) {
    let waiter = Waiter::of_this_thread();
    let token = waiter.token();
    let waker = token.waker();
    let other = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(5));
        waker.wake();
    });
    while !token.is_past() {
        env.wait(&token, Instant::MAX);
    }
    other.join().unwrap();
}

/// Several threads wait at once. An interrupt that one of them delivers is not late for another one.
fn threads_wait_at_once(bench: &Bench<impl Target>) {
    let (env, pin, over) = (&bench.env, bench.target.pin(), Arc::new(AtomicBool::new(false)));
    let others = [(); 2].map(|()| {
        let (env, over) = (Arc::clone(env), Arc::clone(&over));
        std::thread::spawn(move || {
            let waiter = Waiter::of_this_thread();
            while !over.load(Ordering::Relaxed) {
                env.wait(&waiter.token(), env.now() + Duration::from_secs(1000));
            }
        })
    });
    let waiter = Waiter::of_this_thread();
    bench.command(6);
    env.irq(pin, IrqControl::Enable(Trigger::LevelHigh)).unwrap();
    *bench.sink.takes.lock().unwrap() = Duration::from_millis(10);
    let transfer = || {
        // It takes 100 ms.
        bench.transfer(0x4_0000, bench.target.ram().0, 8, 7);
        let until = env.now() + Duration::from_millis(300);
        loop {
            let is_over = env.now() >= until;
            let is_done = !std::mem::take(&mut *bench.sink.taken.lock().unwrap()).is_empty();
            if is_done || is_over {
                return is_done;
            }
            env.wait(&waiter.token(), until);
        }
    };
    let mut late = 0;
    for _ in 0..50 {
        if !transfer() {
            late += 1;
            bench.wait_for(|| !std::mem::take(&mut *bench.sink.taken.lock().unwrap()).is_empty());
        }
        bench.write(0x64, 0x100);
        env.irq(pin, IrqControl::Unmask).unwrap();
    }
    over.store(true, Ordering::Relaxed);
    for other in others {
        other.join().unwrap();
    }
    env.irq(pin, IrqControl::Disable).unwrap();
    *bench.sink.takes.lock().unwrap() = Duration::ZERO;
    // Two threads may have taken the last one, before its receiver masked the line.
    bench.sink.taken.lock().unwrap().clear();
    assert_eq!(late, 0, "of 50 transfers");
}

fn lines_are_delivered_as_their_trigger_says(bench: &Bench<impl Target>) {
    let (env, pin) = (&bench.env, bench.target.pin());
    let taken = || {
        bench.target.run_pending();
        std::mem::take(&mut *bench.sink.taken.lock().unwrap())
    };
    let control = |line, what| env.irq(line, what).unwrap();
    for line in [IrqLine(u32::MAX), IrqLine(60_000)] {
        for what in [IrqControl::Enable(Trigger::LevelHigh), IrqControl::Mask, IrqControl::Unmask, IrqControl::Disable]
        {
            assert_eq!(env.irq(line, what), Err(EnvError::NoSuchLine(line)));
        }
    }
    bench.command(6);
    bench.write(0x60, 1);
    assert_eq!(taken(), [], "nobody has enabled it");
    control(pin, IrqControl::Enable(Trigger::LevelHigh));
    assert_eq!(taken(), [pin], "it was high before");
    assert_eq!(taken(), [], "the receiver has masked it");
    control(pin, IrqControl::Unmask);
    assert_eq!(taken(), [pin], "still high");
    bench.write(0x64, 1);
    control(pin, IrqControl::Unmask);
    assert_eq!(taken(), [], "low again");
    // In a wait, too, which it ends.
    bench.transfer(0x4_0000, bench.target.ram().0, 8, 7);
    let (start, until) = (env.now(), env.now() + Duration::from_secs(100));
    let waiter = Waiter::of_this_thread();
    while bench.sink.taken.lock().unwrap().is_empty() && env.now() < until {
        env.wait(&waiter.token(), until);
    }
    assert!(env.now() < start + Duration::from_secs(1), "the wait ends with the interrupt");
    assert_eq!(taken(), [pin]);
    bench.write(0x64, 0x100);
    control(pin, IrqControl::Disable);

    let message = bench.target.message().2;
    control(message, IrqControl::Enable(Trigger::EdgeRising));
    bench.messages(true);
    bench.write(0x60, 1);
    assert_eq!(taken(), [message]);
    control(message, IrqControl::Unmask);
    assert_eq!(taken(), [], "one delivery for an edge");
    control(message, IrqControl::Mask);
    bench.write(0x60, 1);
    assert_eq!(taken(), [], "masked");
    control(message, IrqControl::Unmask);
    assert_eq!(taken(), [message], "an edge that came while it was masked");
    control(message, IrqControl::Disable);
    bench.write(0x60, 1);
    control(message, IrqControl::Enable(Trigger::EdgeRising));
    assert_eq!(taken(), [], "what came before it was enabled is nobody's");
    bench.messages(false);
    bench.write(0x64, 1);
    control(message, IrqControl::Disable);
}

fn holds<T: Target>(target: T) -> Bench<T> {
    let bench = Bench::new(target);
    memory_is_what_its_ranges_say(&*bench.env);
    registers_are_mapped_and_checked(&bench);
    time_passes_in_waits(&bench);
    a_thread_ends_a_wait(&bench.env);
    threads_wait_at_once(&bench);
    lines_are_delivered_as_their_trigger_says(&bench);
    bench
}

#[test]
fn the_board_keeps_the_contract() {
    holds(sim()).target.assert_clean();
}

#[test]
#[ignore = "needs qemu-system-x86_64"]
fn q35_keeps_the_contract() {
    assert_eq!(holds(qemu(Qemu::Q35)).target.error(), None);
}

#[test]
#[ignore = "needs qemu-system-aarch64"]
fn virt_keeps_the_contract() {
    assert_eq!(holds(qemu(Qemu::Virt)).target.error(), None);
}

#[test]
#[ignore = "needs qemu-system-x86_64"]
fn a_qemu_that_ends_leaves_registers_of_ones_and_its_last_words() {
    let bench = Bench::new(qemu(Qemu::Q35));
    // QEMU 7.2 ends on a transfer that is not inside the device's buffer.
    bench.transfer(0x4_0000, bench.target.ram().0, 8192, 3);
    let start = bench.env.now();
    bench.target.advance(start + Duration::from_millis(500));
    assert_eq!((bench.read(0), bench.read(4)), (0xffff_ffff, 0xffff_ffff));
    bench.write(4, 1);
    let error = bench.target.error().expect("it has ended");
    assert!(error.contains("has ended") && error.contains("out of bounds"), "{error}");
    // The clock goes on, and without QEMU nobody waits for it.
    let long = bench.env.now() + Duration::from_hours(1000);
    bench.target.advance(long);
    assert!(bench.env.now() >= long);
}

#[test]
#[ignore = "needs qemu-system-x86_64"]
fn a_run_is_the_same_each_time() {
    let run = || {
        let bench = Bench::new(qemu(Qemu::Q35));
        bench.enable_lines();
        bench.command(6);
        for round in 0..20 {
            bench.transfer(0x4_0000, bench.target.ram().0, 8, 7);
            bench.wait_for(|| bench.read(0x98) & 1 == 0);
            bench.write(0x64, 0x100);
            bench.env.irq(bench.target.pin(), IrqControl::Unmask).unwrap();
            assert_eq!(bench.sink.taken.lock().unwrap().len(), round + 1);
        }
        (bench.env.now(), bench.target.accesses())
    };
    assert_eq!(run(), run());
}
