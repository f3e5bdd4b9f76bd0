//! Kinds of broken promises, distinguished by what happened, when, and after which step: never by the name of a known bug.

use bindery::promise::Promise;

use super::texts::texts;
use crate::engine::Violation;

texts! {
    /// The consequence of a breach.
    Harm:
    /// The kernel crashes.
    Crash = "crash";
    /// A wait never ends.
    Hang = "hang";
    /// A resource is never released.
    Leak = "leak";
    /// A user loses what it uses.
    Theft = "theft";
    /// None yet: a concurrent operation may do harm as long as it lasts.
    Window = "window";
    /// A notification is wrong.
    Untruth = "untruth";
    /// Protection that was asked for is not there.
    Exposure = "exposure";
}

texts! {
    /// The phase of a lifecycle.
    #[derive(Default)]
    Phase:
    SetUp = "set-up";
    /// Tear-down after a failed or deferred probe.
    Failure = "probe failure";
    /// Tear-down of a bound device.
    Unbind = "unbind";
    /// Tear-down by `CONFIG_DEBUG_TEST_DRIVER_REMOVE`.
    TestRemove = "test_remove";
    /// No driver, or an idle one.
    #[default]
    Idle = "idle";
}

/// A kind of breach, written as `crash, unbind: freed by another back-end, after arch_teardown_dma_ops`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Breach {
    pub(super) promise: Promise,
    harm: Harm,
    what: &'static str,
    /// The step or the concurrent operation that made it possible.
    after: &'static str,
}

macro_rules! breaches {
    ($($name:ident = $promise:ident, $harm:ident, $what:literal, $after:literal;)*) => {
        $(pub(super) const $name: Breach =
            Breach { promise: Promise::$promise, harm: Harm::$harm, what: $what, after: $after };)*
    };
}

// Every oracle of the models.
breaches! {
    FREED_ELSEWHERE = MatchingBackend, Crash, "freed by another back-end", "";
    FREED_WHILE_MAPPED = UnreachableBeforeFree, Window, "memory is freed that the device can reach", "";
    FREED_WHILE_RUNNING = QuiescedFirst, Window, "memory of a running device is freed", "";
    TRANSLATION_FIRST = SingleUnwindPath, Window, "translation is torn down under a live buffer", "";
    ANNOUNCED_EARLY = SingleUnwindPath, Untruth, "the end is announced before it", "";
    ANNOUNCED_UNBEGUN = SingleUnwindPath, Untruth, "an end without a beginning", "";
    DATA_GONE = NoUseAfterRevoke, Crash, "a release reaches driver data that is gone", "drvdata = NULL";
    IOMMU_GONE = SuppliersOutlast, Crash, "an IOMMU is used that is gone", "the link's release";
    POWER_OFF = SuppliersOutlast, Crash, "a managed action writes registers without power", "dev_pm_domain_detach";
    GROUP_RELEASED_EARLY = OneOwner, Window, "the group is let go while DMA memory is held", "";
    GROUP_CLAIMED_EARLY = OneOwner, Theft, "the group is claimed while DMA memory is held", "";
    BOUND_IN_CLAIMED_GROUP = OneOwner, Crash, "bound inside a group that a guest owns", "the claim";
    WRONG_BINDING_ENDED = OneOwner, Theft, "an unbind ends another driver's binding", "the unlocked check";
    ORDER_DECIDES = OrderIndependent, Exposure, "the back-end depends on who came first", "dma_configure";
    UNTRANSLATED = NoSilentDowngrade, Exposure, "bound without its IOMMU", "dma_configure";
    STUCK_LINK = NothingLeft, Hang, "a link stays behind in `consumer probing`", "";
    LEFT_RESOURCES = NothingLeft, Leak, "managed resources are left", "";
    LEFT_PAGES = NothingLeft, Leak, "pages are left", "";
    LEFT_TRANSLATION = NothingLeft, Leak, "translation is left", "";
    LEFT_USER = NothingLeft, Leak, "the group still counts a user", "";
    LEFT_POWER = NothingLeft, Leak, "power is left on", "";
    LEFT_FILES = NothingLeft, Leak, "files are left", "";
    LEFT_LINK = NothingLeft, Leak, "a link is left in `consumer probing`", "";
}

impl Breach {
    pub(super) const fn after(self, after: &'static str) -> Self {
        Self { after, ..self }
    }

    pub(super) const fn with(self, harm: Harm) -> Self {
        Self { harm, ..self }
    }

    pub(super) fn violation(self, phase: Phase, detail: impl Into<String>) -> Violation {
        let after = if self.after.is_empty() { String::new() } else { format!(", after {}", self.after) };
        Violation::new(self.promise, format!("{}, {phase}: {}{after}", self.harm, self.what), detail)
    }
}
