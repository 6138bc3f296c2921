//! Was an answer right? Judged by what this origin would have answered the same token, now or
//! before.

use std::borrow::Cow;

use http::StatusCode;

use crate::access::{TokenKind, View};
use crate::replay::Query;
use crate::server::State;
use crate::shape;

/// An answer as a client got it, from a cache or from the origin.
#[derive(Clone, Copy, Debug)]
pub struct Observation<'a> {
    /// `GET`, or `POST` of a GraphQL query.
    pub method: &'a str,
    /// Path and query.
    pub target: &'a str,
    /// The request's `Accept`.
    pub accept: Option<&'a str>,
    /// The request's body; empty for `GET`.
    pub request_body: &'a [u8],
    /// The token without its scheme; `None`: anonymous.
    pub token: Option<&'a str>,
    /// What the client got.
    pub status: u16,
    /// The decoded body that the client got.
    pub body: &'a [u8],
    /// When the request was sent, in milliseconds since the Unix epoch on the origin's clock.
    pub sent_at: u64,
    /// When the answer was there.
    pub received_at: u64,
}

/// What an answer was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// What the origin would have answered while the request was under way.
    Current,
    /// What it would have answered this token `millis` before the request was sent, and no longer.
    Stale {
        /// Milliseconds since it was last right.
        millis: u64,
    },
    /// As [`Verdict::Stale`], and by then the token could no longer see it at all.
    AccessLost {
        /// Milliseconds since the token could last see it.
        millis: u64,
    },
    /// A body of this origin that it would never have given this token.
    Leak,
    /// An error that the origin would not have given: the token may see a successful answer.
    WrongError,
    /// A body that this origin never had for this request.
    Corrupt,
    /// An error or redirect, and nothing more can be said.
    Other,
}

/// Every view that a caller can have.
const VIEWS: [View; 8] = {
    const fn view(kind: Option<TokenKind>, private: bool) -> View {
        View { kind, private, since: 0 }
    }
    [
        view(None, false),
        view(None, true),
        view(Some(TokenKind::Job), false),
        view(Some(TokenKind::Job), true),
        view(Some(TokenKind::App), false),
        view(Some(TokenKind::App), true),
        view(Some(TokenKind::Personal), false),
        view(Some(TokenKind::Personal), true),
    ]
};

impl State {
    pub(crate) fn judge(&self, seen: &Observation<'_>) -> Verdict {
        let query = Query {
            method: seen.method,
            host: crate::exchange::API_HOST,
            target: seen.target,
            accept: seen.accept,
            body: seen.request_body,
            conditional: false,
        };
        let subject = self.subject(seen.target, seen.request_body);
        let repository = subject.repository.as_deref().unwrap_or_default();
        let visible_at = |at| self.access.view(repository, seen.token, at);
        let Some(recording) = self.replay.find(&query) else { return Verdict::Other };
        if recording.exchange.status != 200 {
            return Verdict::Other;
        }
        if seen.status != StatusCode::OK.as_u16() {
            let steady = visible_at(seen.sent_at).is_some()
                && self.access.changes(repository, seen.token, seen.sent_at, seen.received_at).is_empty();
            let refused = matches!(seen.status, 401 | 404 | 410);
            return if steady && refused { Verdict::WrongError } else { Verdict::Other };
        }
        let times = self.changes.times(crate::exchange::API_HOST, &subject.changes, seen.received_at);
        let live = self.access.is_live();
        let body = |view: View, revision: usize| -> Cow<'_, [u8]> {
            shape::body(&recording.exchange.body, seen.target, live.then_some(view), revision as u64)
        };
        // From the latest state of access back to the first: what was right then?
        let mut end = None;
        let mut starts = vec![0];
        starts.extend(self.access.changes(repository, seen.token, 0, seen.received_at));
        starts.sort_unstable();
        for start in starts.into_iter().rev() {
            if let Some(view) = visible_at(start) {
                for revision in (0..=times.len()).rev() {
                    let from = if revision == 0 { 0 } else { times[revision - 1] };
                    let until = [times.get(revision).copied(), end].into_iter().flatten().min();
                    let in_segment =
                        until.is_none_or(|until| until > start) && end.is_none_or(|end| from < end);
                    if in_segment && *body(view, revision) == *seen.body {
                        return verdict(seen, until, visible_at(seen.sent_at).is_some());
                    }
                }
            }
            end = Some(start);
        }
        let since = self.access.visibility_changes(repository);
        let mut views =
            VIEWS.iter().flat_map(|view| since.iter().map(|since| View { since: *since, ..*view }));
        let someone_elses =
            views.any(|view| (0..=times.len()).rev().any(|revision| *body(view, revision) == *seen.body));
        if someone_elses { Verdict::Leak } else { Verdict::Corrupt }
    }
}

fn verdict(seen: &Observation<'_>, until: Option<u64>, still_visible: bool) -> Verdict {
    match until {
        Some(until) if until < seen.sent_at => {
            let millis = seen.sent_at - until;
            if still_visible { Verdict::Stale { millis } } else { Verdict::AccessLost { millis } }
        }
        _ => Verdict::Current,
    }
}
