//! The kinds of values that settings take: how a value is parsed, shown, given in code and
//! described.

mod address;
mod backends;
mod choice;
mod kind;
mod number;
mod path;
mod secret;
mod text;
mod wait;

pub(super) use address::{Addresses, Ip, PeerIds, Sockets};
pub(super) use backends::Backends;
pub(super) use choice::{NodeSync, Role, Switch};
pub(super) use kind::{AnyKind, Kind};
pub(super) use number::{Bytes, Port, Seconds, Whole};
pub(super) use path::{FileOf, Path};
pub(super) use secret::{Secret, SecretText, Secrets};
pub(super) use text::{Text, Url};
pub(super) use wait::{Deadlines, Wait, Waits};
