//! The class of an entry decides which backends may store it.

use std::time::Duration;

use peercache_api::{Class, Entry, ErrorKind};

use super::context::{Context, Verdict, built, expect};

fn of_class(cx: &Context, value: &'static str, class: Class) -> Verdict<Entry> {
    let entry = Entry::builder(value, cx.version(), cx.now()).fresh_for(Duration::from_secs(600));
    built(entry.class(class).build())
}

pub(super) async fn private_entries_are_stored_only_where_they_may_be(cx: &Context) -> Verdict {
    cx.needs_writes()?;
    let key = cx.key("private")?;
    let private = of_class(cx, "for some", Class::Private)?;
    if cx.capabilities().private_entries {
        cx.put(&key, &private).await?;
        return cx.expect_entry(&key, &private, "a private entry").await;
    }
    refused(cx, &cx.key("absent")?, private).await?;
    cx.expect_none(&cx.key("absent")?, "after a private entry was refused").await?;
    // A value that became private leaves nothing behind, and does not come back.
    let public = of_class(cx, "for all", Class::Public)?;
    cx.put(&key, &public).await?;
    cx.expect_entry(&key, &public, "a public entry").await?;
    refused(cx, &key, of_class(cx, "for some", Class::Private)?).await?;
    cx.expect_none(&key, "after a newer private entry was refused").await
}

pub(super) async fn older_private_entry_leaves_a_public_one_alone(cx: &Context) -> Verdict {
    cx.needs_ordered_writes()?;
    let key = cx.key("k")?;
    let older = of_class(cx, "for some", Class::Private)?;
    let public = of_class(cx, "for all", Class::Public)?;
    cx.put(&key, &public).await?;
    if cx.capabilities().private_entries {
        cx.put(&key, &older).await?;
    } else {
        refused(cx, &key, older).await?;
    }
    cx.expect_entry(&key, &public, "after an older private entry").await
}

pub(super) async fn removal_is_taken_whatever_the_class(cx: &Context) -> Verdict {
    cx.needs_writes()?;
    let key = cx.key("removed")?;
    cx.put(&key, &of_class(cx, "for all", Class::Public)?).await?;
    cx.put(&key, &Entry::tombstone(cx.version(), cx.now())).await?;
    let found = cx.get(&key).await?;
    expect(found.as_ref().is_none_or(Entry::is_tombstone), || {
        format!("after a removal: expected a tombstone or nothing, found {found:?}")
    })
}

async fn refused(cx: &Context, key: &peercache_api::Key, entry: Entry) -> Verdict {
    let answer = cx.backend.put(key, entry).await;
    expect(answer.as_ref().is_err_and(|error| error.kind() == ErrorKind::Denied), || {
        format!("a private entry should be refused with kind `denied`, but put said {answer:?}")
    })
}
