//! The checked-in device tree blobs match their sources.

use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn boards() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("boards")
}

/// Normalises a source or a blob into source text, by `dtc`; `None` without it.
fn normal(file: &Path, format: &str) -> Option<String> {
    // Through a blob first: labels and includes are gone then, as they are in the other one.
    let mut compile = Command::new("dtc");
    compile.args(["-q", "-@", "-I", format, "-O", "dtb"]).arg(file);
    let blob = match compile.stderr(Stdio::inherit()).output() {
        Err(e) if e.kind() == ErrorKind::NotFound => return None,
        result => result.expect("dtc runs"),
    };
    assert!(blob.status.success(), "dtc does not accept {}", file.display());
    let mut decompile = Command::new("dtc")
        .args(["-q", "-s", "-I", "dtb", "-O", "dts", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("dtc runs");
    decompile.stdin.take().expect("it is piped").write_all(&blob.stdout).expect("dtc reads");
    let text = decompile.wait_with_output().expect("dtc ends");
    assert!(text.status.success());
    Some(String::from_utf8(text.stdout).expect("dtc writes text"))
}

#[test]
fn blobs_agree_with_their_sources() {
    let mut seen = 0;
    for entry in boards().read_dir().expect("sim/boards is there") {
        let source = entry.expect("it can be listed").path();
        if source.extension().is_none_or(|e| e != "dts") {
            continue;
        }
        let blob = source.with_extension("dtb");
        let (Some(expected), Some(found)) = (normal(&source, "dts"), normal(&blob, "dtb")) else {
            // Past the test harness, which would keep it to itself.
            let line = b"skipped: blobs_agree_with_their_sources: dtc (device-tree-compiler) is not installed\n";
            let _ = std::io::stderr().write_all(line);
            return;
        };
        let name = source.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
        assert!(
            expected == found,
            "{name}.dtb is not what {name}.dts says; in sim/boards: dtc -@ -I dts -O dtb -o {name}.dtb {name}.dts"
        );
        seen += 1;
    }
    assert!(seen >= 2, "{seen} sources");
}
