//! The invariant on every path: a plan is done, undone, or finished by `recover`, and at no moment is a device away from
//! its driver without a journal or a record that names it.

use std::collections::BTreeMap;

use bindery::control::Tree;
use bindery::env::Width;
use bindery_drivers::vfio::Vfio;
use bindery_explore::engine::{Visit, fingerprint};
use bindery_explore::{Scene, Violation};
use bindery_linux::engine::Ended;
use bindery_linux::path;
use bindery_linux::state::Recovered;

use crate::face::{Board, VFIO};
use crate::tool::{Tool, Wish};

/// Driver and override of each device.
type Places = BTreeMap<String, (Option<String>, String)>;

fn places(tree: &Tree) -> Places {
    let devices = "/sys/bus/platform/devices";
    let place = |name: String| {
        let driver = tree.read_link(&format!("{devices}/{name}/driver")).ok().map(|link| path::name(&link).to_owned());
        let forced = tree.read(&format!("{devices}/{name}/driver_override")).unwrap_or_default();
        (name, (driver, forced.trim_end().to_owned()))
    };
    tree.list(devices).unwrap().into_iter().map(|entry| place(entry.name)).collect()
}

fn wrong(kind: &str, detail: impl Into<String>) -> Violation {
    Violation::seen_by("plans", kind, detail)
}

/// One path.
struct Path<'a> {
    scene: &'a Scene,
    board: Board<'a>,
    tool: Tool,
    home: Places,
}

impl Path<'_> {
    /// Devices that have another driver or override than in the beginning.
    fn away(&self) -> Vec<String> {
        let now = places(self.scene.tree());
        now.into_iter().filter(|(name, place)| self.home.get(name) != Some(place)).map(|(name, _)| name).collect()
    }

    /// Checks that a journal or a record names each device that is away.
    fn all_known(&self, when: &str) -> Result<(), Violation> {
        let known = self.tool.known();
        match self.away().into_iter().find(|name| !known.contains(name)) {
            Some(name) => {
                let now = places(self.scene.tree()).remove(&name);
                let detail = format!("{when}: {name} is {now:?}, and neither a journal nor a record names it");
                Err(wrong("a device that nobody knows of", detail))
            }
            None => Ok(()),
        }
    }

    /// `recover`, as often as it takes.
    fn recover(&self) -> Result<(), Violation> {
        for attempt in 0..8 {
            if !self.tool.is_unfinished() {
                return Ok(());
            }
            // Somebody who calls it again and again has removed the cause of the faults by then.
            if attempt > 2 {
                self.board.disable_faults();
            }
            let before = self.board.writes.get();
            let outcome = self.tool.recover(&self.board);
            self.all_known("after recover")?;
            match outcome {
                Some(Recovered::Busy(_)) => {
                    if self.board.writes.get() != before {
                        return Err(wrong("a device is written to while its unbind hangs", "recover wrote to it"));
                    }
                    self.scene.chooser().cover("recover finds a hanging write");
                    self.board.release();
                }
                Some(Recovered::Failed(_)) => self.scene.chooser().cover("recover failed, and is called again"),
                Some(Recovered::Finished) => self.scene.chooser().cover("recover finished the plan"),
                Some(Recovered::Undone) => self.scene.chooser().cover("recover undid the plan"),
                Some(Recovered::Rebooted { .. }) => return Err(wrong("reboot", "there was none")),
                None => self.scene.chooser().cover("recover was killed"),
            }
        }
        Err(wrong("recover does not end", format!("{:?} are away", self.away())))
    }

    /// Checks how a command ended, and recovers if it has to.
    fn settle(&self, ended: Option<&Ended>, what: &'static str) -> Result<(), Violation> {
        self.all_known(what)?;
        let chooser = self.scene.chooser();
        if !chooser.is_disturbed() && !matches!(ended, Some(Ended::Done)) {
            return Err(wrong("undisturbed, and not done", format!("{what} ended: {ended:?}")));
        }
        chooser.log(|| format!("{what} ended: {ended:?}"));
        let open = self.tool.is_unfinished();
        match ended {
            None => {}
            Some(Ended::Done) => chooser.cover("done"),
            Some(Ended::RolledBack { .. }) => chooser.cover("rolled back"),
            Some(Ended::RollbackFailed { .. }) => chooser.cover("rollback failed"),
            Some(Ended::TimedOut { .. }) => chooser.cover("timed out"),
            Some(Ended::JournalFailed(why)) => return Err(wrong("journal", why.clone())),
        }
        if let Some(ended) = ended {
            let over = matches!(ended, Ended::Done | Ended::RolledBack { .. });
            if over == open {
                return Err(wrong("journal", format!("{what} ended with {ended:?}, a journal is left: {open}")));
            }
        }
        self.recover()?;
        // A helper that was left behind by a rollback.
        self.board.release();
        let away = self.away();
        if self.tool.given().is_empty() != away.is_empty() {
            let given = !self.tool.given().is_empty();
            return Err(wrong("neither done nor undone", format!("{what}: away are {away:?}, given: {given}")));
        }
        Ok(())
    }
}

/// Gives and takes back, with faults and kills meanwhile. `held`: a guest has the device when it is taken.
pub(crate) fn give_and_take(scene: &Scene, wish: &Wish, held: bool) -> Result<(), Violation> {
    let home = places(scene.tree());
    let path = Path { scene, board: Board::new(scene), tool: Tool::new(), home };
    let ended = path.tool.give(&path.board, wish);
    path.settle(ended.as_ref(), "give")?;
    scene.step("given")?;
    let given = !path.tool.given().is_empty();
    if scene.chooser().scheduling_point(fingerprint(&(scene.digest(), given))) == Visit::Seen || !given {
        return Ok(());
    }
    if wish.to == "vfio" && path.home.keys().all(|name| driver(scene.tree(), name).as_deref() != Some(VFIO)) {
        return Err(wrong("done without an effect", "no device is on vfio-platform"));
    }
    if held {
        let machine = scene.machine();
        let group = scene.tree().read_link(&format!("/sys/bus/platform/devices/{}/iommu_group", wish.devices[0]));
        let session = machine.client::<Vfio>(wish.devices[0]).and_then(|owner| Vfio::open(&owner).ok());
        if let (Some(session), Ok(group)) = (session, group) {
            path.board.guest.replace(Some((session, path::name(&group).into())));
            scene.chooser().cover("a guest holds it");
        }
    }
    let ended = path.tool.take(&path.board);
    path.settle(ended.as_ref(), "take")?;
    if let Some((session, _)) = path.board.guest.take()
        && path.tool.given().is_empty()
        && session.read(0, 0, Width::W32).is_ok()
    {
        return Err(wrong("a device with two users", "it was taken back, and the guest still reads its registers"));
    }
    scene.step("taken")?;
    // Whatever happened, what was recorded brings every device back to the driver that it had.
    path.board.disable_faults();
    if !path.tool.given().is_empty() {
        let ended = path.tool.take(&path.board);
        path.settle(ended.as_ref(), "a second take")?;
        scene.chooser().cover("taken at the second try");
    }
    let now = places(scene.tree());
    if now != path.home {
        return Err(wrong("an original driver is lost", format!("{:?}", path.away())));
    }
    scene.step("home")
}

fn driver(tree: &Tree, name: &str) -> Option<String> {
    let link = tree.read_link(&format!("/sys/bus/platform/devices/{name}/driver")).ok()?;
    Some(path::name(&link).to_owned())
}
