//! The module with bugs on purpose (`planted/planted.c`), built for a guest's kernel from Debian's headers.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::apt::Apt;
use super::{Arch, Guest};
use crate::install::install;
use crate::outcome::Trouble;
use crate::tool::{exists, output, root};

/// Debian's name of the machine that builds: kernel headers bring programs for the guest's.
fn host() -> Result<&'static str, Trouble> {
    match std::env::consts::ARCH {
        "x86_64" => Ok("amd64"),
        "aarch64" => Ok("arm64"),
        other => Err(Trouble::Skipped(format!("modules for guests are built on x86_64 and aarch64, not on {other}"))),
    }
}

/// Builds the module and returns its path.
pub(super) fn build(guest: &Guest) -> Result<PathBuf, Trouble> {
    compiler(guest.arch)?;
    let headers = headers(guest)?;
    let folder = guest.folder.join("planted-module");
    let failed = |e| Trouble::Broken(format!("{}: {e}", folder.display()));
    fs::create_dir_all(&folder).map_err(failed)?;
    for file in ["planted.c", "Kbuild"] {
        fs::copy(root().join("xtask/src/guest/planted").join(file), folder.join(file)).map_err(failed)?;
    }
    let mut make = Command::new("make");
    make.arg("-C").arg(&headers).arg(format!("M={}", folder.display())).arg("modules");
    if guest.arch.name() != std::env::consts::ARCH {
        make.arg(format!("ARCH={}", guest.arch.debian())).arg(format!("CROSS_COMPILE={}", prefix(guest.arch)));
    }
    output(&mut make)?;
    Ok(folder.join("planted.ko"))
}

/// Prefix of the names of the compiler for another architecture.
fn prefix(arch: Arch) -> &'static str {
    match arch {
        Arch::X86 => "x86_64-linux-gnu-",
        Arch::Arm => "aarch64-linux-gnu-",
    }
}

/// Installs the compiler that Debian's kernels of that release are built with, if it is not there and that can be done.
fn compiler(arch: Arch) -> Result<(), Trouble> {
    let (gcc, package) = match (arch.name() == std::env::consts::ARCH, arch) {
        (true, _) => ("gcc-12".to_owned(), "gcc-12"),
        (false, Arch::X86) => (format!("{}gcc-12", prefix(arch)), "gcc-12-x86-64-linux-gnu"),
        (false, Arch::Arm) => (format!("{}gcc-12", prefix(arch)), "gcc-12-aarch64-linux-gnu"),
    };
    let programs = [(gcc.as_str(), package), ("make", "make")];
    let missing: Vec<&str> = programs.iter().filter(|(program, _)| !exists(program)).map(|(_, name)| *name).collect();
    install(&missing)
}

/// The headers of the guest's kernel, fetched when they are not there yet.
fn headers(guest: &Guest) -> Result<PathBuf, Trouble> {
    let folder = guest.folder.join("headers");
    let package = format!("linux-headers-{}", guest.release);
    let place = folder.join("usr/src").join(&package);
    if place.is_dir() {
        return Ok(place);
    }
    let apt = Apt::new(guest.folder.join("apt"), guest.arch.debian(), guest.version.release());
    apt.update()?;
    let common = apt.dependency(&package, "linux-headers-")?;
    let kbuild = apt.dependency(&package, "linux-kbuild-")?;
    // Programs that run while a module is built, for the machine that builds it.
    let tools = Apt::new(guest.folder.join("apt-host"), host()?, guest.version.release());
    tools.update()?;
    let parts = guest.folder.join("headers-parts");
    let _ = fs::remove_dir_all(&parts);
    for (apt, package) in [(&apt, &package), (&apt, &common), (&tools, &kbuild)] {
        apt.unpack(package, &parts.join(package))?;
    }
    let draft = guest.folder.join("headers-draft");
    let _ = fs::remove_dir_all(&draft);
    fs::create_dir_all(&draft).map_err(|e| Trouble::Broken(format!("{}: {e}", draft.display())))?;
    // The makefile names its common part by the path where the package would be installed. Without `vmlinux`, whose types
    // nobody asks for here, the build needs no further tool.
    let join = "for part in \"$0\"/*; do cp -a \"$part\"/. \"$1\"; done; cd \"$1/usr/src/$3\"; \
                sed -i \"s#^include /usr/src/#include $2/usr/src/#\" Makefile; rm -f vmlinux";
    let words: [&Path; 4] = [&parts, &draft, &folder, Path::new(&package)];
    output(Command::new("sh").arg("-ec").arg(join).args(words))?;
    let _ = fs::remove_dir_all(&parts);
    fs::rename(&draft, &folder).map_err(|e| Trouble::Broken(format!("{}: {e}", folder.display())))?;
    Ok(place)
}
