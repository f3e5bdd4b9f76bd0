//! The example runs to its end, and each task gets its own interrupts.

use std::process::Command;

#[test]
fn each_task_gets_the_interrupts_of_its_device() -> std::io::Result<()> {
    let run = Command::new(env!("CARGO_BIN_EXE_async-driver")).output()?;
    let text = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success(), "{run:?}");
    for (name, samples) in [("thermometer", 3), ("clock", 6)] {
        let lines: Vec<&str> = text.lines().filter(|line| line.starts_with(name)).collect();
        let wanted: Vec<String> = (1..=samples).map(|n| format!("{name}: sample {n} of {samples}")).collect();
        assert_eq!(lines, wanted);
    }
    Ok(())
}
