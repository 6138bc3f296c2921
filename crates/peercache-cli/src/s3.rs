//! `peercache s3`: what the bucket needs beyond entries.

use peercache::config::COMMAND;
use peercache::{CacheBackend, Config};
use serde_json::json;

use crate::args::{LifecycleArgs, S3Args, S3Command};
use crate::exit::{Exit, Failure};
use crate::output;

/// Runs one of its commands.
pub(crate) async fn run(args: S3Args, json: bool) -> Result<Exit, Failure> {
    match args.command {
        S3Command::Lifecycle(args) => lifecycle(&args, json).await,
    }
}

/// Prints the rule as `aws s3api put-bucket-lifecycle-configuration` takes it, or sets it.
async fn lifecycle(args: &LifecycleArgs, json: bool) -> Result<Exit, Failure> {
    let config = Config::from_env(COMMAND)?;
    for warning in config.warnings() {
        tracing::warn!("{warning}");
    }
    let bucket = config.bucket().await?;
    let rule = match args.apply {
        true => bucket.apply_lifecycle(args.days).await,
        false => bucket.lifecycle_rule(args.days),
    }
    .map_err(Failure::failed)?;
    let name = bucket.report().bucket;
    bucket.close().await.map_err(Failure::failed)?;
    if json || !args.apply {
        output::json(&json!({ "Rules": [rule] }))?;
    } else {
        let prefix = &rule.filter.prefix;
        output::line(format_args!(
            "{name}: what lies under {prefix} goes {} days after it was written",
            args.days
        ))?;
    }
    Ok(Exit::Ok)
}
