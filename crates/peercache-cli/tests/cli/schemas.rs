//! What others define, judged by what they publish: files for deployment by the schemas of GitHub,
//! of compose files and of Kubernetes, and the metrics by the parser of Prometheus' own client.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::serve::storable_target;
use crate::support::{Server, corpus, get, part, peercache, run, stderr};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// The folder of the Python packages; nothing where the test has to be skipped.
fn packages() -> Option<PathBuf> {
    let program = part("PEERCACHE_TEST_SCHEMAS", || None, "run `cargo xtask prepare schemas`")?;
    Some(program.ancestors().nth(2).unwrap().to_owned())
}

/// Runs Python with the packages.
fn python(packages: &Path, args: &[&str], input: &str) -> Output {
    let mut command = Command::new("python3");
    command.args(args).env("PYTHONPATH", packages).env("PYTHONDONTWRITEBYTECODE", "1");
    run(command, input.as_bytes())
}

/// Whether the file follows a schema that check-jsonschema brings.
fn follows(packages: &Path, schema: &str, file: &Path) -> Result<(), String> {
    let args = ["-m", "check_jsonschema", "--builtin-schema", schema, file.to_str().unwrap()];
    let output = python(packages, &args, "");
    match output.status.code() {
        Some(0) => Ok(()),
        // Anything else than a verdict is a fault of this test.
        Some(1) => Err(String::from_utf8_lossy(&output.stdout).into_owned()),
        _ => panic!("{}", stderr(&output)),
    }
}

/// Whether each document of a file is a resource that Kubernetes knows, without a field that it
/// does not know.
fn is_of_kubernetes(packages: &Path, file: &Path) -> Result<(), String> {
    let check = "import sys; from kubernetes_validate.__main__ import main; sys.exit(main())";
    let output = python(packages, &["-c", check, "--strict", file.to_str().unwrap()], "");
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), stderr(&output));
    match said.contains("passed for resource") && !said.contains("ERROR") && output.status.success() {
        true => Ok(()),
        false => Err(said),
    }
}

/// The blocks of YAML in the pages about deployment, with the page and the number of the block.
fn blocks() -> Vec<(String, String)> {
    let mut blocks = Vec::new();
    for entry in std::fs::read_dir(Path::new(ROOT).join("docs/how-to/deploy")).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        for (number, rest) in text.split("```yaml\n").skip(1).enumerate() {
            blocks.push((format!("{name}-{number}"), rest.split("```").next().unwrap().to_owned()));
        }
    }
    blocks
}

fn indented(text: &str, spaces: usize) -> String {
    text.lines().map(|line| format!("{:spaces$}{line}\n", "")).collect()
}

/// A workflow of which a page shows these lines of one job.
fn workflow_of(lines: &str) -> String {
    let more = match (lines.contains("runs-on:"), lines.contains("steps:")) {
        (true, true) => "",
        (true, false) => "    steps: [{ run: 'true' }]\n",
        (false, true) => "    runs-on: ubuntu-latest\n",
        (false, false) => "    runs-on: ubuntu-latest\n    steps: [{ run: 'true' }]\n",
    };
    format!("on: push\njobs:\n  job:\n{more}{}", indented(lines, 4))
}

#[test]
fn files_for_github_and_compose_follow_their_schemas() {
    let Some(packages) = packages() else { return };
    let scratch = tempfile::tempdir().unwrap();
    let root = Path::new(ROOT);
    let mut workflows: Vec<_> = std::fs::read_dir(root.join("deploy/workflows"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    let mut shown = 0;
    for (name, block) in blocks() {
        // Pages show jobs, and parts of jobs.
        let is_job = ["steps:", "container:", "runs-on:"].iter().any(|start| block.starts_with(start));
        if block.contains("\njobs:") || is_job {
            let file = scratch.path().join(format!("{name}.yaml"));
            std::fs::write(&file, if is_job { workflow_of(&block) } else { block }).unwrap();
            workflows.push(file);
            shown += 1;
        }
    }
    assert!(workflows.len() > shown && shown >= 2, "{workflows:?}");
    for file in &workflows {
        follows(&packages, "vendor.github-workflows", file)
            .unwrap_or_else(|why| panic!("{}: {why}", file.display()));
    }
    follows(&packages, "vendor.github-actions", &root.join("action.yml")).unwrap();
    let compose = root.join("deploy/compose.yaml");
    follows(&packages, "vendor.compose-spec", &compose).unwrap();

    // A schema that takes everything would have said the same.
    let broken = |name: &str, from: &str, to: &str, file: &Path| {
        let text = std::fs::read_to_string(file).unwrap();
        assert!(text.contains(from), "{}: {from}", file.display());
        let path = scratch.path().join(name);
        std::fs::write(&path, text.replacen(from, to, 1)).unwrap();
        path
    };
    let action = broken("action.yml", "using: composite", "using: nonsense", &root.join("action.yml"));
    assert!(follows(&packages, "vendor.github-actions", &action).is_err());
    let compose = broken("compose.yaml", "command:", "commandd:", &compose);
    assert!(follows(&packages, "vendor.compose-spec", &compose).is_err());
    let workflow = broken("broken.yaml", "runs-on:", "run-on:", &workflows[0]);
    assert!(follows(&packages, "vendor.github-workflows", &workflow).is_err());
}

#[test]
fn files_for_kubernetes_follow_its_schemas() {
    let Some(packages) = packages() else { return };
    let scratch = tempfile::tempdir().unwrap();
    let folder = Path::new(ROOT).join("deploy/kubernetes");
    for name in ["daemonset.yaml", "gh-config.yaml"] {
        is_of_kubernetes(&packages, &folder.join(name)).unwrap_or_else(|why| panic!("{name}: {why}"));
    }
    // The values of the chart for runners hold the specification of a pod.
    let script = "
import sys, yaml
values = yaml.safe_load(sys.stdin)
pod = {'apiVersion': 'v1', 'kind': 'Pod', 'metadata': {'name': 'runner'}, 'spec': values['template']['spec']}
print(yaml.safe_dump(pod))
";
    let values = std::fs::read_to_string(folder.join("arc-values.yaml")).unwrap();
    let pod = python(&packages, &["-c", script], &values);
    assert!(pod.status.success(), "{}", stderr(&pod));
    let file = scratch.path().join("pod.yaml");
    std::fs::write(&file, &pod.stdout).unwrap();
    is_of_kubernetes(&packages, &file).unwrap();

    // A schema that takes everything would have said the same.
    let text = std::fs::read_to_string(folder.join("daemonset.yaml")).unwrap();
    let broken = scratch.path().join("broken.yaml");
    std::fs::write(&broken, text.replacen("hostPath:", "hostPaths:", 1)).unwrap();
    assert!(text.contains("hostPath:") && is_of_kubernetes(&packages, &broken).is_err());
}

/// Reads metrics as Prometheus' own client does, and prints each sample.
const PARSER: &str = "
import json, sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families
samples = []
for family in text_string_to_metric_families(sys.stdin.read()):
    assert family.documentation, family.name
    for sample in family.samples:
        samples.append({'name': sample.name, 'labels': sample.labels, 'value': sample.value})
print(json.dumps(samples))
";

#[test]
fn metrics_are_read_by_the_parser_of_prometheus_and_equal_the_report() {
    let Some(packages) = packages() else { return };
    let scratch = tempfile::tempdir().unwrap();
    let corpus = corpus(scratch.path());
    let target = storable_target(&corpus);
    let (origin, _log) = Server::fakehub(&corpus);
    let mut command = peercache(&["serve", "--listen", "127.0.0.1:0", "--upstream", &origin.url]);
    command.env("CACHE_DIR", scratch.path().join("cache"));
    let server = Server::start(command);
    // A label with what has to be escaped.
    for client in ["CI / build", "a\\b", "CI / build"] {
        get(&format!("{}{target}", server.url), &[("X-Peercache-Client", client)]);
    }
    let (_, _, metrics) = get(&format!("{}/-/metrics", server.url), &[]);
    let metrics = String::from_utf8(metrics).unwrap();
    let read = python(&packages, &["-c", PARSER], &metrics);
    assert!(read.status.success(), "{}\n{metrics}", stderr(&read));
    let samples: Vec<Value> = serde_json::from_slice(&read.stdout).unwrap();
    let sample = |name: &str, labels: Value| {
        let found = samples.iter().find(|sample| sample["name"] == name && sample["labels"] == labels);
        found.unwrap_or_else(|| panic!("{name} {labels}: {metrics}"))["value"].as_f64().unwrap()
    };
    let (_, _, report) = get(&format!("{}/-/stats", server.url), &[]);
    let report: Value = serde_json::from_slice(&report).unwrap();
    let number = |pointer: &str| report.pointer(pointer).unwrap().as_f64().unwrap();
    assert_eq!(sample("peercache_saved_requests_total", json!({})), number("/saved/saved"));
    for class in ["fresh", "miss", "revalidated"] {
        let result = json!({ "result": class });
        assert_eq!(sample("peercache_requests_total", result), number(&format!("/proxy/{class}")), "{class}");
    }
    let clients = report["ledger"]["clients"].as_array().unwrap();
    assert_eq!(clients.len(), 2);
    for row in clients {
        for count in ["asked", "sent", "charged"] {
            let labels = json!({ "client": row["client"], "count": count });
            assert_eq!(sample("peercache_client_calls_total", labels), row[count].as_f64().unwrap(), "{row}");
        }
    }
    // A parser that takes everything would have said the same.
    let broken = python(&packages, &["-c", PARSER], &metrics.replacen("# EOF", "", 1));
    assert!(!broken.status.success());
}
