//! Opens a device through VFIO, maps memory for it, resets it, and ends; or holds it as a guest does.
//!
//! `vfio-check /sys/bus/pci/devices/ADDRESS [--hold]`. Exit code 0: all done; 1: VFIO refused, with its reason; 2: wrong
//! arguments. With `--hold` it prints `holding` and keeps the device until it is killed, deaf to the kernel's requests.
//! It opens the device's own node where the kernel has one (VFIO cdev, with iommufd), else its group's.
//! It is for tests in guests and no part of the product. Debian's kernels have no cdev, so only the group has been tried.

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use iommufd_ioctls::IommuFd;
use vfio_ioctls::{VfioContainer, VfioDevice, VfioIommufd, VfioOps};

/// Address at which the device sees the memory.
const IOVA: u64 = 0x10_0000;

/// Bytes that are mapped.
const SIZE: usize = 2 << 20;

/// Alignment of the memory: the largest page of the architectures that are tested.
const PAGE: usize = 64 << 10;

/// `VFIO_PCI_CONFIG_REGION_INDEX`.
const CONFIG: u32 = 7;

type Failure = Box<dyn Error>;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let (path, hold) = match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [path] => (path, false),
        [path, "--hold"] => (path, true),
        _ => {
            eprintln!("usage: vfio-check /sys/bus/pci/devices/ADDRESS [--hold]");
            return ExitCode::from(2);
        }
    };
    match check(Path::new(path), hold) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vfio-check: {path}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The address space that devices are opened for, with a word for it.
fn address_space(path: &Path) -> Result<(Arc<dyn VfioOps>, &'static str), Failure> {
    // The directory is there on kernels without the cdev, too, but not a number in it.
    let mut entries = path.join("vfio-dev").read_dir().into_iter().flatten().flatten();
    if entries.any(|entry| entry.path().join("dev").exists()) && Path::new("/dev/iommu").exists() {
        let iommufd = Arc::new(IommuFd::new()?);
        return Ok((Arc::new(VfioIommufd::new(iommufd, None, None)?), "cdev"));
    }
    Ok((Arc::new(VfioContainer::new(None)?), "group"))
}

fn check(path: &Path, hold: bool) -> Result<(), Failure> {
    let (space, way) = address_space(path)?;
    let device = VfioDevice::new(path, Arc::clone(&space), true)?;
    println!("opened by its {way}");
    let mut ids = [0; 4];
    device.region_read(CONFIG, &mut ids, 0);
    println!("device {:04x}:{:04x}", u16::from_le_bytes([ids[0], ids[1]]), u16::from_le_bytes([ids[2], ids[3]]));
    let memory = vec![0u8; SIZE + PAGE].leak().as_mut_ptr();
    let memory = memory.wrapping_add(memory.align_offset(PAGE));
    // SAFETY: `memory` begins `SIZE` bytes that were leaked above: they are valid for as long as the process lives, and
    // neither a reference to them nor another pointer is made or used after this call.
    #[allow(unsafe_code)]
    unsafe {
        space.vfio_dma_map(IOVA, SIZE, memory)?;
    }
    println!("mapped");
    device.reset();
    println!("reset");
    if hold {
        println!("holding");
        loop {
            std::thread::park();
        }
    }
    space.vfio_dma_unmap(IOVA, SIZE)?;
    println!("unmapped");
    Ok(())
}
