//! Small helpers that the crates of peercache share. Not part of the API: they may change in any
//! release.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};

/// `bytes` in lower-case hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut digits = vec![0; 2 * bytes.len()];
    for (pair, byte) in digits.chunks_exact_mut(2).zip(bytes) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
    // They are ASCII.
    String::from_utf8(digits).unwrap_or_default()
}

/// Whether a value of `NO_PROXY` spares this host in one of the two forms that HTTP libraries pass
/// over, as curl and Go do: `*` for every host, an address as well, and `host:port` for the host
/// and those below it at one port. The other forms are left to the library.
#[must_use]
pub fn no_proxy_spares(no_proxy: &str, host: &str, port: u16) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    no_proxy.split(',').map(str::trim).any(|entry| {
        let Some((name, of_port)) = entry.rsplit_once(':') else { return entry == "*" };
        let name = name.trim_start_matches('[').trim_end_matches(']').trim_start_matches('.');
        let (from, is_at_port) = (host.len().wrapping_sub(name.len()), of_port.parse() == Ok(port));
        is_at_port
            && !name.is_empty()
            && host.get(from..).is_some_and(|end| end.eq_ignore_ascii_case(name))
            && (from == 0 || host.as_bytes().get(from - 1) == Some(&b'.'))
    })
}

/// [`no_proxy_spares`] with the value that the environment has.
#[must_use]
pub fn environment_spares_proxy(host: &str, port: u16) -> bool {
    ["NO_PROXY", "no_proxy"]
        .into_iter()
        .any(|name| std::env::var(name).is_ok_and(|list| no_proxy_spares(&list, host, port)))
}

/// A counter that only grows and orders nothing.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// A counter at zero.
    #[must_use]
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Adds `n`.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// The sum so far.
    #[inline]
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Repeatable random numbers, for jitter and tests and never for secrets: SplitMix64 (Steele, Lea,
/// Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014). Any seed will do.
#[derive(Clone, Debug)]
pub struct SplitMix64(u64);

impl SplitMix64 {
    /// The sequence of `seed`.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Makes what follows depend on `word` as well.
    pub const fn mix(&mut self, word: u64) {
        self.0 ^= word;
        self.0 = self.roll();
    }

    /// The next 64 bits.
    pub const fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let word = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// A number from 0 up to, not including, 1.
    pub fn unit(&mut self) -> f64 {
        // 53 bits are what an f64 holds exactly.
        #[allow(clippy::cast_precision_loss, reason = "below 2^53, so nothing is lost")]
        let bits = (self.roll() >> 11) as f64;
        bits / 9_007_199_254_740_992.0
    }
}

/// A map that remembers at most twice `capacity` entries, those used last for sure: two
/// generations, of which the older is forgotten when the younger is full.
#[derive(Debug)]
pub struct Generations<K, V> {
    capacity: usize,
    young: HashMap<K, V>,
    old: HashMap<K, V>,
}

impl<K: Hash + Eq, V> Generations<K, V> {
    /// An empty map with at most `capacity` entries in each generation.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { capacity: capacity.max(1), young: HashMap::new(), old: HashMap::new() }
    }

    /// What is remembered under `key`.
    pub fn get<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.young.get(key).or_else(|| self.old.get(key))
    }

    /// What is remembered under `key`, which counts as used: it is in the younger generation from
    /// now on.
    pub fn get_used<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        if !self.young.contains_key(key) {
            let (key, value) = self.old.remove_entry(key)?;
            self.insert(key, value);
        }
        self.young.get(key)
    }

    /// Remembers `value` under `key`. Whether a new generation began with it, so that the one
    /// before the last was forgotten.
    pub fn insert(&mut self, key: K, value: V) -> bool {
        let turn = self.young.len() >= self.capacity && !self.young.contains_key(&key);
        if turn {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, value);
        turn
    }

    /// Forgets `key`.
    pub fn remove<Q: Hash + Eq + ?Sized>(&mut self, key: &Q)
    where
        K: Borrow<Q>,
    {
        self.young.remove(key);
        self.old.remove(key);
    }

    /// How many entries the younger and the older generation hold.
    #[must_use]
    pub fn sizes(&self) -> (usize, usize) {
        (self.young.len(), self.old.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_digits_are_lower_case_and_two_for_each_byte() {
        assert_eq!(hex(&[0x00, 0x0f, 0xa5, 0xff]), "000fa5ff");
    }

    #[test]
    fn no_proxy_knows_stars_and_ports() {
        for (list, spared) in [
            ("*", true),
            ("localhost, *", true),
            ("10.0.0.1:9000", true),
            ("10.0.0.1:9001", false),
            ("10.0.0.1", false),
            ("110.0.0.1:9000", false),
            (":9000", false),
            ("", false),
        ] {
            assert_eq!(no_proxy_spares(list, "10.0.0.1", 9000), spared, "{list}");
        }
        for list in ["minio.local:80", ".local:80", "local:80", "MINIO.local:80"] {
            assert!(no_proxy_spares(list, "minio.local", 80), "{list}");
            assert!(!no_proxy_spares(list, "minio.local", 443), "{list}");
        }
        assert!(!no_proxy_spares("cal:80", "minio.local", 80));
        assert!(no_proxy_spares("[::1]:80", "[::1]", 80));
    }

    /// The first numbers of the sequence of seed 0, as the authors' reference prints them.
    #[test]
    fn split_mix_gives_the_published_sequence() {
        let mut random = SplitMix64::new(0);
        let first = [random.roll(), random.roll(), random.roll()];
        assert_eq!(first, [0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4, 0x06c4_5d18_8009_454f]);
        assert!((0..1000).all(|_| (0.0..1.0).contains(&random.unit())));
    }

    #[test]
    fn generations_are_bounded_and_keep_what_is_used() {
        let mut map = Generations::new(3);
        map.insert("used".to_owned(), 0);
        for n in 0..50 {
            map.insert(format!("{n}"), n);
            assert_eq!(map.get_used("used"), Some(&0));
            let (young, old) = map.sizes();
            assert!(young <= 3 && old <= 3);
        }
        assert_eq!((map.get("49"), map.get("40")), (Some(&49), None));
        map.remove("49");
        assert_eq!(map.get("49"), None);
    }
}
