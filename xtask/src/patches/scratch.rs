//! The scratch copy of the repository that patches are applied to, with a build folder of its own that all of them share.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::outcome::Trouble;
use crate::tool::{output, root, target};

/// A copy of what git tracks, and of what it does not ignore, as it is in the working tree.
pub(crate) struct Scratch {
    tree: PathBuf,
    build: PathBuf,
}

impl Scratch {
    /// Makes or refreshes the copy below `target/NAME`.
    pub(crate) fn prepare(name: &str) -> Result<Self, Trouble> {
        let base = target().join(name);
        let scratch = Self { tree: base.join("tree"), build: base.join("target") };
        scratch.restore()?;
        Ok(scratch)
    }

    pub(crate) fn tree(&self) -> &Path {
        &self.tree
    }

    pub(crate) fn build(&self) -> &Path {
        &self.build
    }

    /// Makes the copy equal to the working tree again. Files that are equal keep their times, so that little is built anew.
    pub(crate) fn restore(&self) -> Result<(), Trouble> {
        let mut list = Command::new("git");
        list.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]).current_dir(root());
        let listed = output(&mut list)?;
        let names: BTreeSet<&Path> = listed.split('\0').filter(|n| !n.is_empty()).map(Path::new).collect();
        let broken = |path: &Path, e: io::Error| Trouble::Broken(format!("{}: {e}", path.display()));
        for name in &names {
            let (from, to) = (root().join(name), self.tree.join(name));
            // Deleted in the working tree, but git still lists it.
            let Ok(wanted) = fs::read(&from) else { continue };
            if fs::read(&to).is_ok_and(|there| there == wanted) {
                continue;
            }
            let parent = to.parent().unwrap_or(&self.tree);
            fs::create_dir_all(parent).map_err(|e| broken(parent, e))?;
            fs::write(&to, wanted).map_err(|e| broken(&to, e))?;
        }
        self.remove_others(&self.tree, &names).map_err(|e| broken(&self.tree, e))
    }

    fn remove_others(&self, folder: &Path, names: &BTreeSet<&Path>) -> io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            let name = path.strip_prefix(&self.tree).unwrap_or(&path);
            if path.is_dir() {
                self.remove_others(&path, names)?;
            } else if !names.contains(name) || !root().join(name).exists() {
                fs::remove_file(&path)?;
            }
        }
        Ok(())
    }

    /// Applies the patch at `path`.
    pub(crate) fn apply(&self, path: &Path) -> Result<(), String> {
        let mut apply = Command::new("git");
        // The copy lies inside the repository, and git must not take it for a part of that.
        apply.env("GIT_CEILING_DIRECTORIES", self.tree.parent().unwrap_or(&self.tree));
        apply.args(["apply", "--whitespace=nowarn"]).arg(path).current_dir(&self.tree);
        output(&mut apply).map(drop).map_err(|e| e.why().to_owned())
    }
}
