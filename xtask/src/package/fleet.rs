//! The Ansible play of the package, run twice against a fake host: the second run changes nothing.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::{failed, folder};
use crate::outcome::{Outcome, Trouble};
use crate::tool::{exists, output, root};

/// The version of `ansible-core` that the play is tried with.
const ANSIBLE: &str = "ansible-core==2.19.14";

/// Runs the play.
pub(super) fn run(program: &Path) -> Outcome {
    let ansible = ansible()?;
    let host = folder().join("fake");
    let _ = fs::remove_dir_all(&host);
    let script = root().join("xtask/src/package/fake.sh");
    output(Command::new("sh").arg(script).arg(&host))?;
    let play = |more: &[&str]| {
        // Ansible refuses to run in the plain C locale, which all programs get here.
        let mut command = Command::new("env");
        command.arg("LC_ALL=C.UTF-8").arg(&ansible);
        command
            .current_dir(root().join("linux/package/ansible"))
            .env("ANSIBLE_NOCOWS", "1")
            .env("ANSIBLE_FORCE_COLOR", "0");
        command
            .env("ANSIBLE_LOCAL_TEMP", folder().join("ansible-tmp"))
            .env("ANSIBLE_REMOTE_TEMP", folder().join("ansible-tmp"));
        // The host's Python is the one that Ansible has; looking for another finds what is not meant.
        command.arg("-e").arg(format!("ansible_python_interpreter={}", ansible.with_file_name("python").display()));
        command.args(["-i", "localhost,", "-c", "local", "play.yml", "-e", "bindctl_become=false"]);
        command.arg("-e").arg(format!("bindctl={}", program.display()));
        command.arg("-e").arg(format!("{{\"bindctl_arguments\": [\"--root\", \"{}\"]}}", host.display()));
        command.arg("-e").arg(format!("bindctl_target={}", host.join("etc/bindctl.toml").display()));
        command.arg("-e").arg(format!("bindctl_file={}", host.join("wanted.toml").display()));
        output(command.args(more))
    };
    // In check mode nothing is written, and the drift is told.
    recap(&play(&["--check"])?, "changed=1")?;
    none(&host.join("etc/bindctl.toml"))?;
    // A fake host has no kernel that would move a device: the play finds that it has not moved.
    match play(&[]) {
        Err(Trouble::Broken(said)) if said.contains("exit status: 2") => {}
        other => return Err(failed(format!("a device that did not move was not noticed: {other:?}"))),
    }
    // What the kernel would have done.
    output(Command::new("sh").arg(root().join("xtask/src/package/fake.sh")).arg(&host).arg("moved"))?;
    recap(&play(&[])?, "changed=0")?;
    recap(&play(&[])?, "changed=0")?;
    println!("package: the play is idempotent on a fake host");
    Ok(())
}

fn recap(said: &str, wanted: &str) -> Outcome {
    let line = said.lines().rev().find(|line| line.contains("changed=")).unwrap_or_default();
    if line.contains(wanted) && line.contains("failed=0") {
        Ok(())
    } else {
        Err(failed(format!("not {wanted}:\n{said}")))
    }
}

fn none(path: &Path) -> Outcome {
    if path.exists() { Err(failed(format!("{} was written in check mode", path.display()))) } else { Ok(()) }
}

/// `ansible-playbook` in a Python environment of its own.
fn ansible() -> Result<std::path::PathBuf, Trouble> {
    let home = folder().join("ansible");
    let program = home.join("bin/ansible-playbook");
    if !program.exists() {
        if !exists("python3") {
            return Err(Trouble::Skipped("not installed: python3, for ansible-core".into()));
        }
        println!("installing {ANSIBLE}");
        let skipped = |t: Trouble| Trouble::Skipped(format!("{ANSIBLE} cannot be installed: {}", t.why()));
        output(Command::new("python3").args(["-m", "venv"]).arg(&home)).map_err(skipped)?;
        output(Command::new(home.join("bin/pip")).args(["install", "--quiet", ANSIBLE])).map_err(skipped)?;
    }
    Ok(program)
}
