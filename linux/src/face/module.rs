//! Loading kernel modules with what they need, by system call.

use std::fs::File;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::{Face, FaceError, Result};
use crate::path;

/// The kernel unpacks the file itself (`MODULE_INIT_COMPRESSED_FILE`, Linux 5.17, where it is configured).
const COMPRESSED: i32 = 4;

pub(super) fn load(face: &dyn Face, name: &str) -> Result<()> {
    let unsupported = |why| FaceError::Unsupported { path: name.into(), why };
    let release = face.text("/proc/sys/kernel/osrelease")?;
    let bases = ["/lib/modules", "/usr/lib/modules"].map(|base| format!("{base}/{}", release.trim()));
    let Some((base, list)) = bases.iter().find_map(|base| Some((base, face.try_text(&format!("{base}/modules.dep"))?)))
    else {
        return Err(unsupported("there is no modules.dep for the running kernel"));
    };
    let plain = |text: &str| text.replace('-', "_");
    let line = list.lines().filter_map(|line| line.split_once(':')).find(|(file, _)| {
        let file = path::name(file);
        file.split(".ko").next().is_some_and(|stem| plain(stem) == plain(name))
    });
    let Some((file, needs)) = line else { return Err(unsupported("there is no module of that name")) };
    // modules.dep names what is needed in the order in which it must be unloaded: the last is loaded first.
    for need in needs.split_whitespace().rev().chain([file]) {
        insert(&Path::new(base).join(need))?;
    }
    Ok(())
}

fn insert(file: &PathBuf) -> Result<()> {
    let fail = |errno| FaceError::Kernel { doing: "load", path: file.display().to_string(), errno };
    let opened = File::open(file).map_err(|error| fail(Errno::from_io_error(&error).unwrap_or(Errno::IO)))?;
    let plain = file.extension().is_some_and(|e| e == "ko");
    match rustix::system::finit_module(&opened, c"", if plain { 0 } else { COMPRESSED }) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(fail(errno)),
    }
}
