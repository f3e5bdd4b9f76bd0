//! Packages of Debian's, for any architecture and release: fetched and unpacked below `target`, never installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::install::{RETRIES, offline};
use crate::outcome::{Outcome, Trouble};
use crate::tool::{exists, output};

/// The keys that Debian signs its releases with, in the package of the same name.
const KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// One architecture of one release of Debian, with lists of packages of its own: the host's are left alone, so neither
/// root nor a change of the host's configuration is needed.
pub(crate) struct Apt {
    folder: PathBuf,
    arch: &'static str,
    release: &'static str,
}

impl Apt {
    /// Packages for `arch` (Debian's name) from `release`, with lists in `folder`.
    pub(crate) fn new(folder: PathBuf, arch: &'static str, release: &'static str) -> Self {
        Self { folder, arch, release }
    }

    /// Fetches the package lists.
    pub(crate) fn update(&self) -> Outcome {
        for program in ["apt-get", "apt-cache", "dpkg-deb"] {
            if !exists(program) {
                return Err(Trouble::Skipped(format!("{program} is not installed: Debian's packages come through it")));
            }
        }
        let failed = |e| Trouble::Broken(format!("{}: {e}", self.folder.display()));
        fs::create_dir_all(self.folder.join("lists/partial")).map_err(failed)?;
        fs::create_dir_all(self.folder.join("cache/archives/partial")).map_err(failed)?;
        let keys = if Path::new(KEYS).exists() { format!(" signed-by={KEYS}") } else { String::new() };
        let source = format!("deb [arch={}{keys}] {} {} main\n", self.arch, mirror()?, self.release);
        fs::write(self.folder.join("sources.list"), source).map_err(failed)?;
        output(self.command("apt-get").args(["update", "--error-on=any"])).map(drop).map_err(offline)
    }

    /// The package that `meta`, whose only job it is, depends on and whose name begins with `prefix`.
    pub(crate) fn dependency(&self, meta: &str, prefix: &str) -> Result<String, Trouble> {
        let depends = output(self.command("apt-cache").args(["depends", meta]))?;
        let mut named = depends.lines().filter_map(|l| l.trim().strip_prefix("Depends: "));
        let found = named.find(|p| p.starts_with(prefix));
        let what = || Trouble::Skipped(format!("{meta} of {} depends on no {prefix}...", self.release));
        found.map(ToOwned::to_owned).ok_or_else(what)
    }

    /// Fetches a package and unpacks it to `to`, which is there only when it is complete.
    pub(crate) fn unpack(&self, package: &str, to: &Path) -> Outcome {
        println!("fetching {package} ({}, {})", self.release, self.arch);
        let draft = to.with_extension("draft");
        let failed = |e| Trouble::Broken(format!("{}: {e}", draft.display()));
        let _ = fs::remove_dir_all(&draft);
        fs::create_dir_all(&draft).map_err(failed)?;
        output(self.command("apt-get").current_dir(&draft).args(["download", package])).map_err(offline)?;
        let archive = fs::read_dir(&draft).map_err(failed)?.filter_map(Result::ok).map(|e| e.path()).next();
        let archive = archive.ok_or_else(|| Trouble::Broken(format!("apt-get download {package} left no file")))?;
        output(Command::new("dpkg-deb").arg("-x").arg(&archive).arg(&draft))?;
        fs::remove_file(&archive).map_err(failed)?;
        fs::rename(&draft, to).map_err(failed)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let path = |name: &str| self.folder.join(name).display().to_string();
        for option in [
            format!("Dir::Etc::SourceList={}", path("sources.list")),
            "Dir::Etc::SourceParts=-".into(),
            format!("Dir::State::Lists={}", path("lists")),
            format!("Dir::Cache={}", path("cache")),
            format!("APT::Architecture={}", self.arch),
            format!("APT::Architectures={}", self.arch),
            "APT::Sandbox::User=root".into(),
            RETRIES.into(),
        ] {
            command.arg("-o").arg(option);
        }
        command.arg("-q");
        command
    }
}

/// The mirror of Debian that the host's apt uses.
fn mirror() -> Result<String, Trouble> {
    let mut list = Command::new("apt-get");
    list.args(["indextargets", "--format", "$(ORIGIN) $(LABEL) $(REPO_URI)", "Identifier: Packages"]);
    let listed = output(&mut list).map_err(offline)?;
    let mut debian = listed.lines().filter_map(|line| line.strip_prefix("Debian Debian "));
    debian.next().map(ToOwned::to_owned).ok_or_else(|| {
        Trouble::Skipped(
            "apt knows no mirror of Debian, whose kernels are booted (or `apt-get update` was never run)".into(),
        )
    })
}
