//! The sections of the page, each with the run that supports it.

use std::fmt::Write;

use super::super::{Boot, Habit, Model, Options};
use super::{Run, of, trace};
use crate::engine::Finding;

fn shown(runs: &[Run], model: Model, name: &str) -> String {
    match of(runs, model).and_then(|run| run.named(name)) {
        Some(finding) => trace(model, finding),
        None => format!("Nothing of this kind is found in `{model}`.\n\n"),
    }
}

/// The crash of commit 376991db4b64.
pub(super) fn unbind_crash(runs: &[Run]) -> String {
    "## The crash on unbind\n\n\
     In 5.0-rc5 the core resets the device's DMA ops, and then releases the managed memory. The memory goes back through \
     whatever ops the device has by then, not through those that allocated it:\n\n"
        .to_owned()
        + &shown(runs, Model::Linux50Rc5, "unbind-crash")
        + "With the two calls exchanged (376991db4b64), the device is still on the IOMMU ops when its memory is freed, and \
           `linux-5.0` has no such path.\n\n"
}

/// The same on a failed probe.
pub(super) fn probe_failure_crash(runs: &[Run]) -> String {
    let options = Options { test_remove: true, faults: 0, preemptions: 0, ..Options::default() };
    let tested = Run::new(Model::Linux50, &options);
    let blind = tested.report.findings.iter().all(|f| f.promise != "P1");
    let checks = tested.report.checks.get("P1").copied().unwrap_or(0);
    let verdict = if blind { "does not see it" } else { "sees it" };
    "## The same on a failed probe\n\n\
     The failure exit of `really_probe` had the same two calls in the same wrong order, and the patch did not touch it. One \
     failing call after the first managed DMA memory is enough:\n\n"
        .to_owned()
        + &shown(runs, Model::Linux50, "probe-failure-crash")
        + &format!(
            "The kernel's own tester, `CONFIG_DEBUG_TEST_DRIVER_REMOVE`, {verdict}: explored with it, `linux-5.0` frees managed \
             memory {checks} times through the back-end that allocated it, because the test's own tear-down leaves the \
             translation alone. Fixed by 0b777eee88d7; `linux-5.1` has neither.\n\n"
        )
}

/// Why bisection pointed elsewhere.
pub(super) fn bisection() -> String {
    let model = Model::Linux50Rc5Swallowed;
    let walk = |boot, faults| Run::new(model, &Options { faults, boot, ..Options::default() });
    let (later, first, failing) = (walk(Boot::IommuLater, 0), walk(Boot::IommuFirst, 0), walk(Boot::IommuLater, 1));
    let crash = |run: &Run| run.named("unbind-crash").map_or("no crash", |_| "the crash");
    let mut out = format!(
        "## Why bisection pointed at the wrong commit\n\n\
         It named e8e683ae9a73, which did not touch tear-down. Before that commit, the IOMMU layer turned \"the IOMMU's \
         driver is not there yet\" (-517) into \"there is no IOMMU\" (-19). On the board of the report the disk controller is \
         probed before its IOMMU, so it was bound on the direct ops, for good. Direct ops that are reset are still direct \
         ops: the memory came from CMA and went back to CMA, in the same wrong order, without harm. The commit made the \
         deferral work; from then on the device was really translated, and the old bug showed.\n\n\
         Explored with the deferral swallowed (`{model}`):\n\n\
         | the IOMMU's driver comes | a probe fails | found |\n|---|---|---|\n\
         | later, as on the board | no | {} |\n\
         | first | no | {} |\n\
         | later | the driver itself is deferred, and probed again | {} |\n\n",
        crash(&later),
        crash(&first),
        crash(&failing)
    );
    if let Some(silent) = later.named("swallowed") {
        out.push_str("What the swallowed deferral breaks has another name: a device runs untranslated although no policy allows it.\n\n");
        out.push_str(&trace(model, silent));
    }
    out
}

/// The question of commit 376991db4b64.
pub(super) fn arm32(runs: &[Run]) -> String {
    let verdict = |model| match of(runs, model).and_then(|run| run.named("arm32-leak")) {
        Some(_) => "a warning, and pages that are never freed; no crash",
        None => "everything goes back to the back-end that allocated it",
    };
    let mut out = format!(
        "## \"Is this safe on arm32?\"\n\n\
         **Yes, and it fixes arm32, too.** There the call does not reset a pointer: it detaches the device from its mapping \
         and drops the last reference, which frees the domain with its IOVA bitmaps.\n\n\
         | model | found |\n|---|---|\n\
         | `{}`: tear-down, then managed memory | {} |\n\
         | `{}`: managed memory, then tear-down | {} |\n\
         | `{}`, one mapping for all masters (R-Car Gen2) | {} |\n\
         | `{}` | {}: the call returns at once, the order does not matter |\n\n",
        Model::Arm32Old,
        verdict(Model::Arm32Old),
        Model::Arm32New,
        verdict(Model::Arm32New),
        Model::Arm32SharedOld,
        verdict(Model::Arm32SharedOld),
        Model::Arm32SharedNew,
        verdict(Model::Arm32SharedNew),
    );
    out.push_str(
        "The old order leaks where arm64 crashes, which may be why there is no report: arm32's plain ops look the buffer up \
         in a list, do not find it, warn, and return.\n\n",
    );
    out.push_str(&shown(runs, Model::Arm32Old, "arm32-leak"));
    out.push_str(
        "The new order needs nothing that tear-down would have to do first: no managed release touches the mapping, and \
         tear-down touches nothing that managed releases took. Four conditions remain, each explored:\n\n",
    );
    for line in conditions(runs) {
        writeln!(out, "{line}").unwrap_or_default();
    }
    out + "\n"
}

/// The conditions under which arm32 is still not safe, from runs.
fn conditions(runs: &[Run]) -> [String; 4] {
    let habit = |model, habit| {
        let options = Options { habits: vec![habit], faults: 0, preemptions: 0, ..Options::default() };
        Run::new(model, &options)
    };
    let found =
        |finding: Option<&Finding>| finding.map_or("not found".to_owned(), |f| format!("{}: {}", f.promise, f.kind));
    let own = habit(Model::Arm32New, Habit::DetachesItself);
    let link = of(runs, Model::Arm32New).and_then(|run| run.named("links-unbind"));
    let link_now = of(runs, Model::Arm32Now).and_then(|run| run.named("links-unbind"));
    let stays = |model| {
        let run = habit(model, Habit::ForgottenMapping);
        if run.report.findings.iter().any(|f| f.kind.contains("translation is left")) {
            "stays for ever"
        } else {
            "goes"
        }
    };
    let refused = of(runs, Model::Arm32Now).and_then(|run| run.report.coverage.get("a claim of the group is refused"));
    let claimed = of(runs, Model::Arm32Now).and_then(|run| run.named("group-claim"));
    [
        format!(
            "1. A driver that detaches its device itself in `remove()` brings the bug back ({}).",
            found(own.named("own-detach"))
        ),
        format!(
            "2. Until 6.7 the link to the IOMMU was dropped before both steps, and its driver could go in between ({}); in \
             6.12: {}.",
            found(link),
            found(link_now)
        ),
        format!(
            "3. A streaming mapping that the driver forgot {} with its domain in `{}` and in `{}`; on arm64 (`{}`) it {} in \
             the default domain.",
            stays(Model::Arm32Old),
            Model::Arm32Old,
            Model::Arm32New,
            Model::Linux51,
            stays(Model::Linux51)
        ),
        format!(
            "4. In 6.12 the group is released before arm32 detaches; a claim in between was tried and {}, because the arm32 \
             mapping is still the group's domain: it fails safe.",
            match (claimed, refused) {
                (None, Some(times)) => format!("refused ({times} claims refused in all)"),
                _ => "granted".to_owned(),
            }
        ),
    ]
}

/// What is open in 6.12.
pub(super) fn windows(runs: &[Run]) -> String {
    "## What is still open in 6.12\n\n\
     These are inferences from the source: no machine was made to crash with them. `group-type` is the crash of the report once \
     more, with a longer fuse: the group counts no user from `bus->dma_cleanup` on, so its type may change before the managed \
     memory is freed.\n\n"
        .to_owned()
        + &shown(runs, Model::Linux612, "group-type")
        + "`stuck-link`, a link that is never dropped, and the supplier's unbind that then waits for ever:\n\n"
        + &shown(runs, Model::Linux612, "stuck-link")
        + "`bindery`, Bindery's own order as a model under the same oracles, has none of these paths. That says that the oracles \
           can be satisfied, not that the code is right: the explorer runs the real core for that.\n\n"
}

/// What the models leave out.
pub(super) fn limits(runs: &[Run]) -> String {
    let checked = |id: &str| runs.iter().any(|run| run.report.checks.contains_key(id));
    let missing: Vec<String> = (1..=12).map(|n| format!("P{n}")).filter(|id| !checked(id)).collect();
    format!(
        "## What the models leave out\n\n\
         - Steps without effect here (runtime PM counts, `pm_domain->sync`, uevents, the driver's list of devices).\n\
         - A managed link from the disk controller to its IOMMU is taken for granted once the IOMMU's driver is there. By \
         default Linux makes none for `iommus`; with `fw_devlink.strict=1`, or an IOMMU driver that adds one, there is.\n\
         - `power` needs a driver with a managed action that writes registers; the disk controller's own has none, so a driver \
         with one is explored beside it.\n\
         - On arm32 there is no write to the group's `type`.\n\
         - {} are not checked: the models have nothing that could break them.\n",
        missing.join(" and ")
    )
}
