//! Several processes on one cache directory, killed at random.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use crate::serve::storable_target;
use crate::support::{Server, corpus, get, peercache, run_in};

const ROUNDS: u32 = 200;
const PUTS: u32 = 5;
const GETS: u32 = 5;
const KEYS: u64 = 24;

/// A small generator, so that a failing run can be repeated from its seed (xorshift64*).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) % bound
    }
}

/// The value that write `id` puts: it names itself in every line, so a mix of two is seen.
fn value(id: u32) -> Vec<u8> {
    let lines = [1, 30, 900, 12_000][id as usize % 4];
    format!("write {id:010}\n").repeat(lines).into_bytes()
}

fn id_of(value: &[u8]) -> u32 {
    let text = std::str::from_utf8(&value[..17]).expect("a value that we wrote");
    let id = text["write ".len()..16].parse().expect("a value that we wrote");
    assert!(value == self::value(id), "the value of write {id} is damaged");
    id
}

struct Writer {
    child: Child,
    key: u64,
    id: u32,
}

fn spawn_put(dir: &Path, files: &Path, key: u64, id: u32) -> Writer {
    let file = files.join(format!("{id}"));
    std::fs::write(&file, value(id)).unwrap();
    let mut command = peercache(&["put", &format!("key-{key}"), file.to_str().unwrap(), "--ttl", "3600"]);
    command.env("CACHE_DIR", dir).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    Writer { child: command.spawn().unwrap(), key, id }
}

#[test]
fn killed_at_random_nothing_acknowledged_is_lost_and_nothing_is_corrupt() {
    let seed = std::env::var("PEERCACHE_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0x5eed);
    eprintln!("seed {seed} (PEERCACHE_TEST_SEED repeats it)");
    let mut random = Random(seed);
    let scratch = tempfile::tempdir().unwrap();
    let (dir, files) = (scratch.path().join("cache"), scratch.path().join("files"));
    std::fs::create_dir(&files).unwrap();
    let corpus = corpus(scratch.path());
    let target = storable_target(&corpus);
    let (origin, _log) = Server::fakehub(&corpus);
    let mut servers = [Server::serve(&dir, &origin.url, &[]), Server::serve(&dir, &origin.url, &[])];
    let (_, _, expected) = get(&format!("{}{target}", origin.url), &[]);

    // The writes that may be what a key holds now; `None` stands for no value.
    let mut possible: BTreeMap<u64, Vec<Option<u32>>> = (0..KEYS).map(|key| (key, vec![None])).collect();
    let (mut next_id, mut acknowledged, mut killed) = (0, 0, 0);
    for round in 0..ROUNDS {
        let mut writers = Vec::new();
        for _ in 0..PUTS {
            let key = random.below(KEYS);
            writers.push(spawn_put(&dir, &files, key, next_id));
            next_id += 1;
        }
        let mut readers = Vec::new();
        for _ in 0..GETS {
            let key = random.below(KEYS);
            let mut command = peercache(&["get", &format!("key-{key}")]);
            command.env("CACHE_DIR", &dir).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
            readers.push(command.spawn().unwrap());
        }
        std::thread::sleep(Duration::from_millis(random.below(40)));
        for writer in &mut writers {
            if random.below(3) == 0 {
                writer.child.kill().unwrap();
            }
        }
        for reader in &mut readers {
            if random.below(5) == 0 {
                reader.kill().unwrap();
            }
        }
        if random.below(8) == 0 {
            let victim = usize::from(random.below(2) == 1);
            servers[victim].kill();
            servers[victim] = Server::serve(&dir, &origin.url, &[]);
        }
        for reader in readers {
            let output = reader.wait_with_output().unwrap();
            if output.status.code() == Some(0) {
                id_of(&output.stdout);
            } else {
                assert!(matches!(output.status.code(), Some(1) | None), "round {round}: {:?}", output.status);
            }
        }
        let mut this_round: BTreeMap<u64, (Vec<Option<u32>>, bool)> = BTreeMap::new();
        for mut writer in writers {
            let status = writer.child.wait().unwrap();
            let (ids, any_acknowledged) = this_round.entry(writer.key).or_default();
            ids.push(Some(writer.id));
            match status.code() {
                Some(0) => {
                    *any_acknowledged = true;
                    acknowledged += 1;
                }
                None => killed += 1,
                Some(code) => panic!("round {round}: a put ended with {code}"),
            }
        }
        for (key, (mut ids, any_acknowledged)) in this_round {
            let before = possible.get_mut(&key).unwrap();
            if !any_acknowledged {
                ids.append(before);
            }
            *before = ids;
            assert_holds(&dir, key, before, round);
        }
        for server in &servers {
            let (status, head, body) = get(&format!("{}{target}", server.url), &[]);
            assert_eq!(status, 200, "round {round}: {head}");
            assert!(body == expected, "round {round}: a wrong answer through serve");
        }
    }
    for (key, ids) in &mut possible {
        assert_holds(&dir, *key, ids, ROUNDS);
    }
    assert!(acknowledged > 0 && killed > 0, "{acknowledged} acknowledged, {killed} killed");
    eprintln!("{ROUNDS} rounds, {acknowledged} puts acknowledged, {killed} killed");
}

/// The key holds one of `ids`, and from now on exactly that one.
fn assert_holds(dir: &Path, key: u64, ids: &mut Vec<Option<u32>>, round: u32) {
    let output = run_in(dir, &["get", &format!("key-{key}")], b"");
    let found = match output.status.code() {
        Some(0) => Some(id_of(&output.stdout)),
        Some(1) => None,
        other => panic!("round {round}: get ended with {other:?}"),
    };
    assert!(ids.contains(&found), "round {round}: key {key} holds {found:?}, expected one of {ids:?}");
    *ids = vec![found];
}
