//! Small systems: `--scenario` and `--list`.

use super::{explore, json};

#[test]
fn the_list_names_every_scenario_with_its_title_and_the_steps_of_a_path() {
    let list = explore(&["--list"]).good();
    let names: Vec<&str> = list.lines().filter(|line| !line.starts_with(' ')).collect();
    assert_eq!(names, bindery_explore::scenarios::names().collect::<Vec<_>>());
    let titles: Vec<&str> = list.lines().filter(|line| line.starts_with(' ')).collect();
    assert_eq!(titles.len(), names.len());
    assert!(titles.iter().all(|title| title.contains("; paths of ") && title.ends_with(" steps")), "{list}");
}

#[test]
fn a_scenario_is_explored_to_a_bound_and_its_report_leads_back_to_it() {
    let bounded = ["--scenario", "two-streams:7", "--steps", "2", "--bound", "paths=30", "--threads", "1", "--json"];
    let report = json(&explore(&bounded).good());
    assert_eq!(report["name"], "two-streams:7, steps: 2");
    assert_eq!((&report["mode"], report["paths"].as_u64()), (&json("\"partial\""), Some(30)));
    let text = explore(&["--scenario", "two-streams:7", "--steps", "2", "--bound", "paths=30"]).good();
    assert!(text.contains("two-streams:7, steps: 2"), "{text}");
}

#[test]
fn a_path_of_a_scenario_is_replayed_with_its_steps_and_choices() {
    let text = explore(&["--scenario", "two-streams", "--replay", "-"]).good();
    assert!(text.contains("two-streams"), "{text}");
    let replay = json(&explore(&["--scenario", "two-streams", "--replay", "-", "--json"]).good());
    let steps = replay["steps"].as_array().unwrap();
    assert!(!steps.is_empty() && steps.iter().all(|step| step["choice"] == 0), "{replay}");
    // The first choice point is the first step of the path: another choice is another step.
    let other = json(&explore(&["--scenario", "two-streams", "--replay", "1", "--json"]).good());
    assert_eq!(other["steps"][0]["choice"], 1);
    assert_ne!(other["steps"], replay["steps"]);
}
