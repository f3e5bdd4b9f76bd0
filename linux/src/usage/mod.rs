//! Users of a device and of everything below it.

mod below;
mod block;
mod console;
mod links;
mod net;
mod nodes;
mod nvidia;
mod signature;
mod vfio;
mod writers;

pub use below::{Below, Block, Controller, Interface};
pub use vfio::{Holder, VfioNode, holders, node_mismatches, nodes as vfio_nodes};

use crate::face::{Face, Memo};
use crate::inventory::{Device, Inventory};
use crate::obstacle::Findings;
use crate::system::System;

/// Input of the searches.
#[derive(Clone, Copy)]
pub struct Scene<'a> {
    /// The host.
    pub face: &'a dyn Face,
    /// Its devices.
    pub inventory: &'a Inventory,
    /// Its users.
    pub system: &'a System,
}

/// All users of `device` that can be found, each with what ends it.
///
/// Finding none proves nothing: users of the kernel's own that no file names are possible.
pub fn find(scene: Scene<'_>, device: &Device) -> Findings {
    let memo = Memo::new(scene.face, &scene.system.network.listed);
    let scene = Scene { face: &memo, ..scene };
    let below = Below::in_scene(scene, device);
    let mut findings = Findings::default();
    block::find(scene, device, &below, &mut findings);
    net::find(scene, device, &below, &mut findings);
    let claimed = console::find(scene, device, &below, &mut findings);
    nodes::find(scene, device, &below, &claimed, &mut findings);
    nvidia::find(scene, device, &mut findings);
    vfio::find(scene, device, &mut findings);
    vfio::find_below(scene, device, &below, &mut findings);
    links::find(scene, device, &below, &mut findings);
    writers::find(scene, device, &mut findings);
    for error in &below.troubles {
        findings.warn(error.to_string());
    }
    if scene.system.blind {
        findings.warn("descriptors of some processes cannot be read: run as root to find all holders");
    }
    findings
}
