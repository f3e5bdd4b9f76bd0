//! The oracles that are asked after every step.

use std::borrow::Cow;

use bindery::machine::Machine;
use bindery::promise::Promise;

use super::Scene;
use super::fixture::Fixture;
use crate::engine::Violation;

impl Scene {
    /// Promises, models, DMA checker, IOMMU.
    pub(crate) fn check(&self, what: &'static str) -> Result<(), Violation> {
        self.fixture.check()?;
        let refused = self.hooks.take_refused();
        if refused > 0 && !self.hooks.expects_refusals() {
            let detail = format!("{what}: the IOMMU refused {refused} accesses of a device without an injected fault");
            return Err(Violation::new(Promise::UnreachableBeforeFree, "refused access", detail));
        }
        Ok(())
    }
}

impl Fixture {
    /// Promises, models, DMA checker.
    pub(crate) fn check(&self) -> Result<(), Violation> {
        check(&self.machine, "")?;
        self.board.model_errors().first().map_or(Ok(()), |error| {
            Err(Violation::seen_by("model", kind(&format!("{}: {}", error.device, error.what)), error.to_string()))
        })
    }
}

/// Asks `machine` for broken promises and misuse that it has found itself; `prefix` is put before each detail.
pub(crate) fn check(machine: &Machine, prefix: &str) -> Result<(), Violation> {
    if machine.promises().broken_count() > 0
        && let Some((promise, detail)) = machine.promises().broken().into_iter().next()
    {
        return Err(Violation::new(promise, kind(&detail), format!("{prefix}{detail}")));
    }
    if let Some(misuse) = machine.dma_misuses().first() {
        return Err(Violation::seen_by("dma checker", misuse.check.name(), format!("{prefix}{misuse}")));
    }
    Ok(())
}

/// `detail` without its numbers, so that the same breach at another address is the same finding.
fn kind(detail: &str) -> String {
    let words = detail.split_inclusive(|c: char| c.is_whitespace() || c == ':' || c == ',').map(|word| {
        let bare = word.trim_end();
        let number = bare.starts_with("0x") || bare.trim_end_matches([':', ',']).chars().all(|c| c.is_ascii_hexdigit());
        if number && bare.chars().any(|c| c.is_ascii_digit()) {
            Cow::Owned(word.replace(bare, "#"))
        } else {
            Cow::Borrowed(word)
        }
    });
    words.collect::<String>().trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_kind_has_no_numbers_in_it() {
        assert_eq!(
            super::kind("0x7c040000: 4096 bytes of ee300000.sata, 3 left"),
            "# # bytes of ee300000.sata, # left"
        );
    }
}
