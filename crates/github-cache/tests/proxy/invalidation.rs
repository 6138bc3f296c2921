//! Invalidation from outside: webhooks, and by hand.

use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use peercache_fakehub::EtagMode;
use sha2::Sha256;

use crate::github::{A, B, C, D, GitHub};
use crate::support::{Got, HIT, REVALIDATED, STORED};

const SECRET: &str = "a-secret-of-the-webhook";

async fn github() -> GitHub {
    let proxy = |proxy: peercache_github::GitHubCacheBuilder| proxy.share_public(true).webhook_secret(SECRET);
    GitHub::with(EtagMode::Observed, |hub| hub, proxy, false).await
}

async fn deliver(github: &GitHub, id: &str, kind: &str, body: &str, secret: &str) -> Got {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(body.as_bytes());
    let digest = mac.finalize().into_bytes();
    let signature: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let signature = format!("sha256={signature}");
    let headers =
        [("x-hub-signature-256", signature.as_str()), ("x-github-delivery", id), ("x-github-event", kind)];
    github.rig.send("POST", "/-/webhook", &headers, body).await
}

fn event(github: &GitHub) -> String {
    format!(
        "{{\"action\":\"opened\",\"repository\":{{\"id\":{},\"full_name\":\"{}\"}}}}",
        github.id, github.name
    )
}

#[tokio::test]
async fn signed_event_makes_every_token_ask_again_and_an_unsigned_one_does_nothing() {
    let github = github().await;
    let path = github.path("/issues/1");
    for token in [A, C] {
        assert_eq!(github.get(token, &path).await.status, 200);
        github.get(token, &path).await.expect(200, HIT);
    }
    github.rig.pass(1);
    let forged = deliver(&github, "1", "issues", &event(&github), "another secret").await;
    assert_eq!((forged.status.as_u16(), forged.cache_status()), (401, "peercache; detail=signature"));
    assert!(github.get(A, &path).await.cache_status().contains("; hit;"));
    github.hub.touch(&path).unwrap();
    let delivered = deliver(&github, "1", "issues", &event(&github), SECRET).await;
    assert_eq!(delivered.status, 204, "{delivered:?}");
    let after = github.get(A, &path).await;
    after.expect(200, "peercache; fwd=stale; fwd-status=200; stored");
    assert_eq!(github.get(C, &path).await.body, after.body);
    // Delivered once more, it is the same event.
    let before = github.rig.stats().invalidations;
    assert_eq!(deliver(&github, "1", "issues", &event(&github), SECRET).await.status, 200);
    assert_eq!(github.rig.stats().invalidations, before);
}

#[tokio::test]
async fn event_counts_once_more_when_its_change_may_be_visible() {
    let github = github().await;
    let path = github.path("/issues/1");
    github.get(A, &path).await.expect(200, STORED);
    assert_eq!(deliver(&github, "1", "issues", &event(&github), SECRET).await.status, 204);
    // The event came before the change could be read.
    github.rig.pass(1);
    github.get(A, &path).await.expect(200, REVALIDATED);
    github.hub.touch(&path).unwrap();
    github.rig.pass(1);
    assert!(github.get(A, &path).await.cache_status().contains("; hit;"));
    let noted = github.rig.stats().invalidations;
    while github.rig.stats().invalidations == noted {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    github.get(A, &path).await.expect(200, "peercache; fwd=stale; fwd-status=200; stored");
}

#[tokio::test]
async fn event_about_rights_counts_once_more_behind_another_event() {
    let github = github().await;
    let repeated = Duration::from_secs(5);
    for (id, kind) in [("1", "issues"), ("2", "issues"), ("3", "repository")] {
        assert_eq!(deliver(&github, id, kind, &event(&github), SECRET).await.status, 204);
    }
    let noted = github.rig.stats().invalidations;
    let all = async {
        while github.rig.stats().invalidations < noted + 2 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    assert!(tokio::time::timeout(repeated * 4, all).await.is_ok(), "only one of two kinds is repeated");
    tokio::time::sleep(repeated / 5).await;
    assert_eq!(github.rig.stats().invalidations, noted + 2, "events of one kind are repeated together");
}

#[tokio::test]
async fn event_about_rights_ends_the_proof_that_a_repository_is_public() {
    let github = github().await;
    github.introduce(&[A, B, C, D]).await;
    let path = github.tree.clone();
    github.get(A, &path).await;
    github.prove().await;
    assert!(github.get(C, &path).await.cache_status().ends_with("detail=public"));
    github.hub.set_private(&github.name, true).unwrap();
    github.rig.pass(1);
    assert_eq!(deliver(&github, "1", "repository", &event(&github), SECRET).await.status, 204);
    assert_eq!(github.get(D, &path).await.status, 404);
}

#[tokio::test]
async fn webhook_without_a_secret_is_refused_and_so_is_what_is_no_event() {
    let github = GitHub::start(false).await;
    assert_eq!(deliver(&github, "1", "push", "{}", SECRET).await.status, 404);
    let github = self::github().await;
    assert_eq!(deliver(&github, "1", "push", "payload=%7B", SECRET).await.status, 400);
    assert_eq!(deliver(&github, "2", "ping", "{\"zen\":\"x\"}", SECRET).await.status, 204);
    assert_eq!(github.rig.send("GET", "/-/webhook", &[], "").await.status, 405);
}

#[tokio::test]
async fn repository_is_invalidated_by_hand_from_this_machine_only() {
    let github = GitHub::start(false).await;
    let path = github.path("/issues/1");
    github.get(A, &path).await.expect(200, STORED);
    let target = format!("/-/invalidate?repository={}", github.name.to_ascii_uppercase());
    let page = github.rig.send("POST", &target, &[("origin", "https://evil.example")], "").await;
    assert_eq!(page.status, 403);
    github.get(A, &path).await.expect(200, HIT);
    assert_eq!(github.rig.send("POST", &target, &[], "").await.status, 204);
    github.get(A, &path).await.expect(200, REVALIDATED);
    for wrong in ["", "?repository=", "?repository=o", "?repository=o/..", "?x=o/r"] {
        let target = format!("/-/invalidate{wrong}");
        assert_eq!(github.rig.send("POST", &target, &[], "").await.status, 400, "{wrong}");
    }
    assert_eq!(github.rig.send("GET", &target, &[], "").await.status, 405);
    assert!(!github.rig.proxy.invalidate_repository("no name").await);
}
