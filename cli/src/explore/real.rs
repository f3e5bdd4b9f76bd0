//! The life of a device on the real core.

use bindery_explore::engine::{Engine, Replay};
use bindery_explore::{Life, LifeError, Path, Report, device};

use super::origin::Words;
use super::{Explore, Refusal};
use crate::failure::{Failure, Result};
use crate::load::Blob;

/// A life, and what was asked for.
pub(super) struct Real {
    life: Life,
    words: Words,
}

impl Real {
    /// The life that the options ask for.
    pub(super) fn asked(args: &Explore) -> Result<Self> {
        let mut board = args.board.clone();
        if let Some(file) = &args.dtb {
            board = board.dtb(Blob::open(Some(file))?.bytes);
        }
        let words = Words {
            device: args.device.clone(),
            board: args.board.name().into(),
            dtb: args.dtb.as_ref().map(|file| file.display().to_string()),
        };
        let life = device(&args.device).on(board).bounds(args.bounds());
        Ok(Self { life: args.without.iter().fold(life, |life, place| life.without(place)), words })
    }

    /// What was asked for.
    pub(super) fn words(&self) -> &Words {
        &self.words
    }

    /// The way to walk it.
    pub(super) fn engine(&self) -> Engine {
        self.life.engine()
    }

    /// Walks it. The report says by which device tree, too: two of them are two lives.
    pub(super) fn run(&self, engine: &Engine) -> Result<Report> {
        let report = self.life.run(engine).map_err(|error| self.failure(error))?;
        Ok(Report { name: self.words.to_string(), ..report })
    }

    /// Walks one path of it.
    pub(super) fn replay(&self, path: &Path) -> Result<Replay> {
        self.life.replay(&self.life.engine(), path).map_err(|error| self.failure(error))
    }

    /// `error` in terms of options.
    fn failure(&self, error: LifeError) -> Failure {
        let place = || self.words.dtb.clone().unwrap_or_else(|| self.words.board.clone());
        let refusal = match error {
            LifeError::DeviceTree(error) => return Failure::DeviceTree { path: place(), error },
            LifeError::NoDevice { name, known } => Refusal::NoSuchDevice { device: name, board: place(), known },
            error @ LifeError::NotBound { .. } => Refusal::NotBound { board: place(), error: error.to_string() },
        };
        Box::new(refusal).into()
    }
}
