//! A small Debian in a folder: the package is installed there, and initramfs images are made there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{failed, folder};
use crate::install::{install, offline};
use crate::outcome::{Outcome, Trouble};
use crate::tool::{exists, is_root, output};

/// The release.
const RELEASE: &str = "bookworm";

/// Packages beside the smallest system. `dracut-core` can be there together with the other maker of images.
const PACKAGES: &str = "initramfs-tools-core,dracut-core,kmod,udev,zstd,systemd,cpio,busybox-static";

/// Modules that nothing here needs, below `kernel/`: they are half a gigabyte.
const UNNEEDED: [&str; 10] = [
    "drivers/gpu",
    "drivers/net",
    "drivers/media",
    "drivers/staging",
    "drivers/infiniband",
    "drivers/iio",
    "sound",
    "net",
    "fs",
    "drivers/usb",
];

/// The folder.
pub(super) struct Chroot {
    pub(super) root: PathBuf,
}

impl Chroot {
    /// Makes the system when it is not there.
    pub(super) fn prepare() -> Result<Self, Trouble> {
        let root = folder().join(RELEASE);
        if !is_root() {
            return Err(Trouble::Skipped("only root can install a Debian in a folder".into()));
        }
        if !exists("debootstrap") {
            install(&["debootstrap"])?;
        }
        if !root.is_dir() {
            println!("installing Debian {RELEASE} in {}", root.display());
            let draft = folder().join("unfinished");
            let _ = fs::remove_dir_all(&draft);
            let include = format!("--include={PACKAGES}");
            output(Command::new("debootstrap").args(["--variant=minbase", &include, RELEASE]).arg(&draft))
                .map_err(offline)?;
            let new = Self { root: draft.clone() };
            new.kernel()?;
            // Renamed last: a folder of that name is complete.
            fs::rename(&draft, &root).map_err(|e| Trouble::Broken(format!("{}: {e}", root.display())))?;
        }
        Ok(Self { root })
    }

    /// Unpacks the kernel without installing it: nothing is to be made from it yet.
    fn kernel(&self) -> Outcome {
        let script = "set -e; cd /tmp
            package=$(apt-cache depends linux-image-amd64 | sed -n 's/ *Depends: \\(linux-image-.*\\)/\\1/p' | head -n 1)
            apt-get -q -o APT::Sandbox::User=root download $package
            dpkg-deb -x linux-image-*.deb /tmp/kernel
            rm linux-image-*.deb; apt-get clean
            mkdir -p /lib/modules; mv /tmp/kernel/boot/* /boot/; mv /tmp/kernel/lib/modules/* /lib/modules/; rm -r /tmp/kernel";
        self.run(&["sh", "-c", script]).map_err(offline)?;
        let modules = self.root.join("lib/modules").join(self.release()?).join("kernel");
        for unneeded in UNNEEDED {
            let _ = fs::remove_dir_all(modules.join(unneeded));
        }
        self.run(&["depmod", &self.release()?]).map(drop)
    }

    /// The release of the kernel that is there.
    pub(super) fn release(&self) -> Result<String, Trouble> {
        let folder = self.root.join("lib/modules");
        let mut names =
            fs::read_dir(&folder).into_iter().flatten().filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        names.next().ok_or_else(|| failed(format!("there is no kernel in {}", folder.display())))
    }

    /// Runs a program in the system and returns what it wrote.
    pub(super) fn run(&self, words: &[&str]) -> Result<String, Trouble> {
        let mut command = Command::new("chroot");
        command
            .arg(&self.root)
            .args(words)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        output(&mut command)
    }

    /// Writes a file of the system.
    pub(super) fn write(&self, path: &str, text: &str, mode: u32) -> Outcome {
        use std::os::unix::fs::PermissionsExt;
        let at = self.root.join(path.trim_start_matches('/'));
        let broken = |e| Trouble::Broken(format!("{}: {e}", at.display()));
        if let Some(above) = at.parent() {
            fs::create_dir_all(above).map_err(broken)?;
        }
        fs::write(&at, text).map_err(broken)?;
        fs::set_permissions(&at, fs::Permissions::from_mode(mode)).map_err(broken)
    }

    /// Installs the package.
    pub(super) fn install(&self, package: &Path) -> Outcome {
        let inside = self.root.join("tmp/bindctl.deb");
        fs::copy(package, &inside).map_err(|e| Trouble::Broken(format!("{}: {e}", inside.display())))?;
        self.run(&["dpkg", "--install", "/tmp/bindctl.deb"])?;
        println!("package: installed");
        Ok(())
    }

    /// Looks at the installed package: the program, its manual page and completions, and the unit.
    pub(super) fn look(&self) -> Outcome {
        self.run(&["bindctl", "--version"])?;
        self.run(&["sh", "-c", "zcat /usr/share/man/man1/bindctl.1.gz | grep -q '^.TH bindctl'"])?;
        self.run(&["sh", "-c", "bash -n /usr/share/bash-completion/completions/bindctl"])?;
        let enabled = self.run(&["systemctl", "is-enabled", "bindctl.service"])?;
        if enabled.trim() != "enabled" {
            return Err(failed(format!("the unit is {}", enabled.trim())));
        }
        self.run(&["systemd-analyze", "verify", "--man=no", "/lib/systemd/system/bindctl.service"])?;
        println!("package: program, manual page, completions and unit are in order");
        Ok(())
    }

    /// Purges the package: no file of it is left.
    pub(super) fn purge(&self) -> Outcome {
        self.write("/var/lib/bindctl/given/left.json", "{}", 0o644)?;
        self.run(&["dpkg", "--purge", "bindctl"])?;
        let left = self.run(&["find", "/usr", "/etc", "/var/lib", "/run", "/lib", "-xdev", "-name", "*bindctl*"])?;
        if !left.trim().is_empty() {
            return Err(failed(format!(
                "purging the package has left {}",
                left.split_whitespace().collect::<Vec<_>>().join(" ")
            )));
        }
        println!("package: purged, and nothing is left");
        Ok(())
    }
}
