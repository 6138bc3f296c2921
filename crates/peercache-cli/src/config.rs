//! `peercache config`: every setting, and where it came from.

use peercache::Config;
use peercache::config::{COMMAND, Setting, known_settings};
use serde_json::json;

use crate::args::ConfigArgs;
use crate::exit::{Exit, Failure};
use crate::output::{self, table};
use crate::plain::on_one_line;

/// Prints the settings as they count. Secrets only by their key id.
pub(crate) async fn run(args: ConfigArgs, json: bool) -> Result<Exit, Failure> {
    if args.list {
        return list(&args, json);
    }
    let config = Config::from_env(COMMAND)?;
    for warning in config.warnings() {
        tracing::warn!("{warning}");
    }
    // The key id of a passphrase takes a while.
    let settings = tokio::task::spawn_blocking(move || config.settings())
        .await
        .map_err(|error| Failure::failed(format!("reading the settings was interrupted: {error}")))??;
    let settings: Vec<_> = settings.into_iter().filter(|setting| is_asked_for(&args, setting.name)).collect();
    if json {
        output::json(&json!({ "settings": settings }))?;
    } else {
        let row = |setting: &Setting| {
            vec![
                setting.name.to_owned(),
                on_one_line(&setting.value),
                on_one_line(&setting.origin.to_string()),
            ]
        };
        let rows: Vec<_> = settings.iter().map(row).collect();
        output::write(table(&["SETTING", "VALUE", "FROM"], &rows).as_bytes())?;
    }
    Ok(Exit::Ok)
}

/// Prints what there is to set, whatever is set.
fn list(args: &ConfigArgs, json: bool) -> Result<Exit, Failure> {
    let known: Vec<_> =
        known_settings().into_iter().filter(|setting| is_asked_for(args, setting.key)).collect();
    if json {
        let settings: Vec<_> = known
            .iter()
            .map(|setting| {
                json!({
                    "name": setting.key,
                    "variables": setting.variables,
                    "help": setting.help,
                    "kind": setting.kind,
                    "default": setting.default,
                    "secret": setting.secret,
                })
            })
            .collect();
        output::json(&json!({ "settings": settings }))?;
    } else {
        for setting in known {
            output::line(format_args!(
                "{}  (in the file: {})\n  {}\n  Value: {}. Default: {}.\n",
                setting.variables.join(", "),
                setting.key,
                setting.help,
                setting.kind,
                setting.default,
            ))?;
        }
    }
    Ok(Exit::Ok)
}

fn is_asked_for(args: &ConfigArgs, key: &str) -> bool {
    args.keys.is_empty() || args.keys.iter().any(|asked| asked == key)
}
