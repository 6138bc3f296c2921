//! Who may see what: tokens of several kinds, repositories that are private, and how both change.
//!
//! Every change is kept with its time, so that an answer can be judged by what held when it was
//! asked for.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;

use crate::log::lock;
use crate::token::Caller;

/// Tokens and repositories that can be known; one more is refused.
pub const MAX_KNOWN: usize = 65_536;

/// What sort of token a caller has. Bodies differ by it in the `permissions` of repositories.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TokenKind {
    /// `GITHUB_TOKEN`: made for one job, sees the private repository of that job.
    Job,
    /// An installation token of a GitHub App.
    App,
    /// A personal access token.
    Personal,
}

impl TokenKind {
    /// The `permissions` that a repository's body has for this kind of token.
    pub(crate) const fn permissions(self) -> &'static str {
        match self {
            Self::Job => r#"{"admin":false,"maintain":false,"push":false,"triage":false,"pull":false}"#,
            Self::App => r#"{"admin":false,"maintain":false,"push":true,"triage":true,"pull":true}"#,
            Self::Personal => r#"{"admin":true,"maintain":true,"push":true,"triage":true,"pull":true}"#,
        }
    }
}

/// What a caller is to a repository at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct View {
    /// `None`: anonymous.
    pub(crate) kind: Option<TokenKind>,
    /// Whether the repository is private.
    pub(crate) private: bool,
    /// Since when it is that, in milliseconds since the Unix epoch; zero if it never was anything
    /// else.
    pub(crate) since: u64,
}

#[derive(Default)]
struct Token {
    kind: Option<TokenKind>,
    /// `owner/repo` in lower case: the private repositories that it may see.
    repositories: HashSet<String>,
    /// Milliseconds since the Unix epoch.
    revoked_at: Option<u64>,
}

#[derive(Default)]
struct Known {
    tokens: HashMap<String, Token>,
    /// When a repository became private (`true`) or public, in order of time.
    visibility: HashMap<String, Vec<(u64, bool)>>,
    /// Old name to the number of the repository that it is now.
    renamed: HashMap<String, u64>,
    /// Whether bodies and headers are made for the caller.
    live: bool,
}

/// Tokens and repositories.
#[derive(Default)]
pub(crate) struct Access {
    known: Mutex<Known>,
}

impl Access {
    /// Makes a token known. From then on bodies and headers depend on who asks.
    pub(crate) fn add_token(
        &self,
        token: &str,
        kind: TokenKind,
        repositories: impl IntoIterator<Item = String>,
    ) -> Result<(), String> {
        let mut known = lock(&self.known);
        room(known.tokens.len(), known.tokens.contains_key(token), "tokens")?;
        known.live = true;
        let entry = known.tokens.entry(token.to_owned()).or_default();
        entry.kind = Some(kind);
        entry.repositories.extend(repositories.into_iter().map(|name| name.to_ascii_lowercase()));
        Ok(())
    }

    /// Lets a token see a private repository, and changes nothing else.
    pub(crate) fn add_reader(&self, repository: &str, token: String) -> Result<(), String> {
        let mut known = lock(&self.known);
        room(known.tokens.len(), known.tokens.contains_key(&token), "tokens")?;
        known.tokens.entry(token).or_default().repositories.insert(repository.to_owned());
        Ok(())
    }

    /// From `at` on the token is answered `401`.
    pub(crate) fn revoke(&self, token: &str, at: u64) -> Result<(), String> {
        let mut known = lock(&self.known);
        room(known.tokens.len(), known.tokens.contains_key(token), "tokens")?;
        known.tokens.entry(token.to_owned()).or_default().revoked_at.get_or_insert(at);
        Ok(())
    }

    /// From `at` on the repository is private, or public.
    pub(crate) fn set_private(&self, repository: &str, private: bool, at: u64) -> Result<(), String> {
        let mut known = lock(&self.known);
        let name = repository.to_ascii_lowercase();
        room(known.visibility.len(), known.visibility.contains_key(&name), "repositories")?;
        known.visibility.entry(name).or_default().push((at, private));
        Ok(())
    }

    /// `/repos/OLD/...` is answered with a redirect to `/repositories/ID/...`.
    pub(crate) fn rename(&self, old: &str, id: u64) -> Result<(), String> {
        let mut known = lock(&self.known);
        let name = old.to_ascii_lowercase();
        room(known.renamed.len(), known.renamed.contains_key(&name), "renamed repositories")?;
        known.renamed.insert(name, id);
        Ok(())
    }

    /// The number of the repository that once had this name.
    pub(crate) fn renamed(&self, repository: &str) -> Option<u64> {
        lock(&self.known).renamed.get(repository).copied()
    }

    /// Whether bodies and headers are made for the caller.
    pub(crate) fn is_live(&self) -> bool {
        lock(&self.known).live
    }

    pub(crate) fn is_revoked(&self, caller: &Caller, at: u64) -> bool {
        let known = lock(&self.known);
        let token = caller.token().and_then(|token| known.tokens.get(token));
        token.and_then(|token| token.revoked_at).is_some_and(|revoked| revoked <= at)
    }

    /// What the caller sees of a repository at one moment; `None` when it sees nothing.
    pub(crate) fn view(&self, repository: &str, token: Option<&str>, at: u64) -> Option<View> {
        let known = lock(&self.known);
        let history = known.visibility.get(repository);
        let (since, private) = history
            .and_then(|history| history.iter().rev().find(|(since, _)| *since <= at))
            .copied()
            .unwrap_or_default();
        let entry = token.and_then(|token| known.tokens.get(token));
        if entry.and_then(|token| token.revoked_at).is_some_and(|revoked| revoked <= at) {
            return None;
        }
        if private && !entry.is_some_and(|token| token.repositories.contains(repository)) {
            return None;
        }
        let kind = token.map(|_| entry.and_then(|token| token.kind).unwrap_or(TokenKind::Personal));
        Some(View { kind, private, since })
    }

    /// When the visibility of a repository changed; zero is always one of the moments.
    pub(crate) fn visibility_changes(&self, repository: &str) -> Vec<u64> {
        let known = lock(&self.known);
        let changes = known.visibility.get(repository).into_iter().flatten().map(|(at, _)| *at);
        std::iter::once(0).chain(changes).collect()
    }

    /// The moments after `since` and up to `until` at which what a token sees of a repository may
    /// have changed.
    pub(crate) fn changes(&self, repository: &str, token: Option<&str>, since: u64, until: u64) -> Vec<u64> {
        let known = lock(&self.known);
        let visibility = known.visibility.get(repository).into_iter().flatten().map(|(at, _)| *at);
        let revoked = token.and_then(|token| known.tokens.get(token)).and_then(|token| token.revoked_at);
        visibility.chain(revoked).filter(|at| (since + 1..=until).contains(at)).collect()
    }
}

fn room(count: usize, is_known: bool, what: &str) -> Result<(), String> {
    if count >= MAX_KNOWN && !is_known {
        return Err(format!("{MAX_KNOWN} {what} are known, the most that is remembered; restart fakehub"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_token_sees_depends_on_the_moment() {
        let access = Access::default();
        access.add_token("job", TokenKind::Job, ["O/r".to_owned()]).unwrap();
        access.add_token("other", TokenKind::Job, []).unwrap();
        access.set_private("o/r", true, 0).unwrap();
        access.set_private("o/r", false, 100).unwrap();
        access.revoke("job", 200).unwrap();
        let seen = |token, at| access.view("o/r", token, at);
        assert_eq!(seen(Some("job"), 50), Some(View { kind: Some(TokenKind::Job), private: true, since: 0 }));
        assert_eq!(seen(Some("other"), 50), None);
        assert_eq!(seen(None, 50), None);
        assert_eq!(
            seen(Some("other"), 100),
            Some(View { kind: Some(TokenKind::Job), private: false, since: 100 })
        );
        assert_eq!(seen(None, 100), Some(View { kind: None, private: false, since: 100 }));
        assert_eq!(seen(Some("job"), 200), None);
        assert_eq!(access.changes("o/r", Some("job"), 0, 300), [100, 200]);
    }
}
