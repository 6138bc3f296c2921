//! Whether an answer that other tokens had validated is given to a token without a grant. The proxy
//! goes by this, and `explain` says what it would do.

use peercache::backend::{Timestamp, Version};

use crate::cache_control::CacheControl;
use crate::candidates::{Candidate, Validation};
use crate::public::Proof;
use crate::route_table::Rule;
use crate::shared::Shared;
use crate::store::{Place, Store};

/// What a proof that the repository is public, or the lack of one, means for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Proven {
    /// The answer is given as of this validation.
    Given(Validation),
    /// It may be given once the repository was asked whether it is public.
    Ask,
    /// It is not given.
    Withheld,
}

/// Whether an answer may be shared with the token of `place`, if it is proven public.
pub(crate) fn may_share(shared: &Shared, place: &Place, rule: &Rule, candidates: &[Candidate]) -> bool {
    shared.share_public
        && Store::is_shared(place, rule)
        && candidates.first().is_some_and(|newest| {
            newest.shareable && newest.validations.iter().any(|one| one.kind == place.kind)
        })
        && shared.store.public.is_in_good_standing(&place.token, shared.store.now())
}

/// The validations of an answer that are fresh enough for this request, the newest first.
pub(crate) fn fresh_enough<'c>(
    newest: &'c Candidate,
    place: &Place,
    directives: &CacheControl,
    believes: impl Fn(Version) -> bool,
    now: Timestamp,
) -> Vec<&'c Validation> {
    newest
        .validations
        .iter()
        .filter(|one| one.kind == place.kind && believes(one.version))
        .filter(|one| one.freshness.satisfies(directives, now))
        .collect()
}

/// What `proof` means for an answer with these validations.
pub(crate) fn proven(
    shared: &Shared,
    place: &Place,
    proof: Option<Proof>,
    fresh: &[&Validation],
    now: Timestamp,
) -> Proven {
    let covered = proof.and_then(|proof| fresh.iter().find(|one| proof.covers(one.version, now)));
    if let Some(validation) = covered {
        return Proven::Given(**validation);
    }
    let would_help = match proof {
        // Whether others ask is no secret where everybody may have it.
        Some(proof) => fresh.iter().any(|one| proof.ended_before(one.version, now)),
        // Who is refused may notice that others ask.
        None => {
            let is_private = shared.store.public.is_private(&place.scope, now);
            !fresh.is_empty() && !is_private && may_notice(shared, place)
        }
    };
    if would_help { Proven::Ask } else { Proven::Withheld }
}

/// Whether a token may notice, by the time that its request takes, that others ask about the same
/// repository: it may see it anyway, or there is no reason to think that it is private.
pub(crate) fn may_notice(shared: &Shared, place: &Place) -> bool {
    let store = &shared.store;
    store.public.has_seen(&place.token, &place.scope, store.now())
        || !store.public.may_be_hidden(&place.scope, store.now())
}
