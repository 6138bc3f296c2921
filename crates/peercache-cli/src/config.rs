//! `peercache config`: every setting, and where it came from.

use peercache::Config;
use peercache::config::Setting;
use serde_json::json;

use crate::exit::{Exit, Failure};
use crate::output;

/// Prints the settings as they count. Secrets only by their key id.
pub(crate) async fn run(json: bool) -> Result<Exit, Failure> {
    let config = Config::from_env("peercache")?;
    for warning in config.warnings() {
        tracing::warn!("{warning}");
    }
    // The key id of a passphrase takes a while.
    let settings = tokio::task::spawn_blocking(move || config.settings())
        .await
        .map_err(|error| Failure::failed(format!("reading the settings was interrupted: {error}")))??;
    if json {
        output::json(&json!({ "settings": settings }))?;
    } else {
        output::write(table(&settings).as_bytes())?;
    }
    Ok(Exit::Ok)
}

fn table(settings: &[Setting]) -> String {
    let rows = settings.iter().map(|setting| {
        [setting.name.to_owned(), on_one_line(&setting.value), on_one_line(&setting.origin.to_string())]
    });
    let head = ["SETTING", "VALUE", "FROM"].map(str::to_owned);
    let rows: Vec<_> = std::iter::once(head).chain(rows).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let (first, second) = (width(0), width(1));
    rows.iter().map(|[name, value, from]| format!("{name:first$}  {value:second$}  {from}\n")).collect()
}

/// Without what would move the cursor: values are whatever somebody set.
fn on_one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
