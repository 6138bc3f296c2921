//! The image of `deploy/Dockerfile.prebuilt`, as users run it: alone, and by `deploy/compose.yaml`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;

use serde_json::Value;

use crate::command::{LIMIT, Output, eventually, run};
use crate::engine::Engine;
use crate::means::Means;
use crate::part::missing;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
const IMAGE: &str = "peercache";

fn file(path: &str) -> String {
    fs::read_to_string(Path::new(ROOT).join(path)).unwrap()
}

/// An engine with the image, built as `deploy/Dockerfile.prebuilt` says.
fn with_image() -> Option<Rc<Engine>> {
    let Some(Means::Engine { dockerd, binary }) = Means::for_containers() else { return None };
    let engine = Engine::start(&dockerd, &binary);
    let context = engine.dir().join("of-recipe");
    fs::create_dir_all(context.join("cache")).unwrap();
    fs::copy(&binary, context.join("peercache")).unwrap();
    let recipe = Path::new(ROOT).join("deploy/Dockerfile.prebuilt");
    let args = ["build", "--quiet", "--tag", IMAGE, "--file", recipe.to_str().unwrap()];
    engine.docker(&[&args[..], &[context.to_str().unwrap()]].concat());
    Some(engine)
}

fn inspect(engine: &Engine, name: &str, format: &str) -> String {
    engine.docker(&["inspect", "--format", format, name])
}

#[test]
fn both_recipes_end_in_the_same_image() {
    let last = |path: &str| -> Vec<String> {
        let text = file(path);
        let (_, last) = text.rsplit_once("FROM scratch\n").unwrap();
        last.lines().map(str::to_owned).collect()
    };
    // One takes the files from the stage before, the other from the context.
    let of_stage = |line: String| {
        line.replace("COPY --from=build ", "COPY ")
            .replace(" /peercache /", " peercache /")
            .replace(" /cache /", " cache /")
    };
    let whole: Vec<_> = last("Dockerfile").into_iter().map(of_stage).collect();
    assert_eq!(whole, last("deploy/Dockerfile.prebuilt"));
}

#[test]
fn image_runs_as_its_user_is_healthy_and_ends_in_order() {
    let Some(engine) = with_image() else { return };
    assert_eq!(inspect(&engine, IMAGE, "{{.Config.User}}"), "65532:65532");
    engine.docker(&["run", "--detach", "--name", "alone", "--read-only", IMAGE]);
    eventually("the image is healthy", LIMIT, || {
        match inspect(&engine, "alone", "{{.State.Health.Status}}") {
            state if state == "healthy" => Ok(()),
            state => Err(state),
        }
    });
    let users = engine.docker(&["top", "alone", "-eo", "pid,uid,args"]);
    let words = users.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains(" 65532 /peercache serve"), "{users}");
    // A file of the volume, whose folder is this user's.
    run(engine.client(&["exec", "-i", "alone", "/peercache", "put", "key"]), b"value").ok("put");
    engine.docker(&["restart", "alone"]);
    let got = run(engine.client(&["exec", "alone", "/peercache", "get", "key"]), b"").ok("get");
    assert_eq!(got.text(), "value");
    engine.docker(&["stop", "alone"]);
    assert_eq!(inspect(&engine, "alone", "{{.State.ExitCode}}"), "0", "SIGTERM ends it in order");
}

/// `docker-compose` of Debian; nothing where the test has to be skipped.
fn compose() -> Option<PathBuf> {
    let named = std::env::var_os("PEERCACHE_TEST_COMPOSE").filter(|value| !value.is_empty());
    if named.is_none() {
        missing("PEERCACHE_TEST_COMPOSE is not set", "run `cargo xtask prepare compose`, on Debian 12");
    }
    named.map(PathBuf::from)
}

/// A project of `deploy/compose.yaml` on a private engine.
struct Project {
    engine: Rc<Engine>,
    modules: PathBuf,
}

impl Project {
    fn compose(&self, args: &[&str]) -> Command {
        let client = self.engine.client(&[]);
        // The interpreter that the modules were made for.
        let mut command = Command::new("/usr/bin/python3.11");
        command.env_clear();
        for (name, value) in client.get_envs() {
            command.env(name, value.unwrap_or_default());
        }
        command.env("PYTHONPATH", &self.modules).env("HOME", self.engine.dir());
        command.args(["-m", "compose", "-f", "deploy/compose.yaml", "-p", "peercache"]).args(args);
        command.current_dir(self.engine.dir());
        command
    }

    #[track_caller]
    fn up(&self, args: &[&str]) -> Output {
        run(self.compose(args), b"").ok(&args.join(" "))
    }

    /// Runs `peercache ARGS` in the container of this number of a service.
    fn exec(&self, service: &str, number: u8, args: &[&str], input: &[u8]) -> Output {
        let name = format!("peercache_{service}_{number}");
        run(self.engine.client(&[&["exec", "-i", &name, "/peercache"], args].concat()), input)
    }
}

#[test]
fn compose_file_starts_an_anchor_and_runners_that_share() {
    let Some(main) = compose() else { return };
    let Some(engine) = with_image() else { return };
    let deploy = engine.dir().join("deploy");
    fs::create_dir(&deploy).unwrap();
    fs::write(deploy.join("compose.yaml"), file("deploy/compose.yaml")).unwrap();
    let secret = run(engine.client(&["run", "--rm", IMAGE, "keygen"]), b"").ok("keygen");
    fs::write(deploy.join("fleet.secret"), secret.text()).unwrap();
    let project = Project { engine, modules: main.ancestors().nth(2).unwrap().to_owned() };
    project.up(&["up", "--detach", "--no-build", "--scale", "runner=2"]);

    eventually("both runners are members", LIMIT, || {
        let peers = project.exec("mcp-server", 1, &["--json", "peers"], b"");
        let report: Value = serde_json::from_slice(&peers.stdout).unwrap_or_default();
        if report["connected"].as_u64() >= Some(2) {
            Ok(())
        } else {
            Err(format!("{report} {}", peers.stderr))
        }
    });
    project.exec("runner", 1, &["put", "of-first", "--ttl", "300"], b"made by the first").ok("put");
    let got = project.exec("runner", 2, &["get", "of-first"], b"").ok("get");
    assert_eq!(got.text(), "made by the first");
    let doctor = project.exec("runner", 2, &["--json", "doctor"], b"");
    let report: Value = serde_json::from_slice(&doctor.stdout).unwrap();
    let failed: Vec<_> = report["checks"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|check| check["status"] == "failed" && check["check"] != "origin")
        .collect();
    assert!(failed.is_empty(), "all but GitHub is reached: {failed:?}");

    // Its port is published on the host's loopback, by no other address.
    let mut stats = project.engine.host().command("bash");
    stats.args([
        "-c",
        "exec 3<>/dev/tcp/127.0.0.1/9180 && printf 'GET /-/health/live HTTP/1.0\\r\\n\\r\\n' >&3 && cat <&3",
    ]);
    assert!(run(stats, b"").ok("the published port").text().contains("\"live\""));
    project.up(&["down", "--volumes"]);
}
