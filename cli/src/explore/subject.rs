//! What is explored.

use bindery_explore::engine::{Engine, Replay};
use bindery_explore::orders::{self, Known, Options, Order};
use bindery_explore::{Path, Report};

use super::Explore;

/// What is explored.
pub(super) enum Subject {
    /// An order of tear-down, as a model.
    Order(Order, Options),
}

impl Subject {
    /// What the options ask for.
    pub(super) fn asked(args: &Explore) -> Self {
        let order = args.order.unwrap_or(Order::Bindery);
        Self::Order(order, Options { faults: args.faults, interrupts: args.interrupts, ..Options::default() })
    }

    /// What a report is of, when its name says so.
    pub(super) fn of_report(report: &Report) -> Option<Self> {
        let order: Order = report.name.parse().ok()?;
        let Report { bounds, .. } = report;
        let options = Options { faults: bounds.faults, interrupts: bounds.interrupts, ..Options::default() };
        Some(Self::Order(order, options))
    }

    /// The engine to configure.
    pub(super) fn engine(&self) -> Engine {
        match self {
            Self::Order(order, options) => orders::engine(*order, options),
        }
    }

    /// Walks everything.
    pub(super) fn run(&self, engine: &Engine) -> Report {
        match self {
            Self::Order(order, options) => engine.run(orders::scenario(*order, options)),
        }
    }

    /// Walks one path.
    pub(super) fn replay(&self, path: &Path) -> Replay {
        match self {
            Self::Order(order, options) => orders::replay(*order, options, path),
        }
    }

    /// Its name, as in reports.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Order(order, _) => order.name().into(),
        }
    }

    /// What it is, in words.
    pub(super) fn title(&self) -> String {
        match self {
            Self::Order(order, _) => order.title().into(),
        }
    }

    /// The command that explores it, without bounds.
    pub(super) fn command(&self) -> String {
        match self {
            Self::Order(order, _) => format!("bindery explore --order {order}"),
        }
    }

    /// The bug that a finding is known as.
    pub(super) fn known(&self, finding: &bindery_explore::engine::Finding) -> Option<&'static Known> {
        match self {
            Self::Order(..) => orders::known(finding),
        }
    }
}
