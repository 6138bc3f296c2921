//! Shell completions.

use crate::support::{peercache, run};

#[test]
fn every_shell_gets_completions_that_know_the_commands() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let output = run(peercache(&["completions", shell]), b"");
        assert!(output.status.success(), "{shell}");
        let text = String::from_utf8(output.stdout).unwrap();
        for word in ["serve", "invalidate", "peercache"] {
            assert!(text.contains(word), "{shell} completions lack {word}");
        }
    }
}
