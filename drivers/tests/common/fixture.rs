//! Fixture of races: a settled board, and its reset after each race.

use bindery::control::Tree;
use bindery::device::DeviceDesc;
use bindery::machine::{Policy, ResourceUsage};
use bindery_drivers::sata_rcar::SataRcar;
use bindery_sim::salvator::Salvator;

use super::{IPMMU_HC, IPMMU_MM, Rig, SATA, numbered_disk, on};

/// State shared by the threads.
pub struct Fixture {
    pub rig: Rig,
    pub tree: Tree,
    /// Descriptions of the devices that may be removed and added again.
    pub descs: Vec<DeviceDesc>,
    /// Resource usage of the settled machine.
    before: ResourceUsage,
}

impl Fixture {
    /// All drivers on the board that `salvator` describes, with a disk of `sectors`; settled. Besides the disk
    /// controller and its IOMMUs, the devices `more` may be removed.
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
        let mut fixture = Self { rig, tree, descs, before };
        fixture.reset();
        fixture.before = fixture.rig.resource_usage();
        fixture
    }

    /// Reads a sector of the disk through its driver. False without a driver, or when it is unbound meanwhile.
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

    /// Adds and registers everything that is missing, and settles.
    pub fn restore(&self) {
        let machine = &self.rig.machine;
        for desc in &self.descs {
            let _ = machine.add_device(desc.clone());
        }
        bindery_drivers::register_all(machine);
        machine.settle();
    }

    /// Removes and adds the devices, so that all are as in the beginning.
    fn reset(&self) {
        let machine = &self.rig.machine;
        // A device that vanished while it was being added again is marked as removed; a new one is not.
        for desc in &self.descs {
            machine.remove_device(&desc.name);
        }
        self.restore();
        for desc in &self.descs {
            assert!(machine.device(&desc.name).is_some_and(|d| !d.is_removed()), "{} was not added again", desc.name);
        }
    }

    /// Resets the fixture after a race, and checks that it is as before and works, that no promise was broken and no
    /// model misused.
    #[track_caller]
    pub fn assert_recovered(&self) {
        self.reset();
        assert_eq!(self.rig.driver(SATA), Some("sata_rcar"), "P8: {:?}", self.rig.machine.waiting());
        assert_eq!(without_group_numbers(&self.rig.resource_usage()), without_group_numbers(&self.before), "P4");
        assert!(self.read_the_disk(1), "the disk is read after the race");
        self.rig.assert_well();
    }
}

/// `resource_usage` without the numbers of groups: a group that was made again has a new number, which depends on the
/// order of the race.
fn without_group_numbers(resource_usage: &ResourceUsage) -> ResourceUsage {
    let mut without_group_numbers = resource_usage.clone();
    without_group_numbers
        .groups
        .iter_mut()
        .chain(&mut without_group_numbers.bindings)
        .for_each(|text| *text = unnumbered(text));
    without_group_numbers.groups.sort_unstable();
    without_group_numbers
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
