//! A settled board that threads race on, and the way back to rest.

use bindery::control::Tree;
use bindery::device::DeviceDesc;
use bindery::machine::{Policy, ResourceUsage};
use bindery_drivers::sata_rcar::SataRcar;
use bindery_sim::salvator::Salvator;

use super::{IPMMU_HC, IPMMU_MM, Rig, SATA, numbered_disk, on};

/// What the threads share.
pub struct World {
    pub rig: Rig,
    pub tree: Tree,
    /// Descriptions of the devices that may leave and come back.
    pub descs: Vec<DeviceDesc>,
    /// What the machine uses at rest.
    before: ResourceUsage,
}

impl World {
    /// All drivers on the board that `salvator` describes, with a disk of `sectors`; settled. `more` may leave, beside
    /// the disk controller and its IOMMUs.
    pub fn new(salvator: Salvator, sectors: u16, policy: Policy, more: &[&str]) -> Self {
        let rig = on(salvator.disk(numbered_disk(sectors)), policy);
        rig.board.keep_events(0);
        rig.add_board();
        bindery_drivers::register_all(&rig.machine);
        rig.settle();
        let names = [SATA, IPMMU_HC, IPMMU_MM].iter().chain(more);
        let descs = names.map(|n| rig.machine.device(n).unwrap().desc().clone()).collect();
        let tree = Tree::new(&rig.machine);
        let before = rig.resource_usage();
        let mut world = Self { rig, tree, descs, before };
        world.come_to_rest();
        world.before = world.rig.resource_usage();
        world
    }

    /// Reads a sector of the disk through its driver. False when there is no driver to ask, or it leaves.
    #[track_caller]
    pub fn read_the_disk(&self, lba: u64) -> bool {
        let Some(client) = self.rig.machine.client::<SataRcar>(SATA) else { return false };
        let mut back = [0xff; 512];
        let read = client.call(|port| port.read(lba, &mut back));
        if !matches!(read, Ok(Ok(()))) {
            return false;
        }
        let expected = (lba as u16).to_le_bytes();
        assert!(back.chunks(2).all(|word| word == expected), "sector {lba} is not what the disk holds");
        true
    }

    /// Brings everything back that is away, and settles.
    pub fn come_back(&self) {
        let machine = &self.rig.machine;
        for desc in &self.descs {
            let _ = machine.add_device(desc.clone());
        }
        bindery_drivers::register_all(machine);
        machine.settle();
    }

    /// Brings everything back that may be away, as it was in the beginning.
    fn come_to_rest(&self) {
        let machine = &self.rig.machine;
        // A device that vanished while it was being added again is told to be gone; a fresh one is not.
        for desc in &self.descs {
            machine.remove_device(&desc.name);
        }
        self.come_back();
        for desc in &self.descs {
            assert!(machine.device(&desc.name).is_some_and(|d| !d.is_removed()), "{} did not come back", desc.name);
        }
    }

    /// After a race: everything comes back, is as it was, and works; no promise was broken, no model used wrongly.
    #[track_caller]
    pub fn ends_well(&self) {
        self.come_to_rest();
        assert_eq!(self.rig.driver(SATA), Some("sata_rcar"), "P8: {:?}", self.rig.machine.waiting());
        assert_eq!(shape(&self.rig.resource_usage()), shape(&self.before), "P4");
        assert!(self.read_the_disk(1), "the disk is read after the race");
        self.rig.assert_well();
    }
}

/// `footprint` without the numbers of groups: a group that was dropped and made again has a new one, and which of them get
/// which depends on who won.
fn shape(resource_usage: &ResourceUsage) -> ResourceUsage {
    let mut shape = resource_usage.clone();
    shape.groups.iter_mut().chain(&mut shape.bindings).for_each(|text| *text = unnumbered(text));
    shape.groups.sort_unstable();
    shape
}

fn unnumbered(text: &str) -> String {
    let mut bare = String::new();
    let mut rest = text;
    while let Some(at) = ["id: ", "(\"group\", \""].iter().filter_map(|mark| Some(rest.find(mark)? + mark.len())).min()
    {
        bare.push_str(&rest[..at]);
        rest = rest[at..].trim_start_matches(|c: char| c.is_ascii_digit());
    }
    bare + rest
}
