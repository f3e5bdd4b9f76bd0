//! The initramfs of one boot: busybox, static programs, modules, and the script that is run.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Guest;
use crate::outcome::Trouble;
use crate::tool::output;

/// Contents of an initramfs.
pub(crate) struct Image<'a> {
    /// Its name, and that of its files.
    pub(crate) name: &'a str,
    /// The first process, a script of busybox's shell.
    pub(crate) init: &'a str,
    /// Modules by name. One that a kernel does not have is built in, or merged into another.
    pub(crate) modules: &'a [&'a str],
    /// Programs for `/bin`.
    pub(crate) programs: &'a [PathBuf],
}

impl Image<'_> {
    /// Makes the image and returns its path.
    pub(crate) fn make(&self, guest: &Guest) -> Result<PathBuf, Trouble> {
        let root = guest.folder.join(self.name);
        let failed = |e| Trouble::Broken(format!("{}: {e}", root.display()));
        let _ = fs::remove_dir_all(&root);
        for folder in ["bin", "sys", "proc", "dev", "run", "var", "etc", "tmp", "mnt"] {
            fs::create_dir_all(root.join(folder)).map_err(failed)?;
        }
        fs::copy(&guest.busybox, root.join("bin/busybox")).map_err(failed)?;
        for program in self.programs {
            fs::copy(program, root.join("bin").join(program.file_name().unwrap_or_default())).map_err(failed)?;
        }
        let init = root.join("init");
        fs::write(&init, self.init).map_err(failed)?;
        fs::set_permissions(&init, fs::Permissions::from_mode(0o755)).map_err(failed)?;
        let modules = Path::new("lib/modules").join(&guest.release);
        self.modules(&guest.root.join(&modules), &root.join(&modules))?;
        for list in ["modules.order", "modules.builtin", "modules.builtin.modinfo"] {
            let _ = fs::copy(guest.root.join(&modules).join(list), root.join(&modules).join(list));
        }
        shell("PATH=$PATH:/usr/sbin:/sbin depmod -b \"$0\" \"$1\"", &[&root, Path::new(&guest.release)])?;
        let image = root.with_extension("initrd");
        // cpio reads names from its standard input, so a shell joins the two.
        shell("cd \"$0\" && find . | cpio --quiet -o -H newc > \"$1\"", &[&root, &image])?;
        Ok(image)
    }

    fn modules(&self, from: &Path, to: &Path) -> Result<(), Trouble> {
        let failed = |e| Trouble::Broken(format!("{}: {e}", from.display()));
        for entry in fs::read_dir(from).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() && !path.is_symlink() {
                self.modules(&path, &to.join(name))?;
                continue;
            }
            let Some((stem, packed)) = name.split_once(".ko") else { continue };
            // A kernel calls one module by either sign; lists like this one are written with dashes.
            if !self.modules.iter().any(|m| m.replace('_', "-") == stem.replace('_', "-")) {
                continue;
            }
            fs::create_dir_all(to).map_err(failed)?;
            let plain = to.join(format!("{stem}.ko"));
            match packed {
                "" => fs::copy(&path, &plain).map(drop).map_err(failed)?,
                ".xz" => shell("xz -dc \"$0\" > \"$1\"", &[&path, &plain])?,
                other => return Err(Trouble::Broken(format!("{}: packed with {other}", path.display()))),
            }
        }
        Ok(())
    }
}

fn shell(script: &str, words: &[&Path]) -> Result<(), Trouble> {
    output(Command::new("sh").arg("-ec").arg(script).args(words)).map(drop)
}
