//! The initramfs of one test: busybox, the static tool, the modules, and what is run.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::fetch::{BUSYBOX, Kernel};
use crate::outcome::Trouble;
use crate::tool::{output, target};

/// What every test begins with.
const PRELUDE: &str = include_str!("tests/prelude.sh");

/// Modules by name. One that a kernel does not have is built in, or merged into another.
const MODULES: [&str; 20] = [
    "scsi_common",
    "scsi_mod",
    "libata",
    "libahci",
    "ahci",
    "crct10dif_common",
    "crc-t10dif",
    "crc64",
    "crc64-rocksoft",
    "t10-pi",
    "sd_mod",
    "irqbypass",
    "vfio_virqfd",
    "vfio",
    "vfio_iommu_type1",
    "vfio-pci-core",
    "vfio-pci",
    "nvme-core",
    "nvme",
    "e1000e",
];

/// Makes the image and returns its path.
pub(super) fn make(name: &str, script: &str, kernel: &Kernel, tool: &Path) -> Result<PathBuf, Trouble> {
    let root = target().join("guest/x86_64").join(name);
    let failed = |e| Trouble::Broken(format!("{}: {e}", root.display()));
    let _ = fs::remove_dir_all(&root);
    for folder in ["bin", "sys", "proc", "dev", "run", "var", "etc", "tmp"] {
        fs::create_dir_all(root.join(folder)).map_err(failed)?;
    }
    fs::copy(BUSYBOX, root.join("bin/busybox")).map_err(failed)?;
    fs::copy(tool, root.join("bin/bindctl")).map_err(failed)?;
    let init = root.join("init");
    fs::write(&init, format!("{PRELUDE}\n{script}\npassed\n")).map_err(failed)?;
    fs::set_permissions(&init, fs::Permissions::from_mode(0o755)).map_err(failed)?;
    let modules = Path::new("lib/modules").join(&kernel.release);
    copy_modules(&kernel.root.join(&modules), &root.join(&modules)).map_err(failed)?;
    output(Command::new("depmod").arg("-b").arg(&root).arg(&kernel.release))?;
    let image = root.with_extension("initrd");
    // cpio reads names from its standard input, so a shell joins the two.
    let pack = "cd \"$0\" && find . | cpio --quiet -o -H newc > \"$1\"";
    output(Command::new("sh").arg("-ec").arg(pack).arg(&root).arg(&image))?;
    Ok(image)
}

fn copy_modules(from: &Path, to: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(from)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && !path.is_symlink() {
            copy_modules(&path, &to.join(name))?;
        } else if name.split(".ko").next().is_some_and(|stem| name.contains(".ko") && MODULES.contains(&stem)) {
            fs::create_dir_all(to)?;
            fs::copy(&path, to.join(name))?;
        }
    }
    Ok(())
}
