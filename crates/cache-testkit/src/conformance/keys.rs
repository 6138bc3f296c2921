//! Different keys are different, however alike they look.

use futures_util::future::try_join_all;
use peercache_api::{Key, MAX_KEY_BYTES};

use super::context::{Context, Verdict};

/// Keys that are written or read at once.
const AT_ONCE: usize = 8;

/// Writes a value of its own under each key, then reads them all back.
async fn keep_apart(cx: &Context, keys: &[Key]) -> Verdict {
    cx.needs_writes()?;
    // A few at once: one after the other, a slow store would need minutes.
    let numbered: Vec<_> = keys.iter().enumerate().collect();
    let mut written = Vec::with_capacity(keys.len());
    for few in numbered.chunks(AT_ONCE) {
        written.extend(
            try_join_all(few.iter().map(|(index, key)| async move {
                cx.expect_none(key, &format!("key {index} before it is written")).await?;
                let entry = cx.entry(format!("value of key {index}"))?;
                cx.put(key, &entry).await?;
                Ok((*index, *key, entry))
            }))
            .await?,
        );
    }
    for few in written.chunks(AT_ONCE) {
        try_join_all(few.iter().map(|(index, key, entry)| async move {
            cx.expect_entry(key, entry, &format!("key {index} of {}", keys.len())).await
        }))
        .await?;
    }
    Ok(())
}

pub(super) async fn similar_keys_do_not_mix(cx: &Context) -> Verdict {
    let names = [
        "a", "A", "a ", " a", "a.", "a/", "a//", "a\\", "a\0", "a\n", "a\r\n", "a:b", "a_b", "a/b", "a%2Fb",
        "a=1", "../a", "./a", "a/../a", "con", "CON", "*", "?", "a*", "é", "e\u{301}", "ß", "ss", "İ", "i",
        "ﬁ", "fi", "日本", "🦀", "a#b", "a?b", "a&b", "a+b", "a%20b", "a b", "0", "00", "-1", "~a", "'",
        "\"", "a;b", "a'--",
    ];
    let keys = names.iter().map(|name| cx.key(name)).collect::<Verdict<Vec<_>>>()?;
    keep_apart(cx, &keys).await
}

pub(super) async fn longest_keys_do_not_mix(cx: &Context) -> Verdict {
    let keys = [
        cx.key_of_length(MAX_KEY_BYTES, "a")?,
        cx.key_of_length(MAX_KEY_BYTES, "b")?,
        cx.key_of_length(MAX_KEY_BYTES, "B")?,
        cx.key_of_length(MAX_KEY_BYTES - 1, "a")?,
        cx.key_of_length(MAX_KEY_BYTES, "é")?,
        cx.key_of_length(255, "a")?,
        cx.key_of_length(256, "a")?,
    ];
    keep_apart(cx, &keys).await
}

pub(super) async fn many_keys_do_not_mix(cx: &Context) -> Verdict {
    let keys = (0..200).map(|n| cx.key(&format!("n/{n}"))).collect::<Verdict<Vec<_>>>()?;
    keep_apart(cx, &keys).await
}
