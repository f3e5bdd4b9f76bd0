//! The observable state, of the model and of the core.

use bindery::link::LinkState;

use crate::fixture::Driver;
use crate::model::{Owner, Phase, Rules, State};

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Seen {
    pub(crate) bound: bool,
    pub(crate) holder: Option<Driver>,
    /// Names of the suppliers that a driver is there for, and that are not; and that the driver was refused.
    pub(crate) waits_for: Vec<String>,
    /// Each supplier, and the state of the link to it.
    pub(crate) links: Vec<(String, LinkState)>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct View {
    /// Each device of the fixture, if it is there.
    pub(crate) devices: Vec<(&'static str, Option<Seen>)>,
    pub(crate) owner: Owner,
}

/// Observable state that the model expects in the stable state `s`.
pub(crate) fn expected(rules: &Rules, s: &State) -> View {
    let name = |d: usize| rules.fixture.devices[d].name;
    let see = |d: usize| {
        let device = s.devices[d].as_ref()?;
        let missing = rules.missing(s, d);
        let waits = device.phase == Phase::Unbound && rules.candidate(s, d).is_some();
        let mut waits_for: Vec<_> = missing.iter().filter(|_| waits).map(|m| name(*m).to_owned()).collect();
        let refused =
            device.refused.map(|(driver, _)| driver).filter(|driver| rules.candidate(s, d) == Some(*driver) && waits);
        waits_for.extend(refused.map(|driver| format!("{driver} was refused")));
        waits_for.sort();
        let link = |supplier: &usize| {
            let state = match device.phase {
                _ if missing.contains(supplier) => LinkState::Dormant,
                Phase::Unbound => LinkState::Available,
                Phase::Probing => LinkState::ConsumerProbe,
                Phase::Bound => LinkState::Active,
            };
            (name(*supplier).to_owned(), state)
        };
        let mut links: Vec<_> = rules.fixture.devices[d].suppliers.iter().map(link).collect();
        links.sort();
        Some(Seen { bound: device.phase == Phase::Bound, holder: device.holder, waits_for, links })
    };
    View { devices: (0..s.devices.len()).map(|d| (name(d), see(d))).collect(), owner: s.owner }
}
