//! `peercache explain`: what a read of a key would do.

use peercache::Key;

use crate::cli::ExplainArgs;
use crate::exit::{Exit, Failure};
use crate::{once, output};

/// Prints a line for each tier and one for the outcome. A miss is an answer too: exit code 0.
pub(crate) async fn run(args: ExplainArgs, json: bool) -> Result<Exit, Failure> {
    let key = Key::new(args.key).map_err(Failure::config)?;
    let cache = once::open().await?;
    let explanation = cache.explain(&key).await;
    if json {
        output::json(&explanation)?;
    } else {
        output::line(&explanation)?;
    }
    once::close(&cache).await?;
    Ok(Exit::Ok)
}
