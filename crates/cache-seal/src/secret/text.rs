//! The text forms of a secret, and what is refused with a reason.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::VerifyingKey;
use peercache_api::{Error, ErrorKind, Operation};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::passphrase::stretch;
use super::{Bytes32, Half, Secret};

/// The fewest characters of a passphrase.
pub const MIN_PASSPHRASE_CHARS: usize = 12;
/// The longest text that is looked at, in bytes.
const MAX_TEXT_BYTES: usize = 4096;
/// How many characters of a passphrase its strength is estimated from.
const MAX_ESTIMATED_CHARS: usize = 64;

const FULL: &str = "pc-secret-1-";
const READ_ONLY: &str = "pc-readonly-1-";
const PUBLIC: &str = "pc-public-1-";
const FORMS: &str = "pc-secret-1-…, pc-readonly-1-…, pc-public-1-…";
const CHECKSUM_BYTES: usize = 4;

impl Secret {
    /// The secret in `text`; white space around it does not count. Four forms are accepted:
    ///
    /// - `pc-secret-1-…`, a full secret as [`Secret::to_text`] writes it. Carries a checksum, so a
    ///   character that was lost in copying is noticed here and not as a cache that never hits.
    /// - `pc-readonly-1-…`, a read-only secret.
    /// - `pc-public-1-…`, a public one.
    /// - anything else of at least [`MIN_PASSPHRASE_CHARS`] characters is a passphrase. It goes
    ///   through Argon2id with 64 MiB and 3 passes (RFC 9106, section 4, second recommended
    ///   option), which takes a fraction of a second: do it once, and not on a thread that must not
    ///   wait. The salt is a constant, because all runners must come to the same keys from the text
    ///   alone; one table of guesses therefore serves against every fleet, and a generated secret
    ///   is better. A long-lived GitHub token (`ghp_…`, `github_pat_…`, `gho_…`) is taken as a
    ///   passphrase.
    ///
    /// # Errors
    /// [`ErrorKind::Config`], which never repeats the text: it is empty, a passphrase that is too
    /// weak, a placeholder that nobody filled in, in quotes, damaged, or a GitHub token that
    /// expires. The token of an Actions job (`ghs_…`) is another one in every job, so no two
    /// runners could read each other.
    pub fn parse(text: &str) -> Result<Self, Error> {
        parse(text)
    }

    /// The text that [`Secret::parse`] takes. Whoever sees it has the secret.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        write(self)
    }
}

fn write(secret: &Secret) -> Zeroizing<String> {
    match &secret.keys {
        Half::Full { root, .. } => armour(FULL, &**root),
        Half::ReadOnly { reading } => armour(READ_ONLY, &*both(reading, &secret.verifying)),
        Half::Public => armour(PUBLIC, &*both(&secret.public, &secret.verifying)),
    }
}

fn parse(text: &str) -> Result<Secret, Error> {
    let text = text.trim();
    if text.is_empty() {
        return Err(refused("the secret is empty").with_help(KEYGEN));
    }
    if text.len() > MAX_TEXT_BYTES {
        return Err(refused("the secret is longer than 4096 bytes").with_help(KEYGEN));
    }
    if let Some(rest) = text.strip_prefix(FULL) {
        return Ok(Secret::from_root(disarm(FULL, rest)?));
    }
    if let Some(rest) = text.strip_prefix(READ_ONLY) {
        let (reading, verifying) = halves(READ_ONLY, rest)?;
        return Ok(Secret::from_reading(reading, verifying));
    }
    if let Some(rest) = text.strip_prefix(PUBLIC) {
        let (public, verifying) = halves(PUBLIC, rest)?;
        return Ok(Secret::from_public(public, verifying));
    }
    if ["pc-secret-", "pc-readonly-", "pc-public-"].iter().any(|prefix| has_prefix(text, prefix)) {
        return Err(refused("the secret has a form that this build does not know")
            .with_context("known", FORMS)
            .with_help("copy it again as `peercache keygen` printed it, or update peercache"));
    }
    refuse_what_is_no_passphrase(text)?;
    Ok(Secret::from_root(stretch(text)?))
}

fn refuse_what_is_no_passphrase(text: &str) -> Result<(), Error> {
    if contains_token(text, "ghs_") {
        return Err(refused(
            "the secret is the GitHub token of a job (ghs_…): each job has another one, so no two runners \
             could read each other's entries",
        )
        .with_help(
            "make one secret with `peercache keygen`, store it as a secret of the repository or \
             organisation, and pass it to every job as CACHE_SECRET",
        ));
    }
    if contains_token(text, "ghu_") || contains_token(text, "ghr_") {
        return Err(refused(
            "the secret is a GitHub token that expires (ghu_… or ghr_…): its successor could not read what \
             was stored",
        )
        .with_help(KEYGEN));
    }
    if contains_token(text, "pc-secret")
        || contains_token(text, "pc-readonly")
        || contains_token(text, "pc-public")
    {
        return Err(refused("the secret has something before or around it, quotes for instance")
            .with_context("accepted", FORMS)
            .with_help(
                "set the value without quotes and without its name; `docker --env-file` passes quotes on",
            ));
    }
    if text.starts_with(['"', '\'', '`']) {
        return Err(refused("the secret begins with a quote, which would be part of it")
            .with_help("set the value without quotes; `docker --env-file` passes them on as they are"));
    }
    if text.starts_with('$') {
        return Err(refused("the secret is a placeholder that nothing has filled in").with_help(
            "check the spelling where it is set; in a workflow, ${{ secrets.CACHE_SECRET }} works under `env` and `with`",
        ));
    }
    if text.contains("***") {
        return Err(refused("the secret is masked: a log or a settings page shows it as asterisks")
            .with_help("copy it from where it was made, or make a new one with `peercache keygen`"));
    }
    refuse_weak(text)
}

/// The fewest guesses, as a power of ten, that an estimate of the passphrase's strength has to come
/// to. Each guess costs an attacker 64 MiB and a fraction of a second, and one table of guesses
/// serves against every fleet.
pub const MIN_PASSPHRASE_GUESSES_LOG10: f64 = 12.0;

fn refuse_weak(text: &str) -> Result<(), Error> {
    if text.chars().count() < MIN_PASSPHRASE_CHARS {
        return Err(refused(format!(
            "a passphrase has at least {MIN_PASSPHRASE_CHARS} characters, this one is shorter"
        ))
        .with_help(KEYGEN));
    }
    // The estimate takes time that grows with the square of the length, and looks at the start
    // alone.
    let start: Zeroizing<String> = Zeroizing::new(text.chars().take(MAX_ESTIMATED_CHARS).collect());
    let strength = zxcvbn::zxcvbn(&start, &["peercache", "cache", "github", "secret"]);
    if strength.guesses_log10() < MIN_PASSPHRASE_GUESSES_LOG10 {
        return Err(refused("the passphrase is too easy to guess").with_help(
            "make a secret with `peercache keygen`; if it must be a passphrase, take six random words",
        ));
    }
    Ok(())
}

const KEYGEN: &str = "make a secret with `peercache keygen`";

fn refused(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::Config, Operation::Configure, message)
}

/// Whether a word of `text` starts like such a token, also behind `Bearer ` or `x-access-token:`.
fn contains_token(text: &str, prefix: &str) -> bool {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '-'))
        .any(|word| has_prefix(word, prefix))
}

fn has_prefix(text: &str, prefix: &str) -> bool {
    text.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

fn both(reading: &Bytes32, verifying: &VerifyingKey) -> Zeroizing<[u8; 64]> {
    let mut halves = Zeroizing::new([0; 64]);
    halves[..32].copy_from_slice(&**reading);
    halves[32..].copy_from_slice(verifying.as_bytes());
    halves
}

/// The key and the verifying key in the text of a form that cannot write.
fn halves(prefix: &'static str, text: &str) -> Result<(Bytes32, VerifyingKey), Error> {
    let halves: Zeroizing<[u8; 64]> = disarm(prefix, text)?;
    let (mut key, mut verifying) = (Bytes32::default(), [0; 32]);
    key.copy_from_slice(&halves[..32]);
    verifying.copy_from_slice(&halves[32..]);
    match VerifyingKey::from_bytes(&verifying) {
        Ok(verifying) if !verifying.is_weak() => Ok((key, verifying)),
        _ => Err(damaged(prefix)),
    }
}

/// Prefix, then base64url of the bytes and a checksum.
fn armour(prefix: &'static str, bytes: &[u8]) -> Zeroizing<String> {
    let payload = Zeroizing::new([bytes, &checksum(prefix, bytes)].concat());
    let mut text = Zeroizing::new(String::with_capacity(prefix.len() + payload.len() * 4 / 3 + 4));
    text.push_str(prefix);
    URL_SAFE_NO_PAD.encode_string(&*payload, &mut text);
    text
}

fn disarm<const N: usize>(prefix: &'static str, text: &str) -> Result<Zeroizing<[u8; N]>, Error> {
    let payload = Zeroizing::new(URL_SAFE_NO_PAD.decode(text).unwrap_or_default());
    if payload.len() != N + CHECKSUM_BYTES || payload[N..] != checksum(prefix, &payload[..N]) {
        return Err(damaged(prefix));
    }
    let mut bytes = Zeroizing::new([0; N]);
    bytes.copy_from_slice(&payload[..N]);
    Ok(bytes)
}

fn damaged(prefix: &'static str) -> Error {
    refused("the secret is damaged: a character is missing, too many or wrong")
        .with_context("form", format!("{prefix}…"))
        .with_help("copy it again, whole and on one line, as `peercache keygen` printed it")
}

/// Finds typing errors. Four bytes of a hash of 32 random ones help nobody to guess the rest.
fn checksum(prefix: &str, bytes: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let digest =
        Sha256::new().chain_update(b"peercache secret checksum").chain_update(prefix).chain_update(bytes);
    let mut checksum = [0; CHECKSUM_BYTES];
    checksum.copy_from_slice(&digest.finalize()[..CHECKSUM_BYTES]);
    checksum
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn complaint(text: &str) -> String {
        let error = Secret::parse(text).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        error.to_string()
    }

    #[test]
    fn a_jobs_own_token_is_refused_with_the_reason() {
        let token = format!("ghs_{}", "q7".repeat(18));
        insta::assert_snapshot!(complaint(&token), @"configure failed (configuration): the secret is the GitHub token of a job (ghs_…): each job has another one, so no two runners could read each other's entries; make one secret with `peercache keygen`, store it as a secret of the repository or organisation, and pass it to every job as CACHE_SECRET");
        for text in [
            format!("  {token}\n"),
            format!("\t{token}"),
            format!("Bearer {token}"),
            format!("token {token}"),
            format!("x-access-token:{token}"),
            format!("\"{token}\""),
            token.to_uppercase(),
            "ghs_".to_owned(),
        ] {
            assert_eq!(complaint(&text), complaint(&token), "{text}");
        }
        assert!(!contains_token("the lochs_and_ghosts of", "ghs_"));
    }

    #[test]
    fn every_refusal_says_what_to_do() {
        insta::assert_snapshot!(complaint(" \n"), @"configure failed (configuration): the secret is empty; make a secret with `peercache keygen`");
        insta::assert_snapshot!(complaint("hunter2"), @"configure failed (configuration): a passphrase has at least 12 characters, this one is shorter; make a secret with `peercache keygen`");
        insta::assert_snapshot!(complaint(&format!("ghu_{}", "a".repeat(36))), @"configure failed (configuration): the secret is a GitHub token that expires (ghu_… or ghr_…): its successor could not read what was stored; make a secret with `peercache keygen`");
        insta::assert_snapshot!(complaint("${{ secrets.CACHE_SECRET }}"), @"configure failed (configuration): the secret is a placeholder that nothing has filled in; check the spelling where it is set; in a workflow, ${{ secrets.CACHE_SECRET }} works under `env` and `with`");
        insta::assert_snapshot!(complaint("pc-secret-1-AAAA"), @"configure failed (configuration): the secret is damaged: a character is missing, too many or wrong [form=pc-secret-1-…]; copy it again, whole and on one line, as `peercache keygen` printed it");
        insta::assert_snapshot!(complaint("pc-readonly-1-AAAA"), @"configure failed (configuration): the secret is damaged: a character is missing, too many or wrong [form=pc-readonly-1-…]; copy it again, whole and on one line, as `peercache keygen` printed it");
        insta::assert_snapshot!(complaint("PC-SECRET-1-AAAA"), @"configure failed (configuration): the secret has a form that this build does not know [known=pc-secret-1-…, pc-readonly-1-…, pc-public-1-…]; copy it again as `peercache keygen` printed it, or update peercache");
        insta::assert_snapshot!(complaint("pc-secret-2-AAAA"), @"configure failed (configuration): the secret has a form that this build does not know [known=pc-secret-1-…, pc-readonly-1-…, pc-public-1-…]; copy it again as `peercache keygen` printed it, or update peercache");
        insta::assert_snapshot!(complaint(&"x".repeat(4097)), @"configure failed (configuration): the secret is longer than 4096 bytes; make a secret with `peercache keygen`");
    }

    /// Not through `parse`: Argon2id takes its time, and its own test does.
    #[test]
    fn what_lasts_is_taken_as_a_passphrase() {
        let tokens = ["ghp_", "gho_", "github_pat_"]
            .map(|prefix| format!("{prefix}7vQ2mZk9TfLw3xRb8NyC1sHd5GjP4aUe6KoW"));
        for text in tokens.iter().map(String::as_str).chain([
            "zwölf Gläser Bier",
            "pc-but-no-secret-q7",
            "a$(b)c${d}efgh",
            "correct horse battery staple",
        ]) {
            assert!(refuse_what_is_no_passphrase(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn a_passphrase_that_is_easily_guessed_is_refused() {
        for text in ["password1234", "aaaaaaaaaaaa", "qwertyuiop123", "peercachesecret", "abcabcabcabcabc"] {
            assert!(complaint(text).contains("too easy to guess"), "{text}");
        }
    }

    #[test]
    fn quotes_placeholders_and_masks_are_refused_by_name() {
        let secret = Secret::from_root(Bytes32::new([7; 32])).to_text();
        for text in
            [format!("\"{}\"", *secret), format!("'{}'", *secret), format!("CACHE_SECRET={}", *secret)]
        {
            let complaint = complaint(&text);
            assert!(complaint.contains("before or around it") && !complaint.contains(&secret[12..]));
        }
        assert!(complaint("\"correct horse battery staple\"").contains("begins with a quote"));
        assert!(complaint("$CACHE_SECRET_OF_CI").contains("placeholder"));
        assert!(complaint("****************").contains("masked"));
    }

    #[test]
    fn length_counts_characters_not_bytes() {
        assert!(complaint("größerwürde").contains("at least 12"), "eleven characters in thirteen bytes");
    }

    #[test]
    fn every_changed_or_lost_character_is_noticed() {
        let secret = Secret::from_root(Bytes32::new([0x5a; 32]));
        for text in [secret.to_text(), secret.read_only().to_text(), secret.public().to_text()] {
            let body = text.find("-1-").unwrap() + 3;
            for at in body..text.len() {
                let mut changed = text.to_string().into_bytes();
                changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
                let changed = String::from_utf8(changed).unwrap();
                assert!(Secret::parse(&changed).is_err(), "changed at {at}");
                let lost = format!("{}{}", &text[..at], &text[at + 1..]);
                assert!(Secret::parse(&lost).is_err(), "lost at {at}");
            }
            assert!(Secret::parse(&format!("{}A", *text)).is_err());
            assert!(Secret::parse(&format!("{}=", *text)).is_err());
        }
    }

    #[test]
    fn a_read_only_text_with_a_weak_key_is_refused() {
        // The identity point verifies signatures that anybody can make.
        let mut halves = [0; 64];
        halves[32] = 1;
        assert!(Secret::parse(&armour(READ_ONLY, &halves)).is_err());
        assert!(Secret::parse(&armour(PUBLIC, &halves)).is_err());
    }

    proptest! {
        // Deriving a key pair is slow without optimisation.
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn texts_round_trip_and_complaints_never_repeat_them(root in any::<[u8; 32]>(), cut in 1_usize..40) {
            let secret = Secret::from_root(Bytes32::new(root));
            for text in [secret.to_text(), secret.read_only().to_text(), secret.public().to_text()] {
                prop_assert_eq!(&*Secret::parse(&text).unwrap().to_text(), &*text);
                let short = &text[..text.len() - cut];
                let shown = format!("{:?}", Secret::parse(short).unwrap_err());
                prop_assert!(!shown.contains(&short[short.len() - 6..]));
            }
        }
    }
}
