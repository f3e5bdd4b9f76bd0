//! Making the package, and looking at what is in it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{failed, folder};
use crate::cargo::Cargo;
use crate::outcome::{Outcome, Trouble};
use crate::tool::{exists, output, root};

/// The program that makes packages. A new version may lay out a package in another way: it is chosen on purpose.
const TOOL: (&str, &str) = ("cargo-deb", "3.8.0");

/// Files that must be in a package.
const FILES: [&str; 13] = [
    "./usr/bin/bindctl",
    "./usr/lib/systemd/system/bindctl.service",
    "./usr/share/man/man1/bindctl.1.gz",
    "./usr/share/bash-completion/completions/bindctl",
    "./usr/share/zsh/vendor-completions/_bindctl",
    "./usr/share/fish/vendor_completions.d/bindctl.fish",
    "./usr/share/initramfs-tools/hooks/bindctl",
    "./usr/share/initramfs-tools/scripts/init-top/bindctl",
    "./usr/lib/dracut/modules.d/50bindctl/module-setup.sh",
    "./usr/lib/dracut/modules.d/50bindctl/bindctl-early.sh",
    "./usr/share/doc/bindctl/examples/bindctl.toml",
    "./usr/share/doc/bindctl/examples/play.yml",
    "./usr/share/doc/bindctl/copyright",
];

/// Makes the package for one architecture and returns its path. `own` is the program that runs on this machine.
pub(super) fn make(program: &Path, own: &Path, arch: &str, debian: &str) -> Result<PathBuf, Trouble> {
    if !exists("dpkg-deb") {
        return Err(Trouble::Skipped("not installed: dpkg-deb, which looks into packages".into()));
    }
    printed(own, &program.with_file_name("package"))?;
    let package = folder().join(format!("bindctl_{debian}.deb"));
    let at = package.display().to_string();
    let triple = format!("{arch}-unknown-linux-musl");
    let tool = tool()?;
    // The program lies below the folder that it was built in, and so does what it printed.
    let built = program.ancestors().nth(3).ok_or_else(|| failed("the program has no build folder"))?;
    output(
        Command::new(tool)
            .current_dir(root())
            .env("CARGO_TARGET_DIR", built)
            .args(["deb", "--quiet", "-p", "bindery-linux", "--no-build", "--no-strip", "--profile", "small"])
            .args(["--target", &triple, "--output", &at]),
    )?;
    look(&package, debian)?;
    println!("{at}");
    Ok(package)
}

/// The manual page and the completions, as the program prints them. Those of another architecture are the same.
fn printed(own: &Path, folder: &Path) -> Outcome {
    let broken = |e| Trouble::Broken(format!("{}: {e}", folder.display()));
    fs::create_dir_all(folder).map_err(broken)?;
    let files = [
        ("bindctl.1", "man"),
        ("bindctl.bash", "completions bash"),
        ("bindctl.zsh", "completions zsh"),
        ("bindctl.fish", "completions fish"),
    ];
    for (file, words) in files {
        let text = output(Command::new(own).args(words.split(' ')))?;
        fs::write(folder.join(file), text).map_err(broken)?;
    }
    // Without the time, so that the same program makes the same package.
    output(Command::new("gzip").current_dir(folder).args(["--force", "--no-name", "--best", "bindctl.1"])).map(drop)
}

/// The program that makes packages, built when it is not there.
fn tool() -> Result<PathBuf, Trouble> {
    let (name, version) = TOOL;
    let home = folder().join("tools");
    let program = home.join("bin").join(name);
    let there = output(Command::new(&program).arg("--version")).is_ok_and(|said| said.contains(version));
    if !there {
        let home = home.display().to_string();
        println!("building {name} {version}");
        Cargo::new("install --quiet --locked --force").args(&[name, "--version", version, "--root", &home]).run()?;
    }
    Ok(program)
}

/// Compares the package with what it must have.
fn look(package: &Path, debian: &str) -> Outcome {
    let list = output(Command::new("dpkg-deb").arg("-c").arg(package))?;
    let names: Vec<&str> = list.lines().filter_map(|line| line.split_whitespace().nth(5)).collect();
    for file in FILES {
        if !names.contains(&file) {
            return Err(failed(format!("{} lacks {file}", package.display())));
        }
    }
    // What belongs to nobody must not be in it.
    if let Some(foreign) = names.iter().find(|name| name.contains("/etc/") || name.contains("/var/")) {
        return Err(failed(format!("{} has {foreign}: the host's own files are the host's", package.display())));
    }
    let field = |name: &str| output(Command::new("dpkg-deb").arg("-f").arg(package).arg(name));
    let of = field("Architecture")?;
    if of.trim() != debian {
        return Err(failed(format!("{} is for {}, not {debian}", package.display(), of.trim())));
    }
    // A static program needs no other package.
    let needs = field("Depends")?;
    if !needs.trim().is_empty() {
        return Err(failed(format!("{} depends on {}", package.display(), needs.trim())));
    }
    Ok(())
}
