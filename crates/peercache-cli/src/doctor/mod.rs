//! `peercache doctor`: what works, what does not, why, and the line that mends it.
//!
//! Each check does what it names with the parts that the other commands use: it opens the tier,
//! stores a value and reads it again, dials the peer, asks the origin. A check whose subject cannot
//! be reached because another check failed is not run, so that one fault has one finding.

mod clients;
mod container;
mod finding;
mod local;
mod network;
mod origin;
mod server;
mod settings;
mod tiers;
mod trust;

use peercache::Config;
use peercache::config::BackendName;
use serde_json::json;

use self::container::Container;
use self::finding::{Finding, Status};
use crate::args::DoctorArgs;
use crate::exit::{Exit, Failure};
use crate::output;
use crate::plain::on_one_line;

/// Runs every check. Exit code 0 if none failed, 1 if one did.
pub(crate) async fn run(args: DoctorArgs, json: bool) -> Result<Exit, Failure> {
    let mut findings = examine().await?;
    findings.iter_mut().for_each(Finding::redact);
    let failed = findings.iter().any(|finding| finding.status == Status::Failed);
    if args.fix {
        output::write(script(&findings).as_bytes())?;
    } else if json {
        output::json(&json!({ "healthy": !failed, "checks": findings }))?;
    } else {
        output::write(render(&findings).as_bytes())?;
    }
    Ok(if failed { Exit::Miss } else { Exit::Ok })
}

async fn examine() -> Result<Vec<Finding>, Failure> {
    let container = Container::look();
    let mut findings = vec![container.finding()];
    let Some(config) = settings::check(&mut findings).await else { return Ok(findings) };
    let config = config.one_shot();
    let server = server::check(&config, &mut findings).await;
    local::check(&config, &mut findings).await;
    for name in shared(&config) {
        let reached = match name {
            BackendName::Libp2p => network::check(&config, &container, server.as_ref(), &mut findings).await,
            _ => true,
        };
        if reached {
            tiers::check(&config, name, &mut findings).await;
        }
    }
    clients::check(&config, server.is_some(), &mut findings).await;
    // With a file of certificates that is none, programs fail before they see the proxy's.
    if !has_failed(&findings, trust::CHECK) {
        trust::check(&config, &mut findings).await;
    }
    origin::check(&config, &mut findings).await;
    network::merge(&mut findings);
    Ok(findings)
}

fn has_failed(findings: &[Finding], check: &str) -> bool {
    findings.iter().any(|finding| finding.check == check && finding.status == Status::Failed)
}

fn shared(config: &Config) -> Vec<BackendName> {
    let is_local = |name: &BackendName| matches!(name, BackendName::Memory | BackendName::Disk);
    config.backends().iter().copied().filter(|name| !is_local(name)).collect()
}

fn render(findings: &[Finding]) -> String {
    let width = findings.iter().map(|finding| finding.check.len()).max().unwrap_or_default();
    let mut text = String::new();
    for finding in findings {
        let status = match finding.status {
            Status::Ok => "ok     ",
            Status::Warning => "warning",
            Status::Failed => "FAILED ",
            Status::Skipped => "skipped",
        };
        text += &format!("{status}  {:width$}  {}\n", finding.check, on_one_line(&finding.found));
        for (label, value) in [("why", &finding.cause), ("do", &finding.remedy)] {
            if let Some(value) = value {
                text += &format!("{:9}{:width$}  {label}: {}\n", "", "", on_one_line(value));
            }
        }
    }
    let count = |status| findings.iter().filter(|finding| finding.status == status).count();
    text + &match (count(Status::Failed), count(Status::Warning)) {
        (0, 0) => "all well\n".to_owned(),
        (0, warnings) => format!("all well, {warnings} to look at\n"),
        (failed, _) => {
            format!("{failed} failed; `peercache doctor --fix` prints what mends it as a script\n")
        }
    }
}

/// What mends it, as a shell script: nothing is done until somebody runs it.
fn script(findings: &[Finding]) -> String {
    let mut text = "#!/bin/sh\n# By `peercache doctor --fix`. Read it before you run it.\n".to_owned();
    for finding in
        findings.iter().filter(|finding| matches!(finding.status, Status::Failed | Status::Warning))
    {
        text += &format!("\n# {}: {}\n", finding.check, on_one_line(&finding.found));
        match (&finding.command, &finding.remedy) {
            (Some(command), _) => text += &format!("{command}\n"),
            (None, Some(remedy)) => text += &format!("# by hand: {}\n", on_one_line(remedy)),
            (None, None) => {}
        }
    }
    text
}
