//! `peercache id`: who this node is, and what others put into CACHE_BOOTSTRAP_PEERS to find it.

use peercache::Config;
use peercache::config::{COMMAND, NodeSummary};
use serde_json::json;

use crate::exit::{Exit, Failure};
use crate::output;

/// Prints the peer id and the addresses, from settings alone: no server has to run.
pub(crate) async fn run(json: bool) -> Result<Exit, Failure> {
    let config = Config::from_env(COMMAND)?;
    for warning in config.warnings() {
        tracing::warn!("{warning}");
    }
    let node = config.node().await?;
    let Some(name) = node.name else {
        return Err(Failure::config(
            "this node has no lasting identity, each start makes another one; set CACHE_NODE_NAME to derive it from the \
             secret (each node of a fleet needs a name of its own), or CACHE_IDENTITY_FILE to keep it in a file",
        ));
    };
    if json {
        output::json(&json!({
            "peer_id": name,
            "role": node.role,
            "listen_port": node.listen_port,
            "addresses": node.addresses,
        }))?;
    } else {
        output::line(format_args!("peer id  {name}\nrole     {}\npaste    {}", node.role, paste(&node)))?;
        if !node.addresses.is_empty() {
            output::line(format_args!("or       {}", bootstrap(&node.addresses)))?;
            output::line(
                "The second form accepts this node alone at that address, and has to be pasted anew when its \
                 identity changes.",
            )?;
        }
    }
    Ok(Exit::Ok)
}

fn paste(node: &NodeSummary) -> String {
    match node.listen_port {
        _ if !node.addresses.is_empty() => bootstrap(&without_id(&node.addresses)),
        None => "nothing: this node only dials out; CACHE_LISTEN_PORT=9100 lets others dial it".to_owned(),
        Some(0) => {
            "nothing yet: with CACHE_LISTEN_PORT=0 the port is another one at each start, `peercache peers` shows it"
                .to_owned()
        }
        Some(_) => "nothing: this machine has no address; name one with CACHE_ANNOUNCE_ADDRS".to_owned(),
    }
}

/// The addresses alone: whoever has the secret is accepted there, whatever its identity is.
pub(crate) fn without_id(addresses: &[String]) -> Vec<String> {
    let address = |address: &String| address.split("/p2p/").next().unwrap_or_default().to_owned();
    addresses.iter().map(address).collect()
}

/// The setting by which others find a node at `addresses`.
pub(crate) fn bootstrap(addresses: &[String]) -> String {
    format!("CACHE_BOOTSTRAP_PEERS={}", addresses.join(","))
}
