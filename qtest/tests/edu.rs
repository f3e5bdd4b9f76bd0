//! Our model of `edu` and QEMU's: seeded scripts of accesses, transfers and interrupts, and the answers of both.
#![allow(clippy::unwrap_used)]

mod common;

use bindery::env::{IrqControl, Width};
use bindery::pci::ConfigSpace;
use bindery_qtest::Machine;
use common::{Bench, RAM, Target, qemu, sim};

const BUFFER: u64 = 0x4_0000;

/// One step of a script. It depends on no answer.
#[derive(Clone, Debug)]
enum Step {
    Read(u64, Width),
    Write(u64, Width, u64),
    ReadConfig(u16, Width),
    /// Interrupt lines and bus mastering, and messages.
    Command(u32),
    Messages(bool),
    /// A factorial, with an interrupt or without.
    Factorial(u32, bool),
    /// Bytes of RAM, and a transfer: offset in RAM, in the buffer, bytes, command.
    Transfer(u64, u64, u64, u64),
    /// Time for what runs, and then a look at RAM.
    Settle,
    /// Delivers what is pending.
    Deliver,
    Unmask,
}

struct Random(u64);

impl Random {
    /// `SplitMix64` (Steele, Lea, Flood 2014).
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }
    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
    fn of<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len() as u64) as usize]
    }
}

fn script(seed: u64, len: usize) -> Vec<Step> {
    use Width::{W8, W16, W32, W64};
    let mut r = Random(seed);
    let known = [0, 4, 8, 0x20, 0x24, 0x80, 0x88, 0x90, 0x98];
    let mut steps = Vec::new();
    while steps.len() < len {
        let step = match r.below(16) {
            0..=3 => Step::Read(r.of(&known), W32),
            4 => {
                let width = r.of(&[W8, W16, W32, W64]);
                let (low, any, inside) = (r.below(0x100), r.below(0xf_0000), BUFFER + r.below(4000));
                let at = r.of(&[low, any, 0x60, 0x64, inside]);
                Step::Read(at & !(width.bytes() - 1), width)
            }
            5 => Step::Write(r.of(&[4, 0x20, 0x60, 0x64, 0x80, 0x88, 0x90]), W32, r.next() & 0x1ff),
            6 => {
                let width = r.of(&[W8, W16, W32, W64]);
                // None that starts a transfer or a factorial, which would have to be waited for.
                let at = r.of(&[0, 0x10, 0x24, 0x40, 0x80, 0x84, 0x88, 0x90, 0xa0, 0x100, BUFFER]);
                Step::Write(at & !(width.bytes() - 1), width, r.next())
            }
            7 => Step::ReadConfig(r.of(&[0, 4, 8, 0xc, 0x10, 0x14, 0x2c, 0x34, 0x3c, 0x40, 0x44, 0x50, 0x100]), W32),
            8 => Step::Command(2 | r.of(&[0, 4, 4, 4]) | r.of(&[0, 0, 1 << 10])),
            9 => Step::Messages(r.below(2) == 1),
            10 => Step::Factorial(r.below(40) as u32, r.below(2) == 1),
            11 | 12 => {
                let count = 1 + r.below(200);
                Step::Transfer(r.below(RAM - count), r.below(4096 - count), count, 1 | r.below(4) << 1)
            }
            13 => Step::Settle,
            14 => Step::Deliver,
            _ => Step::Unmask,
        };
        steps.push(step);
    }
    steps.push(Step::Settle);
    steps
}

/// Carries out a step. Returns what the device answers.
fn perform<T: Target>(bench: &Bench<T>, step: &Step) -> Vec<u64> {
    let runs = || bench.regs.read(0x98, Width::W64).unwrap() & 1 != 0;
    match *step {
        Step::Read(at, width) => {
            let value = bench.regs.read(at, width).unwrap();
            // Machines have their RAM at different addresses.
            let inside = value.checked_sub(bench.target.ram().0).filter(|offset| *offset < RAM);
            vec![inside.map_or(value, |offset| offset | 1 << 63)]
        }
        Step::Write(at, width, value) => {
            bench.regs.write(at, width, value).unwrap();
            vec![]
        }
        Step::ReadConfig(at, width) => {
            let mut value = bench.config.read(bench.at, at, width).unwrap();
            // Where addresses are differs between machines.
            value &= match at {
                0x10 => 0xf,
                _ if at == bench.msi + 4 => 3,
                _ => u32::MAX,
            };
            vec![value.into()]
        }
        Step::Command(bits) => {
            bench.command(bits);
            vec![]
        }
        Step::Messages(on) => {
            bench.messages(on);
            vec![]
        }
        Step::Factorial(n, interrupts) => {
            // Time passes: whatever runs is done afterwards.
            delivering(bench, || !runs());
            bench.write(0x64, 1);
            bench.write(0x20, u64::from(interrupts) << 7);
            bench.write(8, n.into());
            delivering(bench, || bench.read(0x20) & 1 == 0 && (!interrupts || bench.read(0x24) & 1 != 0));
            vec![bench.read(8), bench.read(0x24)]
        }
        Step::Transfer(ram, buffer, count, command) => {
            let (ram, buffer) = (bench.target.ram().0 + ram, BUFFER + buffer);
            let was_running = runs();
            let (from, to) = if command & 2 != 0 { (buffer, ram) } else { (ram, buffer) };
            bench.transfer(from, to, count, command);
            vec![was_running.into(), runs().into()]
        }
        Step::Settle => {
            delivering(bench, || !runs());
            let mut bytes = vec![0; RAM as usize];
            bench.target.read_ram(bench.target.ram(), &mut bytes);
            let words = bytes.chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().unwrap()));
            words.chain([bench.read(0x24)]).collect()
        }
        Step::Deliver => {
            bench.target.run_pending();
            let taken = std::mem::take(&mut *bench.sink.taken.lock().unwrap());
            taken.iter().map(|line| if *line == bench.target.pin() { 1 } else { 2 }).collect()
        }
        Step::Unmask => {
            bench.env.irq(bench.target.pin(), IrqControl::Unmask).unwrap();
            bench.env.irq(bench.target.message().2, IrqControl::Unmask).unwrap();
            vec![]
        }
    }
}

/// Waits until `done`. How often time has to pass for that differs, and each time what is pending is delivered: so it is before and after,
/// too, and two edges of a line are one on both sides or on none.
fn delivering<T: Target>(bench: &Bench<T>, done: impl FnMut() -> bool) {
    bench.target.run_pending();
    bench.wait_for(done);
    bench.target.run_pending();
}

/// Leads the device back to where a script begins.
fn begin<T: Target>(bench: &Bench<T>, seed: u64) {
    bench.wait_for(|| bench.regs.read(0x98, Width::W64).unwrap() & 1 == 0);
    bench.messages(false);
    bench.command(6);
    bench.write(0x64, 0xffff_ffff);
    bench.write(0x20, 0);
    bench.write(4, 0);
    let mut random = Random(seed ^ 0x5eed);
    let bytes: Vec<u8> = (0..RAM).map(|_| random.next() as u8).collect();
    bench.target.write_ram(bench.target.ram(), &bytes);
    perform(bench, &Step::Unmask);
    perform(bench, &Step::Deliver);
}

/// Counts of what was compared.
#[derive(Default, Debug)]
struct Counts {
    scripts: usize,
    steps: usize,
    answers: usize,
    transfers: usize,
    interrupts: usize,
}

/// Runs both and compares each answer.
fn agree(machine: Machine, seeds: std::ops::Range<u64>) -> Counts {
    let (model, qemu) = (Bench::new(sim()), Bench::new(qemu(machine)));
    model.enable_lines();
    qemu.enable_lines();
    let mut counts = Counts::default();
    for seed in seeds {
        begin(&model, seed);
        begin(&qemu, seed);
        let steps = script(seed, 150);
        for (i, step) in steps.iter().enumerate() {
            let (ours, theirs) = (perform(&model, step), perform(&qemu, step));
            let place = || ours.iter().zip(&theirs).position(|(a, b)| a != b);
            let last = &steps[i.saturating_sub(12)..=i];
            assert!(
                ours == theirs,
                "seed {seed}, step {i}, answer {:?}: the model says {:x?}, QEMU {:x?}; the last steps: {last:#x?}; {:?}",
                place(),
                &ours[..ours.len().min(8)],
                &theirs[..theirs.len().min(8)],
                qemu.target.error(),
            );
            counts.steps += 1;
            counts.answers += ours.len();
            match step {
                Step::Transfer(..) => counts.transfers += usize::from(ours == [0, 1]),
                Step::Deliver => counts.interrupts += ours.len(),
                _ => {}
            }
        }
        counts.scripts += 1;
    }
    // Transfers without bus mastering and messages without an enabled line are no errors of software here; nothing else may be.
    model.target.assert_clean();
    assert_eq!(qemu.target.error(), None);
    counts
}

#[test]
#[ignore = "needs qemu-system-x86_64"]
fn edu_of_q35_and_the_model_answer_alike() {
    let counts = agree(Machine::Q35, 0..60);
    println!("q35: {counts:?}");
    assert!(counts.transfers > 200 && counts.interrupts > 100, "{counts:?}");
}

#[test]
#[ignore = "needs qemu-system-aarch64"]
fn edu_of_virt_and_the_model_answer_alike() {
    let counts = agree(Machine::Virt, 1000..1060);
    println!("virt: {counts:?}");
    assert!(counts.transfers > 200 && counts.interrupts > 100, "{counts:?}");
}
