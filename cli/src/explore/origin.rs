//! What a report is of, and the command that asks for it again.

use std::fmt;

use bindery_explore::Report;
use bindery_explore::engine::{Bounds, Finding};
use bindery_explore::orders::{self, Known, Order};

/// What a report is of.
pub(super) enum Origin {
    /// An order of tear-down, as a model.
    Order(Order),
    /// The life of a device on the real core.
    Life(Words),
}

/// A life, in the words that ask for it. As text it is the name of its report.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Words {
    pub(super) device: String,
    pub(super) board: String,
    /// The file of the device tree blob, where it is not the board's.
    pub(super) dtb: Option<String>,
}

const ON: &str = " on ";
const TREE: &str = ", described by ";

impl Origin {
    /// What `report` is of, when its name says so.
    pub(super) fn of(report: &Report) -> Option<Self> {
        let order = report.name.parse().ok().map(Self::Order);
        order.or_else(|| Words::of(&report.name).map(Self::Life))
    }

    /// Its name.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Order(order) => order.name().into(),
            Self::Life(words) => words.to_string(),
        }
    }

    /// What it is.
    pub(super) fn title(&self) -> &'static str {
        match self {
            Self::Order(order) => order.title(),
            Self::Life(_) => "on the real core",
        }
    }

    /// The command that walks it, to be pasted into a shell.
    pub(super) fn command(&self, bounds: &Bounds) -> String {
        let what = match self {
            Self::Order(order) => format!("--order {order}"),
            Self::Life(words) => words.options(),
        };
        format!("bindery explore {what} --faults {} --interrupts {}", bounds.faults, bounds.interrupts)
    }

    /// The historical bug that a finding shows.
    pub(super) fn known(&self, finding: &Finding) -> Option<&'static Known> {
        match self {
            Self::Order(..) => orders::known(finding),
            Self::Life(..) => None,
        }
    }
}

impl Words {
    /// The words in the name of a report.
    fn of(name: &str) -> Option<Self> {
        // A file may be called anything: it is last.
        let (rest, dtb) = name.split_once(TREE).map_or((name, None), |(rest, dtb)| (rest, Some(dtb)));
        let (device, board) = rest.split_once(ON)?;
        Some(Self { device: device.into(), board: board.into(), dtb: dtb.map(Into::into) })
    }

    /// The options that ask for it.
    fn options(&self) -> String {
        let mut words: Vec<&str> = vec!["--board", &self.board, "--device", &self.device];
        words.extend(self.dtb.iter().flat_map(|file| ["--dtb", file]));
        words.into_iter().map(quoted).collect::<Vec<_>>().join(" ")
    }
}

impl fmt::Display for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{ON}{}", self.device, self.board)?;
        self.dtb.iter().try_for_each(|file| write!(f, "{TREE}{file}"))
    }
}

/// `word` as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:,+@=".contains(c);
    if !word.is_empty() && word.chars().all(plain) { word.into() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_tells_by_its_name_which_command_walks_it_again() {
        let bounds = Bounds { faults: 2, interrupts: 0, ..Bounds::default() };
        let mut words = Words {
            device: "ee300000.sata".into(),
            board: "salvator-xs".into(),
            dtb: Some("on a board's, described by x.dtb".into()),
        };
        assert_eq!(Words::of(&words.to_string()), Some(words.clone()));
        assert_eq!(
            Origin::Life(words.clone()).command(&bounds),
            r"bindery explore --board salvator-xs --device ee300000.sata --dtb 'on a board'\''s, described by x.dtb' --faults 2 --interrupts 0"
        );
        words.dtb = None;
        assert_eq!(words.to_string(), "ee300000.sata on salvator-xs");
        assert_eq!(Words::of(&words.to_string()), Some(words));
        assert_eq!(
            Origin::Order(Order::Linux612).command(&bounds),
            "bindery explore --order linux-6.12 --faults 2 --interrupts 0"
        );
        assert_eq!(Words::of("a walk by hand"), None);
    }
}
