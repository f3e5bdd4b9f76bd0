//! What is explored.

use bindery_explore::engine::{Engine, Replay};
use bindery_explore::orders::{self, Options, Order};
use bindery_explore::{Path, Report};

use super::Explore;
use super::origin::Origin;
use super::real::Real;
use crate::failure::Result;

/// What is explored.
pub(super) enum Subject {
    /// An order of tear-down, as a model.
    Order(Order, Options),
    /// The life of a device on the real core.
    Life(Box<Real>),
}

impl Subject {
    /// What the options ask for.
    pub(super) fn asked(args: &Explore) -> Result<Self> {
        Ok(match args.order {
            Some(order) => {
                let options = Options { faults: args.faults, interrupts: args.interrupts, ..Options::default() };
                Self::Order(order, options)
            }
            None => Self::Life(Box::new(Real::asked(args)?)),
        })
    }

    /// The way to walk it.
    pub(super) fn engine(&self) -> Engine {
        match self {
            Self::Order(order, options) => orders::engine(*order, options),
            Self::Life(life) => life.engine(),
        }
    }

    /// Walks it.
    pub(super) fn run(&self, engine: &Engine) -> Result<Report> {
        match self {
            Self::Order(order, options) => Ok(engine.run(orders::scenario(*order, options))),
            Self::Life(life) => life.run(engine),
        }
    }

    /// Walks one path of it.
    pub(super) fn replay(&self, path: &Path) -> Result<Replay> {
        match self {
            Self::Order(order, options) => Ok(orders::replay(*order, options, path)),
            Self::Life(life) => life.replay(path),
        }
    }

    /// What reports call it.
    pub(super) fn origin(&self) -> Origin {
        match self {
            Self::Order(order, _) => Origin::Order(*order),
            Self::Life(life) => Origin::Life(life.words().clone()),
        }
    }
}
