//! Origin of a report: a model, a scenario or a lifecycle, and the command that explores it again.

use std::fmt;

use bindery_explore::Report;
use bindery_explore::engine::{Bounds, Finding};
use bindery_explore::models::{self, Known, Model};
use bindery_explore::qemu::QemuLifecycle;
use bindery_explore::scenarios::NamedScenario;
use clap::ValueEnum;

use crate::session::QemuMachine;

/// Origin of a report.
pub(super) enum Origin {
    /// A model of a tear-down.
    Model(Model),
    /// The lifecycle of a device on the real core.
    Lifecycle(LifecycleName),
    /// A small system on the real core.
    Scenario(Box<NamedScenario>),
    /// The lifecycle of a device of QEMU.
    Qemu(QemuMachine),
}

/// Name of a lifecycle, by the options that select it. As text it is the name of its report.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct LifecycleName {
    pub(super) device: String,
    pub(super) board: String,
    /// The file of the device tree blob, where it is not the board's.
    pub(super) dtb: Option<String>,
}

const ON: &str = " on ";
const TREE: &str = ", described by ";

impl Origin {
    /// Origin of `report`, by its name.
    pub(super) fn of(report: &Report) -> Option<Self> {
        let model = report.name.parse().ok().map(Self::Model);
        let scenario = || NamedScenario::of_report(&report.name).map(|scenario| Self::Scenario(Box::new(scenario)));
        let of_qemu = |machine: &&QemuMachine| QemuLifecycle::new(machine.kind()).name() == report.name;
        let qemu = || QemuMachine::value_variants().iter().find(of_qemu).map(|machine| Self::Qemu(*machine));
        model.or_else(scenario).or_else(qemu).or_else(|| LifecycleName::of(&report.name).map(Self::Lifecycle))
    }

    /// Its name.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Model(model) => model.name().into(),
            Self::Lifecycle(name) => name.to_string(),
            Self::Scenario(scenario) => scenario.name(),
            Self::Qemu(machine) => QemuLifecycle::new(machine.kind()).name(),
        }
    }

    /// Its description.
    pub(super) fn title(&self) -> &'static str {
        match self {
            Self::Model(model) => model.title(),
            Self::Lifecycle(_) => "on the real core",
            Self::Scenario(scenario) => scenario.title(),
            Self::Qemu(_) => "on the real core and QEMU's hardware",
        }
    }

    /// The command that explores it, to be pasted into a shell.
    pub(super) fn command(&self, bounds: &Bounds) -> String {
        let what = match self {
            Self::Model(model) => format!("--model {model}"),
            Self::Lifecycle(name) => name.options(),
            Self::Scenario(scenario) => scenario.options(),
            Self::Qemu(machine) => {
                let machine = machine.to_possible_value().map_or_else(String::new, |value| value.get_name().into());
                return format!("bindery explore --qemu {machine} --faults {}", bounds.faults);
            }
        };
        format!("bindery explore {what} --faults {} --preemptions {}", bounds.faults, bounds.preemptions)
    }

    /// The historical bug that a finding shows.
    pub(super) fn known(&self, finding: &Finding) -> Option<&'static Known> {
        match self {
            Self::Model(..) => models::known(finding),
            Self::Lifecycle(..) | Self::Scenario(..) | Self::Qemu(..) => None,
        }
    }
}

impl LifecycleName {
    /// Parses the name of a report.
    fn of(name: &str) -> Option<Self> {
        // A file may be called anything: it is last.
        let (rest, dtb) = name.split_once(TREE).map_or((name, None), |(rest, dtb)| (rest, Some(dtb)));
        let (device, board) = rest.split_once(ON)?;
        Some(Self { device: device.into(), board: board.into(), dtb: dtb.map(Into::into) })
    }

    /// The options that select it.
    fn options(&self) -> String {
        let mut words: Vec<&str> = vec!["--board", &self.board, "--device", &self.device];
        words.extend(self.dtb.iter().flat_map(|file| ["--dtb", file]));
        words.into_iter().map(quoted).collect::<Vec<_>>().join(" ")
    }
}

impl fmt::Display for LifecycleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{ON}{}", self.device, self.board)?;
        self.dtb.iter().try_for_each(|file| write!(f, "{TREE}{file}"))
    }
}

/// Quotes `word` for a shell.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:,+@=".contains(c);
    if !word.is_empty() && word.chars().all(plain) { word.into() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_report_gives_the_command_that_explores_it_again() {
        let bounds = Bounds { faults: 2, preemptions: 0, ..Bounds::default() };
        let mut name = LifecycleName {
            device: "ee300000.sata".into(),
            board: "salvator-xs".into(),
            dtb: Some("on a board's, described by x.dtb".into()),
        };
        assert_eq!(LifecycleName::of(&name.to_string()), Some(name.clone()));
        assert_eq!(
            Origin::Lifecycle(name.clone()).command(&bounds),
            r"bindery explore --board salvator-xs --device ee300000.sata --dtb 'on a board'\''s, described by x.dtb' --faults 2 --preemptions 0"
        );
        name.dtb = None;
        assert_eq!(name.to_string(), "ee300000.sata on salvator-xs");
        assert_eq!(LifecycleName::of(&name.to_string()), Some(name));
        assert_eq!(
            Origin::Model(Model::Linux612).command(&bounds),
            "bindery explore --model linux-6.12 --faults 2 --preemptions 0"
        );
        assert_eq!(LifecycleName::of("another report"), None);
    }
}
