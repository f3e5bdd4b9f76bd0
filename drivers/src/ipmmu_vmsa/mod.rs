//! The IPMMU-VMSA of Renesas R-Car Gen3, Gen4 and RZ/G2.
//!
//! A *root* instance holds the translation contexts and walks the page tables; *leaves* hold the micro-TLBs of bus
//! masters and name their root in `renesas,ipmmu-main`. Only leaves translate for devices.
//!
//! A disabled micro-TLB passes addresses through unchanged, so a device is blocked by a context in which nothing is
//! mapped. All blocked devices of a root share one, the highest; DMA domains get contexts from the lowest up. Masters
//! of one leaf share a group.

mod context;
mod fault;
mod leaf;
mod regs;
mod root;

use alloc::sync::Arc;

use bindery::addr::DeviceAddr;
use bindery::binding::Bound;
use bindery::driver::{Driver, IrqReturn, Match, ProbeError, QuiesceError, Quiesced};
use bindery::env::IoError;
use bindery::iommu::Translation;

use leaf::{Leaf, LeafIommu};
use regs::{GEN3, GEN4, Layout, Regs};
pub use root::Root;

/// The property by which a leaf names its root, with its interrupt bit there.
const MAIN: &str = "renesas,ipmmu-main";

/// The driver of roots and leaves.
#[derive(Debug)]
pub struct IpmmuVmsa;

/// Driver data of one instance.
pub enum Instance<'b> {
    /// A root, which handles the faults of all its leaves.
    Root {
        /// Its binding.
        dev: Bound<'b>,
        /// The contexts.
        root: Arc<Root>,
    },
    /// A leaf. Its data belongs to the core, as an IOMMU.
    Leaf,
}

impl core::fmt::Debug for Instance<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Root { root, .. } => write!(f, "Root({})", root.name()),
            Self::Leaf => f.write_str("Leaf"),
        }
    }
}

impl Driver for IpmmuVmsa {
    const NAME: &'static str = "ipmmu-vmsa";
    const MATCHES: &'static [Match] = &[
        Match::compatible("renesas,ipmmu-r8a774a1"),
        Match::compatible("renesas,ipmmu-r8a774b1"),
        Match::compatible("renesas,ipmmu-r8a774c0"),
        Match::compatible("renesas,ipmmu-r8a774e1"),
        Match::compatible("renesas,ipmmu-r8a7795"),
        Match::compatible("renesas,ipmmu-r8a7796"),
        Match::compatible("renesas,ipmmu-r8a77961"),
        Match::compatible("renesas,ipmmu-r8a77965"),
        Match::compatible("renesas,ipmmu-r8a77970"),
        Match::compatible("renesas,ipmmu-r8a77980"),
        Match::compatible("renesas,ipmmu-r8a77990"),
        Match::compatible("renesas,ipmmu-r8a77995"),
        Match::compatible("renesas,ipmmu-r8a779a0"),
        Match::compatible("renesas,rcar-gen4-ipmmu-vmsa"),
    ];
    type Data<'b> = Instance<'b>;

    fn probe<'b>(&self, dev: Bound<'b>) -> Result<Instance<'b>, ProbeError> {
        let layout = layout(dev);
        // The root comes first: without it, a leaf is deferred before it touches the hardware.
        let main = dev.references(MAIN).next().map(|(node, _)| node);
        let root = main.map(|node| dev.supplier::<Root>(node)).transpose()?;
        if root.is_none() && dev.property(MAIN).is_some() {
            return Err(ProbeError::Device("renesas,ipmmu-main names no device"));
        }
        let regs = Regs::new(&dev.mmio(0)?.handle(), layout)?;
        match root {
            None => start_root(dev, regs),
            Some(root) if root.layout() == layout => start_leaf(dev, regs, root),
            Some(_) => Err(ProbeError::Device("the root is of another generation")),
        }
    }

    fn quiesce(_: &Instance<'_>) -> Result<Quiesced, QuiesceError> {
        // No device uses it any more; its only DMA are table walks of contexts, which are disabled.
        Ok(Quiesced::stopped())
    }

    fn interrupt(data: &Instance<'_>, _: usize) -> IrqReturn {
        match data {
            Instance::Root { dev, root } => handle_faults(*dev, root).unwrap_or(IrqReturn::None),
            Instance::Leaf => IrqReturn::None,
        }
    }
}

fn layout(dev: Bound<'_>) -> &'static Layout {
    let gen4 = |c: &Arc<str>| matches!(&**c, "renesas,ipmmu-r8a779a0" | "renesas,rcar-gen4-ipmmu-vmsa");
    if dev.desc().compatible.iter().any(gen4) { &GEN4 } else { &GEN3 }
}

fn start_root(dev: Bound<'_>, regs: Regs) -> Result<Instance<'_>, ProbeError> {
    let root = Root::new(dev, regs)?;
    let last = Arc::clone(&root);
    dev.action("contexts off", move || last.shut_down())?;
    // Interrupt 0 is that of non-secure contexts, the only kind that this driver uses.
    dev.irq(0)?;
    dev.provide(Arc::clone(&root))?;
    Ok(Instance::Root { dev, root })
}

fn start_leaf(dev: Bound<'_>, regs: Regs, root: Arc<Root>) -> Result<Instance<'_>, ProbeError> {
    let leaf = Leaf::new(dev.name(), regs, root)?;
    let last = Arc::clone(&leaf);
    dev.action("contexts off", move || last.shut_down())?;
    dev.iommu_provider().provide(Arc::new(LeafIommu(leaf)))?;
    Ok(Instance::Leaf)
}

/// Reports and clears all faults.
fn handle_faults(dev: Bound<'_>, root: &Root) -> Result<IrqReturn, IoError> {
    let mut handled = IrqReturn::None;
    for number in root.layout().usable() {
        let status = root.regs.read(number, regs::IMSTR)?;
        if status & regs::IMSTR_FAULTS == 0 {
            continue;
        }
        handled = IrqReturn::Handled;
        // Read before the status is cleared, which clears the address as well.
        let low = root.regs.read(number, regs::IMELAR)?;
        let high = root.regs.read(number, regs::IMEUAR)?;
        root.regs.write(number, regs::IMSTR, 0)?;
        let addr = DeviceAddr(u64::from(high) << 32 | u64::from(low));
        let (reason, write) = fault::decode(status);
        match root.context(number) {
            Some(context) => {
                let translation: Arc<dyn Translation> = context;
                dev.iommu_provider().report_fault(&translation, addr, write, reason);
            }
            None => dev.log(format_args!("context {number}, which is not in use: {addr}: {reason}")),
        }
    }
    Ok(handled)
}
