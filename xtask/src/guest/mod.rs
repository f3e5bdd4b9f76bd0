//! `cargo xtask guest`: the host tool on stock Debian kernels, in machines that QEMU emulates.

mod apt;
mod arch;
mod fetch;
mod image;
mod machine;
mod planted;
mod suite;

use std::path::PathBuf;
use std::time::{Duration, Instant};

pub(crate) use apt::Apt;
pub(crate) use arch::{Arch, Version};
pub(crate) use fetch::Guest;
pub(crate) use image::Image;

use crate::outcome::{Outcome, Trouble};
use crate::small::{AUDIT, BINDCTL, VFIO_CHECK};
use suite::{BOOTS, Boot};

/// Boots that one chain may have.
const CHAIN: usize = 12;

/// Seconds that one boot may take. On a host with nothing else to do the longest takes a few minutes; only one that hangs takes them all.
const LIMIT: u64 = 600;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Architecture [default: both]
    #[arg(long, value_enum)]
    arch: Option<Arch>,
    /// Kernel
    #[arg(long, value_enum, default_value = "6.1")]
    kernel: Version,
    /// Run these tests only
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    test: Vec<String>,
    /// Seconds that one boot may take
    #[arg(long, value_name = "SECONDS", default_value_t = LIMIT)]
    limit: u64,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> Outcome {
    let arches = args.arch.map_or(Arch::ALL.to_vec(), |arch| vec![arch]);
    let mut failed = Vec::new();
    let mut ran = 0;
    for arch in arches {
        let chosen: Vec<Boot> = BOOTS.iter().filter_map(|boot| boot.only(&args.test, arch)).collect();
        if chosen.is_empty() {
            continue;
        }
        ran += chosen.len();
        let guest = Guest::fetch(arch, args.kernel)?;
        let programs = programs(arch)?;
        for boot in chosen {
            let mut programs = programs.clone();
            if boot.is_planted() {
                programs.push(planted::build(&guest)?);
            }
            failed.extend(one(&guest, &boot, &programs, Duration::from_secs(args.limit))?);
        }
    }
    if ran == 0 {
        let names: Vec<&str> = BOOTS.iter().flat_map(|boot| boot.tests).copied().collect();
        return Err(Trouble::Broken(format!("no such test; there are {}", names.join(", "))));
    }
    if failed.is_empty() { Ok(()) } else { Err(Trouble::Failed(format!("guests failed: {}", failed.join(", ")))) }
}

/// The short form, for `cargo xtask test`: everything on both architectures with the older kernel.
pub(crate) fn short() -> Outcome {
    run(&Args { arch: None, kernel: Version::V6_1, test: Vec::new(), limit: LIMIT })
}

/// The static programs that go into each guest.
fn programs(arch: Arch) -> Result<Vec<PathBuf>, Trouble> {
    [BINDCTL, AUDIT, VFIO_CHECK].iter().map(|program| program.build(arch.name())).collect()
}

/// Runs one boot, and those that it asks for. Returns the tests that failed.
fn one(guest: &Guest, boot: &Boot, programs: &[PathBuf], limit: Duration) -> Result<Vec<String>, Trouble> {
    let label = format!("{} {}", guest.arch.name(), guest.release);
    let image = Image { name: boot.name, init: &boot.script()?, modules: suite::MODULES, programs };
    let initrd = image.make(guest)?;
    guest.disks(boot.name)?;
    let started = Instant::now();
    let mut said = String::new();
    for _ in 0..CHAIN {
        let mut now = guest.boot(boot.name, &initrd, boot.command_line, limit)?;
        if !machine::has_begun(&guest.console(boot.name)) {
            println!(
                "{label}: boot {}: the kernel did not start its first process ({}); once more",
                boot.name,
                last_words(&now)
            );
            now = guest.boot(boot.name, &initrd, boot.command_line, limit)?;
        }
        said.push_str(&now);
        if !tells(&now, "again") {
            break;
        }
    }
    let mut failed = Vec::new();
    // The first one that did not pass is the one that it is about.
    let mut why = format!(": {}", last_words(&said));
    for line in said.lines().filter_map(|line| line.trim_end().strip_prefix("GUEST: figure ")) {
        println!("{label}: {line}");
    }
    for name in &boot.tests {
        if tells(&said, &format!("passed {name}")) {
            println!("{label}: {name}: passed");
        } else {
            failed.push(format!("{name} ({}{})", guest.arch.name(), std::mem::take(&mut why)));
        }
    }
    println!("{label}: boot {}: {} s", boot.name, started.elapsed().as_secs());
    if !failed.is_empty() {
        println!("{said}");
        println!("{label}: failed: {}; what the guest printed on its serial console is above", failed.join(", "));
    }
    Ok(failed)
}

/// What the guest said of its end: why a test failed, else the last that it printed.
fn last_words(said: &str) -> &str {
    let lines = || said.lines().map(str::trim).filter(|line| !line.is_empty());
    let verdict = lines().rev().find_map(|line| line.strip_prefix("GUEST: failed: "));
    verdict.or_else(|| lines().next_back()).unwrap_or("it printed nothing")
}

/// True when the guest printed this line.
fn tells(said: &str, what: &str) -> bool {
    said.lines().any(|line| line.trim_end().strip_prefix("GUEST: ") == Some(what))
}

#[cfg(test)]
mod tests {
    use super::last_words;

    #[test]
    fn a_failure_is_told_with_what_the_guest_said_of_it() {
        let failed =
            "## disk\n# bindctl give\nGUEST: failed: bindctl give: exit code 1, not 0\n[ 9.1] sysrq: Resetting\n\n";
        assert_eq!(last_words(failed), "bindctl give: exit code 1, not 0");
        assert_eq!(last_words("[ 0.1] Kernel panic\n[ 0.2] end of panic  \n\n"), "[ 0.2] end of panic");
        assert_eq!(last_words(""), "it printed nothing");
    }
}
