//! The lifecycle of a device on the real core.

use bindery_explore::engine::{Engine, Replay};
use bindery_explore::{Bounded, Lifecycle, LifecycleError, Path, Report, device};

use super::origin::LifecycleName;
use super::{Explore, Refusal};
use crate::failure::{Failure, Result};
use crate::load::Blob;

/// A lifecycle and its name.
pub(super) struct LifecycleTarget {
    lifecycle: Lifecycle,
    name: LifecycleName,
}

impl LifecycleTarget {
    /// The lifecycle that the options select.
    pub(super) fn from_args(args: &Explore) -> Result<Self> {
        let mut board = args.board.clone();
        if let Some(file) = &args.dtb {
            board = board.dtb(Blob::open(Some(file), Blob::salvator)?.bytes);
        }
        let name = LifecycleName {
            device: args.device.clone(),
            board: args.board.name().into(),
            dtb: args.dtb.as_ref().map(|file| file.display().to_string()),
        };
        let lifecycle = device(&args.device).on(board).bounds(args.bounds());
        Ok(Self {
            lifecycle: args.allow_unreached.iter().fold(lifecycle, |all, point| all.allow_unreached(point)),
            name,
        })
    }

    /// The name of the lifecycle.
    pub(super) fn name(&self) -> &LifecycleName {
        &self.name
    }

    /// The engine for it.
    pub(super) fn engine(&self) -> Engine {
        self.lifecycle.engine()
    }

    /// Explores it. The report's name has the device tree, too: two of them are two lifecycles.
    pub(super) fn run(&self, engine: &Engine) -> Result<Report> {
        let report = self.lifecycle.run(engine).map_err(|error| self.failure(error))?;
        Ok(Report { name: self.name.to_string(), ..report })
    }

    /// Replays one path of it.
    pub(super) fn replay(&self, path: &Path) -> Result<Replay> {
        self.lifecycle.replay(&self.lifecycle.engine(), path).map_err(|error| self.failure(error))
    }

    /// `error` in terms of options.
    fn failure(&self, error: LifecycleError) -> Failure {
        let place = || self.name.dtb.clone().unwrap_or_else(|| self.name.board.clone());
        let refusal = match error {
            LifecycleError::DeviceTree(error) => return Failure::DeviceTree { path: place(), error },
            LifecycleError::NoDevice { name, known } => Refusal::NoSuchDevice { device: name, board: place(), known },
            error @ LifecycleError::NotBound { .. } => Refusal::NotBound { board: place(), error: error.to_string() },
        };
        Box::new(refusal).into()
    }
}
