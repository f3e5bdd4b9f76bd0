//! A mixed load on the DMA path for a long time: `mixed [OPERATIONS] [SEED]`. Two threads map, unmap, allocate and free at random, on two
//! devices or on one, behind a strict and a lazy domain; buffers change threads, and each round ends with buffers mapped, which the
//! unwinder takes back. After each round it prints what is in use, and it fails when something grows.
#![allow(clippy::cast_precision_loss, reason = "figures are printed to three digits")]

mod heap;
mod worker;

use std::process::ExitCode;
use std::sync::{Arc, Barrier, Mutex};

use bindery::addr::{PAGE_SIZE, PhysAddr};
use bindery::iommu::DomainKind;
use bindery::machine::Handle;
use bindery::mem::{PageRequest, PageRun};
use bindery_bench::Idle;
use bindery_bench::target::Target;

use worker::{Exchange, Held, LARGEST, MOST_OTHERS, MOST_PAGES, Worker};

/// RAM of the machine.
const RAM: u64 = 64 << 20;
const DEVICES: [(&str, DomainKind); 2] = [("strict", DomainKind::Strict), ("lazy", DomainKind::Lazy)];
const THREADS: usize = 2;
/// Operations of one round, at most, and rounds, at least.
const ROUND: u64 = 2_000_000;
const ROUNDS: u64 = 20;

/// Pages of device addresses that the arenas of two threads may keep for their next mappings, and that an unflushed queue may have.
const KEPT: u64 = THREADS as u64 * (16 << 20) / PAGE_SIZE + 256 * LARGEST;

/// What is in use after a round, before its bindings end.
struct Sample {
    operations: u64,
    /// Of both threads.
    held: Held,
    /// Pages of RAM, and how many adjoining ones are free.
    frames: u64,
    run: u64,
    /// Pages of device addresses in both domains.
    iova: u64,
    /// From the lowest mapped device address to the highest, in pages.
    window: u64,
    tables: u64,
    /// Bytes more than before the load.
    heap: u64,
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let numbers: Option<Vec<u64>> = args.iter().map(|a| a.replace('_', "").parse().ok()).collect();
    let (operations, seed) = match numbers.as_deref() {
        Some([]) => (10_000_000, 1),
        Some([operations]) => (*operations, 1),
        Some([operations, seed]) => (*operations, *seed),
        _ => {
            eprintln!("usage: mixed [OPERATIONS] [SEED]");
            return ExitCode::from(2);
        }
    };
    // The other thread would wait for one that has panicked.
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::exit(101);
    }));
    let load = Load::new(seed);
    let rounds = operations.div_ceil(ROUND).max(ROUNDS);
    println!("operations    held  frames  free run  device addresses (mapped)  window  tables  heap");
    let samples: Vec<_> = (0..rounds).map(|n| load.round(n, operations / rounds / THREADS as u64)).collect();
    let grows = load.end(&samples);
    for what in &grows {
        println!("GROWS: {what}");
    }
    if grows.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

struct Load {
    target: Arc<Target>,
    machine: Handle,
    exchange: Exchange,
    seed: u64,
    /// The longest run of free pages, and bytes of the heap, before the load.
    longest: u64,
    heap: u64,
}

impl Load {
    fn new(seed: u64) -> Self {
        let target = Target::new(RAM, true);
        let machine = target.machine(&DEVICES, false);
        let longest = longest_run(&machine);
        Self { target, machine, exchange: Exchange::default(), seed, longest, heap: heap::bytes() }
    }

    /// Binds both devices, has each thread do so many operations, and unbinds them with buffers mapped.
    fn round(&self, number: u64, operations: u64) -> Sample {
        for (device, _) in DEVICES {
            self.machine.bind(device, "idle").expect("it is free");
        }
        let (meet, held, sample) = (Barrier::new(THREADS), Mutex::new(Vec::new()), Mutex::new(None));
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let (meet, held, sample) = (&meet, &held, &sample);
                // Rounds of two devices, of the strict one alone, of two, of the lazy one alone.
                let device = DEVICES[[thread, 0, thread, 1][number as usize % 4]].0;
                scope.spawn(move || {
                    let client = self.machine.client::<Idle>(device).expect("it is bound");
                    let seed = self.seed ^ (number << 8) ^ thread as u64;
                    client
                        .call(|dev| {
                            let mut worker = Worker::new(*dev, &self.exchange, seed);
                            (0..operations).for_each(|_| worker.step());
                            held.lock().expect("no thread panics").push(worker.held());
                            if meet.wait().is_leader() {
                                let held = held.lock().expect("no thread panics");
                                let done = (number + 1) * operations * THREADS as u64;
                                *sample.lock().expect("no thread panics") = Some(self.sample(done, &held));
                            }
                            // Not before the other one has been counted.
                            meet.wait();
                        })
                        .expect("it stays bound");
                });
            }
        });
        for (device, _) in DEVICES {
            self.machine.unbind(device, "idle").expect("nobody uses it");
        }
        let usage = self.machine.resource_usage();
        assert_eq!((usage.frames, usage.mappings), (self.exchange.pages(), 0), "P4: what a round has left");
        sample.into_inner().ok().flatten().expect("one thread took it")
    }

    fn sample(&self, operations: u64, held: &[Held]) -> Sample {
        let window = |h: &Held| h.window.map_or(0, |(low, high)| (high - low) / PAGE_SIZE);
        let sample = Sample {
            operations,
            window: held.iter().map(window).max().unwrap_or(0),
            held: Held {
                pages: held.iter().map(|h| h.pages).sum::<u64>() + self.exchange.pages(),
                mapped: held.iter().map(|h| h.mapped).sum(),
                window: None,
            },
            frames: self.machine.memory().frames().in_use(),
            run: longest_run(&self.machine),
            iova: self.machine.groups().iter().filter_map(|g| g.info().domain).map(|(_, _, pages)| pages).sum(),
            tables: self.target.table_pages(),
            heap: heap::bytes().saturating_sub(self.heap),
        };
        let Sample { held, frames, run, iova, window, tables, heap, .. } = &sample;
        println!(
            "{operations:>10}  {:>6}  {frames:>6}  {run:>8}  {iova:>16} {:>9}  {window:>6}  {tables:>6}  {:>4} KiB",
            held.pages,
            format!("({})", held.mapped),
            heap >> 10,
        );
        sample
    }

    /// What grows.
    fn end(self, samples: &[Sample]) -> Vec<String> {
        let mut grows = Vec::new();
        let mut at_most = |what: &str, value: u64, most: u64, operations: u64| {
            if value > most {
                grows.push(format!("{what}: {value}, more than {most}, after {operations} operations"));
            }
        };
        // Coherent memory that was freed and is not flushed, or waits for its next use.
        let freed = THREADS as u64 * 4 * MOST_OTHERS as u64 + 4 * 256;
        for sample in samples {
            let mut at_most = |what, value, most| at_most(what, value, most, sample.operations);
            at_most(
                "pages held",
                sample.held.pages,
                THREADS as u64 * (MOST_PAGES + 4 * MOST_OTHERS as u64) + 64 * LARGEST,
            );
            at_most("page frames beside those held", sample.frames.saturating_sub(sample.held.pages), freed);
            at_most("device addresses beside those mapped", sample.iova.saturating_sub(sample.held.mapped), KEPT);
        }
        // What has no bound of its own must not be more in the second half than it was in the first.
        let (first, second) = samples.split_at(samples.len() / 2);
        for (what, of) in MEASURES {
            let largest = |half: &[Sample]| half.iter().map(of).max().unwrap_or(0);
            let (before, after) = (largest(first), largest(second));
            // Half as much again: two threads make no two runs alike. What leaks is twice as much.
            at_most(what, after, before + before / 2, operations(samples));
            println!("{what}: at most {before} in the first half, {after} in the second");
        }
        drop(self.exchange);
        let (frames, longest) = (self.machine.memory().frames().in_use(), longest_run(&self.machine));
        println!("at the end: {frames} pages in use, and {longest} adjoining ones free; {} before", self.longest);
        at_most("page frames", frames, 0, operations(samples));
        at_most("pages that are not in the longest free run", self.longest - longest, 0, operations(samples));
        grows
    }
}

/// A name, and what it is of a sample.
type Measure = (&'static str, fn(&Sample) -> u64);

/// What is compared between the two halves.
const MEASURES: [Measure; 3] = [
    ("window of device addresses, in pages", |s| s.window),
    ("pages of page tables", |s| s.tables),
    ("bytes of the heap", |s| s.heap),
];

fn operations(samples: &[Sample]) -> u64 {
    samples.last().map_or(0, |s| s.operations)
}

/// Pages of the longest run that page frames can be taken from.
fn longest_run(machine: &Handle) -> u64 {
    let frames = machine.memory().frames();
    let fits = |pages: u64| {
        let request = PageRequest { align: PAGE_SIZE, limit: PhysAddr(u64::MAX), ..PageRequest::new(pages) };
        PageRun::alloc(frames, &request).is_ok()
    };
    let (mut least, mut most) = (0, RAM / PAGE_SIZE);
    while least < most {
        let middle = (least + most).div_ceil(2);
        if fits(middle) { least = middle } else { most = middle - 1 }
    }
    least
}
