//! Spellings of `status`. Linux takes "okay" and "ok" up to the first NUL, and nothing else.
use bindery::device::Nodes;
use bindery::firmware::fdt::describe;

#[test]
fn status() {
    let mut nodes = Nodes::default();
    let d = describe(include_bytes!("trees/s23_status.dtb"), &mut nodes).unwrap();
    let names: Vec<_> = d.devices.iter().map(|d| d.name.to_string()).collect();
    println!("{names:?}; notes {:?}", d.notes.iter().map(ToString::to_string).collect::<Vec<_>>());
    let has = |n: &str| names.iter().any(|x| x.contains(n));
    assert!(has(".a") && has(".b") && !has(".c") && !has(".d") && !has(".f") && !has(".g") && !has(".h"));
    assert!(has(".e"), "a status of several words: the first one counts");
    // "enabled", "Okay": a typing error that switches a device off.
    assert!(
        d.notes.iter().any(|n| n.to_string().contains("status")),
        "a status that no specification knows is passed over without a note"
    );
}
