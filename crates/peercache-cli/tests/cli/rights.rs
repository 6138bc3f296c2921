//! What each form of the secret can do, with the command and over a running anchor: the table in
//! `docs/design/sealing.md`.

use crate::machine::{Machine, NOWHERE, json, text};
use crate::support::{peercache, run, stderr};

const NONE: &str = "none";

/// The weaker forms of the fleet's secret.
fn forms(full: &str) -> [(&'static str, String); 4] {
    let derived = |form: &str| {
        let mut command = peercache(&["keygen", form]);
        command.env("CACHE_SECRET", full);
        text(run(command, b"")).trim_end().to_owned()
    };
    [
        (NONE, String::new()),
        ("public", derived("--public")),
        ("read-only", derived("--read-only")),
        ("full", full.to_owned()),
    ]
}

#[test]
fn each_form_of_the_secret_can_do_in_commands_what_the_table_says() {
    let anchor = Machine::anchor();
    let _server = anchor.serve(NOWHERE);
    let full = || Machine::leaf(&anchor);
    let put = full().run(&["put", "k", "--ttl", "600"], b"of the fleet");
    assert!(put.status.success(), "{}", stderr(&put));
    let name_of_the_anchor = json(&anchor.run(&["--json", "id"], b""))["peer_id"].clone();

    for (form, secret) in forms(anchor.var("CACHE_SECRET")) {
        let mut member = full();
        member.env.push(("CACHE_SECRET".to_owned(), secret));
        if form == NONE {
            // Without this it does not even start.
            let refused = member.run(&["get", "k"], b"");
            assert_eq!(refused.status.code(), Some(2), "{}", stderr(&refused));
            member.env.push(("CACHE_INSECURE_PLAINTEXT".to_owned(), "true".to_owned()));
        }
        let (reads, writes) = (matches!(form, "full" | "read-only"), form == "full");

        let got = member.run(&["get", "k"], b"");
        let expected = if reads { &b"of the fleet"[..] } else { b"" };
        assert_eq!(
            (got.stdout.as_slice(), got.status.success()),
            (expected, reads),
            "{form}: get a private one"
        );

        let put = member.run(&["put", "k", "--ttl", "600"], b"of this form");
        if form != NONE {
            assert_eq!(put.status.success(), writes, "{form}: put: {}", stderr(&put));
        }
        let now = full().run(&["get", "k"], b"").stdout;
        let expected = if writes { &b"of this form"[..] } else { b"of the fleet" };
        assert_eq!(now, expected, "{form}: put");

        member.run(&["invalidate", "k"], b"");
        let gone = full().run(&["get", "k"], b"").status.code() == Some(1);
        assert_eq!(gone, writes, "{form}: invalidate");
        if gone {
            assert!(full().run(&["put", "k", "--ttl", "600"], b"of the fleet").status.success());
        }
        member.run(&["invalidate", "--all"], b"");
        let gone = full().run(&["get", "k"], b"").status.code() == Some(1);
        assert_eq!(gone, writes, "{form}: invalidate everything");

        member.env.push(("CACHE_NODE_NAME".to_owned(), "mcp-server".to_owned()));
        let id = member.run(&["--json", "id"], b"");
        let same = id.status.success() && json(&id)["peer_id"] == name_of_the_anchor;
        assert_eq!(same, writes, "{form}: join under a node's name: {}", stderr(&id));
    }
}
