//! A directory that looks like a host.

use std::path::{Path, PathBuf};

use super::tree::Tree;
use super::{Entry, Face, FaceError, Kind, Node, Result};

/// A directory with `sys`, `proc`, `dev` and `run/udev` below it.
///
/// Nothing outside of it is reached: a link that leads out is [`FaceError::Escapes`]. Device nodes in it are never
/// opened; a node may also be a file that reads `c 13:69` or `b 8:16`.
#[derive(Debug)]
pub struct Directory {
    tree: Tree,
    path: PathBuf,
}

impl Directory {
    /// Opens the directory.
    pub fn open(path: &Path) -> std::io::Result<Self> {
        Ok(Self { tree: Tree::open_at(path, true)?, path: path.into() })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Face for Directory {
    fn read(&self, path: &str) -> Result<Vec<u8>> {
        self.tree.read(path)
    }

    fn write(&self, path: &str, value: &[u8]) -> Result<()> {
        self.tree.write(path, value)
    }

    fn list(&self, path: &str) -> Result<Vec<Entry>> {
        self.tree.list(path)
    }

    fn link(&self, path: &str) -> Result<String> {
        self.tree.link(path)
    }

    fn kind(&self, path: &str) -> Result<Kind> {
        let kind = self.tree.kind(path)?;
        if kind == Kind::File && path.contains("/dev/") && !path.starts_with("/sys/") {
            return Ok(self.tree.read(path).ok().and_then(|bytes| described(&bytes)).map_or(kind, Kind::Node));
        }
        Ok(kind)
    }

    fn open_node(&self, _: u32, _: u32, text: &str) -> Option<Node> {
        if !text.starts_with('/') || text.split('/').any(|part| part == "..") {
            return None;
        }
        match self.kind(text) {
            Ok(Kind::Node(node)) => Some(node),
            _ => None,
        }
    }

    fn owner(&self, path: &str) -> Result<(u32, u32)> {
        self.tree.stat(path).map(|stat| (stat.st_uid, stat.st_gid))
    }

    fn claimed(&self, _: &str, _: Node) -> Option<bool> {
        None
    }

    fn load_module(&self, name: &str) -> Result<()> {
        Err(FaceError::Unsupported { path: name.into(), why: "a directory has no kernel that could load a module" })
    }

    fn own(&self, path: &str, _: Node, _: u32, _: u32) -> Result<()> {
        Err(FaceError::Unsupported { path: path.into(), why: "the owner of a node in a directory is not changed" })
    }

    fn has_kernel(&self) -> bool {
        false
    }
}

/// The number that the text `c 13:69` stands for.
fn described(bytes: &[u8]) -> Option<Node> {
    let text = std::str::from_utf8(bytes).ok()?.trim_end();
    let (kind, number) = text.split_once(' ')?;
    let (major, minor) = number.split_once(':')?;
    let block = match kind {
        "b" => true,
        "c" => false,
        _ => return None,
    };
    Some(Node { block, major: major.parse().ok()?, minor: minor.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use rustix::fs::{FileType, Mode};

    use super::*;

    fn fake() -> (tempfile::TempDir, Directory) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("sys/a")).unwrap();
        std::fs::create_dir_all(dir.path().join("dev")).unwrap();
        let face = Directory::open(dir.path()).unwrap();
        (dir, face)
    }

    #[test]
    fn a_link_that_leads_out_is_refused_and_not_followed() {
        let (dir, face) = fake();
        symlink("/etc/hostname", dir.path().join("sys/a/absolute")).unwrap();
        symlink("../../../../../../etc/hostname", dir.path().join("sys/a/climbs")).unwrap();
        symlink("../..", dir.path().join("sys/a/top")).unwrap();
        for path in ["/sys/a/absolute", "/sys/a/climbs"] {
            assert!(matches!(face.read(path), Err(FaceError::Escapes { .. })), "{path}: {:?}", face.read(path));
        }
        assert!(matches!(face.resolve("/sys/a/top"), Err(FaceError::Escapes { .. })));
    }

    #[test]
    fn a_pipe_is_refused_and_does_not_block() {
        let (dir, face) = fake();
        rustix::fs::mknodat(rustix::fs::CWD, dir.path().join("sys/a/pipe"), FileType::Fifo, Mode::RUSR, 0).unwrap();
        assert!(matches!(face.read("/sys/a/pipe"), Err(FaceError::Special { what: "a pipe", .. })));
    }

    #[test]
    fn a_file_can_describe_a_node() {
        let (dir, face) = fake();
        std::fs::write(dir.path().join("dev/sda"), "b 8:0\n").unwrap();
        assert_eq!(face.kind("/dev/sda").unwrap(), Kind::Node(Node { block: true, major: 8, minor: 0 }));
        assert_eq!(face.open_node(1, 3, "/dev/sda").unwrap().to_string(), "8:0");
    }

    #[test]
    fn a_folder_that_is_made_anew_is_not_taken_for_the_old_one() {
        let (dir, face) = fake();
        let folder = dir.path().join("sys/a");
        for round in ["1", "2"] {
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join("value"), round).unwrap();
            symlink(round, folder.join("link")).unwrap();
            assert_eq!(face.names("/sys/a"), ["link", "value"]);
            assert_eq!((face.text("/sys/a/value"), face.link("/sys/a/link")), (Ok(round.into()), Ok(round.into())));
            std::fs::remove_dir_all(&folder).unwrap();
        }
        assert!(face.read("/sys/a/value").unwrap_err().is_absent());
    }

    #[test]
    fn a_link_out_of_its_folder_is_followed_while_it_stays_inside() {
        let (dir, face) = fake();
        std::fs::write(dir.path().join("dev/file"), "x").unwrap();
        symlink("../../dev/file", dir.path().join("sys/a/link")).unwrap();
        assert_eq!(face.names("/sys/a"), ["link"]);
        assert_eq!(face.text("/sys/a/link").unwrap(), "x");
    }

    #[test]
    fn a_missing_file_is_absent_and_named() {
        let (_dir, face) = fake();
        let error = face.read("/sys/a/nothing").unwrap_err();
        assert!(error.is_absent());
        assert!(error.to_string().contains("/sys/a/nothing"), "{error}");
    }
}
