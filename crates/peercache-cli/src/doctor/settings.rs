//! The settings as they are resolved, the secret, and the features of this build.

use peercache::config::{COMMAND, Setting};
use peercache::{Config, ConfigError};

use super::finding::Finding;

/// The settings, if they can be used.
pub(super) async fn check(findings: &mut Vec<Finding>) -> Option<Config> {
    let config = match Config::from_env(COMMAND) {
        Ok(config) => config,
        Err(error) => {
            findings.push(mistake(&error));
            return None;
        }
    };
    let read = config.clone();
    // A passphrase takes a fraction of a second.
    let settings = tokio::task::spawn_blocking(move || read.settings()).await;
    let settings = match settings {
        Ok(Ok(settings)) => settings,
        Ok(Err(error)) => {
            findings.push(mistake(&error));
            return None;
        }
        Err(error) => {
            findings.push(Finding::failed("settings", error.to_string(), "run it again"));
            return None;
        }
    };
    let value = |name: &str| settings.iter().find(|setting| setting.name == name);
    let described = |setting: Option<&Setting>| {
        setting.map(|setting| format!("{} from {}", setting.value, setting.origin)).unwrap_or_default()
    };
    let chain = format!("chain {}", described(value("backend")));
    findings.push(Finding::ok("settings", format!("{chain}; file {}", described(value("config")))));
    for warning in config.warnings() {
        findings.push(Finding::warning("settings", warning.clone(), "change or remove that setting"));
    }
    findings.push(match config.keyring().is_ok_and(|ring| ring.is_some()) {
        true => Finding::ok("secret", described(value("secret"))),
        false => Finding::skipped("secret", "none is set"),
    });
    if config.is_untrusted() {
        let why =
            "an event that an outsider can cause started this job, so nothing that outlives it is written";
        findings.push(Finding::ok("job", why));
    }
    Some(config)
}

/// A setting that cannot be used, by what it is about.
pub(super) fn mistake(error: &ConfigError) -> Finding {
    let check = match error.variable() {
        "CACHE_SECRET" | "CACHE_P2P_SHARED_SECRET" | "CACHE_SECRET_OLD" | "CACHE_SECRET_FILE" => "secret",
        "CACHE_DIR" => "disk",
        _ => "settings",
    };
    Finding::failed(check, error.problem(), error.remedy())
}
