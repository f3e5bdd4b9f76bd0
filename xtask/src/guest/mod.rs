//! `cargo xtask guest`: the host tool on a stock Debian kernel, in a machine that QEMU emulates.

mod fetch;
mod image;
mod machine;

use std::time::Duration;

use crate::outcome::{Outcome, Trouble};

/// The tests: what runs inside the guest, after `prelude.sh`. Each has a boot of its own.
const TESTS: [(&str, &str); 5] = [
    ("disk", include_str!("tests/disk.sh")),
    ("nvme", include_str!("tests/nvme.sh")),
    ("network", include_str!("tests/network.sh")),
    ("group", include_str!("tests/group.sh")),
    ("kill", include_str!("tests/kill.sh")),
];

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Run this test only
    #[arg(long, value_name = "NAME")]
    test: Option<String>,
    /// Seconds that one boot may take
    #[arg(long, value_name = "SECONDS", default_value_t = 180)]
    limit: u64,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> Outcome {
    let chosen: Vec<_> =
        TESTS.iter().filter(|(name, _)| args.test.as_deref().is_none_or(|only| only == *name)).collect();
    if chosen.is_empty() {
        let names: Vec<&str> = TESTS.iter().map(|(name, _)| *name).collect();
        return Err(Trouble::Broken(format!("no such test; there are {}", names.join(", "))));
    }
    let kernel = fetch::kernel()?;
    let tool = crate::small::BINDCTL.build("x86_64")?;
    let mut failed = Vec::new();
    for (name, script) in chosen {
        let initrd = image::make(name, script, &kernel, &tool)?;
        let said = machine::boot(name, &kernel.image, &initrd, Duration::from_secs(args.limit))?;
        if said.lines().any(|line| line.trim_end() == "GUEST: passed") {
            println!("guest {name}: passed");
        } else {
            println!("{said}");
            println!("guest {name}: failed; what it printed on its serial console is above");
            failed.push(*name);
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(Trouble::Failed(format!("guests failed: {}", failed.join(", ")))) }
}
