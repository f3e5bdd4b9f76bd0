//! Subject of an exploration.

use bindery_explore::engine::{Engine, Replay};
use bindery_explore::models::{self, Model, Options};
use bindery_explore::{Path, Report};

use super::Explore;
use super::lifecycle::LifecycleTarget;
use super::origin::Origin;
use crate::failure::Result;

/// Subject of an exploration.
pub(super) enum Subject {
    /// A model of a tear-down.
    Model(Model, Options),
    /// The lifecycle of a device on the real core.
    Lifecycle(Box<LifecycleTarget>),
}

impl Subject {
    /// The subject that the options select.
    pub(super) fn from_args(args: &Explore) -> Result<Self> {
        Ok(match args.model {
            Some(model) => {
                let options = Options { faults: args.faults, preemptions: args.preemptions, ..Options::default() };
                Self::Model(model, options)
            }
            None => Self::Lifecycle(Box::new(LifecycleTarget::from_args(args)?)),
        })
    }

    /// The engine for it.
    pub(super) fn engine(&self) -> Engine {
        match self {
            Self::Model(model, options) => models::engine(*model, options),
            Self::Lifecycle(life) => life.engine(),
        }
    }

    /// Explores it.
    pub(super) fn run(&self, engine: &Engine) -> Result<Report> {
        match self {
            Self::Model(model, options) => Ok(engine.run(models::scenario(*model, options))),
            Self::Lifecycle(life) => life.run(engine),
        }
    }

    /// Replays one path of it.
    pub(super) fn replay(&self, path: &Path) -> Result<Replay> {
        match self {
            Self::Model(model, options) => Ok(models::replay(*model, options, path)),
            Self::Lifecycle(life) => life.replay(path),
        }
    }

    /// Its origin, for reports.
    pub(super) fn origin(&self) -> Origin {
        match self {
            Self::Model(model, _) => Origin::Model(*model),
            Self::Lifecycle(life) => Origin::Lifecycle(life.name().clone()),
        }
    }
}
