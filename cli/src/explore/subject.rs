//! Subject of an exploration.

use bindery_explore::engine::{Engine, Replay};
use bindery_explore::models::{self, Model, Options};
use bindery_explore::qemu::QemuLifecycle;
use bindery_explore::scenarios::NamedScenario;
use bindery_explore::{Bounded, Path, Report};

use super::Explore;
use super::lifecycle::LifecycleTarget;
use super::origin::Origin;
use crate::failure::{Failure, Result};
use crate::session::QemuMachine;

/// Subject of an exploration.
pub(super) enum Subject {
    /// A model of a tear-down.
    Model(Model, Options),
    /// The lifecycle of a device on the real core.
    Lifecycle(Box<LifecycleTarget>),
    /// A small system on the real core.
    Scenario(Box<NamedScenario>),
    /// The lifecycle of a device of QEMU.
    Qemu(QemuMachine, Box<QemuLifecycle>),
}

impl Subject {
    /// The subject that the options select.
    pub(super) fn from_args(args: &Explore) -> Result<Self> {
        if let Some(scenario) = args.scenario.clone().map(|scenario| scenario.bounds(args.bounds())) {
            let scenario = match args.steps {
                Some(steps) => scenario.steps(steps),
                None => scenario,
            };
            return Ok(Self::Scenario(Box::new(scenario)));
        }
        if let Some(machine) = args.qemu {
            let lifecycle = QemuLifecycle::new(machine.kind()).bounds(args.bounds());
            return Ok(Self::Qemu(machine, Box::new(lifecycle)));
        }
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
            Self::Scenario(scenario) => scenario.engine(),
            Self::Qemu(_, lifecycle) => lifecycle.engine(),
        }
    }

    /// Explores it.
    pub(super) fn run(&self, engine: &Engine) -> Result<Report> {
        match self {
            Self::Model(model, options) => Ok(engine.run(models::scenario(*model, options))),
            Self::Lifecycle(life) => life.run(engine),
            Self::Scenario(scenario) => Ok(scenario.run(engine)),
            Self::Qemu(_, lifecycle) => lifecycle.run(engine).map_err(Failure::Qemu),
        }
    }

    /// Replays one path of it.
    pub(super) fn replay(&self, path: &Path) -> Result<Replay> {
        match self {
            Self::Model(model, options) => Ok(models::replay(*model, options, path)),
            Self::Lifecycle(life) => life.replay(path),
            Self::Scenario(scenario) => Ok(scenario.replay(&scenario.engine(), path)),
            Self::Qemu(_, lifecycle) => lifecycle.replay(path).map_err(Failure::Qemu),
        }
    }

    /// Its origin, for reports.
    pub(super) fn origin(&self) -> Origin {
        match self {
            Self::Model(model, _) => Origin::Model(*model),
            Self::Lifecycle(life) => Origin::Lifecycle(life.name().clone()),
            Self::Scenario(scenario) => Origin::Scenario(scenario.clone()),
            Self::Qemu(machine, _) => Origin::Qemu(*machine),
        }
    }
}
