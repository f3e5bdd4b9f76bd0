//! The manifests under docs/scale-out do what they say: their own commands, run here for every part.
#![cfg(unix)]
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::path::Path;
use std::process::Command;

use common::{Dir, bindery};
use serde_json::Value;

/// Small, and without remembered states, so that the sums of the parts are those of the whole.
const OPTIONS: [&str; 4] = ["--model", "linux-6.12", "--bound", "states=0"];

fn file(name: &str) -> String {
    format!("{}/../docs/scale-out/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// The documents of a YAML file.
fn yaml(name: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(file(name)).unwrap();
    serde_saphyr::from_multiple(&text).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// Runs `program`, with the command under test on its path; its exit code, output and messages.
fn run(program: &str, args: &[&str], env: &[(&str, &str)], dir: &Path) -> (i32, String, String) {
    let bin = Path::new(env!("CARGO_BIN_EXE_bindery")).parent().unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
    let mut command = Command::new(program);
    command.args(args).env("PATH", path).envs(env.iter().copied()).current_dir(dir);
    for name in ["REPORTS", "SHARDS"] {
        if !env.iter().any(|(set, _)| *set == name) {
            command.env_remove(name);
        }
    }
    let ran = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (ran.status.code().unwrap(), text(ran.stdout), text(ran.stderr))
}

/// The whole run, and what must be the same in the sum of its parts.
fn whole() -> Vec<Value> {
    compared(&bindery(["explore", "--json"].iter().chain(&OPTIONS)).out)
}

fn compared(report: &str) -> Vec<Value> {
    let report: Value = serde_json::from_str(report).unwrap();
    ["name", "mode", "paths", "checks", "coverage", "missing"].map(|field| report[field].clone()).into()
}

/// A container's command and its environment; `reports` takes the place of its volume.
struct Container {
    command: Vec<String>,
    env: Vec<(String, String)>,
}

impl Container {
    fn of(job: &Value, reports: &Path) -> Self {
        let container = &job["spec"]["template"]["spec"]["containers"][0];
        let texts = |list: &Value| -> Vec<String> {
            list.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(container["volumeMounts"][0]["mountPath"], "/reports");
        let env = container["env"].as_array().unwrap().iter().map(|var| {
            let (name, value) = (var["name"].as_str().unwrap(), var["value"].as_str().unwrap());
            let value = value.replace("/reports", reports.to_str().unwrap());
            (name.to_owned(), value)
        });
        Self { command: texts(&container["command"]), env: env.collect() }
    }

    fn run(&self, options: &[&str], more: &[(&str, &str)], dir: &Path) -> (i32, String, String) {
        let args: Vec<&str> = self.command[1..].iter().map(String::as_str).chain(options.iter().copied()).collect();
        let env: Vec<(&str, &str)> =
            self.env.iter().map(|(name, value)| (name.as_str(), value.as_str())).chain(more.iter().copied()).collect();
        run(&self.command[0], &args, &env, dir)
    }
}

fn shard_job() -> Value {
    let documents = yaml("kubernetes.yaml");
    documents.into_iter().find(|document| document["kind"] == "Job").unwrap()
}

#[test]
fn what_has_to_agree_in_the_kubernetes_manifests_does() {
    let (job, merge) = (shard_job(), &yaml("kubernetes-merge.yaml")[0]);
    assert_eq!((&job["apiVersion"], &job["spec"]["completionMode"]), (&"batch/v1".into(), &"Indexed".into()));
    let completions = job["spec"]["completions"].as_u64().unwrap();
    assert_eq!(job["spec"]["parallelism"], completions);
    let claim = yaml("kubernetes.yaml").into_iter().find(|d| d["kind"] == "PersistentVolumeClaim").unwrap();
    for job in [&job, merge] {
        let pod = &job["spec"]["template"]["spec"];
        // backoffLimitPerIndex needs it, and a merge is not to be tried again.
        assert_eq!(pod["restartPolicy"], "Never");
        assert_eq!(pod["volumes"][0]["persistentVolumeClaim"]["claimName"], claim["metadata"]["name"]);
        assert_eq!(pod["volumes"][0]["name"], pod["containers"][0]["volumeMounts"][0]["name"]);
    }
    let dir = Dir::new();
    let shards = Container::of(&job, &dir.path("")).env.into_iter().find(|(name, _)| name == "SHARDS").unwrap();
    assert_eq!(shards.1, completions.to_string());
}

#[test]
fn the_pods_of_the_indexed_job_walk_the_whole() {
    let dir = Dir::new();
    let (job, here) = (shard_job(), dir.path(""));
    let container = Container::of(&job, &here);
    for index in 0..job["spec"]["completions"].as_u64().unwrap() {
        let (code, out, err) = container.run(&OPTIONS, &[("JOB_COMPLETION_INDEX", &index.to_string())], &here);
        assert_eq!((code, out.as_str(), err.as_str()), (0, "", ""), "pod {index}");
    }
    assert_eq!(dir.names(), (1..=8).map(|k| format!("{k}.json")).collect::<Vec<_>>());
    let merge = Container::of(&yaml("kubernetes-merge.yaml")[0], &here);
    let (code, out, err) = merge.run(&["--json"], &[], &here);
    assert_eq!((code, err.as_str()), (1, ""), "the merge fails where a promise was broken");
    assert_eq!(compared(&out), whole());
}

#[test]
fn a_pod_that_fails_leaves_no_report() {
    let dir = Dir::new();
    let here = dir.path("");
    let container = Container::of(&shard_job(), &here);
    let (code, _, err) = container.run(&["--model", "nonsense"], &[("JOB_COMPLETION_INDEX", "0")], &here);
    assert!(code != 0 && err.contains("nonsense"), "{code}: {err}");
    assert!(!dir.names().contains(&"1.json".to_owned()), "{:?}", dir.names());
}

#[test]
fn the_tasks_of_the_slurm_array_walk_the_whole() {
    let dir = Dir::new();
    let here = dir.path("");
    let script = file("slurm-shards.sh");
    let text = std::fs::read_to_string(&script).unwrap();
    assert!(text.contains("#SBATCH --array=1-8\n"), "parts count from 1");
    for task in 1..=5 {
        let task = task.to_string();
        let array = [("SLURM_ARRAY_JOB_ID", "77"), ("SLURM_ARRAY_TASK_ID", &task), ("SLURM_ARRAY_TASK_MAX", "5")];
        let args = [&[script.as_str()], &OPTIONS[..]].concat();
        assert_eq!(run("sh", &args, &array, &here), (0, String::new(), String::new()), "task {task}");
    }
    // One of them again, as an array of its own.
    let again = [
        ("SLURM_ARRAY_JOB_ID", "78"),
        ("SLURM_ARRAY_TASK_ID", "3"),
        ("SLURM_ARRAY_TASK_MAX", "3"),
        ("SHARDS", "5"),
        ("REPORTS", "reports-77"),
    ];
    assert_eq!(run("sh", &[&[script.as_str()], &OPTIONS[..]].concat(), &again, &here).0, 0);
    let (code, out, err) = run("sh", &[&file("slurm-merge.sh"), "reports-77"], &[], &here);
    assert_eq!((code, err.as_str()), (1, ""));
    assert!(out.contains("known as group-type"), "{out}");
    let reports: Vec<String> =
        (1..=5).map(|k| dir.path(&format!("reports-77/{k}.json")).display().to_string()).collect();
    let merged = bindery(["explore", "--json", "--merge"].into_iter().chain(reports.iter().map(String::as_str)));
    assert_eq!(compared(&merged.out), whole());
}

#[test]
fn the_matrix_of_the_workflow_names_every_part_once() {
    let jobs = &yaml("github-actions.yaml")[0]["jobs"];
    for (job, variable, key, command) in [
        ("tests", "PART", "part", "cargo nextest run --workspace --partition \"hash:$PART/4\""),
        ("shard", "SHARD", "shard", "--shard \"$SHARD/8\" --json >\"$SHARD.json\" || [ $? -eq 1 ]"),
    ] {
        let steps = jobs[job]["steps"].as_array().unwrap();
        let step = steps.iter().find(|step| step["env"][variable].is_string()).unwrap();
        assert!(step["run"].as_str().unwrap().contains(command), "{step}");
        assert_eq!(step["env"][variable], format!("${{{{ matrix.{key} }}}}"));
        let parts: Vec<u64> =
            jobs[job]["strategy"]["matrix"][key].as_array().unwrap().iter().map(|k| k.as_u64().unwrap()).collect();
        let of: u64 = command.split(&format!("${variable}/")).nth(1).unwrap()[..1].parse().unwrap();
        assert_eq!(parts, (1..=of).collect::<Vec<_>>());
    }
    assert_eq!(jobs["merge"]["needs"], "shard");
}
