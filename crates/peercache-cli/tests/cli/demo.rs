//! The demo keeps its promise.

use crate::support::{corpus, peercache, run, stderr};

#[test]
fn the_demo_saves_at_least_80_percent_of_the_charged_calls() {
    let scratch = tempfile::tempdir().unwrap();
    let corpus = corpus(scratch.path());
    let output = run(peercache(&["--json", "demo", "--corpus", corpus.to_str().unwrap()]), b"");
    assert!(output.status.success(), "{}", stderr(&output));
    let results: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(results["jobs"], 20);
    assert_eq!(results["differing_answers"], 0);
    assert_eq!((&results["runners"], &results["connected_runners"]), (&20.into(), &20.into()), "{results}");
    // Each runner starts empty, so what it did not ask the origin for it has from others.
    assert!(results["peer_hits"].as_u64().unwrap() > 100, "{results}");
    assert!(results["charged_saved"].as_f64().unwrap() >= 0.8, "{results}");
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
