//! Comparison of a guest's memory with the limit of locked memory of the process that drives the device.

use crate::face::Face;
use crate::obstacle::Findings;

/// Memory that a monitor maps beside the guest's: registers of other devices, firmware, video memory. libvirt adds the
/// same.
const BESIDE: u64 = 1 << 30;

/// The limit of locked memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Memlock {
    /// Bytes; `None` for no limit.
    pub limit: Option<u64>,
    /// Source of the limit.
    pub from: String,
}

impl Memlock {
    /// The limit of a user by `limits.conf`, or else that of this process. Root is not limited.
    ///
    /// A service has the limit of its unit instead, which is not known here.
    pub fn of(face: &dyn Face, user: Option<u32>) -> Self {
        match user {
            Some(0) => return Self { limit: None, from: "root is not limited".into() },
            Some(user) => {
                if let Some((limit, file)) = account(face, user).and_then(|account| configured(face, &account)) {
                    return Self { limit, from: file };
                }
            }
            None => {}
        }
        let text = face.try_text("/proc/self/limits").unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("Max locked memory"));
        // The hard limit: a process raises its soft one up to there by itself.
        let hard = line.and_then(|line| line.split_whitespace().nth(1)).unwrap_or("unlimited");
        Self { limit: hard.parse().ok(), from: "the limit of this process".into() }
    }

    /// Says when a guest with this memory, in bytes, needs more.
    pub fn judge(&self, guest: u64, user: Option<&str>, findings: &mut Findings) {
        let need = guest.saturating_add(BESIDE);
        let Some(limit) = self.limit.filter(|limit| *limit < need) else {
            findings.remark(format!("a guest of {} can be locked: {}", mebibytes(guest), self.from));
            return;
        };
        let user = user.unwrap_or("USER");
        findings.warn(format!(
            "a guest of {} needs {} of locked memory (RLIMIT_MEMLOCK), and {} may be locked: {}; remedy: LimitMEMLOCK={}M in \
             the unit that starts it, or `{user} - memlock {}` in /etc/security/limits.d",
            mebibytes(guest),
            mebibytes(need),
            mebibytes(limit),
            self.from,
            need >> 20,
            need >> 10,
        ));
    }
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

/// A user with the groups that it is in.
struct Account {
    name: String,
    groups: Vec<String>,
}

fn account(face: &dyn Face, user: u32) -> Option<Account> {
    let passwd = face.try_text("/etc/passwd")?;
    let fields = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let fields = fields.into_iter().find(|f| f.get(2).is_some_and(|number| number.parse() == Ok(user)))?;
    let (name, group) = (fields.first()?, fields.get(3)?);
    let text = face.try_text("/etc/group").unwrap_or_default();
    let in_it =
        |f: &Vec<&str>| f.get(2) == Some(group) || f.get(3).is_some_and(|all| all.split(',').any(|m| m == *name));
    let groups = text.lines().map(|line| line.split(':').collect::<Vec<_>>()).filter(in_it).map(|f| f[0].to_owned());
    Some(Account { name: (*name).into(), groups: groups.collect() })
}

/// Limit in `limits.conf` and its folder: a line for the user, else one for a group, else one for everybody. Of lines that
/// are alike, the last.
fn configured(face: &dyn Face, account: &Account) -> Option<(Option<u64>, String)> {
    let mut files = vec!["/etc/security/limits.conf".to_owned()];
    files.extend(
        face.names("/etc/security/limits.d")
            .into_iter()
            .filter(|f| crate::path::extension(f) == Some("conf"))
            .map(|f| format!("/etc/security/limits.d/{f}")),
    );
    let mut best: Option<(u8, Option<u64>, String)> = None;
    for file in files {
        for line in face.try_text(&file).unwrap_or_default().lines() {
            let words: Vec<&str> = line.split('#').next().unwrap_or_default().split_whitespace().collect();
            let [domain, "hard" | "-", "memlock", value] = words[..] else { continue };
            let rank = match domain.strip_prefix('@') {
                Some(group) if account.groups.iter().any(|g| g == group) => 2,
                None if domain == account.name => 3,
                None if domain == "*" => 1,
                _ => continue,
            };
            if best.as_ref().is_none_or(|(known, ..)| *known <= rank) {
                // In KiB; other words than a number mean no limit.
                best = Some((rank, value.parse().ok().map(|kib: u64| kib.saturating_mul(1024)), file.clone()));
            }
        }
    }
    best.map(|(_, limit, file)| (limit, file))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::face::Directory;

    fn host(files: &[(&str, &str)]) -> (tempfile::TempDir, Directory) {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let face = Directory::open(dir.path()).unwrap();
        (dir, face)
    }

    const LIMITS: &str = "Limit  Soft Limit  Hard Limit  Units\nMax locked memory         65536                8388608              bytes\n";
    const PASSWD: &str = "root:x:0:0::/:/bin/sh\nqemu:x:107:36::/:/bin/false\n";

    #[test]
    fn the_limit_is_the_users_or_this_process_s() {
        let (_dir, face) = host(&[("proc/self/limits", LIMITS), ("etc/passwd", PASSWD)]);
        assert_eq!(Memlock::of(&face, Some(107)).limit, Some(8 << 20), "the hard limit");
        assert_eq!(Memlock::of(&face, Some(0)).limit, None);
        let (_dir, face) = host(&[
            ("proc/self/limits", LIMITS),
            ("etc/passwd", PASSWD),
            ("etc/group", "kvm:x:36:\nvm:x:40:other,qemu\n"),
            ("etc/security/limits.conf", "* - memlock 64\n@vm hard memlock 1024 # for guests\nqemu soft memlock 1\n"),
            ("etc/security/limits.d/20.conf", "* hard memlock unlimited\n@kvm - memlock 2048\n"),
        ]);
        let limit = Memlock::of(&face, Some(107));
        assert_eq!((limit.limit, limit.from.as_str()), (Some(2 << 20), "/etc/security/limits.d/20.conf"));
    }

    #[test]
    fn a_guest_that_needs_more_is_told_with_the_remedy() {
        let mut findings = Findings::default();
        let limit = Memlock { limit: Some(8 << 20), from: "f".into() };
        limit.judge(16 << 30, Some("qemu"), &mut findings);
        let text = &findings.warnings[0];
        assert!(text.contains("LimitMEMLOCK=17408M") && text.contains("`qemu - memlock 17825792`"), "{text}");
        Memlock { limit: None, from: "f".into() }.judge(u64::MAX, None, &mut findings);
        assert_eq!((findings.warnings.len(), findings.remarks.len()), (1, 1));
    }
}
