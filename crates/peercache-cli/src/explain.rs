//! `peercache explain`: what a read of a key would do.

use peercache::config::COMMAND;
use peercache::{Config, Key};

use crate::args::ExplainArgs;
use crate::exit::{Exit, Failure};
use crate::{entries, output};

/// Prints a line for each tier and one for the outcome. A miss is an answer too: exit code 0.
pub(crate) async fn run(args: ExplainArgs, json: bool) -> Result<Exit, Failure> {
    let key = Key::new(args.key).map_err(Failure::config)?;
    // Nothing makes room for a command that only looks.
    let cache = Config::from_env(COMMAND)?.one_shot().look_only().open().await?;
    let explanation = cache.explain(&key).await;
    if json {
        output::json(&explanation)?;
    } else {
        output::line(&explanation)?;
    }
    entries::close(&cache).await?;
    Ok(Exit::Ok)
}
