//! Which index the shared-memory file beside it belongs to, as far as this process has it open.
//!
//! SQLite finds that file by its path. Whoever opens a new index while connections of this process
//! still use the file with the old one makes SQLite shorten it, since the locks that should forbid
//! that do not hold within one process; the next access through the old mapping ends the process
//! (SIGBUS). So a new index beside a file that is in use with another one is taken for damaged, and
//! both move aside.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::directory::Identity;

/// Held by each connection: as long as one lives, the files it names keep their identity.
pub(super) type InUse = Arc<()>;

struct Mapping {
    shared: Identity,
    index: Identity,
    users: Weak<()>,
}

/// What is mapped, one for each index that is open; whoever opens one holds it meanwhile.
pub(super) struct Mappings(Vec<Mapping>);

static MAPPINGS: Mutex<Mappings> = Mutex::new(Mappings(Vec::new()));

/// Waits for whoever opens an index just now, in any directory. Each opening tries a few times,
/// each of its statements waits for SQLite's busy timeout at most.
pub(super) fn lock() -> MutexGuard<'static, Mappings> {
    let mut mappings = MAPPINGS.lock().unwrap_or_else(PoisonError::into_inner);
    mappings.0.retain(|mapping| mapping.users.strong_count() > 0);
    mappings
}

impl Mappings {
    /// Whether the file `shared` is in use with another index than `index`.
    pub(super) fn belongs_to_another(&self, shared: Identity, index: Identity) -> bool {
        self.0.iter().any(|mapping| mapping.shared == shared && mapping.index != index)
    }

    /// Notes one more connection to `index`.
    pub(super) fn join(&mut self, shared: Option<Identity>, index: Identity) -> InUse {
        let known = self.0.iter().find(|mapping| mapping.index == index);
        if let Some(users) = known.and_then(|mapping| mapping.users.upgrade()) {
            return users;
        }
        let users = InUse::default();
        if let Some(shared) = shared {
            self.0.push(Mapping { shared, index, users: Arc::downgrade(&users) });
        }
        users
    }
}
