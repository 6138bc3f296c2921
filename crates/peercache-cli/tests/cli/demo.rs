//! The demo keeps its promise.

use crate::support::{corpus, peercache, run, stderr};

#[test]
fn demo_saves_more_than_a_cache_per_token_and_leaks_nothing() {
    let scratch = tempfile::tempdir().unwrap();
    let corpus = corpus(scratch.path());
    let output =
        run(peercache(&["--json", "demo", "--seconds", "20", "--corpus", corpus.to_str().unwrap()]), b"");
    assert!(output.status.success(), "{}", stderr(&output));
    let results: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(results["jobs"], 20);
    // A runner for each job, and one for the poller.
    assert_eq!((&results["runners"], &results["connected_runners"]), (&21.into(), &21.into()), "{results}");
    for side in ["without", "per_token", "with"] {
        let side = &results[side];
        assert_eq!((&side["leaks"], &side["wrong"]), (&0.into(), &0.into()), "{results}");
        assert_eq!(side["requests"], results["without"]["requests"], "{results}");
    }
    let share = |side: &str, what: &str| results[side][what].as_f64().unwrap();
    // Calls that are confirmed by a 304 are sent and not charged; public answers are shared without
    // asking only where that is set for an origin that is not github.com.
    assert!(share("with", "charged_saved") > 2.0 * share("per_token", "charged_saved"), "{results}");
    assert!(results["with"]["charged"].as_u64().unwrap() > 0, "somebody has to ask first: {results}");
    assert_eq!(results["without"]["calls"], results["without"]["requests"]);
}

#[test]
fn a_corpus_that_is_not_one_is_a_clear_error() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "{\"method\": \"GET\"}\n").unwrap();
    let output = run(peercache(&["demo", "--corpus", file.path().to_str().unwrap()]), b"");
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert!(stderr(&output).contains("line 1"), "{}", stderr(&output));
}
