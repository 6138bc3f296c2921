//! Which known name a misspelt one was probably meant to be.

/// The name among `known` that `name` was probably meant to be: at most two letters differ, or its
/// words stand in another order.
pub(super) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let words = |name: &str| {
        let mut words: Vec<_> = name.split('_').map(str::to_owned).collect();
        words.sort_unstable();
        words
    };
    let most = if name.len() < 10 { 1 } else { 2 };
    let distance = |known: &str| match words(known) == words(name) {
        true => 1,
        false => distance(name, known),
    };
    known
        .into_iter()
        .map(|known| (distance(known), known))
        .filter(|(distance, _)| *distance <= most)
        .min()
        .map(|near| near.1)
}

/// How many letters have to be changed, added, left out or swapped with their neighbour.
fn distance(one: &str, other: &str) -> usize {
    let (one, other): (Vec<_>, Vec<_>) = (one.bytes().collect(), other.bytes().collect());
    let mut rows = vec![(0..=other.len()).collect::<Vec<_>>()];
    for (i, a) in one.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in other.iter().enumerate() {
            let changed = rows[i][j] + usize::from(a != b);
            let mut least = changed.min(rows[i][j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *a == other[j - 1] && one[i - 1] == *b {
                least = least.min(rows[i - 1][j - 1] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[one.len()][other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_misspelt_name_is_found() {
        let known = ["CACHE_DIR", "CACHE_DISK_BYTES", "CACHE_ENABLE_P2P", "CACHE_BOOTSTRAP_PEERS"];
        let near = |name| nearest(name, known);
        assert_eq!(near("CACHE_DIRS"), Some("CACHE_DIR"));
        assert_eq!(near("CACHE_BOOTSTRAP_PERS"), Some("CACHE_BOOTSTRAP_PEERS"));
        assert_eq!(near("CACHE_BOOTSTRAP_PEER"), Some("CACHE_BOOTSTRAP_PEERS"));
        assert_eq!(near("CACHE_P2P_ENABLE"), Some("CACHE_ENABLE_P2P"));
        assert_eq!(near("CACHE_DKSI_BYTES"), Some("CACHE_DISK_BYTES"));
        assert_eq!(near("CACHE_DRIVER"), None, "another program's");
    }

    #[test]
    fn distance_counts_a_swap_once() {
        assert_eq!(distance("abcd", "abdc"), 1);
        assert_eq!(distance("abc", ""), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
