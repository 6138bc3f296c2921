//! What a node is for the others of its fleet.

use std::fmt;

/// What this process is for the others of its fleet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NodeRole {
    /// An anchor where a fixed port is listened on, else a leaf.
    #[default]
    Auto,
    /// Long-lived and dialable: it stores for others.
    Anchor,
    /// It only dials out, and stores nothing for others.
    Leaf,
}

impl NodeRole {
    /// The name, as the setting takes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Anchor => "anchor",
            Self::Leaf => "leaf",
        }
    }
}

impl fmt::Display for NodeRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
