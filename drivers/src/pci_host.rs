//! Host bridge of PCI Express with configuration space in memory (`pci-host-ecam-generic`), as on QEMU's `virt` and many servers.
//!
//! Finds the functions behind the bridge, gives them addresses where firmware left none, and adds each as a device on the bus `pci`.
//! Layouts: `core/src/pci`; the device tree's properties: *PCI Bus Binding to IEEE 1275* 2.1, and Linux's
//! `Documentation/devicetree/bindings/pci/host-generic-pci.yaml`.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;

use bindery::binding::{Bound, MmioHandle, ResourceError};
use bindery::bus::BusDevice;
use bindery::driver::{Driver, Match, ProbeError, QuiesceError, Quiesced};
use bindery::env::{Io, IoError, Width};
use bindery::pci::{self, ConfigSpace, Ecam, Functions, Header, HostBridge, Window};
use bindery::sync::SpinLock;

/// The driver.
#[derive(Debug, Default)]
pub struct PciHost {
    /// Segment group of each bridge that was ever bound, by device: functions keep their names.
    segments: SpinLock<BTreeMap<Arc<str>, u16>>,
}

impl PciHost {
    /// The segment group of `dev`: what firmware says (`linux,pci-domain`), or else the lowest one from 0x8000 on that no bridge has.
    fn segment(&self, dev: Bound<'_>, firmware: Option<u32>) -> Result<u16, ProbeError> {
        let mut segments = self.segments.lock();
        if let Some(segment) = segments.get(&dev.desc().name) {
            return Ok(*segment);
        }
        let taken = |segment: &u16| segments.values().any(|taken| taken == segment);
        let segment = match firmware.map(u16::try_from) {
            Some(Ok(segment)) if !taken(&segment) => segment,
            Some(Ok(_)) => return Err(ProbeError::Device("linux,pci-domain: another host bridge has it")),
            Some(Err(_)) => return Err(ProbeError::Device("linux,pci-domain: above 65535")),
            None => {
                // Above those that firmware gives, whichever bridge comes first (P8).
                (0x8000..=u16::MAX)
                    .find(|segment| !taken(segment))
                    .ok_or(ProbeError::Device("no segment group is left"))?
            }
        };
        segments.insert(Arc::clone(&dev.desc().name), segment);
        Ok(segment)
    }
}

/// Configuration space, as long as the bridge is bound.
struct Registers(MmioHandle);

impl Io for Registers {
    fn size(&self) -> u64 {
        self.0.size()
    }

    fn read(&self, offset: u64, width: Width) -> Result<u64, IoError> {
        self.0.read(offset, width)
    }

    fn write(&self, offset: u64, width: Width, value: u64) -> Result<(), IoError> {
        self.0.write(offset, width, value)
    }
}

impl Driver for PciHost {
    const NAME: &'static str = "pci-host-generic";
    const MATCHES: &'static [Match] = &[Match::compatible("pci-host-ecam-generic")];
    type Data<'b> = ();

    fn probe(&self, dev: Bound<'_>) -> Result<(), ProbeError> {
        let cell = |name, at: usize| {
            let value = dev.desc().property(name)?.as_chunks::<4>().0.get(at)?;
            Some(u32::from_be_bytes(*value))
        };
        let byte = |name, at| cell(name, at).map(u8::try_from);
        let (first, last) = match (byte("bus-range", 0), byte("bus-range", 1)) {
            (None, None) => (0, u8::MAX),
            (Some(Ok(first)), Some(Ok(last))) if first <= last => (first, last),
            _ => return Err(ProbeError::Device("bus-range: not two bus numbers, the lower one first")),
        };
        let segment = self.segment(dev, cell("linux,pci-domain", 0))?;
        let ranges = dev.desc().property("ranges").ok_or(ProbeError::Device("ranges: missing, or above 256 bytes"))?;
        // The parent's #address-cells is not in the description. Of an entry's seven or six cells, the first one is the address
        // space, which the wrong division does not find in each entry.
        let windows = [2, 1].into_iter().find_map(|cells| Window::from_ranges(ranges, cells));
        let windows = windows.ok_or(ProbeError::Device("ranges: malformed"))?;

        if dev.desc().property("dma-ranges").is_some_and(|ranges| !ranges.is_empty()) {
            return Err(ProbeError::Device("dma-ranges: not supported for the functions behind this bridge"));
        }
        let ecam = Ecam::new(Arc::new(Registers(dev.mmio(0)?.handle())), first);
        let last =
            last.min(ecam.last_bus().ok_or(ProbeError::Device("reg: shorter than a bus's configuration space"))?);
        let config: Arc<dyn ConfigSpace + Send + Sync> = Arc::new(ecam);
        let host = HostBridge { config: &*config, segment, buses: first..=last, windows: &windows };
        let found = pci::enumerate(&host)?;
        for problem in &found.problems {
            dev.log(format_args!("{problem}"));
        }
        let isolation = found.isolate(&*config)?;
        let functions = Functions::new(Arc::clone(&config), dev.system_clock(), &windows, &found);
        for function in &found.functions {
            let bus = functions.reach(function);
            let ready = match function.header {
                Header::Bridge => bus.open_bridge(),
                // What firmware has left running does not access memory before a driver is there for it.
                _ => bus.set_bus_master(false).and_then(|()| bus.disable_messages()),
            };
            if let Err(error) = ready {
                dev.log(format_args!("{}: {error}", function.at));
            }
            // One that cannot be added, for its name perhaps, is reported by the core; the others are added.
            let mut desc = function.description(dev.desc(), &windows, &isolation);
            match found.interrupt(function, dev.desc()) {
                Ok(interrupt) => desc.resources.extend(interrupt),
                Err(problem) => dev.log(format_args!("{problem}")),
            }
            let added = match function.header {
                Header::Device => dev.add_child_on(desc, Arc::new(bus)),
                // Its bus mastering is that of the functions behind it, and no proof of anything.
                _ => dev.add_child(desc),
            };
            match added {
                Ok(_) | Err(ResourceError::ChildExists | ResourceError::ChildName) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn quiesce((): &()) -> Result<Quiesced, QuiesceError> {
        // A host bridge only passes accesses on, and the functions behind it were removed.
        Ok(Quiesced::stopped())
    }
}
