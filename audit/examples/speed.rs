//! Time and memory for a million events: `cargo run --release -p bindery-audit --example speed [EVENTS]`.
#![allow(missing_docs, clippy::unwrap_used, clippy::cast_precision_loss)]

use std::fmt::Write;
use std::io::Cursor;
use std::time::{Duration, Instant};

use bindery_audit::{Auditor, Options};

/// Reads of a disk: four events each, 64 in flight.
fn reads(events: u64) -> String {
    let mut text = String::with_capacity(events as usize * 150);
    let mut micros = 20_000_000_u64;
    let mut line = |task: &str, body: std::fmt::Arguments<'_>| {
        micros += 3;
        let (seconds, fraction) = (micros / 1_000_000, micros % 1_000_000);
        writeln!(text, "    {task} [000] .....    {seconds}.{fraction:06}: {body}").unwrap();
    };
    for n in 0..events / 4 {
        let iova = 0xf000_0000 + n % 64 * 4096;
        let phys = 0x5b5_9000 + n % 512 * 4096;
        if n >= 64 {
            line(
                "  <idle>-0      ",
                format_args!("unmap: IOMMU: iova={iova:#018x} - {:#018x} size=4096 unmapped_size=4096", iova + 4096),
            );
            line(
                "  <idle>-0      ",
                format_args!("dma_unmap_page: 0000:00:04.0 dir=FROM_DEVICE dma_addr={iova:x} size=4096 attrs="),
            );
        }
        line(
            "kworker/u8:1-44",
            format_args!("map: IOMMU: iova={iova:#018x} - {:#018x} paddr={phys:#018x} size=4096", iova + 4096),
        );
        line(
            "kworker/u8:1-44",
            format_args!(
                "dma_map_page: 0000:00:04.0 dir=FROM_DEVICE dma_addr={iova:x} size=4096 phys_addr={phys:x} attrs="
            ),
        );
    }
    text
}

/// Allocations that all stay live.
fn live(events: u64) -> String {
    let mut text = String::new();
    for n in 0..events {
        let iova = 0x1_0000_0000 + n * 4096;
        writeln!(
            text,
            "      insmod-157     [000] .....    20.{:06}: dma_map_page: 0000:00:04.0 dir=FROM_DEVICE dma_addr={iova:x} size=4096 phys_addr=5b59000 attrs=",
            n % 1_000_000
        )
        .unwrap();
    }
    text
}

/// Processor time of this thread so far; the time since `start` where the kernel does not count it.
fn processor(start: Instant) -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let ns = text.split_whitespace().next().and_then(|ns| ns.parse().ok());
    ns.map_or_else(|| start.elapsed(), Duration::from_nanos)
}

fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or("");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).unwrap_or(0)
}

/// Time of reading the lines and nothing else: the ratio to it holds on a busy machine, too.
fn lines_alone(text: &str, start: Instant) -> Duration {
    let before = processor(start);
    let mut lines = bindery_audit::input::Lines::new(text.as_bytes());
    let mut scratch = String::new();
    let mut columns = 0;
    while let Some(line) = lines.next_line().unwrap() {
        columns += bindery_audit::input::clean(line.bytes, &mut scratch).len();
    }
    assert!(columns > 0);
    processor(start).saturating_sub(before)
}

fn main() {
    let events = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(1_000_000);
    let text = reads(events);
    let (lines, bytes) = (text.lines().count(), text.len());
    let start = Instant::now();
    let alone = lines_alone(&text, start);
    let (before, clock) = (processor(start), Instant::now());
    let mut auditor = Auditor::new(Options::default());
    auditor.read("speed", Cursor::new(text), &mut |_| ()).unwrap();
    let report = auditor.finish();
    let (took, passed) = (processor(start).saturating_sub(before), clock.elapsed());
    println!(
        "{lines} events, {} MB: {took:.2?} of processor time ({passed:.2?} passed), {:.2} million a second; {:.1} times what reading \
         the lines takes ({alone:.2?})",
        bytes / 1_000_000,
        lines as f64 / took.as_secs_f64() / 1e6,
        took.as_secs_f64() / alone.as_secs_f64()
    );
    drop(report);
    let text = live(events / 10);
    let before = resident();
    let mut auditor = Auditor::new(Options::default());
    auditor.read("memory", text.as_bytes(), &mut |_| ()).unwrap();
    let grown = resident().saturating_sub(before);
    println!("{} live mappings: {} bytes each", events / 10, grown * 1024 / (events / 10));
}
