//! What can go wrong with a command, and the error that a user reads.

use peercache_api::{Error, ErrorKind, Operation};
use redis::{ErrorKind as RedisKind, RedisError, ServerErrorKind};

/// How much of the server's own words an error shows, in characters.
const MAX_DETAIL: usize = 160;

/// What an error means for the connection and for later calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    /// It concerns this command.
    Command,
    /// This user may not write. Reads may go on.
    Writes,
    /// Another connection may do better: the server is gone, or is not the primary any more.
    Connection,
}

/// The code that the server's error begins with.
fn code(error: &RedisError) -> &str {
    error.code().unwrap_or_default()
}

/// The error for a caller of `operation`, and what it means beyond the command. `server` says which
/// servers were asked, without a login.
pub(crate) fn explain(error: &RedisError, operation: Operation, server: &str) -> (Error, Extent) {
    let (told, extent) = judge(error, operation);
    let told = told.with_backend("redis").with_context("server", server);
    let told = match error.detail() {
        Some(detail) if shows_detail(error) => told.with_context("answer", short(detail)),
        _ => told,
    };
    (told, extent)
}

/// On one line, and not endless.
fn short(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(MAX_DETAIL).collect()
}

/// Whether the server's own words say more than ours.
fn shows_detail(error: &RedisError) -> bool {
    matches!(error.kind(), RedisKind::Server(_) | RedisKind::Extension)
        && !matches!(code(error), "NOAUTH" | "WRONGPASS" | "MOVED" | "ASK" | "READONLY" | "LOADING" | "OOM")
}

fn judge(error: &RedisError, operation: Operation) -> (Error, Extent) {
    let told = |kind, message: &'static str| Error::new(kind, operation, message);
    let detail = error.detail().unwrap_or_default();
    match code(error) {
        "NOAUTH" => (
            // Temporary, here and below: a password that was changed is often changed back or made
            // known, and what waits to be written is worth keeping until then.
            told(ErrorKind::Denied, "the server asks for a password")
                .with_temporary(true)
                .with_help("put it into REDIS_URL: redis://USER:PASSWORD@HOST, or redis://:PASSWORD@HOST"),
            Extent::Connection,
        ),
        "WRONGPASS" => (
            told(ErrorKind::Denied, "the server refuses the user name or the password")
                .with_temporary(true)
                .with_help("correct them in REDIS_URL; percent-encode `@`, `/`, `:` and `,`"),
            Extent::Connection,
        ),
        "NOPERM" => (
            told(ErrorKind::Denied, "this user may not do this on the server").with_help(
                "allow the user what docs/how-to/redis.md lists, or set CACHE_READ_ONLY=true if it is not \
                 to write",
            ),
            Extent::Writes,
        ),
        "READONLY" => (
            told(ErrorKind::Unavailable, "the server is a replica and takes no writes").with_help(
                "after a failover this ends by itself; otherwise let REDIS_URL name the primary, or Sentinel",
            ),
            Extent::Connection,
        ),
        // At once and for writes only, so the breaker must not close the way for reads: it is not
        // counted like an outage, and the write is tried again.
        "OOM" => (
            told(ErrorKind::Denied, "the server's memory is full, and its policy evicts nothing")
                .with_temporary(true)
                .with_help("raise maxmemory, or set maxmemory-policy to allkeys-lru or volatile-ttl"),
            Extent::Command,
        ),
        "LOADING" => (told(ErrorKind::Unavailable, "the server is still loading its data"), Extent::Command),
        "MASTERDOWN" => (
            told(ErrorKind::Unavailable, "the replica has lost its primary and does not answer"),
            Extent::Connection,
        ),
        "CLUSTERDOWN" => (
            told(ErrorKind::Unavailable, "the cluster is down: not every slot has a node")
                .with_help("see `redis-cli cluster info`"),
            Extent::Command,
        ),
        "MOVED" | "ASK" => (
            told(ErrorKind::Config, "the server is a node of a cluster, and REDIS_URL names a single server")
                .with_help("write redis+cluster://HOST, or several nodes with commas between them"),
            Extent::Command,
        ),
        "CROSSSLOT" => (
            told(ErrorKind::Unsupported, "something between here and the cluster changes the names of keys"),
            Extent::Command,
        ),
        "BUSY" => (
            told(ErrorKind::Unavailable, "the server is busy with a script that runs for too long"),
            Extent::Command,
        ),
        "MISCONF" => (
            told(ErrorKind::Unavailable, "the server cannot save its data and refuses writes")
                .with_help("see the server's log; its disk may be full"),
            Extent::Command,
        ),
        "NOREPLICAS" => (
            told(ErrorKind::Unavailable, "the server has too few replicas and refuses writes"),
            Extent::Command,
        ),
        "WRONGTYPE" => (
            told(ErrorKind::Corrupt, "a key of this prefix holds another kind of value")
                .with_help("give the cache a prefix of its own: REDIS_PREFIX"),
            Extent::Command,
        ),
        "DENIED" => (
            told(ErrorKind::Denied, "the server is in protected mode and takes no connections from outside")
                .with_help("give the server a password, or let it listen where only your machines reach it"),
            Extent::Connection,
        ),
        "ERR" if detail.contains("DB index is out of range") || detail.contains("SELECT is not allowed") => (
            told(ErrorKind::Config, "the server does not have the database that REDIS_URL names")
                .with_help("name another one after the host, or none: redis://HOST/0"),
            Extent::Connection,
        ),
        "ERR" if detail.contains("max number of clients") => {
            (told(ErrorKind::Unavailable, "the server has too many connections"), Extent::Connection)
        }
        "ERR" if detail.contains("unknown command") => (
            told(ErrorKind::Unsupported, "the server does not know a command that the cache needs")
                .with_help("use Redis 6 or later, or Valkey, with EVALSHA, PUBLISH and SUBSCRIBE enabled"),
            Extent::Command,
        ),
        _ => by_kind(error, operation),
    }
}

fn by_kind(error: &RedisError, operation: Operation) -> (Error, Extent) {
    let told = |kind, message: &'static str| Error::new(kind, operation, message);
    const REACH: &str = "see whether REDIS_URL is right, and the server runs and is reachable from here";
    match error.kind() {
        RedisKind::Io if error.is_timeout() => (
            told(ErrorKind::Timeout, "the server did not answer in time").with_help(REACH),
            Extent::Connection,
        ),
        RedisKind::Io => (
            told(ErrorKind::Unavailable, "the server cannot be reached")
                .with_context("cause", short(&error.to_string()))
                .with_help(REACH),
            Extent::Connection,
        ),
        RedisKind::AuthenticationFailed => (
            told(ErrorKind::Denied, "the server refuses the user name or the password")
                .with_temporary(true)
                .with_help("correct them in REDIS_URL; percent-encode `@`, `/`, `:` and `,`"),
            Extent::Connection,
        ),
        RedisKind::RESP3NotSupported => (
            told(ErrorKind::Unsupported, "the server does not speak RESP3")
                .with_help("use Redis 6 or later, or Valkey"),
            Extent::Connection,
        ),
        RedisKind::MasterNameNotFoundBySentinel => (
            // While a failover goes on the old primary is gone and no new one is named: this ends
            // by itself.
            told(ErrorKind::Unavailable, "no Sentinel names a primary of this name that answers").with_help(
                "see `redis-cli -p 26379 sentinel masters`; the name follows the hosts in REDIS_URL",
            ),
            Extent::Connection,
        ),
        RedisKind::ClusterConnectionNotFound => (
            told(ErrorKind::Unavailable, "no node of the cluster can be reached").with_help(REACH),
            Extent::Connection,
        ),
        RedisKind::InvalidClientConfig => (
            told(ErrorKind::Config, "the connection cannot be set up")
                .with_context("cause", short(&error.to_string()))
                .with_help("see REDIS_URL"),
            Extent::Connection,
        ),
        RedisKind::Parse => (
            told(ErrorKind::Unavailable, "what answers is not Redis")
                .with_help("see the host and port in REDIS_URL; a server with TLS needs rediss://"),
            Extent::Connection,
        ),
        RedisKind::Server(ServerErrorKind::TryAgain) => {
            (told(ErrorKind::Unavailable, "the cluster is moving the key's slot"), Extent::Command)
        }
        _ => (
            told(ErrorKind::Unavailable, "the server refused the command")
                .with_context("cause", short(&error.to_string())),
            Extent::Command,
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// The error that a server's answer becomes.
    fn error_of(answer: &str) -> (Error, Extent) {
        let value = redis::parse_redis_value(format!("-{answer}\r\n").as_bytes()).unwrap();
        explain(&value.extract_error().unwrap_err(), Operation::Put, "cache.example:6379")
    }

    #[test]
    fn each_answer_of_a_server_is_an_error_of_its_own() {
        let answers = [
            ("NOAUTH Authentication required.", ErrorKind::Denied, Extent::Connection),
            ("WRONGPASS invalid username-password pair", ErrorKind::Denied, Extent::Connection),
            ("NOPERM this user has no permissions", ErrorKind::Denied, Extent::Writes),
            ("READONLY You can't write against a replica", ErrorKind::Unavailable, Extent::Connection),
            ("OOM command not allowed", ErrorKind::Denied, Extent::Command),
            ("LOADING Redis is loading", ErrorKind::Unavailable, Extent::Command),
            ("MASTERDOWN Link with MASTER is down", ErrorKind::Unavailable, Extent::Connection),
            ("CLUSTERDOWN Hash slot not served", ErrorKind::Unavailable, Extent::Command),
            ("MOVED 3999 127.0.0.1:6381", ErrorKind::Config, Extent::Command),
            ("CROSSSLOT Keys in request don't hash", ErrorKind::Unsupported, Extent::Command),
            ("BUSY Redis is busy running a script", ErrorKind::Unavailable, Extent::Command),
            ("MISCONF Redis is configured to save", ErrorKind::Unavailable, Extent::Command),
            ("NOREPLICAS Not enough good replicas", ErrorKind::Unavailable, Extent::Command),
            ("WRONGTYPE Operation against a key", ErrorKind::Corrupt, Extent::Command),
            ("DENIED Redis is running in protected mode", ErrorKind::Denied, Extent::Connection),
            ("ERR DB index is out of range", ErrorKind::Config, Extent::Connection),
            ("ERR max number of clients reached", ErrorKind::Unavailable, Extent::Connection),
            ("ERR unknown command 'EVALSHA'", ErrorKind::Unsupported, Extent::Command),
            ("TRYAGAIN Multiple keys request", ErrorKind::Unavailable, Extent::Command),
        ];
        let mut messages = BTreeMap::new();
        for (answer, kind, extent) in answers {
            let (error, found) = error_of(answer);
            assert_eq!((error.kind(), found), (kind, extent), "{answer}: {error}");
            assert_eq!(error.context("server"), Some("cache.example:6379"), "{answer}");
            let other = messages.insert(error.message().to_owned(), answer);
            assert_eq!(other, None, "{answer} has the same message: {error}");
        }
        // What is not known is passed on in the server's own words, and not as one of these.
        let (error, _) = error_of("ODD something new");
        assert!(!messages.contains_key(error.message()), "{error}");
        assert!(error.to_string().contains("something new"), "{error}");
    }
}
