//! What is said about secrets that are no good: never the secret.

use insta::assert_snapshot;
use peercache::ConfigError;
use peercache::config::ConfigBuilder;
use peercache::seal::Secret;

use crate::read;

/// What opening says about this secret, which it must not repeat.
async fn complaint(vars: &[(&str, &str)]) -> String {
    let error: ConfigError = match read(vars) {
        Err(error) => error,
        Ok(config) => config.open().await.unwrap_err(),
    };
    for shown in [error.to_string(), format!("{error:?}")] {
        for (name, value) in vars.iter().filter(|(name, _)| name.contains("SECRET")) {
            assert!(!shown.contains(value.trim()), "{name}: {shown}");
        }
    }
    let text = error.to_string();
    assert_eq!(text.lines().count(), 1, "{text}");
    text
}

#[tokio::test]
async fn bad_secrets() {
    let token = format!("ghs_{}", "q7".repeat(18));
    assert_snapshot!(complaint(&[("CACHE_SECRET", &token)]).await, @"CACHE_SECRET: the secret is the GitHub token of a job (ghs_…): each job has another one, so no two runners could read each other's entries; make one secret with `peercache keygen`, store it as a secret of the repository or organisation, and pass it to every job as CACHE_SECRET");
    assert_snapshot!(complaint(&[("CACHE_SECRET", "hush-hush")]).await, @"CACHE_SECRET: a passphrase has at least 12 characters, this one is shorter; make a secret with `peercache keygen`");
    assert_snapshot!(complaint(&[("CACHE_P2P_SHARED_SECRET", "hunter2")]).await, @"CACHE_P2P_SHARED_SECRET: a passphrase has at least 12 characters, this one is shorter; make a secret with `peercache keygen`");
    assert_snapshot!(complaint(&[("CACHE_SECRET", "pc-secret-1-KioqKioq")]).await, @"CACHE_SECRET: the secret is damaged: a character is missing, too many or wrong; copy it again, whole and on one line, as `peercache keygen` printed it");
    assert_snapshot!(complaint(&[("CACHE_SECRET", "pc-secret-9-KioqKioq")]).await, @"CACHE_SECRET: the secret has a form that this build does not know; copy it again as `peercache keygen` printed it, or update peercache");
    let backend = ("CACHE_BACKEND", "memory");
    assert!(complaint(&[backend, ("CACHE_SECRET", "q7Zx")]).await.starts_with("CACHE_SECRET: "));
}

#[tokio::test]
async fn bad_former_secrets() {
    let secret = Secret::generate().unwrap().to_text();
    let current = ("CACHE_SECRET", secret.as_str());
    assert_snapshot!(complaint(&[("CACHE_SECRET_OLD", "the-hidden-secret")]).await, @"CACHE_SECRET_OLD: there are former secrets, and no secret to write with; give that one as CACHE_SECRET");
    assert_snapshot!(complaint(&[current, ("CACHE_SECRET_OLD", "too-short,x")]).await, @"CACHE_SECRET_OLD: a passphrase has at least 12 characters, this one is shorter; make a secret with `peercache keygen`");
    assert_snapshot!(complaint(&[current, ("CACHE_SECRET_OLD", "a1,b2,c3,d4,e5")]).await, @"CACHE_SECRET_OLD: there are 5 former secrets, the most is 4; leave out the oldest: entries live for 30 days at most");
    assert_snapshot!(complaint(&[current, ("CACHE_SECRET_OLD", "pc-secret-1-Kio,,")]).await, @"CACHE_SECRET_OLD: the secret is damaged: a character is missing, too many or wrong; copy it again, whole and on one line, as `peercache keygen` printed it");
}

#[test]
fn in_a_file_even_a_mistake_keeps_it() {
    let complaint = |toml: &str| {
        let config = ConfigBuilder::new("peercache").file_text("f.toml", toml).read_vars(|_| None);
        let error = config.and_then(|config| config.settings()).unwrap_err();
        let text = error.to_string();
        assert!(!format!("{text} {error:?}").contains("KioqKioq"), "{text}");
        text
    };
    assert_snapshot!(complaint("secret = 'KioqKioq'"), @"f.toml:1: secret: a passphrase has at least 12 characters, this one is shorter; make a secret with `peercache keygen`");
    assert_snapshot!(complaint("secret = ['KioqKioqKioqKioqKioq']"), @"f.toml:1: secret: this is a list; give the secret as text, as `peercache keygen` prints it");
    assert_snapshot!(complaint("secret = 123456789012345"), @"f.toml:1: secret: this is a number; give the secret as text, as `peercache keygen` prints it");
    assert_snapshot!(complaint("secret_old = { x = 'KioqKioqKioqKioqKioq' }"), @"f.toml:1: secret_old: this is a table; give the former secrets as a list of texts, or one text with commas");
    assert_snapshot!(complaint("secrets = 'KioqKioqKioqKioqKioq'"), @"f.toml:1: there is no setting `secrets`; did you mean `secret`? `peercache config` lists every key");
    assert_snapshot!(complaint("secret = KioqKioqKioqKioqKioq"), @"f.toml:1: this is not TOML: string values must be quoted, expected literal string; write one `key = value` on each line");
    assert_snapshot!(complaint("secret = 'KioqKioqKioqKioqKioq"), @"f.toml:1: this is not TOML: invalid literal string, expected `'`; write one `key = value` on each line");
    assert_snapshot!(complaint("pc-secret-1-KioqKioqKioqKioqKioqKioqKioqKioqKioqKioqKioqKirrM9Ug"), @"f.toml:1: this is not TOML: key with no value, expected `=`; write one `key = value` on each line");
    assert_snapshot!(complaint("pc-secret-1-KioqKioqKioqKioqKioqKioqKioqKioqKioqKioqKioqKirrM9Ug = 1"), @"f.toml:1: this key is no setting; `peercache config` lists every key");
}
