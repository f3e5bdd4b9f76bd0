//! Repeats one operation, so that a profiler can count its instructions: `lifecycles lifecycle|setup|blob off|on TIMES`. A
//! lifecycle, the set-up of a board with its machine, or the same with the device tree blob parsed again; DMA checker off or
//! on. docs/benchmarks.md has the commands.

use std::process::ExitCode;
use std::time::Instant;

use bindery_bench::{Checker, Firmware, SATA, settled};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let [work @ ("lifecycle" | "setup" | "blob"), checker @ ("off" | "on"), times] = args[..] else { return usage() };
    let Ok(times) = times.parse::<u32>() else { return usage() };
    let checker = if checker == "on" { Checker::On } else { Checker::Off };
    let firmware = Firmware::read();
    let rig = firmware.settled(checker);
    let begun = rig.machine.unbind(SATA, "sata_rcar");
    assert_eq!(begun, Ok(()));
    let start = Instant::now();
    for _ in 0..times {
        match work {
            "lifecycle" => rig.lifecycle(),
            "setup" => drop(firmware.settled(checker)),
            _ => drop(settled(checker)),
        }
    }
    println!("{:.2} us each", start.elapsed().as_secs_f64() * 1e6 / f64::from(times.max(1)));
    ExitCode::SUCCESS
}

fn usage() -> ExitCode {
    eprintln!("usage: lifecycles lifecycle|setup|blob off|on TIMES");
    ExitCode::FAILURE
}
